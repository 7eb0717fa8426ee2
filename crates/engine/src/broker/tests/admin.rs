//! What an operator may do: limits, permissions on keys, policies that hold, messages moved by hand.

use super::rig::*;
use crate::broker::*;
use crate::queue::{Outcome, QueueType};
use crate::value::Value;

fn client() -> Client {
    Client {
        name: "127.0.0.1:1 -> 127.0.0.1:2".to_owned(),
        peer_host: "127.0.0.1".to_owned(),
        peer_port: 1,
        host: "127.0.0.1".to_owned(),
        port: 2,
        mechanism: "PLAIN".to_owned(),
        properties: crate::value::Arguments::new(),
        frame_max: 131_072,
        channel_max: 2047,
        heartbeat: 60,
    }
}

fn everything() -> PermissionImage {
    let all = || ".*".to_owned();
    PermissionImage { configure: all(), write: all(), read: all() }
}

fn policy(name: &str, definition: &[(&str, Value)]) -> PolicyImage {
    PolicyImage {
        name: name.to_owned(),
        pattern: ".*".to_owned(),
        apply_to: "queues".to_owned(),
        priority: 0,
        definition: definition.iter().cloned().collect(),
    }
}

#[test]
fn a_virtual_host_and_a_user_have_as_much_as_they_may() {
    let rig = Rig::new();
    let limits = LimitsImage { max_connections: Some(1), max_queues: Some(1), max_channels: None };
    rig.broker().limit_vhost("/", limits).unwrap();
    let limits = LimitsImage { max_channels: Some(2), ..LimitsImage::default() };
    rig.broker().limit_user("guest", limits).unwrap();
    rig.sync();
    let rig = rig.restarted();
    let login = || rig.broker().authenticate("guest", b"guest", Peer::Loopback).unwrap();
    let connection = rig.broker().connect_client(login(), "/", client()).unwrap();
    let refused = rig.broker().connect_client(login(), "/", client()).unwrap_err();
    assert_eq!(
        refused.text(),
        "access to vhost '/' refused for user 'guest': connection limit (1) is reached"
    );
    let mut channel = rig.broker().open_client_channel(&connection, 1).unwrap();
    let second = rig.broker().open_client_channel(&connection, 2).unwrap();
    let refused = rig.broker().open_client_channel(&connection, 3).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotAllowed);
    rig.broker().close_channel(second);
    rig.queue(&mut channel, "first", &[]);
    let refused = rig.broker().declare_queue(&mut channel, durable("second", &[])).unwrap_err();
    assert_eq!(
        refused.text(),
        "cannot declare queue 'second': queue limit in vhost '/' (1) is reached"
    );
    rig.broker().close_channel(channel);
    rig.broker().disconnect(&connection);
    rig.broker().connect_client(login(), "/", client()).unwrap();
}

#[test]
fn topic_permissions_hold_for_keys_of_topic_exchanges_only_also_after_a_restart() {
    let rig = Rig::new();
    rig.broker().set_user("anna", b"secret", Vec::new()).unwrap();
    rig.broker().set_permissions("anna", "/", everything()).unwrap();
    let keys = TopicPermissionImage { write: "^{username}\\.".into(), read: "^open\\.".into() };
    rig.broker().set_topic_permissions("anna", "/", "amq.topic", keys).unwrap();
    rig.sync();
    let rig = rig.restarted();
    let login = rig.broker().authenticate("anna", b"secret", Peer::Remote).unwrap();
    let mut channel = rig.broker().open_channel(&rig.broker().connect(login, "/").unwrap());
    rig.queue(&mut channel, "q", &[]);
    rig.bind(&mut channel, "q", "amq.topic", "open.#");
    let shut = Bind {
        destination: "q",
        source: "amq.topic",
        key: "shut.#",
        arguments: crate::value::Arguments::new(),
    };
    let refused = rig.broker().bind_queue(&mut channel, shut).unwrap_err();
    assert_eq!(
        refused.text(),
        "read access to topic 'shut.#' in exchange 'amq.topic' in vhost '/' refused for user 'anna'"
    );
    let publish = |channel: &mut Channel, exchange, routing_key| {
        let publish = Publish { exchange, routing_key, properties: persistent(), body: "x".into() };
        rig.broker().publish(channel, publish).map(|_| ())
    };
    assert_eq!(publish(&mut channel, "amq.topic", "anna.x"), Ok(()));
    assert_eq!(publish(&mut channel, "amq.direct", "bert.x"), Ok(()));
    let refused = publish(&mut channel, "amq.topic", "bert.x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AccessRefused);
}

#[test]
fn an_operators_policy_cannot_be_outbid_and_a_virtual_host_says_what_type_queues_are() {
    let rig = Rig::new();
    let broker = rig.broker();
    broker.set_policy("/", policy("own", &[("max-length", Value::I64(100))])).unwrap();
    let operator = policy("limit", &[("max-length", Value::I64(1))]);
    broker.put_policy(PolicyKind::Operator, "/", operator).unwrap();
    let about = VhostAbout { default_queue_type: Some("quorum".into()), ..VhostAbout::default() };
    broker.describe_vhost("/", about).unwrap();
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[("x-max-length", Value::I64(50))]);
    for body in ["a", "b", "c"] {
        rig.publish(&mut channel, "q", body);
    }
    rig.sync();
    assert_eq!(rig.ready(&mut channel, "q"), 1);
    let view = rig.broker().queue_view("/", "q").unwrap();
    assert_eq!(view.queue_type, QueueType::Quorum);
    assert_eq!(view.operator_policy.as_deref(), Some("limit"));
    assert_eq!(view.effective.get("max-length"), Some(&Value::I64(1)));
    rig.broker().drop_policy(PolicyKind::Operator, "/", "limit").unwrap();
    rig.publish(&mut channel, "q", "d");
    rig.sync();
    assert_eq!(rig.ready(&mut channel, "q"), 2);
}

/// `orders` whose rejected messages go to `dead`.
fn with_dead_letters(rig: &Rig, channel: &mut Channel) {
    rig.queue(channel, "dead", &[]);
    let arguments = [
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("dead")),
    ];
    rig.queue(channel, "orders", &arguments);
}

fn some(filter: Filter) -> Filter {
    Filter { look_at: 100, most: 100, ..filter }
}

#[test]
fn dead_letters_go_back_to_where_they_died_in_one_frame_each() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    with_dead_letters(&rig, &mut channel);
    rig.bind(&mut channel, "orders", "amq.direct", "new");
    rig.publish_with(&mut channel, "amq.direct", "new", "a", persistent());
    rig.publish(&mut channel, "orders", "b");
    rig.sync();
    for _ in 0..2 {
        let got = rig.get(&mut channel, "orders").unwrap();
        rig.settle(&channel, &got, Outcome::Dead);
    }
    rig.publish(&mut channel, "dead", "never died");
    rig.sync();
    let only = some(Filter { routing_key: Some("dead".into()), ..Filter::default() });
    let preview = rig.broker().preview_moves(&channel, "dead", MoveTarget::WhereItDied, &only);
    assert_eq!(preview.unwrap().targets.get("orders"), Some(&2), "the key it has in this queue");
    let filter = some(Filter::default());
    let moved = rig.broker().move_messages(&channel, "dead", MoveTarget::WhereItDied, &filter);
    let moved = moved.unwrap();
    assert_eq!((moved.targets.get("orders"), moved.examined, moved.stayed), (Some(&2), 3, 1));
    assert_eq!(moved.kept.keys().map(String::as_str).collect::<Vec<_>>(), ["it has never died"]);
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    let first = rig.get(&mut channel, "orders").unwrap();
    assert_eq!((&*first.exchange, &*first.routing_key), ("amq.direct", "new"));
    assert_eq!(text(&first.body), "a");
    let headers = headers_of(&first.properties);
    assert_eq!(headers.get("x-first-death-reason"), Some(&Value::text("rejected")));
    assert_eq!(rig.body(&mut channel, "orders"), "b");
    assert_eq!(rig.body(&mut channel, "dead"), "never died");
    assert_eq!(rig.body(&mut channel, "dead"), "-");
}

#[test]
fn a_move_keeps_what_its_target_does_not_take() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "from", &[]);
    let arguments =
        [("x-max-length", Value::I64(1)), ("x-overflow", Value::text("reject-publish"))];
    rig.queue(&mut channel, "to", &arguments);
    for body in ["a", "b", "c"] {
        rig.publish(&mut channel, "from", body);
    }
    rig.sync();
    let filter = some(Filter::default());
    let to = MoveTarget::Queue("to");
    let moved = rig.broker().move_messages(&channel, "from", to, &filter).unwrap();
    assert_eq!((moved.targets.get("to"), moved.stayed), (Some(&1), 2));
    rig.sync();
    let rig = rig.crashed(3);
    let mut channel = rig.channel();
    assert_eq!(rig.body(&mut channel, "to"), "a");
    assert_eq!(rig.body(&mut channel, "from"), "b", "at its place");
    assert_eq!(rig.body(&mut channel, "from"), "c");
    let itself = rig.broker().move_messages(&channel, "from", MoveTarget::Queue("from"), &filter);
    assert_eq!(itself.unwrap_err().kind(), ErrorKind::PreconditionFailed);
}

#[test]
fn looking_at_messages_changes_nothing() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[]);
    for body in ["a", "b", "c"] {
        rig.publish(&mut channel, "q", body);
    }
    rig.sync();
    let seen = rig.broker().peek(&channel, "q", 1, 5).unwrap();
    assert_eq!(seen.iter().map(|peeked| text(&peeked.body)).collect::<Vec<_>>(), ["b", "c"]);
    let got = rig.get(&mut channel, "q").unwrap();
    assert_eq!((text(&got.body).as_str(), got.redelivered), ("a", false));
}

#[test]
fn a_virtual_host_goes_with_everything_in_it() {
    let rig = Rig::new();
    let broker = rig.broker();
    broker.create_vhost("shop").unwrap();
    broker.set_permissions("guest", "shop", everything()).unwrap();
    let login = broker.authenticate("guest", b"guest", Peer::Loopback).unwrap();
    let connection = broker.connect_client(login.clone(), "shop", client()).unwrap();
    let mut channel = broker.open_channel(&connection);
    rig.queue(&mut channel, "q", &[]);
    rig.publish(&mut channel, "q", "x");
    rig.sync();
    broker.delete_vhost("shop").unwrap();
    assert_eq!(connection.ending().as_deref(), Some("vhost 'shop' is deleted"));
    assert_eq!(broker.connect(login, "shop").unwrap_err().kind(), ErrorKind::NotAllowed);
    broker.close_channel(channel);
    broker.disconnect(&connection);
    rig.sync();
    let rig = rig.restarted();
    rig.broker().create_vhost("shop").unwrap();
    assert!(rig.broker().queue_views(Some("shop")).is_empty());
}

#[test]
fn a_virtual_host_goes_in_one_frame() {
    for seed in 0..8 {
        let rig = Rig::new();
        let broker = rig.broker();
        broker.create_vhost("shop").unwrap();
        let login = broker.authenticate("guest", b"guest", Peer::Loopback).unwrap();
        let connection = broker.connect_operator(login, "shop").unwrap();
        let mut channel = broker.open_channel(&connection);
        let names = ["a", "b", "c", "d"];
        for name in names {
            rig.queue(&mut channel, name, &[]);
            rig.publish(&mut channel, name, "x");
        }
        rig.queue(&mut channel, "s", &[("x-queue-type", Value::text("stream"))]);
        rig.sync();
        let before = rig.engine.store().end();
        let place = broker.delete_vhost("shop").unwrap();
        assert!(before <= place && place < rig.engine.store().end());
        let published = rig.publish(&mut rig.channel(), "a", "to another virtual host");
        assert!(!published.routed);
        rig.engine.store().commit().unwrap();
        let rig = rig.crashed(seed);
        let left = rig.broker().queue_views(Some("shop")).len();
        let vhosts = rig.broker().vhosts().len();
        assert!((left, vhosts) == (5, 2) || (left, vhosts) == (0, 1), "{left} queues, seed {seed}");
        rig.broker().create_vhost("shop").unwrap();
        rig.sync();
        let rig = rig.restarted();
        let left = rig.broker().queue_views(Some("shop")).len();
        assert!(left == 5 || left == 0, "seed {seed}");
    }
}
