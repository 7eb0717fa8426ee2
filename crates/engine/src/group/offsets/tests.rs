//! Stories of offsets; research/kafka.md 2.4 and 2.5.

use super::*;

const DAY: u64 = 24 * 60 * 60 * 1000;

fn commit(topic: &str, partition: i32, offset: i64) -> Commit {
    let metadata = "note".into();
    Commit { topic: topic.into(), partition, offset, leader_epoch: Some(0), metadata }
}

/// The live offsets and the fold of their records, which must always agree.
#[derive(Default)]
struct World {
    live: Offsets,
    folded: Offsets,
}

impl World {
    fn log(&mut self, record: Option<OffsetsRecord>) -> bool {
        let Some(record) = record else { return false };
        let bytes = postcard::to_stdvec(&record).unwrap();
        self.folded.replay(postcard::from_bytes(&bytes).unwrap());
        assert_eq!(self.live, self.folded);
        true
    }

    fn commit(&mut self, topic: &str, partition: i32, offset: i64, at: u64) {
        let now = Wall(0).after(at);
        let (_, record) = self.live.commit(vec![commit(topic, partition, offset)], None, now);
        assert!(self.log(record));
    }

    fn pend(&mut self, producer: i64, topic: &str, offset: i64) {
        let commits = vec![commit(topic, 0, offset)];
        let (_, record) = self.live.commit_pending(ProducerId(producer), commits, Wall(0));
        assert!(self.log(record));
    }

    fn end(&mut self, producer: i64, outcome: Outcome) -> bool {
        let record = self.live.end(ProducerId(producer), outcome);
        self.log(record)
    }

    fn expire(&mut self, used: Use<'_>, at: u64) -> bool {
        let record = self.live.expire(used, RETENTION_MS, Wall(0).after(at));
        self.log(record)
    }

    fn at(&self, topic: &str, partition: i32) -> Option<i64> {
        self.live.fetch(topic, partition, false).unwrap().map(|found| found.offset)
    }
}

#[test]
fn what_was_committed_is_fetched_with_its_metadata() {
    let mut world = World::default();
    world.commit("orders", 3, 42, 7);
    let found = world.live.fetch("orders", 3, true).unwrap().unwrap();
    assert_eq!((found.offset, &*found.metadata, found.at), (42, "note", Wall(7)));
    assert_eq!((world.at("orders", 0), world.at("bills", 3)), (None, None));
    world.commit("orders", 3, 40, 8);
    assert_eq!(world.at("orders", 3), Some(40), "a consumer may go back");
}

// OFFSET_METADATA_TOO_LARGE
#[test]
fn too_long_metadata_is_refused_for_its_partition_alone() {
    let mut offsets = Offsets::default();
    let mut long = commit("orders", 0, 1);
    long.metadata = "x".repeat(METADATA_BYTES_MAX + 1).into();
    let mut fits = commit("orders", 1, 1);
    fits.metadata = "x".repeat(METADATA_BYTES_MAX).into();
    let (results, _) = offsets.commit(vec![long.clone(), fits], None, Wall(0));
    assert_eq!(results, vec![Err(OffsetError::MetadataTooLarge), Ok(())]);
    assert_eq!(offsets.iter().count(), 1);
    assert_eq!(offsets.commit(vec![long], None, Wall(0)).1, None, "nothing to log");
}

// KIP-447: RequireStable
#[test]
fn a_pending_offset_is_unstable_and_becomes_visible_on_commit_alone() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    world.pend(7, "orders", 5);
    assert_eq!(world.at("orders", 0), Some(1));
    assert_eq!(world.live.fetch("orders", 0, true), Err(FetchError::Unstable));
    assert!(world.live.fetch("orders", 1, true).is_ok());
    assert!(world.end(7, Outcome::Abort));
    assert_eq!(world.at("orders", 0), Some(1));
    world.pend(7, "orders", 6);
    world.end(7, Outcome::Commit);
    assert_eq!(world.at("orders", 0), Some(6));
    assert!(world.live.fetch("orders", 0, true).is_ok());
    assert!(!world.end(7, Outcome::Commit), "nothing left to end");
}

#[test]
fn a_commit_made_after_a_transactions_outlives_its_end() {
    let mut world = World::default();
    world.pend(7, "orders", 5);
    world.commit("orders", 0, 9, 0);
    world.end(7, Outcome::Commit);
    assert_eq!(world.at("orders", 0), Some(9));
}

#[test]
fn offsets_of_a_group_that_nobody_joined_expire_from_their_commit() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    world.commit("orders", 1, 1, DAY);
    assert!(!world.expire(Use::Simple, 7 * DAY - 1));
    assert!(world.expire(Use::Simple, 7 * DAY));
    assert_eq!((world.at("orders", 0), world.at("orders", 1)), (None, Some(1)));
}

#[test]
fn offsets_of_an_empty_group_expire_from_when_it_became_empty() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    let empty = Use::EmptySince(Wall(0).after(3 * DAY));
    assert!(!world.expire(empty, 9 * DAY));
    assert!(world.expire(empty, 10 * DAY));
    assert!(world.live.is_empty());
}

#[test]
fn a_living_group_loses_only_offsets_of_topics_it_left() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    world.commit("bills", 0, 1, 0);
    let topics = BTreeSet::from([Arc::from("orders")]);
    assert!(!world.expire(Use::Subscribed(None), 100 * DAY));
    assert!(world.expire(Use::Subscribed(Some(&topics)), 100 * DAY));
    assert_eq!((world.at("orders", 0), world.at("bills", 0)), (Some(1), None));
}

#[test]
fn an_offset_in_a_transaction_does_not_expire() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    world.pend(7, "orders", 5);
    assert!(!world.expire(Use::Simple, 100 * DAY));
}

// OffsetCommit v2 to v4 carry a retention time
#[test]
fn a_retention_time_of_its_own_wins() {
    let mut offsets = Offsets::default();
    offsets.commit(vec![commit("orders", 0, 1)], Some(DAY), Wall(0));
    assert!(offsets.expire(Use::Simple, RETENTION_MS, Wall(0).after(DAY)).is_some());
}

// store.md rule 12
#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    world.commit("bills", 0, 1, 0);
    world.pend(7, "orders", 5);
    let record = world.live.delete_topic(&"orders".into());
    world.log(record);
    world.end(7, Outcome::Commit);
    assert_eq!((world.at("orders", 0), world.at("bills", 0)), (None, Some(1)));
    assert_eq!(world.live.delete_topic(&"orders".into()), None);
}

#[test]
fn deleting_names_what_exists() {
    let mut world = World::default();
    world.commit("orders", 0, 1, 0);
    let record = world.live.delete(&[("orders".into(), 0), ("orders".into(), 1)]);
    let entries = vec![("orders".into(), 0)];
    assert_eq!(record, Some(OffsetsRecord::Deleted { entries }));
    world.log(record);
    assert!(world.live.is_empty());
    assert_eq!(world.live.delete(&[("orders".into(), 0)]), None);
}
