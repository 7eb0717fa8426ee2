//! A channel remembers where its last publish went; what it remembers never outlives the truth.

use super::rig::*;
use crate::broker::{
    Bind, BrokerError, Channel, DeleteIf, PermissionImage, PolicyImage, Publish,
    TopicPermissionImage,
};
use crate::chance::Chance;
use crate::value::{Arguments, Value};

fn try_publish(
    rig: &Rig,
    channel: &mut Channel,
    exchange: &str,
    key: &str,
) -> Result<bool, BrokerError> {
    let (properties, body) = (transient(), bytes::Bytes::from_static(b"x"));
    let publish = Publish { exchange, routing_key: key, properties, body };
    rig.broker().publish(channel, publish).map(|published| published.routed)
}

fn routed(rig: &Rig, channel: &mut Channel, exchange: &str, key: &str) -> bool {
    try_publish(rig, channel, exchange, key).unwrap()
}

fn unbind(rig: &Rig, channel: &mut Channel, queue: &str, exchange: &str, key: &str) {
    let bind = Bind { destination: queue, source: exchange, key, arguments: Arguments::new() };
    rig.broker().unbind_queue(channel, bind).unwrap();
}

#[test]
fn a_publisher_that_never_pauses_sees_each_change_of_bindings_queues_and_policies() {
    let rig = Rig::new();
    let (mut admin, mut publisher) = (rig.channel(), rig.channel());
    rig.queue(&mut admin, "q", &[]);
    assert!(routed(&rig, &mut publisher, "", "q") && routed(&rig, &mut publisher, "", "q"));
    rig.broker().delete_queue(&mut admin, "q", DeleteIf::default()).unwrap();
    assert!(!routed(&rig, &mut publisher, "", "q"), "the queue is gone");
    rig.queue(&mut admin, "q", &[]);
    assert!(routed(&rig, &mut publisher, "", "q"));
    assert_eq!(rig.ready(&mut admin, "q"), 1, "in the new one, not in the old one");

    rig.exchange(&mut admin, "x", "direct");
    assert!(!routed(&rig, &mut publisher, "x", "k"));
    rig.bind(&mut admin, "q", "x", "k");
    assert!(routed(&rig, &mut publisher, "x", "k"));
    unbind(&rig, &mut admin, "q", "x", "k");
    assert!(!routed(&rig, &mut publisher, "x", "k"));
    let policy = PolicyImage {
        name: "p".into(),
        pattern: "^x$".into(),
        apply_to: "exchanges".into(),
        priority: 0,
        definition: [("alternate-exchange", Value::text("amq.fanout"))].into_iter().collect(),
    };
    rig.bind(&mut admin, "q", "amq.fanout", "");
    rig.broker().set_policy("/", policy).unwrap();
    assert!(routed(&rig, &mut publisher, "x", "k"), "the alternate of the policy");
}

#[test]
fn a_publisher_loses_its_permission_between_two_equal_publishes() {
    let rig = Rig::new();
    let (mut admin, mut publisher) = (rig.channel(), rig.channel());
    rig.queue(&mut admin, "q", &[]);
    rig.bind(&mut admin, "q", "amq.topic", "#");
    assert!(routed(&rig, &mut publisher, "amq.topic", "a.b"));
    let topic = TopicPermissionImage { write: "^c".into(), read: ".*".into() };
    rig.broker().set_topic_permissions("guest", "/", "amq.topic", topic).unwrap();
    let refused = try_publish(&rig, &mut publisher, "amq.topic", "a.b").unwrap_err();
    assert!(refused.text().contains("refused for user 'guest'"), "{}", refused.text());
    assert!(routed(&rig, &mut publisher, "", "q"));
    let narrow =
        PermissionImage { configure: ".*".into(), write: "^own".into(), read: ".*".into() };
    rig.broker().set_permissions("guest", "/", narrow).unwrap();
    let refused = try_publish(&rig, &mut publisher, "", "q").unwrap_err();
    assert!(refused.text().contains("write access to exchange 'amq.default'"));
}

/// What headers decide or chance does is decided anew each time.
#[test]
fn equal_keys_with_other_headers_go_elsewhere() {
    let rig = Rig::new();
    let (mut admin, mut publisher) = (rig.channel(), rig.channel());
    rig.exchange(&mut admin, "front", "fanout");
    rig.queue(&mut admin, "red", &[]);
    rig.queue(&mut admin, "blue", &[]);
    for colour in ["red", "blue"] {
        let arguments = [("colour", Value::text(colour))].into_iter().collect();
        let bind = Bind { destination: colour, source: "amq.headers", key: "", arguments };
        rig.broker().bind_queue(&mut admin, bind).unwrap();
    }
    let inner =
        Bind { destination: "amq.headers", source: "front", key: "", arguments: Arguments::new() };
    rig.broker().bind_exchange(&mut admin, inner).unwrap();
    for colour in ["red", "red", "blue", "green", "red"] {
        let properties = headers(&[("colour", Value::text(colour))]);
        rig.publish_with(&mut publisher, "front", "k", colour, properties);
    }
    rig.sync();
    assert_eq!((rig.ready(&mut admin, "red"), rig.ready(&mut admin, "blue")), (3, 1));
    let copied = headers(&[("CC", Value::Array(vec![Value::text("blue")]))]);
    assert!(routed(&rig, &mut publisher, "", "red"));
    rig.publish_with(&mut publisher, "", "red", "both", copied);
    assert!(routed(&rig, &mut publisher, "", "red"));
    rig.sync();
    assert_eq!((rig.ready(&mut admin, "red"), rig.ready(&mut admin, "blue")), (6, 2));
}

/// A channel that has published before and one that never has agree, whatever changes in between.
#[test]
fn an_old_channel_and_a_new_one_route_alike() {
    for seed in 0..20 {
        let rig = Rig::new();
        let mut chance = Chance::new(seed);
        let (mut admin, mut old) = (rig.channel(), rig.channel());
        let names = ["a", "b", "c"];
        let kinds = ["direct", "fanout", "topic", "x-modulus-hash", "x-consistent-hash"];
        kinds.iter().for_each(|kind| rig.exchange(&mut admin, kind, kind));
        for step in 0..300 {
            let mut pick = |count: usize| usize::try_from(chance.bits() >> 33).unwrap() % count;
            let (queue, kind, key) = (names[pick(3)], kinds[pick(5)], ["1", "2"][pick(2)]);
            let exists = rig.broker().check_queue(&mut admin, queue).is_ok();
            match pick(12) {
                0 if exists => {
                    rig.broker()
                        .delete_queue(&mut admin, queue, DeleteIf::default())
                        .map(drop)
                        .unwrap();
                }
                0 | 1 => rig.queue(&mut admin, queue, &[]),
                2 | 3 if exists => rig.bind(&mut admin, queue, kind, key),
                4 if exists => unbind(&rig, &mut admin, queue, kind, key),
                _ => {}
            }
            let (exchange, key) = if pick(4) == 0 { ("", queue) } else { (kind, key) };
            let before =
                names.map(|name| rig.broker().check_queue(&mut admin, name).map(|q| q.messages));
            routed(&rig, &mut old, exchange, key);
            let between =
                names.map(|name| rig.broker().check_queue(&mut admin, name).map(|q| q.messages));
            routed(&rig, &mut rig.channel(), exchange, key);
            let after =
                names.map(|name| rig.broker().check_queue(&mut admin, name).map(|q| q.messages));
            for ((before, between), after) in before.into_iter().zip(between).zip(after) {
                let (Ok(before), Ok(between), Ok(after)) = (before, between, after) else {
                    continue;
                };
                assert_eq!(between - before, after - between, "seed {seed}, step {step}");
            }
        }
    }
}
