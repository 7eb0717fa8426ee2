//! Random commands against the machine, judged by a model that is a plain list of messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_store::Lsn;

use super::*;
use crate::clock::{Monotonic, Now, Wall};

/// Where a message is. `Ready` carries what the order compares: lower is delivered first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Ready(u8, i64, u64),
    Held(u64, Option<u64>),
    Delayed(i64),
}

/// The naive queue: no lanes, no index, no turns; everything is found by looking at everything.
struct Model {
    settings: Settings,
    messages: Vec<(Entry, Place)>,
    consumers: BTreeMap<u64, (Consume, u32)>,
    returns: u64,
    now: Now,
}

impl Model {
    fn rank(&self, entry: &Entry) -> Place {
        Place::Ready(1, -i64::from(entry.priority), entry.seq.0)
    }

    fn head(&self) -> Option<Entry> {
        let key = |place: &Place| match *place {
            Place::Ready(a, b, c) => (a, b, c),
            _ => (u8::MAX, 0, 0),
        };
        let ready = self.messages.iter().filter(|(_, place)| matches!(place, Place::Ready(..)));
        ready.min_by_key(|(_, place)| key(place)).map(|(entry, _)| *entry)
    }

    fn room(&self, id: u64) -> bool {
        let (wish, credit) = &self.consumers[&id];
        let held =
            self.messages.iter().filter(|(_, p)| matches!(p, Place::Held(_, Some(c)) if *c == id));
        *credit > 0 && (wish.no_ack || wish.prefetch == 0 || held.count() < wish.prefetch as usize)
    }

    fn find(&mut self, seq: Lsn) -> usize {
        self.messages.iter().position(|(entry, _)| entry.seq == seq).expect("unknown message")
    }

    fn ready(&self) -> (u64, u64) {
        let ready = self.messages.iter().filter(|(_, place)| matches!(place, Place::Ready(..)));
        ready.fold((0, 0), |(count, bytes), (entry, _)| (count + 1, bytes + u64::from(entry.bytes)))
    }

    fn publish(&mut self, entry: Entry) {
        let place = self.rank(&entry);
        self.messages.push((entry, place));
    }

    /// The message returns: what the machine must report is computed here on its own.
    fn take_back(&mut self, at: usize, failed: bool, effects: &mut Vec<Effect>) {
        let mut entry = self.messages[at].0;
        entry.redelivered = true;
        entry.acquired_count += 1;
        entry.delivery_count += u32::from(failed);
        if self.settings.delivery_limit.is_some_and(|limit| entry.delivery_count > limit) {
            self.messages.remove(at);
            effects.push(Effect::DeadLetter { entry, reason: Death::DeliveryLimit });
            return;
        }
        let Entry { seq, delivery_count, acquired_count, .. } = entry;
        effects.push(Effect::CountDelivery { seq, delivery_count, acquired_count });
        let place = match self.settings.retry {
            Some(retry) if failed => {
                let delay = (retry.min * u64::from(delivery_count)).min(retry.max);
                Place::Delayed(self.now.wall.after(delay).0.min(entry.expires_at.0))
            }
            _ => self.place_back(&entry),
        };
        self.messages[at] = (entry, place);
    }

    fn place_back(&mut self, entry: &Entry) -> Place {
        self.returns += 1;
        match self.settings.order {
            Order::Position => self.rank(entry),
            Order::ReturnedFirst => Place::Ready(0, 0, self.returns),
        }
    }

    fn wake_delayed(&mut self) {
        loop {
            let due = |(entry, place): &(Entry, Place)| match place {
                Place::Delayed(at) if *at <= self.now.wall.0 => Some((*at, entry.seq)),
                _ => None,
            };
            let Some((_, seq)) = self.messages.iter().filter_map(due).min() else { return };
            let at = self.find(seq);
            let entry = self.messages[at].0;
            // an expired one dies where it stands; the machine's effect will say so
            self.messages[at].1 = self.place_back(&entry);
        }
    }

    /// Judges one effect of catching up, and does the same here.
    fn follow(&mut self, effect: &Effect) {
        match effect {
            Effect::Deliver { consumer, entry } => {
                assert_eq!(Some(*entry), self.head(), "not the next message");
                assert!(!entry.is_expired(self.now.wall) || entry.immediate, "delivered late");
                assert!(self.room(consumer.0), "no room");
                let (wish, credit) = self.consumers.get_mut(&consumer.0).unwrap();
                *credit -= 1;
                let (priority, channel, no_ack) = (wish.priority, wish.channel.0, wish.no_ack);
                let better = |id: &u64| self.consumers[id].0.priority > priority && self.room(*id);
                assert!(!self.consumers.keys().any(better), "a more important consumer waits");
                let at = self.find(entry.seq);
                self.messages[at].1 = Place::Held(channel, Some(consumer.0));
                if no_ack {
                    self.messages[at].1 = Place::Held(u64::MAX, None);
                }
            }
            Effect::Settled { seq } => {
                let at = self.find(*seq);
                assert_eq!(self.messages.remove(at).1, Place::Held(u64::MAX, None));
            }
            Effect::DeadLetter { entry, reason } => {
                match reason {
                    Death::Expired => assert!(entry.is_expired(self.now.wall), "died early"),
                    _ => assert!(self.is_over() && self.head() == Some(*entry), "not the head"),
                }
                let at = self.find(entry.seq);
                assert!(matches!(self.messages.remove(at).1, Place::Ready(..)));
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn is_over(&self) -> bool {
        let (count, bytes) = self.ready();
        self.settings.max_length.is_some_and(|max| count > max)
            || self.settings.max_bytes.is_some_and(|max| bytes > max)
    }

    /// Nothing that could happen is left to do, and both count the same.
    fn check(&self, machine: &Machine) {
        let (count, bytes) = self.ready();
        let counts = machine.counts();
        assert_eq!((counts.ready, counts.ready_bytes), (count, bytes));
        let held = self.messages.iter().filter(|(_, place)| matches!(place, Place::Held(..)));
        assert_eq!(counts.unacked, held.count() as u64);
        assert!(!self.is_over());
        assert!(count == 0 || !self.consumers.keys().any(|id| self.room(*id)), "somebody waits");
        let alive = |(entry, place): &(Entry, Place)| {
            !matches!(place, Place::Ready(..)) || !entry.is_expired(self.now.wall)
        };
        assert!(self.messages.iter().all(alive), "an expired message is ready");
        let next = self.messages.iter().filter(|(_, p)| matches!(p, Place::Ready(..)));
        let next = next.map(|(entry, _)| entry.expires_at).min().filter(|at| *at != NEVER);
        let due = machine.deadline().wall;
        assert!(next.is_none() || due.is_some_and(|due| Some(due) <= next), "{due:?} {next:?}");
        assert_eq!(machine.browse(1).first().copied(), self.head());
    }
}

struct Chance(u64);

impl Chance {
    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn settings(&mut self) -> Settings {
        let base = if self.below(2) == 0 { Settings::classic() } else { Settings::quorum() };
        let some = |chance: &mut Self, bound| (chance.below(3) == 0).then(|| chance.below(bound));
        Settings {
            dead_letters: true,
            max_priority: [0, 3, 31][self.index(3)],
            max_length: some(self, 12),
            max_bytes: some(self, 40),
            message_ttl: some(self, 60),
            delivery_limit: some(self, 4).and_then(|limit| u32::try_from(limit).ok()),
            nack_counts: self.below(2) == 0,
            retry: (self.below(3) == 0).then_some(Retry { on: RetryOn::Failed, min: 5, max: 12 }),
            ..base
        }
    }
}

struct Run {
    machine: Machine,
    model: Model,
    chance: Chance,
    next_seq: u64,
    next_consumer: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let settings = chance.settings();
        let now = Now { monotonic: Monotonic(0), wall: Wall(1_000) };
        let machine = Machine::new(Arc::new(settings.clone()), now);
        let (messages, consumers) = (Vec::new(), BTreeMap::new());
        let model = Model { settings, messages, consumers, returns: 0, now };
        Self { machine, model, chance, next_seq: 0, next_consumer: 0 }
    }

    /// The effects the command itself must have come first, exactly; the rest is followed.
    fn expect(&mut self, command: Command<'_>, first: &[Effect]) {
        let mut effects = Vec::new();
        self.machine.apply(command, self.model.now, &mut effects);
        assert!(effects.starts_with(first), "{effects:?} do not start with {first:?}");
        self.model.wake_delayed();
        effects.iter().skip(first.len()).for_each(|effect| self.model.follow(effect));
        self.model.check(&self.machine);
    }

    fn step(&mut self) {
        match self.chance.below(12) {
            0..4 => self.publish(),
            4..7 => self.settle(),
            7 => self.consume(),
            8 => self.leave(),
            9 => self.get(),
            10 => {
                let ms = self.chance.below(20);
                let now = self.model.now;
                self.model.now =
                    Now { monotonic: now.monotonic.after(ms), wall: now.wall.after(ms) };
                self.expect(Command::Tick, &[]);
            }
            _ => self.credit(),
        }
    }

    fn publish(&mut self) {
        let mut entries = Vec::new();
        for _ in 0..=self.chance.below(3) {
            self.next_seq += 2;
            // now and then one overtakes: the late one fills a gap that was left
            let seq =
                self.next_seq - if self.chance.below(8) == 0 { 3.min(self.next_seq) } else { 0 };
            let ttl = (self.chance.below(3) == 0).then(|| self.chance.below(80));
            let (expires_at, immediate) = self.model.settings.expiry(self.model.now.wall, ttl);
            let priority = u8::try_from(self.chance.below(6)).unwrap();
            let priority = self.model.settings.lane((priority < 4).then_some(priority));
            let bytes = u32::try_from(self.chance.below(10)).unwrap();
            let entry = Entry { expires_at, immediate, priority, ..Entry::new(Lsn(seq), bytes) };
            if !self.model.messages.iter().any(|(other, _)| other.seq == entry.seq) {
                self.model.publish(entry);
                entries.push(entry);
            }
        }
        self.expect(Command::Visible { entries: &entries }, &[]);
    }

    fn settle(&mut self) {
        let held: Vec<(Entry, u64)> = self.held();
        if held.is_empty() {
            return;
        }
        let (entry, channel) = held[self.chance.index(held.len())];
        let outcomes = [Outcome::Ack, Outcome::Ack, Outcome::Nack, Outcome::Reject, Outcome::Dead];
        let outcome = outcomes[self.chance.index(5)];
        let at = self.model.find(entry.seq);
        let mut first = Vec::new();
        match outcome {
            Outcome::Ack => first.push(Effect::Settled { seq: entry.seq }),
            Outcome::Dead => first.push(Effect::DeadLetter { entry, reason: Death::Rejected }),
            Outcome::Nack => {
                let failed = self.model.settings.nack_counts;
                self.model.take_back(at, failed, &mut first);
            }
            Outcome::Reject => self.model.take_back(at, true, &mut first),
        }
        if matches!(outcome, Outcome::Ack | Outcome::Dead) {
            self.model.messages.remove(at);
        }
        let messages = [entry.seq];
        self.expect(
            Command::Settle { channel: ChannelKey(channel), messages: &messages, outcome },
            &first,
        );
    }

    fn held(&self) -> Vec<(Entry, u64)> {
        let held = self.model.messages.iter().filter_map(|(entry, place)| match place {
            Place::Held(channel, _) => Some((*entry, *channel)),
            _ => None,
        });
        held.collect()
    }

    fn consume(&mut self) {
        if self.model.consumers.len() > 4 {
            return;
        }
        self.next_consumer += 1;
        let wish = Consume {
            consumer: ConsumerId(self.next_consumer),
            channel: ChannelKey(self.chance.below(3)),
            prefetch: u32::try_from(self.chance.below(4)).unwrap(),
            credit: u32::try_from(self.chance.below(10)).unwrap(),
            priority: i32::try_from(self.chance.below(2)).unwrap(),
            exclusive: false,
            no_ack: self.chance.below(4) == 0,
            timeout: None,
        };
        self.model.consumers.insert(self.next_consumer, (wish, wish.credit));
        self.expect(Command::Consume(wish), &[Effect::Consuming { consumer: wish.consumer }]);
    }

    fn leave(&mut self) {
        let channel = self.chance.below(3);
        if self.chance.below(2) == 0 {
            let ids: Vec<u64> = self.model.consumers.keys().copied().collect();
            let Some(id) = ids.get(self.chance.index(5)).copied() else { return };
            self.model.consumers.remove(&id);
            return self.expect(Command::Cancel { consumer: ConsumerId(id) }, &[]);
        }
        let lost = self.chance.below(2) == 0;
        if lost {
            self.model.consumers.retain(|_, (wish, _)| wish.channel.0 != channel);
        }
        let mut held = self.held();
        held.retain(|(_, other)| *other == channel);
        held.sort_by_key(|(entry, _)| entry.seq);
        let mut first = Vec::new();
        for (entry, _) in held {
            let at = self.model.find(entry.seq);
            self.model.take_back(at, lost, &mut first);
        }
        let channel = ChannelKey(channel);
        let command =
            if lost { Command::Release { channel } } else { Command::Recover { channel } };
        self.expect(command, &first);
    }

    /// After catching up the head is alive, unless the clock moved; it has not.
    fn get(&mut self) {
        let first = match self.model.head() {
            None => vec![Effect::GotNothing],
            Some(entry) => {
                let at = self.model.find(entry.seq);
                self.model.messages[at].1 = Place::Held(9, None);
                vec![Effect::Got { entry, ready: self.model.ready().0 }]
            }
        };
        self.expect(Command::Get { channel: ChannelKey(9), no_ack: false }, &first);
    }

    fn credit(&mut self) {
        let ids: Vec<u64> = self.model.consumers.keys().copied().collect();
        let Some(id) = ids.get(self.chance.index(5)).copied() else { return };
        let credit = u32::try_from(self.chance.below(6)).unwrap();
        self.model.consumers.get_mut(&id).unwrap().1 += credit;
        self.expect(Command::Credit { consumer: ConsumerId(id), credit }, &[]);
    }
}

#[test]
fn random_commands_agree_with_the_naive_queue() {
    for seed in 0..600 {
        let mut run = Run::new(seed);
        for step in 0..500 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.step()));
            assert!(result.is_ok(), "seed {seed}, step {step}, {:?}", run.model.settings);
        }
    }
}
