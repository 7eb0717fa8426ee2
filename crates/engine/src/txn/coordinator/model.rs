//! Random producers against the coordinator, with what must hold after every step.

use super::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// What a client believes of its transaction.
#[derive(Clone, Default)]
struct Client {
    id: usize,
    who: Option<Identity>,
    added: BTreeSet<TxnPartition>,
}

struct World {
    coordinator: Transactions,
    dice: Dice,
    now: Now,
    fresh: i64,
    clients: Vec<Client>,
    folded: RememberedTransactions,
    /// What was added and has not ended, by producer: what the partitions would say.
    open: BTreeMap<ProducerId, BTreeSet<TxnPartition>>,
    highest: BTreeMap<ProducerId, ProducerEpoch>,
}

impl World {
    fn new(seed: u64) -> Self {
        let clients = (0..6).map(|n| Client { id: n % 3, ..Client::default() }).collect();
        Self {
            coordinator: Transactions::new(Settings::default()),
            dice: Dice(seed),
            now: Now::default(),
            fresh: 0,
            clients,
            folded: RememberedTransactions::default(),
            open: BTreeMap::new(),
            highest: BTreeMap::new(),
        }
    }

    fn carry_out(&mut self, effects: Vec<TxnEffect>) {
        for effect in effects {
            let record = match effect {
                TxnEffect::Persist(record) => record,
                TxnEffect::End(end) => {
                    let open = self.open.remove(&end.producer).unwrap_or_default();
                    let ended: BTreeSet<TxnPartition> = end.partitions.iter().cloned().collect();
                    assert_eq!(ended, open, "a marker is missing or goes where nothing was added");
                    let highest = self.highest.entry(end.producer).or_default();
                    assert!(end.epoch >= *highest, "a marker of a fenced epoch");
                    *highest = end.epoch;
                    end.record
                }
            };
            if let TxnRecord::Added { id, partitions, .. } = &record {
                let producer = self.folded.0[id].identity.producer;
                self.open.entry(producer).or_default().extend(partitions.iter().cloned());
            }
            let bytes = postcard::to_stdvec(&record).unwrap();
            self.folded.replay(postcard::from_bytes(&bytes).unwrap());
        }
    }

    fn step(&mut self) {
        let n = self.dice.roll(self.clients.len());
        let id: Arc<str> = format!("t{}", self.clients[n].id).into();
        let who = self.clients[n].who;
        match (self.dice.roll(12), who) {
            (0, _) | (_, None) => self.init(n, id),
            (1..=5, Some(who)) => self.add(n, &id, who),
            (6..=9, Some(who)) => self.end(n, id, who),
            (10, _) => {
                self.now.monotonic = self.now.monotonic.after(25_000);
                self.now.wall = self.now.wall.after(25_000);
                let due = self.coordinator.due(self.now.monotonic);
                let due: Vec<Arc<str>> = due.map(|view| Arc::clone(view.id)).collect();
                for id in due {
                    let effects = self.coordinator.time_out(&id, self.now);
                    self.carry_out(effects);
                }
            }
            _ => {
                let remembered = self.coordinator.remembered().clone();
                self.now.monotonic = Monotonic(0);
                self.coordinator = Transactions::restore(Settings::default(), remembered, self.now);
            }
        }
        self.check();
    }

    fn init(&mut self, n: usize, id: Arc<str>) {
        let expected = self.clients[n].who.filter(|_| self.dice.roll(2) == 0);
        let request = InitRequest { id: Some(id), timeout_ms: 60_000, expected };
        let fresh = &mut self.fresh;
        let mut draw = || {
            *fresh += 1;
            ProducerId(*fresh)
        };
        let decision = self.coordinator.init(request, &mut draw, self.now);
        self.carry_out(decision.effects);
        self.clients[n].who = decision.answer.ok();
        self.clients[n].added.clear();
    }

    fn add(&mut self, n: usize, id: &str, who: Identity) {
        let number = self.dice.roll(4);
        let stream = ottla_store::StreamId(u64::try_from(number).unwrap());
        let partition = TxnPartition::new(stream, "orders".into(), i32::try_from(number).unwrap());
        let decision = self.coordinator.add_partitions(id, who, vec![partition.clone()], self.now);
        self.carry_out(decision.effects);
        if decision.answer.is_ok() {
            assert!(self.coordinator.verify_partition(id, who, &partition).is_ok());
            self.clients[n].added.insert(partition);
        }
    }

    fn end(&mut self, n: usize, id: Arc<str>, who: Identity) {
        let outcome = if self.dice.roll(3) == 0 { Outcome::Abort } else { Outcome::Commit };
        let version = if self.clients[n].id == 0 { EndVersion::Old } else { EndVersion::Bumping };
        let request = EndRequest { id, who, outcome, version };
        let fresh = &mut self.fresh;
        let mut draw = || {
            *fresh += 1;
            ProducerId(*fresh)
        };
        let decision = self.coordinator.end(&request, &mut draw, self.now);
        let ends: Vec<Outcome> = decision.effects.iter().filter_map(ended).collect();
        assert!(ends.iter().all(|done| *done == outcome));
        self.carry_out(decision.effects);
        let repeat = self.coordinator.end(&request, &mut || ProducerId(-1), self.now);
        if decision.answer.is_ok() {
            assert_eq!(repeat.answer, decision.answer, "a repeated end is answered as the first");
            assert_eq!(repeat.effects, vec![], "and ends nothing more");
        }
        if self.dice.roll(4) != 0 {
            self.clients[n].who = decision.answer.ok(); // otherwise the answer is lost
        }
        self.clients[n].added.clear();
    }

    fn check(&self) {
        assert_eq!(&self.folded, self.coordinator.remembered());
        let open = self.coordinator.iter().filter(|view| view.state == TxnState::Ongoing).count();
        assert_eq!((self.coordinator.deadlines.len(), self.coordinator.due.len()), (open, open));
        assert_eq!(self.coordinator.idle.len() + open, self.coordinator.iter().count());
        assert_eq!(self.open.len(), open);
    }
}

fn ended(effect: &TxnEffect) -> Option<Outcome> {
    match effect {
        TxnEffect::End(end) => Some(end.outcome),
        TxnEffect::Persist(_) => None,
    }
}

#[test]
fn whatever_producers_do_every_transaction_ends_once_and_where_it_wrote() {
    for seed in 0..200 {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
