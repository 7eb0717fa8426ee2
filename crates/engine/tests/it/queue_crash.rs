//! Power cuts under AMQP's queues, through the broker: what was confirmed is there, what was durably
//! acknowledged does not return, a transaction is there whole or not at all, and every message ends in
//! exactly one place: waiting, consumed, dead-lettered or dropped (store.md section 4).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_engine::broker::{
    Bind, Broker, BrokerError, Channel, ExchangeDeclare, Got, Peer, Publish, QueueDeclare,
    Transaction,
};
use ottla_engine::clock::{Clock, Monotonic, Now, Wall};
use ottla_engine::queue::Outcome;
use ottla_engine::value::Value;
use ottla_engine::{Durability, DurableObserver, Engine, Lsn, Options, StreamId};
use ottla_sim::disk::Moment;
use ottla_sim::{Chance, SimDisk};

/// What each queue holds, whether or not a consumer has it: bodies in no order.
type State = BTreeMap<&'static str, Vec<String>>;

const QUEUES: [&str; 4] = ["orders", "audit", "short", "dead"];
/// Messages that `short` keeps.
const SHORT_MAX: usize = 3;
const POINTS_MIN: u64 = 3_000;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { monotonic: Monotonic(0), wall: Wall(1_700_000_000_000) }
    }
}

struct Nobody;

impl DurableObserver for Nobody {
    fn durable(&self, _: Lsn, _: &[StreamId]) {}
}

/// What may be found after a disk call: states are named by their number.
struct Mark {
    calls: u64,
    least: usize,
    most: usize,
}

/// A broker under a seeded workload, and the ledger of what it promised.
struct Run {
    disk: SimDisk,
    engine: Engine,
    channel: Channel,
    chance: Chance,
    serial: u64,
    held: Vec<(&'static str, Got)>,
    /// Every state there was, and the end of the log when it came about.
    states: Vec<(State, Lsn)>,
    marks: Vec<Mark>,
}

fn open(disk: &SimDisk, seed: u64) -> Engine {
    let mut options = Options::new(Durability::Sync, seed);
    options.store.wal_segment_bytes = 16 << 10;
    options.store.wal_window_bytes = 48 << 10;
    options.store.wal_window_entries = 30;
    options.store.ballast_bytes = 0;
    options.store.disk_reserve_bytes = 0;
    Engine::open(disk.as_disk(), Arc::new(Still), options, Box::new(Nobody)).unwrap()
}

fn channel(broker: &Broker) -> Channel {
    let login = broker.authenticate("guest", b"guest", Peer::Loopback).unwrap();
    broker.open_channel(&broker.connect(login, "/").unwrap())
}

fn settled_down(engine: &Engine) {
    while engine.store().commit().unwrap().is_some() {}
    engine.broker().durable_moved(engine.durable());
}

fn declare(engine: &Engine, channel: &mut Channel) {
    let arguments: [(&str, Vec<(&str, Value)>); 4] = [
        (
            "orders",
            vec![
                ("x-dead-letter-exchange", Value::text("")),
                ("x-dead-letter-routing-key", Value::text("dead")),
            ],
        ),
        ("audit", vec![]),
        ("short", vec![("x-max-length", Value::I32(3))]),
        ("dead", vec![]),
    ];
    for (name, arguments) in arguments {
        let arguments = arguments.into_iter().collect();
        let queue =
            QueueDeclare { name, durable: true, exclusive: false, auto_delete: false, arguments };
        engine.broker().declare_queue(channel, queue).unwrap();
    }
    let exchange = ExchangeDeclare {
        name: "all",
        kind: "fanout",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Default::default(),
    };
    engine.broker().declare_exchange(channel, exchange).unwrap();
    for destination in ["orders", "audit"] {
        let bind = Bind { destination, source: "all", key: "", arguments: Default::default() };
        engine.broker().bind_queue(channel, bind).unwrap();
    }
}

fn message<'a>(exchange: &'a str, routing_key: &'a str, body: &str) -> Publish<'a> {
    let properties = Bytes::from_static(&[0x10, 0, 2]); // delivery-mode 2
    Publish { exchange, routing_key, properties, body: Bytes::copy_from_slice(body.as_bytes()) }
}

impl Run {
    fn begin(seed: u64) -> Self {
        let disk = SimDisk::new();
        let engine = open(&disk, seed);
        let mut channel = channel(engine.broker());
        declare(&engine, &mut channel);
        settled_down(&engine);
        disk.record();
        let empty: State = QUEUES.iter().map(|name| (*name, Vec::new())).collect();
        let mut run = Self {
            states: vec![(empty, engine.store().end())],
            disk,
            engine,
            channel,
            chance: Chance::new(seed),
            serial: 0,
            held: Vec::new(),
            marks: Vec::new(),
        };
        run.mark();
        run
    }

    fn state(&self) -> State {
        self.states.last().unwrap().0.clone()
    }

    fn became(&mut self, state: State) {
        self.states.push((state, self.engine.store().end()));
    }

    fn mark(&mut self) {
        let durable = self.engine.durable();
        let least = self.states.iter().rposition(|(_, end)| *end <= durable).unwrap_or(0);
        let most = self.states.len() - 1;
        self.marks.push(Mark { calls: self.disk.calls(), least, most });
    }

    fn body(&mut self) -> String {
        self.serial += 1;
        let filler = self.chance.between(0, 1_500);
        format!("{} {}", self.serial, "x".repeat(filler))
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..20 => self.publish("", "orders", &["orders"]),
            20..28 => self.publish("all", "", &["orders", "audit"]),
            28..36 => self.publish_to_short(),
            36..50 => self.get(),
            50..62 => self.settle(Outcome::Ack),
            62..68 => self.settle(Outcome::Dead),
            68..71 => self.settle(Outcome::Nack),
            71..77 => self.transact(),
            77..90 => drop(self.engine.store().commit().unwrap()),
            _ => drop(self.engine.store().keep(&self.engine).unwrap()),
        }
        self.mark();
        self.engine.broker().durable_moved(self.engine.durable());
    }

    fn publish(&mut self, exchange: &str, key: &str, to: &[&'static str]) {
        let body = self.body();
        let publish = message(exchange, key, &body);
        let published = self.engine.broker().publish(&mut self.channel, publish).unwrap();
        assert!(published.lsn.is_some());
        let mut state = self.state();
        for queue in to {
            state.entry(*queue).or_default().push(body.clone());
        }
        self.became(state);
    }

    /// The oldest one is dropped once there are too many: a second fact, right behind the first.
    fn publish_to_short(&mut self) {
        self.publish("", "short", &["short"]);
        let mut state = self.state();
        let bodies = state.entry("short").or_default();
        if bodies.len() > SHORT_MAX {
            bodies.remove(0);
            self.became(state);
        }
        self.mark();
        settled_down(&self.engine);
    }

    /// From any queue but `short`: what a consumer gives back to it pushes others out.
    fn get(&mut self) {
        let queue = *self.chance.pick(&["orders", "audit", "dead"]).unwrap();
        if let Some(got) = self.engine.broker().get(&mut self.channel, queue, false).unwrap() {
            self.held.push((queue, got));
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        if self.held.is_empty() {
            return;
        }
        let (queue, got) = self.held.remove(self.chance.index(self.held.len()));
        self.engine.broker().settle(&self.channel, &[got.held.unwrap()], outcome);
        if outcome == Outcome::Nack {
            return;
        }
        let mut state = self.state();
        let body = remove(&mut state, queue, &got);
        if outcome == Outcome::Dead && queue == "orders" {
            state.entry("dead").or_default().push(body);
        }
        self.became(state);
    }

    /// Two messages and an acknowledgement.
    fn transact(&mut self) {
        let mut state = self.state();
        let (first, second) = (self.body(), self.body());
        let mut settlements = Vec::new();
        if !self.held.is_empty() {
            let (queue, got) = self.held.remove(self.chance.index(self.held.len()));
            settlements.push((vec![got.held.unwrap()], Outcome::Ack));
            remove(&mut state, queue, &got);
        }
        let publishes = vec![message("", "orders", &first), message("", "audit", &second)];
        let transaction = Transaction { publishes, settlements };
        let done = self.engine.broker().commit(&mut self.channel, transaction);
        assert!(done.unwrap().lsn.is_some());
        for (queue, body) in [("orders", first), ("audit", second)] {
            state.entry(queue).or_default().push(body);
        }
        self.became(state);
    }

    /// States that may be found after disk call `call`.
    fn bounds(&self, call: u64) -> Option<(usize, usize)> {
        let promised = self.marks.iter().rev().find(|mark| mark.calls <= call)?.least;
        let written = self.marks.iter().rev().find(|mark| mark.calls < call);
        Some((promised, written.map_or(0, |mark| mark.most).max(promised)))
    }
}

fn remove(state: &mut State, queue: &'static str, got: &Got) -> String {
    let bodies = state.entry(queue).or_default();
    let at = bodies.iter().position(|body| got.body == body.as_bytes()).unwrap();
    bodies.remove(at)
}

/// Everything in every queue after a start.
fn found(engine: &Engine) -> Result<State, BrokerError> {
    settled_down(engine);
    let mut channel = channel(engine.broker());
    let mut state = State::new();
    for queue in QUEUES {
        let bodies = state.entry(queue).or_default();
        while let Some(got) = engine.broker().get(&mut channel, queue, true)? {
            bodies.push(String::from_utf8(got.body.to_vec()).unwrap());
        }
        bodies.sort_unstable();
    }
    Ok(state)
}

/// Cuts the power at `moment`, starts, and holds what is found against the ledger.
fn judge(run: &Run, moment: &Moment, chance: &mut Chance, what: &str) -> u64 {
    let Some((least, most)) = run.bounds(moment.call) else { return 0 };
    let cut = chance.next();
    let mut disk = moment.crash(cut);
    let mut points = 1;
    if chance.percent(25) {
        // The power fails again while it recovers.
        disk.record();
        drop(open(&disk, cut));
        let moments = disk.take_moments();
        if let Some(moment) = chance.pick(&moments) {
            disk = moment.crash(chance.next());
            points += 1;
        }
    }
    let state = found(&open(&disk, cut.rotate_left(7))).unwrap();
    let is_found = run.states.get(least..=most).unwrap().iter().any(|(expected, _)| {
        let mut expected = expected.clone();
        expected.values_mut().for_each(|bodies| bodies.sort_unstable());
        expected == state
    });
    let short = |state: &State| -> BTreeMap<&'static str, Vec<String>> {
        let number = |body: &String| body.split(' ').next().unwrap().to_owned();
        state.iter().map(|(queue, bodies)| (*queue, bodies.iter().map(number).collect())).collect()
    };
    assert!(
        is_found,
        "{what}, power cut {cut:#x} after call {} ({}): found {:?}, which is none of the states \
         {least}..={most}, from {:?} to {:?}",
        moment.call,
        moment.what,
        short(&state),
        short(&run.states.get(least).unwrap().0),
        short(&run.states.get(most).unwrap().0),
    );
    points
}

#[test]
fn every_message_is_in_exactly_one_place_after_every_power_cut() {
    let mut points = 0;
    let mut seeds = 0;
    while points < POINTS_MIN {
        seeds += 1;
        let mut run = Run::begin(seeds);
        for _ in 0..150 {
            run.step();
        }
        let mut chance = Chance::new(seeds).fork(1);
        for moment in &run.disk.take_moments() {
            if chance.percent(40) {
                points += judge(&run, moment, &mut chance, &format!("seed {seeds}"));
            }
        }
    }
    println!("{points} crash points of queues: {seeds} seeds, from 1");
}
