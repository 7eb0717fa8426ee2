//! One consumer: a channel with a prefetch limit, settled in the order in which it is told.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, mpsc};

use super::wire;
use crate::error::Error;
use crate::transport::feed::{Credit, Event, Handed, Lane, RawFeed, feed};
use crate::transport::orders::{Order, orders};
use crate::transport::{Settlement, Settler, Token};

/// Begins to consume, in a task of its own.
pub(super) async fn begin(
    channel: Channel,
    queue: &str,
    max: u32,
    live: bool,
) -> lapin::Result<RawFeed> {
    let prefetch = u16::try_from(max).unwrap_or(u16::MAX);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel
        .basic_consume(
            ShortString::from(queue),
            ShortString::from(TAG),
            options,
            FieldTable::default(),
        )
        .await?;
    let (out, events) = feed(prefetch.into());
    if live {
        drop(out.try_send(Ok(Event::Live))); // there is no past
    }
    let (control, orders) = orders();
    let settling = Arc::new(Settling::default());
    let reader = Reader { channel, consumer, out, orders, settling, stopped: false };
    tokio::spawn(reader.run());
    Ok(RawFeed::new(events, control))
}

/// What was settled and not yet told to the broker. At most as much as was handed out.
#[derive(Debug, Default)]
struct Settling {
    waiting: Mutex<Vec<(u64, bool)>>,
    wake: Notify,
}

impl Settling {
    fn put(&self, tag: u64, done: bool) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((tag, done));
        self.wake.notify_one();
    }
}

impl Settler for Settling {
    fn ack(&self, token: Token) {
        self.put(token.number, true);
    }

    fn release(&self, token: Token) {
        self.put(token.number, false);
    }
}

struct Reader {
    channel: Channel,
    consumer: Consumer,
    out: Credit,
    orders: mpsc::Receiver<Order>,
    settling: Arc<Settling>,
    stopped: bool,
}

impl Reader {
    async fn run(mut self) {
        loop {
            if self.settle().await.is_err() {
                return self.lost("the channel was closed".into()).await;
            }
            let consumer = &mut self.consumer;
            let next = poll_fn(|context| Pin::new(&mut *consumer).poll_next(context));
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Stop(done)) => {
                        self.stop().await;
                        done.send(()).ok();
                    }
                    Some(Order::Close(done)) => {
                        self.leave().await;
                        drop(done.send(Ok(())));
                        return;
                    }
                    None => return self.leave().await, // the feed was dropped
                },
                () = self.settling.wake.notified() => {}
                delivery = next, if !self.stopped => match delivery {
                    Some(Ok(delivery)) => self.hand_out(&delivery),
                    Some(Err(error)) => return self.lost(error.into()).await,
                    None => return self.lost("the consumer was cancelled: its queue is gone".into()).await,
                },
            }
        }
    }

    fn hand_out(&self, delivery: &lapin::message::Delivery) {
        let settler: Arc<dyn Settler> = Arc::clone(&self.settling) as Arc<dyn Settler>;
        let token = Token { lane: Lane(0), number: delivery.delivery_tag };
        let settlement = Settlement::new(settler, token);
        let handed = Handed { envelope: wire::envelope(delivery), redelivered: 0, settlement };
        drop(self.out.try_send(Ok(Event::Delivery(handed)))); // refused: dropped, given back
    }

    async fn settle(&self) -> lapin::Result<()> {
        let waiting = {
            let mut waiting = self.settling.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        for (tag, done) in waiting {
            if done {
                self.channel.basic_ack(tag, BasicAckOptions::default()).await?;
            } else {
                let again = BasicNackOptions { requeue: true, ..Default::default() };
                self.channel.basic_nack(tag, again).await?;
            }
        }
        Ok(())
    }

    /// Takes nothing more; what was sent already goes back.
    async fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let cancelled =
            self.channel.basic_cancel(ShortString::from(TAG), BasicCancelOptions::default()).await;
        if let Err(error) = cancelled {
            tracing::debug!(%error, "the consumer was gone");
        }
        loop {
            let consumer = &mut self.consumer;
            let next = poll_fn(|context| Pin::new(&mut *consumer).poll_next(context));
            match tokio::time::timeout(std::time::Duration::from_millis(50), next).await {
                Ok(Some(Ok(delivery))) => self.settling.put(delivery.delivery_tag, false),
                _ => break, // cancel-ok came behind the last delivery
            }
        }
    }

    async fn leave(mut self) {
        self.stop().await;
        if let Err(error) = self.settle().await {
            tracing::warn!(%error, "what was settled last will come again");
        }
        if let Err(error) = self.channel.close(200, ShortString::from("done")).await {
            tracing::debug!(%error, "the channel was gone");
        }
    }

    async fn lost(self, source: crate::error::Cause) {
        let hint = "Connect again; what was not settled will be delivered again".to_owned();
        let error = Error::Unreachable { address: "the AMQP broker".to_owned(), source, hint };
        drop(self.out.send(Err(error)).await);
    }
}

/// The consumer's name on its channel.
const TAG: &str = "ottla";
