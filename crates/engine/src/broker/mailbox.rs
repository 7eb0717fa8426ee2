//! Where deliveries wait for their connection: bounded by credit, drained by the connection's driver.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use ottla_store::Lsn;

use super::message::Message;
use super::queue::Queue;
use super::request::Held;
use crate::queue::{ChannelKey, ConsumerId, Entry};

/// The deliveries of one connection that its driver has not taken yet.
///
/// Bounded: a consumer puts at most 256 messages into it before they are taken.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parcels: VecDeque<Waiting>,
    /// Channels whose consumers share a prefetch.
    shared: HashMap<ChannelKey, Shared>,
    waker: Option<Waker>,
    closed: bool,
}

/// `basic.qos` with `global`: how many deliveries a channel may hold, from all its queues together. Each queue keeps
/// the limit by itself; what is too many in sum stands back here until something is settled.
#[derive(Debug, Default)]
struct Shared {
    limit: u32,
    /// Handed out and not settled.
    out: u32,
    back: VecDeque<Waiting>,
}

/// What is put into a mailbox.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// `basic.deliver`
    Delivery(Delivery),
    /// `basic.cancel` from the broker: the queue is gone. For a client that does not know it: nothing.
    Cancelled {
        /// Whose.
        channel: ChannelKey,
        /// Which consumer.
        tag: Arc<str>,
    },
    /// The channel held the message for too long and holds it no more: forget its delivery tag.
    TimedOut {
        /// Whose.
        channel: ChannelKey,
        /// Which message.
        message: Held,
    },
}

/// A message on its way to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whose.
    pub channel: ChannelKey,
    /// Which consumer.
    pub tag: Arc<str>,
    /// What the delivery tag stands for; `None` if it is settled by being delivered.
    pub held: Option<Held>,
    /// Was, or may have been, delivered before.
    pub redelivered: bool,
    /// Where it was published.
    pub exchange: Arc<str>,
    /// With which key.
    pub routing_key: Arc<str>,
    /// Flags and fields as on the wire.
    pub properties: Bytes,
    /// The content.
    pub body: Bytes,
}

/// `basic.get-ok`
#[derive(Clone, Debug)]
pub struct Got {
    /// What the delivery tag stands for; `None` if it is settled by being delivered.
    pub held: Option<Held>,
    /// Was, or may have been, delivered before.
    pub redelivered: bool,
    /// Where it was published.
    pub exchange: Arc<str>,
    /// With which key.
    pub routing_key: Arc<str>,
    /// Flags and fields as on the wire.
    pub properties: Bytes,
    /// The content.
    pub body: Bytes,
    /// Messages still ready.
    pub remaining: u64,
    /// It is handed out once this place is durable: only then will it say after a crash that it may have been.
    pub lsn: Lsn,
}

/// A parcel whose body is still where it was.
#[derive(Debug)]
pub(super) enum Waiting {
    Delivery(Promise),
    Ready(Parcel),
}

/// A delivery without its body.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) channel: ChannelKey,
    pub(super) tag: Arc<str>,
    pub(super) consumer: ConsumerId,
    pub(super) queue: Arc<Queue>,
    pub(super) entry: Entry,
    pub(super) source: Source,
    pub(super) no_ack: bool,
}

/// Where a body is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Memory(Arc<Message>),
    Log(Lsn),
}

impl Mailbox {
    /// Wakes `waker` once something is put in; at once if something is there.
    pub fn register(&self, waker: &Waker) {
        let mut inner = self.lock();
        if inner.parcels.is_empty() {
            inner.waker = Some(waker.clone());
            return;
        }
        drop(inner);
        waker.wake_by_ref();
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().parcels.is_empty()
    }

    /// False if the connection is gone.
    pub(super) fn put(&self, parcel: Waiting) -> bool {
        let mut inner = self.lock();
        if !inner.closed {
            inner.parcels.push_back(parcel);
        }
        !inner.closed
    }

    /// A reply: nothing limits its sender but this.
    pub(super) fn put_reply(&self, parcel: Waiting) -> bool {
        self.lock().parcels.len() < REPLIES_MAX && self.put(parcel)
    }

    pub(super) fn take_waiting(&self, max: usize) -> Vec<Waiting> {
        let mut inner = self.lock();
        if inner.shared.is_empty() {
            let count = inner.parcels.len().min(max);
            return inner.parcels.drain(..count).collect();
        }
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(parcel) = inner.parcels.pop_front()
        {
            taken.extend(inner.admit(parcel));
        }
        taken
    }

    /// `basic.qos` with `global`; 0 for no limit.
    pub(super) fn share(&self, channel: ChannelKey, limit: u32) {
        let mut inner = self.lock();
        if limit > 0 || inner.shared.contains_key(&channel) {
            inner.shared.entry(channel).or_default().limit = limit;
            inner.settled(channel, 0);
        }
    }

    /// The channel holds `count` deliveries less; what stood back comes next.
    pub(super) fn settled(&self, channel: ChannelKey, count: usize) {
        let mut inner = self.lock();
        if !inner.shared.is_empty() {
            inner.settled(channel, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// The channel is gone.
    pub(super) fn forget(&self, channel: ChannelKey) {
        self.lock().shared.remove(&channel);
    }

    /// Everything of a channel that was not taken.
    pub(super) fn drop_channel(&self, channel: ChannelKey) -> Vec<Promise> {
        let mut inner = self.lock();
        let (own, others) = std::mem::take(&mut inner.parcels)
            .into_iter()
            .partition::<Vec<_>, _>(|parcel| parcel.channel() == channel);
        inner.parcels = others.into();
        let shared = inner.shared.get_mut(&channel);
        let back = shared.map(|shared| {
            shared.out = 0; // all of it is returned
            std::mem::take(&mut shared.back)
        });
        drop(inner);
        let own = own.into_iter().chain(back.into_iter().flatten());
        own.filter_map(Waiting::into_promise).collect()
    }

    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waker = None;
    }

    pub(super) fn waker(&self) -> Option<Waker> {
        self.lock().waker.take()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The parcel, unless its channel holds all that it may.
    fn admit(&mut self, parcel: Waiting) -> Option<Waiting> {
        let channel = parcel.channel();
        match &parcel {
            Waiting::Delivery(promise) if !promise.no_ack => {
                let Some(shared) = self.shared.get_mut(&channel) else { return Some(parcel) };
                if shared.limit > 0 && shared.out >= shared.limit {
                    shared.back.push_back(parcel);
                    return None;
                }
                shared.out += 1;
            }
            Waiting::Ready(Parcel::TimedOut { .. }) => self.settled(channel, 1),
            _ => {}
        }
        Some(parcel)
    }

    fn settled(&mut self, channel: ChannelKey, count: u32) {
        let Some(shared) = self.shared.get_mut(&channel) else { return };
        shared.out = shared.out.saturating_sub(count);
        for parcel in std::mem::take(&mut shared.back).into_iter().rev() {
            self.parcels.push_front(parcel);
        }
    }
}

impl Waiting {
    fn channel(&self) -> ChannelKey {
        match self {
            Self::Delivery(promise) => promise.channel,
            Self::Ready(parcel) => parcel.channel(),
        }
    }

    fn into_promise(self) -> Option<Promise> {
        match self {
            Self::Delivery(promise) => Some(promise),
            Self::Ready(_) => None,
        }
    }
}

impl Parcel {
    /// Whose it is.
    #[must_use]
    pub const fn channel(&self) -> ChannelKey {
        match self {
            Self::Delivery(delivery) => delivery.channel,
            Self::Cancelled { channel, .. } | Self::TimedOut { channel, .. } => *channel,
        }
    }
}

/// Deliveries a consumer may have in a mailbox.
pub(super) const CREDIT: u32 = 256;
/// A mailbox with this much in it takes no more direct replies: they are lost, as they may be.
const REPLIES_MAX: usize = 65_536;
