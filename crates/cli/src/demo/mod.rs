//! `ottla demo`: the order system. Orders, inventory, payment, shipping and notification, each with a
//! database of its own, over one connection line.
//!
//! Sixty orders: some customers cannot pay, the shelf runs empty, one order is poison to the shipping
//! service. At the end money and stock must add up, or the command fails.

mod messages;
mod orders;
mod services;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use ottla::cqrs::Commands;
use ottla::db::Db;
use ottla::dead_letters::DeadLetters;
use ottla::durable::Durable;
use ottla::events::{At, EventStore, Meta};
use ottla::outbox::{Outbox, Relay, RelayOptions};
use ottla::saga::Sagas;
use ottla::service::Health;
use ottla::view::View;
use ottla::{Connection, DeadLetter, Error, Service, params};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::messages::{Price, Ship};
use self::orders::Order;
use self::services::{Account, AccountCommand, Mails};
use crate::broker;
use crate::database::{block_on, failure};
use crate::exit::Failure;

const ORDERS: u64 = 60;
/// How long the services may take: on Apache Kafka a group forms for three seconds, and there are twenty.
const PATIENCE: Duration = Duration::from_secs(120);
/// The order that shipping stumbles over. It is for the only vase: of cups others may take the last.
const POISON: u64 = 0;
const CUPS: i64 = 40;
const VASES: i64 = 1;
const CUSTOMERS: [(&str, i64); 3] = [("ada", 100_000), ("bob", 5_000), (services::NOWHERE, 900)];

pub(crate) fn command() -> Command {
    let on = Arg::new("on").long("on").value_name("LINE").help(
        "the broker it runs on: kafka://HOST:PORT, amqp://USER:PASSWORD@HOST:PORT/VHOST, ottla://HOST:PORT, ottla://embedded?data=DIR or memory:; a broker in a temporary directory unless given",
    );
    Command::new("demo").about("Runs a system of five services and proves that it adds up").arg(on)
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let scratch = std::env::temp_dir().join(format!("ottla-demo-{}", std::process::id()));
    let embedded = || format!("ottla://embedded?data={}", scratch.display());
    let line = arguments.get_one::<String>("on").cloned().unwrap_or_else(embedded);
    std::panic::set_hook(Box::new(|panic| {
        tracing::debug!(%panic, "a handler panicked"); // the service sets its message aside and says so
    }));
    let outcome = block_on(async {
        let broker = broker::open(&line).await?;
        tell(&broker).await.map_err(failure)
    });
    if scratch.exists()
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        say(&format!("{} is left behind: {error}", scratch.display()));
    }
    outcome
}

async fn tell(broker: &Connection) -> Result<(), Error> {
    say(&format!("on {broker}"));
    let mut system = System::start(broker).await?;
    system.until_all_listen().await?;
    let begun = Instant::now();
    system.place_orders().await?;
    system.until_all_have_ended().await?;
    say(&format!("all ended after {:.1} s", begun.elapsed().as_secs_f64()));
    system.prove().await?;
    say(&system.sagas.saga().mermaid());
    system.stop().await
}

/// Everything that runs, and what is needed to look into it.
struct System {
    broker: Connection,
    shop: (Db, Outbox),
    inventory: Db,
    accounts: Commands<Account>,
    sagas: Arc<Sagas<Order>>,
    mails: Arc<Mails>,
    /// What tells this run's orders from those of an earlier one on the same broker.
    run: String,
    listening: Vec<Health>,
    stop: watch::Sender<bool>,
    running: JoinSet<Result<(), Error>>,
}

impl System {
    async fn start(broker: &Connection) -> Result<Self, Error> {
        let shop =
            database("CREATE TABLE orders (id TEXT PRIMARY KEY, item TEXT, cents BIGINT)").await?;
        let inventory = database(
            "CREATE TABLE stock (item TEXT PRIMARY KEY, n BIGINT);
             CREATE TABLE reservation (order_id TEXT PRIMARY KEY, held BOOLEAN NOT NULL)",
        )
        .await?;
        let mut tx = inventory.begin().await?;
        let fill = "INSERT INTO stock VALUES ('cup', $1), ('vase', $2)";
        tx.exec(fill, &params![CUPS, VASES]).await?;
        tx.commit().await?;
        let money = database("").await?;
        let accounts = Commands::<Account>::new(EventStore::open(&money).await?);
        for (customer, cents) in CUSTOMERS {
            let deposit = AccountCommand::Deposit { customer: customer.to_owned(), cents };
            let done = accounts.handle(deposit, &Meta::begin(broker.mint())).await;
            done.map_err(|error| refused("opening an account", &error))?;
        }
        let sagas = Arc::new(Sagas::open(orders::saga(shipped_within(broker)), &shop).await?);
        let mails = Arc::new(Mails::default());
        let outbox = Outbox::open(&shop).await?;
        let (stop, _) = watch::channel(false);
        let mut system = Self {
            broker: broker.clone(),
            shop: (shop, outbox),
            inventory,
            accounts,
            sagas,
            mails,
            run: format!("{:04x}", broker.mint().number() & 0xffff),
            listening: Vec::new(),
            stop,
            running: JoinSet::new(),
        };
        system.run_services(&money).await?;
        Ok(system)
    }

    async fn run_services(&mut self, money: &Db) -> Result<(), Error> {
        let broker = self.broker.clone();
        let inventory = Service::new("inventory", &broker)
            .layer(Durable::open(&self.inventory).await?)
            .on("queue:inventory", services::reserve)
            .on("queue:inventory", services::release);
        let payment = Service::new("payment", &broker)
            .layer(Durable::open(money).await?)
            .state(self.accounts.clone())
            .on("queue:payment", services::charge)
            .on("queue:payment", services::refund);
        let shipping = Service::new("shipping", &broker).on("queue:shipping", services::ship);
        let notification = Service::new("notification", &broker)
            .state(Arc::clone(&self.mails))
            .on("order-ends", services::on_confirmed)
            .on("order-ends", services::on_rejected)
            .on("queue:reminders", services::on_reminder);
        let director = Arc::clone(&self.sagas).listen(Service::new("order-saga", &broker));
        for service in [inventory, payment, shipping, notification, director] {
            let stop = stopped(&self.stop);
            self.listening.push(service.health());
            self.running.spawn(service.run(stop));
        }
        for db in [&self.shop.0, &self.inventory, money] {
            let mut relay = Relay::open(db, broker.clone(), RelayOptions::default()).await?;
            let stop = stopped(&self.stop);
            self.running.spawn(async move { relay.run(stop).await.map(drop) });
        }
        let (sagas, stop) = (Arc::clone(&self.sagas), stopped(&self.stop));
        self.running.spawn(async move { sagas.run(stop).await });
        Ok(())
    }

    /// What is published to a topic on RabbitMQ before a group has a queue there is not for that group.
    async fn until_all_listen(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while !self.listening.iter().all(Health::is_ready) {
            self.still_running(deadline, "waiting for the services to listen").await?;
        }
        Ok(())
    }

    async fn still_running(&mut self, deadline: Instant, doing: &str) -> Result<(), Error> {
        if let Some(ended) = self.running.try_join_next() {
            ended.map_err(|error| refused("running", &error))??;
        }
        if Instant::now() > deadline {
            return Err(refused(doing, &format!("it took longer than {} s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    async fn place_orders(&self) -> Result<(), Error> {
        let prices = View::<Price>::of("prices").newest_by(|price| price.revision);
        let prices = prices.open(&self.broker).await?;
        for item in ["cup", "vase"] {
            let price = Price { item: item.to_owned(), cents: 900, revision: 1 };
            self.broker.publish("prices", &price).await?; // by the catalogue service
            prices.wait_for(item, PATIENCE, |_| true).await?;
        }
        for number in 0..ORDERS {
            let (customer, item) = match number {
                POISON => (services::NOWHERE, "vase"),
                _ if number % 3 == 0 => ("ada", "cup"),
                _ => ("bob", "cup"), // who cannot pay for all of it
            };
            let order = format!("order-{}-{number}", self.run);
            orders::place((&self.shop.0, &self.shop.1), &prices, (&order, customer, item)).await?;
        }
        say(&format!("{ORDERS} orders placed; {CUPS} cups and {VASES} vase on the shelf"));
        Ok(())
    }

    async fn until_all_have_ended(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut told = 0;
        loop {
            let (completed, failed) =
                (self.in_phase("completed").await?, self.in_phase("failed").await?);
            if completed + failed > told {
                told = completed + failed;
                say(&format!(
                    "{completed} completed, {failed} undone, {} under way",
                    ORDERS - told
                ));
            }
            let counted = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
            if told == ORDERS
                && counted(&self.mails.confirmed) + counted(&self.mails.rejected) == ORDERS
            {
                return Ok(());
            }
            self.still_running(deadline, "waiting for the orders to end").await?;
        }
    }

    /// Money and stock add up, and the poison order lies where it can be looked at.
    async fn prove(&self) -> Result<(), Error> {
        let confirmed = self.in_phase("completed").await?;
        let confirmed_cents = i64::try_from(confirmed).unwrap_or(i64::MAX) * 900;
        let mut left = 0;
        for (customer, _) in CUSTOMERS {
            let stream = format!("account-{customer}");
            left += self.accounts.store().load::<Account>(&stream, At::Latest).await?.state;
        }
        let given: i64 = CUSTOMERS.iter().map(|(_, cents)| cents).sum();
        same(
            "money: what is left and what was paid is what there was",
            left + confirmed_cents,
            given,
        )?;
        let rows = self.inventory.query("SELECT sum(n) FROM stock", &[]).await?;
        let on_shelf: i64 = rows.first().map_or(Ok(-1), |row| row.get(0))?;
        let sold = i64::try_from(confirmed).unwrap_or(i64::MAX);
        same(
            "stock: what is on the shelf and what was sold is what there was",
            on_shelf + sold,
            CUPS + VASES,
        )?;
        let mails = self.mails.confirmed.load(Ordering::Relaxed);
        same("mails: one for each order that was confirmed", mails, confirmed)?;
        let letters = self.poison().await?;
        same("the poison order is set aside", letters.len(), 1)?;
        for letter in letters {
            let order = letter.envelope.decode::<Ship>()?.order;
            say(&format!(
                "   {order}: {} after {} attempt: {}",
                letter.reason, letter.attempts, letter.cause
            ));
            for moment in self.sagas.get(&order).await?.into_iter().flat_map(|saga| saga.history) {
                say(&format!("   {}  {}", moment.at, moment.what));
            }
        }
        Ok(())
    }

    /// This run's dead letters, of which there will be one.
    async fn poison(&self) -> Result<Vec<DeadLetter>, Error> {
        let dead = DeadLetters::new(&self.broker, "queue:shipping", "shipping");
        let deadline = Instant::now() + PATIENCE;
        let ours = format!("order-{}-", self.run);
        loop {
            let mut letters = dead.look(1_000).await?;
            letters.retain(|l| l.envelope.key.as_ref().is_some_and(|key| key.starts_with(&ours)));
            if !letters.is_empty() || Instant::now() > deadline {
                return Ok(letters);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(mut self) -> Result<(), Error> {
        let _everybody_gone = self.stop.send(true);
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|error| refused("stopping", &error))??;
        }
        self.broker.close().await
    }

    async fn in_phase(&self, phase: &str) -> Result<u64, Error> {
        Ok(u64::try_from(self.sagas.list(phase).await?.len()).unwrap_or(u64::MAX))
    }
}

/// A broker elsewhere takes its time to bring a service its first message.
fn shipped_within(broker: &Connection) -> Duration {
    let line = broker.to_string();
    let here = line.starts_with("memory") || line.starts_with("ottla://embedded");
    Duration::from_secs(if here { 3 } else { 20 })
}

async fn database(schema: &str) -> Result<Db, Error> {
    let db = Db::open("sqlite::memory:").await?;
    let mut tx = db.begin().await?;
    tx.script(schema).await?;
    tx.commit().await?;
    Ok(db)
}

fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        let _sender_gone = stop.wait_for(|stop| *stop).await;
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, found: T, expected: T) -> Result<(), Error> {
    if found == expected {
        say(&format!("ok {what}: {found}"));
        return Ok(());
    }
    Err(refused(what, &format!("{found} is not {expected}")))
}

fn refused(doing: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Refused { doing: doing.to_owned(), why: why.to_string() }
}

/// A line for the person; a closed pipe ends nothing.
fn say(line: &str) {
    let _reader_gone = writeln!(std::io::stdout(), "{line}");
}
