//! Every method of AMQP 0-9-1 with RabbitMQ's extensions, both directions, as one table.
//!
//! A row gives the numbers, the name on the wire and the fields in wire order; the macro below it
//! makes the struct, its decoder and its encoder. Bits that follow one another share an octet
//! (§4.2.5.2), which `Reader` and `Writer` see to.

use bytes::{Bytes, BytesMut};

use crate::ids::{DeliveryTag, MethodId, ShortStr};
use crate::value::RawTable;
pub use crate::wire::Reserved;
use crate::wire::{Field, Malformed, Reader, Writer};

/// Why a method could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// No method has these numbers.
    #[error("unknown method {{{},{}}}", .0.class, .0.method)]
    Unknown(MethodId),
    /// Its arguments are not what the table says.
    #[error("{1}")]
    Malformed(MethodId, Malformed),
}

macro_rules! methods {
    ($(
        $(#[$doc:meta])*
        ($class:literal, $number:literal) $wire:literal $name:ident {
            $( $field:ident : $type:ty ),* $(,)?
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq)]
            pub struct $name {
                $(
                    #[doc = concat!("`", stringify!($field), "` of `", $wire, "`.")]
                    pub $field: $type,
                )*
            }

            impl $name {
                /// Class and method number.
                pub const ID: MethodId = MethodId::new($class, $number);

                fn read(reader: &mut Reader) -> Result<Self, Malformed> {
                    let method = Self { $( $field: Field::read(reader)? ),* };
                    reader.finish()?;
                    Ok(method)
                }

                fn write(&self, writer: &mut Writer<'_>) {
                    Self::ID.class.write(writer);
                    Self::ID.method.write(writer);
                    $( self.$field.write(writer); )*
                }
            }

            impl From<$name> for Method {
                fn from(method: $name) -> Self {
                    Self::$name(method)
                }
            }
        )*

        /// Any method.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Method {
            $( #[doc = concat!("`", $wire, "`.")] $name($name), )*
        }

        impl Method {
            /// Every method's numbers and name, in the order of the specification.
            pub const ALL: &[(MethodId, &str)] = &[ $( ($name::ID, $wire), )* ];

            /// Class and method number.
            #[must_use]
            pub const fn id(&self) -> MethodId {
                match self { $( Self::$name(_) => $name::ID, )* }
            }

            /// The name in the specification, such as `queue.declare`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$name(_) => $wire, )* }
            }

            /// Decodes the arguments of method `id`. Strings and tables share `arguments`' memory.
            ///
            /// # Errors
            /// If there is no such method, or the arguments do not fit it to the last octet.
            pub fn decode(id: MethodId, arguments: Bytes) -> Result<Self, MethodError> {
                let reader = &mut Reader::new(arguments);
                let method = match (id.class, id.method) {
                    $( ($class, $number) => $name::read(reader).map(Self::$name), )*
                    _ => return Err(MethodError::Unknown(id)),
                };
                method.map_err(|malformed| MethodError::Malformed(id, malformed))
            }

            /// A method with arguments drawn from `seed`.
            #[cfg(test)]
            pub(crate) fn sample(id: MethodId, seed: &mut crate::sample::Seed) -> Self {
                use crate::sample::Sample;
                match (id.class, id.method) {
                    $( ($class, $number) => Self::$name($name {
                        $( $field: <$type as Sample>::sample(seed), )*
                    }), )*
                    _ => panic!("no method {id:?}"),
                }
            }

            /// Appends numbers and arguments: the payload of a method frame.
            pub fn encode(&self, out: &mut BytesMut) {
                let mut writer = Writer::new(out);
                match self { $( Self::$name(method) => method.write(&mut writer), )* }
            }
        }
    };
}

methods! {
    /// Server: the connection begins (§1.4.2.1).
    (10, 10) "connection.start" ConnectionStart {
        version_major: u8, version_minor: u8, server_properties: RawTable, mechanisms: Bytes, locales: Bytes,
    }
    /// Client: chooses a mechanism and logs in.
    (10, 11) "connection.start-ok" ConnectionStartOk {
        client_properties: RawTable, mechanism: ShortStr, response: Bytes, locale: ShortStr,
    }
    /// Server: asks for more, in mechanisms of several steps.
    (10, 20) "connection.secure" ConnectionSecure { challenge: Bytes }
    /// Client: answers the challenge.
    (10, 21) "connection.secure-ok" ConnectionSecureOk { response: Bytes }
    /// Server: proposes limits.
    (10, 30) "connection.tune" ConnectionTune { channel_max: u16, frame_max: u32, heartbeat: u16 }
    /// Client: the limits that hold.
    (10, 31) "connection.tune-ok" ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 }
    /// Client: enters a virtual host.
    (10, 40) "connection.open" ConnectionOpen {
        virtual_host: ShortStr, capabilities: Reserved<ShortStr>, insist: Reserved<bool>,
    }
    /// Server: the connection is open.
    (10, 41) "connection.open-ok" ConnectionOpenOk { known_hosts: Reserved<ShortStr> }
    /// Either side: ends the connection and says why.
    (10, 50) "connection.close" ConnectionClose {
        reply_code: u16, reply_text: ShortStr, class_id: u16, method_id: u16,
    }
    /// Either side: confirms the end.
    (10, 51) "connection.close-ok" ConnectionCloseOk {}
    /// RabbitMQ, server: publishers wait.
    (10, 60) "connection.blocked" ConnectionBlocked { reason: ShortStr }
    /// RabbitMQ, server: publishers go on.
    (10, 61) "connection.unblocked" ConnectionUnblocked {}
    /// RabbitMQ, client: a new secret for an expiring login.
    (10, 70) "connection.update-secret" ConnectionUpdateSecret { new_secret: Bytes, reason: ShortStr }
    /// RabbitMQ, server: the new secret holds.
    (10, 71) "connection.update-secret-ok" ConnectionUpdateSecretOk {}

    /// Client: opens a channel (§1.5.2.1).
    (20, 10) "channel.open" ChannelOpen { out_of_band: Reserved<ShortStr> }
    /// Server: the channel is open.
    (20, 11) "channel.open-ok" ChannelOpenOk { channel_id: Reserved<Bytes> }
    /// Either side: stop or go on sending content.
    (20, 20) "channel.flow" ChannelFlow { active: bool }
    /// Either side: what holds now.
    (20, 21) "channel.flow-ok" ChannelFlowOk { active: bool }
    /// Either side: ends the channel and says why.
    (20, 40) "channel.close" ChannelClose {
        reply_code: u16, reply_text: ShortStr, class_id: u16, method_id: u16,
    }
    /// Either side: confirms the end.
    (20, 41) "channel.close-ok" ChannelCloseOk {}

    /// Client: a leftover of 0-8 that some clients still send.
    (30, 10) "access.request" AccessRequest {
        realm: ShortStr, exclusive: bool, passive: bool, active: bool, write: bool, read: bool,
    }
    /// Server: a ticket nobody looks at.
    (30, 11) "access.request-ok" AccessRequestOk { ticket: u16 }

    /// Client: creates or checks an exchange (§1.6.2.1).
    (40, 10) "exchange.declare" ExchangeDeclare {
        ticket: Reserved<u16>, exchange: ShortStr, kind: ShortStr,
        passive: bool, durable: bool, auto_delete: bool, internal: bool, no_wait: bool, arguments: RawTable,
    }
    /// Server.
    (40, 11) "exchange.declare-ok" ExchangeDeclareOk {}
    /// Client.
    (40, 20) "exchange.delete" ExchangeDelete {
        ticket: Reserved<u16>, exchange: ShortStr, if_unused: bool, no_wait: bool,
    }
    /// Server.
    (40, 21) "exchange.delete-ok" ExchangeDeleteOk {}
    /// RabbitMQ, client: routes one exchange into another.
    (40, 30) "exchange.bind" ExchangeBind {
        ticket: Reserved<u16>, destination: ShortStr, source: ShortStr, routing_key: ShortStr,
        no_wait: bool, arguments: RawTable,
    }
    /// RabbitMQ, server.
    (40, 31) "exchange.bind-ok" ExchangeBindOk {}
    /// RabbitMQ, client.
    (40, 40) "exchange.unbind" ExchangeUnbind {
        ticket: Reserved<u16>, destination: ShortStr, source: ShortStr, routing_key: ShortStr,
        no_wait: bool, arguments: RawTable,
    }
    /// RabbitMQ, server. The number 51 is no slip: the extension has it so.
    (40, 51) "exchange.unbind-ok" ExchangeUnbindOk {}

    /// Client: creates or checks a queue (§1.7.2.1).
    (50, 10) "queue.declare" QueueDeclare {
        ticket: Reserved<u16>, queue: ShortStr,
        passive: bool, durable: bool, exclusive: bool, auto_delete: bool, no_wait: bool, arguments: RawTable,
    }
    /// Server: name and counts.
    (50, 11) "queue.declare-ok" QueueDeclareOk { queue: ShortStr, message_count: u32, consumer_count: u32 }
    /// Client.
    (50, 20) "queue.bind" QueueBind {
        ticket: Reserved<u16>, queue: ShortStr, exchange: ShortStr, routing_key: ShortStr,
        no_wait: bool, arguments: RawTable,
    }
    /// Server.
    (50, 21) "queue.bind-ok" QueueBindOk {}
    /// Client: throws away what is ready.
    (50, 30) "queue.purge" QueuePurge { ticket: Reserved<u16>, queue: ShortStr, no_wait: bool }
    /// Server.
    (50, 31) "queue.purge-ok" QueuePurgeOk { message_count: u32 }
    /// Client.
    (50, 40) "queue.delete" QueueDelete {
        ticket: Reserved<u16>, queue: ShortStr, if_unused: bool, if_empty: bool, no_wait: bool,
    }
    /// Server.
    (50, 41) "queue.delete-ok" QueueDeleteOk { message_count: u32 }
    /// Client.
    (50, 50) "queue.unbind" QueueUnbind {
        ticket: Reserved<u16>, queue: ShortStr, exchange: ShortStr, routing_key: ShortStr, arguments: RawTable,
    }
    /// Server.
    (50, 51) "queue.unbind-ok" QueueUnbindOk {}

    /// Client: how much may be unacknowledged (§1.8.3.1).
    (60, 10) "basic.qos" BasicQos { prefetch_size: u32, prefetch_count: u16, global: bool }
    /// Server.
    (60, 11) "basic.qos-ok" BasicQosOk {}
    /// Client: starts a consumer.
    (60, 20) "basic.consume" BasicConsume {
        ticket: Reserved<u16>, queue: ShortStr, consumer_tag: ShortStr,
        no_local: bool, no_ack: bool, exclusive: bool, no_wait: bool, arguments: RawTable,
    }
    /// Server.
    (60, 21) "basic.consume-ok" BasicConsumeOk { consumer_tag: ShortStr }
    /// Client ends a consumer; RabbitMQ's server too, when its queue is gone.
    (60, 30) "basic.cancel" BasicCancel { consumer_tag: ShortStr, no_wait: bool }
    /// The other side confirms.
    (60, 31) "basic.cancel-ok" BasicCancelOk { consumer_tag: ShortStr }
    /// Client: a message for an exchange; content follows.
    (60, 40) "basic.publish" BasicPublish {
        ticket: Reserved<u16>, exchange: ShortStr, routing_key: ShortStr, mandatory: bool, immediate: bool,
    }
    /// Server: an unroutable message comes back; content follows.
    (60, 50) "basic.return" BasicReturn {
        reply_code: u16, reply_text: ShortStr, exchange: ShortStr, routing_key: ShortStr,
    }
    /// Server: a message for a consumer; content follows.
    (60, 60) "basic.deliver" BasicDeliver {
        consumer_tag: ShortStr, delivery_tag: DeliveryTag, redelivered: bool,
        exchange: ShortStr, routing_key: ShortStr,
    }
    /// Client: asks for one message.
    (60, 70) "basic.get" BasicGet { ticket: Reserved<u16>, queue: ShortStr, no_ack: bool }
    /// Server: here it is; content follows.
    (60, 71) "basic.get-ok" BasicGetOk {
        delivery_tag: DeliveryTag, redelivered: bool, exchange: ShortStr, routing_key: ShortStr,
        message_count: u32,
    }
    /// Server: nothing is ready.
    (60, 72) "basic.get-empty" BasicGetEmpty { cluster_id: Reserved<ShortStr> }
    /// Client: handled. In confirm mode also the server: taken over.
    (60, 80) "basic.ack" BasicAck { delivery_tag: DeliveryTag, multiple: bool }
    /// Client: refused.
    (60, 90) "basic.reject" BasicReject { delivery_tag: DeliveryTag, requeue: bool }
    /// Client: deliver again; without a reply.
    (60, 100) "basic.recover-async" BasicRecoverAsync { requeue: bool }
    /// Client: deliver again.
    (60, 110) "basic.recover" BasicRecover { requeue: bool }
    /// Server.
    (60, 111) "basic.recover-ok" BasicRecoverOk {}
    /// RabbitMQ, client: refused, possibly many. In confirm mode also the server: lost.
    (60, 120) "basic.nack" BasicNack { delivery_tag: DeliveryTag, multiple: bool, requeue: bool }

    /// RabbitMQ, client: every publish is to be confirmed.
    (85, 10) "confirm.select" ConfirmSelect { no_wait: bool }
    /// RabbitMQ, server.
    (85, 11) "confirm.select-ok" ConfirmSelectOk {}

    /// Client: publishes and acknowledgements wait for a commit (§1.9.2.1).
    (90, 10) "tx.select" TxSelect {}
    /// Server.
    (90, 11) "tx.select-ok" TxSelectOk {}
    /// Client.
    (90, 20) "tx.commit" TxCommit {}
    /// Server.
    (90, 21) "tx.commit-ok" TxCommitOk {}
    /// Client.
    (90, 30) "tx.rollback" TxRollback {}
    /// Server.
    (90, 31) "tx.rollback-ok" TxRollbackOk {}
}

impl Method {
    /// The name of the method with these numbers, for logs.
    #[must_use]
    pub fn name_of(id: MethodId) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == id).map_or("unknown", |(_, name)| name)
    }

    /// Whether a content header and a body follow it (§1.3, "content").
    #[must_use]
    pub const fn has_content(&self) -> bool {
        matches!(
            self,
            Self::BasicPublish(_)
                | Self::BasicReturn(_)
                | Self::BasicDeliver(_)
                | Self::BasicGetOk(_)
        )
    }

    /// Whether a client may send it to a server on an open channel (§1.3, "MUST NOT" rows aside).
    #[must_use]
    pub const fn is_channel_request(&self) -> bool {
        matches!(
            self,
            Self::ChannelFlow(_)
                | Self::ChannelFlowOk(_)
                | Self::AccessRequest(_)
                | Self::ExchangeDeclare(_)
                | Self::ExchangeDelete(_)
                | Self::ExchangeBind(_)
                | Self::ExchangeUnbind(_)
                | Self::QueueDeclare(_)
                | Self::QueueBind(_)
                | Self::QueuePurge(_)
                | Self::QueueDelete(_)
                | Self::QueueUnbind(_)
                | Self::BasicQos(_)
                | Self::BasicConsume(_)
                | Self::BasicCancel(_)
                | Self::BasicCancelOk(_)
                | Self::BasicGet(_)
                | Self::BasicAck(_)
                | Self::BasicReject(_)
                | Self::BasicRecoverAsync(_)
                | Self::BasicRecover(_)
                | Self::BasicNack(_)
                | Self::ConfirmSelect(_)
                | Self::TxSelect(_)
                | Self::TxCommit(_)
                | Self::TxRollback(_)
        )
    }
}

#[cfg(test)]
mod tests;
