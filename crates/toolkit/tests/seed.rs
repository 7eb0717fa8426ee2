//! The programs of `examples/seed`: each runs, ends well and says what it should.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::path::PathBuf;
use std::process::Command;

/// What a program of `crates/toolkit/examples` prints. Cargo has built it: `cargo test` builds examples.
fn told(program: &str) -> Vec<String> {
    let deps: PathBuf = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let path = deps.parent().unwrap().join("examples").join(program);
    assert!(path.exists(), "{} is missing: cargo build -p ottla --examples", path.display());
    let ran = Command::new(&path).output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program}: {}\n{errors}", ran.status);
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn three_consumers_share_nine_images() {
    let lines = told("seed_1_competing_consumers");
    assert_eq!(lines.len(), 10);
    assert_eq!(lines.last().unwrap(), "each of 9 images once; images by consumer: [3, 3, 3]");
}

#[test]
fn an_account_has_seventy_and_had_a_hundred() {
    assert_eq!(
        told("seed_2_event_sourcing"),
        [
            "balance after event 1: 0",
            "balance after event 2: 100",
            "balance after event 3: 70",
            "withdrawing 71 is refused: the account has 70",
        ]
    );
}

#[test]
fn a_read_model_follows_and_events_are_published() {
    assert_eq!(
        told("seed_3_cqrs"),
        ["account-123 has 120", "account-456 has 7", "3 events published"]
    );
}

#[test]
fn an_event_carries_what_its_reader_needs() {
    assert_eq!(
        told("seed_4_event_carried_state_transfer"),
        ["to user@example.com: order 123 goes to 2 Side St"]
    );
}

#[test]
fn three_services_react_and_nobody_directs() {
    let lines = told("seed_5_choreography");
    assert!(lines.contains(&"    orders -->|order.created| payment".to_owned()), "{lines:#?}");
    let done = lines.iter().filter(|line| line.ends_with(" order-1")).cloned().collect();
    assert_eq!(
        sorted(done),
        [
            "inventory reserves for order-1",
            "notification confirms order-1",
            "payment takes money for order-1",
        ]
    );
}

#[test]
fn what_was_done_is_undone_the_last_first() {
    assert_eq!(
        told("seed_6_saga"),
        [
            "reserve_inventory",
            "charge_payment",
            "refuse_to_ship",
            "refund_payment",
            "release_inventory",
            "order-1 is rejected",
        ]
    );
}

#[test]
fn what_commits_is_published_and_what_rolls_back_is_not() {
    let lines = told("seed_7_outbox");
    assert_eq!(lines.get(..2).unwrap(), ["2 messages wait in the outbox", "2 published, 0 left"]);
    let heard = sorted(lines.get(2..).unwrap().to_vec());
    assert_eq!(heard, ["shipping hears of order-1", "shipping hears of order-3"]);
}

#[test]
fn a_dead_letter_is_looked_at_and_sent_back() {
    let lines = told("seed_dead_letters");
    let (first, rest) = lines.split_at(2);
    assert_eq!(sorted(first.to_vec()), ["order-1 is processed", "order-3 is processed"]);
    assert_eq!(
        rest,
        [
            "queue:orders.dead: permanent, an amount is not negative",
            "1 sent back",
            "order-2 is processed",
        ]
    );
}

#[test]
fn a_delayed_message_comes_later_and_not_too_early() {
    assert_eq!(
        told("seed_delay"),
        ["now, not before its time: true", "later, not before its time: true"]
    );
}
