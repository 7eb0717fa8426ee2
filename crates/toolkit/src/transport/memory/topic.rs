//! A topic in memory: partitions that only grow, and where each group is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::transport::log::{Group, PartitionLog, Piece, partition_of};

#[derive(Debug)]
pub(super) struct MemoryTopic {
    state: Mutex<State>,
    arrivals: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Vec<Envelope>>,
    groups: HashMap<String, Arc<Group>>,
    positions: HashMap<(String, u32), u64>,
    turn: u32,
    closed: bool,
}

impl MemoryTopic {
    pub(super) fn new(partitions: u32) -> Self {
        let state = State {
            partitions: (0..partitions).map(|_| Vec::new()).collect(),
            groups: HashMap::new(),
            positions: HashMap::new(),
            turn: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), arrivals: watch::Sender::new(0) }
    }

    pub(super) fn publish(&self, batch: impl IntoIterator<Item = Envelope>) {
        let mut state = self.state();
        let count = u32::try_from(state.partitions.len()).unwrap_or(1);
        for envelope in batch {
            let partition = match &envelope.key {
                Some(key) => partition_of(key, count),
                None => state.turn % count,
            };
            state.turn = state.turn.wrapping_add(1);
            if let Some(partition) = state.partitions.get_mut(index(partition)) {
                partition.push(envelope);
            }
        }
        drop(state);
        self.arrivals.send_modify(|version| *version += 1);
    }

    /// Nobody reads from it any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.arrivals.send_modify(|version| *version += 1);
    }

    pub(super) fn group(&self, name: &str) -> Arc<Group> {
        let mut state = self.state();
        let group = state.groups.entry(name.to_owned());
        Arc::clone(group.or_insert_with(|| Arc::new(Group::new())))
    }

    pub(super) fn lag(&self, group: &str) -> u64 {
        let state = self.state();
        let behind = (0..).zip(&state.partitions).map(|(number, partition)| {
            let position = state.positions.get(&(group.to_owned(), number)).copied().unwrap_or(0);
            length(partition).saturating_sub(position)
        });
        behind.sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionLog for MemoryTopic {
    fn partitions(&self) -> u32 {
        u32::try_from(self.state().partitions.len()).unwrap_or(u32::MAX)
    }

    fn bounds(&self, partition: u32) -> Result<(u64, u64)> {
        Ok((0, self.state().partitions.get(index(partition)).map_or(0, |p| length(p))))
    }

    fn read(&self, partition: u32, from: u64, max: usize) -> Result<Piece> {
        let state = self.state();
        if state.closed {
            return Err(Error::Closed("the memory broker"));
        }
        let all = state.partitions.get(index(partition)).map_or(&[][..], Vec::as_slice);
        let first = usize::try_from(from).unwrap_or(usize::MAX).min(all.len());
        let rest = all.get(first..).unwrap_or_default();
        let records: Vec<_> = (from..).zip(rest.iter().take(max).cloned()).collect();
        let next = records.last().map_or(from, |(last, _)| last + 1);
        Ok(Piece { records, next })
    }

    fn committed(&self, group: &str, partition: u32) -> Option<u64> {
        self.state().positions.get(&(group.to_owned(), partition)).copied()
    }

    fn commit(&self, group: &str, positions: &[(u32, u64)]) -> Result<()> {
        let mut state = self.state();
        for (partition, position) in positions {
            state.positions.insert((group.to_owned(), *partition), *position);
        }
        Ok(())
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

fn index(partition: u32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}

fn length(partition: &[Envelope]) -> u64 {
    u64::try_from(partition.len()).unwrap_or(u64::MAX)
}
