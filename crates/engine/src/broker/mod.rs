//! The broker behind AMQP, without a wire: virtual hosts, exchanges, queues, consumers, users.
//!
//! Calls are synchronous and never wait. What reveals a new durable fact returns its place in the
//! log ([`Lsn`]): the reply is held back until the log is durable past it. Deliveries arrive in the
//! connection's [`Mailbox`]; its driver takes them out. See [`Broker`].
//!
//! Locks, outermost first: what exists (`state::State`); Kafka's catalogue; queues, then partitions, in ascending id;
//! the rest are leaves. None is held while waiting or while a body is read, but for a connection's own
//! `stream::Readers`, which only its driver uses.

mod access;
mod admin;
mod arrive;
mod connection;
mod consume;
mod dead;
mod declare;
mod delayed;
mod effects;
mod error;
mod exchanges;
mod extras;
mod history;
mod mailbox;
mod message;
mod properties;
mod publish;
mod queue;
mod recovery;
mod registry;
mod reply;
mod request;
mod slots;
mod state;
mod stream;
mod table;
mod timers;
mod traffic;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Reservation, Store, StreamId};

pub use self::admin::{
    BindingView, ChannelView, ConsumerView, ExchangeView, Filter, MoveTarget, Moved, NewUser,
    OwnerView, Peeked, PolicyKind, PolicyView, QueueView, Totals, UserView, VhostView,
};
pub use self::connection::{
    Channel, ChannelCard, ChannelMode, Client, Connection, ConnectionId, Login, Peer,
};
pub use self::error::{BrokerError, ErrorKind};
pub use self::mailbox::{Delivery, Got, Mailbox, Parcel};
pub use self::publish::Gathering;
pub use self::queue::NodeRules;
pub(crate) use self::recovery::BrokerRecovery;
pub use self::request::{
    Bind, Committed, ConsumeRequest, DeleteIf, ExchangeDeclare, Held, PrefetchScope, Publish,
    Published, QueueDeclare, QueueDeclared, QueueId, QueueStatus, Removed, Seq, Transaction,
};
pub use self::traffic::{Measured, Traffic};
pub use self::waiting::DelayedMessage;
pub use crate::broker_facts::{
    BindingImage, BrokerExtras, BrokerFact, BrokerImage, ExchangeImage, LimitsImage, MessageImage,
    PermissionImage, PolicyImage, QueueImage, QueueMessages, SecretImage, TopicPermissionImage,
    UserImage, VhostAbout, VhostImage,
};

use self::effects::{Corpse, Work};
use self::queue::Queue;
use self::reply::ReplyConsumer;
use self::state::{State, Vhost};
use self::timers::Timers;
use self::traffic::Meter;
use crate::broker_facts as facts;
use crate::catalog::Catalog;
use crate::chance::{Chance, base64_id};
use crate::clock::Clock;
use crate::exchange::Routing;
use crate::fact::{ObjectKey, encode};
use crate::queue::Command;
use crate::vhost::{Access, Resource};

/// The broker behind AMQP. What a session does, in order:
///
/// 1. [`authenticate`](Self::authenticate), [`connect`](Self::connect), [`open_channel`](Self::open_channel).
/// 2. Before each *synchronous* method (declare, get, purge, delete, …) on a channel:
///    [`catch_up`](Self::catch_up); while it names a place, wait until the log is durable past it and ask
///    again, so that the method sees what the channel published before (store.md rule 11).
/// 3. The method. An error of kind [`ErrorKind::Busy`] means: wait for the log to move, then call again.
/// 4. The reply, once the log is durable past the returned place. `consume-ok` is written before the
///    mailbox is next taken from.
/// 5. Whenever what [`register`](Self::register) was told wakes: [`take`](Self::take), write, repeat until nothing comes.
/// 6. [`close_channel`](Self::close_channel), [`disconnect`](Self::disconnect).
///
/// After each commit of the log, [`durable_moved`](Self::durable_moved); every few milliseconds,
/// [`tick`](Self::tick).
#[derive(Debug)]
pub struct Broker {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    node: NodeRules,
    state: RwLock<State>,
    /// Grows with each change of `state`: what was found in it is known to hold as long as this is the same.
    changes: AtomicU64,
    /// What exists for Kafka: streams are views of its partitions. Locked inside `state`.
    catalog: Arc<RwLock<Catalog>>,
    /// Whether there has been an `x-recent-history` exchange in this process.
    has_history: AtomicBool,
    /// Whether there has been a stream in this process: who has none pays nothing for them.
    has_streams: AtomicBool,
    /// Queues with messages that wait for the log: each once, by the place its first one waits for.
    pending: Mutex<BTreeMap<(Lsn, StreamId), Arc<Queue>>>,
    timers: Mutex<Timers>,
    replies: Mutex<HashMap<Arc<str>, ReplyConsumer>>,
    /// Dead letters that found no room in the log. At most the messages of all queues.
    stalled: Mutex<Vec<Corpse>>,
    /// Queues that ended and found no room in the log.
    unforgotten: Mutex<Vec<Arc<Queue>>>,
    /// The clients that are connected.
    connections: Mutex<BTreeMap<ConnectionId, Arc<Connection>>>,
    chance: Mutex<Chance>,
    next: AtomicU64,
    /// Messages that clients have published.
    published: AtomicU64,
    /// What was published, and what queues did that are gone.
    gone: Mutex<(Meter, Measured)>,
    /// Bytes of messages that are nowhere but in memory, nearly.
    memory: AtomicU64,
}

impl Broker {
    /// Judges a name and a password; `guest` may only come from the same machine. `None`: refused.
    #[must_use]
    pub fn authenticate(&self, user: &str, password: &[u8], peer: Peer) -> Option<Login> {
        let state = self.state();
        let (name, known) = state.users.get_key_value(user)?;
        let tags = known.image.tags.clone();
        known.accepts(password, peer).then(|| Login { user: Arc::clone(name), tags })
    }

    /// Lets a user in that needs no password: for the mechanism ANONYMOUS, where an operator has said so. `None`:
    /// there is no such user, or it may not come from there.
    #[must_use]
    pub fn admit_anonymous(&self, user: &str, peer: Peer) -> Option<Login> {
        let state = self.state();
        let (name, known) = state.users.get_key_value(user)?;
        let tags = known.image.tags.clone();
        known.may_come_from(peer).then(|| Login { user: Arc::clone(name), tags })
    }

    /// `None` if everything the channel published is visible; otherwise wait until the log is durable
    /// past this place, and ask again.
    #[must_use]
    pub fn catch_up(&self, channel: &Channel) -> Option<Lsn> {
        let last = channel.last?;
        let durable = self.store.durable();
        if !last.is_durable(durable) {
            return Some(last);
        }
        self.durable_moved(durable); // perhaps before the releaser
        None
    }

    /// Everything below `upto` is durable: what waited for it becomes visible. From the releaser, after each commit.
    pub fn durable_moved(&self, upto: Lsn) {
        let now = self.clock.now();
        let mut work = Work::default();
        self.show(upto, now, &mut work);
        self.finish(work, now);
    }

    /// Lets timers run whose time has come: expiry, retries, consumer timeouts. Every few milliseconds.
    pub fn tick(&self) {
        let now = self.clock.now();
        let mut work = Work::default();
        let published = self.published.load(Ordering::Relaxed);
        self.gone().0.count(now.monotonic, |traffic| traffic.published = published);
        self.retry_stalled(&mut work);
        work.ended.append(&mut self.unforgotten());
        let due = self.timers().due(now);
        let queues: Vec<Arc<Queue>> = {
            let state = self.state();
            due.iter().filter_map(|id| state.queues.get(id).cloned()).collect()
        };
        for queue in queues {
            let mut state = queue.lock();
            state.deadline = crate::queue::Deadline::default(); // it was taken out of the timers
            if queue.is_waiting_room() {
                drop(state);
                self.fire(&queue, now, &mut work);
                continue;
            }
            if !state.machine.is_gone() {
                self.apply(&queue, &mut state, Command::Tick, now, &mut work);
            }
        }
        self.finish(work, now);
    }

    /// Hands every object to a snapshot: what exists, and the messages of each queue.
    pub(crate) fn snapshot(&self, sink: Sink<'_>) {
        let queues: Vec<Arc<Queue>> = {
            let state = self.state();
            sink(&encode(&ObjectKey::Broker), state.changed, &encode(&state.image()));
            sink(&encode(&ObjectKey::BrokerExtras), state.changed, &encode(&state.extras()));
            state.queues.values().filter(|queue| queue.is_logged()).cloned().collect()
        };
        for queue in queues {
            if let Some((applied, image)) = queue.image() {
                sink(&encode(&ObjectKey::Queue(queue.id.0)), applied, &encode(&image));
            }
            queue.snapshot_rest(sink);
        }
    }

    /// Whether a queue still holds a logged message.
    pub(crate) fn holds(&self, queue: StreamId, message: Lsn) -> bool {
        let queue = self.state().queues.get(&queue).cloned();
        queue.is_some_and(|queue| {
            let state = queue.lock();
            state.slots.holds(message)
                || state.delayed.as_ref().is_some_and(|delayed| delayed.holds(message.0))
        })
    }

    /// Appends a change of what exists; returns its place, which becomes that of the newest change.
    fn log(&self, state: &mut State, reservation: Reservation, items: Vec<Item>) -> Lsn {
        let mut frame = Frame::new();
        items.into_iter().for_each(|item| frame.push(item));
        let appended = self.store.append(reservation, frame);
        state.changed = appended.items.last().copied().unwrap_or(appended.lsn);
        state.changed
    }

    fn vhost<'a>(&self, state: &'a State, channel: &Channel) -> Result<&'a Vhost, BrokerError> {
        state.vhosts.get(channel.vhost()).ok_or_else(|| gone(channel))
    }

    fn vhost_mut<'a>(
        &self,
        state: &'a mut State,
        channel: &Channel,
    ) -> Result<&'a mut Vhost, BrokerError> {
        state.vhosts.get_mut(channel.vhost()).ok_or_else(|| gone(channel))
    }

    fn permit(
        &self,
        state: &State,
        channel: &Channel,
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), BrokerError> {
        match state.users.get(channel.connection.user()) {
            _ if channel.connection.trusted => Ok(()),
            Some(user) => user.check(access, resource, channel.vhost()),
            None => Err(BrokerError::refused("the user was deleted")),
        }
    }

    /// Whether the user may use these routing keys of a topic exchange; other types have no such rule.
    fn permit_topics(
        &self,
        state: &State,
        channel: &Channel,
        access: Access,
        exchange: &str,
        keys: &[&str],
    ) -> Result<(), BrokerError> {
        let Some(user) = state.users.get(channel.connection.user()) else { return Ok(()) };
        if user.topics.is_empty() || channel.connection.trusted {
            return Ok(());
        }
        let vhost = channel.vhost();
        let known = state.vhosts.get(vhost).and_then(|vhost| vhost.topology.exchange(exchange));
        if known.is_none_or(|known| known.kind.routing != Routing::Topic) {
            return Ok(());
        }
        keys.iter().try_for_each(|key| user.check_topic(access, exchange, key, vhost))
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A name that nobody else has.
    fn made_up(&self, prefix: &str) -> String {
        format!("{prefix}{}", base64_id(self.chance().uuid()))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::Release);
        state
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<(Lsn, StreamId), Arc<Queue>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replies(&self) -> MutexGuard<'_, HashMap<Arc<str>, ReplyConsumer>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stalled(&self) -> MutexGuard<'_, Vec<Corpse>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unforgotten(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        self.unforgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, (Meter, Measured)> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self) -> MutexGuard<'_, Chance> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the objects of a snapshot: key, newest fact, bytes.
type Sink<'a> = &'a mut dyn FnMut(&[u8], Lsn, &[u8]);

fn gone(channel: &Channel) -> BrokerError {
    let text = format!("vhost '{}' was deleted", channel.vhost());
    BrokerError::new(ErrorKind::NotAllowed, text)
}
