//! Who speaks to the broker: a connection of a user to a virtual host, and its channels.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_store::{Lsn, StreamId};

use super::arrive::Arriving;
use super::mailbox::Mailbox;
use super::queue::Queue;
use super::stream::Readers;
use crate::queue::{ChannelKey, ConsumerId};

/// A connection, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Where a login comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The same machine.
    Loopback,
    /// Anywhere else.
    Remote,
}

/// A user that has shown a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub(super) user: Arc<str>,
    /// Management tags: `administrator`, `monitoring`, …
    pub(super) tags: Vec<String>,
}

impl Login {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Management tags: `administrator`, `monitoring`, …
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }
}

/// An open connection: `connection.open-ok` was, or will be, sent.
#[derive(Debug)]
pub struct Connection {
    pub(super) id: ConnectionId,
    pub(super) login: Login,
    pub(super) vhost: Arc<str>,
    pub(super) mailbox: Arc<Mailbox>,
    /// Its exclusive queues.
    pub(super) owned: Mutex<Vec<Arc<Queue>>>,
    /// Its consumers of streams.
    pub(super) readers: Mutex<Readers>,
}

impl Connection {
    /// Unique in the process.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Its virtual host.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Its user.
    #[must_use]
    pub fn user(&self) -> &str {
        self.login.user()
    }

    pub(super) fn owned(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its deliveries arrive.
    #[must_use]
    pub const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

/// An open channel. Give it back with [`Broker::close_channel`](super::Broker::close_channel).
#[derive(Debug)]
pub struct Channel {
    pub(super) connection: Arc<Connection>,
    pub(super) key: ChannelKey,
    /// The newest logged publish: nothing later becomes visible before it (store.md rule 11).
    pub(super) last: Option<Lsn>,
    pub(super) last_queue: Option<Arc<str>>,
    pub(super) prefetch: u32,
    pub(super) shared_prefetch: u32,
    pub(super) consumers: HashMap<Arc<str>, (Arc<Queue>, ConsumerId)>,
    /// Queues whose messages it may hold.
    pub(super) queues: BTreeMap<StreamId, Arc<Queue>>,
    /// The consumer of `amq.rabbitmq.reply-to`, and the address it is reached by.
    pub(super) reply: Option<(Arc<str>, Arc<str>)>,
    /// Judged publishes to streams that have not been appended yet.
    pub(super) gathered: Vec<Arriving>,
    /// Bytes of their bodies, once for each queue they go to.
    pub(super) gathered_bytes: usize,
}

impl Channel {
    /// Unique in the process.
    #[must_use]
    pub const fn key(&self) -> ChannelKey {
        self.key
    }

    /// The connection it is a channel of.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether it has that consumer.
    #[must_use]
    pub fn has_consumer(&self, tag: &str) -> bool {
        self.consumers.contains_key(tag)
            || self.reply.as_ref().is_some_and(|(own, _)| **own == *tag)
    }

    pub(super) fn vhost(&self) -> &str {
        &self.connection.vhost
    }
}
