//! The broker's facts as they stand in the log, and its objects as they stand in a snapshot.
//!
//! Append-only: a released variant or field is never changed, moved or removed.

use serde::{Deserialize, Serialize};

use crate::exchange::{Binding, Destination, Exchange};
use crate::queue::{Declaration, QueueType};
use crate::value::Arguments;

/// A change of what exists for AMQP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BrokerFact {
    /// A virtual host exists.
    VhostCreated {
        /// Its name.
        name: String,
    },
    /// A virtual host is gone with everything in it.
    VhostDeleted {
        /// Its name.
        name: String,
    },
    /// A user is as it says here.
    UserSet(UserImage),
    /// A user is gone.
    UserDeleted {
        /// Its name.
        name: String,
    },
    /// What a user may do in a virtual host.
    PermissionSet {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// What.
        permission: PermissionImage,
    },
    /// A user may not enter a virtual host any more.
    PermissionDeleted {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
    },
    /// A durable exchange exists.
    ExchangeDeclared {
        /// Where.
        vhost: String,
        /// The exchange.
        exchange: ExchangeImage,
    },
    /// A durable exchange is gone, with its bindings.
    ExchangeDeleted {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// A durable queue exists.
    QueueDeclared {
        /// Where.
        vhost: String,
        /// The queue.
        queue: QueueImage,
    },
    /// A durable queue is gone, with its bindings.
    QueueDeleted {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// A binding between durable things exists.
    Bound {
        /// Where.
        vhost: String,
        /// The binding.
        binding: BindingImage,
    },
    /// A binding is gone.
    Unbound {
        /// Where.
        vhost: String,
        /// The binding.
        binding: BindingImage,
    },
    /// A policy is as it says here.
    PolicySet {
        /// Where.
        vhost: String,
        /// The policy.
        policy: PolicyImage,
    },
    /// A policy is gone.
    PolicyDeleted {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// Messages of a quorum queue were returned.
    Counted {
        /// The queue's stream.
        queue: u64,
        /// Place, failed deliveries, all deliveries.
        counts: Vec<(u64, u32, u32)>,
    },
    /// What may have been delivered of a queue.
    Delivered {
        /// The queue's stream.
        queue: u64,
        /// Somebody consumes or holds messages: any may be.
        open: bool,
        /// If not: only up to this place.
        upto: u64,
    },
    /// What a virtual host is told about itself.
    VhostDescribed {
        /// Which.
        name: String,
        /// What.
        about: VhostAbout,
    },
    /// How much a virtual host may hold.
    VhostLimited {
        /// Which.
        name: String,
        /// Replaces all limits.
        limits: LimitsImage,
    },
    /// How much a user may open.
    UserLimited {
        /// Which.
        name: String,
        /// Replaces all limits.
        limits: LimitsImage,
    },
    /// A user is as it says here, with a secret of any kind.
    UserDefined {
        /// Its `hash` is empty.
        user: UserImage,
        /// What opens it.
        secret: SecretImage,
    },
    /// Which routing keys of a topic exchange a user may use.
    TopicPermissionSet {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// The exchange.
        exchange: String,
        /// Which.
        permission: TopicPermissionImage,
    },
    /// A user may use all routing keys again.
    TopicPermissionDeleted {
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// Of this exchange; `None` for all of them.
        exchange: Option<String>,
    },
    /// An operator policy is as it says here.
    OperatorPolicySet {
        /// Where.
        vhost: String,
        /// The policy.
        policy: PolicyImage,
    },
    /// An operator policy is gone.
    OperatorPolicyDeleted {
        /// Where.
        vhost: String,
        /// Its name.
        name: String,
    },
}

/// What a virtual host is told about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostAbout {
    /// For people.
    pub description: String,
    /// For people.
    pub tags: Vec<String>,
    /// The type of a queue whose declaration does not say; `None` for classic.
    pub default_queue_type: Option<String>,
}

/// Limits; `None` for no limit. A virtual host has no `max_channels`, a user no `max_queues`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsImage {
    /// `max-connections`
    pub max_connections: Option<u64>,
    /// `max-queues`
    pub max_queues: Option<u64>,
    /// `max-channels`
    pub max_channels: Option<u64>,
}

/// What a password is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretImage {
    /// No password opens it.
    None,
    /// Four octets of salt, then the SHA-256 of salt and password: RabbitMQ's default.
    Sha256(Vec<u8>),
    /// Four octets of salt, then the SHA-512 of salt and password: RabbitMQ's other one.
    Sha512(Vec<u8>),
}

/// Which routing keys of a topic exchange a user may use: regular expressions, with `{username}` and `{vhost}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPermissionImage {
    /// Publish with.
    pub write: String,
    /// Bind with.
    pub read: String,
}

/// What stands in a snapshot beside [`BrokerImage`], which was released before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerExtras {
    /// By virtual host: what it is told, its limits, its operator policies.
    pub vhosts: Vec<(String, VhostAbout, LimitsImage, Vec<PolicyImage>)>,
    /// By user: its secret, if it is not in its image, and its limits.
    pub users: Vec<(String, Option<SecretImage>, LimitsImage)>,
    /// User, virtual host, exchange, which keys.
    pub topic_permissions: Vec<(String, String, String, TopicPermissionImage)>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserImage {
    /// Its name.
    pub name: String,
    /// Four octets of salt, then the SHA-256 of salt and password; empty: no password opens it.
    pub hash: Vec<u8>,
    /// Management tags.
    pub tags: Vec<String>,
    /// May only come from the same machine.
    pub loopback_only: bool,
}

/// What a user may do in a virtual host: regular expressions over names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionImage {
    /// Declare and delete.
    pub configure: String,
    /// Publish to, bind to.
    pub write: String,
    /// Consume from, bind from.
    pub read: String,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeImage {
    /// Its name.
    pub name: String,
    /// Its type's name on the wire.
    pub kind: String,
    /// Goes with its last binding as a source.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: Arguments,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueImage {
    /// Its stream.
    pub stream: u64,
    /// Its name.
    pub name: String,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The word in `x-queue-type`.
    pub queue_type: String,
    /// As declared.
    pub arguments: Arguments,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingImage {
    /// An exchange.
    pub source: String,
    /// A queue's stream.
    pub queue: Option<u64>,
    /// Or an exchange.
    pub exchange: Option<String>,
    /// The key.
    pub key: String,
    /// As they came.
    pub arguments: Arguments,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyImage {
    /// Its name.
    pub name: String,
    /// A regular expression over names.
    pub pattern: String,
    /// `all`, `queues`, `classic_queues`, `quorum_queues`, `streams`, `exchanges`
    pub apply_to: String,
    /// The highest one that matches counts.
    pub priority: i64,
    /// Keys without `x-`.
    pub definition: Arguments,
}

/// Everything but the messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerImage {
    /// All users.
    pub users: Vec<UserImage>,
    /// User, virtual host, what it may.
    pub permissions: Vec<(String, String, PermissionImage)>,
    /// All virtual hosts.
    pub vhosts: Vec<VhostImage>,
}

/// A virtual host: what is durable in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VhostImage {
    /// Its name.
    pub name: String,
    /// Without the predeclared.
    pub exchanges: Vec<ExchangeImage>,
    /// The durable ones.
    pub queues: Vec<QueueImage>,
    /// Between durable things.
    pub bindings: Vec<BindingImage>,
    /// All.
    pub policies: Vec<PolicyImage>,
}

/// The messages a queue holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueMessages {
    /// Ascending by place.
    pub messages: Vec<MessageImage>,
}

/// One message of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageImage {
    /// Bytes of log behind the message before.
    pub step: u64,
    /// When it expires, in ms since 1970-01-01; absent if never.
    pub expires_at: Option<i64>,
    /// Length of its body.
    pub bytes: u32,
    /// Failed deliveries.
    pub delivery_count: u32,
    /// All deliveries that ended in a return.
    pub acquired_count: u32,
    /// Its lane.
    pub priority: u8,
    /// Its time to live was 0.
    pub immediate: bool,
}

impl ExchangeImage {
    pub(crate) fn of(exchange: &Exchange) -> Self {
        Self {
            name: exchange.name.to_string(),
            kind: exchange.kind.name().to_owned(),
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
        }
    }

    /// `None` if this version does not know its type.
    pub(crate) fn exchange(self) -> Option<Exchange> {
        let exchange = Exchange::new(&self.name, &self.kind, self.arguments).ok()?;
        let (auto_delete, internal) = (self.auto_delete, self.internal);
        Some(Exchange { auto_delete, internal, ..exchange.durable() })
    }
}

impl QueueImage {
    pub(crate) fn of(stream: u64, name: &str, declaration: &Declaration) -> Self {
        Self {
            stream,
            name: name.to_owned(),
            auto_delete: declaration.auto_delete,
            queue_type: declaration.queue_type.as_str().to_owned(),
            arguments: declaration.arguments.clone(),
        }
    }

    pub(crate) fn declaration(&self) -> Declaration {
        let queue_type = match self.queue_type.as_str() {
            "quorum" => QueueType::Quorum,
            "stream" => QueueType::Stream,
            _ => QueueType::Classic,
        };
        Declaration {
            durable: true,
            auto_delete: self.auto_delete,
            exclusive: false,
            queue_type,
            arguments: self.arguments.clone(),
        }
    }
}

impl BindingImage {
    pub(crate) fn of(binding: &Binding) -> Self {
        let (queue, exchange) = match &binding.destination {
            Destination::Queue(queue) => (Some(queue.0), None),
            Destination::Exchange(name) => (None, Some(name.to_string())),
        };
        Self {
            source: binding.source.to_string(),
            queue,
            exchange,
            key: binding.key.to_string(),
            arguments: binding.arguments.clone(),
        }
    }

    pub(crate) fn binding(self) -> Option<Binding> {
        let queue = self.queue.map(|queue| Destination::Queue(ottla_store::StreamId(queue)));
        let exchange = self.exchange.map(|name| Destination::Exchange(name.into()));
        Some(Binding {
            source: self.source.into(),
            destination: queue.or(exchange)?,
            key: self.key.into(),
            arguments: self.arguments,
        })
    }
}
