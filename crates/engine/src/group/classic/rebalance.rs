//! The join phase: how it starts, how it is completed, and what runs out of time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::{Answer, JoinError, SyncError};
use super::join::reply;
use super::record::{ClassicRecord, MemberRecord, Settled};
use super::view::Phase;
use super::{ClassicEffect, ClassicGroup};
use crate::clock::Now;
use crate::group::effect::Effect;
use crate::group::ids::MemberId;

impl ClassicGroup {
    /// After a restart: goes on where the records end.
    pub(super) fn resume(&mut self, now: Now) {
        let patience = Some(now.monotonic.after(self.rebalance_timeout_ms()));
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            return;
        }
        match self.remembered.settled {
            Settled::Assigned => self.phase = Phase::Stable,
            Settled::Joined => {
                self.phase = Phase::CompletingRebalance;
                self.unsynced = self.members.keys().cloned().collect();
                self.sync_deadline = patience;
            }
            Settled::Broken => {
                self.phase = Phase::PreparingRebalance;
                self.join_deadline = patience;
            }
        }
    }

    /// Everybody has to join again.
    pub(super) fn prepare(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                let again = Err(SyncError::RebalanceInProgress);
                out.push(Effect::Reply { ticket, answer: Answer::Sync(again) });
                let end = now.monotonic.after(member.about.session_timeout_ms.into());
                member.session = Some(end);
                self.sessions.insert((end, member.about.member.clone()));
            }
        }
        self.unsynced.clear();
        self.sync_deadline = None;
        let patience = self.rebalance_timeout_ms();
        let delay = u64::from(self.settings.initial_delay_ms).min(patience);
        self.company = false;
        if self.phase == Phase::Empty && delay > 0 {
            self.initial_until = Some(now.monotonic.after(patience));
            self.join_deadline = Some(now.monotonic.after(delay));
        } else {
            self.join_deadline = Some(now.monotonic.after(patience));
        }
        self.phase = Phase::PreparingRebalance;
        self.complete_if_all_joined(now, out);
    }

    /// Completes the join phase if nobody is missing: no member, and no newcomer on its way.
    pub(super) fn complete_if_all_joined(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        let all = self.joining == self.members.len() && self.newcomers.is_empty();
        if all && self.initial_until.is_none() {
            self.complete_join(now, out);
        }
    }

    /// The next generation, of those who have joined and of the static members (KIP-345).
    fn complete_join(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        let missing = |m: &&super::Member| m.joining.is_none() && m.about.instance.is_none();
        let missing: Vec<MemberId> =
            self.members.values().filter(missing).map(|m| m.about.member.clone()).collect();
        self.remove(&missing, false, out);
        if !self.elect() {
            // only static members that are away: wait for the first of them, or their sessions' end
            self.forget(&missing, out);
            self.join_deadline = Some(now.monotonic.after(self.rebalance_timeout_ms()));
            return;
        }
        self.join_deadline = None;
        self.initial_until = None;
        self.generation = self.generation.next();
        self.protocol = self.vote();
        self.persist_generation(now, out);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.leader = None;
            return;
        }
        self.phase = Phase::CompletingRebalance;
        self.sync_deadline = Some(now.monotonic.after(self.rebalance_timeout_ms()));
        let everyone: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in everyone {
            let Some(ticket) = self.end_join(&id) else { continue };
            self.unsynced.insert(id.clone());
            self.refresh(&id, now);
            out.push(reply(ticket, self.joined(&id, false).ok_or(JoinError::UnknownMember)));
        }
    }

    fn persist_generation(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        for member in self.members.values_mut() {
            member.about.assignment.clear();
        }
        let members: Vec<MemberRecord> = self.members.values().map(|m| m.about.clone()).collect();
        let record = ClassicRecord::Generation {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members,
            at: now.wall,
        };
        self.persist(record, out);
    }

    /// The leader stays if it has joined; otherwise the first that came. False if members exist but
    /// none has joined.
    fn elect(&mut self) -> bool {
        let joined = |id: &MemberId| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let waiting = self.members.values().filter(|m| m.joining.is_some());
        let first = waiting.min_by_key(|m| m.arrival).map(|m| m.about.member.clone());
        if first.is_none() && !self.members.is_empty() {
            return false;
        }
        self.leader = first;
        true
    }

    /// Among the protocols that all have, each member votes for its first; ties go by name.
    pub(super) fn vote(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let shared = |name: &&Arc<str>| self.supported.get(*name) == Some(&self.members.len());
            let choice = member.about.protocols.iter().map(|(name, _)| name).find(shared);
            if let Some(choice) = choice {
                *votes.entry(choice).or_default() += 1;
            }
        }
        let best = votes.iter().rev().max_by_key(|(_, count)| **count);
        best.map(|(name, _)| Arc::clone(name))
    }

    /// Takes members out; `remember` says whether the log is to know.
    pub(super) fn remove(
        &mut self,
        ids: &[MemberId],
        remember: bool,
        out: &mut Vec<ClassicEffect>,
    ) {
        for id in ids {
            let Some(member) = self.take(id) else { continue };
            self.unsynced.remove(id);
            if self.leader.as_ref() == Some(id) {
                self.leader = None;
            }
            if let Some(ticket) = member.joining {
                out.push(reply(ticket, Err(JoinError::UnknownMember)));
            }
            if let Some(ticket) = member.syncing {
                let unknown = Err(SyncError::UnknownMember);
                out.push(Effect::Reply { ticket, answer: Answer::Sync(unknown) });
            }
        }
        if remember {
            self.forget(ids, out);
        }
    }

    /// Logs that members are gone, if the log knows them.
    pub(super) fn forget(&mut self, ids: &[MemberId], out: &mut Vec<ClassicEffect>) {
        let known = |id: &&MemberId| self.remembered.members.contains_key(*id);
        let members: Vec<MemberId> = ids.iter().filter(known).cloned().collect();
        if !members.is_empty() {
            self.persist(ClassicRecord::Left { members }, out);
        }
    }

    /// Members were removed: the others have to join again, or a join phase may be complete.
    pub(super) fn after_removal(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        match self.phase {
            Phase::Stable | Phase::CompletingRebalance => self.prepare(now, out),
            Phase::PreparingRebalance => self.complete_if_all_joined(now, out),
            Phase::Empty | Phase::Dead => {}
        }
    }

    pub(super) fn end_sessions(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        let mut removed = Vec::new();
        let mut due = false;
        while let Some((at, _)) = self.sessions.first()
            && *at <= now.monotonic
            && let Some((_, id)) = self.sessions.pop_first()
        {
            due = true;
            if self.newcomers.remove(&id).is_none() {
                if let Some(member) = self.members.get_mut(&id) {
                    member.session = None;
                }
                removed.push(id);
            }
        }
        if due {
            let changed = !removed.is_empty() || self.phase == Phase::PreparingRebalance;
            self.remove(&removed, true, out);
            if changed {
                self.after_removal(now, out);
            }
        }
    }

    pub(super) fn end_phase(&mut self, now: Now, out: &mut Vec<ClassicEffect>) {
        if self.join_deadline.is_some_and(|at| at <= now.monotonic) {
            match self.initial_until {
                Some(until) if self.company && now.monotonic < until => {
                    self.company = false;
                    let delay = u64::from(self.settings.initial_delay_ms);
                    self.join_deadline = Some(now.monotonic.after(delay).min(until));
                }
                _ => {
                    self.initial_until = None;
                    self.complete_join(now, out);
                }
            }
        }
        if self.sync_deadline.is_some_and(|at| at <= now.monotonic) {
            self.sync_deadline = None;
            let silent: Vec<MemberId> = std::mem::take(&mut self.unsynced).into_iter().collect();
            if !silent.is_empty() {
                self.remove(&silent, true, out);
                self.after_removal(now, out);
            }
        }
    }

    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|m| m.about.rebalance_timeout_ms).max();
        longest.unwrap_or(0).into()
    }
}
