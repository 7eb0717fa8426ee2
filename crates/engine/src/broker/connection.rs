//! Who speaks to the broker: a connection of a user to a virtual host, and its channels.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ottla_store::{Lsn, StreamId};

use super::arrive::Arriving;
use super::mailbox::Mailbox;
use super::publish::Route;
use super::queue::Queue;
use super::stream::Readers;
use crate::clock::Wall;
use crate::queue::{ChannelKey, ConsumerId};
use crate::value::Arguments;

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

/// What is known of a client beyond its user.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// `127.0.0.1:40000 -> 127.0.0.1:5672`
    pub name: String,
    /// Its address.
    pub peer_host: String,
    /// Its port.
    pub peer_port: u16,
    /// Our address.
    pub host: String,
    /// Our port.
    pub port: u16,
    /// How it logged in.
    pub mechanism: String,
    /// What it says of itself.
    pub properties: Arguments,
    /// As negotiated, in bytes.
    pub frame_max: u32,
    /// As negotiated.
    pub channel_max: u16,
    /// As negotiated, in seconds.
    pub heartbeat: u16,
}

/// What others see of a channel.
#[derive(Debug, Default)]
pub struct ChannelCard {
    /// On the wire.
    pub number: u16,
    prefetch: AtomicU32,
    shared_prefetch: AtomicU32,
    mode: AtomicU8,
}

/// How a channel's publishes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelMode {
    /// Not at all.
    Plain,
    /// `confirm.select`
    Confirm,
    /// `tx.select`
    Transaction,
}

impl ChannelCard {
    pub(super) fn new(number: u16) -> Self {
        Self { number, ..Self::default() }
    }

    /// Of each new consumer; 0 for no limit.
    #[must_use]
    pub fn prefetch(&self) -> u32 {
        self.prefetch.load(Ordering::Relaxed)
    }

    /// Of all consumers together; 0 for no limit.
    #[must_use]
    pub fn shared_prefetch(&self) -> u32 {
        self.shared_prefetch.load(Ordering::Relaxed)
    }

    /// How publishes are answered.
    #[must_use]
    pub fn mode(&self) -> ChannelMode {
        match self.mode.load(Ordering::Relaxed) {
            1 => ChannelMode::Confirm,
            2 => ChannelMode::Transaction,
            _ => ChannelMode::Plain,
        }
    }

    pub(super) fn set_prefetch(&self, own: u32, shared: u32) {
        self.prefetch.store(own, Ordering::Relaxed);
        self.shared_prefetch.store(shared, Ordering::Relaxed);
    }
}

/// Why and how a connection is to end that did not ask for it.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) reason: Option<Arc<str>>,
    waker: Option<Waker>,
}

/// An open connection: `connection.open-ok` was, or will be, sent.
#[derive(Debug)]
pub struct Connection {
    /// Absent for one that is not a client's.
    pub(super) client: Option<Client>,
    /// No permission is asked for.
    pub(super) trusted: bool,
    pub(super) opened: Wall,
    pub(super) cards: Mutex<BTreeMap<ChannelKey, Arc<ChannelCard>>>,
    pub(super) ending: Mutex<Ending>,
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

    /// Who it is, if it is a client.
    #[must_use]
    pub const fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// When it was opened.
    #[must_use]
    pub const fn opened(&self) -> Wall {
        self.opened
    }

    /// Its channels.
    #[must_use]
    pub fn cards(&self) -> Vec<(ChannelKey, Arc<ChannelCard>)> {
        self.lock_cards().iter().map(|(key, card)| (*key, Arc::clone(card))).collect()
    }

    /// Why it must end, if somebody said so: close it with 320.
    #[must_use]
    pub fn ending(&self) -> Option<Arc<str>> {
        self.lock_ending().reason.clone()
    }

    /// Wakes `waker` when somebody ends it; at once if that has happened.
    pub fn register_ending(&self, waker: &Waker) {
        let mut ending = self.lock_ending();
        if ending.reason.is_some() {
            drop(ending);
            waker.wake_by_ref();
        } else if !ending.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            ending.waker = Some(waker.clone());
        }
    }

    /// Ends it for this reason; the first one counts.
    pub(super) fn end(&self, reason: &str) {
        let mut ending = self.lock_ending();
        ending.reason.get_or_insert_with(|| reason.into());
        let waker = ending.waker.take();
        drop(ending);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn lock_cards(&self) -> MutexGuard<'_, BTreeMap<ChannelKey, Arc<ChannelCard>>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) card: Arc<ChannelCard>,
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
    /// Where its newest publish went.
    pub(super) route: Option<Route>,
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

    /// For those who look: how its publishes are answered.
    pub fn show_mode(&self, mode: ChannelMode) {
        let number = match mode {
            ChannelMode::Plain => 0,
            ChannelMode::Confirm => 1,
            ChannelMode::Transaction => 2,
        };
        self.card.mode.store(number, Ordering::Relaxed);
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
