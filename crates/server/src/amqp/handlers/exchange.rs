//! Class exchange.

use ottla_amqp_proto::methods::{
    ExchangeBind, ExchangeBindOk, ExchangeDeclare, ExchangeDeclareOk, ExchangeDelete,
    ExchangeDeleteOk, ExchangeUnbind, ExchangeUnbindOk,
};
use ottla_engine::broker;

use super::{Call, Handled, reply, text};
use crate::amqp::arguments::arguments;

/// `exchange.declare`
pub(super) fn declare(call: &mut Call<'_>, declare: &ExchangeDeclare) -> Handled {
    let name = text(&declare.exchange);
    let link = &mut call.channel.link;
    let declared = if declare.passive {
        call.broker.check_exchange(link, &name)
    } else {
        let kind = text(&declare.kind);
        let exchange = broker::ExchangeDeclare {
            name: &name,
            kind: &kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: arguments(&declare.arguments),
        };
        call.broker.declare_exchange(link, exchange)
    };
    let lsn = declared.map_err(|error| call.refused(&error, ExchangeDeclare::ID))?;
    Ok(reply(declare.no_wait, lsn, ExchangeDeclareOk {}))
}

/// `exchange.delete`
pub(super) fn delete(call: &mut Call<'_>, delete: &ExchangeDelete) -> Handled {
    let condition = broker::DeleteIf { unused: delete.if_unused, empty: false };
    let deleted =
        call.broker.delete_exchange(&mut call.channel.link, &text(&delete.exchange), condition);
    let lsn = deleted.map_err(|error| call.refused(&error, ExchangeDelete::ID))?;
    Ok(reply(delete.no_wait, lsn, ExchangeDeleteOk {}))
}

/// `exchange.bind`
pub(super) fn bind(call: &mut Call<'_>, bind: &ExchangeBind) -> Handled {
    let request = broker::Bind {
        destination: &text(&bind.destination),
        source: &text(&bind.source),
        key: &text(&bind.routing_key),
        arguments: arguments(&bind.arguments),
    };
    let bound = call.broker.bind_exchange(&mut call.channel.link, request);
    let lsn = bound.map_err(|error| call.refused(&error, ExchangeBind::ID))?;
    Ok(reply(bind.no_wait, lsn, ExchangeBindOk {}))
}

/// `exchange.unbind`
pub(super) fn unbind(call: &mut Call<'_>, unbind: &ExchangeUnbind) -> Handled {
    let request = broker::Bind {
        destination: &text(&unbind.destination),
        source: &text(&unbind.source),
        key: &text(&unbind.routing_key),
        arguments: arguments(&unbind.arguments),
    };
    let unbound = call.broker.unbind_exchange(&mut call.channel.link, request);
    let lsn = unbound.map_err(|error| call.refused(&error, ExchangeUnbind::ID))?;
    Ok(reply(unbind.no_wait, lsn, ExchangeUnbindOk {}))
}
