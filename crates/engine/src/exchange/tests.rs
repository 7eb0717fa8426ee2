//! Routing as a user sees it, then against a model that knows no index.

use std::collections::BTreeSet;

use super::*;

/// A virtual host whose queues are `q0` to `q9`.
struct Host(Topology);

impl Host {
    fn new() -> Self {
        let mut topology = Topology::new();
        (0..10).for_each(|n| topology.add_queue(&format!("q{n}"), StreamId(n)));
        Self(topology)
    }

    /// `"x topic"`, `"x fanout auto_delete internal ae=y"`
    fn declare(&mut self, text: &str) -> Result<bool, DeclareError> {
        let mut parts = text.split(' ');
        let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
        let mut arguments = Arguments::new();
        let (mut auto_delete, mut internal) = (false, false);
        for part in parts {
            match part.split_once('=') {
                Some(("ae", to)) => arguments.set("alternate-exchange", Value::text(to)),
                Some((key, to)) => arguments.set(key, Value::text(to)),
                None if part == "auto_delete" => auto_delete = true,
                None => internal = true,
            }
        }
        let exchange = Exchange::new(name, kind, arguments)?;
        self.0.declare(Exchange { auto_delete, internal, ..exchange })
    }

    fn bind(&mut self, source: &str, to: &str, key: &str) -> bool {
        self.0.bind(binding(source, to, key, Arguments::new())).unwrap()
    }

    fn unbind(&mut self, source: &str, to: &str, key: &str) -> Removed {
        self.0.unbind(&binding(source, to, key, Arguments::new())).unwrap()
    }

    fn route(&self, exchange: &str, key: &str) -> String {
        self.route_keys(exchange, &[key], &Arguments::new())
    }

    fn route_headers(&self, exchange: &str, headers: &Arguments) -> String {
        self.route_keys(exchange, &[""], headers)
    }

    fn route_keys(&self, exchange: &str, keys: &[&str], headers: &Arguments) -> String {
        let found = self.0.route(exchange, &publication(keys, headers)).unwrap();
        found.queues.iter().map(|queue| format!("q{}", queue.0)).collect::<Vec<_>>().join(" ")
    }
}

/// `q1` is a queue, everything else an exchange.
fn binding(source: &str, to: &str, key: &str, arguments: Arguments) -> Binding {
    let destination = match to.strip_prefix('q').and_then(|n| n.parse().ok()) {
        Some(n) => Destination::Queue(StreamId(n)),
        None => Destination::Exchange(to.into()),
    };
    Binding { source: source.into(), destination, key: key.into(), arguments }
}

fn publication<'a>(keys: &'a [&'a str], headers: &'a Arguments) -> Publication<'a> {
    Publication {
        keys,
        headers,
        message_id: None,
        correlation_id: None,
        timestamp: None,
        chance: 0,
    }
}

fn table<const N: usize>(values: [(&str, Value); N]) -> Arguments {
    values.into_iter().collect()
}

#[test]
fn the_default_exchange_reaches_every_queue_by_its_name() {
    let host = Host::new();
    assert_eq!(host.route("", "q3"), "q3");
    assert_eq!(host.route("", "nowhere"), "");
    assert_eq!(host.route_keys("", &["q3", "q1", "q3"], &Arguments::new()), "q1 q3");
}

#[test]
fn a_direct_exchange_compares_the_whole_key() {
    let mut host = Host::new();
    host.bind("amq.direct", "q1", "created");
    host.bind("amq.direct", "q2", "created");
    host.bind("amq.direct", "q3", "shipped");
    assert_eq!(host.route("amq.direct", "created"), "q1 q2");
    assert_eq!(host.route("amq.direct", "create"), "");
    assert_eq!(
        host.route_keys("amq.direct", &["created", "shipped"], &Arguments::new()),
        "q1 q2 q3"
    );
    host.unbind("amq.direct", "q1", "created");
    assert_eq!(host.route("amq.direct", "created"), "q2");
}

#[test]
fn a_queue_bound_twice_gets_the_message_once() {
    let mut host = Host::new();
    assert!(host.bind("amq.fanout", "q1", "a") && host.bind("amq.fanout", "q1", "b"));
    assert!(!host.bind("amq.fanout", "q1", "a"), "the same binding is no second one");
    assert_eq!(host.route("amq.fanout", "ignored"), "q1");
    host.unbind("amq.fanout", "q1", "a");
    assert_eq!(host.route("amq.fanout", "ignored"), "q1");
    host.unbind("amq.fanout", "q1", "b");
    assert_eq!(host.route("amq.fanout", "ignored"), "");
}

// AMQP 0-9-1 §3.1.3.3 and the acceptance table of the seed
#[test]
fn topic_words_and_wildcards() {
    let keys =
        ["", "error", "logs", "app.error", "logs.app", "logs.app.error", "app.error.disk", "a."];
    let cases: [(&str, &[&str]); 13] = [
        ("*.error", &["app.error"]),
        ("logs.#", &["logs", "logs.app", "logs.app.error"]),
        ("#", &keys),
        ("*.*.error", &["logs.app.error"]),
        ("#.error", &["error", "app.error", "logs.app.error"]),
        ("app.#.disk", &["app.error.disk"]),
        ("#.#", &keys),
        ("*", &["error", "logs"]),
        ("", &[""]),
        ("*.*", &["app.error", "logs.app", "a."]),
        ("#.app.#", &["app.error", "logs.app", "logs.app.error", "app.error.disk"]),
        (
            "#.*",
            &["error", "logs", "app.error", "logs.app", "logs.app.error", "app.error.disk", "a."],
        ),
        ("log", &[]),
    ];
    for (pattern, hits) in cases {
        let mut host = Host::new();
        host.bind("amq.topic", "q1", pattern);
        for key in keys {
            let expected = if hits.contains(&key) { "q1" } else { "" };
            assert_eq!(host.route("amq.topic", key), expected, "{pattern} against {key:?}");
        }
    }
}

#[test]
fn a_pattern_made_to_explode_costs_words_times_nodes() {
    let mut trie = topic::Trie::default();
    let pattern = "#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.a.#.b";
    trie.insert(pattern, Destination::Queue(StreamId(1)));
    let mut found = Vec::new();
    let key = vec!["a"; 127].join(".");
    trie.collect(&key, &mut found);
    assert!(found.is_empty(), "there is no b");
}

#[test]
fn the_trie_shrinks_with_its_patterns() {
    let mut trie = topic::Trie::default();
    let queue = Destination::Queue(StreamId(1));
    for pattern in ["a.b.c", "a.*.#", "a.b", "#"] {
        trie.insert(pattern, queue.clone());
    }
    assert_eq!(trie.live_nodes(), 7);
    for pattern in ["a.b.c", "a.*.#", "a.b", "#"] {
        trie.remove(pattern, &queue);
    }
    assert_eq!(trie.live_nodes(), 1);
}

#[test]
fn headers_all_and_any() {
    let mut host = Host::new();
    let fields = [("format", Value::text("pdf")), ("type", Value::text("report"))];
    for (queue, mode) in [("q1", "all"), ("q2", "any"), ("q3", "any-with-x"), ("q4", "all-with-x")]
    {
        let mut arguments = table(fields.clone());
        arguments.set("x-match", Value::text(mode));
        arguments.set("x-tenant", Value::I32(7));
        host.0.bind(binding("amq.headers", queue, "", arguments)).unwrap();
    }
    assert!(host.0.reads_headers());
    assert_eq!(host.route_headers("amq.headers", &table(fields.clone())), "q1 q2 q3");
    let mut all = table(fields.clone());
    all.set("x-tenant", Value::I64(7));
    assert_eq!(host.route_headers("amq.headers", &all), "q1 q2 q3 q4");
    assert_eq!(
        host.route_headers("amq.headers", &table([("type", Value::text("report"))])),
        "q2 q3"
    );
    assert_eq!(host.route_headers("amq.headers", &table([("x-tenant", Value::I32(7))])), "q3");
    assert_eq!(host.route_headers("amq.headers", &table([("type", Value::text("log"))])), "");
}

#[test]
fn headers_corner_cases_of_rabbitmq() {
    let mut host = Host::new();
    host.bind("amq.headers", "q1", "");
    let any = table([("x-match", Value::text("any"))]);
    host.0.bind(binding("amq.headers", "q2", "", any)).unwrap();
    assert_eq!(
        host.route_headers("amq.headers", &Arguments::new()),
        "q1",
        "empty: all yes, any no"
    );
    let present = table([("trace", Value::Void)]);
    host.0.bind(binding("amq.match", "q3", "", present)).unwrap();
    assert_eq!(host.route_headers("amq.match", &table([("trace", Value::Bool(false))])), "q3");
    assert_eq!(host.route_headers("amq.match", &Arguments::new()), "");

    let text = |value| {
        let bad = binding("amq.headers", "q1", "", table([("x-match", value)]));
        host.0.bind(bad).unwrap_err().to_string()
    };
    let mut text = text;
    assert_eq!(
        text(Value::text("zz")),
        "Invalid x-match field value <<\"zz\">>; expected all, any, all-with-x, or any-with-x"
    );
    assert_eq!(
        text(Value::I32(1)),
        "Invalid x-match field type signedint (value 1); expected longstr"
    );
}

#[test]
fn exchanges_bound_in_a_circle_give_each_queue_one_copy() {
    let mut host = Host::new();
    for name in ["a", "b", "c"] {
        host.declare(&format!("{name} fanout")).unwrap();
    }
    for (from, to) in
        [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a"), ("b", "q1"), ("c", "q1"), ("c", "q2")]
    {
        host.bind(from, to, "");
    }
    assert_eq!(host.route("a", "k"), "q1 q2");
    assert_eq!(host.route("c", "k"), "q1 q2");
}

#[test]
fn an_alternate_exchange_takes_what_nothing_else_wants() {
    let mut host = Host::new();
    host.declare("main direct ae=spare").unwrap();
    assert_eq!(host.route("main", "k"), "", "a missing alternate is no error");
    host.declare("spare fanout ae=main").unwrap();
    host.bind("main", "q1", "k");
    assert_eq!(host.route("main", "k"), "q1");
    assert_eq!(host.route("main", "other"), "", "two alternates of each other end");
    host.bind("spare", "q2", "");
    assert_eq!(host.route("main", "other"), "q2");
    assert_eq!(host.route("main", "k"), "q1");

    host.declare("plain direct").unwrap();
    host.0.set_policy_alternate("plain", Some("spare".into()));
    assert_eq!(host.route("plain", "x"), "q2");
    host.0.set_policy_alternate("plain", None);
    assert_eq!(host.route("plain", "x"), "");
}

#[test]
fn an_internal_exchange_is_reached_only_over_a_binding() {
    let mut host = Host::new();
    host.declare("inner fanout internal").unwrap();
    host.bind("inner", "q1", "");
    host.bind("amq.direct", "inner", "k");
    let none = Arguments::new();
    assert_eq!(host.0.route("inner", &publication(&["k"], &none)), Err(RouteError::Internal));
    assert_eq!(host.0.route("missing", &publication(&["k"], &none)), Err(RouteError::NoExchange));
    assert_eq!(host.route("amq.direct", "k"), "q1");
}

#[test]
fn auto_delete_goes_with_the_last_binding_and_cascades() {
    let mut host = Host::new();
    host.declare("a fanout auto_delete").unwrap();
    host.declare("b fanout auto_delete").unwrap();
    host.bind("a", "b", "");
    host.bind("b", "q1", "");
    host.bind("b", "q2", "");
    assert!(host.unbind("b", "q1", "").exchanges.is_empty());
    let removed = host.0.remove_queue("q2");
    assert_eq!(removed.exchanges, ["b".into(), "a".into()] as [ExchangeName; 2]);
    assert_eq!(removed.bindings.len(), 2);
    assert!(host.0.exchange("a").is_none() && host.0.exchange("b").is_none());
    assert!(host.0.bindings_to(&Destination::Queue(StreamId(2))).is_empty());
}

#[test]
fn a_deleted_exchange_takes_its_bindings_along_and_a_missing_one_is_no_error() {
    let mut host = Host::new();
    host.declare("a topic").unwrap();
    host.bind("a", "q1", "#");
    host.bind("amq.fanout", "a", "");
    assert_eq!(host.0.delete("a", true), Err(DeleteError::InUse));
    assert_eq!(host.0.delete("a", false).unwrap().bindings.len(), 2);
    assert_eq!(host.route("amq.fanout", ""), "");
    assert_eq!(host.0.delete("a", true), Ok(Removed::default()));
    assert_eq!(host.0.delete("amq.topic", false), Err(DeleteError::SystemExchange));
    assert_eq!(host.0.delete("", false), Err(DeleteError::DefaultExchange));
}

#[test]
fn names_that_are_not_the_clients() {
    let mut host = Host::new();
    assert_eq!(host.declare("amq.mine direct"), Err(DeclareError::ReservedName));
    assert_eq!(host.declare(" direct"), Err(DeclareError::DefaultExchange));
    assert_eq!(host.declare("x zz").unwrap_err().to_string(), "unknown exchange type 'zz'");
    let default = |to| host.0.bind(binding("", to, "k", Arguments::new())).unwrap_err();
    let mut default = default;
    assert_eq!(default("q1"), BindError::DefaultExchange);
    assert_eq!(
        host.0.bind(binding("amq.topic", "", "k", Arguments::new())),
        Err(BindError::DefaultExchange)
    );
    assert_eq!(
        host.0.bind(binding("amq.topic", "nope", "k", Arguments::new())),
        Err(BindError::NoExchange("nope".into()))
    );
    assert_eq!(clean_name("a\r\nb"), "ab");
}

// research 1.8
#[test]
fn a_redeclared_exchange_must_mean_the_same() {
    let mut host = Host::new();
    assert_eq!(host.declare("tx1 direct"), Ok(true));
    assert_eq!(host.declare("tx1 direct"), Ok(false));
    let mut text = |declaration: &str| match host.declare(declaration) {
        Err(DeclareError::Inequivalent(error)) => error.explain("exchange 'tx1' in vhost '/'"),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        text("tx1 fanout"),
        "inequivalent arg 'type' for exchange 'tx1' in vhost '/': received 'fanout' but current is 'direct'"
    );
    assert_eq!(
        text("tx1 direct internal"),
        "inequivalent arg 'internal' for exchange 'tx1' in vhost '/': received 'true' but current is 'false'"
    );
    assert_eq!(
        text("tx1 direct ae=y"),
        "inequivalent arg 'alternate-exchange' for exchange 'tx1' in vhost '/': received the value 'y' of type 'longstr' but current is none"
    );
    assert_eq!(host.declare("tx1 direct unknown=1"), Ok(false), "unknown arguments do not count");
}

#[test]
fn cc_and_bcc_add_keys_and_must_be_arrays() {
    let list = |keys: &[&str]| Value::Array(keys.iter().map(Value::text).collect());
    let headers = table([("CC", list(&["a", "b"])), ("BCC", list(&["c"]))]);
    assert_eq!(routing_keys("k", &headers).unwrap(), ["k", "a", "b", "c"]);
    let headers = table([("CC", Value::text("a"))]);
    assert_eq!(
        routing_keys("k", &headers).unwrap_err().to_string(),
        "invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
    );
}

#[test]
fn a_consistent_hash_spreads_by_weight_and_moves_little() {
    let mut host = Host::new();
    host.declare("h x-consistent-hash").unwrap();
    for (queue, weight) in [("q1", "10"), ("q2", "10"), ("q3", "20")] {
        host.bind("h", queue, weight);
    }
    let spread =
        |host: &Host| (0..4000).map(|n| host.route("h", &format!("key-{n}"))).collect::<Vec<_>>();
    let before = spread(&host);
    let share = before.iter().filter(|queue| *queue == "q3").count();
    assert!((1800..2200).contains(&share), "q3 got {share} of 4000");
    host.bind("h", "q4", "10");
    let after = spread(&host);
    let moved: BTreeSet<_> =
        before.iter().zip(&after).filter(|(a, b)| a != b).map(|(_, b)| b).collect();
    assert_eq!(moved, BTreeSet::from([&"q4".to_owned()]), "only to the new queue");
    assert_eq!(
        host.0.bind(binding("h", "q5", "heavy", Arguments::new())).unwrap_err().to_string(),
        "The binding key must be an integer: 'heavy'"
    );
}

#[test]
fn a_modulus_hash_ignores_the_binding_key_and_a_random_exchange_takes_one() {
    let mut host = Host::new();
    host.declare("m x-modulus-hash").unwrap();
    host.declare("r x-random").unwrap();
    for queue in ["q1", "q2", "q3"] {
        host.bind("m", queue, queue);
        host.bind("r", queue, "");
    }
    let hit: BTreeSet<_> = (0..100).map(|n| host.route("m", &n.to_string())).collect();
    assert_eq!(hit.len(), 3);
    assert_eq!(host.route("m", "same"), host.route("m", "same"));
    let none = Arguments::new();
    let hit: BTreeSet<_> = (0..100)
        .map(|chance| {
            let one = Publication { chance, ..publication(&["k"], &none) };
            let routes = host.0.route("r", &one).unwrap();
            assert!(!routes.by_keys, "chance had its say");
            routes.queues
        })
        .collect();
    assert!(hit.len() == 3 && hit.iter().all(|queues| queues.len() == 1));
}

#[test]
fn a_delayed_exchange_routes_as_the_type_it_wraps() {
    let mut host = Host::new();
    host.declare("d x-delayed-message x-delayed-type=topic").unwrap();
    host.bind("d", "q1", "a.*");
    assert_eq!(host.route("d", "a.b"), "q1");
    let kind = &host.0.exchange("d").unwrap().kind;
    assert_eq!(
        (kind.name(), kind.delay(&table([("x-delay", Value::I32(500))]))),
        ("x-delayed-message", Some(500))
    );
    assert_eq!(kind.delay(&table([("x-delay", Value::I32(-1))])), None);
    assert!(host.declare("e x-delayed-message").is_err());
    assert!(host.declare("e x-delayed-message x-delayed-type=x-delayed-message").is_err());
}

/// A model without any index: every binding tried for every message.
#[test]
fn the_index_agrees_with_trying_every_binding() {
    for seed in 0..60u64 {
        let mut chance = Chance(seed);
        let mut host = Host::new();
        let kind = ["direct", "fanout", "topic"][chance.below(3)];
        host.declare(&format!("x {kind}")).unwrap();
        let mut model: Vec<(usize, String)> = Vec::new();
        for _ in 0..120 {
            let queue = chance.below(10);
            let key = chance.key(kind == "topic");
            if chance.below(3) == 0 && !model.is_empty() {
                let (queue, key) = model.swap_remove(chance.below(model.len()));
                host.unbind("x", &format!("q{queue}"), &key);
            } else {
                let fresh = host.bind("x", &format!("q{queue}"), &key);
                assert_eq!(fresh, !model.contains(&(queue, key.clone())), "seed {seed}");
                if fresh {
                    model.push((queue, key));
                }
            }
            let key = chance.key(false);
            let hit = |pattern: &str| match kind {
                "direct" => pattern == key,
                "fanout" => true,
                _ => topic_matches(&split(pattern), &split(&key)),
            };
            let expected: BTreeSet<usize> =
                model.iter().filter(|(_, p)| hit(p)).map(|(q, _)| *q).collect();
            let expected: Vec<String> = expected.iter().map(|q| format!("q{q}")).collect();
            assert_eq!(
                host.route("x", &key),
                expected.join(" "),
                "seed {seed}: {kind}, key {key:?}"
            );
        }
        for n in 0..10 {
            host.0.remove_queue(&format!("q{n}"));
        }
        assert!(host.0.bindings_from("x").is_empty(), "seed {seed}");
    }
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            topic_matches(rest, key) || (!key.is_empty() && topic_matches(pattern, &key[1..]))
        }
        ([word, rest @ ..], [first, more @ ..]) => {
            (*word == "*" || word == first) && topic_matches(rest, more)
        }
        _ => false,
    }
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn key(&mut self, wildcards: bool) -> String {
        let words: &[&str] =
            if wildcards { &["a", "b", "*", "#", ""] } else { &["a", "b", "c", ""] };
        let length = self.below(5);
        (0..length).map(|_| words[self.below(words.len())]).collect::<Vec<_>>().join(".")
    }
}
