//! Waiting rooms: messages of `x-delayed-message` exchanges, moved on when their time has come. And what the
//! log says of deliveries.

use std::sync::Arc;

use bytes::Bytes;
use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose};

use super::Broker;
use super::arrive::{Arriving, Leaving};
use super::effects::Work;
use super::exchanges::DELAYED;
use super::facts::BrokerFact;
use super::mailbox::Source;
use super::queue::{Queue, QueueState};
use super::request::Seq;
use crate::clock::{Now, Wall};
use crate::fact::{Fact, encode};
use crate::queue::Deadline;

/// A message that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedMessage {
    /// What it is called off by; the same after a restart.
    pub number: Seq,
    /// When it goes on.
    pub due: Wall,
    /// When it came.
    pub arrived: Wall,
    /// The exchange that will route it.
    pub exchange: Arc<str>,
    /// With which key.
    pub routing_key: Arc<str>,
    /// Flags and fields as on the wire.
    pub properties: Bytes,
    /// Bytes of its content.
    pub body_bytes: usize,
}

impl Broker {
    /// How many messages wait in a virtual host for their time.
    #[must_use]
    pub fn delayed_count(&self, vhost: &str) -> usize {
        let queue = self.state().find(vhost, DELAYED);
        queue.map_or(0, |queue| queue.lock().delayed.as_ref().map_or(0, |delayed| delayed.len()))
    }

    /// The same as [`delayed`](Self::delayed), with what they are. Reads them from the disk; one that is due
    /// meanwhile, or damaged, is left out.
    #[must_use]
    pub fn delayed_messages(&self, vhost: &str, after: Seq, max: usize) -> Vec<DelayedMessage> {
        let waiting = self.delayed(vhost, after, max).into_iter();
        let found = waiting.filter_map(|(number, due)| {
            let message = self.load(&Source::Log(Lsn(number.0)))?;
            Some(DelayedMessage {
                number,
                due,
                arrived: message.head.arrived,
                exchange: Arc::clone(&message.exchange),
                routing_key: message.routing_key(),
                properties: message.properties.clone(),
                body_bytes: message.body.len(),
            })
        });
        found.collect()
    }

    /// Messages that wait in a virtual host for their time, at most `max` behind `after`, in the order in which
    /// they came, with the time each is due.
    #[must_use]
    pub fn delayed(&self, vhost: &str, after: Seq, max: usize) -> Vec<(Seq, Wall)> {
        let Some(queue) = self.state().find(vhost, DELAYED) else { return Vec::new() };
        let state = queue.lock();
        let waiting = state.delayed.as_ref().map(|delayed| delayed.list(after.0, max));
        let waiting = waiting.unwrap_or_default().into_iter();
        waiting.map(|(place, due)| (Seq(place), due)).collect()
    }

    /// Calls a delayed message off; false if there is none of that number. The reply waits for the place.
    ///
    /// # Errors
    /// No room.
    pub fn cancel_delayed(
        &self,
        vhost: &str,
        message: Seq,
    ) -> Result<(bool, Lsn), super::BrokerError> {
        let Some(queue) = self.state().find(vhost, DELAYED) else {
            return Ok((false, Lsn::ZERO));
        };
        let now = self.clock.now();
        let mut work = Work::default();
        let leaving = Leaving { queue, seqs: vec![message], with: None };
        let (_, lsn) = self.arrive(Purpose::Shrink, &[], &[leaving], now, &mut work)?;
        self.finish(work, now);
        Ok((lsn.is_some(), lsn.unwrap_or(Lsn::ZERO)))
    }

    /// Moves on what is due, a few frames at most: the rest has its turn with the next tick.
    pub(super) fn fire(&self, queue: &Arc<Queue>, now: Now, work: &mut Work) {
        for _ in 0..FRAMES_MAX {
            let due = {
                let mut state = queue.lock();
                let durable = self.store.durable();
                let Some(delayed) = &mut state.delayed else { return };
                let due = delayed.take_due(now.wall, FRAME_MESSAGES_MAX);
                let (due, early) =
                    due.into_iter().partition::<Vec<_>, _>(|place| Lsn(*place).is_durable(durable));
                early.into_iter().for_each(|place| delayed.again(place));
                due
            };
            if due.is_empty() || !self.move_on(queue, due, now, work) {
                break;
            }
        }
        let mut state = queue.lock();
        self.watch(queue, &mut state);
    }

    /// Moves messages to where they were published, all in one frame; false without room in the log.
    fn move_on(&self, queue: &Arc<Queue>, due: Vec<u64>, now: Now, work: &mut Work) -> bool {
        let mut arriving: Vec<Arriving> = Vec::new();
        let mut seqs = Vec::new();
        let mut bytes = 0;
        let mut due = due.into_iter();
        for place in due.by_ref() {
            let message = self.load(&Source::Log(Lsn(place)));
            if let Some(message) = message {
                bytes += message.body.len();
                arriving.extend(self.release(queue, &message, now));
            }
            seqs.push(Seq(place));
            if bytes > FRAME_BYTES_MAX {
                break;
            }
        }
        let again = |places: &mut dyn Iterator<Item = u64>| {
            if let Some(delayed) = &mut queue.lock().delayed {
                places.for_each(|place| delayed.again(place));
            }
        };
        again(&mut due);
        let leaving = Leaving { queue: Arc::clone(queue), seqs: seqs.clone(), with: None };
        let moved = self.arrive(Purpose::Shrink, &arriving, &[leaving], now, work).is_ok();
        if !moved {
            again(&mut seqs.into_iter().map(|seq| seq.0));
        }
        moved
    }

    /// Sees that the timers know when the next message is due.
    pub(super) fn watch(&self, queue: &Queue, state: &mut QueueState) {
        let wall = state.delayed.as_ref().and_then(|delayed| delayed.deadline());
        let deadline = Deadline { wall, monotonic: None };
        if deadline != state.deadline {
            self.timers().change(queue.id, state.deadline, deadline);
            state.deadline = deadline;
        }
    }

    /// Somebody may be delivered messages from now on: the log says so before anything goes out.
    pub(super) fn open_deliveries(&self, queue: &Queue, state: &mut QueueState) -> Lsn {
        if queue.is_logged() && !state.delivered.open {
            state.delivered.open = true;
            self.say_delivered(queue, state);
        }
        Lsn(state.delivered.said)
    }

    /// Nobody consumes or holds anything any more: what was never delivered need not say that it may have been.
    pub(super) fn close_deliveries(&self, queue: &Queue, state: &mut QueueState) {
        let counts = state.machine.counts();
        if state.delivered.open && counts.unacked == 0 && counts.consumers == 0 {
            state.delivered.open = false;
            self.say_delivered(queue, state);
        }
    }

    /// The process before may have delivered all that is there.
    pub(super) fn say_delivered_at_start(&self, queue: &Queue, state: &mut QueueState) {
        if state.delivered.open {
            let newest = state.slots.logged().last().map_or(0, |(lsn, _)| lsn.0);
            state.delivered.open = false;
            state.delivered.upto = state.delivered.upto.max(newest);
            self.say_delivered(queue, state);
        }
    }

    /// Without room it is said the next time: meanwhile more than was delivered says that it may have been.
    fn say_delivered(&self, queue: &Queue, state: &mut QueueState) {
        let (open, upto) = (state.delivered.open, state.delivered.upto);
        let fact = BrokerFact::Delivered { queue: queue.id.0, open, upto };
        let payload = Bytes::from(encode(&Fact::Broker(fact)));
        if let Ok(reservation) = self.store.reserve(Purpose::Shrink, 1, payload.len()) {
            let frame = Frame::of(Item::State { payload });
            state.delivered.said = self.store.append(reservation, frame).lsn.0;
        } else {
            state.delivered.open = !open;
        }
    }
}

/// Messages that one frame moves.
const FRAME_MESSAGES_MAX: usize = 256;
/// Bytes of bodies that one frame moves, and a message.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Frames of one tick.
const FRAMES_MAX: usize = 16;
