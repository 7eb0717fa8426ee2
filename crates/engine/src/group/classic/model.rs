//! Random clients against a classic group, with what must hold after every step.

use super::*;
use crate::clock::{Monotonic, Wall};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// What a client believes; it may be wrong.
#[derive(Clone, Default)]
struct Client {
    member: Option<MemberId>,
    generation: i32,
    joined: Option<Joined>,
    waits: Option<Ticket>,
}

struct World {
    group: ClassicGroup,
    dice: Dice,
    now: Now,
    clients: Vec<Client>,
    tickets: u64,
    open: BTreeSet<Ticket>,
    folded: Remembered,
    highest: Generation,
    /// (generation, partition) to owner's assignment holder.
    owners: BTreeMap<(Generation, u8), MemberId>,
    leaders: BTreeMap<Generation, MemberId>,
}

const PARTITIONS: u8 = 6;

impl World {
    fn new(seed: u64) -> Self {
        let settings = Settings { members_max: 6, ..Settings::default() };
        Self {
            group: ClassicGroup::new(settings),
            dice: Dice(seed),
            now: Now { monotonic: Monotonic(0), wall: Wall(0) },
            clients: vec![Client::default(); 8],
            tickets: 0,
            open: BTreeSet::new(),
            folded: Remembered::default(),
            highest: Generation(0),
            owners: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.open.insert(Ticket(self.tickets));
        Ticket(self.tickets)
    }

    fn step(&mut self) {
        let who = self.dice.roll(self.clients.len());
        let effects = match self.dice.roll(20) {
            0..=6 => self.join(who),
            7..=11 => self.sync(who),
            12..=14 => self.beat(who),
            15 => self.leave(who),
            16 => return self.restart(),
            _ => {
                self.now.monotonic =
                    self.now.monotonic.after([10, 500, 4_000, 31_000][self.dice.roll(4)]);
                self.group.tick(self.now)
            }
        };
        self.take(effects);
        self.check();
    }

    fn join(&mut self, who: usize) -> Vec<ClassicEffect> {
        let ticket = self.ticket();
        self.clients[who].waits = Some(ticket);
        let instance = (who < 3).then(|| InstanceId::from(format!("i{who}")));
        let lost = self.dice.roll(6) == 0;
        let lists: [&[&str]; 3] = [&["a", "b"], &["b"], &["b", "a"]];
        let names = lists[self.dice.roll(3)];
        let metadata = Bytes::from(vec![0; self.dice.roll(3)]);
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&ticket.0.to_be_bytes());
        let join = Join {
            ticket,
            member: self.clients[who].member.clone().filter(|_| !lost),
            instance,
            client_id: format!("c{who}").into(),
            client_host: "/".into(),
            protocol_type: "consumer".into(),
            protocols: names.iter().map(|name| ((*name).into(), metadata.clone())).collect(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            id_required: who.is_multiple_of(2),
            can_skip_assignment: who == 1,
            uuid,
        };
        self.group.apply(Command::Join(join), self.now)
    }

    fn sync(&mut self, who: usize) -> Vec<ClassicEffect> {
        let Some(joined) = self.clients[who].joined.clone() else { return Vec::new() };
        let Some(member) = self.clients[who].member.clone() else { return Vec::new() };
        let ticket = self.ticket();
        let mut shares: Vec<(MemberId, Vec<u8>)> =
            joined.members.iter().map(|m| (m.member.clone(), Vec::new())).collect();
        for partition in 0..PARTITIONS {
            if !shares.is_empty() {
                let lucky = self.dice.roll(shares.len());
                shares[lucky].1.push(partition);
            }
        }
        let assignments = shares.into_iter().map(|(id, share)| (id, share.into())).collect();
        let generation = Generation(self.clients[who].generation);
        let (instance, protocol) = ((who < 3).then(|| format!("i{who}").into()), None);
        let sync = Sync {
            ticket,
            member,
            instance,
            generation,
            protocol_type: None,
            protocol,
            assignments,
        };
        self.group.apply(Command::Sync(sync), self.now)
    }

    fn beat(&mut self, who: usize) -> Vec<ClassicEffect> {
        let ticket = self.ticket();
        let member = self.clients[who].member.clone().unwrap_or_else(|| "stranger".into());
        let generation = Generation(self.clients[who].generation);
        let beat = Heartbeat { ticket, member, instance: None, generation };
        self.group.apply(Command::Heartbeat(beat), self.now)
    }

    fn leave(&mut self, who: usize) -> Vec<ClassicEffect> {
        let ticket = self.ticket();
        let leaver = Leaver { member: self.clients[who].member.take(), instance: None };
        self.group.apply(Command::Leave(Leave { ticket, members: vec![leaver] }), self.now)
    }

    fn restart(&mut self) {
        self.open.clear(); // the connections are gone
        let snapshot = postcard::to_stdvec(self.group.remembered()).unwrap();
        let remembered = postcard::from_bytes(&snapshot).unwrap();
        self.now.monotonic = Monotonic(self.now.monotonic.0 % 7);
        self.group = ClassicGroup::restore(self.group.settings, remembered, self.now);
        self.check();
    }

    fn take(&mut self, effects: Vec<ClassicEffect>) {
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    let bytes = postcard::to_stdvec(&record).unwrap();
                    self.folded.replay(postcard::from_bytes(&bytes).unwrap());
                }
                Effect::Reply { ticket, answer } => {
                    assert!(self.open.remove(&ticket), "{ticket:?} answered twice: {answer:?}");
                    self.learn(ticket, answer);
                }
            }
        }
    }

    fn learn(&mut self, ticket: Ticket, answer: Answer) {
        let client = self.clients.iter_mut().find(|client| client.waits == Some(ticket));
        match answer {
            Answer::Join(Ok(joined)) => {
                assert!(joined.generation >= self.highest, "a generation came twice");
                self.highest = joined.generation;
                assert_eq!(self.folded.generation, joined.generation, "told before remembered");
                if !joined.members.is_empty() && !joined.skip_assignment {
                    let leader =
                        self.leaders.entry(joined.generation).or_insert(joined.member.clone());
                    assert_eq!(*leader, joined.member, "two leaders in a generation");
                }
                if let Some(client) = client {
                    client.member = Some(joined.member.clone());
                    client.generation = joined.generation.0;
                    client.joined = Some(joined);
                }
            }
            Answer::Join(Err(JoinError::MemberIdRequired(id))) => {
                if let Some(client) = client {
                    client.member = Some(id);
                }
            }
            Answer::Join(Err(JoinError::UnknownMember | JoinError::FencedInstance)) => {
                if let Some(client) = client {
                    client.member = None;
                }
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let group = &self.group;
        assert_eq!(&self.folded, group.remembered());
        assert!(group.generation >= self.highest);
        let joins = group.members.values().filter_map(|m| m.joining);
        let syncs = group.members.values().filter_map(|m| m.syncing);
        let held: BTreeSet<Ticket> = joins.chain(syncs).collect();
        assert_eq!(held, self.open, "a ticket was lost");
        assert_eq!(group.joining, group.members.values().filter(|m| m.joining.is_some()).count());
        assert!(held.is_empty() || group.deadline().is_some(), "someone waits for ever");
        let phase_ends = group.join_deadline.is_some() || group.sync_deadline.is_some();
        assert!(held.is_empty() || phase_ends, "a phase with no end");
        for member in group.members.values() {
            let waits = member.joining.is_some() || member.syncing.is_some();
            assert!(waits || member.session.is_some(), "a member that never expires");
        }
        let listed: BTreeSet<_> =
            group.members.values().filter_map(|m| m.about.instance.clone()).collect();
        assert_eq!(listed, group.statics.keys().cloned().collect());
        if group.phase == Phase::Stable {
            let live = group.members.values().map(|m| (m.about.member.clone(), m.about.clone()));
            assert_eq!(live.collect::<BTreeMap<_, _>>(), self.folded.members);
            assert_eq!(
                (&group.protocol, &group.leader),
                (&self.folded.protocol, &self.folded.leader)
            );
            self.check_owners();
        }
    }

    fn check_owners(&mut self) {
        let mut owned = BTreeSet::new();
        for member in self.group.members.values() {
            for partition in &member.about.assignment {
                assert!(owned.insert(*partition), "two owners of {partition}");
                let key = (self.group.generation, *partition);
                self.owners.insert(key, member.about.member.clone());
            }
        }
    }
}

#[test]
fn whatever_clients_do_a_group_keeps_its_promises() {
    let mut stable = 0;
    for seed in 0..150 {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            for _ in 0..600 {
                world.step();
                stable += usize::from(world.group.phase == Phase::Stable);
            }
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    assert!(stable > 1_000, "the model reached a stable group only {stable} times");
}
