//! Random clients against a KIP-848 group, with what must hold after every step.

use super::*;
use crate::group::assignor::{Part, Parts};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(sides).unwrap()).unwrap()
    }
}

struct Shelf(BTreeMap<String, (TopicId, u32)>, u64);

impl Topics for Shelf {
    fn version(&self) -> u64 {
        self.1
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        self.0.get(name).copied()
    }

    fn each(&self, visit: &mut dyn FnMut(&str, TopicId, u32)) {
        for (name, (id, partitions)) in &self.0 {
            visit(name, *id, *partitions);
        }
    }
}

/// A client, and what it reads from.
#[derive(Clone, Default)]
struct Client {
    name: Option<MemberId>,
    epoch: i32,
    reads: Parts,
    told: Parts,
    topics: Vec<Arc<str>>,
    regex: Option<Arc<str>>,
    /// An answer was lost: say everything, to be told everything.
    unsure: bool,
}

struct World {
    group: ConsumerGroup,
    shelf: Shelf,
    dice: Dice,
    now: Now,
    clients: Vec<Client>,
    names: u64,
    folded: RememberedConsumers,
    epoch: i32,
}

impl World {
    fn new(seed: u64) -> Self {
        let orders = ("t0".to_owned(), (TopicId([0; 16]), 4));
        Self {
            group: ConsumerGroup::new(ConsumerSettings::default()),
            shelf: Shelf(BTreeMap::from([orders]), 1),
            dice: Dice(seed),
            now: Now::default(),
            clients: vec![Client::default(); 6],
            names: 0,
            folded: RememberedConsumers::default(),
            epoch: 0,
        }
    }

    fn log(&mut self, records: Vec<ConsumerRecord>) {
        for record in records {
            let bytes = postcard::to_stdvec(&record).unwrap();
            self.folded.replay(postcard::from_bytes(&bytes).unwrap());
        }
    }

    fn step(&mut self) {
        let n = self.dice.roll(self.clients.len());
        match self.dice.roll(16) {
            0 => self.leave(n),
            1 => self.topics(),
            2 => self.restart(),
            3 => {
                self.now.monotonic = self.now.monotonic.after(9_000);
                let records = self.group.tick(self.now);
                self.log(records);
                for client in &mut self.clients {
                    if !client
                        .name
                        .as_ref()
                        .is_some_and(|c| self.group.remembered.members.contains_key(c))
                    {
                        *client = Client::default(); // its own session timer stops it
                    }
                }
            }
            _ => self.beat(n),
        }
        self.check();
    }

    fn beat(&mut self, n: usize) {
        let client = &mut self.clients[n];
        let joins = client.name.is_none();
        if joins {
            self.names += 1;
            client.name = Some(format!("m{}", self.names).into());
        }
        client.reads = client.reads.intersection(&client.told).copied().collect(); // gives up
        client.reads.extend(client.told.iter().copied());
        let unsure = client.unsure;
        let joins_or_changes = joins || self.dice.roll(5) == 0;
        if joins_or_changes {
            let last = self.dice.roll(3);
            let client = &mut self.clients[n];
            client.topics = (0..=last).map(|t| format!("t{t}").into()).collect();
            client.regex = (n == 5).then(|| Arc::from("t[12]"));
        }
        let client = self.clients[n].clone();
        let says = joins_or_changes || unsure;
        let beat = Beat {
            member: client.name.unwrap(),
            epoch: client.epoch,
            rebalance_timeout_ms: (joins || unsure).then_some(30_000),
            topics: Some(client.topics).filter(|_| says),
            regex: client.regex.filter(|_| says),
            owned: (joins || unsure || self.dice.roll(4) != 0).then_some(client.reads),
            ..silent((n < 2).then(|| format!("i{n}").into()))
        };
        let decision = self.group.heartbeat(beat, &self.shelf, self.now);
        self.log(decision.records);
        let lost = self.dice.roll(10) == 0;
        match decision.answer {
            Ok(_) if lost && !joins => self.clients[n].unsure = true,
            Ok(answer) => {
                self.clients[n].unsure = false;
                self.clients[n].epoch = answer.epoch;
                if let Some(told) = answer.assignment {
                    self.clients[n].told = told;
                }
            }
            Err(_) => self.clients[n] = Client::default(), // fenced: gives up everything
        }
    }

    fn leave(&mut self, n: usize) {
        let client = std::mem::take(&mut self.clients[n]);
        let Some(member) = client.name else { return };
        let epoch = if n == 0 { -2 } else { -1 };
        let beat = Beat { member, epoch, ..silent((n < 2).then(|| format!("i{n}").into())) };
        let decision = self.group.heartbeat(beat, &self.shelf, self.now);
        self.log(decision.records);
    }

    fn topics(&mut self) {
        let t = self.dice.roll(4);
        let partitions = u32::try_from(self.dice.roll(6)).unwrap();
        let id = TopicId([u8::try_from(t).unwrap(); 16]);
        let entry = self.shelf.0.entry(format!("t{t}")).or_insert((id, 0));
        entry.1 = entry.1.max(partitions);
        self.shelf.1 += 1;
    }

    fn restart(&mut self) {
        let bytes = postcard::to_stdvec(self.group.remembered()).unwrap();
        let remembered = postcard::from_bytes(&bytes).unwrap();
        self.group = ConsumerGroup::restore(ConsumerSettings::default(), remembered, self.now);
    }

    fn check(&mut self) {
        let known = &self.group.remembered;
        assert_eq!(&self.folded, known);
        assert!(known.epoch >= self.epoch && known.target_epoch <= known.epoch);
        self.epoch = known.epoch;
        let mut owners = BTreeMap::<Part, &MemberId>::new();
        for (id, member) in &known.members {
            let progress = &member.progress;
            assert!(progress.epoch <= known.target_epoch);
            for part in progress.assigned.iter().chain(&progress.revoking) {
                assert!(owners.insert(*part, id).is_none(), "two owners of {part:?}");
            }
            assert!(self.group.sessions.holds(id), "a member that never expires");
            let revokes = progress.state == MemberState::UnrevokedPartitions;
            assert_eq!(self.group.revocations.holds(id), revokes);
        }
        let held = known.owners.iter().map(|(part, id)| (*part, id));
        assert!(owners.into_iter().eq(held));
        let mut read = Parts::new();
        for client in &self.clients {
            for part in &client.reads {
                assert!(read.insert(*part), "two clients read {part:?}");
            }
        }
    }

    /// Left alone, the group comes to rest with everything given out.
    fn come_to_rest(&mut self) {
        self.rounds();
        let alive = |id: &&MemberId| self.clients.iter().any(|c| c.name.as_ref() == Some(*id));
        let ghosts: Vec<MemberId> =
            self.group.remembered.members.keys().filter(|id| !alive(id)).cloned().collect();
        let mut records = Vec::new();
        self.group.remove(ghosts, self.now, &mut records);
        self.log(records);
        self.rounds();
        let known = &self.group.remembered;
        let state = self.group.state();
        assert!(matches!(state, GroupState::Stable | GroupState::Empty), "{state}");
        let wanted: u32 = known.topics.values().sum();
        let given: usize = self.clients.iter().map(|client| client.told.len()).sum();
        assert!(state == GroupState::Empty || given == usize::try_from(wanted).unwrap());
    }

    fn rounds(&mut self) {
        let clients = self.clients.len();
        for n in (0..8).flat_map(|_| 0..clients) {
            let client = self.clients[n].clone();
            let Some(member) = client.name else { continue };
            let beat = Beat {
                member,
                epoch: client.epoch,
                rebalance_timeout_ms: Some(30_000),
                topics: Some(client.topics),
                owned: Some(client.told),
                ..silent((n < 2).then(|| format!("i{n}").into()))
            };
            let decision = self.group.heartbeat(beat, &self.shelf, self.now);
            self.log(decision.records);
            match decision.answer {
                Ok(answer) => {
                    self.clients[n].epoch = answer.epoch;
                    self.clients[n].told =
                        answer.assignment.unwrap_or(self.clients[n].told.clone());
                }
                Err(_) => self.clients[n] = Client::default(),
            }
        }
    }
}

fn silent(instance: Option<crate::group::ids::InstanceId>) -> Beat {
    Beat {
        member: "".into(),
        epoch: 0,
        instance,
        rack: None,
        client_id: "c".into(),
        client_host: "/".into(),
        rebalance_timeout_ms: None,
        topics: None,
        regex: None,
        assignor: None,
        owned: None,
    }
}

#[test]
fn whatever_clients_do_no_partition_has_two_readers() {
    for seed in 0..200 {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.come_to_rest();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
