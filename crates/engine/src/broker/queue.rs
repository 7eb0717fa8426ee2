//! One queue: its machine, its messages, its consumers. Everything that happens to it happens under its lock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ottla_store::{Lsn, Store, StreamId};
use serde::{Deserialize, Serialize};

use super::Sink;
use super::connection::ConnectionId;
use super::delayed::Delayed;
use super::exchanges::DELAYED;
use super::facts::{MessageImage, QueueMessages};
use super::mailbox::Mailbox;
use super::message::Head;
use super::request::Seq;
use super::slots::Slots;
use super::stream::View;
use super::traffic::{Meter, Traffic};
use crate::clock::{Monotonic, Now, Wall};
use crate::fact::{ObjectKey, encode};
use crate::queue::{
    ChannelKey, ConsumerId, Counts, Deadline, Declaration, Effect, Entry, Machine, NEVER,
    QueueType, Rules, Settings,
};
use crate::topic::Isolation;
use crate::value::Arguments;

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: StreamId,
    pub(super) name: Arc<str>,
    pub(super) vhost: Arc<str>,
    pub(super) declaration: Declaration,
    /// Whose it is, if it is exclusive.
    pub(super) owner: Option<ConnectionId>,
    /// The place of its declaration.
    pub(super) declared: Lsn,
    /// The partition it is a view of, if it is a stream.
    view: OnceLock<View>,
    state: Mutex<QueueState>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct QueueState {
    pub(super) machine: Machine,
    pub(super) rules: Arc<Rules>,
    pub(super) slots: Slots,
    /// Those that wait for their time, in the waiting room of a virtual host: its machine and slots stay empty.
    pub(super) delayed: Option<Box<Delayed>>,
    /// What the log says of deliveries.
    pub(super) delivered: Delivered,
    /// Accepted and not visible yet: in order, each with the place it waits for.
    pub(super) pending: VecDeque<(Lsn, Entry)>,
    pub(super) consumers: HashMap<ConsumerId, Consumer>,
    /// Settled, but the log had no room to say so yet.
    pub(super) unlogged: Vec<Lsn>,
    /// Returned and not yet logged: place, failed, all.
    pub(super) counts: Vec<(u64, u32, u32)>,
    /// The newest fact about its messages.
    pub(super) applied: Lsn,
    /// What the timers know.
    pub(super) deadline: Deadline,
    /// What passed through; nothing until something has.
    pub(super) traffic: Option<Box<Meter>>,
    /// What the broker has counted of the bytes in memory.
    pub(super) weighed: u64,
    /// Room for the effects of a command, empty between them.
    pub(super) effects: Vec<Effect>,
    next: u64,
}

/// Who consumes.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) tag: Arc<str>,
    pub(super) channel: ChannelKey,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) prefetch: u32,
    pub(super) arguments: Arguments,
}

/// What the log says of deliveries: after a start only what may have been delivered says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivered {
    /// Who holds or consumes may be delivered anything.
    pub(crate) open: bool,
    /// Nothing behind this place was delivered before that.
    pub(crate) upto: u64,
    /// Where the log says so; nothing is delivered before that is durable.
    #[serde(skip)]
    pub(super) said: u64,
}

/// A message found by recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovered {
    pub(super) arrival: Arrival,
    pub(super) bytes: u32,
    pub(super) delivery_count: u32,
    pub(super) acquired_count: u32,
}

/// What the expiry and the lane of a recovered message follow from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// It was in the log.
    Head(Head),
    /// It was in a snapshot.
    Known { expires_at: Wall, priority: u8, immediate: bool },
}

/// What holds on every queue of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRules {
    /// Whether `basic.nack` with requeue counts toward a delivery limit, as through RabbitMQ 4.2, or
    /// not, as since 4.3.
    pub nack_counts: bool,
    /// Bytes of messages that are in memory alone, beyond which such messages are taken no more.
    pub memory_bytes_max: u64,
}

impl Default for NodeRules {
    fn default() -> Self {
        Self { nack_counts: true, memory_bytes_max: u64::MAX }
    }
}

impl Queue {
    pub(super) fn new(
        id: StreamId,
        name: &str,
        vhost: &str,
        declaration: Declaration,
        owner: Option<ConnectionId>,
        declared: Lsn,
    ) -> Self {
        let state = QueueState {
            machine: Machine::new(Arc::new(Settings::classic()), Now::default()),
            rules: Arc::default(),
            slots: Slots::default(),
            delayed: (name == DELAYED).then(Box::default),
            delivered: Delivered::default(),
            pending: VecDeque::new(),
            consumers: HashMap::new(),
            unlogged: Vec::new(),
            counts: Vec::new(),
            applied: Lsn::ZERO,
            deadline: Deadline::default(),
            effects: Vec::new(),
            traffic: None,
            weighed: 0,
            next: 1,
        };
        Self {
            id,
            name: name.into(),
            vhost: vhost.into(),
            declaration,
            owner,
            declared,
            view: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it survives a restart.
    pub(super) const fn is_logged(&self) -> bool {
        self.declaration.durable && !self.declaration.exclusive
    }

    /// Whether it keeps this message in the log: quorum queues keep all (store.md rule 11).
    pub(super) fn logs(&self, head: &Head) -> bool {
        let keeps_all = self.is_quorum() || self.is_waiting_room();
        self.is_logged() && !self.is_stream() && (head.persistent || keeps_all)
    }

    pub(super) fn is_quorum(&self) -> bool {
        self.declaration.queue_type == QueueType::Quorum
    }

    /// Whether messages of `x-delayed-message` exchanges wait in it.
    pub(super) fn is_waiting_room(&self) -> bool {
        *self.name == *DELAYED
    }

    /// Whether it is a view of a partition: no message of a queue is ever in it.
    pub(super) fn is_stream(&self) -> bool {
        self.declaration.queue_type == QueueType::Stream
    }

    /// What it is a view of, if it is a stream.
    pub(super) fn view(&self) -> Option<&View> {
        self.view.get()
    }

    /// What it is a view of, said once.
    pub(super) fn set_view(&self, view: View) {
        self.view.get_or_init(|| view);
    }

    /// What an operator sees in it.
    pub(super) fn counts(&self, store: &Store) -> Counts {
        let Some(view) = self.view() else {
            let state = self.lock();
            let waiting = state.delayed.as_ref().map_or(0, |delayed| delayed.len());
            let counts = state.machine.counts();
            let delayed = u64::try_from(waiting).unwrap_or(u64::MAX);
            return Counts {
                ready: counts.ready + delayed,
                delayed: counts.delayed + delayed,
                ..counts
            };
        };
        let start = store.extent(view.partition.stream()).map(|extent| extent.start);
        let end = view.partition.visible_end(store, Isolation::ReadCommitted);
        let records = end.unwrap_or_default().0 - start.unwrap_or_default().0;
        let consumers = u64::try_from(self.lock().consumers.len()).unwrap_or(u64::MAX);
        Counts { ready: u64::try_from(records).unwrap_or(0), consumers, ..Counts::default() }
    }

    /// Begins with these rules.
    pub(super) fn start(&self, rules: Rules, node: NodeRules, now: Now) {
        let mut state = self.lock();
        let settings = self.settings(&rules, node);
        state.machine = Machine::new(Arc::new(settings), now);
        state.rules = Arc::new(rules);
    }

    /// Takes other rules; the machine follows with the next [`Command::Configure`](crate::queue::Command).
    pub(super) fn set_rules(&self, rules: Rules) {
        self.lock().rules = Arc::new(rules);
    }

    /// What the rules mean for the machine.
    pub(super) fn settings(&self, rules: &Rules, node: NodeRules) -> Settings {
        let own = rules.settings(self.declaration.queue_type, self.declaration.auto_delete);
        Settings { nack_counts: node.nack_counts, ..own }
    }

    /// What a snapshot must remember beside the messages of its machine.
    pub(super) fn snapshot_rest(&self, sink: Sink<'_>) {
        let (applied, parts, delivered) = {
            let state = self.lock();
            let parts = state.delayed.as_ref().map(|delayed| delayed.parts());
            (state.applied, parts.unwrap_or_default(), state.delivered)
        };
        for (number, part) in (0_u32..).zip(parts) {
            let key = ObjectKey::Delayed { queue: self.id.0, part: number };
            sink(&encode(&key), applied, &part.encode());
        }
        if delivered.said > 0 {
            let key = ObjectKey::Delivered(self.id.0);
            sink(&encode(&key), Lsn(delivered.said), &encode(&delivered));
        }
    }

    /// What a snapshot must remember, and the newest fact in it; `None` if nothing.
    pub(super) fn image(&self) -> Option<(Lsn, QueueMessages)> {
        let state = self.lock();
        let mut before = 0;
        let messages = state.slots.logged().map(|(lsn, entry)| {
            let step = lsn.0 - before;
            before = lsn.0;
            MessageImage {
                step,
                expires_at: (entry.expires_at != NEVER).then_some(entry.expires_at.0),
                bytes: entry.bytes,
                delivery_count: entry.delivery_count,
                acquired_count: entry.acquired_count,
                priority: entry.priority,
                immediate: entry.immediate,
            }
        });
        let messages: Vec<_> = messages.collect();
        let kept = state.applied > Lsn::ZERO && state.delayed.is_none();
        kept.then_some((state.applied, QueueMessages { messages }))
    }
}

impl QueueState {
    /// The entry of a message that arrives now.
    pub(super) fn entry(&mut self, head: &Head) -> Entry {
        let settings = self.machine.settings();
        let (expires_at, immediate) = settings.expiry(head.arrived, head.expiration);
        let priority = settings.lane(head.priority);
        let entry = Entry::new(Lsn(self.next), head.bytes);
        self.next += 1;
        Entry { expires_at, immediate, priority, ..entry }
    }

    /// A message that recovery found: it says whether it may have been delivered (store.md rule 9).
    pub(super) fn recover(&mut self, lsn: Lsn, found: &Recovered) -> Entry {
        let head = match found.arrival {
            Arrival::Head(head) => head,
            Arrival::Known { .. } => Head::unknown(found.bytes),
        };
        let mut entry = self.entry(&head);
        if let Arrival::Known { expires_at, priority, immediate } = found.arrival {
            entry = Entry { expires_at, priority, immediate, ..entry };
        }
        entry.redelivered = self.delivered.open || lsn.0 <= self.delivered.upto;
        entry.delivery_count = found.delivery_count;
        entry.acquired_count = found.acquired_count;
        self.slots.push_logged(entry, lsn);
        entry
    }

    /// Ends a message. Returns its place if its end must be logged; `None` also if it had ended.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Lsn> {
        match &mut self.delayed {
            Some(delayed) => delayed.remove(seq.0).then_some(Lsn(seq.0)),
            None => self.slots.remove(seq),
        }
    }

    /// Takes back what waits: from the snapshot, and behind it from the log.
    pub(super) fn wait_again(
        &mut self,
        snapshot: Option<Box<Delayed>>,
        messages: &BTreeMap<Lsn, Recovered>,
    ) {
        let mut delayed = snapshot.unwrap_or_default();
        for (lsn, found) in messages {
            let due = match found.arrival {
                Arrival::Head(head) => head.due(),
                Arrival::Known { expires_at, .. } => expires_at,
            };
            delayed.push(lsn.0, due);
        }
        self.delayed = Some(delayed);
    }

    /// Counts what passes.
    pub(super) fn count_passage(&mut self, now: Monotonic, passage: impl FnOnce(&mut Traffic)) {
        self.traffic.get_or_insert_default().count(now, passage);
    }

    /// Whether what dies here goes somewhere.
    pub(super) fn rules_bury(&self) -> bool {
        self.rules.dead_letter_exchange.is_some()
    }
}
