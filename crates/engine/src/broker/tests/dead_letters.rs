//! Rejected, expired, too many, tried too often: one frame out of the queue and on.

use ottla_store::Durability;

use super::rig::*;
use crate::Options;
use crate::broker::Channel;
use crate::queue::Outcome;
use crate::value::{Arguments, Value};

fn dead_letters(rig: &Rig, channel: &mut Channel, more: &[(&str, Value)]) {
    rig.exchange(channel, "dlx", "direct");
    rig.queue(channel, "dead", &[]);
    rig.bind(channel, "dead", "dlx", "orders");
    let own = [
        ("x-dead-letter-exchange", Value::text("dlx")),
        ("x-dead-letter-routing-key", Value::text("orders")),
    ];
    rig.queue(channel, "q", &[&own[..], more].concat());
}

fn newest_death(headers: &Arguments) -> Arguments {
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("no death: {headers}") };
    let Some(Value::Table(newest)) = deaths.first() else { panic!("no table") };
    newest.clone()
}

fn reason(headers: &Arguments) -> String {
    newest_death(headers).get("reason").and_then(Value::as_str).unwrap().to_owned()
}

#[test]
fn a_rejected_message_moves_with_the_traces_of_its_death() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    dead_letters(&rig, &mut channel, &[]);
    let kept = headers(&[("kept", Value::text("yes"))]);
    rig.publish_with(&mut channel, "", "q", "poison", kept);
    rig.sync();
    let got = rig.get(&mut channel, "q").unwrap();
    rig.settle(&channel, &got, Outcome::Dead);
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!(rig.ready(&mut channel, "q"), 0, "it is in one place");
    let dead = rig.get(&mut channel, "dead").unwrap();
    assert_eq!((&*dead.exchange, &*dead.routing_key), ("dlx", "orders"));
    let headers = headers_of(&dead.properties);
    let death = newest_death(&headers);
    assert_eq!(headers.get("kept"), Some(&Value::text("yes")));
    assert_eq!(reason(&headers), "rejected");
    assert_eq!(death.get("queue"), Some(&Value::text("q")));
    assert_eq!(death.get("count"), Some(&Value::I64(1)));
}

#[test]
fn a_message_whose_time_is_over_moves_when_the_clock_says_so() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    dead_letters(&rig, &mut channel, &[("x-message-ttl", Value::I32(300))]);
    rig.publish(&mut channel, "q", "late");
    rig.publish_with(&mut channel, "", "q", "early", expiring("100"));
    rig.sync();
    rig.pass(150);
    let early = rig.get(&mut channel, "dead").unwrap();
    assert_eq!(text(&early.body), "early", "it expires behind one that lives longer");
    let headers = headers_of(&early.properties);
    assert_eq!(newest_death(&headers).get("original-expiration"), Some(&Value::text("100")));
    assert_eq!(rig.ready(&mut channel, "q"), 1);
    let rig = rig.restarted();
    let mut channel = rig.channel();
    rig.pass(149);
    assert_eq!(rig.ready(&mut channel, "q"), 1);
    rig.pass(1);
    let headers = headers_of(&rig.get(&mut channel, "dead").unwrap().properties);
    assert_eq!(reason(&headers), "expired");
    rig.body(&mut channel, "dead");
    assert_eq!(rig.body(&mut channel, "q"), "-");
}

#[test]
fn a_queue_that_delays_hands_over_to_the_main_one() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "main", &[]);
    let arguments = [
        ("x-dead-letter-exchange", Value::text("")),
        ("x-dead-letter-routing-key", Value::text("main")),
        ("x-message-ttl", Value::I32(500)),
    ];
    let delay = crate::broker::QueueDeclare { durable: false, ..durable("delay", &arguments) };
    rig.broker().declare_queue(&mut channel, delay).unwrap();
    rig.publish_with(&mut channel, "", "delay", "later", transient());
    rig.pass(499);
    assert_eq!(rig.body(&mut channel, "main"), "-");
    rig.pass(1);
    assert_eq!(rig.body(&mut channel, "main"), "later");
}

#[test]
fn the_one_too_many_leaves_at_the_head() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    dead_letters(&rig, &mut channel, &[("x-max-length", Value::I32(2))]);
    for body in ["1", "2", "3"] {
        rig.publish(&mut channel, "q", body);
    }
    rig.sync();
    let dead = rig.get(&mut channel, "dead").unwrap();
    assert_eq!(text(&dead.body), "1");
    assert_eq!(reason(&headers_of(&dead.properties)), "maxlen");
    assert_eq!(rig.ready(&mut channel, "q"), 2);
}

#[test]
fn a_full_queue_may_refuse_instead() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let arguments =
        |overflow: &str| [("x-max-length", Value::I32(1)), ("x-overflow", Value::text(overflow))];
    rig.exchange(&mut channel, "all", "fanout");
    rig.queue(&mut channel, "other", &[]);
    rig.bind(&mut channel, "other", "all", "");
    dead_letters(&rig, &mut channel, &arguments("reject-publish-dlx"));
    rig.bind(&mut channel, "q", "all", "");
    let fits = rig.publish_with(&mut channel, "all", "", "fits", persistent());
    let much = rig.publish_with(&mut channel, "all", "", "too many", persistent());
    assert_eq!((fits.rejected, much.rejected), (false, true));
    rig.sync();
    assert_eq!(rig.ready(&mut channel, "other"), 2, "the others keep what one refuses");
    assert_eq!(rig.ready(&mut channel, "q"), 1);
    assert_eq!(rig.body(&mut channel, "dead"), "too many");
}

#[test]
fn a_message_that_fails_too_often_is_given_up_and_its_count_survives() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let limit = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::I32(2))];
    dead_letters(&rig, &mut channel, &limit);
    rig.publish(&mut channel, "q", "poison");
    rig.sync();
    let count = |properties: &bytes::Bytes| {
        headers_of(properties).get("x-delivery-count").and_then(Value::as_int)
    };
    for expected in [None, Some(1)] {
        let got = rig.get(&mut channel, "q").unwrap();
        assert_eq!(count(&got.properties), expected);
        rig.settle(&channel, &got, Outcome::Reject);
    }
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    let got = rig.get(&mut channel, "q").unwrap();
    assert_eq!(count(&got.properties), Some(2));
    rig.settle(&channel, &got, Outcome::Reject);
    rig.sync();
    let dead = rig.get(&mut channel, "dead").unwrap();
    assert_eq!(reason(&headers_of(&dead.properties)), "delivery_limit");
    assert_eq!(rig.body(&mut channel, "q"), "-");
}

#[test]
fn a_nack_counts_toward_the_limit_where_the_node_says_so_also_after_a_restart() {
    for (nack_counts, given_up) in [(true, true), (false, false)] {
        let mut options = Options::new(Durability::Sync, 7);
        options.queues.nack_counts = nack_counts;
        let rig = Rig::with(options);
        let mut channel = rig.channel();
        let limit = [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::I32(2))];
        dead_letters(&rig, &mut channel, &limit);
        rig.publish(&mut channel, "q", "shaky");
        rig.sync();
        let nack = |rig: &Rig, channel: &mut Channel| {
            let got = rig.get(channel, "q").unwrap();
            rig.settle(channel, &got, Outcome::Nack);
            rig.sync();
        };
        nack(&rig, &mut channel);
        nack(&rig, &mut channel);
        let rig = rig.restarted();
        let mut channel = rig.channel();
        nack(&rig, &mut channel);
        let expected = if given_up { ("-", "shaky") } else { ("shaky", "-") };
        assert_eq!(rig.body(&mut channel, "q"), expected.0);
        assert_eq!(rig.body(&mut channel, "dead"), expected.1);
    }
}

#[test]
fn a_message_that_would_go_in_circles_is_dropped() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let to = |queue: &str| {
        [
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text(queue)),
            ("x-message-ttl", Value::I32(10)),
        ]
    };
    rig.queue(&mut channel, "a", &to("b"));
    rig.queue(&mut channel, "b", &to("a"));
    rig.publish(&mut channel, "a", "round");
    rig.sync();
    rig.pass(10);
    assert_eq!((rig.ready(&mut channel, "a"), rig.ready(&mut channel, "b")), (0, 1));
    rig.pass(10);
    assert_eq!((rig.ready(&mut channel, "a"), rig.ready(&mut channel, "b")), (0, 0));
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!((rig.ready(&mut channel, "a"), rig.ready(&mut channel, "b")), (0, 0));
}
