//! The broker behind AMQP, without a wire: virtual hosts, exchanges, queues, consumers, users.
//!
//! Calls are synchronous and never wait. What reveals a new durable fact returns its place in the
//! log ([`Lsn`]): the reply is held back until the log is durable past it. Deliveries arrive in the
//! connection's [`Mailbox`]; its driver takes them out. See [`Broker`].

mod connection;
mod error;
mod mailbox;
mod message;
mod queue;
mod request;
mod stub;

use std::sync::Arc;

use ottla_store::Lsn;

pub use self::connection::{Channel, Connection, ConnectionId, Login, Peer};
pub use self::error::{BrokerError, ErrorKind};
pub use self::mailbox::{Delivery, Got, Mailbox, Parcel};
pub use self::request::{
    Bind, Committed, ConsumeRequest, DeleteIf, ExchangeDeclare, Held, PrefetchScope, Publish,
    Published, QueueDeclare, QueueDeclared, QueueId, Removed, Seq, Transaction,
};

/// The broker behind AMQP. What a session does, in order:
///
/// 1. [`authenticate`](Self::authenticate), [`connect`](Self::connect), [`open_channel`](Self::open_channel).
/// 2. Before each *synchronous* method (declare, get, purge, delete, …) on a channel:
///    [`catch_up`](Self::catch_up); while it names a place, wait until the log is durable past it and ask
///    again, so that the method sees what the channel published before (store.md rule 11).
/// 3. The method. An error of kind [`ErrorKind::Busy`] means: wait for the log to move, then call again.
/// 4. The reply, once the log is durable past the returned place. `consume-ok` is written before the
///    mailbox is next taken from.
/// 5. Whenever the mailbox wakes: [`take`](Self::take), write, repeat until it is empty.
/// 6. [`close_channel`](Self::close_channel), [`disconnect`](Self::disconnect).
///
/// After each commit of the log, [`durable_moved`](Self::durable_moved); every few milliseconds,
/// [`tick`](Self::tick).
#[derive(Debug)]
pub struct Broker;
