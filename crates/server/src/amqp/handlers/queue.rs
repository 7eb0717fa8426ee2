//! Class queue.

use ottla_amqp_proto::methods::{
    QueueBind, QueueBindOk, QueueDeclare, QueueDeclareOk, QueueDelete, QueueDeleteOk, QueuePurge,
    QueuePurgeOk, QueueUnbind, QueueUnbindOk,
};
use ottla_amqp_proto::{ReplyCode, ShortStr};
use ottla_engine::broker;
use ottla_engine::value::Value;

use super::{Call, Handled, count, reply, text};
use crate::amqp::arguments::arguments;

/// `queue.declare`
pub(super) fn declare(call: &mut Call<'_>, declare: &QueueDeclare) -> Handled {
    let name = text(&declare.queue);
    let link = &mut call.channel.link;
    let declared = if declare.passive {
        call.broker.check_queue(link, &name)
    } else {
        let queue = broker::QueueDeclare {
            name: &name,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: arguments(&declare.arguments),
        };
        call.broker.declare_queue(link, queue)
    };
    let declared = declared.map_err(|error| {
        let stream = arguments(&declare.arguments);
        let stream = stream.get("x-queue-type").and_then(Value::as_str) == Some("stream");
        if stream || !error.text().starts_with("inequivalent arg 'x-") {
            return call.refused(&error, QueueDeclare::ID);
        }
        // RabbitMQ's words come first, as programs match on them; docs/guide/orders-406.md says the rest
        let text = format!("{error}; ottla queue move '{name}' --to NEW");
        call.fault(ReplyCode::PreconditionFailed, text, QueueDeclare::ID)
    })?;
    let done = QueueDeclareOk {
        queue: ShortStr::cut(&declared.name),
        message_count: count(declared.messages),
        consumer_count: count(declared.consumers),
    };
    Ok(reply(declare.no_wait, declared.lsn, done))
}

/// `queue.delete`
pub(super) fn delete(call: &mut Call<'_>, delete: &QueueDelete) -> Handled {
    let condition = broker::DeleteIf { unused: delete.if_unused, empty: delete.if_empty };
    let deleted = call.engine.delete_queue(&mut call.channel.link, &text(&delete.queue), condition);
    let deleted = deleted.map_err(|error| call.refused(&error, QueueDelete::ID))?;
    let done = QueueDeleteOk { message_count: count(deleted.messages) };
    Ok(reply(delete.no_wait, deleted.lsn, done))
}

/// `queue.purge`
pub(super) fn purge(call: &mut Call<'_>, purge: &QueuePurge) -> Handled {
    let purged = call.broker.purge_queue(&mut call.channel.link, &text(&purge.queue));
    let purged = purged.map_err(|error| call.refused(&error, QueuePurge::ID))?;
    let done = QueuePurgeOk { message_count: count(purged.messages) };
    Ok(reply(purge.no_wait, purged.lsn, done))
}

/// `queue.bind`
pub(super) fn bind(call: &mut Call<'_>, bind: &QueueBind) -> Handled {
    let request = broker::Bind {
        destination: &text(&bind.queue),
        source: &text(&bind.exchange),
        key: &text(&bind.routing_key),
        arguments: arguments(&bind.arguments),
    };
    let bound = call.broker.bind_queue(&mut call.channel.link, request);
    let lsn = bound.map_err(|error| call.refused(&error, QueueBind::ID))?;
    Ok(reply(bind.no_wait, lsn, QueueBindOk {}))
}

/// `queue.unbind`: the one method of the class without `no-wait`.
pub(super) fn unbind(call: &mut Call<'_>, unbind: &QueueUnbind) -> Handled {
    let request = broker::Bind {
        destination: &text(&unbind.queue),
        source: &text(&unbind.exchange),
        key: &text(&unbind.routing_key),
        arguments: arguments(&unbind.arguments),
    };
    let unbound = call.broker.unbind_queue(&mut call.channel.link, request);
    let lsn = unbound.map_err(|error| call.refused(&error, QueueUnbind::ID))?;
    Ok(reply(false, lsn, QueueUnbindOk {}))
}
