//! The broker after a start: its facts and messages, from the snapshot and what the log holds above it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock};

use ottla_store::{Lsn, ReplayFact, ReplayItem, Store, StreamId};

use super::Broker;
use super::delayed::Delayed;
use super::effects::Work;
use super::facts::{BrokerExtras, BrokerFact, BrokerImage, QueueMessages};
use super::history::is_history;
use super::message::Head;
use super::queue::{Arrival, Delivered, NodeRules, Recovered};
use super::state::State;
use crate::catalog::Catalog;
use crate::chance::Chance;
use crate::clock::{Clock, Wall};
use crate::queue::{Command, Entry, NEVER};

/// What recovery has found of the broker so far.
#[derive(Debug, Default)]
pub(crate) struct BrokerRecovery {
    state: State,
    /// Came before the broker they belong to.
    extras: Option<BrokerExtras>,
    restored: bool,
    queues: HashMap<StreamId, Found>,
}

/// The messages of one queue.
#[derive(Debug, Default)]
struct Found {
    /// What the snapshot contains.
    applied: Lsn,
    /// The newest frame about it.
    newest: Lsn,
    messages: BTreeMap<Lsn, Recovered>,
    /// Those of a waiting room that the snapshot has.
    delayed: Option<Box<Delayed>>,
    /// What is known of deliveries, and where the log says so.
    delivered: (Delivered, Lsn),
}

impl BrokerRecovery {
    /// The snapshot's broker.
    pub(crate) fn restore(&mut self, applied: Lsn, image: BrokerImage) {
        self.state = State::restore(image, applied);
        self.restored = true;
        if let Some(extras) = self.extras.take() {
            self.state.adopt(extras);
        }
    }

    /// What the snapshot has beside its broker.
    pub(crate) fn restore_extras(&mut self, extras: BrokerExtras) {
        if self.restored {
            self.state.adopt(extras);
        } else {
            self.extras = Some(extras);
        }
    }

    /// The snapshot's messages of a queue.
    pub(crate) fn restore_queue(&mut self, stream: StreamId, applied: Lsn, image: QueueMessages) {
        let found = self.queues.entry(stream).or_default();
        found.applied = applied;
        let mut place = 0;
        for message in image.messages {
            place += message.step;
            let arrival = Arrival::Known {
                expires_at: message.expires_at.map_or(NEVER, Wall),
                priority: message.priority,
                immediate: message.immediate,
            };
            let recovered = Recovered {
                arrival,
                bytes: message.bytes,
                delivery_count: message.delivery_count,
                acquired_count: message.acquired_count,
            };
            found.messages.insert(Lsn(place), recovered);
        }
    }

    /// A piece of the snapshot's messages of a waiting room.
    pub(crate) fn restore_delayed(
        &mut self,
        stream: StreamId,
        applied: Lsn,
        bytes: &[u8],
    ) -> Result<(), String> {
        let found = self.queues.entry(stream).or_default();
        found.applied = applied;
        found.delayed.get_or_insert_default().restore(bytes)
    }

    /// What the snapshot knows of a queue's deliveries.
    pub(crate) fn restore_delivered(&mut self, stream: StreamId, applied: Lsn, of: Delivered) {
        let delivered = (Delivered { said: applied.0, ..of }, applied);
        self.queues.entry(stream).or_default().delivered = delivered;
    }

    /// A fact of the broker in a frame of the log.
    pub(crate) fn fact(&mut self, frame: Lsn, item: Lsn, fact: BrokerFact) {
        if let BrokerFact::Delivered { queue, open, upto } = fact {
            let found = self.queues.entry(StreamId(queue)).or_default();
            if found.delivered.1 < frame {
                found.delivered = (Delivered { open, upto, said: frame.0 }, frame);
            }
            return;
        }
        let BrokerFact::Counted { queue, counts } = &fact else {
            self.state.apply(item, fact);
            return;
        };
        let Some(found) = self.queues.get_mut(&StreamId(*queue)) else { return };
        if found.applied >= frame {
            return;
        }
        found.newest = frame;
        for (place, deliveries, acquired) in counts {
            if let Some(message) = found.messages.get_mut(&Lsn(*place)) {
                message.delivery_count = *deliveries;
                message.acquired_count = *acquired;
            }
        }
    }

    /// Messages that came and went in a frame of the log.
    pub(crate) fn item(&mut self, frame: Lsn, item: &ReplayItem<'_>) -> Result<(), String> {
        match &item.fact {
            ReplayFact::Message(queues, body) => {
                let head = Head::decode(body)
                    .ok_or_else(|| format!("the message at {} is not one of a queue", item.lsn))?;
                for queue in queues {
                    let found = self.queues.entry(*queue).or_default();
                    if found.applied < frame {
                        let recovered = Recovered {
                            arrival: Arrival::Head(head),
                            bytes: head.bytes,
                            delivery_count: 0,
                            acquired_count: 0,
                        };
                        found.messages.insert(item.lsn, recovered);
                        found.newest = frame;
                    }
                }
            }
            ReplayFact::Settle(queue, messages) => {
                if let Some(found) = self.queues.get_mut(queue).filter(|f| f.applied < frame) {
                    for message in messages {
                        if found.messages.remove(message).is_none()
                            && let Some(delayed) = &mut found.delayed
                        {
                            delayed.remove(message.0);
                        }
                    }
                    found.newest = frame;
                }
            }
            ReplayFact::Delete(stream) => drop(self.queues.remove(stream)),
            _ => {}
        }
        Ok(())
    }

    /// The broker, running.
    pub(crate) fn start(
        self,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        catalog: Arc<RwLock<Catalog>>,
        node: NodeRules,
        seed: u64,
    ) -> Broker {
        let queues: Vec<_> = self.state.queues.values().cloned().collect();
        let remembers =
            self.state.vhosts.values().any(|vhost| {
                vhost.topology.exchanges().any(|known| is_history(&known.kind.routing))
            });
        let broker = Broker {
            store,
            clock,
            node,
            state: RwLock::new(self.state),
            changes: 0.into(),
            catalog,
            has_streams: false.into(),
            has_history: remembers.into(),
            pending: Mutex::default(),
            timers: Mutex::default(),
            replies: Mutex::default(),
            stalled: Mutex::default(),
            unforgotten: Mutex::default(),
            connections: Mutex::default(),
            chance: Mutex::new(Chance::new(seed)),
            next: 1.into(),
            published: 0.into(),
            gone: Mutex::default(),
            memory: 0.into(),
        };
        broker.adopt_streams();
        let mut found = self.queues;
        for queue in queues {
            broker.configure(&queue);
            let Some(found) = found.remove(&queue.id) else { continue };
            let now = broker.clock.now();
            let mut work = Work::default();
            {
                let mut state = queue.lock();
                state.applied = found.applied.max(found.newest);
                state.delivered = found.delivered.0;
                if state.delayed.is_some() {
                    state.wait_again(found.delayed, &found.messages);
                    broker.watch(&queue, &mut state);
                    continue;
                }
                let entries: Vec<Entry> =
                    found.messages.iter().map(|(lsn, found)| state.recover(*lsn, found)).collect();
                let command = Command::Visible { entries: &entries };
                broker.apply(&queue, &mut state, command, now, &mut work);
                broker.say_delivered_at_start(&queue, &mut state);
            }
            broker.finish(work, now);
        }
        broker
    }
}
