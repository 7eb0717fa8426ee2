//! Getting, consuming and giving back: `basic.get`, `basic.consume`, `basic.cancel`, `basic.qos`, `basic.recover`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_store::{Lsn, StreamId};

use super::Broker;
use super::connection::{Channel, Connection};
use super::effects::{Answer, Work};
use super::error::{BrokerError, ErrorKind};
use super::mailbox::{CREDIT, Delivery, Got, Parcel, Promise, Source, Waiting};
use super::message::Message;
use super::properties::with_counts;
use super::publish::REPLY_TO;
use super::queue::{Consumer, Queue};
use super::request::{ConsumeRequest, Held, PrefetchScope, Seq};
use crate::queue::{Command, Consume, ConsumerId, Entry, Refusal};
use crate::value::Arguments;
use crate::vhost::{Access, Resource};

impl Broker {
    /// `basic.get`; `None` is `get-empty`. May read the body from the disk.
    ///
    /// # Errors
    /// 404, 403, 405.
    pub fn get(
        &self,
        channel: &mut Channel,
        queue: &str,
        no_ack: bool,
    ) -> Result<Option<Got>, BrokerError> {
        let queue = self.readable(channel, queue)?;
        if queue.is_stream() {
            return Err(BrokerError::on_stream("basic.get", &queue.name, &queue.vhost));
        }
        let now = self.clock.now();
        let mut work = Work::default();
        let (answer, source, lsn) = {
            let mut state = queue.lock();
            let lsn = self.open_deliveries(&queue, &mut state);
            let command = Command::Get { channel: channel.key, no_ack };
            let answer = self.apply(&queue, &mut state, command, now, &mut work);
            let source = match answer {
                Some(Answer::Got { entry, .. }) => {
                    state.count_passage(now.monotonic, |traffic| {
                        traffic.redelivered += u64::from(entry.redelivered);
                        *(if no_ack { &mut traffic.got_no_ack } else { &mut traffic.got }) += 1;
                    });
                    state.slots.get(Seq(entry.seq.0)).map(|s| s.source())
                }
                _ => None,
            };
            (answer, source, lsn)
        };
        self.finish(work, now);
        channel.queues.insert(queue.id, Arc::clone(&queue));
        let (entry, remaining) = match answer {
            Some(Answer::Got { entry, ready }) => (entry, ready),
            Some(Answer::Refused(refusal)) => return Err(refused(refusal, &queue)),
            _ => return Ok(None),
        };
        let message = source.and_then(|source| self.load(&source));
        if no_ack {
            self.end_taken(&queue, &[Seq(entry.seq.0)]);
        }
        let Some(message) = message else { return Ok(None) };
        Ok(Some(Got {
            held: (!no_ack).then_some(Held { queue: queue.id, seq: Seq(entry.seq.0) }),
            redelivered: entry.redelivered,
            exchange: Arc::clone(&message.exchange),
            routing_key: message.routing_key(),
            properties: shown_properties(&queue, &entry, &message),
            body: message.body.clone(),
            remaining,
            lsn,
        }))
    }

    /// `basic.consume`; returns the tag for `consume-ok`, which waits for the place.
    ///
    /// # Errors
    /// 404, 403, 405, 406; 530 for a tag in use.
    pub fn consume(
        &self,
        channel: &mut Channel,
        request: ConsumeRequest<'_>,
    ) -> Result<(Arc<str>, Lsn), BrokerError> {
        let tag: Arc<str> = match request.tag {
            "" => self.made_up("amq.ctag-").into(),
            tag => tag.into(),
        };
        if channel.has_consumer(&tag) {
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(BrokerError::new(ErrorKind::NotAllowed, text));
        }
        if request.queue == REPLY_TO {
            return self.consume_replies(channel, &request, tag);
        }
        let queue = self.readable(channel, request.queue)?;
        if queue.is_stream() {
            return self.consume_stream(channel, &request, tag, queue);
        }
        let id = ConsumerId(self.next_id());
        let wish = Consume {
            consumer: id,
            channel: channel.key,
            prefetch: channel.prefetch,
            credit: CREDIT,
            priority: priority(request.arguments, &queue)?,
            exclusive: request.exclusive,
            no_ack: request.no_ack,
            timeout: timeout(request.arguments),
        };
        let consumer = Consumer {
            tag: Arc::clone(&tag),
            channel: channel.key,
            mailbox: Arc::clone(&channel.connection.mailbox),
            no_ack: request.no_ack,
            exclusive: request.exclusive,
            prefetch: channel.prefetch,
            arguments: request.arguments.clone(),
        };
        let now = self.clock.now();
        let mut work = Work::default();
        let (answer, open) = {
            let mut state = queue.lock();
            let open = self.open_deliveries(&queue, &mut state);
            if channel.shared_prefetch > 0 {
                let limit = shared_limit(channel);
                self.apply(&queue, &mut state, limit, now, &mut work);
            }
            state.consumers.insert(id, consumer);
            let answer = self.apply(&queue, &mut state, Command::Consume(wish), now, &mut work);
            if matches!(answer, Some(Answer::Refused(_))) {
                state.consumers.remove(&id);
            }
            (answer, open)
        };
        self.finish(work, now);
        if let Some(Answer::Refused(refusal)) = answer {
            return Err(refused(refusal, &queue));
        }
        channel.consumers.insert(Arc::clone(&tag), (Arc::clone(&queue), id));
        let place = queue.declared.max(open);
        channel.queues.insert(queue.id, queue);
        Ok((tag, place))
    }

    /// `basic.cancel`; an unknown tag is no error. What it holds stays with the channel. What is in the
    /// mailbox already is still delivered: [`take`](Self::take) and write it before `cancel-ok`.
    pub fn cancel(&self, channel: &mut Channel, tag: &str) {
        self.forget_replies(channel, tag);
        let Some((queue, id)) = channel.consumers.remove(tag) else { return };
        if queue.is_stream() {
            return channel.connection.readers().cancel(id);
        }
        let now = self.clock.now();
        let mut work = Work::default();
        {
            let mut state = queue.lock();
            state.consumers.remove(&id);
            if !state.machine.is_gone() {
                let command = Command::Cancel { consumer: id };
                self.apply(&queue, &mut state, command, now, &mut work);
            }
        }
        self.finish(work, now);
    }

    /// `basic.qos`; 0 for no limit.
    pub fn qos(&self, channel: &mut Channel, count: u16, scope: PrefetchScope) {
        match scope {
            PrefetchScope::Consumer => channel.prefetch = count.into(),
            PrefetchScope::Channel => {
                channel.shared_prefetch = count.into();
                channel.connection.mailbox.share(channel.key, count.into());
                self.on_queues(channel, &shared_limit(channel));
            }
        }
        channel.card.set_prefetch(channel.prefetch, channel.shared_prefetch);
    }

    /// `basic.recover` with requeue: everything the channel holds is returned. Forget its delivery tags.
    pub fn recover(&self, channel: &Channel) {
        let promises = channel.connection.mailbox.drop_channel(channel.key);
        self.on_queues(channel, &Command::Recover { channel: channel.key });
        channel.connection.readers().recover(channel.key);
        self.taken(&promises);
    }

    /// The channel is gone: its consumers end, what it held is returned.
    pub fn close_channel(&self, mut channel: Channel) {
        let promises = channel.connection.mailbox.drop_channel(channel.key);
        channel.connection.lock_cards().remove(&channel.key);
        if let Some((tag, _)) = channel.reply.clone() {
            self.forget_replies(&mut channel, &tag);
        }
        for queue in channel.queues.values() {
            queue.lock().consumers.retain(|_, consumer| consumer.channel != channel.key);
        }
        channel.connection.readers().close_channel(channel.key);
        channel.connection.mailbox.forget(channel.key);
        self.taken(&promises); // what needs no acknowledgement was as good as delivered
        self.on_queues(&channel, &Command::Release { channel: channel.key });
        for queue in channel.queues.values() {
            self.close_deliveries(queue, &mut queue.lock());
        }
    }

    /// Takes at most `max` parcels out of the connection's mailbox. May read bodies from the disk.
    pub fn take(&self, connection: &Connection, max: usize) -> Vec<Parcel> {
        let waiting = connection.mailbox.take_waiting(max);
        let mut parcels = Vec::with_capacity(waiting.len());
        let mut promises = Vec::new();
        for parcel in waiting {
            match parcel {
                Waiting::Ready(parcel) => parcels.push(parcel),
                Waiting::Delivery(promise) => {
                    parcels.extend(self.keep(&promise).map(Parcel::Delivery));
                    promises.push(promise);
                }
            }
        }
        self.taken(&promises);
        let left = max.saturating_sub(parcels.len());
        self.take_records(connection, left, &mut parcels);
        parcels
    }

    /// Turns a promise into a delivery. A body that cannot be read stays with the channel.
    fn keep(&self, promise: &Promise) -> Option<Delivery> {
        let message = self.load(&promise.source)?;
        let seq = Seq(promise.entry.seq.0);
        Some(Delivery {
            channel: promise.channel,
            tag: Arc::clone(&promise.tag),
            held: (!promise.no_ack).then_some(Held { queue: promise.queue.id, seq }),
            redelivered: promise.entry.redelivered,
            exchange: Arc::clone(&message.exchange),
            routing_key: message.routing_key(),
            properties: shown_properties(&promise.queue, &promise.entry, &message),
            body: message.body.clone(),
        })
    }

    /// Deliveries have left the mailbox: there is room for more, and those without acknowledgement end.
    fn taken(&self, promises: &[Promise]) {
        let mut queues: BTreeMap<StreamId, Taken> = BTreeMap::new();
        for promise in promises {
            let new = || Taken {
                queue: Arc::clone(&promise.queue),
                ended: Vec::new(),
                credits: HashMap::new(),
            };
            let taken = queues.entry(promise.queue.id).or_insert_with(new);
            if promise.no_ack {
                taken.ended.push(promise.entry.seq);
            }
            *taken.credits.entry(promise.consumer).or_default() += 1;
        }
        let now = self.clock.now();
        let mut work = Work::default();
        for Taken { queue, ended, credits } in queues.into_values() {
            let mut state = queue.lock();
            if state.machine.is_gone() {
                continue;
            }
            let ended: Vec<Lsn> =
                ended.iter().filter_map(|seq| state.slots.remove(Seq(seq.0))).collect();
            self.log_ended(&queue, &mut state, ended);
            for (consumer, credit) in credits {
                let command = Command::Credit { consumer, credit };
                self.apply(&queue, &mut state, command, now, &mut work);
            }
        }
        self.finish(work, now);
    }

    fn end_taken(&self, queue: &Arc<Queue>, seqs: &[Seq]) {
        let mut state = queue.lock();
        let ended: Vec<Lsn> = seqs.iter().filter_map(|seq| state.slots.remove(*seq)).collect();
        self.log_ended(queue, &mut state, ended);
        self.weigh(&mut state);
    }

    /// One command to every queue that the channel has touched.
    fn on_queues(&self, channel: &Channel, command: &Command<'_>) {
        let now = self.clock.now();
        let mut work = Work::default();
        for queue in channel.queues.values() {
            let mut state = queue.lock();
            if !state.machine.is_gone() {
                self.apply(queue, &mut state, command.clone(), now, &mut work);
            }
        }
        self.finish(work, now);
    }

    /// The body of a message. A damaged one is reported once and not delivered.
    pub(super) fn load(&self, source: &Source) -> Option<Arc<Message>> {
        let lsn = match source {
            Source::Memory(message) => return Some(Arc::clone(message)),
            Source::Log(lsn) => *lsn,
        };
        match self.store.message(lsn) {
            Ok(bytes) => Message::decode(&bytes).map(Arc::new),
            Err(error) => {
                tracing::error!(%lsn, %error, "a message cannot be read");
                None
            }
        }
    }

    /// A queue that this channel may read from.
    pub(super) fn readable(
        &self,
        channel: &Channel,
        name: &str,
    ) -> Result<Arc<Queue>, BrokerError> {
        let state = self.state();
        let queue = self.find_queue(&state, channel, name)?;
        self.permit(&state, channel, Access::Read, Resource::Queue(&queue.name))?;
        Ok(queue)
    }
}

/// What has left a mailbox, of one queue.
struct Taken {
    queue: Arc<Queue>,
    /// Settled by being delivered.
    ended: Vec<Lsn>,
    credits: HashMap<ConsumerId, u32>,
}

fn shown_properties(queue: &Queue, entry: &Entry, message: &Message) -> bytes::Bytes {
    if queue.is_quorum() && entry.acquired_count > 0 {
        return with_counts(&message.properties, entry.delivery_count, entry.acquired_count);
    }
    message.properties.clone()
}

fn shared_limit(channel: &Channel) -> Command<'static> {
    // what other queues have delivered, the mailbox counts
    Command::ChannelPrefetch { channel: channel.key, limit: channel.shared_prefetch, elsewhere: 0 }
}

fn priority(arguments: &Arguments, queue: &Queue) -> Result<i32, BrokerError> {
    let Some(value) = arguments.get("x-priority") else { return Ok(0) };
    let number = value.as_int().ok_or_else(|| {
        BrokerError::wrong_type("x-priority", &queue.name, &queue.vhost, "integer", value)
    })?;
    Ok(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }))
}

fn timeout(arguments: &Arguments) -> Option<u64> {
    let timeout = arguments.get("x-consumer-timeout")?.as_int()?;
    u64::try_from(timeout).ok().filter(|ms| *ms > 0)
}

/// RabbitMQ's words for what a queue refuses.
pub(super) fn refused(refusal: Refusal, queue: &Queue) -> BrokerError {
    let object = format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
    match refusal {
        Refusal::ExclusiveUse => BrokerError::refused(format!("{object} in exclusive use")),
        Refusal::SingleActive => BrokerError::new(
            ErrorKind::ResourceLocked,
            format!("cannot obtain access to {object}: single active consumer is enabled"),
        ),
        Refusal::TooManyConsumers => {
            BrokerError::new(ErrorKind::ResourceError, format!("too many consumers on {object}"))
        }
        Refusal::InUse => BrokerError::precondition(format!("{object} in use")),
        Refusal::NotEmpty => BrokerError::precondition(format!("{object} not empty")),
        Refusal::Gone => BrokerError::no_queue(&queue.name, &queue.vhost),
    }
}
