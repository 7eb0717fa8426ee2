//! Class tx: publishes and acknowledgements gather until they become durable together.

use std::borrow::Cow;

use ottla_amqp_proto::methods::{
    BasicPublish, TxCommit, TxCommitOk, TxRollback, TxRollbackOk, TxSelect, TxSelectOk,
};
use ottla_amqp_proto::{MethodId, Publish, ReplyCode};
use ottla_engine::Lsn;
use ottla_engine::broker::{ChannelMode, Committed, Transaction};

use super::basic::{request, return_unrouted};
use super::{Answer, Call, Handled, text};
use crate::amqp::channel::{Gathered, Mode};
use crate::amqp::codes::{self, Trouble};

/// `tx.select`
pub(super) fn select(call: &mut Call<'_>) -> Handled {
    match call.channel.mode {
        Mode::Plain => {
            call.channel.mode = Mode::Transaction(Gathered::default());
            call.channel.link.show_mode(ChannelMode::Transaction);
        }
        Mode::Transaction(_) => {}
        Mode::Confirm(_) => {
            let text = "cannot switch from confirm to tx mode";
            return Err(call.fault(ReplyCode::PreconditionFailed, text, TxSelect::ID));
        }
    }
    Ok(Answer::Now(TxSelectOk {}.into()))
}

/// Keeps a publish until the commit; what can be refused now, is.
pub(super) fn gather(call: &mut Call<'_>, publish: &Publish) -> Handled {
    let (exchange, routing_key) = (text(&publish.exchange), text(&publish.routing_key));
    let checked = call
        .broker
        .check_publish(&mut call.channel.link, &request(publish, &exchange, &routing_key));
    checked.map_err(|error| codes::publish_refused(call.number(), &error, BasicPublish::ID))?;
    let Mode::Transaction(gathered) = &mut call.channel.mode else {
        return Err(not_transactional(call, BasicPublish::ID));
    };
    gathered.size += ENTRY_BYTES + publish.content.body.len();
    if gathered.size > TRANSACTION_BYTES_MAX {
        let text = format!("transaction larger than {TRANSACTION_BYTES_MAX} bytes");
        return Err(call.fault(ReplyCode::ResourceError, text, BasicPublish::ID));
    }
    gathered.publishes.push(publish.clone());
    Ok(Answer::Nothing)
}

/// `tx.commit`
pub(super) fn commit(call: &mut Call<'_>) -> Handled {
    let Mode::Transaction(gathered) = &mut call.channel.mode else {
        return Err(not_transactional(call, TxCommit::ID));
    };
    let gathered = std::mem::take(gathered);
    match try_commit(call, &gathered) {
        Ok(committed) => {
            for (publish, published) in gathered.publishes.iter().zip(&committed.published) {
                return_unrouted(call, publish, *published);
            }
            let places = committed.published.iter().filter_map(|published| published.lsn);
            let lsn = places.chain(committed.lsn).max().unwrap_or(Lsn::ZERO);
            Ok(Answer::After(lsn, TxCommitOk {}.into()))
        }
        Err(trouble) => {
            call.channel.mode = Mode::Transaction(gathered); // nothing happened: asked again
            Err(trouble)
        }
    }
}

fn try_commit(call: &mut Call<'_>, gathered: &Gathered) -> Result<Committed, Trouble> {
    let names: Vec<(Cow<'_, str>, Cow<'_, str>)> = gathered
        .publishes
        .iter()
        .map(|publish| (text(&publish.exchange), text(&publish.routing_key)))
        .collect();
    let publishes = gathered
        .publishes
        .iter()
        .zip(&names)
        .map(|(publish, (exchange, routing_key))| request(publish, exchange, routing_key))
        .collect();
    let settlements = gathered
        .settlements
        .iter()
        .map(|(messages, outcome)| (messages.iter().map(|(_, held)| *held).collect(), *outcome))
        .collect();
    let transaction = Transaction { publishes, settlements };
    let committed = call.broker.commit(&mut call.channel.link, transaction);
    committed.map_err(|error| codes::publish_refused(call.number(), &error, TxCommit::ID))
}

/// `tx.rollback`: what was acknowledged is outstanding again, nothing is delivered again.
pub(super) fn rollback(call: &mut Call<'_>) -> Handled {
    let Mode::Transaction(gathered) = &mut call.channel.mode else {
        return Err(not_transactional(call, TxRollback::ID));
    };
    let gathered = std::mem::take(gathered);
    for (tag, held) in gathered.settlements.into_iter().flat_map(|(messages, _)| messages) {
        call.channel.tags.restore(tag, held);
    }
    Ok(Answer::Now(TxRollbackOk {}.into()))
}

fn not_transactional(call: &Call<'_>, culprit: MethodId) -> Trouble {
    call.fault(ReplyCode::PreconditionFailed, "channel is not transactional", culprit)
}

/// A transaction's bodies together, and a little for each publish, in bytes.
const TRANSACTION_BYTES_MAX: usize = 64 << 20;
/// What a publish counts beside its body.
const ENTRY_BYTES: usize = 256;
