//! Stories of transactions; research/kafka.md 2.4 row by row.

use super::*;

struct World {
    coordinator: Transactions,
    now: Now,
    fresh: i64,
    folded: RememberedTransactions,
    ends: Vec<TxnEnd>,
}

const OLD: EndVersion = EndVersion::Old;
const BUMPING: EndVersion = EndVersion::Bumping;

impl World {
    fn new() -> Self {
        let now = Now { monotonic: Monotonic(1_000), wall: Wall(1_000_000) };
        let (coordinator, folded) = (Transactions::new(Settings::default()), Default::default());
        Self { coordinator, now, fresh: 100, folded, ends: Vec::new() }
    }

    fn carry_out(&mut self, effects: Vec<TxnEffect>) {
        for effect in effects {
            let record = match effect {
                TxnEffect::Persist(record) => record,
                TxnEffect::End(end) => {
                    self.ends.push(end.clone());
                    end.record
                }
            };
            let bytes = postcard::to_stdvec(&record).unwrap();
            self.folded.replay(postcard::from_bytes(&bytes).unwrap());
        }
        assert_eq!(&self.folded, self.coordinator.remembered());
    }

    fn init_with(&mut self, change: impl FnOnce(&mut InitRequest)) -> Result<Identity, InitError> {
        let mut request = InitRequest { id: Some("t".into()), timeout_ms: 60_000, expected: None };
        change(&mut request);
        let fresh = &mut self.fresh;
        let mut draw = || {
            *fresh += 1;
            ProducerId(*fresh)
        };
        let decision = self.coordinator.init(request, &mut draw, self.now);
        self.carry_out(decision.effects);
        decision.answer
    }

    fn init(&mut self) -> Identity {
        self.init_with(|_| {}).unwrap()
    }

    fn again(&mut self, expected: Identity) -> Result<Identity, InitError> {
        self.init_with(|request| request.expected = Some(expected))
    }

    fn add(&mut self, who: Identity, partition: i32) -> Result<(), AddError> {
        let partitions = vec![orders(partition)];
        let decision = self.coordinator.add_partitions("t", who, partitions, self.now);
        self.carry_out(decision.effects);
        decision.answer
    }

    fn add_group(&mut self, who: Identity, group: &str) -> Result<(), AddError> {
        let decision = self.coordinator.add_group("t", who, group.into(), self.now);
        self.carry_out(decision.effects);
        decision.answer
    }

    fn end(
        &mut self,
        who: Identity,
        outcome: Outcome,
        version: EndVersion,
    ) -> Result<Identity, EndError> {
        let request = EndRequest { id: "t".into(), who, outcome, version };
        let fresh = &mut self.fresh;
        let mut draw = || {
            *fresh += 1;
            ProducerId(*fresh)
        };
        let decision = self.coordinator.end(&request, &mut draw, self.now);
        self.carry_out(decision.effects);
        decision.answer
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.after(ms);
        self.now.wall = self.now.wall.after(ms);
        let due = self.coordinator.due(self.now.monotonic);
        let due: Vec<Arc<str>> = due.map(|view| Arc::clone(view.id)).collect();
        for id in due {
            let effects = self.coordinator.time_out(&id, self.now);
            self.carry_out(effects);
        }
    }

    fn state(&self) -> String {
        self.coordinator.describe("t").map(|view| view.state.to_string()).unwrap_or_default()
    }

    /// As if the id had been used until this epoch.
    fn skip_to(&mut self, epoch: i16) -> Identity {
        let mut identity = self.init();
        while identity.epoch.0 < epoch {
            identity = self.init();
        }
        identity
    }
}

fn orders(partition: i32) -> TxnPartition {
    let stream = ottla_store::StreamId(u64::try_from(partition).unwrap() + 10);
    TxnPartition::new(stream, "orders".into(), partition)
}

fn who(producer: i64, epoch: i16) -> Identity {
    Identity { producer: ProducerId(producer), epoch: ProducerEpoch(epoch) }
}

#[test]
fn a_producer_without_a_transactional_id_gets_a_number_and_nothing_is_remembered() {
    let mut world = World::new();
    assert_eq!(world.init_with(|request| request.id = None), Ok(who(101, 0)));
    assert_eq!(world.init_with(|request| request.id = None), Ok(who(102, 0)));
    assert_eq!(world.coordinator.iter().count(), 0);
}

#[test]
fn bad_requests_are_refused() {
    let mut world = World::new();
    assert_eq!(world.init_with(|r| r.id = Some("".into())), Err(InitError::EmptyId));
    for ms in [0, -1, 900_001] {
        assert_eq!(world.init_with(|r| r.timeout_ms = ms), Err(InitError::InvalidTimeout), "{ms}");
    }
    assert!(world.init_with(|r| r.timeout_ms = 900_000).is_ok());
    world.coordinator.settings.ids_max = 1;
    assert_eq!(world.init_with(|r| r.id = Some("u".into())), Err(InitError::TooManyIds));
    world.coordinator.settings.parts_max = 1;
    let me = who(101, 0);
    assert_eq!(world.add(me, 0), Ok(()));
    assert_eq!(world.add_group(me, "g"), Err(AddError::TooMany));
}

#[test]
fn a_transaction_is_opened_by_its_first_partition_and_ends_in_one_frame() {
    let mut world = World::new();
    let me = world.init();
    assert_eq!((me, world.state().as_str()), (who(101, 0), "Empty"));
    world.add(me, 0).unwrap();
    world.add(me, 1).unwrap();
    world.add_group(me, "billing").unwrap();
    assert_eq!(world.state(), "Ongoing");
    assert_eq!(world.end(me, Outcome::Commit, OLD), Ok(me));
    assert_eq!(world.state(), "CompleteCommit");
    let [end] = world.ends.as_slice() else { panic!() };
    assert_eq!((end.producer, end.epoch, end.outcome), (me.producer, me.epoch, Outcome::Commit));
    assert_eq!(end.partitions, vec![orders(0), orders(1)]);
    assert_eq!(end.groups, vec!["billing".into()]);
}

#[test]
fn what_is_in_already_costs_no_record() {
    let mut world = World::new();
    let me = world.init();
    world.add(me, 0).unwrap();
    let again = world.coordinator.add_partitions("t", me, vec![orders(0)], world.now);
    assert_eq!(again, Decision { answer: Ok(()), effects: vec![] });
}

#[test]
fn strangers_and_former_selves_are_refused() {
    let mut world = World::new();
    let old = world.init();
    let new = world.init();
    assert_eq!(new, who(101, 1));
    assert_eq!(world.add(old, 0), Err(AddError::Fenced));
    assert_eq!(world.add(who(7, 1), 0), Err(AddError::WrongProducer));
    assert_eq!(world.end(old, Outcome::Commit, OLD), Err(EndError::Fenced));
    assert_eq!(world.end(who(101, 2), Outcome::Commit, BUMPING), Err(EndError::Fenced));
    assert_eq!(world.end(who(7, 1), Outcome::Commit, OLD), Err(EndError::WrongProducer));
    let unknown = world.coordinator.add_partitions("u", new, vec![orders(0)], world.now);
    assert_eq!(unknown.answer, Err(AddError::WrongProducer));
    let empty = world.coordinator.add_partitions("", new, vec![orders(0)], world.now);
    assert_eq!(empty.answer, Err(AddError::EmptyId));
}

#[test]
fn initialising_over_an_open_transaction_aborts_it_with_a_fencing_epoch() {
    let mut world = World::new();
    let old = world.init();
    world.add(old, 0).unwrap();
    let new = world.init();
    assert_eq!(new, who(101, 1));
    let [end] = world.ends.as_slice() else { panic!() };
    assert_eq!((end.outcome, end.epoch), (Outcome::Abort, ProducerEpoch(1)));
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.end(old, Outcome::Commit, OLD), Err(EndError::Fenced));
}

// KIP-360
#[test]
fn a_producer_that_says_who_it_is_is_not_fenced_by_its_own_repetition() {
    let mut world = World::new();
    let first = world.init();
    let second = world.again(first).unwrap();
    assert_eq!(second, who(101, 1));
    assert_eq!(world.again(first), Ok(second), "the answer was lost");
    let third = world.init();
    assert_eq!(world.again(second), Err(InitError::Fenced), "somebody else came");
    assert_eq!(world.again(first), Err(InitError::Fenced));
    assert_eq!(world.again(who(7, 0)), Err(InitError::Fenced));
    world.add(third, 0).unwrap();
    assert_eq!(world.again(second), Err(InitError::Fenced));
    assert_eq!(world.state(), "Ongoing", "a zombie cannot abort its successor's transaction");
}

#[test]
fn an_exhausted_epoch_gets_a_new_number() {
    let mut world = World::new();
    let last = world.skip_to(ProducerEpoch::LAST.0);
    assert_eq!(last, who(101, 32_766));
    world.add(last, 0).unwrap();
    let next = world.again(last).unwrap();
    assert_eq!(next, who(102, 0));
    assert_eq!(world.ends[0].epoch, ProducerEpoch(i16::MAX));
    assert_eq!(world.again(last), Ok(next), "recognised although the number changed");
}

#[test]
fn the_old_flow_knows_a_repeated_end_by_its_outcome() {
    let mut world = World::new();
    let me = world.init();
    for outcome in [Outcome::Commit, Outcome::Abort] {
        assert_eq!(world.end(me, outcome, OLD), Err(EndError::InvalidState), "nothing was begun");
    }
    world.add(me, 0).unwrap();
    world.end(me, Outcome::Abort, OLD).unwrap();
    assert_eq!(world.end(me, Outcome::Abort, OLD), Ok(me));
    assert_eq!(world.end(me, Outcome::Commit, OLD), Err(EndError::InvalidState));
    assert_eq!(world.ends.len(), 1, "a repetition ends nothing");
}

// KIP-890
#[test]
fn the_new_flow_raises_the_epoch_with_every_end_and_knows_a_repetition_by_it() {
    let mut world = World::new();
    let first = world.init();
    world.add(first, 0).unwrap();
    let second = world.end(first, Outcome::Commit, BUMPING).unwrap();
    assert_eq!(second, who(101, 1));
    assert_eq!(world.ends[0].epoch, ProducerEpoch(1), "the marker fences what is on its way");
    assert_eq!(world.end(first, Outcome::Commit, BUMPING), Ok(second), "the answer was lost");
    assert_eq!(world.end(first, Outcome::Abort, BUMPING), Err(EndError::InvalidState));
    assert_eq!(world.end(second, Outcome::Commit, BUMPING), Err(EndError::InvalidState));
    assert_eq!(
        world.add(first, 0),
        Err(AddError::Fenced),
        "a late request of the last transaction"
    );
    let third = world.end(second, Outcome::Abort, BUMPING).unwrap();
    assert_eq!((third, world.state().as_str()), (who(101, 2), "CompleteAbort"));
    world.add(third, 0).unwrap();
    assert_eq!(world.end(second, Outcome::Abort, BUMPING), Err(EndError::Fenced), "too late");
}

#[test]
fn the_new_flow_turns_to_a_new_number_when_the_epochs_are_used_up() {
    let mut world = World::new();
    let last = world.skip_to(ProducerEpoch::LAST.0);
    world.add(last, 0).unwrap();
    let next = world.end(last, Outcome::Commit, BUMPING).unwrap();
    assert_eq!(next, who(102, 0));
    let end = &world.ends[0];
    assert_eq!((end.producer, end.epoch), (last.producer, ProducerEpoch(i16::MAX)));
    assert_eq!(world.end(last, Outcome::Commit, BUMPING), Ok(next));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut world = World::new();
    let me = world.init();
    world.add(me, 0).unwrap();
    world.pass(30_000);
    world.add(me, 1).unwrap();
    assert_eq!(world.coordinator.deadline(), Some(Monotonic(61_000)), "counted from its begin");
    world.pass(30_000);
    assert_eq!((world.state().as_str(), world.ends[0].epoch), ("CompleteAbort", ProducerEpoch(1)));
    assert_eq!(world.end(me, Outcome::Commit, OLD), Err(EndError::Fenced));
    assert_eq!(world.end(me, Outcome::Abort, BUMPING), Err(EndError::Fenced));
    assert_eq!(world.coordinator.deadline(), None);
    assert_eq!(world.init(), who(101, 2));
}

// store.md rule 18
#[test]
fn after_a_restart_an_open_transaction_has_its_whole_timeout_again_and_is_not_lost() {
    let mut world = World::new();
    let me = world.init();
    world.add(me, 3).unwrap();
    world.pass(59_000);
    world.now.monotonic = Monotonic(7);
    let remembered = world.folded.clone();
    world.coordinator = Transactions::restore(Settings::default(), remembered, world.now);
    assert_eq!(world.coordinator.deadline(), Some(Monotonic(60_007)));
    assert_eq!(world.coordinator.verify_partition("t", me, &orders(3)), Ok(()));
    world.end(me, Outcome::Commit, OLD).unwrap();
    assert_eq!(world.ends[0].partitions, vec![orders(3)]);
    assert_eq!(world.end(me, Outcome::Commit, OLD), Ok(me));
}

#[test]
fn a_late_batch_or_offset_never_begins_a_transaction() {
    let mut world = World::new();
    let me = world.init();
    let none = Err(AddError::NotInTransaction);
    assert_eq!(world.coordinator.verify_partition("t", me, &orders(0)), none);
    world.add(me, 0).unwrap();
    assert_eq!(world.coordinator.verify_partition("t", me, &orders(0)), Ok(()));
    assert_eq!(world.coordinator.verify_partition("t", me, &orders(1)), none);
    assert_eq!(world.coordinator.verify_group("t", me, "billing"), none);
    world.add_group(me, "billing").unwrap();
    assert_eq!(world.coordinator.verify_group("t", me, "billing"), Ok(()));
    world.end(me, Outcome::Commit, OLD).unwrap();
    assert_eq!(world.coordinator.verify_partition("t", me, &orders(0)), none);
    let recreated = TxnPartition::new(ottla_store::StreamId(99), "orders".into(), 0);
    world.add(me, 0).unwrap();
    assert_eq!(world.coordinator.verify_partition("t", me, &recreated), none, "another topic");
}

#[test]
fn an_id_that_is_not_used_for_a_week_is_forgotten_unless_its_transaction_is_open() {
    let mut world = World::new();
    let me = world.init();
    world.init_with(|request| request.id = Some("u".into())).unwrap();
    world.add(me, 0).unwrap();
    let week = 7 * 24 * 60 * 60 * 1000;
    let early = world.coordinator.expire(world.now.wall.after(week - 1));
    assert_eq!(early, vec![]);
    let effects = world.coordinator.expire(world.now.wall.after(week));
    world.carry_out(effects);
    let left: Vec<&str> = world.coordinator.iter().map(|view| &**view.id).collect();
    assert_eq!(left, vec!["t"]);
}

#[test]
fn what_is_shown_of_an_open_transaction() {
    let mut world = World::new();
    let me = world.init();
    world.add(me, 0).unwrap();
    let view = world.coordinator.describe("t").unwrap();
    assert_eq!((view.identity, view.timeout_ms, view.started), (me, 60_000, Some(world.now.wall)));
    assert_eq!(view.partitions, vec![&orders(0)]);
    assert_eq!(world.coordinator.describe("u"), None);
}
