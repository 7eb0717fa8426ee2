//! The seed's pattern 2, event sourcing: the state is a replay of all events, at any moment.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use ottla::db::Db;
use ottla::decider::{Decider, EventSet, Scope};
use ottla::events::{At, EventStore, Meta};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    AccountCreated { id: String, balance: i64 },
    Deposited { amount: i64 },
    Withdrawn { amount: i64 },
}
impl EventSet for Event {}

#[derive(Clone)]
enum Command {
    Create,
    Deposit(i64),
    Withdraw(i64),
}

#[derive(Debug, thiserror::Error)]
#[error("the account has {0}")]
struct TooLittle(i64);

struct Account;

impl Decider for Account {
    type Command = Command;
    type Event = Event;
    type State = i64;
    type Error = TooLittle;

    fn scope(_: &Command) -> Scope {
        Scope::stream("account-123")
    }

    fn decide(balance: &i64, command: Command) -> Result<Vec<Event>, TooLittle> {
        Ok(vec![match command {
            Command::Create => Event::AccountCreated { id: "123".to_owned(), balance: 0 },
            Command::Deposit(amount) => Event::Deposited { amount },
            Command::Withdraw(amount) if amount > *balance => return Err(TooLittle(*balance)),
            Command::Withdraw(amount) => Event::Withdrawn { amount },
        }])
    }

    fn evolve(balance: &mut i64, event: &Event) {
        match event {
            Event::AccountCreated { balance: first, .. } => *balance = *first,
            Event::Deposited { amount } => *balance += amount,
            Event::Withdrawn { amount } => *balance -= amount,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let store = EventStore::open(&Db::open("sqlite::memory:").await?).await?; // or postgres://…
    for command in [Command::Create, Command::Deposit(100), Command::Withdraw(30)] {
        let mut tx = store.db().begin().await?;
        store.handle::<Account>(&mut tx, command, &Meta::begin(store.db().mint())).await?;
        tx.commit().await?;
    }
    for version in 1..=3 {
        let then = store.load::<Account>("account-123", At::Version(version)).await?.state;
        println!("balance after event {version}: {then}");
    }
    let mut tx = store.db().begin().await?;
    let begin = Meta::begin(store.db().mint());
    if let Err(refused) = store.handle::<Account>(&mut tx, Command::Withdraw(71), &begin).await {
        println!("withdrawing 71 is refused: {refused}");
    }
    Ok(())
}
