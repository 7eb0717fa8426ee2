//! Random members against a share group, beside a model that knows every record on its own.

use std::collections::BTreeMap;

use super::tests::{ORDERS, at};
use super::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// What the model knows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Free(u16),
    Held {
        member: i64,
        count: u16,
        until: u64,
    },
    Accepted,
    /// Given up, without a letter as yet.
    Dying,
    Archived,
}

fn flat(deaths: &[Death]) -> Vec<i64> {
    deaths.iter().flat_map(|death| death.first..=death.last).collect()
}

struct World {
    seed: u64,
    dice: Dice,
    group: ShareGroup,
    fold: RememberedShares,
    now: u64,
    log_start: i64,
    batches: Vec<Span>,
    records: BTreeMap<i64, Known>,
}

impl World {
    fn new(seed: u64) -> Self {
        let buries = seed.is_multiple_of(2);
        let settings =
            ShareSettings { locks_max: 60, lock_ms: 100, buries, ..ShareSettings::default() };
        let mut world = Self {
            seed,
            dice: Dice(seed),
            group: ShareGroup::new(settings),
            fold: RememberedShares::default(),
            now: 0,
            log_start: 0,
            batches: Vec::new(),
            records: BTreeMap::new(),
        };
        let record = world.group.start(ORDERS, 0, at(0));
        world.fold.replay(record);
        world
    }

    fn log(&mut self, records: Vec<ShareRecord>) {
        for record in records {
            self.fold.replay(record);
        }
    }

    fn step(&mut self) {
        match self.dice.roll(13) {
            0 | 1 => self.produce(),
            2..=4 => self.fetch(),
            5..=8 => self.acknowledge(),
            9 => self.pass(),
            10 => match self.dice.roll(8) {
                0 => self.crash(),
                1 => self.delete(),
                _ => self.disconnect(),
            },
            11 => self.bury(),
            _ => self.acknowledge_nonsense(),
        }
        self.check();
    }

    fn produce(&mut self) {
        let end = self.batches.last().map_or(0, |span| span.last + 1);
        let first = end + i64::from(self.dice.roll(6) == 0) * self.dice.roll(4); // compacted
        let last = first + self.dice.roll(9);
        let hidden = self.dice.roll(7) == 0;
        self.batches.push(Span { first, last, hidden });
    }

    fn fetch(&mut self) {
        let (next, records) = self.group.next(ORDERS, self.log_start);
        self.log(records);
        let Some(from) = next else { return };
        let spans: Vec<Span> =
            self.batches.iter().filter(|span| span.last >= from).take(5).copied().collect();
        let (member, strict) = (self.dice.roll(3), self.dice.roll(2) == 0);
        let records_max = u32::try_from(1 + self.dice.roll(20)).unwrap();
        let name = MemberId::from(member.to_string());
        let take = Take {
            member: &name,
            from,
            spans: &spans,
            records_max,
            strict,
            batch_size: 7,
            locks_max: self.group.settings().locks_max,
        };
        let (acquired, records) = self.group.acquire(ORDERS, &take, at(self.now));
        self.log(records);
        let mut count = 0;
        for run in acquired {
            for offset in run.first..=run.last {
                count += 1;
                let before = self.records.get(&offset).copied().unwrap_or(Known::Free(0));
                let Known::Free(times) = before else {
                    panic!("seed {}: {offset} was {before:?} and is given to {member}", self.seed)
                };
                assert_eq!(times + 1, run.count, "seed {}: {offset}", self.seed);
                let exists =
                    |span: &Span| span.first <= offset && offset <= span.last && !span.hidden;
                assert!(self.batches.iter().any(exists), "seed {}: no record {offset}", self.seed);
                let held = Known::Held { member, count: run.count, until: self.now + 100 };
                self.records.insert(offset, held);
            }
        }
        assert!(!strict || count <= records_max, "seed {}", self.seed);
    }

    /// Some neighbouring records of one member, with random words.
    fn acknowledge(&mut self) {
        let member = self.dice.roll(3);
        let held: Vec<i64> = self
            .records
            .iter()
            .filter(|(_, known)| matches!(known, Known::Held { member: holder, .. } if *holder == member))
            .map(|(offset, _)| *offset)
            .collect();
        if held.is_empty() {
            return;
        }
        let from = usize::try_from(self.dice.roll(i64::try_from(held.len()).unwrap())).unwrap();
        let mut last = held[from];
        let wish = last + self.dice.roll(6);
        while last < wish && held.contains(&(last + 1)) {
            last += 1;
        }
        let same = self.dice.roll(2) == 0;
        let count = if same { 1 } else { last - held[from] + 1 };
        let types: Vec<AckType> = (0..count)
            .map(|_| AckType::from_code(i8::try_from(self.dice.roll(5)).unwrap()).unwrap())
            .collect();
        let batch = AckBatch { first: held[from], last, types };
        let pieces = batch.pieces();
        let name = MemberId::from(member.to_string());
        let records = self.group.acknowledge(ORDERS, &name, &[batch], at(self.now));
        self.log(records.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)));
        for (first, last, kind) in pieces {
            for offset in first..=last {
                self.settle(offset, kind);
            }
        }
    }

    fn settle(&mut self, offset: i64, kind: AckType) {
        let given_up = self.given_up();
        let Some(known) = self.records.get_mut(&offset) else { return };
        let Known::Held { member, count, .. } = *known else { return };
        *known = match kind {
            AckType::Accept => Known::Accepted,
            AckType::Release if count < 5 => Known::Free(count),
            AckType::Renew => Known::Held { member, count, until: self.now + 100 },
            AckType::Gap => Known::Archived,
            AckType::Release | AckType::Reject => given_up,
        };
    }

    fn given_up(&self) -> Known {
        if self.group.settings().buries { Known::Dying } else { Known::Archived }
    }

    /// The letters of some that were given up are written.
    fn bury(&mut self) {
        let dying = |(_, known): &(&i64, &Known)| **known == Known::Dying;
        let expected: Vec<i64> =
            self.records.iter().filter(dying).map(|(offset, _)| *offset).collect();
        let deaths = self.group.dying_in(ORDERS);
        assert_eq!(flat(&deaths), expected, "seed {}", self.seed);
        assert_eq!(
            self.group.dying().map(|(_, deaths)| flat(&deaths)).unwrap_or_default(),
            expected
        );
        let count = i64::try_from(expected.len()).unwrap();
        let Some(upto) = expected.get(usize::try_from(self.dice.roll(count.max(1))).unwrap())
        else {
            return;
        };
        let records = self.group.bury(ORDERS, *upto);
        self.log(records);
        for known in self.records.range_mut(..=*upto).map(|(_, known)| known) {
            if *known == Known::Dying {
                *known = Known::Archived;
            }
        }
    }

    /// Of records that are not held: refused, and nothing changes.
    fn acknowledge_nonsense(&mut self) {
        let member = self.dice.roll(3);
        let end = self.batches.last().map_or(0, |span| span.last + 1);
        let start = self.group.lag(ORDERS, 0).unwrap().start;
        let first = start + self.dice.roll((end - start).max(0) + 1);
        let last = first + self.dice.roll(5);
        let mine = |offset| matches!(self.records.get(&offset), Some(Known::Held { member: holder, .. }) if *holder == member);
        if (first..=last).all(mine) {
            return;
        }
        let before = self.group.remembered().clone();
        let batch = AckBatch { first, last, types: vec![AckType::Accept] };
        let name = MemberId::from(member.to_string());
        let refused = self.group.acknowledge(ORDERS, &name, &[batch], at(self.now));
        assert_eq!(refused, Err(AckError::InvalidState), "seed {}", self.seed);
        assert_eq!(*self.group.remembered(), before, "seed {}", self.seed);
    }

    fn pass(&mut self) {
        self.now += u64::try_from(self.dice.roll(60)).unwrap();
        let given_up = self.given_up();
        let records = self.group.tick(at(self.now));
        self.log(records);
        for known in self.records.values_mut() {
            if let Known::Held { count, until, .. } = *known
                && until <= self.now
            {
                *known = if count < 5 { Known::Free(count) } else { given_up };
            }
        }
    }

    fn disconnect(&mut self) {
        let gone = self.dice.roll(3);
        self.group.release(&MemberId::from(gone.to_string()));
        self.give_back(|member| member == gone);
    }

    fn give_back(&mut self, whose: impl Fn(i64) -> bool) {
        for known in self.records.values_mut() {
            if let Known::Held { member, count, .. } = *known
                && whose(member)
            {
                *known = Known::Free(count - 1);
            }
        }
    }

    fn crash(&mut self) {
        let settings = *self.group.settings();
        self.group = ShareGroup::restore(settings, self.fold.clone(), at(self.now));
        self.give_back(|_| true);
    }

    fn delete(&mut self) {
        let end = self.batches.last().map_or(0, |span| span.last + 1);
        self.log_start += self.dice.roll((end - self.log_start).max(0) / 2 + 1);
        let (_, records) = self.group.next(ORDERS, self.log_start);
        self.log(records);
        self.batches.retain(|span| span.last >= self.log_start);
        let start = self.log_start;
        self.records.retain(|offset, _| *offset >= start);
        if let Some(first) = self.batches.first_mut() {
            first.first = first.first.max(start);
        }
    }

    fn check(&self) {
        let seed = self.seed;
        assert_eq!(self.fold, *self.group.remembered(), "seed {seed}: replay is not what lives");
        let window = &self.fold.windows[&ORDERS];
        let live = &self.group.partitions[&ORDERS];
        let mut held = BTreeMap::new();
        for (first, last, member, count) in live.held() {
            for offset in first..=last {
                assert!(held.insert(offset, (member.to_string(), count)).is_none(), "seed {seed}");
            }
        }
        for (offset, known) in &self.records {
            let below = *offset < window.start();
            let fate = window.at(*offset).ok().map(|(_, fate)| fate);
            let holder = held.remove(offset);
            let right = match *known {
                Known::Accepted => holder.is_none() && (below || fate == Some(Fate::Acknowledged)),
                Known::Dying => {
                    !below && holder.is_none() && matches!(fate, Some(Fate::Dying { .. }))
                }
                Known::Archived => holder.is_none() && (below || fate == Some(Fate::Archived)),
                Known::Held { member, count, .. } => {
                    !below
                        && holder == Some((member.to_string(), count))
                        && !fate.is_some_and(Fate::is_final)
                }
                Known::Free(0) => !below && holder.is_none() && fate.is_none(),
                Known::Free(count) => {
                    !below && holder.is_none() && fate == Some(Fate::Returned { count })
                }
            };
            assert!(
                right,
                "seed {seed}: {offset} is {known:?}, not {fate:?} below {}",
                window.start()
            );
        }
        assert!(held.is_empty(), "seed {seed}: held without having been given: {held:?}");
        assert!(live.end() >= window.end(), "seed {seed}");
    }
}

#[test]
fn each_record_is_in_one_state_and_replay_tells_the_same() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
    }
}

#[test]
fn the_checks_see_a_planted_mistake() {
    let seen = std::panic::catch_unwind(|| {
        for seed in 0..20 {
            let mut world = World::new(seed);
            for step in 0..400 {
                if step == 200 {
                    world.fold = RememberedShares::default(); // what was logged is lost
                    let record = ShareRecord::Started { part: ORDERS, start: 0, at: at(0).wall };
                    world.fold.replay(record);
                    world.crash();
                }
                world.step();
            }
        }
    });
    assert!(seen.is_err(), "accepted records came back and nobody noticed");
}
