//! What is acknowledged survives; what is not durable is not shown.

use super::rig::*;
use crate::Options;
use crate::broker::{Publish, Transaction};
use crate::queue::Outcome;
use crate::value::Value;

#[test]
fn a_confirmed_message_survives_until_it_is_acknowledged() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.exchange(&mut channel, "orders", "direct");
    rig.queue(&mut channel, "q", &[]);
    rig.bind(&mut channel, "q", "orders", "created");
    let published = rig.publish_with(&mut channel, "orders", "created", "kept", persistent());
    assert!(published.routed && published.lsn.is_some());
    rig.publish(&mut channel, "q", "acked");
    rig.sync();
    let first = rig.get(&mut channel, "q").unwrap();
    let second = rig.get(&mut channel, "q").unwrap();
    assert_eq!((text(&first.body), first.remaining, first.redelivered), ("kept".into(), 1, false));
    rig.settle(&channel, &second, Outcome::Ack);
    rig.sync();

    let rig = rig.restarted();
    let mut channel = rig.channel();
    let again = rig.get(&mut channel, "q").unwrap();
    assert_eq!((text(&again.body), again.remaining), ("kept".into(), 0));
    assert!(again.redelivered, "it was out when the broker stopped");
    assert_eq!((&*again.exchange, &*again.routing_key), ("orders", "created"));
    assert_eq!(again.properties, persistent());
    assert!(rig.get(&mut channel, "q").is_none());
    rig.publish_with(&mut channel, "orders", "created", "the binding, too", persistent());
    rig.sync();
    assert_eq!(rig.body(&mut channel, "q"), "the binding, too");
}

#[test]
fn what_is_not_durable_is_neither_seen_nor_lost_after_it_was_confirmed() {
    for seed in 0..20 {
        let rig = Rig::new();
        let mut channel = rig.channel();
        rig.queue(&mut channel, "q", &[]);
        rig.publish(&mut channel, "q", "confirmed");
        rig.sync();
        rig.publish(&mut channel, "q", "in flight");
        assert_eq!(rig.ready(&mut channel, "q"), 1, "only what is durable is visible");
        assert!(rig.broker().catch_up(&channel).is_some());
        let rig = rig.crashed(seed);
        let mut channel = rig.channel();
        assert_eq!(rig.body(&mut channel, "q"), "confirmed", "seed {seed}");
    }
}

#[test]
fn a_transient_message_does_not_overtake_the_persistent_one_before_it() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "a", &[]);
    rig.queue(&mut channel, "b", &[]);
    rig.sync();
    rig.publish(&mut channel, "a", "first");
    let second = rig.publish_with(&mut channel, "", "b", "second", transient());
    assert_eq!(second.lsn, None, "nothing was logged for it");
    assert_eq!(rig.body(&mut channel, "b"), "-", "the first is not durable");
    let mut other = rig.channel();
    rig.publish_with(&mut other, "", "a", "third", transient());
    rig.sync();
    assert_eq!(rig.broker().catch_up(&channel), None);
    assert_eq!(rig.body(&mut channel, "b"), "second");
    assert_eq!([rig.body(&mut channel, "a"), rig.body(&mut channel, "a")], ["first", "third"]);
}

#[test]
fn transient_things_are_gone_after_a_restart() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "kept", &[]);
    let volatile = crate::broker::QueueDeclare { durable: false, ..durable("volatile", &[]) };
    rig.broker().declare_queue(&mut channel, volatile).unwrap();
    rig.publish_with(&mut channel, "", "kept", "transient", transient());
    assert_eq!(rig.publish(&mut channel, "volatile", "persistent").lsn, None);
    rig.queue(&mut channel, "quorum", &[("x-queue-type", Value::text("quorum"))]);
    rig.publish_with(&mut channel, "", "quorum", "kept whatever its mode", transient());
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!(rig.body(&mut channel, "kept"), "-");
    assert_eq!(rig.body(&mut channel, "quorum"), "kept whatever its mode");
    let missing = rig.broker().check_queue(&mut channel, "volatile").unwrap_err();
    assert_eq!(missing.text(), "no queue 'volatile' in vhost '/'");
}

#[test]
fn a_message_for_many_queues_is_stored_once() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.exchange(&mut channel, "all", "fanout");
    let names = ["a", "b", "c", "d"];
    for name in names {
        rig.queue(&mut channel, name, &[]);
        rig.bind(&mut channel, name, "all", "");
    }
    rig.sync();
    let before = rig.engine.store().end();
    let body = "x".repeat(100_000);
    rig.publish_with(&mut channel, "all", "", &body, persistent());
    let written = rig.engine.store().end().0 - before.0;
    assert!(written < 110_000, "{written} bytes for one body");
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    for name in names {
        assert_eq!(rig.body(&mut channel, name), body);
    }
}

#[test]
fn a_transaction_takes_place_as_a_whole() {
    for committed in [false, true] {
        let rig = Rig::new();
        let mut channel = rig.channel();
        rig.queue(&mut channel, "from", &[]);
        rig.queue(&mut channel, "to", &[]);
        rig.publish(&mut channel, "from", "order");
        rig.sync();
        let got = rig.get(&mut channel, "from").unwrap();
        let publish = |body: &'static str| Publish {
            exchange: "",
            routing_key: "to",
            properties: persistent(),
            body: bytes::Bytes::from_static(body.as_bytes()),
        };
        let transaction = Transaction {
            publishes: vec![publish("one"), publish("two")],
            settlements: vec![(vec![got.held.unwrap()], Outcome::Ack)],
        };
        let done = rig.broker().commit(&mut channel, transaction).unwrap();
        assert!(done.lsn.is_some() && done.published.iter().all(|published| published.routed));
        assert_eq!(rig.ready(&mut channel, "to"), 0, "not before it is durable");
        if committed {
            rig.sync();
            assert_eq!(rig.ready(&mut channel, "to"), 2);
        }
        let rig = if committed { rig.restarted() } else { rig.crashed(1) };
        let mut channel = rig.channel();
        let all = [("from", 1 - u64::from(committed)), ("to", 2 * u64::from(committed))];
        for (queue, expected) in all {
            assert_eq!(rig.ready(&mut channel, queue), expected, "{queue}, {committed}");
        }
    }
}

#[test]
fn messages_outlive_the_log_they_were_written_to() {
    let mut options = Options::new(ottla_store::Durability::Sync, 3);
    options.store.wal_segment_bytes = 64 << 10;
    options.store.wal_window_bytes = 128 << 10;
    let rig = Rig::with(options);
    let mut channel = rig.channel();
    rig.queue(&mut channel, "old", &[]);
    rig.queue(&mut channel, "busy", &[]);
    for n in 0..20 {
        rig.publish(&mut channel, "old", &format!("old {n}"));
    }
    rig.sync();
    let held = rig.get(&mut channel, "old").unwrap();
    let acked = rig.get(&mut channel, "old").unwrap();
    rig.settle(&channel, &acked, Outcome::Ack);
    let large = "x".repeat(20_000);
    for _ in 0..100 {
        rig.publish(&mut channel, "busy", &large);
        rig.sync();
        assert_eq!(rig.body(&mut channel, "busy").len(), large.len());
        rig.sync();
        while rig.engine.store().keep(&rig.engine).unwrap() {
            rig.sync();
        }
    }
    assert!(rig.engine.store().floor() > ottla_store::Lsn(64 << 10), "the log moved on");
    assert_eq!(text(&held.body), "old 0");
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!(rig.ready(&mut channel, "busy"), 0);
    let expected: Vec<String> = (0..20).filter(|n| *n != 1).map(|n| format!("old {n}")).collect();
    let found: Vec<String> = expected.iter().map(|_| rig.body(&mut channel, "old")).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_acknowledged_message_never_comes_back_to_a_namesake() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[]);
    rig.publish(&mut channel, "q", "before");
    rig.sync();
    let got = rig.get(&mut channel, "q").unwrap();
    rig.broker().delete_queue(&mut channel, "q", crate::broker::DeleteIf::default()).unwrap();
    rig.queue(&mut channel, "q", &[]);
    rig.publish(&mut channel, "q", "after");
    rig.settle(&channel, &got, Outcome::Ack);
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!([rig.body(&mut channel, "q"), rig.body(&mut channel, "q")], ["after", "-"]);
}

#[test]
fn only_what_may_have_been_delivered_says_so_after_a_restart() {
    let rig = Rig::new();
    let mut publisher = rig.channel();
    for queue in ["untouched", "closed", "open"] {
        rig.queue(&mut publisher, queue, &[]);
        for body in ["a", "b", "c"] {
            rig.publish(&mut publisher, queue, body);
        }
    }
    rig.sync();
    let mut gone = rig.channel();
    rig.get(&mut gone, "closed").unwrap();
    rig.broker().close_channel(gone);
    let mut stays = rig.channel();
    rig.get(&mut stays, "open").unwrap();
    rig.sync();
    let flags = |rig: &Rig, queue: &str| -> Vec<bool> {
        let mut channel = rig.channel();
        let got = std::iter::from_fn(|| rig.get(&mut channel, queue));
        let flags = got.map(|got| got.redelivered).collect();
        rig.sync();
        flags
    };
    let rig = rig.restarted();
    assert_eq!(flags(&rig, "untouched"), [false, false, false]);
    assert_eq!(flags(&rig, "closed"), [true, false, false], "the first was out");
    assert_eq!(flags(&rig, "open"), [true, true, true], "who consumed may have had them all");
    let mut publisher = rig.channel();
    rig.publish(&mut publisher, "open", "d");
    rig.sync();
    let rig = rig.crashed(3);
    assert_eq!(flags(&rig, "open"), [true, true, true, true], "a channel held three of them");
}

#[test]
fn thousands_of_delayed_messages_come_back_from_snapshot_and_log() {
    let mut options = Options::new(ottla_store::Durability::Sync, 3);
    options.store.wal_segment_bytes = 64 << 10;
    options.store.wal_window_bytes = 128 << 10;
    let rig = Rig::with(options);
    let mut channel = rig.channel();
    let exchange = crate::broker::ExchangeDeclare {
        name: "later",
        kind: "x-delayed-message",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: [("x-delayed-type", Value::text("fanout"))].into_iter().collect(),
    };
    rig.broker().declare_exchange(&mut channel, exchange).unwrap();
    rig.queue(&mut channel, "q", &[]);
    rig.bind(&mut channel, "q", "later", "");
    let mut delay = |rig: &Rig, body: &str, ms: i32| {
        let delayed = headers(&[("x-delay", Value::I32(ms))]);
        rig.publish_with(&mut channel, "later", "", body, delayed);
    };
    for n in 0..3_000 {
        delay(&rig, &n.to_string(), 60_000 + n);
        if n % 500 == 499 {
            rig.sync();
            while rig.engine.store().keep(&rig.engine).unwrap() {
                rig.sync();
            }
        }
    }
    assert!(rig.engine.store().floor() > ottla_store::Lsn(64 << 10), "the log moved on");
    for n in 3_000..4_000 {
        delay(&rig, &n.to_string(), 60_000 + n);
    }
    rig.sync();
    let ready = |rig: &Rig| rig.ready(&mut rig.channel(), "q");
    let waiting = rig.broker().delayed("/", crate::broker::Seq(0), 10_000);
    assert_eq!(waiting.len(), 4_000);
    let (found, _) = rig.broker().cancel_delayed("/", waiting[0].0).unwrap();
    assert!(found && !rig.broker().cancel_delayed("/", waiting[0].0).unwrap().0);
    rig.sync();
    let rig = rig.restarted();
    assert_eq!(rig.broker().delayed("/", crate::broker::Seq(0), 10_000).len(), 3_999);
    rig.pass(59_999);
    assert_eq!(ready(&rig), 0);
    rig.pass(2_001);
    rig.pass(0);
    assert_eq!(ready(&rig), 2_000, "0 to 2000 without the first");
    let rig = rig.crashed(9);
    rig.pass(2_000);
    rig.pass(0);
    assert_eq!(ready(&rig), 3_999, "each once");
    assert!(rig.broker().delayed("/", crate::broker::Seq(0), 10).is_empty());
}
