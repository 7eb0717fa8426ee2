//! KIP-848 consumer groups (research/kafka.md 2.6): a pure machine. Members say what they want and
//! have, the group says what they are to have. Knows no offsets and no log.

mod api;
mod classic;
mod moving;
mod reconcile;
mod record;
mod subscribe;
pub(super) mod timers;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::Regex;

pub use api::{Beat, BeatError, Beaten, ConsumerSettings, GroupState, Topics};
pub use record::{
    ClassicPart, ConsumerMember, ConsumerRecord, MemberState, Progress, RememberedConsumers,
    Subscription,
};

use self::timers::Timers;
use crate::clock::{Monotonic, Now, Wall};
use crate::group::assignor::{Applicant, Assignor, TopicId};
use crate::group::classic::{CommitError, Committer};
use crate::group::ids::MemberId;

/// A heartbeat is answered at once; the answer waits for the records to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub answer: Result<Beaten, BeatError>,
    /// To be logged, in order, as one frame. Applied already.
    pub records: Vec<ConsumerRecord>,
}

/// A KIP-848 group.
///
/// Invariants: `remembered` is the fold of every record returned; each member has a session; each
/// member asked to give up partitions has a deadline for it; a partition has at most one owner.
#[derive(Debug)]
pub struct ConsumerGroup {
    settings: ConsumerSettings,
    remembered: RememberedConsumers,
    sessions: Timers,
    revocations: Timers,
    /// Members of the classic protocol that were told to join, or have joined and not synced.
    calls: Timers,
    /// The state of the topics that `remembered.topics` was resolved from.
    seen: Option<u64>,
    /// Compiled patterns of the members.
    patterns: BTreeMap<Arc<str>, Regex>,
}

impl ConsumerGroup {
    /// A group that nobody has joined.
    #[must_use]
    pub fn new(settings: ConsumerSettings) -> Self {
        Self::restore(settings, RememberedConsumers::default(), Now::default())
    }

    /// Other settings from here on: sessions that run already end as they would have.
    pub const fn configure(&mut self, settings: ConsumerSettings) {
        self.settings = settings;
    }

    /// The group after a restart: epochs and assignments go on, every session starts anew.
    #[must_use]
    pub fn restore(settings: ConsumerSettings, remembered: RememberedConsumers, now: Now) -> Self {
        let mut group = Self {
            settings,
            remembered,
            sessions: Timers::default(),
            revocations: Timers::default(),
            calls: Timers::default(),
            seen: None,
            patterns: BTreeMap::new(),
        };
        let ids: Vec<MemberId> = group.remembered.members.keys().cloned().collect();
        for id in ids {
            group.restart_timers(&id, true, now);
        }
        group
    }

    /// ConsumerGroupHeartbeat: joins, leaves, reports and learns, by its epoch (KIP-848).
    pub fn heartbeat(&mut self, beat: Beat, topics: &dyn Topics, now: Now) -> Decision {
        let mut records = Vec::new();
        let answer = match self.check(&beat) {
            Err(error) => Err(error),
            Ok(()) if beat.epoch < 0 => self.leave(&beat, now, &mut records),
            Ok(()) => self.beat(beat, topics, now, &mut records),
        };
        Decision { answer, records }
    }

    /// The earliest time at which [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let all = [&self.sessions, &self.revocations, &self.calls];
        all.into_iter().filter_map(Timers::first).min()
    }

    /// Removes members that are silent, or do not give up what they were asked to.
    pub fn tick(&mut self, now: Now) -> Vec<ConsumerRecord> {
        let mut records = Vec::new();
        let mut due: BTreeSet<MemberId> = self.sessions.due(now.monotonic).into_iter().collect();
        due.extend(self.revocations.due(now.monotonic));
        due.extend(self.calls.due(now.monotonic));
        let members: Vec<MemberId> = due.into_iter().collect();
        self.remove(members, now, &mut records);
        records
    }

    /// The group's part of a snapshot, and what ConsumerGroupDescribe shows.
    #[must_use]
    pub fn remembered(&self) -> &RememberedConsumers {
        &self.remembered
    }

    /// Where the group stands.
    #[must_use]
    pub fn state(&self) -> GroupState {
        let settled = |member: &ConsumerMember| {
            member.progress.state == MemberState::Stable
                && member.progress.epoch == self.remembered.target_epoch
        };
        if self.remembered.members.is_empty() {
            GroupState::Empty
        } else if self.remembered.epoch > self.remembered.target_epoch {
            GroupState::Assigning
        } else if self.remembered.members.values().all(settled) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The assignor that the next target is made with: what most members prefer.
    #[must_use]
    pub fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for choice in self.remembered.members.values().filter_map(|m| m.about.assignor) {
            *votes.entry(choice).or_default() += 1;
        }
        let best = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        best.map(|(choice, _)| choice).unwrap_or_default()
    }

    /// Since when the group has no member; `None` if it has one or never had.
    #[must_use]
    pub fn empty_since(&self) -> Option<Wall> {
        self.remembered.empty_since
    }

    /// Whether a commit of offsets is in order (KIP-848): the epoch has to be the member's.
    pub fn check_commit(&self, who: &Committer, transactional: bool) -> Result<(), CommitError> {
        if who.generation.0 < 0 && self.remembered.members.is_empty() {
            return Ok(());
        }
        let Some(member) = &who.member else {
            let old = transactional && who.generation.0 < 0; // TxnOffsetCommit v0 to v2 name nobody
            return if old { Ok(()) } else { Err(CommitError::UnknownMember) };
        };
        let known = self.remembered.members.get(member).ok_or(CommitError::UnknownMember)?;
        if !transactional && !who.knows_epochs && known.about.classic.is_none() {
            return Err(CommitError::UnsupportedVersion);
        }
        check_epoch(known, who.generation.0)
    }

    /// Whether a fetch of offsets is in order (OffsetFetch v9+): nobody in particular, or a member
    /// with its epoch.
    pub fn check_fetch(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), CommitError> {
        let Some(member) = member.filter(|_| epoch >= 0) else { return Ok(()) };
        let known = self.remembered.members.get(member).ok_or(CommitError::UnknownMember)?;
        check_epoch(known, epoch)
    }

    /// The names of the topics that somebody wants, as far as they are subscribed by name.
    #[must_use]
    pub fn topic_names(&self) -> BTreeSet<Arc<str>> {
        let wanted = self.remembered.members.values().flat_map(|m| m.about.topics.iter());
        wanted.cloned().collect()
    }

    /// Whether some member subscribes by a pattern.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        self.remembered.members.values().any(|member| member.about.regex.is_some())
    }

    fn persist(&mut self, record: ConsumerRecord, records: &mut Vec<ConsumerRecord>) {
        self.remembered.replay(record.clone());
        records.push(record);
    }

    fn remove(&mut self, members: Vec<MemberId>, now: Now, records: &mut Vec<ConsumerRecord>) {
        if members.is_empty() {
            return;
        }
        for member in &members {
            self.forget_timers(member);
        }
        self.persist(ConsumerRecord::Gone { members, at: now.wall }, records);
        let (epoch, topics) = (self.remembered.epoch + 1, self.remembered.topics.clone());
        self.persist(ConsumerRecord::Epoch { epoch, topics }, records);
        self.seen = None; // nobody may want some topic any more
    }

    fn restart_timers(&mut self, id: &MemberId, revocation_begins: bool, now: Now) {
        let Some(member) = self.remembered.members.get(id) else { return };
        let classic = member.about.classic.as_ref();
        let session = classic.map_or(self.settings.session_timeout_ms, |c| c.session_timeout_ms);
        self.sessions.set(id, now.monotonic.after(session.into()));
        if classic.is_some() {
            self.revocations.clear(id); // it is called to a join instead
            return;
        }
        self.calls.clear(id);
        if member.progress.state != MemberState::UnrevokedPartitions {
            self.revocations.clear(id);
        } else if revocation_begins {
            let patience = member.about.rebalance_timeout_ms;
            self.revocations.set(id, now.monotonic.after(patience.into()));
        }
    }

    /// Who wants which topic, and how many partitions those have.
    fn resolve(&mut self, topics: &dyn Topics) -> (BTreeMap<TopicId, u32>, Vec<Applicant>) {
        let mut wanted = BTreeMap::new();
        let mut matches: BTreeMap<Arc<str>, BTreeSet<TopicId>> = BTreeMap::new();
        let used: BTreeSet<Arc<str>> =
            self.remembered.members.values().filter_map(|m| m.about.regex.clone()).collect();
        self.patterns.retain(|pattern, _| used.contains(pattern));
        for pattern in used {
            let Some(compiled) = self.compiled(&pattern) else { continue };
            let found = matches.entry(pattern).or_default();
            topics.each(&mut |name, id, partitions| {
                if compiled.is_match(name) {
                    found.insert(id);
                    wanted.insert(id, partitions);
                }
            });
        }
        let mut applicants = Vec::with_capacity(self.remembered.members.len());
        for member in self.remembered.members.values() {
            let matched = member.about.regex.as_ref().and_then(|regex| matches.get(regex));
            let mut own = matched.cloned().unwrap_or_default();
            for name in &member.about.topics {
                if let Some((id, partitions)) = topics.find(name) {
                    own.insert(id);
                    wanted.insert(id, partitions);
                }
            }
            let id = &member.about.member;
            let rank = member.about.instance.as_ref().map_or(id.as_str(), |i| i.as_str());
            applicants.push(Applicant {
                member: id.clone(),
                rank: rank.to_owned(),
                topics: own,
                current: self.remembered.target.get(id).cloned().unwrap_or_default(),
            });
        }
        (wanted, applicants)
    }

    fn compiled(&mut self, pattern: &Arc<str>) -> Option<Regex> {
        if let Some(compiled) = self.patterns.get(pattern) {
            return Some(compiled.clone());
        }
        let compiled = api::compile(pattern)?;
        self.patterns.insert(Arc::clone(pattern), compiled.clone());
        Some(compiled)
    }
}

/// Whether the epoch, or the generation, is the member's; each protocol has its own word for no.
fn check_epoch(member: &ConsumerMember, epoch: i32) -> Result<(), CommitError> {
    match &member.about.classic {
        _ if member.progress.epoch == epoch => Ok(()),
        Some(_) => Err(CommitError::IllegalGeneration),
        None => Err(CommitError::StaleMemberEpoch),
    }
}
