use super::*;

fn at(ms: u64) -> Now {
    Now { monotonic: Monotonic(ms), wall: Wall(1_000_000) }
}

fn asked(telemetry: &Telemetry, number: u8, now: u64) -> Result<(), ErrorCode> {
    telemetry.ask(client(number), &Subscription::for_test(7, 10_000), at(now))
}

fn client(number: u8) -> ClientMetrics {
    ClientMetrics {
        instance: Uuid([number; 16]),
        client_id: "orders".to_owned(),
        software: Software::default(),
        address: "127.0.0.1:1".parse().unwrap(),
        told: None,
        samples: Vec::new(),
    }
}

fn push(subscription: i32, terminating: bool, metrics: &[u8]) -> Push<'_> {
    Push { instance: Uuid([1; 16]), subscription, terminating, codec: 0, metrics }
}

#[test]
fn a_client_is_asked_once_an_interval_and_again_when_the_question_changed() {
    let telemetry = Telemetry::default();
    asked(&telemetry, 1, 0).unwrap();
    assert_eq!(asked(&telemetry, 1, 10), Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED));
    asked(&telemetry, 1, 6_000).unwrap();
    telemetry.ask(client(1), &Subscription::for_test(8, 10_000), at(6_001)).unwrap();
    let current = Subscription::for_test(8, 10_000);
    let refused = telemetry.push(push(7, false, b""), &current, at(6_002));
    assert_eq!(refused, Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID));
    telemetry.ask(client(1), &current, at(6_003)).unwrap();
}

#[test]
fn what_is_told_too_often_too_large_or_after_the_end_is_refused() {
    let telemetry = Telemetry::default();
    let current = Subscription::for_test(7, 10_000);
    let unknown = telemetry.push(push(7, false, b""), &current, at(0));
    assert_eq!(unknown, Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID));
    asked(&telemetry, 1, 0).unwrap();
    let large = vec![0; PUSH_BYTES_MAX + 1];
    let refused = |push, now| telemetry.push(push, &current, at(now)).unwrap_err();
    assert_eq!(refused(push(7, false, &large), 1), ErrorCode::TELEMETRY_TOO_LARGE);
    assert_eq!(refused(push(7, false, b"\xff"), 1), ErrorCode::INVALID_RECORD);
    let strange = Push { codec: 9, ..push(7, false, b"") };
    assert_eq!(refused(strange, 1), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    telemetry.push(push(7, false, b""), &current, at(1)).unwrap();
    assert_eq!(refused(push(7, false, b""), 2), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    telemetry.push(push(7, true, b""), &current, at(3)).unwrap();
    assert_eq!(refused(push(7, true, b""), 9_000), ErrorCode::INVALID_REQUEST);
    assert_eq!(telemetry.shown()[0].told, Some(Wall(1_000_000)));
}

#[test]
fn the_client_unheard_of_for_longest_makes_room() {
    let telemetry = Telemetry::default();
    for number in 0..CLIENTS_MAX + 5 {
        let mut one = client(0);
        one.instance = Uuid(u128::try_from(number).unwrap().to_be_bytes());
        let now = at(number.try_into().unwrap());
        telemetry.ask(one, &Subscription::for_test(7, 10_000), now).unwrap();
    }
    let shown = telemetry.shown();
    assert_eq!(shown.len(), CLIENTS_MAX);
    assert!(shown.iter().all(|client| client.instance != Uuid([0; 16])));
}
