//! How far a group has come: committed offsets, those pending in a transaction, and their expiry
//! (research/kafka.md 2.4, 2.5). Knows no members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::txn::{Outcome, ProducerId};

/// Bytes of the string that a client may store with an offset (`offset.metadata.max.bytes`).
pub const METADATA_BYTES_MAX: usize = 4096;

/// Kafka's `offsets.retention.minutes`, 7 days, in milliseconds.
pub const RETENTION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The next record to read.
    pub offset: i64,
    /// The leader epoch that the client knew; `None` if it sent -1.
    pub leader_epoch: Option<i32>,
    /// The client's own string, given back verbatim.
    pub metadata: Arc<str>,
    /// When.
    pub at: Wall,
    /// Set by OffsetCommit v2 to v4 with a retention time: expires then, whatever the group does.
    pub expires: Option<Wall>,
    /// The how manieth commit of the group: the newest wins, also over a transaction's end.
    pub order: u64,
}

/// One offset that a client commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The next record to read.
    pub offset: i64,
    /// `None` for -1.
    pub leader_epoch: Option<i32>,
    /// At most [`METADATA_BYTES_MAX`] bytes.
    pub metadata: Arc<str>,
}

/// One fact about a group's offsets. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OffsetsRecord {
    /// OffsetCommit.
    Committed {
        /// Topic, partition, offset.
        entries: Vec<(Arc<str>, i32, Committed)>,
    },
    /// TxnOffsetCommit: visible once the producer's transaction commits.
    Pending {
        /// Whose transaction.
        producer: ProducerId,
        /// Topic, partition, offset.
        entries: Vec<(Arc<str>, i32, Committed)>,
    },
    /// The producer's transaction has ended. Part of the one frame of EndTxn (store.md rule 18).
    Ended {
        /// Whose transaction.
        producer: ProducerId,
        /// How.
        outcome: Outcome,
    },
    /// Offsets are gone: deleted or expired.
    Deleted {
        /// Topic and partition.
        entries: Vec<(Arc<str>, i32)>,
    },
    /// A topic is gone and its offsets with it (store.md rule 12), pending ones too.
    TopicDeleted {
        /// The topic's name.
        topic: Arc<str>,
    },
}

/// Why one offset was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetError {
    /// `OFFSET_METADATA_TOO_LARGE` (12).
    #[error("the metadata is longer than {METADATA_BYTES_MAX} bytes")]
    MetadataTooLarge,
}

/// Why an offset cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// `UNSTABLE_OFFSET_COMMIT` (88): asked with `RequireStable` while a transaction may change it.
    #[error("a transaction holds an offset of this partition")]
    Unstable,
}

/// What decides whether offsets of a group expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use<'a> {
    /// Nobody ever joined: each offset expires counting from its commit.
    Simple,
    /// All members have left: everything expires counting from then.
    EmptySince(Wall),
    /// Members exist: offsets of topics that none of them subscribes to expire counting from their
    /// commit; `None` if the subscriptions are not known, so that nothing expires.
    Subscribed(Option<&'a BTreeSet<Arc<str>>>),
}

/// The offsets of one group.
///
/// Invariant: equal to the fold of every record returned by its methods, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    committed: BTreeMap<Arc<str>, BTreeMap<i32, Committed>>,
    pending: BTreeMap<ProducerId, BTreeMap<(Arc<str>, i32), Committed>>,
    order: u64,
}

impl Offsets {
    /// OffsetCommit: a result for each offset in order, and what must be logged, if anything.
    ///
    /// The caller has checked the group's rules and that the partitions exist. The record is applied
    /// already; the reply waits for it.
    pub fn commit(
        &mut self,
        commits: Vec<Commit>,
        retention_ms: Option<u64>,
        now: Wall,
    ) -> (Vec<Result<(), OffsetError>>, Option<OffsetsRecord>) {
        let expires = retention_ms.map(|ms| now.after(ms));
        let (results, entries) = self.entries(commits, expires, now);
        let record = (!entries.is_empty()).then_some(OffsetsRecord::Committed { entries });
        (results, self.applied(record))
    }

    /// TxnOffsetCommit: as [`commit`](Self::commit), but nothing is visible before the transaction's
    /// end.
    pub fn commit_pending(
        &mut self,
        producer: ProducerId,
        commits: Vec<Commit>,
        now: Wall,
    ) -> (Vec<Result<(), OffsetError>>, Option<OffsetsRecord>) {
        let (results, entries) = self.entries(commits, None, now);
        let record = (!entries.is_empty()).then_some(OffsetsRecord::Pending { producer, entries });
        (results, self.applied(record))
    }

    /// The end of a producer's transaction; the record goes into the frame of EndTxn.
    pub fn end(&mut self, producer: ProducerId, outcome: Outcome) -> Option<OffsetsRecord> {
        let concerned = self.pending.contains_key(&producer);
        self.applied(concerned.then_some(OffsetsRecord::Ended { producer, outcome }))
    }

    /// OffsetDelete, and the administrator's reset; offsets that do not exist are no error.
    pub fn delete(&mut self, partitions: &[(Arc<str>, i32)]) -> Option<OffsetsRecord> {
        let exists = |(topic, partition): &&(Arc<str>, i32)| {
            self.committed.get(topic).is_some_and(|found| found.contains_key(partition))
        };
        let entries: Vec<_> = partitions.iter().filter(exists).cloned().collect();
        let record = (!entries.is_empty()).then_some(OffsetsRecord::Deleted { entries });
        self.applied(record)
    }

    /// A topic was deleted (store.md rule 12).
    pub fn delete_topic(&mut self, topic: &Arc<str>) -> Option<OffsetsRecord> {
        let concerned = self.concerns(topic);
        let topic = Arc::clone(topic);
        self.applied(concerned.then_some(OffsetsRecord::TopicDeleted { topic }))
    }

    /// Whether there is a committed or pending offset of the topic.
    #[must_use]
    pub fn concerns(&self, topic: &str) -> bool {
        self.committed.contains_key(topic)
            || self.pending.values().any(|held| held.keys().any(|(name, _)| &**name == topic))
    }

    /// Drops what was kept long enough; asked for now and then. An offset that a transaction is about
    /// to change stays.
    pub fn expire(&mut self, used: Use<'_>, retention_ms: u64, now: Wall) -> Option<OffsetsRecord> {
        let mut entries = Vec::new();
        for (topic, partitions) in &self.committed {
            for (partition, committed) in partitions {
                let due = is_due(topic, committed, used, retention_ms, now);
                if due && !self.is_held(topic, *partition) {
                    entries.push((Arc::clone(topic), *partition));
                }
            }
        }
        let record = (!entries.is_empty()).then_some(OffsetsRecord::Deleted { entries });
        self.applied(record)
    }

    /// The committed offset of one partition. With `stable`, not while a transaction may change it
    /// (OffsetFetch v7+ `RequireStable`).
    pub fn fetch(
        &self,
        topic: &str,
        partition: i32,
        stable: bool,
    ) -> Result<Option<&Committed>, FetchError> {
        if stable && self.is_held(topic, partition) {
            return Err(FetchError::Unstable);
        }
        Ok(self.committed.get(topic).and_then(|partitions| partitions.get(&partition)))
    }

    /// Every committed offset, by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Committed)> {
        self.committed.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic, *partition, committed))
        })
    }

    /// Whether a transaction may change the partition's offset.
    #[must_use]
    pub fn is_held(&self, topic: &str, partition: i32) -> bool {
        let key = (Arc::<str>::from(topic), partition);
        !self.pending.is_empty() && self.pending.values().any(|held| held.contains_key(&key))
    }

    /// Whether there is neither a committed nor a pending offset.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Applies a record read from the log.
    pub fn replay(&mut self, record: OffsetsRecord) {
        match record {
            OffsetsRecord::Committed { entries } => {
                for (topic, partition, committed) in entries {
                    self.put(topic, partition, committed);
                }
            }
            OffsetsRecord::Pending { producer, entries } => {
                let held = self.pending.entry(producer).or_default();
                for (topic, partition, committed) in entries {
                    self.order = self.order.max(committed.order);
                    held.insert((topic, partition), committed);
                }
            }
            OffsetsRecord::Ended { producer, outcome } => {
                let held = self.pending.remove(&producer).unwrap_or_default();
                if outcome == Outcome::Commit {
                    for ((topic, partition), committed) in held {
                        self.put(topic, partition, committed);
                    }
                }
            }
            OffsetsRecord::Deleted { entries } => {
                for (topic, partition) in entries {
                    self.remove(&topic, partition);
                }
            }
            OffsetsRecord::TopicDeleted { topic } => {
                self.committed.remove(&topic);
                for held in self.pending.values_mut() {
                    held.retain(|(name, _), _| *name != topic);
                }
                self.pending.retain(|_, held| !held.is_empty());
            }
        }
    }

    fn applied(&mut self, record: Option<OffsetsRecord>) -> Option<OffsetsRecord> {
        if let Some(record) = record.clone() {
            self.replay(record);
        }
        record
    }

    #[expect(clippy::type_complexity, reason = "the two halves go to different places at once")]
    fn entries(
        &self,
        commits: Vec<Commit>,
        expires: Option<Wall>,
        at: Wall,
    ) -> (Vec<Result<(), OffsetError>>, Vec<(Arc<str>, i32, Committed)>) {
        let mut results = Vec::with_capacity(commits.len());
        let mut entries = Vec::with_capacity(commits.len());
        let mut order = self.order;
        for commit in commits {
            let Commit { topic, partition, offset, leader_epoch, metadata } = commit;
            if metadata.len() > METADATA_BYTES_MAX {
                results.push(Err(OffsetError::MetadataTooLarge));
                continue;
            }
            order += 1;
            let committed = Committed { offset, leader_epoch, metadata, at, expires, order };
            entries.push((topic, partition, committed));
            results.push(Ok(()));
        }
        (results, entries)
    }

    fn put(&mut self, topic: Arc<str>, partition: i32, committed: Committed) {
        self.order = self.order.max(committed.order);
        let partitions = self.committed.entry(topic).or_default();
        // a commit that was made after the transaction's stays when the transaction ends
        if partitions.get(&partition).is_none_or(|known| known.order <= committed.order) {
            partitions.insert(partition, committed);
        }
    }

    fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.committed.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.committed.remove(topic);
            }
        }
    }
}

fn is_due(
    topic: &Arc<str>,
    committed: &Committed,
    used: Use<'_>,
    retention_ms: u64,
    now: Wall,
) -> bool {
    let since = match used {
        Use::Simple => committed.at,
        Use::EmptySince(at) => at,
        Use::Subscribed(Some(topics)) if !topics.contains(topic) => committed.at,
        Use::Subscribed(_) => return false,
    };
    now >= committed.expires.unwrap_or_else(|| since.after(retention_ms))
}

#[cfg(test)]
mod tests;
