//! Stories of classic groups; research/kafka.md 2.5 rule by rule.

use super::*;
use crate::clock::{Monotonic, Wall};

/// A group, its clock, and the answers by ticket.
struct World {
    group: ClassicGroup,
    now: Now,
    tickets: u64,
    answers: BTreeMap<Ticket, Answer>,
    records: Vec<ClassicRecord>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Now { monotonic: Monotonic(1_000), wall: Wall(1_700_000_000_000) };
        let group = ClassicGroup::new(settings);
        Self { group, now, tickets: 0, answers: BTreeMap::new(), records: Vec::new() }
    }

    fn take(&mut self, effects: Vec<ClassicEffect>) {
        for effect in effects {
            match effect {
                Effect::Reply { ticket, answer } => {
                    assert!(self.answers.insert(ticket, answer).is_none(), "answered twice");
                }
                Effect::Persist(record) => self.records.push(record),
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now.monotonic.after(ms);
        while let Some(at) = self.group.deadline().filter(|at| *at <= end) {
            self.now.wall = self.now.wall.after(at.since(self.now.monotonic));
            self.now.monotonic = self.now.monotonic.max(at);
            let effects = self.group.tick(self.now);
            self.take(effects);
        }
        self.now.wall = self.now.wall.after(end.since(self.now.monotonic));
        self.now.monotonic = end;
    }

    fn join_with(&mut self, change: impl FnOnce(&mut Join)) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let mut uuid = [0; 16];
        uuid[15] = u8::try_from(self.tickets % 256).unwrap();
        uuid[14] = u8::try_from(self.tickets / 256).unwrap();
        let mut join = Join {
            ticket,
            member: None,
            instance: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"orders"))],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            id_required: false,
            can_skip_assignment: false,
            uuid,
        };
        change(&mut join);
        let effects = self.group.apply(Command::Join(join), self.now);
        self.take(effects);
        ticket
    }

    fn join(&mut self) -> Ticket {
        self.join_with(|_| {})
    }

    fn rejoin(&mut self, member: &MemberId) -> Ticket {
        self.join_with(|join| join.member = Some(member.clone()))
    }

    fn join_static(&mut self, instance: &str) -> Ticket {
        self.join_with(|join| join.instance = Some(instance.into()))
    }

    fn sync_with(&mut self, joined: &Joined, change: impl FnOnce(&mut Sync)) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let all = joined.members.iter().enumerate();
        let mut sync = Sync {
            ticket,
            member: joined.member.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: all
                .map(|(n, m)| (m.member.clone(), Bytes::from(format!("p{n}"))))
                .collect(),
        };
        change(&mut sync);
        let effects = self.group.apply(Command::Sync(sync), self.now);
        self.take(effects);
        ticket
    }

    fn sync(&mut self, joined: &Joined) -> Ticket {
        self.sync_with(joined, |_| {})
    }

    fn beat(&mut self, member: &MemberId, generation: i32) -> Result<(), HeartbeatError> {
        self.tickets += 1;
        let (ticket, member) = (Ticket(self.tickets), member.clone());
        let generation = Generation(generation);
        let beat = Heartbeat { ticket, member, instance: None, generation };
        let effects = self.group.apply(Command::Heartbeat(beat), self.now);
        self.take(effects);
        match self.answers.get(&ticket) {
            Some(Answer::Heartbeat(answer)) => answer.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, members: Vec<Leaver>) -> Vec<Result<(), LeaveError>> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let effects = self.group.apply(Command::Leave(Leave { ticket, members }), self.now);
        self.take(effects);
        match self.answers.get(&ticket) {
            Some(Answer::Leave(results)) => results.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn joined(&self, ticket: Ticket) -> Joined {
        match self.answers.get(&ticket) {
            Some(Answer::Join(Ok(joined))) => joined.clone(),
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn refused(&self, ticket: Ticket) -> JoinError {
        match self.answers.get(&ticket) {
            Some(Answer::Join(Err(error))) => error.clone(),
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn synced(&self, ticket: Ticket) -> Result<Bytes, SyncError> {
        match self.answers.get(&ticket) {
            Some(Answer::Sync(answer)) => answer.clone().map(|synced| synced.assignment),
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    /// One member, joined and synced.
    fn alone(&mut self) -> Joined {
        let ticket = self.join();
        let joined = self.joined(ticket);
        self.sync(&joined);
        joined
    }

    /// Two members in a stable group; the first leads.
    fn pair(&mut self) -> (Joined, Joined) {
        let first = self.alone();
        let second = self.join();
        let again = self.rejoin(&first.member);
        let (first, second) = (self.joined(again), self.joined(second));
        self.sync(&first);
        self.sync(&second);
        assert_eq!(self.group.phase(), Phase::Stable);
        (first, second)
    }

    fn restart(&mut self) {
        let mut remembered = Remembered::default();
        for record in &self.records {
            let bytes = postcard::to_stdvec(record).unwrap();
            remembered.replay(postcard::from_bytes(&bytes).unwrap());
        }
        assert_eq!(&remembered, self.group.remembered());
        self.now.monotonic = Monotonic(5);
        self.group = ClassicGroup::restore(self.group.settings, remembered, self.now);
    }
}

fn world() -> World {
    World::new(Settings::default())
}

#[test]
fn the_first_member_leads_at_once_and_gets_what_it_assigns() {
    let mut world = world();
    let ticket = world.join();
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, &joined.leader), (Generation(1), &joined.member));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(world.group.phase(), Phase::CompletingRebalance);
    let synced = world.sync(&joined);
    assert_eq!(world.synced(synced).unwrap(), "p0");
    assert_eq!(world.group.phase().to_string(), "Stable");
}

#[test]
fn a_second_member_waits_until_the_first_has_rejoined_and_a_follower_for_the_leader() {
    let mut world = world();
    let first = world.alone();
    let second = world.join();
    assert!(world.waits(second));
    assert_eq!(world.beat(&first.member, 1), Err(HeartbeatError::RebalanceInProgress));
    let again = world.rejoin(&first.member);
    let (first, second) = (world.joined(again), world.joined(second));
    assert_eq!((first.generation, second.generation), (Generation(2), Generation(2)));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "only the leader sees members");
    assert_eq!(second.leader, first.member, "the first joiner stays leader");
    let follower = world.sync(&second);
    assert!(world.waits(follower));
    world.sync(&first);
    assert!(world.synced(follower).unwrap().starts_with(b"p"));
    assert_eq!(world.beat(&second.member, 2), Ok(()));
    assert_eq!(world.beat(&second.member, 1), Err(HeartbeatError::IllegalGeneration));
    assert_eq!(world.beat(&"nobody".into(), 2), Err(HeartbeatError::UnknownMember));
}

// KIP-394
#[test]
fn a_newcomer_has_to_come_again_with_the_id_it_was_given() {
    let mut world = world();
    let ticket = world.join_with(|join| join.id_required = true);
    let JoinError::MemberIdRequired(id) = world.refused(ticket) else { panic!() };
    assert!(id.as_str().starts_with("c-00000000-0000-"), "{id}");
    assert_eq!(world.group.members_len(), 0);
    let again = world.rejoin(&id);
    assert_eq!(world.joined(again).member, id);
    let stranger = world.rejoin(&"made-up".into());
    assert_eq!(world.refused(stranger), JoinError::UnknownMember);
}

#[test]
fn a_promised_id_holds_a_join_phase_open_until_its_session_ends() {
    let mut world = world();
    let first = world.alone();
    let ticket = world.join_with(|join| join.id_required = true);
    let JoinError::MemberIdRequired(id) = world.refused(ticket) else { panic!() };
    assert_eq!(world.beat(&first.member, 1), Ok(()), "a promise starts no rebalance");
    let again = world.rejoin(&first.member); // the leader's rejoin does
    assert!(world.waits(again));
    world.pass(10_000);
    assert_eq!(world.joined(again).generation, Generation(2));
    let late = world.rejoin(&id);
    assert_eq!(world.refused(late), JoinError::UnknownMember);
}

#[test]
fn joins_that_do_not_fit_are_refused() {
    let mut world = world();
    for (ms, fits) in
        [(5_999, false), (6_000, true), (1_800_000, true), (1_800_001, false), (-1, false)]
    {
        let ticket = world.join_with(|join| {
            join.session_timeout_ms = ms;
            join.id_required = true;
        });
        assert_eq!(world.refused(ticket) != JoinError::InvalidSessionTimeout, fits, "{ms}");
    }
    let nothing = world.join_with(|join| join.protocols.clear());
    assert_eq!(world.refused(nothing), JoinError::InconsistentProtocol);
    let untyped = world.join_with(|join| join.protocol_type = "".into());
    assert_eq!(world.refused(untyped), JoinError::InconsistentProtocol);
    world.pass(1_800_000); // the ids given out above are forgotten
    world.alone();
    let other = world.join_with(|join| join.protocols = vec![("sticky".into(), Bytes::new())]);
    assert_eq!(world.refused(other), JoinError::InconsistentProtocol);
    let connect = world.join_with(|join| join.protocol_type = "connect".into());
    assert_eq!(world.refused(connect), JoinError::InconsistentProtocol);
}

#[test]
fn the_protocol_is_the_one_most_members_prefer_among_those_all_have() {
    let mut world = world();
    let lists: [&[&str]; 3] = [&["a", "b", "c"], &["c", "b"], &["x", "b", "c"]];
    let mut protocols = lists.map(|list| {
        list.iter().map(|name| ((*name).into(), Bytes::new())).collect::<Vec<(Arc<str>, Bytes)>>()
    });
    let [one, two, three] = &mut protocols;
    let first = world.join_with(|join| join.protocols = one.clone());
    let first = world.joined(first);
    assert_eq!(&*first.protocol, "a");
    let second = world.join_with(|join| join.protocols = std::mem::take(two));
    let third = world.join_with(|join| join.protocols = std::mem::take(three));
    let again = world.join_with(|join| {
        join.member = Some(first.member.clone());
        join.protocols = one.clone();
    });
    assert_eq!(&*world.joined(again).protocol, "b", "a and x are not shared; b has two votes");
    assert_eq!(world.joined(second).protocol, world.joined(third).protocol);
}

#[test]
fn members_that_do_not_rejoin_in_the_longest_rebalance_timeout_are_removed() {
    let mut world = world();
    let (first, second) = world.pair();
    let ticket = world.rejoin(&first.member);
    for _ in 0..11 {
        world.pass(5_000);
        assert!(world.waits(ticket));
        assert_eq!(world.beat(&second.member, 2), Err(HeartbeatError::RebalanceInProgress));
    }
    world.pass(5_000);
    let joined = world.joined(ticket);
    assert_eq!((joined.generation, joined.members.len()), (Generation(3), 1));
    assert_eq!(world.beat(&second.member, 2), Err(HeartbeatError::UnknownMember));
}

#[test]
fn a_follower_may_rejoin_a_stable_group_in_peace_but_not_with_new_metadata() {
    let mut world = world();
    let (first, second) = world.pair();
    let same = world.rejoin(&second.member);
    assert_eq!(world.joined(same).generation, Generation(2));
    assert_eq!(world.group.phase(), Phase::Stable);
    let changed = world.join_with(|join| {
        join.member = Some(second.member.clone());
        join.protocols = vec![("range".into(), Bytes::from_static(b"orders,bills"))];
    });
    assert!(world.waits(changed));
    let leader = world.rejoin(&first.member);
    assert_eq!(world.joined(leader).generation, Generation(3));
    let seen: Vec<Bytes> =
        world.joined(leader).members.iter().map(|m| m.metadata.clone()).collect();
    assert!(seen.contains(&Bytes::from_static(b"orders,bills")));
}

#[test]
fn between_join_and_sync_a_lost_join_answer_is_repeated() {
    let mut world = world();
    let ticket = world.join();
    let joined = world.joined(ticket);
    let again = world.rejoin(&joined.member);
    assert_eq!(world.joined(again), joined);
}

#[test]
fn a_newer_join_or_sync_of_the_same_member_replaces_the_waiting_one() {
    let mut world = world();
    let (first, second) = world.pair();
    let one = world.rejoin(&first.member);
    let two = world.rejoin(&first.member);
    assert_eq!(world.refused(one), JoinError::Superseded);
    world.rejoin(&second.member);
    let mut follower = world.joined(two);
    follower.member = second.member;
    let lost = world.sync(&follower);
    let kept = world.sync(&follower);
    assert_eq!(world.synced(lost), Err(SyncError::RebalanceInProgress));
    assert!(world.waits(kept));
}

#[test]
fn a_member_that_never_syncs_is_removed_after_the_rebalance_timeout() {
    let mut world = world();
    let first = world.alone();
    let second = world.join();
    let again = world.rejoin(&first.member);
    let (first, second) = (world.joined(again), world.joined(second));
    let follower = world.sync(&second);
    for _ in 0..11 {
        world.pass(5_000);
        assert_eq!(world.beat(&first.member, 2), Ok(()), "the silent leader keeps its session");
    }
    assert!(world.waits(follower));
    world.pass(5_000);
    assert_eq!(world.synced(follower), Err(SyncError::RebalanceInProgress));
    assert_eq!(world.beat(&first.member, 2), Err(HeartbeatError::UnknownMember));
}

#[test]
fn syncs_that_do_not_fit_are_refused() {
    let mut world = world();
    let joined = world.alone();
    let old = world.sync_with(&joined, |sync| sync.generation = Generation(0));
    assert_eq!(world.synced(old), Err(SyncError::IllegalGeneration));
    let unknown = world.sync_with(&joined, |sync| sync.member = "nobody".into());
    assert_eq!(world.synced(unknown), Err(SyncError::UnknownMember));
    let other = world.sync_with(&joined, |sync| sync.protocol = Some("sticky".into()));
    assert_eq!(world.synced(other), Err(SyncError::InconsistentProtocol));
    let repeated = world.sync(&joined);
    assert_eq!(world.synced(repeated).unwrap(), "p0", "a stable group repeats the assignment");
    world.join();
    let late = world.sync(&joined);
    assert_eq!(world.synced(late), Err(SyncError::RebalanceInProgress));
}

#[test]
fn a_session_without_heartbeats_ends_and_with_the_last_member_the_group_is_empty() {
    let mut world = world();
    let joined = world.alone();
    world.pass(9_000);
    assert_eq!(world.beat(&joined.member, 1), Ok(()));
    world.pass(9_999);
    assert_eq!(world.group.phase(), Phase::Stable);
    world.pass(1);
    assert_eq!(world.group.phase(), Phase::Empty);
    assert_eq!(world.group.generation(), Generation(2));
    assert_eq!(world.group.empty_since(), Some(world.now.wall));
    assert_eq!(world.group.deadline(), None);
}

// LeaveGroup v3+
#[test]
fn leaving_is_judged_one_by_one() {
    let mut world = world();
    let (first, second) = world.pair();
    let leaver = |member: Option<&MemberId>, instance: Option<&str>| Leaver {
        member: member.cloned(),
        instance: instance.map(InstanceId::from),
    };
    let results = world.leave(vec![
        leaver(Some(&"nobody".into()), None),
        leaver(Some(&second.member), None),
        leaver(None, Some("ghost")),
    ]);
    let unknown = || Err(LeaveError::UnknownMember);
    assert_eq!(results, vec![unknown(), Ok(()), unknown()]);
    assert_eq!(world.group.phase(), Phase::PreparingRebalance);
    let again = world.rejoin(&first.member);
    assert_eq!(world.joined(again).members.len(), 1);
}

// KIP-345
#[test]
fn a_static_member_that_comes_back_keeps_its_assignment_and_fences_its_former_self() {
    let mut world = world();
    let ticket = world.join_static("one");
    let before = world.joined(ticket);
    world.sync_with(&before, |sync| sync.instance = Some("one".into()));
    let ticket = world.join_static("one");
    let after = world.joined(ticket);
    assert_eq!(after.generation, before.generation, "no rebalance");
    assert_ne!(after.member, before.member);
    assert_eq!(after.leader, before.member, "below v9 the old name keeps it from assigning");
    let synced = world.sync_with(&after, |sync| sync.instance = Some("one".into()));
    assert_eq!(world.synced(synced).unwrap(), "p0");
    let fenced = world.sync_with(&before, |sync| sync.instance = Some("one".into()));
    assert_eq!(world.synced(fenced), Err(SyncError::FencedInstance));
    let zombie = world.join_with(|join| {
        join.member = Some(before.member.clone());
        join.instance = Some("one".into());
    });
    assert_eq!(world.refused(zombie), JoinError::FencedInstance);
    world.restart();
    assert_eq!(world.beat(&after.member, 1), Ok(()), "the replacement is remembered");
}

// KIP-814
#[test]
fn a_static_leader_of_version_nine_is_told_to_skip_the_assignment() {
    let mut world = world();
    let ticket = world.join_static("one");
    let before = world.joined(ticket);
    world.sync(&before);
    let ticket = world.join_with(|join| {
        join.instance = Some("one".into());
        join.can_skip_assignment = true;
    });
    let after = world.joined(ticket);
    assert!(after.skip_assignment);
    assert_eq!((&after.leader, after.members.len()), (&after.member, 1));
}

#[test]
fn a_static_member_that_is_away_stays_until_its_session_ends() {
    let mut world = world();
    let ticket = world.join_static("one");
    let one = world.joined(ticket);
    world.sync(&one);
    let two = world.join_with(|join| join.rebalance_timeout_ms = 1_000);
    let long = world.join_with(|join| {
        join.member = Some(one.member.clone());
        join.instance = Some("one".into());
        join.session_timeout_ms = 120_000;
    });
    let (one, two) = (world.joined(long), world.joined(two));
    world.sync(&one);
    world.sync(&two);
    let changed = world.join_with(|join| {
        join.member = Some(two.member.clone());
        join.protocols = vec![("range".into(), Bytes::from_static(b"new"))];
    });
    world.pass(60_000);
    let joined = world.joined(changed);
    assert_eq!(joined.members.len(), 2, "the static member counts although it is away");
    assert_eq!(joined.leader, two.member, "but only one that has joined can lead");
    world.sync(&joined);
    for _ in 0..13 {
        world.pass(5_000);
        world.beat(&two.member, 3).unwrap_or_default();
    }
    assert_eq!(world.group.members_len(), 1, "its session is over");
}

#[test]
fn an_instance_leaves_by_its_name_alone() {
    let mut world = world();
    world.join_static("one");
    let fenced = Leaver { member: Some("old".into()), instance: Some("one".into()) };
    let named = Leaver { member: None, instance: Some("one".into()) };
    let results = world.leave(vec![fenced, named]);
    assert_eq!(results, vec![Err(LeaveError::FencedInstance), Ok(())]);
    assert_eq!(world.group.phase(), Phase::Empty);
}

#[test]
fn a_full_group_refuses_more_members_but_not_its_own() {
    let mut world = World::new(Settings { members_max: 2, ..Settings::default() });
    let (first, _) = world.pair();
    let third = world.join();
    assert_eq!(world.refused(third), JoinError::GroupFull);
    let again = world.rejoin(&first.member);
    assert!(world.waits(again));
    for _ in 0..5 {
        world.join_with(|join| join.id_required = true);
    }
    assert_eq!(world.group.newcomers.len(), 2, "there is room beside the joined, but bounded");
}

#[test]
fn giant_metadata_and_assignments_are_refused_before_they_cost_anything() {
    let mut world = World::new(Settings { metadata_bytes_max: 100, ..Settings::default() });
    let giant = || vec![("range".into(), Bytes::from(vec![0; 200]))];
    let refused = world.join_with(|join| join.protocols = giant());
    assert_eq!(world.refused(refused), JoinError::MetadataTooLarge);
    let joined = world.alone();
    let giant = world.join_with(|join| {
        join.member = Some(joined.member.clone());
        join.protocols = giant();
    });
    assert_eq!(world.refused(giant), JoinError::MetadataTooLarge);
    let ticket = world.rejoin(&joined.member);
    let joined = world.joined(ticket);
    let id = joined.member.clone();
    let sync = world.sync_with(&joined, |s| s.assignments = vec![(id, Bytes::from(vec![0; 200]))]);
    assert_eq!(world.synced(sync), Err(SyncError::AssignmentTooLarge));
}

#[test]
fn a_first_join_waits_for_company_if_the_operator_wants_so() {
    let mut world = World::new(Settings { initial_delay_ms: 3_000, ..Settings::default() });
    let one = world.join();
    world.pass(2_000);
    let two = world.join();
    world.pass(1_000);
    assert!(world.waits(one), "company came, the delay starts again");
    world.pass(3_000);
    assert_eq!(world.joined(one).members.len(), 2);
    assert_eq!(world.joined(two).generation, Generation(1));
}

// store.md rule 19
#[test]
fn a_restart_is_no_rebalance() {
    let mut world = world();
    let (first, second) = world.pair();
    world.restart();
    assert_eq!(world.group.phase(), Phase::Stable);
    assert_eq!(world.beat(&first.member, 2), Ok(()));
    assert_eq!(world.beat(&second.member, 2), Ok(()));
    let synced = world.sync(&second);
    assert!(world.synced(synced).unwrap().starts_with(b"p"), "the assignment is remembered");
    world.pass(10_000);
    assert_eq!(world.group.phase(), Phase::Empty, "sessions were started anew, then ran out");
}

#[test]
fn a_restart_between_join_and_sync_repeats_no_generation() {
    let mut world = world();
    let ticket = world.join();
    let joined = world.joined(ticket);
    world.restart();
    assert_eq!(world.group.phase(), Phase::CompletingRebalance);
    let synced = world.sync(&joined);
    assert_eq!(world.synced(synced).unwrap(), "p0");
    assert_eq!(world.group.generation(), Generation(1));
}

#[test]
fn a_member_that_left_does_not_come_back_with_a_restart() {
    let mut world = world();
    let (first, second) = world.pair();
    world.leave(vec![Leaver { member: Some(first.member.clone()), instance: None }]);
    world.restart();
    assert_eq!(world.beat(&first.member, 2), Err(HeartbeatError::UnknownMember));
    assert_eq!(world.beat(&second.member, 2), Err(HeartbeatError::RebalanceInProgress));
    let again = world.rejoin(&second.member);
    assert_eq!(world.joined(again).leader, second.member);
}

#[test]
fn offset_commits_need_the_names_and_the_generation() {
    let mut world = world();
    let who = |member: Option<&MemberId>, generation| Committer {
        member: member.cloned(),
        instance: None,
        generation: Generation(generation),
        knows_epochs: false,
    };
    let now = world.now;
    assert_eq!(world.group.check_commit(&who(None, -1), false, now), Ok(()), "simple consumer");
    let ghost: MemberId = "ghost".into();
    let unknown = Err(CommitError::UnknownMember);
    assert_eq!(world.group.check_commit(&who(Some(&ghost), 1), false, now), unknown);
    let ticket = world.join();
    let joined = world.joined(ticket);
    let member = who(Some(&joined.member), 1);
    let early = world.group.check_commit(&member, false, now);
    assert_eq!(early, Err(CommitError::RebalanceInProgress));
    assert_eq!(world.group.check_commit(&member, true, now), Ok(()), "transactional");
    world.sync(&joined);
    assert_eq!(world.group.check_commit(&member, false, now), Ok(()));
    let old = who(Some(&joined.member), 0);
    assert_eq!(world.group.check_commit(&old, false, now), Err(CommitError::IllegalGeneration));
    assert_eq!(world.group.check_commit(&who(None, -1), false, now), unknown, "group not empty");
    assert_eq!(world.group.check_commit(&who(None, -1), true, now), Ok(()), "TxnOffsetCommit v0-2");
    world.pass(9_000);
    world.group.check_commit(&member, false, world.now).unwrap();
    world.pass(9_000);
    assert_eq!(world.group.phase(), Phase::Stable, "a commit refreshes the session");
    world.join();
    assert_eq!(
        world.group.check_commit(&member, false, world.now),
        Ok(()),
        "last commit before rejoin"
    );
}

#[test]
fn commits_to_an_absent_group_depend_on_the_version() {
    let who = |generation, knows_epochs| Committer {
        member: None,
        instance: None,
        generation: Generation(generation),
        knows_epochs,
    };
    assert_eq!(who(-1, true).check_absent(), Ok(()));
    assert_eq!(who(0, false).check_absent(), Err(CommitError::IllegalGeneration));
    assert_eq!(who(0, true).check_absent(), Err(CommitError::GroupNotFound));
}

#[test]
fn a_deleted_group_says_so() {
    let mut world = world();
    world.group.kill();
    let ticket = world.join();
    assert_eq!(world.refused(ticket), JoinError::Dead);
    assert_eq!(world.beat(&"x".into(), 1), Err(HeartbeatError::Dead));
}

#[test]
fn ten_thousand_members_that_join_and_vanish_are_bounded_and_leave_nothing() {
    let mut world = world();
    for _ in 0..20_000 {
        world.join_with(|join| join.id_required = true);
    }
    assert_eq!(world.group.newcomers.len(), 10_000);
    world.pass(10_000);
    assert_eq!(world.group.newcomers.len(), 0);
    let joined = world.alone();
    let tickets: Vec<Ticket> = (0..9_999).map(|_| world.join()).collect();
    let full = world.join();
    assert!(world.waits(full), "the first member has not rejoined, so there is room");
    let again = world.rejoin(&joined.member);
    assert_eq!(world.refused(again), JoinError::GroupFull);
    world.pass(60_000);
    assert_eq!(world.joined(full).generation, Generation(2));
    assert!(tickets.iter().all(|t| world.joined(*t).generation == Generation(2)));
    world.pass(200_000);
    assert_eq!((world.group.members_len(), world.group.phase()), (0, Phase::Empty));
    assert!(world.group.sessions.is_empty() && world.group.supported.is_empty());
    assert_eq!((world.group.metadata_bytes, world.group.deadline()), (0, None));
}
