//! An engine on a simulated disk with a clock that moves when told, and a session's short words.

use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use ottla_sim::SimDisk;
use ottla_store::{Durability, DurableObserver, Lsn, StreamId};

use crate::broker::properties::Properties;
use crate::broker::*;
use crate::clock::{Clock, Monotonic, Now, Wall};
use crate::queue::Outcome;
use crate::value::{Arguments, Value};
use crate::{Engine, Options};

#[derive(Debug)]
struct HandClock(Mutex<Now>);

impl Clock for HandClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap()
    }
}

struct Nobody;

impl DurableObserver for Nobody {
    fn durable(&self, _: Lsn, _: &[StreamId]) {}
}

pub(super) struct Rig {
    disk: SimDisk,
    clock: Arc<HandClock>,
    options: Options,
    pub(super) engine: Engine,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Options::new(Durability::Sync, 7))
    }

    pub(super) fn with(options: Options) -> Self {
        let now = Now { monotonic: Monotonic(0), wall: Wall(1_700_000_000_000) };
        Self::open(SimDisk::new(), Arc::new(HandClock(Mutex::new(now))), options)
    }

    fn open(disk: SimDisk, clock: Arc<HandClock>, options: Options) -> Self {
        let engine = Engine::open(
            disk.as_disk(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            options.clone(),
            Box::new(Nobody),
        );
        let engine = engine.expect("the engine opens");
        Self { disk, clock, options, engine }
    }

    /// The process is killed and starts again.
    pub(super) fn restarted(self) -> Self {
        let disk = self.disk.restart();
        Self::open(disk, self.clock, self.options)
    }

    /// The power fails and comes back.
    pub(super) fn crashed(self, seed: u64) -> Self {
        let disk = self.disk.crash(seed);
        Self::open(disk, self.clock, self.options)
    }

    pub(super) fn broker(&self) -> &Broker {
        self.engine.broker()
    }

    /// The log and the releaser do their work.
    pub(super) fn sync(&self) {
        while self.engine.store().commit().unwrap().is_some() {}
        self.broker().durable_moved(self.engine.durable());
        while self.engine.store().commit().unwrap().is_some() {}
        self.broker().durable_moved(self.engine.durable());
    }

    /// Time goes by, and timers run.
    pub(super) fn pass(&self, ms: u64) {
        {
            let mut now = self.clock.0.lock().unwrap();
            now.monotonic = now.monotonic.after(ms);
            now.wall = now.wall.after(ms);
        }
        self.engine.tick();
        self.sync();
    }

    pub(super) fn connect(&self) -> Arc<Connection> {
        let login = self.broker().authenticate("guest", b"guest", Peer::Loopback).unwrap();
        self.broker().connect(login, "/").unwrap()
    }

    pub(super) fn channel(&self) -> Channel {
        self.broker().open_channel(&self.connect())
    }

    pub(super) fn queue(&self, channel: &mut Channel, name: &str, arguments: &[(&str, Value)]) {
        self.broker().declare_queue(channel, durable(name, arguments)).unwrap();
    }

    pub(super) fn bind(&self, channel: &mut Channel, queue: &str, exchange: &str, key: &str) {
        let bind = Bind { destination: queue, source: exchange, key, arguments: Arguments::new() };
        self.broker().bind_queue(channel, bind).unwrap();
    }

    pub(super) fn exchange(&self, channel: &mut Channel, name: &str, kind: &str) {
        let exchange = ExchangeDeclare {
            name,
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Arguments::new(),
        };
        self.broker().declare_exchange(channel, exchange).unwrap();
    }

    pub(super) fn publish(&self, channel: &mut Channel, queue: &str, body: &str) -> Published {
        self.publish_with(channel, "", queue, body, persistent())
    }

    pub(super) fn publish_with(
        &self,
        channel: &mut Channel,
        exchange: &str,
        routing_key: &str,
        body: &str,
        properties: Bytes,
    ) -> Published {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let publish = Publish { exchange, routing_key, properties, body };
        self.broker().publish(channel, publish).unwrap()
    }

    /// `basic.get` with acknowledgement.
    pub(super) fn get(&self, channel: &mut Channel, queue: &str) -> Option<Got> {
        self.broker().get(channel, queue, false).unwrap()
    }

    /// The body of what `basic.get` without acknowledgement brings; `-` for nothing.
    pub(super) fn body(&self, channel: &mut Channel, queue: &str) -> String {
        self.broker()
            .get(channel, queue, true)
            .unwrap()
            .map_or("-".to_owned(), |got| text(&got.body))
    }

    pub(super) fn settle(&self, channel: &Channel, got: &Got, outcome: Outcome) {
        self.broker().settle(channel, &[got.held.unwrap()], outcome);
    }

    pub(super) fn ready(&self, channel: &mut Channel, queue: &str) -> u64 {
        self.broker().check_queue(channel, queue).unwrap().messages
    }

    pub(super) fn consume(&self, channel: &mut Channel, queue: &str, no_ack: bool) -> Arc<str> {
        let arguments = Arguments::new();
        let request =
            ConsumeRequest { queue, tag: "", no_ack, exclusive: false, arguments: &arguments };
        self.broker().consume(channel, request).unwrap().0
    }

    /// What the mailbox has, at most a hundred parcels.
    pub(super) fn take(&self, channel: &Channel) -> Vec<Delivery> {
        let parcels = self.broker().take(channel.connection(), 100);
        let deliveries = parcels.into_iter().filter_map(|parcel| match parcel {
            Parcel::Delivery(delivery) => Some(delivery),
            _ => None,
        });
        deliveries.collect()
    }
}

pub(super) fn durable<'a>(name: &'a str, arguments: &[(&str, Value)]) -> QueueDeclare<'a> {
    QueueDeclare {
        name,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: arguments.iter().cloned().collect(),
    }
}

pub(super) fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(super) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.body)).collect()
}

/// delivery-mode 2
pub(super) fn persistent() -> Bytes {
    Bytes::from_static(&[0x10, 0, 2])
}

/// None at all.
pub(super) fn transient() -> Bytes {
    Bytes::from_static(&[0, 0])
}

/// delivery-mode 2 and these headers
pub(super) fn headers(values: &[(&str, Value)]) -> Bytes {
    let headers: Arguments = values.iter().cloned().collect();
    Properties::parse(&persistent()).unwrap().with_headers(&headers)
}

/// expiration
pub(super) fn expiring(ms: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u16(0x1100);
    out.put_u8(2);
    out.put_u8(u8::try_from(ms.len()).unwrap());
    out.put_slice(ms.as_bytes());
    out.freeze()
}

pub(super) fn headers_of(properties: &Bytes) -> Arguments {
    Properties::parse(properties).unwrap().headers()
}
