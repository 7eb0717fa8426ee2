//! Consumers of streams: each reads the log at its own place, as far as its prefetch lets it.
//!
//! Nothing is pushed: the connection's driver pulls, and sleeps on the partition's waiters.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use ottla_store::batch::{BatchError, BatchHeader};
use ottla_store::records::Records;
use ottla_store::{Lsn, Offset, ReadError, Store, StreamId};

use super::View;
use super::mapping::Letter;
use super::offset::Begin;
use crate::broker::connection::{Channel, Connection};
use crate::broker::error::{BrokerError, ErrorKind};
use crate::broker::mailbox::{Delivery, Parcel};
use crate::broker::queue::{Consumer, Queue};
use crate::broker::request::{ConsumeRequest, Held, Seq};
use crate::broker::{Broker, Mailbox};
use crate::queue::{ArgumentError, ArgumentFault, ChannelKey, ConsumerId, QueueType};
use crate::topic::{Fetched, Isolation};
use crate::value::{Arguments, Value};

/// The consumers of streams of one connection. Only its driver uses them.
#[derive(Debug, Default)]
pub(in crate::broker) struct Readers {
    all: Vec<Reader>,
    /// Deliveries so far: what a delivery tag stands for.
    delivered: u64,
    waker: Option<Waker>,
}

/// One consumer.
#[derive(Debug)]
struct Reader {
    id: ConsumerId,
    channel: ChannelKey,
    tag: Arc<str>,
    queue: Arc<Queue>,
    view: View,
    /// The first record that was not looked at.
    next: Offset,
    prefetch: usize,
    /// Delivered and not settled.
    held: BTreeSet<u64>,
    filter: Option<Filter>,
    /// Read and not delivered: the rest of what one read of the log brought.
    ready: VecDeque<Letter>,
}

/// `x-stream-filter`
#[derive(Debug)]
struct Filter {
    values: Vec<Vec<u8>>,
    /// `x-stream-match-unfiltered`
    unfiltered: bool,
}

/// How far a read came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// Something is ready, or may be after another read.
    More,
    /// There is nothing behind `next` yet.
    Nothing,
    /// The topic was deleted, or its records cannot be read.
    Gone,
}

impl Broker {
    /// `basic.consume` on a stream.
    pub(in crate::broker) fn consume_stream(
        &self,
        channel: &mut Channel,
        request: &ConsumeRequest<'_>,
        tag: Arc<str>,
        queue: Arc<Queue>,
    ) -> Result<(Arc<str>, Lsn), BrokerError> {
        let object = format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
        if request.arguments.get("x-priority").is_some() {
            let fault = ArgumentFault::Unsupported(QueueType::Stream);
            let error = ArgumentError { argument: "x-priority".into(), fault };
            return Err(BrokerError::precondition(error.explain(&object)));
        }
        if channel.prefetch == 0 {
            return Err(BrokerError::precondition(format!(
                "consumer prefetch count is not set for stream {object}"
            )));
        }
        if request.no_ack {
            return Err(not_implemented(format!(
                "automatic acknowledgement not supported by stream {object}"
            )));
        }
        if channel.shared_prefetch > 0 {
            return Err(not_implemented(format!("{object} does not support global qos")));
        }
        let Some(view) = queue.view().cloned() else {
            return Err(BrokerError::no_queue(&queue.name, &queue.vhost));
        };
        let now = self.clock.now().wall;
        let begin = Begin::parse(request.arguments, now, &queue.name, &queue.vhost)?;
        let next = begin.offset(&self.store, &view.partition).map_err(|error| {
            BrokerError::new(ErrorKind::Internal, format!("{object} cannot be read: {error}"))
        })?;
        let id = ConsumerId(self.next_id());
        let consumer = Consumer {
            tag: Arc::clone(&tag),
            channel: channel.key,
            mailbox: Arc::clone(&channel.connection.mailbox),
            no_ack: false,
            exclusive: request.exclusive,
            prefetch: channel.prefetch,
            arguments: request.arguments.clone(),
        };
        queue.lock().consumers.insert(id, consumer);
        channel.connection.readers().all.push(Reader {
            id,
            channel: channel.key,
            tag: Arc::clone(&tag),
            queue: Arc::clone(&queue),
            view,
            next,
            prefetch: usize::try_from(channel.prefetch).unwrap_or(usize::MAX),
            held: BTreeSet::new(),
            filter: Filter::of(request.arguments),
            ready: VecDeque::new(),
        });
        let declared = queue.declared;
        channel.consumers.insert(Arc::clone(&tag), (queue, id));
        Ok((tag, declared))
    }

    /// Wakes `waker` once there is something for [`take`](Self::take); at once if there is.
    pub fn register(&self, connection: &Connection, waker: &Waker) {
        connection.mailbox.register(waker);
        connection.readers().wait(&self.store, waker);
    }

    /// Takes at most `max` records for the consumers of streams.
    pub(in crate::broker) fn take_records(
        &self,
        connection: &Connection,
        max: usize,
        parcels: &mut Vec<Parcel>,
    ) {
        connection.readers().pull(&self.store, max, parcels);
    }
}

impl Readers {
    /// Takes records, each consumer in turn.
    fn pull(&mut self, store: &Store, max: usize, parcels: &mut Vec<Parcel>) {
        let count = self.all.len();
        if count == 0 || max == 0 {
            return;
        }
        self.all.rotate_left(1); // nobody is always first
        let share = (max / count).max(1);
        let mut gone = Vec::new();
        let mut left = max;
        for reader in &mut self.all {
            for _ in 0..share.min(left) {
                if !reader.has_room() {
                    break;
                }
                if reader.ready.is_empty() && reader.fill(store) == Read::Gone {
                    gone.push(reader.id);
                    break;
                }
                let Some(letter) = reader.ready.pop_front() else { break };
                self.delivered += 1;
                left -= 1;
                parcels.push(Parcel::Delivery(reader.deliver(letter, self.delivered)));
            }
        }
        for id in gone {
            self.remove(|reader| reader.id == id);
        }
    }

    /// Sees that `waker` is woken when there is something to pull.
    fn wait(&mut self, store: &Store, waker: &Waker) {
        if self.all.is_empty() {
            return;
        }
        let mut due = false;
        for reader in self.all.iter().filter(|reader| reader.has_room()) {
            reader.view.partition.wait(waker);
            due |= reader.is_due(store);
        }
        self.waker = Some(waker.clone());
        if due {
            waker.wake_by_ref();
        }
    }

    /// Settled, with whatever outcome: there is room for as many more, and nothing comes again.
    pub(in crate::broker) fn settle(
        &mut self,
        channel: ChannelKey,
        queue: StreamId,
        messages: &[Lsn],
    ) {
        let own = |reader: &&mut Reader| reader.channel == channel && reader.queue.id == queue;
        for reader in self.all.iter_mut().filter(own) {
            for message in messages {
                reader.held.remove(&message.0);
            }
        }
    }

    /// `basic.recover`: settled, as by RabbitMQ.
    pub(in crate::broker) fn recover(&mut self, channel: ChannelKey) {
        let own = self.all.iter_mut().filter(|reader| reader.channel == channel);
        own.for_each(|reader| reader.held.clear());
    }

    /// A consumer ends.
    pub(in crate::broker) fn cancel(&mut self, id: ConsumerId) {
        self.remove(|reader| reader.id == id);
    }

    /// All consumers of a channel end.
    pub(in crate::broker) fn close_channel(&mut self, channel: ChannelKey) {
        self.remove(|reader| reader.channel == channel);
    }

    fn remove(&mut self, ends: impl Fn(&Reader) -> bool) {
        let (gone, left) = std::mem::take(&mut self.all).into_iter().partition::<Vec<_>, _>(ends);
        self.all = left;
        for reader in gone {
            reader.queue.lock().consumers.remove(&reader.id);
            if let Some(waker) = &self.waker {
                reader.view.partition.forget(waker);
            }
        }
    }
}

impl Reader {
    fn has_room(&self) -> bool {
        self.held.len() < self.prefetch
    }

    fn is_due(&self, store: &Store) -> bool {
        let partition = &self.view.partition;
        let end = partition.visible_end(store, Isolation::ReadCommitted);
        !self.ready.is_empty() || partition.is_closed() || end.is_none_or(|end| self.next < end)
    }

    fn deliver(&mut self, letter: Letter, number: u64) -> Delivery {
        self.held.insert(number);
        Delivery {
            channel: self.channel,
            tag: Arc::clone(&self.tag),
            held: Some(Held { queue: self.queue.id, seq: Seq(number) }),
            redelivered: false,
            exchange: letter.exchange.into(),
            routing_key: letter.routing_key.into(),
            properties: letter.properties,
            body: letter.body,
        }
    }

    /// Reads on until something is ready, within bounds.
    fn fill(&mut self, store: &Store) -> Read {
        for _ in 0..READS_MAX {
            let read = self.read(store).unwrap_or_else(|error| {
                let (topic, offset) = (self.view.partition.topic_name(), self.next.0);
                tracing::error!(%topic, offset, %error, "a stream cannot be read");
                Read::Gone
            });
            if read != Read::More || !self.ready.is_empty() {
                return read;
            }
        }
        Read::More
    }

    fn read(&mut self, store: &Store) -> Result<Read, ReadError> {
        let partition = &self.view.partition;
        if partition.is_closed() {
            return Ok(Read::Gone);
        }
        let isolation = Isolation::ReadCommitted;
        match partition.visible_end(store, isolation) {
            None => return Ok(Read::Gone),
            Some(end) if self.next >= end => return Ok(Read::Nothing),
            Some(_) => {}
        }
        let fetched = match partition.fetch(store, self.next, READ_BYTES, isolation, false) {
            Err(ReadError::OutOfRange { start, .. }) if self.next < start => {
                self.next = start; // retention was faster than this consumer
                return Ok(Read::More);
            }
            fetched => fetched?,
        };
        let Some(fetched) = fetched else { return Ok(Read::Nothing) };
        if fetched.batches.pieces.is_empty() {
            return Ok(Read::Nothing);
        }
        self.take(&fetched).map_err(|error| ReadError::Corrupt { what: error.to_string() })?;
        Ok(Read::More)
    }

    /// Takes what counts out of the batches: no markers, nothing that was aborted.
    fn take(&mut self, fetched: &Fetched) -> Result<(), BatchError> {
        let aborted = fetched.aborted.as_deref().unwrap_or_default();
        for piece in &fetched.batches.pieces {
            let mut rest: &[u8] = piece;
            while !rest.is_empty() {
                let header = BatchHeader::parse(rest)?;
                let short = BatchError::TooShort { bytes: rest.len(), needed: header.bytes };
                let (batch, tail) = rest.split_at_checked(header.bytes).ok_or(short)?;
                rest = tail;
                let base = header.base_offset.0;
                let is_aborted = header.is_transactional()
                    && aborted.iter().any(|one| {
                        one.producer.0 == header.producer_id
                            && (one.first..=one.last).contains(&base)
                    });
                if !header.is_control() && !is_aborted {
                    self.take_batch(batch)?;
                }
                self.next = self.next.max(header.next_offset());
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &[u8]) -> Result<(), BatchError> {
        for record in &Records::open(batch)? {
            let record = record?;
            if record.offset < self.next {
                continue;
            }
            let letter = Letter::of(&record);
            if self.filter.as_ref().is_none_or(|filter| filter.lets_pass(&letter)) {
                self.ready.push_back(letter);
            }
        }
        Ok(())
    }
}

impl Filter {
    fn of(arguments: &Arguments) -> Option<Self> {
        let text = |value: &Value| match value {
            Value::LongString(octets) => Some(octets.clone()),
            _ => None,
        };
        let values = match arguments.get("x-stream-filter")? {
            Value::Array(values) => values.iter().filter_map(text).collect(),
            value => vec![text(value)?],
        };
        let unfiltered = arguments.get("x-stream-match-unfiltered") == Some(&Value::Bool(true));
        Some(Self { values, unfiltered })
    }

    fn lets_pass(&self, letter: &Letter) -> bool {
        match &letter.filter_value {
            Some(value) => self.values.contains(value),
            None => self.unfiltered,
        }
    }
}

/// Tells the consumers of a stream that it is gone.
pub(in crate::broker) fn cancel_all(queue: &Queue) -> Vec<Arc<Mailbox>> {
    use crate::broker::mailbox::Waiting;
    let gone: Vec<Consumer> =
        queue.lock().consumers.drain().map(|(_, consumer)| consumer).collect();
    gone.into_iter()
        .map(|consumer| {
            let parcel = Parcel::Cancelled { channel: consumer.channel, tag: consumer.tag };
            consumer.mailbox.put(Waiting::Ready(parcel));
            consumer.mailbox
        })
        .collect()
}

fn not_implemented(text: String) -> BrokerError {
    BrokerError::new(ErrorKind::NotImplemented, text)
}

/// Bytes of the log that one read brings, but for a batch that is larger.
const READ_BYTES: usize = 64 << 10;
/// Reads of the log for one delivery: behind them others have a turn.
const READS_MAX: usize = 32;
