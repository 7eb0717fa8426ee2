//! JoinGroup: who may come in, under which name, and whether a rebalance is needed for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::api::{Answer, Join, JoinError, Joined, JoinedMember};
use super::record::{ClassicRecord, MemberRecord};
use super::view::Phase;
use super::{ClassicEffect, ClassicGroup, Member, Stranger, bytes_of};
use crate::clock::Now;
use crate::group::effect::Effect;
use crate::group::ids::{MemberId, Ticket};

impl ClassicGroup {
    pub(super) fn join(&mut self, join: Join, now: Now, out: &mut Vec<ClassicEffect>) {
        let ticket = join.ticket;
        if let Err(error) = self.check_join(&join).and_then(|()| self.admit(join, now, out)) {
            out.push(reply(ticket, Err(error)));
        }
    }

    fn check_join(&self, join: &Join) -> Result<(), JoinError> {
        if self.phase == Phase::Dead {
            return Err(JoinError::Dead);
        }
        let bounds = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        if !u32::try_from(join.session_timeout_ms).is_ok_and(|ms| bounds.contains(&ms)) {
            return Err(JoinError::InvalidSessionTimeout);
        }
        if !self.has_room_for(join.member.as_ref(), join) {
            return Err(JoinError::GroupFull);
        }
        if !self.supports(join) {
            return Err(JoinError::InconsistentProtocol);
        }
        let replaced = join.member.as_ref().and_then(|member| self.members.get(member));
        let freed = replaced.map_or(0, |member| bytes_of(&member.about.protocols));
        let total = self.metadata_bytes - freed + bytes_of(&join.protocols);
        if total > self.settings.metadata_bytes_max {
            return Err(JoinError::MetadataTooLarge);
        }
        Ok(())
    }

    /// Members that are in stay in; in a join phase those that have not rejoined give way.
    fn has_room_for(&self, member: Option<&MemberId>, join: &Join) -> bool {
        let member = member.and_then(|member| self.members.get(member));
        let known_instance = join.instance.as_ref().is_some_and(|i| self.statics.contains_key(i));
        let max = self.settings.members_max;
        match self.phase {
            Phase::PreparingRebalance => {
                member.is_some_and(|m| m.joining.is_some()) || known_instance || self.joining < max
            }
            _ => member.is_some() || known_instance || self.members.len() < max,
        }
    }

    fn supports(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let shared = |name: &Arc<str>| self.supported.get(name) == Some(&self.members.len());
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| shared(name))
    }

    fn admit(
        &mut self,
        join: Join,
        now: Now,
        out: &mut Vec<ClassicEffect>,
    ) -> Result<(), JoinError> {
        let Some(member) = join.member.clone() else {
            return self.admit_nameless(join, now, out);
        };
        let promise = self.newcomers.get(&member).copied().filter(|_| join.instance.is_none());
        if let Some(promise) = promise {
            self.newcomers.remove(&member);
            self.sessions.remove(&(promise, member.clone()));
            self.add(join, member, now, out);
            return Ok(());
        }
        self.identify(Some(&member), join.instance.as_ref()).map_err(
            |stranger| match stranger {
                Stranger::Unknown => JoinError::UnknownMember,
                Stranger::Fenced => JoinError::FencedInstance,
            },
        )?;
        self.rejoin(join, &member, now, out);
        Ok(())
    }

    fn admit_nameless(
        &mut self,
        join: Join,
        now: Now,
        out: &mut Vec<ClassicEffect>,
    ) -> Result<(), JoinError> {
        if let Some(instance) = join.instance.clone() {
            let member = MemberId::generate(instance.as_str(), join.uuid);
            match self.statics.get(&instance).cloned() {
                Some(old) => self.replace(join, old, member, now, out),
                None => self.add(join, member, now, out),
            }
            return Ok(());
        }
        let member = MemberId::generate(&join.client_id, join.uuid);
        if !join.id_required {
            self.add(join, member, now, out);
            return Ok(());
        }
        // KIP-394: a client whose first answer is lost must not leave a member behind
        if self.newcomers.len() >= self.settings.members_max {
            return Err(JoinError::GroupFull);
        }
        let promise = now.monotonic.after(unsigned(join.session_timeout_ms).into());
        self.newcomers.insert(member.clone(), promise);
        self.sessions.insert((promise, member.clone()));
        Err(JoinError::MemberIdRequired(member))
    }

    /// A member that the group has not seen comes in.
    fn add(&mut self, join: Join, id: MemberId, now: Now, out: &mut Vec<ClassicEffect>) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        let ticket = join.ticket;
        self.insert(about(join, id.clone()), Some(ticket));
        let patience = now.monotonic.after(self.settings.newcomer_timeout_ms.into());
        self.set_session(&id, Some(patience));
        self.company = true;
        if self.phase == Phase::PreparingRebalance {
            self.complete_if_all_joined(now, out);
        } else {
            self.prepare(now, out);
        }
    }

    /// A member joins again (research/kafka.md 2.5, "Stable + rejoin").
    fn rejoin(&mut self, join: Join, id: &MemberId, now: Now, out: &mut Vec<ClassicEffect>) {
        let leads = self.leader.as_ref() == Some(id);
        let same = self.members.get(id).is_some_and(|m| m.about.protocols == join.protocols);
        match self.phase {
            Phase::PreparingRebalance => {
                self.update(join, id, out);
                self.complete_if_all_joined(now, out);
            }
            Phase::CompletingRebalance if same => self.reply_current(join.ticket, id, now, out),
            Phase::Stable if same && !leads => self.reply_current(join.ticket, id, now, out),
            Phase::CompletingRebalance | Phase::Stable => {
                self.update(join, id, out);
                self.prepare(now, out);
            }
            Phase::Empty | Phase::Dead => {
                out.push(reply(join.ticket, Err(JoinError::UnknownMember)));
            }
        }
    }

    /// Nothing has changed for this member: it is told what it missed.
    fn reply_current(
        &mut self,
        ticket: Ticket,
        id: &MemberId,
        now: Now,
        out: &mut Vec<ClassicEffect>,
    ) {
        self.refresh(id, now);
        let joined = self.joined(id, false).ok_or(JoinError::UnknownMember);
        out.push(reply(ticket, joined));
    }

    /// A static member is back under a new id; the old one is fenced (KIP-345).
    fn replace(
        &mut self,
        join: Join,
        old: MemberId,
        id: MemberId,
        now: Now,
        out: &mut Vec<ClassicEffect>,
    ) {
        let Some(mut gone) = self.take(&old) else { return };
        if let Some(waits) = gone.joining.take() {
            out.push(reply(waits, Err(JoinError::FencedInstance)));
        }
        if let Some(waits) = gone.syncing.take() {
            let fenced = Err(super::api::SyncError::FencedInstance);
            out.push(Effect::Reply { ticket: waits, answer: Answer::Sync(fenced) });
        }
        let was_unsynced = self.unsynced.remove(&old);
        let (ticket, can_skip) = (join.ticket, join.can_skip_assignment);
        let mut new = about(join, id.clone());
        new.assignment = gone.about.assignment;
        self.insert(new.clone(), Some(ticket));
        if let Some(member) = self.members.get_mut(&id) {
            member.arrival = gone.arrival;
            member.new = gone.new;
        }
        let led = self.leader.as_ref() == Some(&old);
        if led {
            self.leader = Some(id.clone());
        }
        match self.phase {
            Phase::Stable if self.protocol == self.vote() => {
                if was_unsynced {
                    self.unsynced.insert(id.clone());
                }
                self.end_join(&id);
                self.refresh(&id, now);
                self.persist(ClassicRecord::Replaced { old: old.clone(), member: new }, out);
                self.reply_replaced(ticket, &id, led.then_some(old), can_skip, out);
            }
            Phase::PreparingRebalance => {
                self.set_session(&id, None);
                self.complete_if_all_joined(now, out);
            }
            _ => self.prepare(now, out), // the leader may have been told the old id
        }
    }

    /// KIP-814: a leader below v9 is told its old id as the leader's, so that it makes no assignment
    /// that a stable group would ignore.
    fn reply_replaced(
        &self,
        ticket: Ticket,
        id: &MemberId,
        led_as: Option<MemberId>,
        can_skip: bool,
        out: &mut Vec<ClassicEffect>,
    ) {
        let Some(mut joined) = self.joined(id, can_skip && led_as.is_some()) else { return };
        if let (Some(old), false) = (led_as, can_skip) {
            joined.leader = old;
            joined.members = Vec::new();
        }
        out.push(reply(ticket, Ok(joined)));
    }

    /// What the member is told of the current generation.
    pub(super) fn joined(&self, id: &MemberId, skip_assignment: bool) -> Option<Joined> {
        let (leader, protocol) = (self.leader.clone()?, self.protocol.clone()?);
        let members = if leader == *id { self.metadata_of_all(&protocol) } else { Vec::new() };
        Some(Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone()?,
            protocol,
            leader,
            member: id.clone(),
            skip_assignment,
            members,
        })
    }

    fn metadata_of_all(&self, protocol: &str) -> Vec<JoinedMember> {
        let of = |member: &Member| JoinedMember {
            member: member.about.member.clone(),
            instance: member.about.instance.clone(),
            metadata: metadata_of(&member.about, protocol),
        };
        self.members.values().map(of).collect()
    }

    fn update(&mut self, join: Join, id: &MemberId, out: &mut Vec<ClassicEffect>) {
        let Some(mut old) = self.take(id) else { return };
        if let Some(waits) = old.joining.take() {
            out.push(reply(waits, Err(JoinError::Superseded)));
        }
        if let Some(waits) = old.syncing.take() {
            let again = Err(super::api::SyncError::RebalanceInProgress);
            out.push(Effect::Reply { ticket: waits, answer: Answer::Sync(again) });
        }
        let ticket = join.ticket;
        let mut new = about(join, id.clone());
        new.instance = old.about.instance;
        new.assignment = old.about.assignment;
        self.insert(new, Some(ticket));
        if let Some(member) = self.members.get_mut(id) {
            member.arrival = old.arrival;
            member.new = old.new;
        }
        let patience = old.session.filter(|_| old.new);
        self.set_session(id, patience);
    }

    /// Puts a member into every table.
    pub(super) fn insert(&mut self, about: MemberRecord, joining: Option<Ticket>) {
        let id = about.member.clone();
        if let Some(instance) = &about.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        for name in names(&about) {
            *self.supported.entry(name).or_default() += 1;
        }
        self.metadata_bytes += bytes_of(&about.protocols);
        self.joining += usize::from(joining.is_some());
        self.arrivals += 1;
        let arrival = self.arrivals;
        let member = Member { about, arrival, joining, syncing: None, new: true, session: None };
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "a member id was given out twice");
    }

    /// Takes a member out of every table but `unsynced` and `leader`.
    pub(super) fn take(&mut self, id: &MemberId) -> Option<Member> {
        self.set_session(id, None);
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.about.instance {
            self.statics.remove(instance);
        }
        for name in names(&member.about) {
            let left = self.supported.get_mut(&name).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                self.supported.remove(&name);
            }
        }
        self.metadata_bytes -= bytes_of(&member.about.protocols);
        self.joining -= usize::from(member.joining.is_some());
        Some(member)
    }

    /// The member's join is answered.
    pub(super) fn end_join(&mut self, id: &MemberId) -> Option<Ticket> {
        let member = self.members.get_mut(id)?;
        member.new = false;
        let ticket = member.joining.take();
        self.joining -= usize::from(ticket.is_some());
        ticket
    }
}

pub(super) fn reply(ticket: Ticket, answer: Result<Joined, JoinError>) -> ClassicEffect {
    Effect::Reply { ticket, answer: Answer::Join(answer) }
}

/// The member's metadata for a protocol; empty if it does not have it.
pub(super) fn metadata_of(about: &MemberRecord, protocol: &str) -> Bytes {
    let found = about.protocols.iter().find(|(name, _)| **name == *protocol);
    found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
}

fn names(about: &MemberRecord) -> BTreeSet<Arc<str>> {
    about.protocols.iter().map(|(name, _)| name.clone()).collect()
}

fn about(join: Join, member: MemberId) -> MemberRecord {
    MemberRecord {
        member,
        instance: join.instance,
        client_id: join.client_id,
        client_host: join.client_host,
        session_timeout_ms: unsigned(join.session_timeout_ms),
        rebalance_timeout_ms: unsigned(join.rebalance_timeout_ms),
        protocols: join.protocols,
        assignment: Bytes::new(),
    }
}

fn unsigned(ms: i32) -> u32 {
    u32::try_from(ms).unwrap_or(0)
}
