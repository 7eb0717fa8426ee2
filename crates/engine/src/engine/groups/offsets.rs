//! Committing and reading how far groups have come.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard};

use ottla_store::{Lsn, Purpose, Refused};

use super::{FACT_BYTES, Group, GroupCell, GroupRefused};
use crate::catalog::Catalog;
use crate::clock::Now;
use crate::engine::Engine;
use crate::group::assignor::TopicId;
use crate::group::classic::{CommitError, Committer};
use crate::group::offsets::{Commit, OffsetError, Offsets, OffsetsRecord};
use crate::group::{GroupId, GroupRecord};
use crate::topic::{PartitionId, Topic};
use crate::txn::ProducerId;

/// Why one offset was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitFailure {
    /// Kafka: `UNKNOWN_TOPIC_OR_PARTITION` (3).
    #[error("no such partition")]
    UnknownPartition,
    /// The offset itself was refused.
    #[error(transparent)]
    Offset(#[from] OffsetError),
}

/// Why nothing was committed. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitRefused {
    /// By the group's rules.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// By the engine.
    #[error(transparent)]
    Group(#[from] GroupRefused),
}

impl From<Refused> for CommitRefused {
    fn from(refused: Refused) -> Self {
        Self::Group(GroupRefused::Refused(refused))
    }
}

/// One result for each offset, in order, and the place that the reply waits for.
pub type Commits = (Vec<Result<(), CommitFailure>>, Lsn);

impl Engine {
    /// OffsetCommit: a result for each offset in order. The reply waits for the returned place.
    pub fn commit_offsets(
        &self,
        id: &GroupId,
        who: &Committer,
        commits: Vec<Commit>,
        retention_ms: Option<u64>,
    ) -> Result<Commits, CommitRefused> {
        self.commit(id, who, commits, None, |offsets, commits, now| {
            offsets.commit(commits, retention_ms, now.wall)
        })
    }

    /// TxnOffsetCommit, once the transaction is known to hold the group.
    pub(in crate::engine) fn commit_pending(
        &self,
        id: &GroupId,
        who: &Committer,
        commits: Vec<Commit>,
        producer: ProducerId,
    ) -> Result<Commits, CommitRefused> {
        self.commit(id, who, commits, Some(producer), |offsets, commits, now| {
            offsets.commit_pending(producer, commits, now.wall)
        })
    }

    fn commit(
        &self,
        id: &GroupId,
        who: &Committer,
        commits: Vec<Commit>,
        producer: Option<ProducerId>,
        act: impl FnOnce(
            &mut Offsets,
            Vec<Commit>,
            Now,
        ) -> (Vec<Result<(), OffsetError>>, Option<OffsetsRecord>),
    ) -> Result<Commits, CommitRefused> {
        let now = self.now();
        let reservation = self.store.reserve(Purpose::Shrink, 1, commits_bytes(&commits))?;
        if self.groups.find(id).is_none() {
            who.check_absent()?;
        }
        let catalog = self.catalog(); // no topic goes away meanwhile, see `delete_topic`
        let (known, commits) = split_known(&catalog, commits);
        let done = self.with_group(id, true, |group| {
            group.machine.check_commit(who, producer.is_some(), now)?;
            let (results, record) = act(group.machine.offsets_mut(), commits, now);
            let records = record.into_iter().map(GroupRecord::Offsets).collect();
            self.log_group(group, reservation, records);
            Ok::<_, CommitError>((results, group.changed))
        })?;
        drop(catalog);
        let (results, lsn) = done.ok_or(CommitError::Dead)??;
        let mut results = results.into_iter();
        let merged = known.into_iter().map(|known| match known {
            true => results.next().unwrap_or(Ok(())).map_err(CommitFailure::from),
            false => Err(CommitFailure::UnknownPartition),
        });
        Ok((merged.collect(), lsn))
    }

    /// OffsetDelete: `false` if there is no such group. The reply waits for the returned place.
    pub fn delete_offsets(
        &self,
        id: &GroupId,
        partitions: &[(Arc<str>, i32)],
    ) -> Result<(bool, Lsn), GroupRefused> {
        let bytes: usize = partitions.iter().map(|(topic, _)| topic.len() + 16).sum();
        let reservation = self.store.reserve(Purpose::Shrink, 1, bytes + FACT_BYTES)?;
        let done = self.with_group(id, false, |group| {
            let record = group.machine.offsets_mut().delete(partitions);
            let records = record.into_iter().map(GroupRecord::Offsets).collect();
            self.log_group(group, reservation, records);
            group.changed
        })?;
        Ok(done.map_or((false, self.groups.removed()), |lsn| (true, lsn)))
    }

    /// The groups that have offsets of a topic or share it, by name.
    pub(in crate::engine) fn groups_on(&self, topic: &Topic) -> Vec<Arc<GroupCell>> {
        let mut cells = self.groups.all();
        cells.retain(|cell| {
            let group = cell.lock();
            let share = group.machine.as_share();
            group.machine.offsets().concerns(topic.name())
                || share.is_some_and(|share| share.topics().contains(&TopicId(topic.id().0)))
        });
        cells
    }
}

/// A topic's offsets go with it: the fact is the catalogue's, and the groups, locked since before it
/// was appended, take it as theirs.
pub(in crate::engine) fn forget_topic(
    groups: &mut [MutexGuard<'_, Group>],
    topic: &Topic,
    lsn: Lsn,
) {
    for group in groups {
        let offsets = group.machine.offsets_mut().delete_topic(topic.name()).is_some();
        let gone = BTreeSet::from([TopicId(topic.id().0)]);
        let share = group.machine.as_share_mut();
        if share.and_then(|share| share.forget(gone)).is_some() || offsets {
            group.changed = lsn;
        }
    }
}

/// For each offset whether its partition exists, and those whose does.
fn split_known(catalog: &Catalog, commits: Vec<Commit>) -> (Vec<bool>, Vec<Commit>) {
    let mut missing = BTreeSet::new();
    let mut known = Vec::with_capacity(commits.len());
    for (place, commit) in commits.iter().enumerate() {
        let topic = catalog.topic(&commit.topic);
        let exists = topic.is_some_and(|t| t.partition(PartitionId(commit.partition)).is_some());
        known.push(exists);
        if !exists {
            missing.insert(place);
        }
    }
    let kept = commits.into_iter().enumerate().filter(|(place, _)| !missing.contains(place));
    (known, kept.map(|(_, commit)| commit).collect())
}

fn commits_bytes(commits: &[Commit]) -> usize {
    let bytes: usize =
        commits.iter().map(|commit| commit.topic.len() + commit.metadata.len() + 64).sum();
    bytes + FACT_BYTES
}
