//! Queues of the engine: publish, hold back, consume, settle in bunches.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use ottla_engine::Lsn;
use ottla_engine::broker::{
    self, Channel, ConsumeRequest, ErrorKind, Held, PrefetchScope, Publish, QueueId, Seq,
};
use ottla_engine::queue::Outcome;
use ottla_engine::value::Arguments;
use tokio::sync::{Notify, mpsc};

use super::host::{DELAY, Host, lock};
use super::properties;
use crate::error::{Error, Result};
use crate::transport::feed::{Credit, Event, Handed, Lane, RawFeed, feed};
use crate::transport::orders::{Order, orders};
use crate::transport::{Parcel, Settlement, Settler, Token};

/// Publishes in order; `Ok` once all is durable.
pub(super) async fn publish(host: &Host, queue: &str, batch: &[Parcel]) -> Result<()> {
    host.declare(queue).await?;
    let mut newest = Lsn::ZERO;
    for parcel in batch {
        let properties = properties::encode(&parcel.envelope, parcel.delay);
        let published = loop {
            let publish = Publish {
                exchange: if parcel.delay.is_some() { DELAY } else { "" },
                routing_key: queue,
                properties: properties.clone(),
                body: parcel.envelope.body.clone(),
            };
            let published = host.engine.broker().publish(&mut host.publishing(), publish);
            match published {
                Err(error) if error.kind() == ErrorKind::Busy => host.room().await?,
                Err(error) => {
                    return Err(Error::refused(format!("publishing to queue {queue}"), error));
                }
                Ok(published) => break published,
            }
        };
        if !published.routed || published.rejected {
            let doing = format!("publishing to queue {queue}");
            return Err(Error::refused(doing, "it was deleted, or is full"));
        }
        newest = newest.max(published.lsn.unwrap_or(Lsn::ZERO));
    }
    host.reached(newest).await
}

/// Messages that are ready or held.
pub(super) fn depth(host: &Host, name: &str) -> u64 {
    let queues = host.engine.broker().queues("/");
    queues.iter().find(|queue| *queue.name == *name).map_or(0, |queue| queue.ready + queue.unacked)
}

/// Begins to consume, in a task of its own.
pub(super) async fn subscribe(host: &Arc<Host>, queue: &str, max: u32) -> Result<RawFeed> {
    host.declare(queue).await?;
    let broker = host.engine.broker();
    let mut channel = host.channel()?;
    let prefetch = u16::try_from(max).unwrap_or(u16::MAX);
    broker.qos(&mut channel, prefetch, PrefetchScope::Consumer);
    let request = ConsumeRequest {
        queue,
        tag: TAG,
        no_ack: false,
        exclusive: false,
        arguments: &Arguments::new(),
    };
    let consumed = broker.consume(&mut channel, request);
    consumed.map_err(|error| Error::refused(format!("consuming queue {queue}"), error))?;
    let (out, events) = feed(prefetch.into());
    let (control, orders) = orders();
    let settling = Arc::new(Settling::default());
    let consumer =
        Consumer { host: Arc::clone(host), channel, out, orders, settling, stopped: false };
    tokio::spawn(consumer.run());
    Ok(RawFeed::new(events, control))
}

/// What was settled and not yet told to the broker. At most as much as was handed out.
#[derive(Debug, Default)]
struct Settling {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: Option<QueueId>,
    /// What was delivered, and what became of it, in the order of its numbers.
    outcomes: BTreeMap<u64, Outcome>,
}

impl Settling {
    fn put(&self, token: Token, outcome: Outcome) {
        lock(&self.waiting).outcomes.insert(token.number, outcome);
        self.wake.notify_one();
    }
}

impl Settler for Settling {
    fn ack(&self, token: Token) {
        self.put(token, Outcome::Ack);
    }

    fn release(&self, token: Token) {
        self.put(token, Outcome::Nack);
    }
}

/// One consumer: a channel, and what goes in and out of it.
#[derive(Debug)]
struct Consumer {
    host: Arc<Host>,
    channel: Channel,
    out: Credit,
    orders: mpsc::Receiver<Order>,
    settling: Arc<Settling>,
    stopped: bool,
}

impl Consumer {
    async fn run(mut self) {
        loop {
            self.settle();
            if !self.stopped && !self.out.is_closed() {
                self.hand_out();
            }
            let mailbox = Arc::clone(self.channel.connection().mailbox());
            let arrived = poll_fn(|context| {
                if mailbox.is_empty() {
                    mailbox.register(context.waker());
                }
                if mailbox.is_empty() { Poll::Pending } else { Poll::Ready(()) }
            });
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Stop(done)) => {
                        self.stop();
                        done.send(()).ok();
                    }
                    Some(Order::Close(done)) => {
                        self.leave();
                        drop(done.send(Ok(())));
                        return;
                    }
                    None => return self.leave(), // the feed was dropped
                },
                () = self.settling.wake.notified() => {}
                () = arrived, if !self.stopped => {}
            }
        }
    }

    /// Hands out what the mailbox holds: never more than the prefetch limit allows.
    fn hand_out(&self) {
        let broker = self.host.engine.broker();
        for parcel in broker.take(self.channel.connection(), TAKE_MAX) {
            let broker::Parcel::Delivery(delivery) = parcel else { continue };
            let Some(held) = delivery.held else { continue };
            lock(&self.settling.waiting).queue = Some(held.queue);
            let settler: Arc<dyn Settler> = Arc::clone(&self.settling) as Arc<dyn Settler>;
            let token = Token { lane: Lane(0), number: held.seq.0 };
            let settlement = Settlement::new(settler, token);
            let (envelope, redelivered) = properties::read(&delivery);
            let handed = Handed { envelope, redelivered, settlement };
            drop(self.out.try_send(Ok(Event::Delivery(handed)))); // refused: dropped, given back
        }
    }

    /// Tells the broker what was settled.
    fn settle(&self) {
        let (queue, outcomes) = {
            let mut waiting = lock(&self.settling.waiting);
            (waiting.queue, std::mem::take(&mut waiting.outcomes))
        };
        let Some(queue) = queue else { return };
        for outcome in [Outcome::Ack, Outcome::Nack] {
            let of = outcomes.iter().filter(|(_, settled)| **settled == outcome);
            let held: Vec<Held> = of.map(|(number, _)| Held { queue, seq: Seq(*number) }).collect();
            if !held.is_empty() {
                self.host.engine.broker().settle(&self.channel, &held, outcome);
            }
        }
    }

    /// Takes nothing more; what is in the mailbox goes back.
    fn stop(&mut self) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        let broker = self.host.engine.broker();
        broker.cancel(&mut self.channel, TAG);
        for parcel in broker.take(self.channel.connection(), usize::MAX) {
            if let broker::Parcel::Delivery(delivery) = parcel
                && let Some(held) = delivery.held
            {
                broker.settle(&self.channel, &[held], Outcome::Nack);
            }
        }
    }

    fn leave(mut self) {
        self.stop();
        self.settle();
        let connection = Arc::clone(self.channel.connection());
        let broker = self.host.engine.broker();
        broker.recover(&self.channel); // what nobody settled is given back without counting
        broker.close_channel(self.channel);
        broker.disconnect(&connection);
    }
}

/// The consumer's name on its channel.
const TAG: &str = "ottla";
/// Messages taken at a time.
const TAKE_MAX: usize = 256;
