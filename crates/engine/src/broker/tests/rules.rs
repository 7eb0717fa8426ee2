//! Declarations, permissions, policies: what is refused, and in which words.

use super::rig::*;
use crate::broker::{
    Broker, Channel, ErrorKind, ExchangeDeclare, Peer, PermissionImage, PolicyImage, Publish,
    QueueDeclare,
};
use crate::value::{Arguments, Value};

fn refusal(rig: &Rig, queue: QueueDeclare<'_>) -> (ErrorKind, String) {
    let refused = rig.broker().declare_queue(&mut rig.channel(), queue).unwrap_err();
    (refused.kind(), refused.text().to_owned())
}

#[test]
fn declarations_are_refused_in_rabbitmqs_words() {
    use ErrorKind::{AccessRefused, PreconditionFailed};
    let rig = Rig::new();
    rig.queue(&mut rig.channel(), "q", &[]);
    let cases = [
        (
            QueueDeclare { durable: false, ..durable("q", &[]) },
            (
                PreconditionFailed,
                "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
            ),
        ),
        (
            durable("q", &[("x-max-length", Value::I32(7))]),
            (
                PreconditionFailed,
                "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '7' \
                 of type 'signedint' but current is none",
            ),
        ),
        (
            durable("amq.mine", &[]),
            (AccessRefused, "queue name 'amq.mine' contains reserved prefix 'amq.*'"),
        ),
        (
            durable("new", &[("x-message-ttl", Value::I32(-1))]),
            (
                PreconditionFailed,
                "invalid arg 'x-message-ttl' for queue 'new' in vhost '/': {value_negative,-1}",
            ),
        ),
    ];
    for (queue, (kind, text)) in cases {
        assert_eq!(refusal(&rig, queue), (kind, text.to_owned()));
    }
}

fn publish(
    broker: &Broker,
    channel: &mut Channel,
    exchange: &str,
    properties: bytes::Bytes,
) -> String {
    let body = bytes::Bytes::new();
    let publish = Publish { exchange, routing_key: "k", properties, body };
    broker.publish(channel, publish).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
}

#[test]
fn publishes_are_refused_in_rabbitmqs_words() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let exchange = ExchangeDeclare {
        name: "inside",
        kind: "direct",
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: Arguments::new(),
    };
    rig.broker().declare_exchange(&mut channel, exchange).unwrap();
    let mut say = |exchange, properties| publish(rig.broker(), &mut channel, exchange, properties);
    assert_eq!(say("nope", persistent()), "no exchange 'nope' in vhost '/'");
    assert_eq!(
        say("inside", persistent()),
        "cannot publish to internal exchange 'inside' in vhost '/'"
    );
    assert_eq!(say("", expiring("abc")), "invalid expiration 'abc': no_integer");
    assert_eq!(say("", persistent()), "fine");
}

#[test]
fn a_user_may_do_what_it_is_permitted_and_that_survives() {
    let rig = Rig::new();
    rig.broker().set_user("anna", b"secret", Vec::new()).unwrap();
    assert!(rig.broker().authenticate("anna", b"wrong", Peer::Remote).is_none());
    let login = rig.broker().authenticate("anna", b"secret", Peer::Remote).unwrap();
    let refused = rig.broker().connect(login.clone(), "/").unwrap_err();
    assert_eq!(refused.text(), "access to vhost '/' refused for user 'anna'");
    let permission = PermissionImage {
        configure: "^anna-".to_owned(),
        write: ".*".to_owned(),
        read: String::new(),
    };
    rig.broker().set_permissions("anna", "/", permission).unwrap();
    rig.sync();
    let rig = rig.restarted();
    let login = rig.broker().authenticate("anna", b"secret", Peer::Remote).unwrap();
    let mut channel = rig.broker().open_channel(&rig.broker().connect(login, "/").unwrap());
    rig.queue(&mut channel, "anna-1", &[]);
    let refused = rig.broker().declare_queue(&mut channel, durable("other", &[])).unwrap_err();
    assert_eq!(
        refused.text(),
        "configure access to queue 'other' in vhost '/' refused for user 'anna'"
    );
    assert!(rig.broker().get(&mut channel, "anna-1", true).is_err());
    assert!(rig.broker().authenticate("guest", b"guest", Peer::Loopback).is_some());
}

#[test]
fn a_policy_changes_queues_that_exist_and_those_that_come() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "log.a", &[]);
    for body in ["1", "2", "3"] {
        rig.publish(&mut channel, "log.a", body);
    }
    rig.sync();
    let policy = PolicyImage {
        name: "short".to_owned(),
        pattern: "^log".to_owned(),
        apply_to: "queues".to_owned(),
        priority: 0,
        definition: [("max-length", Value::I32(1))].into_iter().collect(),
    };
    rig.broker().set_policy("/", policy).unwrap();
    rig.sync();
    assert_eq!(rig.ready(&mut channel, "log.a"), 1);
    let rig = rig.restarted();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "log.b", &[]);
    for queue in ["log.a", "log.b"] {
        rig.publish(&mut channel, queue, "4");
        rig.publish(&mut channel, queue, "5");
        rig.sync();
        assert_eq!([rig.body(&mut channel, queue), rig.body(&mut channel, queue)], ["5", "-"]);
    }
    rig.broker().delete_policy("/", "short").unwrap();
    rig.publish(&mut channel, "log.a", "6");
    rig.publish(&mut channel, "log.a", "7");
    rig.sync();
    assert_eq!(rig.ready(&mut channel, "log.a"), 2);
}

#[test]
fn an_unroutable_message_takes_the_alternate_exchange() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.exchange(&mut channel, "rest", "fanout");
    rig.queue(&mut channel, "left", &[]);
    rig.bind(&mut channel, "left", "rest", "");
    let exchange = ExchangeDeclare {
        name: "main",
        kind: "direct",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: [("alternate-exchange", Value::text("rest"))].into_iter().collect(),
    };
    rig.broker().declare_exchange(&mut channel, exchange).unwrap();
    assert!(rig.publish_with(&mut channel, "main", "nobody", "odd", persistent()).routed);
    rig.sync();
    assert_eq!(rig.body(&mut channel, "left"), "odd");
}

#[test]
fn a_delayed_message_waits_across_a_restart_and_is_routed_then() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let exchange = ExchangeDeclare {
        name: "later",
        kind: "x-delayed-message",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: [("x-delayed-type", Value::text("direct"))].into_iter().collect(),
    };
    rig.broker().declare_exchange(&mut channel, exchange).unwrap();
    rig.queue(&mut channel, "q", &[]);
    rig.bind(&mut channel, "q", "later", "k");
    for (body, ms) in [("slow", 5000), ("fast", 1000)] {
        let delayed = headers(&[("x-delay", Value::I32(ms))]);
        assert!(rig.publish_with(&mut channel, "later", "k", body, delayed).routed);
    }
    rig.publish_with(&mut channel, "later", "k", "now", persistent());
    rig.sync();
    assert_eq!([rig.body(&mut channel, "q"), rig.body(&mut channel, "q")], ["now", "-"]);
    rig.pass(1000);
    assert_eq!([rig.body(&mut channel, "q"), rig.body(&mut channel, "q")], ["fast", "-"]);
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    rig.pass(3999);
    assert_eq!(rig.body(&mut channel, "q"), "-");
    rig.pass(1);
    let slow = rig.get(&mut channel, "q").unwrap();
    assert_eq!((text(&slow.body), &*slow.exchange), ("slow".to_owned(), "later"));
    assert!(headers_of(&slow.properties).get("x-death").is_none());
}

#[test]
fn a_queue_gets_what_its_exchange_remembers_when_it_is_bound() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let exchange = ExchangeDeclare {
        name: "news",
        kind: "x-recent-history",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: [("x-recent-history-length", Value::I32(2))].into_iter().collect(),
    };
    rig.broker().declare_exchange(&mut channel, exchange).unwrap();
    for body in ["a", "b", "c"] {
        rig.publish_with(&mut channel, "news", "", body, persistent());
    }
    let secret = headers(&[("x-recent-history-no-store", Value::Bool(true))]);
    rig.publish_with(&mut channel, "news", "", "secret", secret);
    rig.queue(&mut channel, "q", &[]);
    rig.bind(&mut channel, "q", "news", "");
    rig.bind(&mut channel, "q", "news", ""); // nothing new
    rig.sync();
    let mut body = || rig.body(&mut channel, "q");
    assert_eq!([body(), body(), body()], ["b", "c", "-"]);
}
