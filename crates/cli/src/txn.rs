//! `ottla txn`: list, describe and abort transactions; on any Kafka.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use ottla_client::{ClientError, Cluster, ErrorCode, Transaction, TransactionDetails};
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::kafka::{self, failure, output, text};
use crate::{table, time};

pub(crate) fn command() -> Command {
    let id = || Arg::new("id").required(true).value_name("TRANSACTIONAL_ID");
    Command::new("txn")
        .about("Lists, describes and aborts transactions")
        .subcommand_required(true)
        .arg(kafka::bootstrap().global(true))
        .arg(kafka::json().global(true))
        .subcommand(
            Command::new("list").about("Lists transactional ids").arg(
                Arg::new("state")
                    .long("state")
                    .action(ArgAction::Append)
                    .value_name("STATE")
                    .help("only those in this state, as Ongoing; can be repeated"),
            ),
        )
        .subcommand(
            Command::new("describe")
                .about("Shows who has a transactional id and what its open transaction wrote to")
                .arg(id()),
        )
        .subcommand(
            Command::new("abort")
                .about("Aborts an open transaction and fences its producer, as its restart would")
                .arg(id()),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list(arguments),
        Some(("describe", arguments)) => describe(arguments),
        Some(("abort", arguments)) => abort(arguments),
        _ => Ok(()), // clap has refused everything else
    }
}

fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let states: Vec<String> = arguments.get_many("state").into_iter().flatten().cloned().collect();
    if let Some(unknown) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
        let what = format!("--state {unknown}: there is no such state");
        return Err(
            Failure::new(Code::Usage, what).remedy(format!("there are {}", STATES.join(", ")))
        );
    }
    let transactions = kafka::connect(arguments)?.transactions(&states).map_err(failure)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let one = |found: &Transaction| {
            let (id, producer) = (&found.id, found.producer_id);
            json!({"transactional_id": id, "producer_id": producer, "state": found.state})
        };
        let shown: Vec<Value> = transactions.iter().map(one).collect();
        return writeln!(out, "{}", json!(shown)).map_err(output);
    }
    let row = |found: &Transaction| {
        vec![found.id.clone(), found.producer_id.to_string(), found.state.clone()]
    };
    let rows: Vec<_> = transactions.iter().map(row).collect();
    table::write(&mut out, &["TRANSACTIONAL ID", "PRODUCER", "STATE"], &rows).map_err(output)
}

fn describe(arguments: &ArgMatches) -> Result<(), Failure> {
    let id = text(arguments, "id");
    let found = existing(&mut kafka::connect(arguments)?, &id)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let partitions = found
            .partitions
            .iter()
            .map(|place| json!({"topic": place.topic, "partition": place.partition}));
        let shown = json!({
            "transactional_id": id,
            "state": found.state,
            "producer_id": found.producer_id,
            "producer_epoch": found.producer_epoch,
            "timeout_ms": found.timeout_ms,
            "started_ms": found.started_ms,
            "partitions": partitions.collect::<Vec<_>>(),
        });
        return writeln!(out, "{shown}").map_err(output);
    }
    writeln!(
        out,
        "{id}: {}, producer {}, epoch {}, timeout {} ms{}",
        found.state,
        found.producer_id,
        found.producer_epoch,
        found.timeout_ms,
        found
            .started_ms
            .filter(|_| found.state == ONGOING)
            .map_or_else(String::new, |ms| { format!(", open since {}", time::show(ms)) }),
    )
    .map_err(output)?;
    if found.partitions.is_empty() {
        return Ok(());
    }
    writeln!(out).map_err(output)?;
    let rows = found.partitions.iter();
    let rows: Vec<_> =
        rows.map(|place| vec![place.topic.clone(), place.partition.to_string()]).collect();
    table::write(&mut out, &["TOPIC", "PARTITION"], &rows).map_err(output)
}

fn abort(arguments: &ArgMatches) -> Result<(), Failure> {
    let id = text(arguments, "id");
    let mut cluster = kafka::connect(arguments)?;
    let found = existing(&mut cluster, &id)?;
    if found.state != ONGOING {
        let what = format!("{id} has no open transaction: its state is {}", found.state);
        return Err(Failure::new(Code::Data, what)
            .remedy("`ottla txn list --state Ongoing` shows those that have one"));
    }
    cluster.abort_transaction(&id, found.timeout_ms).map_err(failure)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{}", json!({"aborted": id})).map_err(output);
    }
    let said =
        "aborted, and its producer is fenced: what it wrote in it will never be read as committed";
    writeln!(out, "{id}: {said}").map_err(output)
}

fn existing(cluster: &mut Cluster, id: &str) -> Result<TransactionDetails, Failure> {
    cluster.transaction(id).map_err(|error| match error {
        ClientError::Refused { code: ErrorCode::TRANSACTIONAL_ID_NOT_FOUND, .. } => {
            Failure::new(Code::Data, format!("there is no transactional id {id}"))
                .remedy("`ottla txn list` shows those there are")
        }
        other => failure(other),
    })
}

const ONGOING: &str = "Ongoing";
/// Kafka's words.
const STATES: &[&str] = &[
    "Empty",
    ONGOING,
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "PrepareEpochFence",
    "Dead",
];
