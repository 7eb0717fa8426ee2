//! Consumers: turns, prefetch, what comes back, replies without a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::rig::*;
use crate::Options;
use crate::broker::{
    ConsumeRequest, DeleteIf, ErrorKind, PrefetchScope, Publish, Traffic, Transaction,
};
use crate::queue::Outcome;
use crate::value::{Arguments, Value};

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_consumer_is_woken_and_gets_no_more_than_its_prefetch() {
    let rig = Rig::new();
    let mut publisher = rig.channel();
    rig.queue(&mut publisher, "q", &[]);
    let mut channel = rig.channel();
    rig.broker().qos(&mut channel, 2, PrefetchScope::Consumer);
    let tag = rig.consume(&mut channel, "q", false);
    let bell = Arc::new(Bell::default());
    channel.connection().mailbox().register(&Waker::from(Arc::clone(&bell)));
    for n in 0..5 {
        rig.publish(&mut publisher, "q", &n.to_string());
    }
    assert_eq!(bell.0.load(Ordering::SeqCst), 0, "nothing is durable");
    rig.sync();
    assert_eq!(bell.0.load(Ordering::SeqCst), 1);
    let first = rig.take(&channel);
    assert_eq!(bodies(&first), ["0", "1"]);
    assert_eq!((&first[0].tag, first[0].channel), (&tag, channel.key()));
    assert!(rig.take(&channel).is_empty());
    rig.broker().settle(&channel, &[first[0].held.unwrap()], Outcome::Ack);
    assert_eq!(bodies(&rig.take(&channel)), ["2"]);
}

#[test]
fn consumers_take_turns() {
    let rig = Rig::new();
    let mut publisher = rig.channel();
    rig.queue(&mut publisher, "q", &[]);
    let mut channels = [rig.channel(), rig.channel()];
    for channel in &mut channels {
        rig.consume(channel, "q", false);
    }
    for n in 0..6 {
        rig.publish(&mut publisher, "q", &n.to_string());
    }
    rig.sync();
    assert_eq!(bodies(&rig.take(&channels[0])), ["0", "2", "4"]);
    assert_eq!(bodies(&rig.take(&channels[1])), ["1", "3", "5"]);
}

#[test]
fn a_lost_channel_gives_back_what_it_held() {
    let rig = Rig::new();
    let mut publisher = rig.channel();
    rig.queue(&mut publisher, "q", &[]);
    let mut channel = rig.channel();
    rig.consume(&mut channel, "q", false);
    for body in ["a", "b"] {
        rig.publish(&mut publisher, "q", body);
    }
    rig.sync();
    assert_eq!(rig.broker().take(channel.connection(), 1).len(), 1, "the other is in the mailbox");
    let connection = Arc::clone(channel.connection());
    rig.broker().close_channel(channel);
    rig.broker().disconnect(&connection);
    let first = rig.get(&mut publisher, "q").unwrap();
    assert!(first.redelivered);
    assert_eq!([text(&first.body), rig.body(&mut publisher, "q")], ["a", "b"]);
}

#[test]
fn a_mailbox_is_bounded_and_refilled() {
    let rig = Rig::new();
    let mut publisher = rig.channel();
    rig.queue(&mut publisher, "q", &[]);
    for n in 0..1000 {
        rig.publish(&mut publisher, "q", &n.to_string());
    }
    rig.sync();
    let mut channel = rig.channel();
    rig.consume(&mut channel, "q", true);
    assert_eq!(rig.ready(&mut publisher, "q"), 1000 - 256);
    let mut all = Vec::new();
    loop {
        let some = rig.take(&channel);
        if some.is_empty() {
            break;
        }
        all.extend(bodies(&some));
    }
    assert_eq!(all, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!(rig.ready(&mut channel, "q"), 0, "delivered without acknowledgement is settled");
}

#[test]
fn a_nacked_message_returns_to_its_place() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[]);
    for body in ["a", "b"] {
        rig.publish(&mut channel, "q", body);
    }
    rig.sync();
    let got = rig.get(&mut channel, "q").unwrap();
    rig.settle(&channel, &got, Outcome::Nack);
    let again = rig.get(&mut channel, "q").unwrap();
    assert_eq!((text(&again.body), again.redelivered), ("a".into(), true));
}

#[test]
fn a_reply_reaches_the_asker_without_a_queue() {
    let rig = Rig::new();
    let (mut asker, mut server) = (rig.channel(), rig.channel());
    rig.queue(&mut server, "rpc", &[]);
    let arguments = Arguments::new();
    let request = |no_ack| ConsumeRequest {
        queue: "amq.rabbitmq.reply-to",
        tag: "replies",
        no_ack,
        exclusive: false,
        arguments: &arguments,
    };
    let refused = rig.broker().consume(&mut asker, request(false)).unwrap_err();
    assert_eq!(refused.text(), "reply consumer cannot acknowledge");
    rig.broker().consume(&mut asker, request(true)).unwrap();
    let plain = persistent();
    let properties = crate::broker::properties::Properties::parse(&plain).unwrap();
    let asks = properties.with_reply_to("amq.rabbitmq.reply-to");
    rig.publish_with(&mut asker, "", "rpc", "question", asks);
    rig.sync();
    let question = rig.get(&mut server, "rpc").unwrap();
    let parsed = crate::broker::properties::Properties::parse(&question.properties).unwrap();
    let address = parsed.reply_to().unwrap();
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    assert!(rig.publish_with(&mut server, "", address, "answer", transient()).routed);
    let replies = rig.take(&asker);
    assert_eq!(bodies(&replies), ["answer"]);
    assert_eq!(&*replies[0].tag, "replies");
    rig.broker().close_channel(asker);
    assert!(!rig.publish_with(&mut server, "", address, "too late", transient()).routed);
}

#[test]
fn urgent_messages_come_first() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[("x-max-priority", Value::I32(5))]);
    let priority = |level| bytes::Bytes::copy_from_slice(&[0x18, 0, 2, level]);
    rig.publish(&mut channel, "q", "none");
    rig.publish_with(&mut channel, "", "q", "urgent", priority(5));
    rig.publish_with(&mut channel, "", "q", "more than there is", priority(9));
    rig.sync();
    let all = [(); 3].map(|()| rig.body(&mut channel, "q"));
    assert_eq!(all, ["urgent", "more than there is", "none"]);
}

#[test]
fn copies_go_where_cc_and_bcc_say_and_bcc_stays_secret() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    for name in ["to", "copy", "blind"] {
        rig.queue(&mut channel, name, &[]);
    }
    let list = |name: &str| Value::Array(vec![Value::text(name)]);
    let copies = headers(&[("CC", list("copy")), ("BCC", list("blind"))]);
    rig.publish_with(&mut channel, "", "to", "news", copies);
    rig.sync();
    for name in ["to", "copy", "blind"] {
        let got = rig.get(&mut channel, name).unwrap();
        let headers = headers_of(&got.properties);
        assert!(headers.get("CC").is_some() && headers.get("BCC").is_none(), "{headers}");
        assert_eq!(&*got.routing_key, "to");
    }
}

#[test]
fn nothing_is_lost_or_doubled_between_threads() {
    const EACH: usize = 500;
    let rig = Rig::new();
    let mut consumer = rig.channel();
    for name in ["a", "b"] {
        rig.queue(&mut consumer, name, &[]);
        rig.consume(&mut consumer, name, false);
    }
    let engine = &rig.engine;
    let mut got: Vec<String> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.run_log().unwrap());
        for publisher in 0..2 {
            let mut channel = rig.channel();
            scope.spawn(move || {
                for n in 0..EACH {
                    let properties = if n % 3 == 0 { transient() } else { persistent() };
                    let publish = Publish {
                        exchange: "",
                        routing_key: if n % 2 == 0 { "a" } else { "b" },
                        properties,
                        body: bytes::Bytes::from(format!("{publisher} {n:03}")),
                    };
                    engine.broker().publish(&mut channel, publish).unwrap();
                }
            });
        }
        for _ in 0..1_000_000 {
            engine.broker().durable_moved(engine.durable());
            for delivery in engine.broker().take(consumer.connection(), 50) {
                let crate::broker::Parcel::Delivery(delivery) = delivery else { continue };
                engine.broker().settle(&consumer, &[delivery.held.unwrap()], Outcome::Ack);
                got.push(text(&delivery.body));
            }
            if got.len() == 2 * EACH {
                break;
            }
            std::thread::yield_now();
        }
        engine.stop();
    });
    for publisher in ["0", "1"] {
        for parity in [0, 1] {
            let own = got.iter().filter_map(|body| body.strip_prefix(publisher));
            let own: Vec<usize> = own.map(|n| n.trim().parse().unwrap()).collect();
            let own: Vec<usize> = own.into_iter().filter(|n| n % 2 == parity).collect();
            let sent: Vec<usize> = (0..EACH).filter(|n| n % 2 == parity).collect();
            assert_eq!(own, sent, "in the order of the publisher, each once");
        }
    }
}

#[test]
fn a_channels_shared_prefetch_counts_over_all_its_queues() {
    let rig = Rig::new();
    let mut publisher = rig.channel();
    let mut channel = rig.channel();
    rig.broker().qos(&mut channel, 3, PrefetchScope::Channel);
    for queue in ["a", "b"] {
        rig.queue(&mut publisher, queue, &[]);
        (0..4).for_each(|n| {
            rig.publish(&mut publisher, queue, &format!("{queue}{n}"));
        });
    }
    rig.sync();
    rig.consume(&mut channel, "a", false);
    rig.consume(&mut channel, "b", false);
    let first = rig.take(&channel);
    assert_eq!(first.len(), 3, "of six that the queues would give");
    assert!(rig.take(&channel).is_empty() && channel.connection().mailbox().is_empty());
    let mut seen = bodies(&first);
    let mut held: Vec<_> = first.iter().map(|one| one.held.unwrap()).collect();
    while !held.is_empty() {
        rig.broker().settle(&channel, &held[..1], Outcome::Ack);
        held.remove(0);
        let next = rig.take(&channel);
        held.extend(next.iter().map(|one| one.held.unwrap()));
        assert!(held.len() <= 3);
        seen.extend(bodies(&next));
    }
    let of = |queue: &str| {
        seen.iter().filter(|body| body.starts_with(queue)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["a0", "a1", "a2", "a3"]);
    assert_eq!(of("b"), ["b0", "b1", "b2", "b3"]);
}

#[test]
fn what_passes_is_counted_and_deleted_queues_stay_in_the_sum() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    for queue in ["a", "b"] {
        rig.queue(&mut channel, queue, &[]);
        rig.bind(&mut channel, queue, "amq.fanout", "");
    }
    for body in ["1", "2", "3"] {
        rig.publish_with(&mut channel, "amq.fanout", "", body, transient());
    }
    let got = rig.get(&mut channel, "a").unwrap();
    rig.settle(&channel, &got, Outcome::Nack);
    let got = rig.get(&mut channel, "a").unwrap();
    rig.settle(&channel, &got, Outcome::Ack);
    rig.consume(&mut channel, "b", true);
    assert_eq!(rig.take(&channel).len(), 3);
    rig.pass(10_000);
    let of = |queue: &str| rig.broker().queue_view("/", queue).unwrap().measured.totals;
    let a = Traffic { published: 3, got: 2, redelivered: 1, acked: 1, ..Traffic::default() };
    let b = Traffic { published: 3, delivered_no_ack: 3, ..Traffic::default() };
    assert_eq!((of("a"), of("b")), (a, b));
    rig.broker().delete_queue(&mut channel, "b", DeleteIf::default()).unwrap();
    for _ in 0..2 {
        rig.pass(5_000);
        rig.broker().queue_view("/", "a").unwrap();
    }
    let all = rig.broker().measured();
    assert_eq!(all.totals, Traffic { published: 3, ..a.plus(b) }, "three were published");
    assert_eq!(all.rates, Traffic::default(), "and none of late");
}

#[test]
fn transient_messages_stop_where_the_memory_for_them_ends() {
    let mut options = Options::new(ottla_store::Durability::Sync, 7);
    options.queues.memory_bytes_max = 1_000_000;
    let rig = Rig::with(options);
    let mut channel = rig.channel();
    let body = "x".repeat(10_000);
    let fill = |channel: &mut crate::broker::Channel, queue: &str| -> u64 {
        for count in 0..1_000 {
            let publish = Publish {
                exchange: "",
                routing_key: queue,
                properties: transient(),
                body: bytes::Bytes::from(body.clone()),
            };
            if let Err(error) = rig.broker().publish(channel, publish) {
                assert_eq!(error.kind(), ErrorKind::MemoryFull);
                return count;
            }
        }
        panic!("no end");
    };
    rig.queue(&mut channel, "a", &[]);
    rig.queue(&mut channel, "b", &[]);
    let count = fill(&mut channel, "a");
    assert!((90..100).contains(&count), "{count} of 10 kB in 1 MB");
    assert_eq!(fill(&mut channel, "b"), 0, "one bound for all queues");
    let publish = Publish {
        exchange: "",
        routing_key: "b",
        properties: transient(),
        body: bytes::Bytes::from_static(b"x"),
    };
    let transaction = Transaction { publishes: vec![publish], settlements: Vec::new() };
    let refused = rig.broker().commit(&mut channel, transaction).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::MemoryFull, "transactions included");
    rig.publish(&mut channel, "b", "persistent");
    rig.sync();
    assert_eq!(rig.ready(&mut channel, "b"), 1);
    rig.broker().purge_queue(&mut channel, "a").unwrap();
    assert_eq!(fill(&mut channel, "a"), count);
    for _ in 0..10 {
        rig.body(&mut channel, "a");
    }
    assert_eq!(fill(&mut channel, "b"), 10);
    rig.broker().delete_queue(&mut channel, "a", DeleteIf::default()).unwrap();
    assert_eq!(fill(&mut channel, "b"), count - 10);
}

/// `get-ok` goes out when the log says that the message may have been out: after a crash it says so, too.
#[test]
fn what_get_hands_out_waits_until_a_crash_could_not_hide_it() {
    for seed in 0..10 {
        let rig = Rig::new();
        let mut channel = rig.channel();
        rig.queue(&mut channel, "q", &[]);
        rig.publish(&mut channel, "q", "x");
        rig.sync();
        let got = rig.get(&mut channel, "q").unwrap();
        assert!(!got.redelivered && !got.lsn.is_durable(rig.engine.durable()), "it waits");
        rig.engine.store().commit().unwrap();
        assert!(got.lsn.is_durable(rig.engine.durable()), "now it goes out");
        let rig = rig.crashed(seed);
        let again = rig.get(&mut rig.channel(), "q").unwrap();
        assert!(again.redelivered, "seed {seed}");
    }
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[]);
    rig.publish(&mut channel, "q", "x");
    rig.sync();
    for (round, outcome) in [Outcome::Nack, Outcome::Reject].into_iter().enumerate() {
        let got = rig.get(&mut channel, "q").unwrap();
        assert_eq!(got.redelivered, round > 0);
        rig.settle(&channel, &got, outcome);
    }
    let mut lost = rig.channel();
    assert!(rig.get(&mut lost, "q").unwrap().redelivered);
    rig.broker().close_channel(lost);
    assert!(rig.get(&mut channel, "q").unwrap().redelivered, "its channel was lost");
}

#[test]
fn the_copy_of_what_goes_to_a_stream_counts_where_the_memory_ends() {
    let mut options = Options::new(ottla_store::Durability::Sync, 7);
    options.queues.memory_bytes_max = 1_000_000;
    let rig = Rig::with(options);
    let mut channel = rig.channel();
    rig.queue(&mut channel, "orders", &[("x-queue-type", Value::text("stream"))]);
    rig.queue(&mut channel, "copies", &[]);
    rig.exchange(&mut channel, "shop", "fanout");
    rig.bind(&mut channel, "orders", "shop", "");
    rig.bind(&mut channel, "copies", "shop", "");
    let body = bytes::Bytes::from("x".repeat(10_000));
    let publish = |exchange: &'static str| {
        let (routing_key, properties, body) = ("orders", transient(), body.clone());
        Publish { exchange, routing_key, properties, body }
    };
    let mut taken = 0;
    let refused = loop {
        match rig.broker().gather(&mut channel, publish("shop")) {
            Ok(_) => taken += rig.broker().append_gathered(&mut channel).unwrap().len(),
            Err(error) => break error,
        }
        rig.sync();
        assert!(taken < 1_000, "no end");
    };
    assert_eq!(refused.kind(), ErrorKind::MemoryFull);
    assert!((90..=100).contains(&taken), "{taken} of 10 kB in 1 MB");
    for _ in 0..20 {
        rig.broker().gather(&mut channel, publish("")).unwrap(); // to the stream alone
        assert_eq!(rig.broker().append_gathered(&mut channel).unwrap().len(), 1);
        rig.sync();
    }
    rig.broker().purge_queue(&mut channel, "copies").unwrap();
    rig.broker().gather(&mut channel, publish("shop")).unwrap();
}

#[test]
fn a_queue_that_is_deleted_while_all_are_counted_counts_once() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let given = std::sync::atomic::AtomicU64::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let acked = rig.broker().measured().totals.acked;
                let most = given.load(Ordering::SeqCst);
                assert!(acked <= most, "{acked} acknowledged, where at most {most} were");
            }
        });
        for _ in 0..300 {
            for n in 0..20 {
                let name = n.to_string();
                rig.queue(&mut channel, &name, &[]);
                rig.publish_with(&mut channel, "", &name, "x", transient());
                let got = rig.get(&mut channel, &name).unwrap();
                given.fetch_add(1, Ordering::SeqCst);
                rig.broker().settle(&channel, &[got.held.unwrap()], Outcome::Ack);
            }
            for n in 0..20 {
                let name = n.to_string();
                rig.broker().delete_queue(&mut channel, &name, DeleteIf::default()).unwrap();
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(rig.broker().measured().totals.acked, 6_000);
}
