//! Streams: a topic's log as AMQP sees it, and an exchange that feeds queues and topics at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;
use ottla_store::batch::{BatchBuilder, BatchHeader, RecordDraft};
use ottla_store::codec::Codec;
use ottla_store::records::Records;
use ottla_store::{Lsn, Offset};

use super::rig::*;
use crate::broker::*;
use crate::engine::NewTopic;
use crate::queue::Outcome;
use crate::topic::{Isolation, PartitionId, Topic};
use crate::value::{Arguments, Value};

fn stream() -> [(&'static str, Value); 1] {
    [("x-queue-type", Value::text("stream"))]
}

fn consume(rig: &Rig, queue: &str, prefetch: u16, arguments: &[(&str, Value)]) -> Channel {
    let mut channel = rig.channel();
    rig.broker().qos(&mut channel, prefetch, PrefetchScope::Consumer);
    let arguments: Arguments = arguments.iter().cloned().collect();
    let request =
        ConsumeRequest { queue, tag: "", no_ack: false, exclusive: false, arguments: &arguments };
    rig.broker().consume(&mut channel, request).unwrap();
    channel
}

fn from_first(rig: &Rig, queue: &str) -> Channel {
    consume(rig, queue, 100, &[("x-stream-offset", Value::text("first"))])
}

fn topic(rig: &Rig, name: &str) -> Arc<Topic> {
    Arc::clone(rig.engine.catalog().topic(name).unwrap())
}

fn make_topic(rig: &Rig, name: &str, partitions: i32) -> Arc<Topic> {
    let overrides = BTreeMap::new();
    let new = NewTopic { name: name.to_owned(), partitions: Some(partitions), overrides };
    rig.engine.create_topic(&new).unwrap().0
}

/// A producer of Kafka's, one batch.
fn produce(rig: &Rig, topic: &Topic, partition: i32, records: &[RecordDraft<'_>]) {
    let mut builder = BatchBuilder::new(Codec::None);
    records.iter().for_each(|record| builder.push(record));
    let partition = topic.partition(PartitionId(partition)).unwrap();
    rig.engine.produce(&partition, builder.build(), rig.engine.now()).unwrap();
}

fn record<'a>(key: &'a str, value: &'a str) -> RecordDraft<'a> {
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    RecordDraft { timestamp_ms: 1_700_000_000_123, key, value, headers: &[] }
}

/// All batches of a topic's first partition, in one piece each.
fn batches(rig: &Rig, topic: &Topic) -> Vec<Bytes> {
    let partition = topic.partition(PartitionId(0)).unwrap();
    let store = rig.engine.store();
    let fetched =
        partition.fetch(store, Offset(0), 1 << 20, Isolation::ReadUncommitted, false).unwrap();
    let mut found = Vec::new();
    for piece in fetched.unwrap().batches.pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            found.push(rest.split_to(header.bytes));
        }
    }
    found
}

#[test]
fn one_publish_reaches_a_queue_and_a_topic_in_one_frame() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "work", &[]);
    rig.queue(&mut channel, "orders", &stream());
    rig.exchange(&mut channel, "shop", "fanout");
    rig.bind(&mut channel, "work", "shop", "");
    rig.bind(&mut channel, "orders", "shop", "");
    rig.sync();
    let before = rig.engine.store().end();
    let published = rig.publish_with(&mut channel, "shop", "created", "one", persistent());
    assert!(published.routed && published.lsn.unwrap() > before);
    rig.sync();
    for seed in [1, 2, 3] {
        let rig = Rig::new();
        let mut channel = rig.channel();
        rig.queue(&mut channel, "work", &[]);
        rig.queue(&mut channel, "orders", &stream());
        rig.exchange(&mut channel, "shop", "fanout");
        rig.bind(&mut channel, "work", "shop", "");
        rig.bind(&mut channel, "orders", "shop", "");
        rig.sync();
        rig.publish_with(&mut channel, "shop", "created", "one", persistent());
        // the power fails before the log was told to be synced: both or neither
        let rig = rig.crashed(seed);
        let mut channel = rig.channel();
        let queued = rig.ready(&mut channel, "work");
        assert_eq!(queued, rig.ready(&mut channel, "orders"), "seed {seed}");
    }
    let mut channel = rig.channel();
    assert_eq!(rig.body(&mut channel, "work"), "one");
    let deliveries = rig.take(&from_first(&rig, "orders"));
    assert_eq!(bodies(&deliveries), ["one"]);
    let first = deliveries.first().unwrap();
    assert_eq!((&*first.exchange, &*first.routing_key), ("shop", "created"));
    assert_eq!(headers_of(&first.properties).get("x-stream-offset"), Some(&Value::I64(0)));
}

#[test]
fn what_one_read_brings_becomes_one_batch_that_kafka_reads() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders", &stream());
    let places: Vec<Gathering> = (0..50)
        .map(|n| {
            let properties = headers(&[("n", Value::I32(n)), ("who", Value::text("ann"))]);
            let body = Bytes::from(n.to_string());
            let publish = Publish { exchange: "", routing_key: "orders", properties, body };
            rig.broker().gather(&mut channel, publish).unwrap()
        })
        .collect();
    assert!(places.iter().all(|place| *place == Gathering::Gathered));
    let published = rig.broker().append_gathered(&mut channel).unwrap();
    assert_eq!(published.len(), 50);
    let lsn = published[0].lsn.unwrap();
    assert!(published.iter().all(|one| one.lsn == Some(lsn)), "one place for all");
    rig.sync();
    let batches = batches(&rig, &topic(&rig, "orders"));
    assert_eq!(batches.len(), 1);
    let records = Records::open(&batches[0]).unwrap();
    let last = records.iter().last().unwrap().unwrap();
    assert_eq!((last.offset, last.value), (Offset(49), Some(&b"49"[..])));
    assert_eq!(last.key, Some(&b"orders"[..]));
    let named = |name: &[u8]| last.headers.into_iter().find(|(known, _)| *known == name);
    assert_eq!(named(b"n"), Some((&b"n"[..], Some(&b"49"[..]))));
    assert_eq!(named(b"who").unwrap().1, Some(&b"ann"[..]));
    assert_eq!(named(b"amqp.delivery-mode").unwrap().1, Some(&b"2"[..]));
}

#[test]
fn records_of_kafka_arrive_with_key_headers_and_time() {
    let rig = Rig::new();
    let orders = make_topic(&rig, "orders", 1);
    let headers: [(&[u8], Option<&[u8]>); 4] = [
        (b"trace", Some(b"abc")),
        (b"raw", Some(&[0xff])),
        (b"amqp.content-type", Some(b"text/plain")),
        (b"amqp.user-id", Some(b"somebody")),
    ];
    let with = RecordDraft { headers: &headers, ..record("customer-7", "hello") };
    produce(&rig, &orders, 0, &[with]);
    rig.sync();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders", &stream());
    let taken = rig.take(&from_first(&rig, "orders"));
    let one = taken.first().unwrap();
    assert_eq!((&*one.routing_key, &*one.body), ("customer-7", &b"hello"[..]));
    let properties = properties::Properties::parse(&one.properties).unwrap();
    assert_eq!(properties.timestamp(), Some(1_700_000_000));
    assert_eq!(properties.user_id(), None, "nobody has judged it");
    assert!(properties.is_persistent());
    let texts: Vec<_> = properties.texts().map(|(name, _)| name).collect();
    assert_eq!(texts, ["content-type", "delivery-mode"]);
    let headers = properties.headers();
    assert_eq!(headers.get("trace"), Some(&Value::text("abc")));
    assert_eq!(headers.get("raw"), Some(&Value::Bytes(vec![0xff])));
    assert_eq!(headers.get("amqp.content-type"), None);
}

#[test]
fn a_consumer_reads_as_far_as_its_prefetch_and_any_settlement_lets_it_go_on() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders", &stream());
    for n in 0..10 {
        rig.publish(&mut channel, "orders", &n.to_string());
    }
    rig.sync();
    let reader = consume(&rig, "orders", 4, &[("x-stream-offset", Value::I32(2))]);
    let first = rig.take(&reader);
    assert_eq!(bodies(&first), ["2", "3", "4", "5"]);
    assert!(rig.take(&reader).is_empty());
    let held: Vec<Held> = first.iter().map(|one| one.held.unwrap()).collect();
    rig.broker().settle(&reader, &held[..1], Outcome::Ack);
    rig.broker().settle(&reader, &held[1..2], Outcome::Nack);
    rig.broker().settle(&reader, &held[2..3], Outcome::Dead);
    let next = rig.take(&reader);
    assert_eq!(bodies(&next), ["6", "7", "8"], "nothing comes twice");
    assert!(next.iter().all(|one| !one.redelivered));
    rig.broker().close_channel(reader);
    let again = from_first(&rig, "orders");
    assert_eq!(rig.take(&again).len(), 10, "what was read is still there");
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_consumer_sleeps_until_something_is_durable() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders", &stream());
    rig.sync();
    let reader = consume(&rig, "orders", 10, &[]);
    let bell = Arc::new(Bell::default());
    rig.broker().register(reader.connection(), &Waker::from(Arc::clone(&bell)));
    rig.publish(&mut channel, "orders", "news");
    assert!(rig.take(&reader).is_empty(), "nothing is visible before it is durable");
    assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    rig.sync();
    let stream = topic(&rig, "orders").partition(PartitionId(0)).unwrap().stream();
    rig.engine.wake(&[stream]); // as the releaser does
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    assert_eq!(bodies(&rig.take(&reader)), ["news"]);
}

#[test]
fn a_stream_is_a_view_of_one_partition_and_of_a_topic_with_its_name() {
    let rig = Rig::new();
    let many = make_topic(&rig, "many", 3);
    produce(&rig, &many, 1, &[record("k", "of the second")]);
    rig.sync();
    let mut channel = rig.channel();
    let declare = |channel: &mut Channel, name: &str, arguments: &[(&str, Value)]| {
        let arguments: Vec<_> = stream().into_iter().chain(arguments.iter().cloned()).collect();
        rig.broker().declare_queue(channel, durable(name, &arguments))
    };
    let refused = declare(&mut channel, "many", &[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PreconditionFailed);
    assert!(refused.text().contains("declare 'many-0' to 'many-2'"), "{refused}");
    declare(&mut channel, "many-1", &[]).unwrap();
    assert_eq!(bodies(&rig.take(&from_first(&rig, "many-1"))), ["of the second"]);
    let second = [("x-ottla-topic", Value::text("many")), ("x-ottla-partition", Value::I32(1))];
    let refused = declare(&mut channel, "other", &second).unwrap_err();
    assert!(refused.text().contains("that is queue 'many-1' in vhost '/'"), "{refused}");
    let third = [("x-ottla-topic", Value::text("many")), ("x-ottla-partition", Value::I32(2))];
    declare(&mut channel, "other", &third).unwrap();
    let missing = [("x-ottla-topic", Value::text("nope"))];
    assert_eq!(declare(&mut channel, "x", &missing).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_stream_takes_its_own_topic_along_and_leaves_one_that_was_there() {
    let rig = Rig::new();
    make_topic(&rig, "theirs", 1);
    let mut channel = rig.channel();
    rig.queue(&mut channel, "theirs", &stream());
    rig.queue(&mut channel, "ours", &stream());
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    let reader = from_first(&rig, "ours");
    let any = DeleteIf::default();
    rig.engine.delete_queue(&mut channel, "theirs", any).unwrap();
    let in_use = DeleteIf { unused: true, empty: false };
    let refused = rig.engine.delete_queue(&mut channel, "ours", in_use).unwrap_err();
    assert_eq!(refused.text(), "queue 'ours' in vhost '/' in use");
    rig.engine.delete_queue(&mut channel, "ours", any).unwrap();
    assert!(rig.engine.catalog().topic("theirs").is_some());
    assert!(rig.engine.catalog().topic("ours").is_none());
    let parcels = rig.broker().take(reader.connection(), 10);
    assert!(matches!(parcels.as_slice(), [Parcel::Cancelled { .. }]), "{parcels:?}");
    rig.sync();
    let rig = rig.crashed(5);
    let mut channel = rig.channel();
    assert!(rig.broker().check_queue(&mut channel, "ours").is_err());
    assert!(rig.broker().check_queue(&mut channel, "theirs").is_err());
}

#[test]
fn a_topic_that_kafka_deletes_takes_its_stream_along() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders", &stream());
    rig.exchange(&mut channel, "shop", "fanout");
    rig.bind(&mut channel, "orders", "shop", "");
    let reader = from_first(&rig, "orders");
    let id = topic(&rig, "orders").id();
    let lsn: Option<Lsn> = rig.engine.delete_topic(id).unwrap();
    assert!(lsn.is_some());
    assert!(rig.broker().check_queue(&mut channel, "orders").is_err());
    assert_eq!(rig.broker().take(reader.connection(), 10).len(), 1, "basic.cancel");
    let published = rig.publish_with(&mut channel, "shop", "", "lost", persistent());
    assert!(!published.routed);
    rig.queue(&mut channel, "orders", &stream());
    rig.sync();
    let rig = rig.restarted();
    assert!(rig.take(&from_first(&rig, "orders")).is_empty(), "a new one, empty");
}

#[test]
fn a_dead_letter_ends_in_a_stream_and_a_full_queue_does_not_keep_it_out() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "graves", &stream());
    let dead = [
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("graves")),
    ];
    rig.queue(&mut channel, "work", &dead);
    rig.publish(&mut channel, "work", "bad");
    rig.sync();
    let got = rig.get(&mut channel, "work").unwrap();
    rig.settle(&channel, &got, Outcome::Dead);
    rig.sync();
    let letters = rig.take(&from_first(&rig, "graves"));
    assert_eq!(bodies(&letters), ["bad"]);
    let headers = headers_of(&letters[0].properties);
    assert!(headers.get("x-death").is_some());
    let full = [("x-max-length", Value::I32(1)), ("x-overflow", Value::text("reject-publish"))];
    rig.queue(&mut channel, "small", &full);
    rig.exchange(&mut channel, "both", "fanout");
    rig.bind(&mut channel, "small", "both", "");
    rig.bind(&mut channel, "graves", "both", "");
    for (body, rejected) in [("fits", false), ("too many", true)] {
        let published = rig.publish_with(&mut channel, "both", "", body, persistent());
        rig.sync();
        assert_eq!(published.rejected, rejected, "{body}");
    }
    assert_eq!(rig.take(&from_first(&rig, "graves")).len(), 3, "the others keep it");
}

fn stream_policy(name: &str, definition: &[(&str, Value)]) -> PolicyImage {
    PolicyImage {
        name: name.to_owned(),
        pattern: "^or".to_owned(),
        apply_to: "streams".to_owned(),
        priority: 0,
        definition: definition.iter().cloned().collect(),
    }
}

/// RabbitMQ takes the smaller of argument and policy for each of them.
#[test]
fn policies_bound_what_a_stream_keeps() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let [kind] = stream();
    let own = [kind, ("x-max-length-bytes", Value::I64(5_000_000))];
    rig.queue(&mut channel, "orders", &own);
    make_topic(&rig, "theirs", 1);
    let over = [stream()[0].clone(), ("x-ottla-topic", Value::text("theirs"))];
    rig.queue(&mut channel, "orders-of-kafka", &over);
    let kept = |rig: &Rig| {
        let config = topic(rig, "orders").config();
        (config.retention_ms, config.retention_bytes, config.segment_bytes)
    };
    assert_eq!(kept(&rig), (None, Some(5_000_000), 1 << 30));
    let sizes = [
        ("max-age", Value::text("1h")),
        ("max-length-bytes", Value::I64(9_000_000)),
        ("stream-max-segment-size-bytes", Value::I64(2_000_000)),
    ];
    rig.broker().set_policy("/", stream_policy("sizes", &sizes)).unwrap();
    assert_eq!(kept(&rig), (Some(3_600_000), Some(5_000_000), 2_000_000));
    let limit = [("max-length-bytes", Value::I64(4_000_000)), ("max-age", Value::text("1D"))];
    let limit = stream_policy("limit", &limit);
    rig.broker().put_policy(PolicyKind::Operator, "/", limit).unwrap();
    assert_eq!(kept(&rig), (Some(3_600_000), Some(4_000_000), 2_000_000));
    assert_eq!(
        topic(&rig, "theirs").config().retention_bytes,
        None,
        "a topic of Kafka's is its own"
    );
    rig.sync();
    let rig = rig.crashed(3);
    assert_eq!(kept(&rig), (Some(3_600_000), Some(4_000_000), 2_000_000), "after a start");
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders-later", &stream());
    assert_eq!(topic(&rig, "orders-later").config().retention_bytes, Some(4_000_000));
    rig.broker().delete_policy("/", "sizes").unwrap();
    rig.broker().drop_policy(PolicyKind::Operator, "/", "limit").unwrap();
    assert_eq!(kept(&rig), (None, Some(5_000_000), 1 << 30), "what the arguments say");
}
