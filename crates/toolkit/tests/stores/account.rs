//! The seed's account, which the other tests use too.

use ottla::decider::{self, Decider, EventSet, Scope, given};
use ottla::events::{At, EventStore, Expect, Meta, NewEvent};
use ottla::{Error, Timestamp};
use serde::{Deserialize, Serialize};

use crate::support::Fresh;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Event {
    AccountCreated { id: String, balance: i64 },
    Deposited { amount: i64 },
    Withdrawn { amount: i64 },
}

impl EventSet for Event {}

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Open { id: String },
    Deposit { id: String, amount: i64 },
    Withdraw { id: String, amount: i64 },
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the account has {balance}, {wanted} were wanted")]
pub(crate) struct TooLittle {
    pub(crate) balance: i64,
    pub(crate) wanted: i64,
}

pub(crate) struct Account;

impl Decider for Account {
    type Command = Command;
    type Event = Event;
    type State = i64;
    type Error = TooLittle;
    const SNAPSHOT_EVERY: u64 = 10;

    fn scope(command: &Command) -> Scope {
        let (Command::Open { id } | Command::Deposit { id, .. } | Command::Withdraw { id, .. }) =
            command;
        Scope::stream(format!("account-{id}"))
    }

    fn decide(balance: &i64, command: Command) -> Result<Vec<Event>, TooLittle> {
        match command {
            Command::Open { id } => Ok(vec![Event::AccountCreated { id, balance: 0 }]),
            Command::Deposit { amount: 0, .. } => Ok(vec![]),
            Command::Deposit { amount, .. } => Ok(vec![Event::Deposited { amount }]),
            Command::Withdraw { amount, .. } if amount > *balance => {
                Err(TooLittle { balance: *balance, wanted: amount })
            }
            Command::Withdraw { amount, .. } => Ok(vec![Event::Withdrawn { amount }]),
        }
    }

    fn evolve(balance: &mut i64, event: &Event) {
        match event {
            Event::AccountCreated { balance: first, .. } => *balance = *first,
            Event::Deposited { amount } => *balance += amount,
            Event::Withdrawn { amount } => *balance -= amount,
        }
    }

    fn save(state: &i64) -> Option<Vec<u8>> {
        decider::snapshot(state)
    }

    fn load(saved: &[u8]) -> Option<i64> {
        decider::restore(saved)
    }
}

/// The three events of the seed document.
pub(crate) fn seed() -> [Event; 3] {
    [
        Event::AccountCreated { id: "123".into(), balance: 0 },
        Event::Deposited { amount: 100 },
        Event::Withdrawn { amount: 30 },
    ]
}

pub(crate) async fn append(
    store: &EventStore,
    stream: &str,
    events: &[Event],
) -> Result<u64, Error> {
    let mint = store.db().mint();
    let story = Meta::begin(mint);
    let events = events.iter().map(|event| NewEvent::of(event, &story, mint));
    let mut tx = store.db().begin().await?;
    let appended =
        store.append(&mut tx, stream, Expect::Any, events.collect::<Result<_, _>>()?).await?;
    tx.commit().await?;
    Ok(appended.version)
}

#[test]
fn decisions_need_no_runtime() {
    given::<Account>([])
        .when(Command::Open { id: "1".into() })
        .then([Event::AccountCreated { id: "1".into(), balance: 0 }]);
    given::<Account>(seed())
        .when(Command::Withdraw { id: "123".into(), amount: 70 })
        .then([Event::Withdrawn { amount: 70 }])
        .then_state(&0);
    given::<Account>(seed())
        .when(Command::Withdraw { id: "123".into(), amount: 71 })
        .then_refused(&TooLittle { balance: 70, wanted: 71 });
    given::<Account>(seed()).when(Command::Deposit { id: "123".into(), amount: 0 }).then_nothing();
}

#[test]
#[should_panic(expected = "other events happened")]
fn the_harness_sees_a_wrong_decision() {
    given::<Account>(seed())
        .when(Command::Withdraw { id: "123".into(), amount: 70 })
        .then([Event::Withdrawn { amount: 69 }]);
}

#[tokio::test]
async fn the_seed_gives_70_and_100_after_the_second_event() {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    let mut times = Vec::new();
    for event in seed() {
        append(&store, "account-123", &[event]).await.unwrap();
        times.push(fresh.db.mint().now());
        tokio::time::sleep(std::time::Duration::from_millis(3)).await; // another millisecond
    }
    let at = async |at| store.load::<Account>("account-123", at).await.unwrap();
    assert_eq!(at(At::Latest).await.state, 70);
    assert_eq!(at(At::Version(2)).await.state, 100);
    assert_eq!(at(At::Time(times[1])).await.state, 100);
    assert_eq!(at(At::Time(Timestamp(0))).await.state, 0);
    assert_eq!(at(At::Latest).await.version, 3);

    let trail = store.history("account-123", 0, At::Latest, 10).await.unwrap();
    let names: Vec<_> = trail.iter().map(|event| event.envelope.name.as_str()).collect();
    assert_eq!(names, ["AccountCreated", "Deposited", "Withdrawn"]);
    assert_eq!(trail[1].envelope.body, &br#"{"amount":100}"#[..]);
}
