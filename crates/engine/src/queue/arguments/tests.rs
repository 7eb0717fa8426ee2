//! Declarations as clients make them.

use super::*;

fn table<const N: usize>(values: [(&str, Value); N]) -> Arguments {
    values.into_iter().collect()
}

fn refused(queue_type: QueueType, name: &str, value: impl Into<Value>) -> String {
    let error = Rules::of_arguments(queue_type, &table([(name, value.into())])).unwrap_err();
    error.explain("queue 'q' in vhost '/'")
}

// research 1.8
#[test]
fn bad_arguments_are_refused_in_rabbitmqs_words() {
    use QueueType::{Classic, Quorum, Stream};
    let cases = [
        (Classic, "x-message-ttl", Value::I32(-1), ": {value_negative,-1}"),
        (Classic, "x-message-ttl", Value::from("10"), ": \"expected integer, got longstr\""),
        (Classic, "x-message-ttl", Value::I64(4_294_967_296), ": {value_too_big,4294967296}"),
        (Classic, "x-expires", Value::I32(0), ": {value_zero,0}"),
        (Classic, "x-max-priority", Value::I32(256), ": {max_value_exceeded,256}"),
        (Classic, "x-overflow", Value::from("explode"), ": invalid_overflow"),
        (Classic, "x-dead-letter-exchange", Value::I32(1), ": {unacceptable_type,signedint}"),
        (
            Classic,
            "x-dead-letter-routing-key",
            Value::from("k"),
            ": routing_key_but_no_dlx_defined",
        ),
        (
            Classic,
            "x-single-active-consumer",
            Value::from("yes"),
            ": \"expected boolean, got longstr\"",
        ),
        (Quorum, "x-max-priority", Value::I32(5), " of queue type rabbit_quorum_queue"),
        (
            Quorum,
            "x-overflow",
            Value::from("reject-publish-dlx"),
            " of queue type rabbit_quorum_queue",
        ),
        (Classic, "x-max-age", Value::from("7D"), " of queue type rabbit_classic_queue"),
        (Stream, "x-message-ttl", Value::I32(1), " of queue type rabbit_stream_queue"),
        (Stream, "x-max-age", Value::from("7W"), ": invalid_max_age"),
    ];
    for (queue_type, name, value, end) in cases {
        let expected = format!("invalid arg '{name}' for queue 'q' in vhost '/'{end}");
        assert_eq!(refused(queue_type, name, value), expected);
    }
    let error = QueueType::of(&table([("x-queue-type", "zzz".into())]), Classic);
    assert_eq!(
        error.unwrap_err().explain("queue 'tq3' in vhost '/'"),
        "invalid arg 'x-queue-type' for queue 'tq3' in vhost '/': \"unsupported queue type 'zzz'\""
    );
}

#[test]
fn old_and_unknown_arguments_do_no_harm() {
    let old = table([
        ("x-queue-mode", "lazy".into()),
        ("x-ha-policy", "all".into()),
        ("x-queue-version", 1.into()),
        ("x-mine", Value::Void),
    ]);
    assert_eq!(Rules::of_arguments(QueueType::Classic, &old), Ok(Rules::default()));
}

#[test]
fn arguments_become_settings() {
    let arguments = table([
        ("x-message-ttl", 500.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-delivery-limit", (-1).into()),
        ("x-delayed-retry-type", "failed".into()),
        ("x-delayed-retry-min", 10.into()),
    ]);
    let rules = Rules::of_arguments(QueueType::Quorum, &arguments).unwrap();
    let retry = Some(Retry { on: RetryOn::Failed, min: 10, max: 600_000 });
    assert_eq!(
        rules.settings(QueueType::Quorum, false),
        Settings {
            message_ttl: Some(500),
            dead_letters: true,
            delivery_limit: None,
            retry,
            ..Settings::quorum()
        }
    );
    assert_eq!(Rules::default().settings(QueueType::Quorum, false).delivery_limit, Some(20));
    let aged = Rules::of_arguments(QueueType::Stream, &table([("x-max-age", "7D".into())]));
    assert_eq!(aged.unwrap().max_age, Some(7 * 86_400_000));
}

#[test]
fn a_policy_tightens_numbers_and_fills_gaps() {
    let arguments = table([("x-max-length", 10.into()), ("x-dead-letter-exchange", "mine".into())]);
    let policy = table([
        ("max-length", 5.into()),
        ("message-ttl", 100.into()),
        ("dead-letter-exchange", "theirs".into()),
        ("delivery-limit", 3.into()),
    ]);
    let rules = Rules::of_arguments(QueueType::Classic, &arguments).unwrap();
    let rules = rules.under(Rules::of_policy(&policy).unwrap());
    assert_eq!(
        (rules.max_length, rules.message_ttl, rules.delivery_limit),
        (Some(5), Some(100), Some(3))
    );
    assert_eq!(rules.dead_letter_exchange.as_deref(), Some("mine"));
    assert_eq!(smaller_limit(Some(-1), Some(3)), Some(3));
    assert_eq!(smaller_limit(Some(-1), None), Some(-1));
}

fn declared(queue_type: QueueType, arguments: Arguments) -> Declaration {
    Declaration { durable: true, auto_delete: false, exclusive: false, queue_type, arguments }
}

#[test]
fn a_redeclared_queue_must_mean_the_same() {
    let current =
        declared(QueueType::Classic, table([("x-max-length", 7.into()), ("x-mine", 1.into())]));
    let same = declared(
        QueueType::Classic,
        table([("x-max-length", 7i64.into()), ("x-queue-type", "classic".into())]),
    );
    assert_eq!(current.check_same(&same), Ok(()));
    let text = |received: &Declaration| {
        current.check_same(received).unwrap_err().explain("queue 'q' in vhost '/'")
    };
    assert_eq!(
        text(&declared(QueueType::Classic, Arguments::new())),
        "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is the value '7' of type 'signedint'"
    );
    assert_eq!(
        text(&declared(QueueType::Quorum, Arguments::new())),
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'"
    );
    assert_eq!(
        text(&Declaration { durable: false, ..same }),
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
}

#[test]
fn replicated_types_are_durable_and_shared() {
    let quorum = declared(QueueType::Quorum, Arguments::new());
    assert_eq!(quorum.check_properties(), Ok(()));
    let fault = |declaration: Declaration| declaration.check_properties().unwrap_err().to_string();
    assert_eq!(
        fault(Declaration { durable: false, ..quorum.clone() }),
        "invalid property 'non-durable'"
    );
    assert_eq!(
        fault(Declaration { exclusive: true, ..quorum.clone() }),
        "invalid property 'exclusive-owner'"
    );
    assert_eq!(
        fault(Declaration { auto_delete: true, ..quorum }),
        "invalid property 'auto-delete'"
    );
}
