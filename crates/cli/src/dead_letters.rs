//! `ottla dead-letters`: what the services of the toolkit gave up, on any broker.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ottla::dead_letters::{DeadLetters, Filter, Redrive};
use ottla::{Address, DeadLetter, Reason, Uuid};
use serde_json::{Value, json};

use crate::broker::{self, failure};
use crate::database::block_on;
use crate::exit::{Code, Failure};
use crate::kafka::{self, output, text};
use crate::table;

pub(crate) fn command() -> Command {
    let show = with_place(Command::new("show"))
        .about("Prints one dead letter: where it came from, each attempt that failed, its body")
        .arg(id().required(true));
    let list = with_filter(with_place(Command::new("list")))
        .about("Lists dead letters and why they were given up; they stay where they are")
        .arg(limit().default_value("100"));
    let redrive = with_filter(with_place(Command::new("redrive")))
        .about("Sends dead letters back to the service, in their order, with their ids, attempts counted from the start")
        .arg(id().long("id").help("only the message with this id"))
        .arg(limit())
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help("at most so many a second"),
        )
        .arg(
            Arg::new("preview")
                .long("preview")
                .action(ArgAction::SetTrue)
                .help("move nothing; say what would be moved"),
        );
    Command::new("dead-letters")
        .about("The messages that services gave up: look at them, send them back")
        .subcommand_required(true)
        .subcommands([list, show, redrive])
}

fn with_place(command: Command) -> Command {
    command
        .arg(
            Arg::new("address")
                .required(true)
                .value_name("ADDRESS")
                .help("what the service listens to: a topic, or queue:NAME"),
        )
        .arg(Arg::new("group").required(true).value_name("GROUP").help("the service's name"))
        .arg(broker::argument())
        .arg(kafka::json())
}

fn with_filter(command: Command) -> Command {
    command
        .arg(
            Arg::new("type")
                .long("type")
                .value_name("NAME")
                .help("only messages of this name, such as order.paid"),
        )
        .arg(
            Arg::new("reason")
                .long("reason")
                .value_name("WORD")
                .help("only: exhausted, permanent, undecodable, panicked, parked"),
        )
}

fn id() -> Arg {
    Arg::new("id").value_name("ID").value_parser(value_parser!(Uuid))
}

fn limit() -> Arg {
    Arg::new("limit")
        .long("limit")
        .value_name("N")
        .value_parser(value_parser!(u32))
        .help("at most so many")
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let Some((verb, arguments)) = arguments.subcommand() else { return Ok(()) }; // clap has refused it
    let address: Address = text(arguments, "address").parse().map_err(failure)?;
    let filter = filter(arguments)?;
    block_on(async {
        let connection = broker::open(&text(arguments, "at")).await?;
        let dead = DeadLetters::new(&connection, address, &text(arguments, "group"));
        let outcome = match verb {
            "list" => list(arguments, &dead, &filter).await,
            "show" => show(arguments, &dead).await,
            _ => redrive(arguments, &dead, filter).await,
        };
        outcome.and(connection.close().await.map_err(failure))
    })
}

async fn list(arguments: &ArgMatches, dead: &DeadLetters, filter: &Filter) -> Result<(), Failure> {
    let max = arguments.get_one("limit").copied().unwrap_or(u32::MAX);
    let letters = dead.find(filter, max).await.map_err(failure)?;
    write(arguments, &letters)
}

async fn show(arguments: &ArgMatches, dead: &DeadLetters) -> Result<(), Failure> {
    let id = arguments.get_one::<Uuid>("id").copied().unwrap_or_default();
    let found = dead.find(&Filter::default().id(id), 1).await.map_err(failure)?;
    let Some(letter) = found.first() else {
        let what = format!("there is no dead letter {id} in {}", dead.address());
        return Err(Failure::new(Code::NoInput, what)
            .remedy("`ottla dead-letters list` says which there are"));
    };
    if arguments.get_flag("json") {
        return write(arguments, &found);
    }
    let mut out = std::io::stdout().lock();
    let envelope = &letter.envelope;
    let pairs = [
        ("id", id.to_string()),
        ("type", format!("{} version {}", envelope.name, envelope.version)),
        ("key", envelope.key.clone().unwrap_or_else(|| "-".to_owned())),
        ("published", envelope.time.to_string()),
        ("read from", format!("{} by {}", letter.source, letter.group)),
        ("set aside", format!("{}: {}", letter.at, letter.reason)),
        ("redrives", letter.redrives.to_string()),
        ("correlation", envelope.correlation.to_string()),
        ("body", String::from_utf8_lossy(&envelope.body).into_owned()),
    ];
    for (name, value) in pairs {
        writeln!(out, "{name:<12} {value}").map_err(output)?;
    }
    writeln!(out).map_err(output)?;
    let rows: Vec<Vec<String>> = letter
        .history
        .iter()
        .map(|tried| vec![tried.attempt.to_string(), tried.at.to_string(), tried.cause.clone()])
        .collect();
    table::write(&mut out, &["ATTEMPT", "TIME", "CAUSE"], &rows).map_err(output)
}

async fn redrive(
    arguments: &ArgMatches,
    dead: &DeadLetters,
    mut filter: Filter,
) -> Result<(), Failure> {
    if let Some(id) = arguments.get_one::<Uuid>("id") {
        filter = filter.id(*id);
    }
    let mut which = Redrive::new(filter);
    if let Some(limit) = arguments.get_one::<u32>("limit") {
        which = which.limit((*limit).into());
    }
    if let Some(rate) = arguments.get_one::<u32>("rate") {
        which = which.per_second(*rate);
    }
    if arguments.get_flag("preview") {
        let letters = dead.preview(&which).await.map_err(failure)?;
        return write(arguments, &letters);
    }
    let done = dead.redrive_by(&which).await.map_err(failure)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{}", json!({ "sent": done.sent, "stayed": done.stayed }))
            .map_err(output);
    }
    writeln!(out, "{} sent back, {} stay", done.sent, done.stayed).map_err(output)
}

fn filter(arguments: &ArgMatches) -> Result<Filter, Failure> {
    let word = |name| arguments.try_get_one::<String>(name).ok().flatten(); // `show` has none
    let mut filter = Filter::default();
    if let Some(name) = word("type") {
        filter = filter.named(name);
    }
    if let Some(word) = word("reason") {
        let reason = Reason::parse(word).ok_or_else(|| {
            Failure::new(Code::Usage, format!("{word:?} is no reason"))
                .remedy("one of exhausted, permanent, undecodable, panicked, parked")
        })?;
        filter = filter.because(reason);
    }
    Ok(filter)
}

/// As a table, or one JSON value a line.
fn write(arguments: &ArgMatches, letters: &[DeadLetter]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        for letter in letters {
            writeln!(out, "{}", as_json(letter)).map_err(output)?;
        }
        return Ok(());
    }
    if letters.is_empty() {
        return writeln!(out, "there are no dead letters").map_err(output);
    }
    let header = ["ID", "TYPE", "KEY", "REASON", "ATTEMPTS", "REDRIVES", "SINCE", "CAUSE"];
    let rows: Vec<Vec<String>> = letters.iter().map(as_row).collect();
    table::write(&mut out, &header, &rows).map_err(output)
}

fn as_row(letter: &DeadLetter) -> Vec<String> {
    let envelope = &letter.envelope;
    vec![
        envelope.id.to_string(),
        envelope.name.clone(),
        envelope.key.clone().unwrap_or_else(|| "-".to_owned()),
        letter.reason.to_string(),
        letter.attempts.to_string(),
        letter.redrives.to_string(),
        letter.at.to_string(),
        letter.cause.lines().next().unwrap_or_default().to_owned(),
    ]
}

fn as_json(letter: &DeadLetter) -> Value {
    let envelope = &letter.envelope;
    let body = serde_json::from_slice(&envelope.body)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&envelope.body)));
    let tried = letter.history.iter().map(|tried| {
        json!({ "attempt": tried.attempt, "at": tried.at.to_string(), "cause": tried.cause })
    });
    json!({
        "id": envelope.id.to_string(),
        "name": envelope.name,
        "version": envelope.version,
        "key": envelope.key,
        "source": letter.source.to_string(),
        "group": letter.group,
        "reason": letter.reason,
        "cause": letter.cause,
        "attempts": letter.attempts,
        "redrives": letter.redrives,
        "at": letter.at.to_string(),
        "published": envelope.time.to_string(),
        "correlation": envelope.correlation.to_string(),
        "traceparent": envelope.trace.as_ref().map(ToString::to_string),
        "headers": envelope.headers,
        "history": tried.collect::<Vec<_>>(),
        "body": body,
    })
}
