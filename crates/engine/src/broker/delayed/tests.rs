use super::*;
use std::collections::BTreeMap;

/// A generator of our own: the seed is the story.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn drain(delayed: &mut Delayed, now: i64) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let due = delayed.take_due(Wall(now), 100);
        if due.is_empty() {
            return all;
        }
        for place in due {
            assert!(delayed.holds(place) && delayed.remove(place) && !delayed.holds(place));
            all.push(place);
        }
    }
}

#[test]
fn messages_come_when_they_are_due_and_not_before() {
    let mut delayed = Delayed::default();
    for (place, due) in [(10, 5_000), (20, 1_000), (30, 90_000), (40, 1_000)] {
        delayed.push(place, Wall(due));
    }
    assert_eq!(delayed.deadline(), Some(Wall(1_000)));
    assert!(drain(&mut delayed, 999).is_empty());
    assert_eq!(drain(&mut delayed, 1_000), [20, 40]);
    assert_eq!(drain(&mut delayed, 89_999), [10]);
    assert_eq!((delayed.len(), delayed.deadline()), (1, Some(Wall(90_000))));
    assert_eq!(drain(&mut delayed, 90_000), [30]);
    assert_eq!((delayed.len(), delayed.deadline()), (0, None));
}

#[test]
fn what_could_not_be_moved_comes_again_and_what_was_called_off_does_not() {
    let mut delayed = Delayed::default();
    (1..=3).for_each(|place| delayed.push(place, Wall(100)));
    assert_eq!(delayed.take_due(Wall(100), 10), [1, 2, 3]);
    assert!(delayed.take_due(Wall(100), 10).is_empty());
    delayed.again(2);
    assert!(delayed.remove(3) && !delayed.remove(3));
    assert_eq!(delayed.take_due(Wall(100), 10), [2]);
    delayed.again(1);
    assert_eq!(delayed.list(0, 10), [(1, Wall(100)), (2, Wall(100))]);
}

#[test]
fn random_messages_agree_with_a_plain_map_also_across_snapshots() {
    for seed in 1..=20 {
        let mut dice = Dice(seed);
        let (mut delayed, mut plain) = (Delayed::default(), BTreeMap::new());
        let (mut place, mut now) = (0, 1_000_000_i64);
        for step in 0..3_000 {
            match dice.roll(10) {
                0 => {
                    now += i64::try_from(dice.roll(30_000)).unwrap();
                    let mut due: Vec<u64> = plain
                        .iter()
                        .filter(|(_, at)| **at <= now)
                        .map(|(place, _)| *place)
                        .collect();
                    let mut taken = drain(&mut delayed, now);
                    taken.sort_unstable();
                    due.sort_unstable();
                    assert_eq!(taken, due, "seed {seed}, step {step}");
                    plain.retain(|place, _| !due.contains(place));
                }
                1 => {
                    let any = dice.roll(place + 1);
                    assert_eq!(delayed.remove(any), plain.remove(&any).is_some(), "seed {seed}");
                }
                2 if dice.roll(50) == 0 => {
                    let parts: Vec<Vec<u8>> =
                        delayed.parts().iter().map(DelayedPart::encode).collect();
                    delayed = Delayed::default();
                    parts.iter().for_each(|part| delayed.restore(part).unwrap());
                }
                _ => {
                    place += 1 + dice.roll(5_000);
                    let due = now + i64::try_from(dice.roll(3_600_000)).unwrap();
                    delayed.push(place, Wall(due));
                    plain.insert(place, due);
                }
            }
            assert_eq!(delayed.len(), plain.len(), "seed {seed}, step {step}");
            let probe = dice.roll(place + 2);
            assert_eq!(delayed.holds(probe), plain.contains_key(&probe), "seed {seed}");
            // early after something was called off, late never
            let deadline = delayed.deadline();
            assert_eq!(deadline.is_some(), !plain.is_empty(), "seed {seed}");
            assert!(deadline <= plain.values().min().map(|due| Wall(*due)), "seed {seed}");
        }
        let all: Vec<(u64, Wall)> = plain.iter().map(|(place, due)| (*place, Wall(*due))).collect();
        assert_eq!(delayed.list(0, usize::MAX), all, "seed {seed}");
    }
}

#[test]
fn more_than_is_unpacked_at_once_may_be_due_at_one_moment() {
    let mut delayed = Delayed::default();
    let count = u64::try_from(3 * NEAR_MAX).unwrap();
    (1..=count).for_each(|place| delayed.push(place, Wall(5_000)));
    let mut taken = 0;
    while let due @ [_, ..] = &*delayed.take_due(Wall(5_000), 1_000) {
        assert!(delayed.near.len() <= NEAR_MAX);
        due.iter().for_each(|place| assert!(delayed.remove(*place)));
        taken += due.len();
    }
    assert_eq!((taken, delayed.len()), (3 * NEAR_MAX, 0));
}

#[test]
fn a_waiting_message_costs_less_than_nine_bytes() {
    let mut delayed = Delayed::default();
    let mut dice = Dice(7);
    for n in 1..=200_000 {
        // messages of 400 bytes, due within a day
        delayed.push(n * 400, Wall(i64::try_from(dice.roll(86_400_000)).unwrap()));
    }
    let each = delayed.packed_bytes() * 100 / 200_000;
    assert!(each < 900, "{each} hundredths of a byte");
}

#[test]
fn a_cut_piece_of_a_snapshot_is_an_error() {
    let mut delayed = Delayed::default();
    (1..=1_000).for_each(|place| delayed.push(place, Wall(5)));
    let whole = delayed.parts().last().unwrap().encode();
    for length in 0..whole.len() {
        assert!(Delayed::default().restore(&whole[..length]).is_err(), "at {length}");
    }
}
