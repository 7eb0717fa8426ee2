//! Methods of channels, one file per class: wire becomes domain here, and nowhere else.

mod basic;
mod channel;
mod confirm;
mod exchange;
mod queue;
mod tx;

pub(super) use self::basic::{append_gathered, write_got};

use std::borrow::Cow;

use ottla_amqp_proto::{ChannelId, Event, Fault, Method, MethodId, ReplyCode, ShortStr};
use ottla_engine::broker::{Broker, BrokerError, Got};
use ottla_engine::{Engine, Lsn};

use super::channel::Channel;
use super::codes::{self, Trouble};
use super::session::Wire;

/// What a handler works with.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) engine: &'a Engine,
    pub(super) broker: &'a Broker,
    pub(super) wire: &'a mut Wire,
    pub(super) channel: &'a mut Channel,
}

/// What is to be said.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing.
    Nothing,
    /// This.
    Now(Method),
    /// This, once the log is visible past this place.
    After(Lsn, Method),
    /// This message, once the log is visible past its place.
    Got(Box<Got>),
    /// This, once the mailbox is empty.
    Drained(Method),
    /// `channel.close-ok`, and the channel is given back.
    Close,
}

type Handled = Result<Answer, Trouble>;

/// Does what the client asks for on a channel. Asked again after [`Trouble::Busy`] and
/// [`Trouble::Full`]: until then nothing has happened.
pub(super) fn handle(call: &mut Call<'_>, event: &Event) -> Handled {
    let method = match event {
        Event::Publish(publish) => return basic::publish(call, publish),
        Event::Method { method, .. } => method,
        Event::ChannelClose { .. } => return Ok(Answer::Close),
        _ => return Ok(Answer::Nothing),
    };
    match method {
        Method::BasicAck(ack) => basic::ack(call, ack),
        Method::BasicNack(nack) => basic::nack(call, nack),
        Method::BasicReject(reject) => basic::reject(call, reject),
        Method::BasicGet(get) => basic::get(call, get),
        Method::BasicConsume(consume) => basic::consume(call, consume),
        Method::BasicCancel(cancel) => basic::cancel(call, cancel),
        Method::BasicQos(qos) => basic::qos(call, qos),
        Method::BasicRecover(recover) => basic::recover(call, recover),
        Method::BasicRecoverAsync(recover) => basic::recover_async(call, recover),
        Method::ExchangeDeclare(declare) => exchange::declare(call, declare),
        Method::ExchangeDelete(delete) => exchange::delete(call, delete),
        Method::ExchangeBind(bind) => exchange::bind(call, bind),
        Method::ExchangeUnbind(unbind) => exchange::unbind(call, unbind),
        Method::QueueDeclare(declare) => queue::declare(call, declare),
        Method::QueueDelete(delete) => queue::delete(call, delete),
        Method::QueuePurge(purge) => queue::purge(call, purge),
        Method::QueueBind(bind) => queue::bind(call, bind),
        Method::QueueUnbind(unbind) => queue::unbind(call, unbind),
        Method::ConfirmSelect(select) => confirm::select(call, select),
        Method::TxSelect(_) => tx::select(call),
        Method::TxCommit(_) => tx::commit(call),
        Method::TxRollback(_) => tx::rollback(call),
        Method::ChannelFlow(flow) => channel::flow(call, flow),
        Method::AccessRequest(_) => Ok(channel::access()),
        // flow-ok and cancel-ok answer what we said; the codec lets nothing else through
        _ => Ok(Answer::Nothing),
    }
}

/// Whether a method must find what its channel published before (store.md rule 11).
pub(super) const fn looks_back(event: &Event) -> bool {
    match event {
        Event::ChannelClose { .. } => true,
        Event::Method { method, .. } => matches!(
            method,
            Method::BasicGet(_)
                | Method::BasicConsume(_)
                | Method::ExchangeDeclare(_)
                | Method::ExchangeDelete(_)
                | Method::ExchangeBind(_)
                | Method::ExchangeUnbind(_)
                | Method::QueueDeclare(_)
                | Method::QueueDelete(_)
                | Method::QueuePurge(_)
                | Method::QueueBind(_)
                | Method::QueueUnbind(_)
                | Method::TxCommit(_)
        ),
        _ => false,
    }
}

/// Whether acknowledgements before it may be handed over after it.
pub(super) const fn may_overtake(event: &Event) -> bool {
    matches!(
        event,
        Event::Publish(_)
            | Event::Method {
                method: Method::BasicAck(_) | Method::BasicNack(_) | Method::BasicReject(_),
                ..
            }
    )
}

/// Whether deliveries that are under way are written before its reply.
pub(super) const fn drains(event: &Event) -> bool {
    matches!(event, Event::Method { method: Method::BasicCancel(_), .. })
}

impl Call<'_> {
    fn fault(&self, code: ReplyCode, text: impl std::fmt::Display, culprit: MethodId) -> Trouble {
        Fault::new(self.channel.number, code, text, culprit).into()
    }

    /// The broker's refusal of a method other than publish and commit.
    fn refused(&self, error: &BrokerError, culprit: MethodId) -> Trouble {
        codes::refused(self.number(), error, culprit)
    }

    const fn number(&self) -> ChannelId {
        self.channel.number
    }
}

/// A reply that waits for its place in the log, or none if the client wants none.
fn reply(no_wait: bool, lsn: Lsn, method: impl Into<Method>) -> Answer {
    if no_wait { Answer::Nothing } else { Answer::After(lsn, method.into()) }
}

/// A name or a key as text. The engine knows text only: bytes that are none are replaced.
fn text(name: &ShortStr) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// A count as the wire has it.
fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
