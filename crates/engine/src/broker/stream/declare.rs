//! Streams come and go: which partition a name means (docs/bridge.md), with its topic or without.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_store::frame::{Frame, Item, StreamKind};
use ottla_store::{Purpose, StreamId};

use super::View;
use super::reader::cancel_all;
use crate::broker::Broker;
use crate::broker::connection::Channel;
use crate::broker::declare::item;
use crate::broker::effects::Work;
use crate::broker::error::{BrokerError, ErrorKind};
use crate::broker::facts::{BrokerFact, QueueImage};
use crate::broker::queue::Queue;
use crate::broker::request::{DeleteIf, Removed};
use crate::broker::state::State;
use crate::catalog::{Catalog, CatalogFact, TopicImage};
use crate::fact::{Fact, encode};
use crate::queue::{Declaration, Refusal, Rules};
use crate::topic::config::{self, Bounds, Overrides};
use crate::topic::{Partition, PartitionId, Topic, TopicId, name};
use crate::value::Value;

/// What a declaration means.
enum Place {
    /// A partition that exists.
    Known(View),
    /// A topic that is to be made, of this name.
    Fresh(String),
}

impl Broker {
    /// Declares a stream that does not exist: over a topic that does, or with one of its own, both in
    /// one frame.
    pub(in crate::broker) fn create_stream(
        &self,
        state: &mut State,
        channel: &Channel,
        name: &str,
        mut declaration: Declaration,
    ) -> Result<Arc<Queue>, BrokerError> {
        let vhost = channel.vhost();
        let object = format!("queue '{name}' in vhost '{vhost}'");
        let mut catalog = self.catalog.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut items = Vec::new();
        let mut made = None;
        let id = match place(&catalog, vhost, name, &declaration, &object)? {
            Place::Known(view) => {
                let id = view.partition.stream();
                if let Some(other) = state.queues.get(&id) {
                    return Err(BrokerError::precondition(format!(
                        "{object} would be the second view of {}: that is queue '{}' in vhost '{}'",
                        shown(&view.partition),
                        other.name,
                        other.vhost
                    )));
                }
                mark(&mut declaration, &view);
                id
            }
            Place::Fresh(topic) => {
                let image = self.topic_image(&catalog, topic, &declaration, &object)?;
                let id = StreamId(image.streams.first().copied().unwrap_or_default());
                items.push(Item::Create { stream: id, kind: StreamKind::Partition });
                let fact = CatalogFact::TopicCreated(image);
                let payload = Bytes::from(encode(&Fact::Catalog(fact.clone())));
                items.push(Item::State { payload });
                made = Some(fact);
                id
            }
        };
        let queue = QueueImage::of(id.0, name, &declaration);
        items.push(item(&BrokerFact::QueueDeclared { vhost: vhost.to_owned(), queue }));
        let reservation = self.store.reserve(Purpose::Grow, items.len(), FACT_BYTES)?;
        let mut frame = Frame::new();
        items.into_iter().for_each(|item| frame.push(item));
        let appended = self.store.append(reservation, frame);
        state.changed = appended.items.last().copied().unwrap_or(appended.lsn);
        if let Some(fact) = made {
            catalog.apply(appended.lsn, fact);
        }
        let queue = Queue::new(id, name, vhost, declaration, None, state.changed);
        adopt(&catalog, &queue);
        drop(catalog);
        self.has_streams.store(true, Ordering::Relaxed);
        let queue = Arc::new(queue);
        state.add_queue(Arc::clone(&queue), self.node, self.clock.now());
        Ok(queue)
    }

    fn topic_image(
        &self,
        catalog: &Catalog,
        topic: String,
        declaration: &Declaration,
        object: &str,
    ) -> Result<TopicImage, BrokerError> {
        let refused = |why: String| BrokerError::precondition(format!("{object}: {why}"));
        name::check(&topic).map_err(|error| refused(error.to_string()))?;
        if let Some(existing) = catalog.collision(&topic) {
            let why = format!("Topic '{topic}' collides with existing topic: {existing}");
            return Err(refused(why));
        }
        let overrides = overrides(declaration);
        for (name, value) in &overrides {
            config::check(name, value).map_err(|error| refused(error.to_string()))?;
        }
        let id = TopicId(self.chance().uuid());
        Ok(TopicImage { name: topic, id, overrides, streams: vec![self.store.new_stream_id().0] })
    }

    /// `queue.delete` of a stream. A topic that was made for it goes with it: that is the caller's to do.
    pub(in crate::broker) fn delete_stream(
        &self,
        queue: &Arc<Queue>,
        condition: DeleteIf,
    ) -> Result<Removed, BrokerError> {
        if condition.unused && !queue.lock().consumers.is_empty() {
            return Err(crate::broker::consume::refused(Refusal::InUse, queue));
        }
        let owner = queue.declaration.arguments.get(TOPIC).is_none();
        let topic = queue.view().filter(|_| owner).map(|view| view.topic.id());
        self.end_stream(queue);
        Ok(Removed { messages: 0, lsn: self.state().changed, topic })
    }

    /// The partitions are gone, and so are the streams over them.
    pub(crate) fn partitions_gone(&self, streams: &[StreamId]) {
        let state = self.state();
        let gone = streams.iter().filter_map(|stream| state.queues.get(stream).cloned());
        let gone: Vec<Arc<Queue>> = gone.collect();
        drop(state);
        gone.iter().for_each(|queue| self.end_stream(queue));
    }

    fn end_stream(&self, queue: &Arc<Queue>) {
        self.forget_queue(queue);
        let wake = cancel_all(queue);
        self.finish(Work { wake, ..Work::default() }, self.clock.now());
    }

    /// Gives the streams that recovery found their partitions. Without one they end: the topic was
    /// deleted, and the process before it could say so of the stream.
    pub(in crate::broker) fn adopt_streams(&self) {
        let streams: Vec<Arc<Queue>> =
            self.state().queues.values().filter(|queue| queue.is_stream()).cloned().collect();
        let catalog = self.catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        streams.iter().for_each(|queue| adopt(&catalog, queue));
        drop(catalog);
        self.bound_streams(&streams);
        self.has_streams.store(!streams.is_empty(), Ordering::Relaxed);
        for queue in streams.iter().filter(|queue| queue.view().is_none()) {
            self.forget_queue(queue);
        }
    }

    fn bound_streams(&self, streams: &[Arc<Queue>]) {
        let state = self.state();
        for queue in streams {
            if let Some(vhost) = state.vhosts.get(&queue.vhost) {
                vhost.bound_stream(queue);
            }
        }
    }
}

/// What the rules of policies mean for a stream's own topic.
pub(in crate::broker) fn bounds(rules: &Rules) -> Bounds {
    Bounds {
        retention_ms: rules.max_age.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        retention_bytes: rules.max_bytes,
        segment_bytes: rules
            .segment_bytes
            .map(|bytes| bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)),
    }
}

fn adopt(catalog: &Catalog, queue: &Queue) {
    let Some(partition) = catalog.partition(queue.id).cloned() else { return };
    if let Some(topic) = catalog.topic_by_id(partition.topic()).cloned() {
        queue.set_view(View { topic, partition });
    }
}

/// Remembers that the stream is over a topic that is not its own.
fn mark(declaration: &mut Declaration, view: &View) {
    let arguments = &mut declaration.arguments;
    arguments.set(TOPIC, Value::text(view.topic.name()));
    if view.partition.id().0 > 0 {
        arguments.set(PARTITION, Value::I32(view.partition.id().0));
    }
}

/// Which partition a declaration means (the table of docs/bridge.md).
fn place(
    catalog: &Catalog,
    vhost: &str,
    name: &str,
    declaration: &Declaration,
    object: &str,
) -> Result<Place, BrokerError> {
    let invalid = |argument, why: &str| {
        BrokerError::precondition(format!("invalid arg '{argument}' for {object}: {why}"))
    };
    let asked = match declaration.arguments.get(PARTITION) {
        None => None,
        Some(value) => {
            let number = value.as_int().and_then(|number| i32::try_from(number).ok());
            Some(number.ok_or_else(|| invalid(PARTITION, "not the number of a partition"))?)
        }
    };
    if let Some(value) = declaration.arguments.get(TOPIC) {
        let topic = value.as_str().ok_or_else(|| invalid(TOPIC, "not a name"))?;
        let missing = || BrokerError::new(ErrorKind::NotFound, format!("no topic '{topic}'"));
        return view(catalog.topic(topic).ok_or_else(missing)?, asked, object).map(Place::Known);
    }
    let topic = topic_name(vhost, name);
    if let Some(topic) = catalog.topic(&topic) {
        return view(topic, asked, object).map(Place::Known);
    }
    if let Some((base, number)) = topic.rsplit_once('-')
        && let Ok(number) = number.parse::<i32>()
        && let Some(base) = catalog.topic(base).filter(|base| base.partitions().len() > 1)
        && let Some(partition) = base.partition(PartitionId(number))
    {
        return Ok(Place::Known(View { topic: Arc::clone(base), partition }));
    }
    Ok(Place::Fresh(topic))
}

fn view(topic: &Arc<Topic>, asked: Option<i32>, object: &str) -> Result<View, BrokerError> {
    let count = topic.partitions().len();
    let number = match asked {
        Some(number) => number,
        None if count == 1 => 0,
        None => {
            let (name, last) = (topic.name(), count.saturating_sub(1));
            return Err(BrokerError::precondition(format!(
                "{object}: topic '{name}' has {count} partitions, each a stream of its own: declare \
                 '{name}-0' to '{name}-{last}', or say which with '{PARTITION}'"
            )));
        }
    };
    let partition = topic.partition(PartitionId(number)).ok_or_else(|| {
        BrokerError::new(
            ErrorKind::NotFound,
            format!("no partition {number} of topic '{}'", topic.name()),
        )
    })?;
    Ok(View { topic: Arc::clone(topic), partition })
}

/// The topic of a stream: its name, with that of its virtual host in front unless that is `/`; what a
/// topic's name cannot hold is written as `_` and two hexadecimal digits.
fn topic_name(vhost: &str, name: &str) -> String {
    let whole = if vhost == "/" { name.to_owned() } else { format!("{vhost}.{name}") };
    let mut topic = String::with_capacity(whole.len());
    for byte in whole.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            topic.push(char::from(byte));
        } else {
            topic.push_str(&format!("_{byte:02x}"));
        }
    }
    topic
}

fn shown(partition: &Partition) -> String {
    format!("partition {} of topic '{}'", partition.id().0, partition.topic_name())
}

/// The settings of a stream's own topic: kept for ever unless its arguments say otherwise, by the
/// time of arrival, and messages as large as AMQP's may be.
fn overrides(declaration: &Declaration) -> Overrides {
    let rules = Rules::of_arguments(declaration.queue_type, &declaration.arguments);
    let rules = rules.unwrap_or_default(); // judged before
    let age = rules.max_age.map_or(-1, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let mut overrides = Overrides::new();
    let mut set = |name: &str, value: String| overrides.insert(name.to_owned(), value);
    set("retention.ms", age.to_string());
    set("message.timestamp.type", "LogAppendTime".to_owned());
    set("max.message.bytes", MESSAGE_BYTES_MAX.to_string());
    if let Some(bytes) = rules.max_bytes {
        set("retention.bytes", i64::try_from(bytes).unwrap_or(i64::MAX).to_string());
    }
    if let Some(bytes) = rules.segment_bytes {
        set("segment.bytes", bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).to_string());
    }
    overrides
}

/// The argument that names the topic of a stream, set where that is not the stream's own.
pub(in crate::broker) const TOPIC: &str = "x-ottla-topic";
const PARTITION: &str = "x-ottla-partition";
/// What RabbitMQ says of a declaration without a name.
pub(in crate::broker) const SERVER_NAMED: &str =
    "Cannot declare a server-named queue for type rabbit_stream_queue";
const MESSAGE_BYTES_MAX: u64 = 32 << 20;
/// Kafka's bounds of `segment.bytes`.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 2_147_483_647;
/// Room for the facts of a stream: names, arguments and settings.
const FACT_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_the_first_virtual_host_have_the_names_of_their_topics() {
        assert_eq!(topic_name("/", "orders"), "orders");
        assert_eq!(topic_name("shop", "orders"), "shop.orders");
        assert_eq!(topic_name("/", "all orders/é"), "all_20orders_2f_c3_a9");
    }
}
