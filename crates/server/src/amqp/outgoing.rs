//! What a session says by itself: confirms, and what came out of the mailbox.

use ottla_amqp_proto::{Confirm, Delivery, ShortStr, methods};
use ottla_engine::Lsn;
use ottla_engine::broker::Parcel;

use super::channel::{Channel, Mode};
use super::session::Wire;

/// Says what has become of publishes, up to the first that still waits for the log.
pub(super) fn confirm(wire: &mut Wire, channel: &mut Channel, visible: Lsn) {
    let Mode::Confirm(confirms) = &mut channel.mode else { return };
    let number = channel.number;
    confirms.release(visible.0, |answer| match answer {
        Confirm::Ack { tag, multiple } => wire.machine.ack(number, tag, multiple, &mut wire.out),
        Confirm::Nack { tag } => wire.machine.nack(number, tag, &mut wire.out),
    });
}

/// Writes what came out of the mailbox.
pub(super) fn hand_out(wire: &mut Wire, channel: &mut Channel, parcel: Parcel) {
    match parcel {
        Parcel::Delivery(delivery) => {
            let delivery_tag = match delivery.held {
                Some(held) => channel.tags.push(held),
                None => channel.tags.skip(),
            };
            let delivery = Delivery {
                consumer_tag: channel.names.consumer.of(&delivery.tag),
                delivery_tag,
                redelivered: delivery.redelivered,
                exchange: channel.names.exchange.of(&delivery.exchange),
                routing_key: channel.names.key.of(&delivery.routing_key),
                properties: &delivery.properties,
                body: &delivery.body,
            };
            wire.machine.deliver(channel.number, &delivery, &mut wire.out);
        }
        Parcel::Cancelled { tag, .. } => {
            if wire.machine.capabilities().consumer_cancel_notify {
                let cancel =
                    methods::BasicCancel { consumer_tag: ShortStr::cut(&tag), no_wait: true };
                wire.machine.send(channel.number, cancel, &mut wire.out);
            }
        }
        Parcel::TimedOut { message, .. } => {
            let tag = channel.tags.iter().find(|(_, held)| **held == message).map(|(tag, _)| tag);
            if let Some(tag) = tag {
                let forgotten = channel.tags.settle(tag);
                debug_assert!(forgotten.is_ok(), "a tag that was just seen");
            }
        }
    }
}
