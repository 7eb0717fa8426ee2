//! Topics and queues in memory: for tests, under tokio's time, and for programs whose messages may die
//! with them.

mod queue;
mod topic;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::queue::MemoryQueue;
use self::topic::MemoryTopic;
use super::log::{Reading, subscribe};
use super::{BoxFuture, Caps, Parcel, RawFeed, Subscription, Transport};
use crate::address::Address;
use crate::error::{Error, Result};

/// A broker in memory. Everything is gone with it.
///
/// Retried and delayed messages wait in tokio's time, so a test under `tokio::time::pause` waits for
/// nothing.
#[derive(Debug)]
pub struct Memory {
    partitions: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<String, Arc<MemoryTopic>>,
    queues: HashMap<String, Arc<MemoryQueue>>,
    closed: bool,
}

impl Memory {
    /// Topics get this many partitions: as many consumers of a group can work at a time.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { partitions: partitions.max(1), state: Mutex::default() }
    }

    fn topic(&self, name: &str) -> Result<Arc<MemoryTopic>> {
        let mut state = self.open()?;
        if let Some(topic) = state.topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        let topic = Arc::new(MemoryTopic::new(self.partitions));
        state.topics.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    fn queue(&self, name: &str) -> Result<Arc<MemoryQueue>> {
        let mut state = self.open()?;
        if let Some(queue) = state.queues.get(name) {
            return Ok(Arc::clone(queue));
        }
        let queue = Arc::new(MemoryQueue::new());
        state.queues.insert(name.to_owned(), Arc::clone(&queue));
        Ok(queue)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(Error::Closed("the memory broker")) } else { Ok(state) }
    }

    fn publish_now(&self, to: &Address, batch: Vec<Parcel>) -> Result<()> {
        match to {
            Address::Queue(name) => self.queue(name)?.publish(batch),
            Address::Topic(name) => {
                let topic = self.topic(name)?;
                topic.publish(batch.into_iter().map(|parcel| parcel.envelope));
            }
        }
        Ok(())
    }

    fn subscribe_now(&self, to: &Subscription) -> Result<RawFeed> {
        match &to.source {
            Address::Queue(name) => Ok(queue::subscribe(&self.queue(name)?, to.max_in_flight)),
            Address::Topic(name) => {
                let topic = self.topic(name)?;
                let group = to.group.as_ref().map(|name| (name.clone(), topic.group(name)));
                Ok(subscribe(Reading { log: topic, group, max_in_flight: to.max_in_flight }))
            }
        }
    }
}

impl Transport for Memory {
    fn caps(&self) -> Caps {
        Caps {
            keyed_order: true,
            replay: true,
            redelivery_count: false,
            durable: false,
            selective_ack: true,
        }
    }

    fn publish<'a>(&'a self, to: &'a Address, batch: Vec<Parcel>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.publish_now(to, batch) })
    }

    fn subscribe<'a>(&'a self, to: &'a Subscription) -> BoxFuture<'a, Result<RawFeed>> {
        Box::pin(async move { self.subscribe_now(to) })
    }

    fn depth<'a>(&'a self, at: &'a Address, group: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            Ok(match at {
                Address::Queue(name) => self.queue(name)?.depth(),
                Address::Topic(name) => self.topic(name)?.lag(group),
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let open = std::mem::replace(&mut *state, State { closed: true, ..State::default() });
            drop(state);
            open.topics.values().for_each(|topic| topic.close());
            open.queues.values().for_each(|queue| queue.close());
            Ok(())
        })
    }
}
