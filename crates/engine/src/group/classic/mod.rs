//! Classic consumer groups (research/kafka.md 2.5): a pure machine. Knows no offsets and no log.

mod api;
mod join;
mod rebalance;
mod record;
mod settings;
mod sync;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

pub use api::{
    Answer, Command, CommitError, Heartbeat, HeartbeatError, Join, JoinError, Joined, JoinedMember,
    Leave, LeaveError, Leaver, Sync, SyncError, Synced,
};
pub use record::{ClassicRecord, MemberRecord, Remembered, Settled};
pub use settings::Settings;
pub use view::{MemberView, Phase};

use crate::clock::{Monotonic, Now};
use crate::group::effect::Effect;
use crate::group::ids::{Generation, InstanceId, MemberId, Ticket};

/// What a classic group asks its caller to do.
pub type ClassicEffect = Effect<Answer, ClassicRecord>;

/// A classic group.
///
/// Invariants: every member that waits has a deadline, its own or the phase's; `remembered` is the
/// fold of every record that was emitted; in phase `Stable` it equals the live members.
#[derive(Debug)]
pub struct ClassicGroup {
    settings: Settings,
    remembered: Remembered,
    phase: Phase,
    generation: Generation,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    statics: BTreeMap<InstanceId, MemberId>,
    /// Ids given out (KIP-394) that have not come back; at most `settings.members_max`.
    newcomers: BTreeMap<MemberId, Monotonic>,
    /// When to remove whom: members by session, newcomers by promise.
    sessions: BTreeSet<(Monotonic, MemberId)>,
    /// How many members have each protocol.
    supported: BTreeMap<Arc<str>, usize>,
    /// Bytes of all members' protocols.
    metadata_bytes: usize,
    /// Members that wait in a join.
    joining: usize,
    /// End of the join phase; set in `Preparing` only.
    join_deadline: Option<Monotonic>,
    /// Set while the first join of an empty group waits for company: no later than this.
    initial_until: Option<Monotonic>,
    /// Somebody came while the first join waited.
    company: bool,
    /// Members of this generation that have not synced.
    unsynced: BTreeSet<MemberId>,
    /// When those are removed.
    sync_deadline: Option<Monotonic>,
    arrivals: u64,
}

#[derive(Debug)]
struct Member {
    about: MemberRecord,
    /// The how manieth member the group has seen: the first joiner leads.
    arrival: u64,
    /// Waits for the end of the join phase.
    joining: Option<Ticket>,
    /// Waits for the leader's assignment.
    syncing: Option<Ticket>,
    /// Has not completed a join yet.
    new: bool,
    /// The member's place in `sessions`.
    session: Option<Monotonic>,
}

impl ClassicGroup {
    /// A group that nobody has joined.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::restore(settings, Remembered::default(), Now::default())
    }

    /// The group after a restart: its generation goes on, every session starts anew.
    #[must_use]
    pub fn restore(settings: Settings, remembered: Remembered, now: Now) -> Self {
        let mut group = Self {
            settings,
            phase: Phase::Empty,
            generation: remembered.generation,
            protocol_type: remembered.protocol_type.clone(),
            protocol: remembered.protocol.clone(),
            leader: remembered.leader.clone(),
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            newcomers: BTreeMap::new(),
            sessions: BTreeSet::new(),
            supported: BTreeMap::new(),
            metadata_bytes: 0,
            joining: 0,
            join_deadline: None,
            initial_until: None,
            company: false,
            unsynced: BTreeSet::new(),
            sync_deadline: None,
            arrivals: 0,
            remembered,
        };
        let members: Vec<MemberRecord> = group.remembered.members.values().cloned().collect();
        for about in members {
            let member = about.member.clone();
            group.insert(about, None);
            if let Some(member) = group.members.get_mut(&member) {
                member.new = false;
            }
            group.refresh(&member, now);
        }
        group.resume(now);
        group
    }

    /// Carries out one command.
    pub fn apply(&mut self, command: Command, now: Now) -> Vec<ClassicEffect> {
        let mut out = Vec::new();
        match command {
            Command::Join(join) => self.join(join, now, &mut out),
            Command::Sync(sync) => self.sync(sync, now, &mut out),
            Command::Heartbeat(heartbeat) => self.heartbeat(&heartbeat, now, &mut out),
            Command::Leave(leave) => self.leave(&leave, now, &mut out),
        }
        out
    }

    /// The earliest time at which [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let session = self.sessions.first().map(|(at, _)| *at);
        [session, self.join_deadline, self.sync_deadline].into_iter().flatten().min()
    }

    /// Ends sessions and phases whose time is over.
    pub fn tick(&mut self, now: Now) -> Vec<ClassicEffect> {
        let mut out = Vec::new();
        self.end_sessions(now, &mut out);
        self.end_phase(now, &mut out);
        out
    }

    /// The group goes away (DeleteGroups): whoever comes later is told so. Only an empty group is
    /// deleted, so nobody waits.
    pub fn kill(&mut self) {
        assert!(self.members.is_empty(), "a group with members was deleted");
        self.newcomers.clear();
        self.sessions.clear();
        self.phase = Phase::Dead;
    }

    /// The group moves to KIP-848: whoever waits is told to join again.
    pub(in crate::group) fn send_away(&mut self) -> Vec<(Ticket, Answer)> {
        let mut answers = Vec::new();
        for member in self.members.values_mut() {
            let join = member.joining.take().map(|t| (t, Answer::Join(Err(JoinError::Superseded))));
            let again = Err(SyncError::RebalanceInProgress);
            let sync = member.syncing.take().map(|ticket| (ticket, Answer::Sync(again)));
            answers.extend(join.into_iter().chain(sync));
        }
        answers
    }

    /// Every member as it would be remembered now.
    pub(in crate::group) fn records(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values().map(|member| &member.about)
    }

    /// The metadata of a member for the protocol in force, or for the one it likes best.
    pub(in crate::group) fn metadata<'a>(&self, about: &'a MemberRecord) -> Option<&'a Bytes> {
        let named = |protocol: &Arc<str>| about.protocols.iter().find(|(name, _)| name == protocol);
        let found = self.protocol.as_ref().and_then(named).or_else(|| about.protocols.first());
        found.map(|(_, metadata)| metadata)
    }

    /// The group's part of a snapshot.
    #[must_use]
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Whether a commit of offsets is in order, and refreshes the member's session if so.
    ///
    /// `generation` is -1 and `member` empty for a simple consumer. Transactional commits below
    /// version 3 carry neither (research/kafka.md 2.5).
    pub fn check_commit(
        &mut self,
        who: &Committer,
        transactional: bool,
        now: Now,
    ) -> Result<(), CommitError> {
        if self.phase == Phase::Dead {
            return Err(CommitError::Dead);
        }
        if who.generation.0 < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        let named = who.member.is_some() || who.instance.is_some();
        if who.generation.0 >= 0 || named {
            self.identify(who.member.as_ref(), who.instance.as_ref()).map_err(|e| match e {
                Stranger::Unknown => CommitError::UnknownMember,
                Stranger::Fenced => CommitError::FencedInstance,
            })?;
            if who.generation != self.generation {
                return Err(CommitError::IllegalGeneration);
            }
        } else if !transactional {
            return Err(CommitError::UnknownMember);
        }
        if !transactional && self.phase == Phase::CompletingRebalance {
            return Err(CommitError::RebalanceInProgress);
        }
        if let Some(member) = who.member.as_ref().filter(|_| self.phase != Phase::Empty) {
            self.refresh(member, now);
        }
        Ok(())
    }

    /// Whether these are the names of one member.
    fn identify(
        &self,
        member: Option<&MemberId>,
        instance: Option<&InstanceId>,
    ) -> Result<(), Stranger> {
        if let Some(instance) = instance {
            let known = self.statics.get(instance).ok_or(Stranger::Unknown)?;
            return if Some(known) == member { Ok(()) } else { Err(Stranger::Fenced) };
        }
        let known = member.is_some_and(|member| self.members.contains_key(member));
        if known { Ok(()) } else { Err(Stranger::Unknown) }
    }

    /// Starts the member's session anew.
    fn refresh(&mut self, id: &MemberId, now: Now) {
        let Some(member) = self.members.get_mut(id) else { return };
        let end = now.monotonic.after(u64::from(member.about.session_timeout_ms));
        let waits = member.joining.is_some() || member.syncing.is_some();
        self.set_session(id, if waits { None } else { Some(end) });
    }

    /// Puts the end of the member's session; `None` while it waits for an answer of the phase.
    fn set_session(&mut self, id: &MemberId, end: Option<Monotonic>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(old) = member.session.take() {
            self.sessions.remove(&(old, id.clone()));
        }
        member.session = end;
        if let Some(end) = end {
            self.sessions.insert((end, id.clone()));
        }
    }

    fn persist(&mut self, record: ClassicRecord, out: &mut Vec<ClassicEffect>) {
        self.remembered.replay(record.clone());
        out.push(Effect::Persist(record));
    }
}

/// Who commits offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committer {
    /// `None` for the empty member id.
    pub member: Option<MemberId>,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The generation, or the member epoch in a KIP-848 group; [`Generation::NONE`] for none.
    pub generation: Generation,
    /// OffsetCommit v9+ (TxnOffsetCommit any version): knows about epochs and `GROUP_ID_NOT_FOUND`.
    pub knows_epochs: bool,
}

impl Committer {
    /// Whether the commit may go to a group that does not exist.
    pub fn check_absent(&self) -> Result<(), CommitError> {
        match (self.generation.0 < 0, self.knows_epochs) {
            (true, _) => Ok(()),
            (false, true) => Err(CommitError::GroupNotFound),
            (false, false) => Err(CommitError::IllegalGeneration),
        }
    }
}

/// Why names are not those of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    Unknown,
    Fenced,
}

fn bytes_of(protocols: &[(Arc<str>, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum()
}
