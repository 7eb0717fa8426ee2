//! research/kafka.md 2.3 and the read_committed half of 2.4, row by row.

use super::*;

struct World {
    table: Producers,
    next: i64,
}

impl World {
    fn new() -> Self {
        Self { table: Producers::default(), next: 0 }
    }

    fn append(&mut self, batch: &ProducedBatch) -> i64 {
        assert_eq!(self.table.check(batch), Ok(Verdict::Append));
        let offset = self.next;
        let lsn = Lsn(u64::try_from(offset).unwrap() * 100);
        self.table.appended(batch, Place { offset: Offset(offset), lsn, at: Wall(offset) });
        self.next += i64::from(batch.count);
        offset
    }

    fn end(&mut self, producer: i64, epoch: i16, outcome: Outcome) -> i64 {
        let marker = self.next;
        let end = End {
            producer: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
            outcome,
            coordinator_epoch: 0,
            at: Wall(marker),
        };
        self.table.ended(&end, Offset(marker), Offset(marker));
        self.next += 1;
        marker
    }

    fn other_records(&mut self, count: i64) {
        self.next += count;
    }

    fn last_stable(&self) -> i64 {
        self.table.last_stable(Offset(self.next)).0
    }

    fn aborted(&self, from: i64, upto: i64) -> Vec<(i64, i64)> {
        let found = self.table.aborted(Offset(from), Offset(upto));
        found.map(|entry| (entry.producer.0, entry.first)).collect()
    }
}

fn batch(producer: i64, epoch: i16, first_sequence: i32, count: u32) -> ProducedBatch {
    let (producer, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
    ProducedBatch { producer, epoch, first_sequence, count, transactional: false }
}

fn in_transaction(producer: i64, epoch: i16, first_sequence: i32, count: u32) -> ProducedBatch {
    ProducedBatch { transactional: true, ..batch(producer, epoch, first_sequence, count) }
}

#[test]
fn each_row_of_the_table() {
    let mut world = World::new();
    for first in [0, 10, 20, 30, 40, 50] {
        world.append(&batch(1, 3, first, 10));
    }
    let out_of_order = Err(ProducerError::OutOfOrder);
    let copy = |offset: i64| {
        let lsn = Lsn(u64::try_from(offset).unwrap() * 100);
        Ok(Verdict::Duplicate(Place { offset: Offset(offset), lsn, at: Wall(offset) }))
    };
    let rows = [
        (batch(1, 3, 60, 1), Ok(Verdict::Append), "the next"),
        (batch(1, 3, 50, 10), copy(50), "the last again"),
        (batch(1, 3, 10, 10), copy(10), "the fifth last again"),
        (batch(1, 3, 0, 10), out_of_order, "the sixth last is forgotten"),
        (batch(1, 3, 50, 5), out_of_order, "a part of a batch is no duplicate"),
        (batch(1, 3, 61, 1), out_of_order, "a gap"),
        (batch(1, 2, 60, 1), Err(ProducerError::InvalidEpoch), "an older incarnation"),
        (batch(1, 4, 60, 1), out_of_order, "a newer one has to start at 0"),
        (batch(1, 4, 0, 1), Ok(Verdict::Append), "as it does"),
        (batch(2, 0, 77, 1), Ok(Verdict::Append), "an unknown producer starts anywhere"),
    ];
    for (batch, verdict, why) in rows {
        assert_eq!(world.table.check(&batch), verdict, "{why}");
    }
}

#[test]
fn sequences_wrap_to_zero() {
    let mut world = World::new();
    let crossing = batch(1, 0, i32::MAX - 1, 4);
    assert_eq!(crossing.last_sequence(), 1);
    world.append(&crossing);
    assert!(matches!(world.table.check(&crossing), Ok(Verdict::Duplicate(_))));
    world.append(&batch(1, 0, 2, 1));
    let mut world = World::new();
    world.append(&batch(1, 0, i32::MAX, 1));
    world.append(&batch(1, 0, 0, 1));
}

#[test]
fn a_new_epoch_forgets_the_old_ones_batches() {
    let mut world = World::new();
    world.append(&batch(1, 0, 0, 1));
    world.append(&batch(1, 1, 0, 1));
    assert!(
        matches!(world.table.check(&batch(1, 1, 0, 1)), Ok(Verdict::Duplicate(place)) if place.offset == Offset(1))
    );
}

#[test]
fn a_batch_outside_the_open_transaction_is_refused() {
    let mut world = World::new();
    world.append(&in_transaction(1, 0, 0, 1));
    let stray = world.table.check(&batch(1, 0, 1, 1));
    assert_eq!(stray, Err(ProducerError::InvalidTransactionState));
    world.end(1, 0, Outcome::Commit);
    world.append(&batch(1, 0, 1, 1));
}

#[test]
fn the_last_stable_offset_is_the_first_of_the_earliest_open_transaction() {
    let mut world = World::new();
    world.other_records(5);
    assert_eq!(world.last_stable(), 5);
    world.append(&in_transaction(1, 0, 0, 3));
    world.append(&in_transaction(2, 0, 0, 3));
    world.append(&in_transaction(1, 0, 3, 3));
    assert_eq!(world.last_stable(), 5);
    world.end(1, 0, Outcome::Commit);
    assert_eq!(world.last_stable(), 8);
    world.end(2, 0, Outcome::Abort);
    assert_eq!(world.last_stable(), world.next);
}

// store.md rule 10
#[test]
fn a_transactions_end_reveals_nothing_before_it_is_durable() {
    let mut world = World::new();
    world.append(&in_transaction(1, 0, 0, 3));
    let marker = world.end(1, 0, Outcome::Commit);
    assert_eq!(world.table.last_stable(Offset(marker)), Offset(0), "the marker is not durable");
    assert_eq!(world.table.last_stable(Offset(marker + 1)), Offset(marker + 1));
}

#[test]
fn aborted_transactions_are_found_for_what_is_read() {
    let mut world = World::new();
    world.append(&in_transaction(1, 0, 0, 3)); // 0..3
    world.append(&in_transaction(2, 0, 0, 3)); // 3..6
    world.end(2, 0, Outcome::Abort); // 6
    world.append(&in_transaction(3, 0, 0, 2)); // 7..9
    world.end(3, 0, Outcome::Commit); // 9
    world.end(1, 0, Outcome::Abort); // 10
    world.append(&in_transaction(2, 0, 3, 1)); // 11
    world.end(2, 0, Outcome::Abort); // 12
    assert_eq!(world.aborted(0, 13), vec![(2, 3), (1, 0), (2, 11)]);
    assert_eq!(world.aborted(7, 11), vec![(1, 0)]);
    assert_eq!(world.aborted(11, 13), vec![(2, 11)]);
    assert_eq!(world.aborted(0, 3), vec![(1, 0)], "an entry that ends above the read counts too");
    assert_eq!(world.aborted(13, 20), vec![]);
    world.table.trim(Offset(7));
    assert_eq!(world.aborted(0, 13), vec![(1, 0), (2, 11)]);
}

#[test]
fn aborted_lookup_agrees_with_a_plain_scan() {
    let mut world = World::new();
    let (mut bits, mut all) = (12_345_u64, Vec::<(i64, i64, i64)>::new());
    let mut sequence = [0_i32; 6];
    let mut open = [None::<i64>; 6];
    for _ in 0..400 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let who = usize::try_from((bits >> 33) % 6).unwrap();
        let id = i64::try_from(who).unwrap();
        match (open[who], (bits >> 40) % 4) {
            (Some(first), 0) => {
                let marker = world.end(id, 0, Outcome::Abort);
                all.push((id, first, marker));
                open[who] = None;
            }
            (Some(_), 1) => {
                world.end(id, 0, Outcome::Commit);
                open[who] = None;
            }
            _ => {
                let offset = world.append(&in_transaction(id, 0, sequence[who], 1));
                sequence[who] += 1;
                open[who].get_or_insert(offset);
            }
        }
    }
    for from in (0..world.next).step_by(7) {
        for upto in (from..=world.last_stable()).step_by(5) {
            let plain = all.iter().filter(|(_, first, last)| *last >= from && *first < upto);
            let plain: Vec<(i64, i64)> = plain.map(|(id, first, _)| (*id, *first)).collect();
            assert_eq!(world.aborted(from, upto), plain, "{from}..{upto}");
        }
    }
    assert!(all.len() > 20);
}

// transaction.version 2
#[test]
fn a_marker_with_the_next_epoch_fences_what_is_still_on_its_way() {
    let mut world = World::new();
    world.append(&in_transaction(1, 0, 0, 1));
    world.end(1, 1, Outcome::Commit);
    let late = world.table.check(&in_transaction(1, 0, 1, 1));
    assert_eq!(late, Err(ProducerError::InvalidEpoch));
    assert_eq!(world.table.check(&in_transaction(1, 1, 1, 1)), Err(ProducerError::OutOfOrder));
    world.append(&in_transaction(1, 1, 0, 1));
}

#[test]
fn idle_producers_expire_but_not_those_with_an_open_transaction() {
    let mut world = World::new();
    world.append(&batch(1, 0, 0, 1));
    world.append(&in_transaction(2, 0, 0, 1));
    world.append(&batch(3, 0, 0, 1));
    world.table.expire(Wall(EXPIRATION_MS.try_into().unwrap()).after(1), EXPIRATION_MS);
    let left: Vec<i64> = world.table.iter().map(|view| view.producer.0).collect();
    assert_eq!(left, vec![2, 3]);
}

#[test]
fn the_table_is_bounded_and_forgets_the_longest_idle() {
    let mut world = World::new();
    world.append(&in_transaction(0, 0, 0, 1));
    for id in 1..=5 {
        world.append(&batch(id, 0, 0, 1));
    }
    world.append(&batch(1, 0, 1, 1));
    world.table.forget_beyond(5);
    let left: Vec<i64> = world.table.iter().map(|view| view.producer.0).collect();
    assert_eq!(left, vec![0, 1, 3, 4, 5]);
    assert_eq!(world.table.idle.len(), 5);
}

#[test]
fn a_snapshot_knows_what_the_table_knew() {
    let mut world = World::new();
    world.append(&batch(1, 0, 0, 10));
    world.append(&in_transaction(2, 0, 0, 3));
    world.append(&in_transaction(3, 0, 0, 3));
    world.end(3, 0, Outcome::Abort);
    let bytes = postcard::to_stdvec(&world.table).unwrap();
    let again: Producers = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(again, world.table);
    assert!(matches!(again.check(&batch(1, 0, 0, 10)), Ok(Verdict::Duplicate(_))));
    assert_eq!(again.transaction_of(ProducerId(2)), Some(Offset(10)));
    let view = again.iter().next().unwrap();
    assert_eq!((view.last_sequence, view.coordinator_epoch), (9, -1));
}

#[test]
fn a_number_of_an_ended_transaction_that_comes_in_the_next_is_no_duplicate() {
    let mut world = World::new();
    let first = world.append(&in_transaction(1, 0, 0, 2));
    let again = world.table.check(&in_transaction(1, 0, 0, 2));
    assert!(matches!(again, Ok(Verdict::Duplicate(place)) if place.offset.0 == first), "a retry");
    world.end(1, 0, Outcome::Abort);
    let reused = in_transaction(1, 0, 0, 2);
    assert_eq!(world.table.check(&reused), Err(ProducerError::OutOfOrder), "nothing is open");
    let next = world.append(&in_transaction(1, 0, 2, 1));
    assert_eq!(world.table.check(&reused), Err(ProducerError::OutOfOrder), "not of this one");
    let again = world.table.check(&in_transaction(1, 0, 2, 1));
    assert!(matches!(again, Ok(Verdict::Duplicate(place)) if place.offset.0 == next));
}
