//! Transactions: all of it or nothing, whatever happens to the broker.

use std::sync::Arc;

use ottla_engine::group::Generation;
use ottla_engine::group::GroupId;
use ottla_engine::group::classic::Committer;
use ottla_engine::group::offsets::{Commit, FetchError};
use ottla_engine::topic::{Isolation, Partition, PartitionId};
use ottla_engine::txn::coordinator::{
    AddError, EndError, EndRequest, EndVersion, Identity, InitRequest, TxnState,
};
use ottla_engine::txn::{Outcome, ProducerEpoch};
use ottla_engine::{Offset, TxnProduceError, Writer};

use crate::rig::{Rig, transactional};

const ID: &str = "billing";

fn init(rig: &Rig) -> Identity {
    let request = InitRequest { id: Some(ID.into()), timeout_ms: 60_000, expected: None };
    let decided = rig.engine.init_transactions(request).unwrap();
    assert!(!decided.lsn.is_durable(rig.engine.durable()), "told before it is durable");
    decided.answer.unwrap()
}

fn partitions(rig: &Rig) -> [Arc<Partition>; 2] {
    let catalog = rig.engine.catalog();
    let topic = catalog.topic("invoices").unwrap();
    [0, 1].map(|index| topic.partition(PartitionId(index)).unwrap())
}

fn write(
    rig: &Rig,
    who: Identity,
    partition: &Partition,
    sequence: i32,
) -> Result<Offset, TxnProduceError> {
    let writer = Writer { id: ID, who, implicit: false };
    let batch = transactional(&["invoice"], who, sequence);
    let produced = rig.engine.produce_in_transaction(writer, partition, batch, rig.engine.now())?;
    Ok(produced.base_offset)
}

fn end(rig: &Rig, who: Identity, outcome: Outcome) -> Result<Identity, EndError> {
    let request = EndRequest { id: ID.into(), who, outcome, version: EndVersion::Old };
    rig.engine.end_transaction(&request).unwrap().answer
}

fn group() -> GroupId {
    "reader".into()
}

/// Adds two partitions and a group, writes to both, and brings the group to offset 5.
fn work(rig: &Rig, who: Identity, sequence: i32) {
    let partitions = partitions(rig);
    rig.engine.add_partitions(ID, who, &partitions).unwrap().answer.unwrap();
    rig.engine.add_group(ID, who, &group()).unwrap().answer.unwrap();
    for partition in &partitions {
        write(rig, who, partition, sequence).unwrap();
    }
    let metadata = "".into();
    let topic = "invoices".into();
    let commits = vec![Commit { topic, partition: 0, offset: 5, leader_epoch: None, metadata }];
    let member = Committer {
        member: None,
        instance: None,
        generation: Generation::NONE,
        knows_epochs: true,
    };
    let writer = Writer { id: ID, who, implicit: false };
    let done = rig.engine.commit_in_transaction(writer, &group(), &member, commits);
    assert_eq!(done.unwrap().0, [Ok(())]);
}

/// What read_committed readers see: records of each partition, and the group's stable offset.
fn seen(rig: &Rig) -> ([usize; 2], Result<Option<i64>, FetchError>) {
    let counts =
        partitions(rig).map(|partition| rig.read(&partition, 0, Isolation::ReadCommitted).len());
    let read = |group: &ottla_engine::group::Group| {
        let fetched = group.offsets().fetch("invoices", 0, true);
        fetched.map(|found| found.map(|found| found.offset))
    };
    (counts, rig.engine.read_group(&group(), read).0.unwrap_or(Ok(None)))
}

fn aborted(rig: &Rig, partition: &Partition) -> usize {
    let store = rig.engine.store();
    let isolation = Isolation::ReadCommitted;
    let fetched = partition.fetch(store, Offset(0), 1 << 20, isolation, false).unwrap().unwrap();
    fetched.aborted.unwrap().len()
}

#[test]
fn a_commit_shows_two_partitions_and_the_offsets_together_and_survives() {
    let rig = Rig::new();
    rig.topic("invoices", 2);
    let who = init(&rig);
    work(&rig, who, 0);
    rig.sync();
    assert_eq!(seen(&rig), ([0, 0], Err(FetchError::Unstable)));
    let rig = rig.power_cut();
    assert_eq!(seen(&rig), ([0, 0], Err(FetchError::Unstable)), "still open");
    rig.keep();
    let rig = rig.power_cut();
    assert_eq!(seen(&rig), ([0, 0], Err(FetchError::Unstable)), "from the snapshot too");
    assert_eq!(end(&rig, who, Outcome::Commit), Ok(who));
    assert_eq!(seen(&rig).0, [0, 0], "the marker is not durable yet");
    rig.sync();
    let committed = ([1, 1], Ok(Some(5)));
    assert_eq!(seen(&rig), committed);
    let rig = rig.power_cut();
    assert_eq!(seen(&rig), committed);
    rig.keep();
    let rig = rig.power_cut();
    assert_eq!(seen(&rig), committed);
    assert_eq!(end(&rig, who, Outcome::Commit), Ok(who), "a repeated end is answered as the first");
    assert_eq!(end(&rig, who, Outcome::Abort), Err(EndError::InvalidState));
    assert!(rig.engine.store().extent(partitions(&rig)[0].stream()).unwrap().end == Offset(2));
}

#[test]
fn a_power_cut_in_the_middle_of_an_end_leaves_all_of_it_or_nothing() {
    let (mut all, mut nothing) = (0, 0);
    for cuts in 0..12 {
        let mut rig = Rig::new();
        rig.topic("invoices", 2);
        let who = init(&rig);
        work(&rig, who, 0);
        rig.sync();
        for _ in 0..cuts {
            rig = rig.power_cut(); // each start draws other pages to lose
        }
        end(&rig, who, Outcome::Commit).unwrap();
        if cuts % 3 == 0 {
            rig.sync();
        }
        let rig = rig.power_cut();
        let state = rig.engine.read_transactions(|txns| txns.describe(ID).unwrap().state).0;
        match seen(&rig) {
            ([1, 1], Ok(Some(5))) if state == TxnState::CompleteCommit => all += 1,
            ([0, 0], Err(FetchError::Unstable)) if state == TxnState::Ongoing => nothing += 1,
            half => panic!("half a commit: {half:?}, {state:?}"),
        }
    }
    assert!(all >= 4 && nothing > 0, "{all} {nothing}");
}

#[test]
fn a_zombie_is_fenced_and_what_it_wrote_is_aborted() {
    let rig = Rig::new();
    rig.topic("invoices", 2);
    let zombie = init(&rig);
    work(&rig, zombie, 0);
    rig.sync();
    let newer = init(&rig);
    rig.sync();
    assert_eq!((newer.producer, newer.epoch), (zombie.producer, ProducerEpoch(1)));
    let rig = rig.power_cut();
    let [partition, _] = partitions(&rig);
    let late = write(&rig, zombie, &partition, 1);
    assert_eq!(late, Err(TxnProduceError::Add(AddError::Fenced)));
    assert_eq!(end(&rig, zombie, Outcome::Commit), Err(EndError::Fenced));
    assert_eq!(
        seen(&rig),
        ([1, 1], Ok(None)),
        "readers see where it ends, and that it was aborted"
    );
    assert_eq!(aborted(&rig, &partition), 1);
    work(&rig, newer, 0);
    end(&rig, newer, Outcome::Commit).unwrap();
    rig.sync();
    assert_eq!(seen(&rig), ([2, 2], Ok(Some(5))));
    rig.keep();
    let rig = rig.power_cut();
    assert_eq!(aborted(&rig, &partitions(&rig)[0]), 1);
}

#[test]
fn nothing_lands_behind_the_marker() {
    let rig = Rig::new();
    rig.topic("invoices", 2);
    let who = init(&rig);
    work(&rig, who, 0);
    end(&rig, who, Outcome::Commit).unwrap();
    rig.sync();
    let [partition, _] = partitions(&rig);
    let before = rig.engine.store().extent(partition.stream()).unwrap().end;
    let late = write(&rig, who, &partition, 1);
    assert_eq!(late, Err(TxnProduceError::Add(AddError::NotInTransaction)));
    assert_eq!(rig.engine.store().extent(partition.stream()).unwrap().end, before);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let rig = Rig::new();
    rig.topic("invoices", 2);
    let who = init(&rig);
    work(&rig, who, 0);
    rig.sync();
    rig.pass(59_000);
    assert_eq!(seen(&rig), ([0, 0], Err(FetchError::Unstable)));
    let rig = rig.power_cut();
    rig.pass(59_000);
    assert_eq!(seen(&rig).1, Err(FetchError::Unstable), "a start gives it its whole time again");
    rig.pass(2_000);
    assert_eq!(seen(&rig).1, Ok(None));
    let [partition, _] = partitions(&rig);
    assert_eq!(aborted(&rig, &partition), 1);
    let late = write(&rig, who, &partition, 1);
    assert_eq!(late, Err(TxnProduceError::Add(AddError::Fenced)));
}

#[test]
fn with_version_two_what_is_written_joins_and_every_end_raises_the_epoch() {
    let rig = Rig::new();
    rig.topic("invoices", 2);
    let who = init(&rig);
    let [partition, _] = partitions(&rig);
    let writer = Writer { id: ID, who, implicit: true };
    let batch = transactional(&["invoice"], who, 0);
    rig.engine.produce_in_transaction(writer, &partition, batch.clone(), rig.engine.now()).unwrap();
    let version = EndVersion::Bumping;
    let request = EndRequest { id: ID.into(), who, outcome: Outcome::Commit, version };
    let after = rig.engine.end_transaction(&request).unwrap().answer.unwrap();
    assert_eq!(after.epoch, who.epoch.next());
    rig.sync();
    let rig = rig.power_cut();
    let repeated = rig.engine.end_transaction(&request).unwrap().answer;
    assert_eq!(repeated, Ok(after), "the answer was lost, not the commit");
    let [partition, _] = partitions(&rig);
    let late = rig.engine.produce_in_transaction(writer, &partition, batch, rig.engine.now());
    assert_eq!(late, Err(TxnProduceError::Add(AddError::Fenced)));
    assert_eq!(seen(&rig).0, [1, 0]);
}

#[test]
fn a_transaction_over_a_deleted_topic_still_ends() {
    let rig = Rig::new();
    let topic = rig.topic("invoices", 2);
    let who = init(&rig);
    work(&rig, who, 0);
    rig.engine.delete_topic(topic.id()).unwrap();
    assert_eq!(end(&rig, who, Outcome::Commit), Ok(who));
    rig.topic("invoices", 2);
    rig.sync();
    let rig = rig.power_cut();
    assert_eq!(seen(&rig), ([0, 0], Ok(None)));
    assert_eq!(end(&rig, who, Outcome::Commit), Ok(who));
}

/// Even where the log takes the ends of a few only at a time.
#[test]
fn many_transactions_whose_time_is_over_end_bit_by_bit() {
    let rig = Rig::narrow(100_000);
    let topic = rig.topic("invoices", 50);
    let ids: Vec<Arc<str>> = (0..100).map(|n| format!("billing-{n}").into()).collect();
    for id in &ids {
        let request = InitRequest { id: Some(id.clone()), timeout_ms: 60_000, expected: None };
        let who = rig.engine.init_transactions(request).unwrap().answer.unwrap();
        rig.sync();
        rig.engine.add_partitions(id, who, &topic.partitions()).unwrap().answer.unwrap();
        rig.sync();
    }
    let open = || {
        let is_open = |id: &&Arc<str>| {
            let read = rig.engine.read_transactions(|txns| txns.describe(id).unwrap().state);
            read.0 == TxnState::Ongoing
        };
        ids.iter().filter(is_open).count()
    };
    assert_eq!(open(), 100);
    rig.pass(60_001);
    let left = open();
    assert!((60..100).contains(&left), "some have ended: {left} are open");
    for _ in 0..20 {
        rig.pass(10);
    }
    assert_eq!(open(), 0);
}
