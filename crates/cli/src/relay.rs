//! `ottla relay`: rows of an outbox table, written by a program in any language, become messages.

mod amqp;
mod kafka;

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ottla::outbox::{Outbox, Relay, RelayOptions, Round, Sink};
use ottla::transport::BoxFuture;
use ottla::{Address, Outgoing};

use crate::database::{self, block_on, failure};
use crate::exit::{Code, Failure};
use crate::kafka::text;
use crate::time;

pub(crate) fn command() -> Command {
    Command::new("relay")
        .about("Publishes the rows of an outbox table, each once it is committed, until it is stopped")
        .arg(database::argument())
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("URL")
                .required(true)
                .help("kafka://HOST:PORT, amqp://USER:PASSWORD@HOST:PORT/VHOST or ottla://HOST:PORT (its Kafka port)"),
        )
        .arg(
            Arg::new("address")
                .long("address")
                .short('a')
                .value_name("TOPIC|queue:NAME")
                .help("where rows go that do not say it in a column `destination`; with amqp:// a topic is an exchange"),
        )
        .arg(Arg::new("table").long("table").value_name("NAME").default_value("outbox"))
        .arg(
            Arg::new("create")
                .long("create")
                .action(ArgAction::SetTrue)
                .help("make the table `outbox` where there is none"),
        )
        .arg(
            Arg::new("keep")
                .long("keep")
                .value_name("DURATION")
                .default_value("7d")
                .help("how long rows with a column `published_at` are kept after it"),
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("publish what is there and end"),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    block_on(relay(arguments))
}

async fn relay(arguments: &ArgMatches) -> Result<(), Failure> {
    let db = if arguments.get_flag("create") {
        let db = ottla::db::Db::open(&text(arguments, "database")).await;
        let db = db.map_err(|error| Failure::new(Code::Unavailable, error))?;
        Outbox::open(&db).await.map_err(failure)?;
        db
    } else {
        database::open(arguments).await?
    };
    let keep = text(arguments, "keep");
    let keep = time::duration(&keep).and_then(|ms| u64::try_from(ms).ok()).ok_or_else(|| {
        Failure::new(Code::Usage, format!("{keep:?} is no duration such as 7d or 12h"))
    })?;
    let mut options = RelayOptions::default();
    options.table = text(arguments, "table");
    options.to = arguments.get_one::<String>("address").map(Address::from);
    options.keep = Duration::from_millis(keep);
    let mut relay = Relay::open(&db, sink(arguments)?, options).await.map_err(failure)?;
    let round = if arguments.get_flag("once") {
        let round = relay.drain().await.map_err(failure)?;
        relay.close().await.map_err(failure)?;
        round
    } else {
        eprintln!("relaying {}", text(arguments, "table"));
        relay.run(stopped()).await.map_err(failure)?
    };
    report(round)
}

fn report(round: Round) -> Result<(), Failure> {
    eprintln!("{} published, {} set aside", round.published, round.set_aside);
    if round.elsewhere {
        let what = "nothing was done: another relay has this table";
        return Err(
            Failure::new(Code::Unavailable, what).remedy("if it is dead, try again in 15 s")
        );
    }
    if round.failed > 0 {
        let what = format!("{} rows could not be published and stay in the table", round.failed);
        return Err(Failure::new(Code::Unavailable, what).remedy("the log above says why"));
    }
    Ok(())
}

/// INT or TERM.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

fn sink(arguments: &ArgMatches) -> Result<Broker, Failure> {
    let url = text(arguments, "to");
    match url.split_once("://") {
        Some(("kafka" | "ottla", address)) => {
            Ok(Broker::Kafka(Box::new(kafka::Kafka::new(address.trim_end_matches('/')))))
        }
        Some(("amqp", _)) => Ok(Broker::Amqp(Box::new(amqp::Amqp::new(&url)))),
        _ => Err(Failure::new(Code::Usage, format!("{url:?} is no address to relay to")).remedy(
            "write kafka://HOST:PORT, amqp://USER:PASSWORD@HOST:PORT/VHOST or ottla://HOST:PORT",
        )),
    }
}

/// Where rows go.
#[derive(Debug)]
enum Broker {
    Kafka(Box<kafka::Kafka>),
    Amqp(Box<amqp::Amqp>),
}

impl Sink for Broker {
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, ottla::Result<()>> {
        Box::pin(async move {
            // Both clients block; there is nothing else to do meanwhile.
            tokio::task::block_in_place(|| match self {
                Self::Kafka(kafka) => kafka.publish(batch),
                Self::Amqp(amqp) => amqp.publish(batch),
            })
        })
    }
}
