//! SyncGroup, Heartbeat and LeaveGroup.

use std::sync::Arc;

use bytes::Bytes;

use super::api::{
    Answer, Heartbeat, HeartbeatError, Leave, LeaveError, Leaver, Sync, SyncError, Synced,
};
use super::record::ClassicRecord;
use super::view::Phase;
use super::{ClassicEffect, ClassicGroup, Stranger};
use crate::clock::Now;
use crate::group::effect::Effect;
use crate::group::ids::{MemberId, Ticket};

impl ClassicGroup {
    pub(super) fn sync(&mut self, sync: Sync, now: Now, out: &mut Vec<ClassicEffect>) {
        let ticket = sync.ticket;
        match self.check_sync(&sync) {
            Err(error) => out.push(reply(ticket, Err(error))),
            Ok(()) if self.phase == Phase::Stable => {
                self.unsynced.remove(&sync.member);
                self.end_sync_phase_if_all_synced();
                self.refresh(&sync.member, now);
                out.push(reply(ticket, self.synced(&sync.member)));
            }
            Ok(()) => self.wait_for_leader(sync, now, out),
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), SyncError> {
        if self.phase == Phase::Dead {
            return Err(SyncError::Dead);
        }
        self.identify(Some(&sync.member), sync.instance.as_ref()).map_err(|e| match e {
            Stranger::Unknown => SyncError::UnknownMember,
            Stranger::Fenced => SyncError::FencedInstance,
        })?;
        if sync.generation != self.generation {
            return Err(SyncError::IllegalGeneration);
        }
        let differs = |given: &Option<Arc<str>>, own: &Option<Arc<str>>| {
            given.is_some() && own.is_some() && given != own
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(SyncError::InconsistentProtocol);
        }
        if self.phase == Phase::PreparingRebalance {
            return Err(SyncError::RebalanceInProgress);
        }
        let bytes: usize = sync.assignments.iter().map(|(id, a)| id.as_str().len() + a.len()).sum();
        if bytes > self.settings.metadata_bytes_max {
            return Err(SyncError::AssignmentTooLarge);
        }
        Ok(())
    }

    fn wait_for_leader(&mut self, sync: Sync, now: Now, out: &mut Vec<ClassicEffect>) {
        self.unsynced.remove(&sync.member);
        self.end_sync_phase_if_all_synced();
        if let Some(member) = self.members.get_mut(&sync.member)
            && let Some(older) = member.syncing.replace(sync.ticket)
        {
            out.push(reply(older, Err(SyncError::RebalanceInProgress)));
        }
        self.set_session(&sync.member, None); // waits under the sync deadline or the leader's session
        if self.leader.as_ref() == Some(&sync.member) {
            self.assign(sync.assignments, now, out);
        }
    }

    /// The leader's assignment is logged; then all that wait are answered.
    fn assign(
        &mut self,
        assignments: Vec<(MemberId, Bytes)>,
        now: Now,
        out: &mut Vec<ClassicEffect>,
    ) {
        let known = |(id, assignment): (MemberId, Bytes)| {
            let member = self.members.get_mut(&id)?;
            member.about.assignment = assignment.clone();
            Some((id, assignment))
        };
        let assignments = assignments.into_iter().filter_map(known).collect();
        self.persist(ClassicRecord::Assigned { assignments }, out);
        self.phase = Phase::Stable;
        let everyone: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in everyone {
            let ticket = self.members.get_mut(&id).and_then(|m| m.syncing.take());
            if let Some(ticket) = ticket {
                self.refresh(&id, now);
                out.push(reply(ticket, self.synced(&id)));
            }
        }
    }

    fn end_sync_phase_if_all_synced(&mut self) {
        // while the leader is missing the deadline stays: it is what the others wait under
        if self.unsynced.is_empty() {
            self.sync_deadline = None;
        }
    }

    fn synced(&self, id: &MemberId) -> Result<Synced, SyncError> {
        let member = self.members.get(id).ok_or(SyncError::UnknownMember)?;
        Ok(Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: member.about.assignment.clone(),
        })
    }

    pub(super) fn heartbeat(&mut self, beat: &Heartbeat, now: Now, out: &mut Vec<ClassicEffect>) {
        let answer = self.check_heartbeat(beat);
        if matches!(answer, Ok(()) | Err(HeartbeatError::RebalanceInProgress)) {
            self.refresh(&beat.member, now);
        }
        out.push(Effect::Reply { ticket: beat.ticket, answer: Answer::Heartbeat(answer) });
    }

    fn check_heartbeat(&self, beat: &Heartbeat) -> Result<(), HeartbeatError> {
        if self.phase == Phase::Dead {
            return Err(HeartbeatError::Dead);
        }
        self.identify(Some(&beat.member), beat.instance.as_ref()).map_err(|e| match e {
            Stranger::Unknown => HeartbeatError::UnknownMember,
            Stranger::Fenced => HeartbeatError::FencedInstance,
        })?;
        if beat.generation != self.generation {
            return Err(HeartbeatError::IllegalGeneration);
        }
        match self.phase {
            Phase::PreparingRebalance => Err(HeartbeatError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, leave: &Leave, now: Now, out: &mut Vec<ClassicEffect>) {
        let mut gone = Vec::new();
        let mut newcomer_left = false;
        let mut results = Vec::with_capacity(leave.members.len());
        for leaver in &leave.members {
            let newcomer = leaver.member.as_ref().filter(|_| leaver.instance.is_none());
            if let Some(id) = newcomer
                && let Some(promise) = self.newcomers.remove(id)
            {
                self.sessions.remove(&(promise, id.clone()));
                newcomer_left = true;
                results.push(Ok(()));
                continue;
            }
            let found = self.find_leaver(leaver);
            if let Ok(id) = &found {
                self.remove(std::slice::from_ref(id), false, out);
                gone.push(id.clone());
            }
            results.push(found.map(drop));
        }
        self.forget(&gone, out);
        if newcomer_left || !gone.is_empty() {
            self.after_departure(!gone.is_empty(), now, out);
        }
        out.push(Effect::Reply { ticket: leave.ticket, answer: Answer::Leave(results) });
    }

    fn after_departure(&mut self, members: bool, now: Now, out: &mut Vec<ClassicEffect>) {
        if members || self.phase == Phase::PreparingRebalance {
            self.after_removal(now, out);
        }
    }

    fn find_leaver(&self, leaver: &Leaver) -> Result<MemberId, LeaveError> {
        if self.phase == Phase::Dead {
            return Err(LeaveError::Dead);
        }
        if let (Some(instance), None) = (&leaver.instance, &leaver.member) {
            return self.statics.get(instance).cloned().ok_or(LeaveError::UnknownMember);
        }
        self.identify(leaver.member.as_ref(), leaver.instance.as_ref()).map_err(|e| match e {
            Stranger::Unknown => LeaveError::UnknownMember,
            Stranger::Fenced => LeaveError::FencedInstance,
        })?;
        leaver.member.clone().ok_or(LeaveError::UnknownMember)
    }
}

fn reply(ticket: Ticket, answer: Result<Synced, SyncError>) -> ClassicEffect {
    Effect::Reply { ticket, answer: Answer::Sync(answer) }
}
