//! Stories of KIP-848 groups; research/kafka.md 2.6.

use super::*;
use crate::group::assignor::{Part, Parts};
use crate::group::ids::Generation;

#[derive(Default)]
struct Shelf {
    topics: BTreeMap<&'static str, (TopicId, u32)>,
    version: u64,
}

impl Shelf {
    fn put(&mut self, name: &'static str, number: u8, partitions: u32) {
        self.topics.insert(name, (TopicId([number; 16]), partitions));
        self.version += 1;
    }
}

impl Topics for Shelf {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        self.topics.get(name).copied()
    }

    fn each(&self, visit: &mut dyn FnMut(&str, TopicId, u32)) {
        for (name, (id, partitions)) in &self.topics {
            visit(name, *id, *partitions);
        }
    }
}

/// What a client knows.
#[derive(Clone, Debug)]
struct Client {
    name: MemberId,
    instance: Option<&'static str>,
    epoch: i32,
    owned: Parts,
}

struct World {
    group: ConsumerGroup,
    shelf: Shelf,
    now: Now,
    folded: RememberedConsumers,
    records: usize,
}

impl World {
    fn new() -> Self {
        let mut shelf = Shelf::default();
        shelf.put("orders", 1, 6);
        let group = ConsumerGroup::new(ConsumerSettings::default());
        let folded = RememberedConsumers::default();
        Self { group, shelf, now: Now::default(), folded, records: 0 }
    }

    fn log(&mut self, records: Vec<ConsumerRecord>) {
        self.records += records.len();
        for record in records {
            let bytes = postcard::to_stdvec(&record).unwrap();
            self.folded.replay(postcard::from_bytes(&bytes).unwrap());
        }
        assert_eq!(&self.folded, self.group.remembered());
    }

    fn send(&mut self, beat: Beat) -> Result<Beaten, BeatError> {
        let decision = self.group.heartbeat(beat, &self.shelf, self.now);
        self.log(decision.records);
        decision.answer
    }

    fn join(&mut self, name: &str) -> Client {
        self.join_with(name, |_| {}).unwrap()
    }

    fn join_with(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Beat),
    ) -> Result<Client, BeatError> {
        let mut beat = joining(name);
        change(&mut beat);
        let answer = self.send(beat)?;
        let owned = answer.assignment.expect("a join is always told what it has");
        Ok(Client { name: name.into(), instance: None, epoch: answer.epoch, owned })
    }

    /// A heartbeat that does what the last one asked for.
    fn beat(&mut self, client: &mut Client) -> Result<Beaten, BeatError> {
        let answer = self.send(reporting(client))?;
        client.epoch = answer.epoch;
        if let Some(assignment) = &answer.assignment {
            client.owned.clone_from(assignment);
        }
        Ok(answer)
    }

    fn settle(&mut self, clients: &mut [Client]) {
        for _ in 0..4 {
            for client in clients.iter_mut() {
                self.beat(client).unwrap();
            }
        }
        assert_eq!(self.group.state(), GroupState::Stable);
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.after(ms);
        self.now.wall = self.now.wall.after(ms);
        let records = self.group.tick(self.now);
        self.log(records);
    }

    fn leave(
        &mut self,
        name: &str,
        epoch: i32,
        instance: Option<&str>,
    ) -> Result<Beaten, BeatError> {
        let instance = instance.map(Into::into);
        self.send(Beat { epoch, instance, topics: None, owned: None, ..joining(name) })
    }
}

fn joining(name: &str) -> Beat {
    Beat {
        member: name.into(),
        epoch: 0,
        instance: None,
        rack: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: Some(60_000),
        topics: Some(vec!["orders".into()]),
        regex: None,
        assignor: None,
        owned: Some(Parts::new()),
    }
}

fn reporting(client: &Client) -> Beat {
    Beat {
        epoch: client.epoch,
        instance: client.instance.map(Into::into),
        rebalance_timeout_ms: None,
        topics: None,
        owned: Some(client.owned.clone()),
        ..joining(client.name.as_str())
    }
}

fn sizes(clients: &[Client]) -> Vec<usize> {
    let mut sizes: Vec<usize> = clients.iter().map(|client| client.owned.len()).collect();
    sizes.sort_unstable();
    sizes
}

fn part(number: u8, partition: i32) -> Part {
    Part { topic: TopicId([number; 16]), partition }
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut world = World::new();
    let one = world.join("one");
    assert_eq!((one.epoch, one.owned.len()), (1, 6));
    assert_eq!(world.group.state().to_string(), "Stable");
}

#[test]
fn a_partition_is_given_only_after_its_former_owner_has_dropped_it() {
    let mut world = World::new();
    let mut one = world.join("one");
    let mut two = world.join("two");
    assert_eq!((two.epoch, two.owned.len()), (2, 0), "nothing is free yet");
    assert_eq!(world.group.state(), GroupState::Reconciling);
    let asked = world.send(reporting(&one)).unwrap();
    let keep = asked.assignment.clone().unwrap();
    assert_eq!((asked.epoch, keep.len()), (1, 3), "asked to give up three, still in its epoch");
    assert_eq!(world.send(reporting(&one)).unwrap().assignment, None, "asked once");
    assert!(world.beat(&mut two).unwrap().assignment.is_none(), "the owner has not dropped them");
    one.owned = keep;
    world.beat(&mut one).unwrap();
    assert_eq!(one.epoch, 2);
    world.beat(&mut two).unwrap();
    assert_eq!(two.owned.len(), 3);
    assert!(one.owned.is_disjoint(&two.owned));
    assert_eq!(world.group.state(), GroupState::Stable);
}

// shared/acceptance, test_group_scaling_six_partitions
#[test]
fn three_members_two_each_then_seven_then_two() {
    let mut world = World::new();
    let mut clients: Vec<Client> = ["a", "b", "c"].iter().map(|name| world.join(name)).collect();
    world.settle(&mut clients);
    assert_eq!(sizes(&clients), [2, 2, 2]);
    clients.extend(["d", "e", "f", "g"].iter().map(|name| world.join(name)));
    world.settle(&mut clients);
    assert_eq!(sizes(&clients), [0, 1, 1, 1, 1, 1, 1]);
    while clients.len() > 2 {
        let gone = clients.pop().unwrap();
        world.leave(gone.name.as_str(), -1, None).unwrap();
        world.settle(&mut clients);
        assert_eq!(sizes(&clients).iter().sum::<usize>(), 6);
    }
    assert_eq!(sizes(&clients), [3, 3]);
}

#[test]
fn quiet_heartbeats_cost_no_record() {
    let mut world = World::new();
    let mut clients = vec![world.join("one"), world.join("two")];
    world.settle(&mut clients);
    let before = world.records;
    world.settle(&mut clients);
    assert_eq!(world.records, before);
}

#[test]
fn each_invalid_request() {
    let mut world = World::new();
    type Change = fn(&mut Beat);
    let invalid: [Change; 9] = [
        |beat| beat.member = "".into(),
        |beat| beat.instance = Some("".into()),
        |beat| beat.epoch = -3,
        |beat| beat.epoch = -2,
        |beat| beat.rebalance_timeout_ms = None,
        |beat| beat.rebalance_timeout_ms = Some(0),
        |beat| beat.owned = None,
        |beat| beat.owned = Some(Parts::from([part(1, 0)])),
        |beat| beat.topics = None,
    ];
    for (n, change) in invalid.into_iter().enumerate() {
        let refused = world.join_with("one", change).unwrap_err();
        assert!(matches!(refused, BeatError::InvalidRequest(_)), "{n}: {refused:?}");
    }
    let refused = world.join_with("one", |beat| beat.assignor = Some("sticky".into()));
    assert_eq!(refused.unwrap_err(), BeatError::UnsupportedAssignor("sticky".into()));
    let refused = world.send(Beat { epoch: 1, ..joining("ghost") });
    assert_eq!(refused, Err(BeatError::UnknownMember("ghost".into())));
    let refused = world.leave("ghost", -1, None);
    assert_eq!(refused, Err(BeatError::UnknownMember("ghost".into())));
    assert_eq!(world.records, 0, "whoever is refused leaves no trace");
    world.group.settings.members_max = 1;
    world.join("one");
    assert_eq!(world.join_with("two", |_| {}).unwrap_err(), BeatError::GroupFull);
}

#[test]
fn an_epoch_ahead_or_behind_is_fenced_unless_an_answer_was_lost() {
    let mut world = World::new();
    let mut one = world.join("one");
    let before = one.clone();
    world.join("two");
    world.beat(&mut one).unwrap();
    world.beat(&mut one).unwrap();
    assert_eq!((before.epoch, one.epoch), (1, 2));
    let ahead = Client { epoch: 3, ..one.clone() };
    assert_eq!(world.send(reporting(&ahead)), Err(BeatError::FencedEpoch));
    let too_much = world.send(reporting(&before));
    assert_eq!(too_much, Err(BeatError::FencedEpoch), "has more than it was given since");
    let lost = Client { epoch: 1, ..one.clone() };
    assert_eq!(world.send(reporting(&lost)).unwrap().epoch, 2);
    let silent = Beat { owned: None, ..reporting(&lost) };
    assert_eq!(world.send(silent), Err(BeatError::FencedEpoch));
}

#[test]
fn a_fenced_member_joins_again_under_its_name() {
    let mut world = World::new();
    let one = world.join("one");
    let again = world.join("one");
    assert_eq!((again.epoch, again.owned), (one.epoch, one.owned));
    assert_eq!(world.group.remembered().members.len(), 1);
}

#[test]
fn a_silent_member_is_removed_and_its_partitions_move() {
    let mut world = World::new();
    let mut one = world.join("one");
    world.join("two");
    world.pass(44_999);
    world.beat(&mut one).unwrap();
    world.pass(1);
    assert_eq!(world.group.remembered().members.len(), 1);
    world.beat(&mut one).unwrap();
    world.beat(&mut one).unwrap();
    assert_eq!(one.owned.len(), 6);
    world.pass(45_000);
    assert_eq!(world.group.state(), GroupState::Empty);
    assert_eq!(world.group.empty_since(), Some(world.now.wall));
    assert_eq!(world.group.deadline(), None);
    let refused = world.beat(&mut one);
    assert_eq!(refused, Err(BeatError::UnknownMember("one".into())));
}

#[test]
fn a_member_that_does_not_give_up_partitions_in_time_is_removed() {
    let mut world = World::new();
    let one = world.join("one");
    let mut two = world.join("two");
    for _ in 0..2 {
        world.send(reporting(&one)).unwrap();
        world.beat(&mut two).unwrap();
        world.pass(30_000);
    }
    assert_eq!(world.send(reporting(&one)), Err(BeatError::UnknownMember("one".into())));
    world.beat(&mut two).unwrap();
    assert_eq!(two.owned.len(), 6);
}

#[test]
fn a_static_member_that_is_away_keeps_its_partitions_for_its_successor() {
    let mut world = World::new();
    let fixed = |beat: &mut Beat| beat.instance = Some("i".into());
    let mut one = world.join_with("one", fixed).unwrap();
    one.instance = Some("i");
    let mut clients = vec![one, world.join("two")];
    world.settle(&mut clients);
    let (one, two) = (clients[0].clone(), clients[1].clone());
    let early = world.join_with("next", fixed).unwrap_err();
    assert_eq!(early, BeatError::UnreleasedInstance);
    assert_eq!(world.leave("one", -2, Some("i")).unwrap().epoch, -2);
    let epoch = world.group.remembered().epoch;
    let next = world.join_with("next", fixed).unwrap();
    assert_eq!((&next.owned, next.epoch), (&one.owned, one.epoch), "no rebalance");
    assert_eq!(world.group.remembered().epoch, epoch);
    assert_eq!(world.send(reporting(&one)), Err(BeatError::FencedInstance));
    world.send(reporting(&two)).unwrap();
    assert_eq!(world.leave("one", -1, Some("i")), Err(BeatError::FencedInstance));
    world.leave("next", -1, Some("i")).unwrap();
    assert_eq!(world.group.remembered().epoch, epoch + 1, "this time it is for good");
}

#[test]
fn a_static_member_may_come_back_under_its_own_name() {
    let mut world = World::new();
    let fixed = |beat: &mut Beat| beat.instance = Some("i".into());
    let one = world.join_with("one", fixed).unwrap();
    world.leave("one", -2, Some("i")).unwrap();
    let again = world.join_with("one", fixed).unwrap();
    assert_eq!((again.epoch, again.owned), (one.epoch, one.owned));
}

// KIP-848, SubscribedTopicRegex
#[test]
fn a_pattern_matches_whole_names_and_topics_that_come_later() {
    let mut world = World::new();
    world.shelf.put("orders-eu", 2, 2);
    world.shelf.put("old-orders", 3, 2);
    let by = |pattern: &'static str| {
        move |beat: &mut Beat| {
            beat.topics = Some(vec![]);
            beat.regex = Some(pattern.into());
        }
    };
    let mut one = world.join_with("one", by("orders.*")).unwrap();
    assert_eq!(one.owned.len(), 8);
    world.shelf.put("orders-us", 4, 3);
    world.beat(&mut one).unwrap();
    assert_eq!(one.owned.len(), 11);
    let either = world.join_with("two", by("a|old-orders")).unwrap();
    assert_eq!(either.owned.len(), 2, "alternatives are whole too");
    for bad in ["(", "a)(b", "*", "a{1000}{1000}{1000}"] {
        let refused = world.join_with("bad", by(bad)).unwrap_err();
        assert_eq!(refused, BeatError::InvalidRegex(bad.into()));
    }
}

#[test]
fn an_empty_pattern_is_none() {
    let mut world = World::new();
    let one = world.join_with("one", |beat| beat.regex = Some("".into())).unwrap();
    assert_eq!(one.owned.len(), 6);
    assert_eq!(world.group.remembered().members["one"].about.regex, None);
    assert!(!world.group.has_patterns());
}

#[test]
fn a_pattern_made_to_explode_is_harmless() {
    let mut world = World::new();
    let name: &'static str = Box::leak("a".repeat(249).into_boxed_str());
    world.shelf.put(name, 9, 1);
    let one = world.join_with("one", |beat| {
        beat.topics = None;
        beat.regex = Some("(a*)*(a*)*(a*)*b".into());
    });
    assert_eq!(one.unwrap().owned.len(), 0);
}

#[test]
fn more_partitions_and_other_subscriptions_raise_the_epoch() {
    let mut world = World::new();
    let mut one = world.join("one");
    world.shelf.put("orders", 1, 8);
    world.beat(&mut one).unwrap();
    assert_eq!((one.epoch, one.owned.len()), (2, 8));
    world.shelf.put("unrelated", 7, 8);
    world.beat(&mut one).unwrap();
    assert_eq!(one.epoch, 2, "a topic that nobody wants changes nothing");
    let other = Beat { topics: Some(vec!["unrelated".into()]), ..reporting(&one) };
    let asked = world.send(other).unwrap();
    one.owned = asked.assignment.unwrap();
    world.beat(&mut one).unwrap();
    assert_eq!((one.epoch, one.owned.clone()), (3, (0..8).map(|n| part(7, n)).collect()));
    world.shelf.topics.remove("unrelated");
    world.shelf.version += 1;
    world.beat(&mut one).unwrap();
    world.beat(&mut one).unwrap();
    assert_eq!((one.epoch, one.owned.len()), (4, 0), "the topic is gone");
}

#[test]
fn the_assignor_is_what_most_members_prefer() {
    let mut world = World::new();
    let range = |beat: &mut Beat| beat.assignor = Some("range".into());
    let mut clients = vec![world.join_with("a", range).unwrap(), world.join("b")];
    assert_eq!(world.group.assignor(), Assignor::Range);
    world.settle(&mut clients);
    assert_eq!(clients[0].owned, (0..3).map(|n| part(1, n)).collect());
    let uniform = |beat: &mut Beat| beat.assignor = Some("uniform".into());
    world.join_with("c", uniform).unwrap();
    world.join_with("d", uniform).unwrap();
    assert_eq!(world.group.assignor(), Assignor::Uniform);
}

// OffsetCommit and OffsetFetch v9
#[test]
fn offsets_are_committed_and_fetched_with_the_members_epoch() {
    let mut world = World::new();
    let who = |member: Option<&str>, epoch, knows_epochs| Committer {
        member: member.map(Into::into),
        instance: None,
        generation: Generation(epoch),
        knows_epochs,
    };
    assert_eq!(world.group.check_commit(&who(None, -1, true), false), Ok(()), "empty group");
    world.join("one");
    let rows = [
        (who(Some("one"), 1, true), false, Ok(())),
        (who(Some("one"), 0, true), false, Err(CommitError::StaleMemberEpoch)),
        (who(Some("one"), 2, true), false, Err(CommitError::StaleMemberEpoch)),
        (who(Some("one"), 1, false), false, Err(CommitError::UnsupportedVersion)),
        (who(Some("one"), 1, false), true, Ok(())),
        (who(Some("two"), 1, true), false, Err(CommitError::UnknownMember)),
        (who(None, -1, true), false, Err(CommitError::UnknownMember)),
        (who(None, -1, true), true, Ok(())),
    ];
    for (who, transactional, expected) in rows {
        assert_eq!(world.group.check_commit(&who, transactional), expected, "{who:?}");
    }
    let (one, two) = ("one".into(), "two".into());
    assert_eq!(world.group.check_fetch(None, -1), Ok(()));
    assert_eq!(world.group.check_fetch(Some(&one), 1), Ok(()));
    assert_eq!(world.group.check_fetch(Some(&one), 0), Err(CommitError::StaleMemberEpoch));
    assert_eq!(world.group.check_fetch(Some(&two), 1), Err(CommitError::UnknownMember));
}

// store.md rule 19
#[test]
fn a_restart_in_the_middle_of_a_move_goes_on_where_it_was() {
    let mut world = World::new();
    let mut one = world.join("one");
    let mut two = world.join("two");
    one.owned = world.send(reporting(&one)).unwrap().assignment.unwrap();
    world.group =
        ConsumerGroup::restore(ConsumerSettings::default(), world.folded.clone(), world.now);
    world.beat(&mut two).unwrap();
    assert_eq!(two.owned.len(), 0, "the former owner is remembered");
    world.beat(&mut one).unwrap();
    world.beat(&mut two).unwrap();
    assert_eq!((one.epoch, two.epoch, two.owned.len()), (2, 2, 3));
    let before = world.records;
    world.group =
        ConsumerGroup::restore(ConsumerSettings::default(), world.folded.clone(), world.now);
    world.settle(&mut [one, two]);
    assert_eq!(world.records, before, "a restart is no rebalance");
}

#[test]
fn thousands_that_join_and_vanish_leave_nothing() {
    let mut world = World::new();
    world.group.settings.members_max = 300;
    for n in 0..300 {
        world.join(&format!("m{n}"));
    }
    assert_eq!(world.join_with("late", |_| {}).unwrap_err(), BeatError::GroupFull);
    world.pass(45_000);
    assert_eq!(world.group.state(), GroupState::Empty);
    let left = world.group.remembered();
    assert!(left.owners.is_empty() && left.target.is_empty() && left.statics.is_empty());
}

#[test]
fn who_joins_a_crowd_has_written_down_what_changes_and_not_the_crowd() {
    let mut group = ConsumerGroup::new(ConsumerSettings::default());
    let mut shelf = Shelf::default();
    shelf.put("orders", 1, 6);
    let mut written = 0;
    for n in 0..1_000 {
        let joined = group.heartbeat(joining(&format!("m{n}")), &shelf, Now::default());
        let bytes = |record: &ConsumerRecord| postcard::to_stdvec(record).unwrap().len();
        written = joined.records.iter().map(bytes).sum();
    }
    assert!(written < 1_000, "{written} bytes for the last of a thousand");
}
