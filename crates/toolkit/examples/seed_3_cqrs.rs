//! The seed's pattern 3, CQRS: commands append and publish in one transaction, questions are answered from a
//! table made for them.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use ottla::cqrs::Commands;
use ottla::db::{Db, Tx};
use ottla::decider::{Decider, EventSet, Scope};
use ottla::events::{EventStore, Meta, Recorded};
use ottla::outbox::{Outbox, Relay, RelayOptions};
use ottla::projection::{Projection, Projector, ProjectorOptions, Tables};
use ottla::{Connection, Failure, params};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    Deposited { amount: i64 },
}
impl EventSet for Event {}

#[derive(Clone)]
struct DepositCommand {
    account: &'static str,
    amount: i64,
}

/// The write side.
struct Account;

impl Decider for Account {
    type Command = DepositCommand;
    type Event = Event;
    type State = i64;
    type Error = std::convert::Infallible;

    fn scope(deposit: &DepositCommand) -> Scope {
        Scope::stream(format!("account-{}", deposit.account))
    }

    fn decide(_: &i64, deposit: DepositCommand) -> Result<Vec<Event>, Self::Error> {
        Ok(vec![Event::Deposited { amount: deposit.amount }])
    }

    fn evolve(balance: &mut i64, Event::Deposited { amount }: &Event) {
        *balance += amount;
    }
}

/// The read side: denormalised, for fast answers.
struct Balances;

impl Projection for Balances {
    const NAME: &'static str = "balances";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["balance"];
    type Event = Event;

    fn create(&self, tables: &Tables) -> String {
        format!("CREATE TABLE {} (account TEXT PRIMARY KEY, amount BIGINT)", tables.name("balance"))
    }

    async fn apply(
        &self,
        tx: &mut Tx,
        tables: &Tables,
        event: &Event,
        of: &Recorded,
    ) -> Result<(), Failure> {
        let (balance, Event::Deposited { amount }) = (tables.name("balance"), event);
        let add = format!(
            "INSERT INTO {balance} VALUES ($1, $2)
             ON CONFLICT (account) DO UPDATE SET amount = {balance}.amount + excluded.amount"
        );
        tx.queue(&add, params![of.stream.as_deref(), *amount].into()).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let db = Db::open("sqlite::memory:").await?; // or postgres://…
    let store = EventStore::open(&db).await?;
    let accounts =
        Commands::<Account>::new(store.clone()).publishing(Outbox::open(&db).await?, "accounts");
    for (account, amount) in [("123", 100), ("456", 7), ("123", 20)] {
        accounts.handle(DepositCommand { account, amount }, &Meta::begin(db.mint())).await?;
    }
    let projector = Projector::open(&store, Balances, ProjectorOptions::default()).await?;
    projector.catch_up().await?; // a service runs `projector.run(stop)`
    for row in db.query("SELECT account, amount FROM balance ORDER BY account", &params![]).await? {
        println!("{} has {}", row.get::<String>(0)?, row.get::<i64>(1)?);
    }
    let broker = Connection::open("memory:").await?;
    let mut relay = Relay::open(&db, broker, RelayOptions::default()).await?;
    println!("{} events published", relay.drain().await?.published);
    Ok(())
}
