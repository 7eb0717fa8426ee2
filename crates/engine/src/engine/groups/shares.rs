//! Share groups (KIP-932) in the engine: records read from partitions, held and settled in groups.

use std::collections::BTreeSet;
use std::task::Waker;

use bytes::Bytes;
use ottla_store::batch::BatchHeader;
use ottla_store::{Lsn, Offset, Purpose, ReadError, Refused};

use super::dead_letters::BURIED_BYTES;
use super::share_config::{ShareConfig, ShareReset};
use super::{ConsumerRefused, FACT_BYTES, GroupRefused};
use crate::engine::Engine;
use crate::engine::groups::consumers::Known;
use crate::group::assignor::{Part, TopicId};
use crate::group::share::{
    AckBatch, AckError, Acquired, Lag, ShareBeat, ShareBeatError, ShareBeaten, ShareGroup,
    ShareRecord, Span, Take,
};
use crate::group::{Group, GroupId, GroupRecord, MemberId, OtherProtocol};
use crate::topic::{Fetched, Partition};

/// How much a member wants of one partition.
#[derive(Clone, Copy, Debug)]
pub struct ShareWant {
    /// Records; unless `strict`, the batch that reaches the number is given whole.
    pub records_max: u32,
    /// Bytes; at least one batch is given.
    pub bytes_max: usize,
    /// Records of one acquired range.
    pub batch_size: u32,
    /// Never more than `records_max`.
    pub strict: bool,
    /// Give up (`None`) if the disk would have to be read.
    pub cached_only: bool,
}

/// Records that a member now holds.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Whole batches that contain them, in order.
    pub pieces: Vec<Bytes>,
    /// The ranges.
    pub acquired: Vec<Acquired>,
    /// The reply waits for this place.
    pub lsn: Lsn,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareFetchError {
    /// By the group.
    #[error(transparent)]
    Group(#[from] ConsumerRefused),
    /// By the partition.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<GroupRefused> for ShareFetchError {
    fn from(refused: GroupRefused) -> Self {
        Self::Group(refused.into())
    }
}

/// One result for each partition, in order, and the place that the reply waits for.
pub type ShareAcks = (Vec<Result<(), AckError>>, Lsn);

impl Engine {
    /// What is set of a group.
    pub fn share_config(&self, id: &GroupId) -> ShareConfig {
        ShareConfig::of(self.catalog().group_settings(id.as_str()))
    }

    /// ShareGroupHeartbeat. The reply waits for the returned place, also when it is an error.
    pub fn share_heartbeat(
        &self,
        id: &GroupId,
        beat: &ShareBeat,
    ) -> Result<(Result<ShareBeaten, ShareBeatError>, Lsn), ConsumerRefused> {
        let now = self.now();
        let catalog = self.catalog();
        let config = ShareConfig::of(catalog.group_settings(id.as_str()));
        let topics: usize = beat.topics.iter().flatten().map(|topic| topic.len() + 64).sum();
        let done = self.with_group(id, beat.epoch == 0, |group| {
            if let Some(share) = group.machine.as_share_mut() {
                share.configure(config.settings);
            }
            let members =
                group.machine.as_share().map_or(0, |share| share.remembered().members.len());
            let reservation = self.reserve_group(group, topics + FACT_BYTES * (members + 1))?;
            let (answer, records) = group.machine.share(beat, &Known(&catalog), now)?;
            self.log_group(group, reservation, records);
            Ok((answer, group.changed))
        })?;
        done.unwrap_or(Err(ConsumerRefused::NotFound))
    }

    /// Gives a member records of a partition. `Ok(None)`: memory alone was asked for and not enough.
    pub fn share_fetch(
        &self,
        id: &GroupId,
        member: &MemberId,
        partition: &Partition,
        want: ShareWant,
    ) -> Result<Option<Shared>, ShareFetchError> {
        let part = part_of(partition);
        let config = self.share_config(id);
        let Some(begin) = self.share_begin(id, partition, config, want.cached_only)? else {
            return Ok(None);
        };
        for _ in 0..TRIES_MAX {
            let (next, lsn) = self.share_next(id, partition, config, begin)?;
            let Some(from) = next else { return Ok(Some(Shared { lsn, ..Shared::default() })) };
            let (bytes_max, cached) = (want.bytes_max, want.cached_only);
            let read =
                partition.fetch(&self.store, Offset(from), bytes_max, config.isolation, cached);
            let fetched = match read {
                Ok(Some(fetched)) => fetched,
                Ok(None) => return Ok(None),
                Err(ReadError::OutOfRange { .. }) => continue, // trimmed meanwhile
                Err(error) => return Err(error.into()),
            };
            let batches = batches(&fetched);
            let spans: Vec<Span> = batches.iter().map(|(span, _)| *span).collect();
            if spans.is_empty() {
                return Ok(Some(Shared { lsn, ..Shared::default() }));
            }
            let take = Take {
                member,
                from,
                spans: &spans,
                records_max: want.records_max,
                strict: want.strict,
                batch_size: want.batch_size,
                locks_max: config.settings.locks_max,
            };
            let (acquired, lsn) = self.share_acquire(id, part, &take)?;
            if !acquired.is_empty() {
                let pieces = containing(batches, &acquired);
                return Ok(Some(Shared { pieces, acquired, lsn }));
            }
        }
        Ok(Some(Shared::default())) // others were faster, or all of it was aborted: ask again
    }

    /// Where a group that has not shared a partition yet would begin in it. `None`: memory alone was
    /// asked for, and a search by time needs more.
    fn share_begin(
        &self,
        id: &GroupId,
        partition: &Partition,
        config: ShareConfig,
        cached_only: bool,
    ) -> Result<Option<Offset>, ShareFetchError> {
        let found = match config.reset {
            ShareReset::Earliest => self.earliest(partition)?,
            ShareReset::Latest => self.latest(partition, config.isolation)?,
            ShareReset::ByDuration(ms) => {
                let part = part_of(partition);
                let read = |group: &Group| group.as_share().is_some_and(|share| share.shares(part));
                if self.read_group(id, read).0 == Some(true) {
                    return Ok(Some(Offset::ZERO)); // it stands somewhere: this is not used
                }
                if cached_only {
                    return Ok(None);
                }
                let since = self.now().wall.0.saturating_sub(ms).max(0);
                match self.at_or_after(partition, since, config.isolation)? {
                    Some(found) => found,
                    None => self.latest(partition, config.isolation)?,
                }
            }
        };
        Ok(Some(found.offset))
    }

    /// Where to read next, beginning to share the partition at `begin` if need be.
    fn share_next(
        &self,
        id: &GroupId,
        partition: &Partition,
        config: ShareConfig,
        begin: Offset,
    ) -> Result<(Option<i64>, Lsn), ShareFetchError> {
        let part = part_of(partition);
        let first = self.earliest(partition)?.offset;
        let now = self.now();
        let done = self.share_change(id, FACT_BYTES, |share| {
            share.configure(config.settings);
            let mut records = Vec::new();
            if !share.shares(part) {
                records.push(share.start(part, begin.0, now));
            }
            let (next, more) = share.next(part, first.0);
            records.extend(more);
            (next, records)
        })?;
        Ok(done)
    }

    fn share_acquire(
        &self,
        id: &GroupId,
        part: Part,
        take: &Take<'_>,
    ) -> Result<(Vec<Acquired>, Lsn), ConsumerRefused> {
        let now = self.now();
        let bytes = take.spans.len() * CHANGE_BYTES;
        self.share_change(id, bytes, |share| share.acquire(part, take, now))
    }

    /// Acknowledgements, each partition judged on its own. The reply waits for the returned place.
    ///
    /// What is given up has its dead letters, too, unless there is no room for them or there are too many for
    /// one call: [`bury`](Self::bury) writes those. Reads from the disk if the group has a dead-letter topic
    /// ([`share_buries`](Self::share_buries)).
    pub fn share_acknowledge(
        &self,
        id: &GroupId,
        member: &MemberId,
        parts: &[(Part, Vec<AckBatch>)],
    ) -> Result<ShareAcks, ConsumerRefused> {
        let (results, mut lsn) = self.acknowledge_parts(id, member, parts)?;
        let now = self.now();
        if self.groups.burials.is_due_for(id, now.monotonic) {
            let mut left = BURIED_BYTES;
            self.bury_group(id, now, &mut left);
            lsn = lsn.max(self.read_group(id, |_| ()).1);
        }
        self.wake_share(id); // released records, and room in the window
        Ok((results, lsn))
    }

    fn acknowledge_parts(
        &self,
        id: &GroupId,
        member: &MemberId,
        parts: &[(Part, Vec<AckBatch>)],
    ) -> Result<ShareAcks, ConsumerRefused> {
        let now = self.now();
        let config = self.share_config(id);
        let bytes = parts.iter().flat_map(|(_, batches)| batches).map(ack_bytes).sum::<usize>();
        self.share_change(id, bytes + parts.len() * CHANGE_BYTES, |share| {
            share.configure(config.settings);
            let mut records = Vec::new();
            let one = |(part, batches): &(Part, Vec<AckBatch>)| {
                records.extend(share.acknowledge(*part, member, batches, now)?);
                Ok(())
            };
            let results = parts.iter().map(one).collect();
            (results, records)
        })
    }

    /// The session of a member has ended: what it holds is free again.
    pub fn share_release(&self, id: &GroupId, member: &MemberId) {
        let released = self.with_group(id, false, |group| {
            group.machine.as_share_mut().is_some_and(|share| share.release(member))
        });
        if matches!(released, Ok(Some(true))) {
            self.wake_share(id);
        }
    }

    /// Wakes `waker` when records of the group may have become free.
    pub fn wait_share(&self, id: &GroupId, waker: &Waker) {
        if let Some(cell) = self.groups.find(id) {
            cell.waiters.register(waker);
        }
    }

    /// `waker` waits no more.
    pub fn forget_share(&self, id: &GroupId, waker: &Waker) {
        if let Some(cell) = self.groups.find(id) {
            cell.waiters.forget(waker);
        }
    }

    pub(super) fn wake_share(&self, id: &GroupId) {
        if let Some(cell) = self.groups.find(id) {
            cell.waiters.wake();
        }
    }

    /// Where the group is in a partition; `None` if it never shared it. The reply waits for the
    /// returned place.
    pub fn share_lag(
        &self,
        id: &GroupId,
        partition: &Partition,
    ) -> Result<(Option<Lag>, Lsn), ConsumerRefused> {
        let end = self.store.extent(partition.stream()).map_or(0, |extent| extent.durable_end.0);
        let (lag, lsn) = self.read_group(id, |group| {
            group.as_share().ok_or(OtherProtocol).map(|share| share.lag(part_of(partition), end))
        });
        Ok((lag.ok_or(ConsumerRefused::NotFound)??, lsn))
    }

    /// AlterShareGroupOffsets: the group has no members, and shares each partition from this offset on.
    /// `Ok(None)`: it has members. The reply waits for the returned place.
    pub fn alter_share_offsets(
        &self,
        id: &GroupId,
        starts: &[(Part, i64)],
    ) -> Result<Option<Lsn>, ConsumerRefused> {
        let now = self.now();
        let (done, lsn) = self.share_change(id, starts.len() * CHANGE_BYTES, |share| {
            if !share.remembered().members.is_empty() {
                return (false, Vec::new());
            }
            let records = starts.iter().map(|(part, start)| share.start(*part, *start, now));
            (true, records.collect())
        })?;
        Ok(done.then_some(lsn))
    }

    /// DeleteShareGroupOffsets: the group has no members, and forgets these topics. `Ok(None)`: it has
    /// members. The reply waits for the returned place.
    pub fn delete_share_offsets(
        &self,
        id: &GroupId,
        topics: &BTreeSet<TopicId>,
    ) -> Result<Option<Lsn>, ConsumerRefused> {
        let (done, lsn) = self.share_change(id, topics.len() * CHANGE_BYTES, |share| {
            if !share.remembered().members.is_empty() {
                return (false, Vec::new());
            }
            (true, share.forget(topics.clone()).into_iter().collect())
        })?;
        Ok(done.then_some(lsn))
    }

    /// Applies something to a share group and logs what it wants remembered.
    pub(super) fn share_change<T>(
        &self,
        id: &GroupId,
        bytes: usize,
        act: impl FnOnce(&mut ShareGroup) -> (T, Vec<ShareRecord>),
    ) -> Result<(T, Lsn), ConsumerRefused> {
        let done = self.with_group(id, false, |group| {
            let size = bytes + FACT_BYTES;
            let reservation = self.store.reserve(Purpose::Shrink, 1, size)?;
            let share = group.machine.as_share_mut().ok_or(OtherProtocol)?;
            let (outcome, records) = act(share);
            let records = records.into_iter().map(GroupRecord::Share).collect();
            self.log_group(group, reservation, records);
            Ok((outcome, group.changed))
        })?;
        done.unwrap_or(Err(ConsumerRefused::NotFound))
    }
}

impl From<Refused> for ShareFetchError {
    fn from(refused: Refused) -> Self {
        Self::Group(refused.into())
    }
}

/// A partition as groups know it.
#[must_use]
pub fn part_of(partition: &Partition) -> Part {
    Part { topic: TopicId(partition.topic().0), partition: partition.id().0 }
}

/// Each batch of a piece of the log, with what sharing has to know of it.
fn batches(fetched: &Fetched) -> Vec<(Span, Bytes)> {
    let mut found = Vec::new();
    for piece in &fetched.batches.pieces {
        let mut rest = piece.clone();
        while let Ok(header) = BatchHeader::parse(&rest) {
            if header.bytes > rest.len() {
                break;
            }
            let batch = rest.split_to(header.bytes);
            let hidden = header.is_control() || is_aborted(fetched, &header);
            let (first, last) = (header.base_offset.0, header.last_offset().0);
            found.push((Span { first, last, hidden }, batch));
        }
    }
    found
}

fn is_aborted(fetched: &Fetched, header: &BatchHeader) -> bool {
    let concerns = |aborted: &crate::txn::producers::Aborted| {
        aborted.producer.0 == header.producer_id
            && (aborted.first..=aborted.last).contains(&header.base_offset.0)
    };
    header.is_transactional() && fetched.aborted.iter().flatten().any(concerns)
}

/// The batches in which something was acquired.
fn containing(batches: Vec<(Span, Bytes)>, acquired: &[Acquired]) -> Vec<Bytes> {
    let holds = |span: &Span| {
        !span.hidden && acquired.iter().any(|run| run.first <= span.last && run.last >= span.first)
    };
    batches.into_iter().filter(|(span, _)| holds(span)).map(|(_, batch)| batch).collect()
}

/// What acknowledgements may add to a fact.
pub(super) fn ack_bytes(batch: &AckBatch) -> usize {
    let span = batch.last.saturating_sub(batch.first);
    (batch.types.len() + usize::try_from(span).unwrap_or(0).min(PIECES_MAX)) * CHANGE_BYTES
}

/// How often a fetch looks again when others were faster.
const TRIES_MAX: usize = 4;
/// One change of neighbouring records in a fact.
const CHANGE_BYTES: usize = 24;
/// Pieces of one acknowledgement that room is kept for; more is taken all the same.
const PIECES_MAX: usize = 64;
