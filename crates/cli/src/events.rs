//! `ottla events`: the history of a stream, with cause and story.

use std::io::Write;

use clap::{Arg, ArgMatches, Command};
use ottla::events::{At, EventStore, Recorded};
use serde_json::{Value, json};

use crate::database::{self, block_on, failure};
use crate::exit::{Code, Failure};
use crate::kafka::{self, output, text};
use crate::table;

pub(crate) fn command() -> Command {
    Command::new("events")
        .about("Shows the events of an event store")
        .subcommand_required(true)
        .subcommand(
            Command::new("show")
                .about("Prints a stream's history: what happened, when, and what brought it about")
                .arg(Arg::new("stream").required(true).value_name("STREAM"))
                .arg(database::argument())
                .arg(
                    Arg::new("at")
                        .long("at")
                        .value_name("TIME|VERSION")
                        .help("only up to a version (2) or a time (2026-11-23T15:04:05Z)"),
                )
                .arg(kafka::json()),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("show", arguments)) => block_on(show(arguments)),
        _ => Ok(()), // clap has refused everything else
    }
}

async fn show(arguments: &ArgMatches) -> Result<(), Failure> {
    let at = match arguments.get_one::<String>("at") {
        Some(at) => at.parse().map_err(|error| Failure::new(Code::Usage, error))?,
        None => At::Latest,
    };
    let stream = text(arguments, "stream");
    let store = EventStore::existing(&database::open(arguments).await?).await.map_err(failure)?;
    let mut out = std::io::stdout().lock();
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = store.history(&stream, after, at, PAGE).await.map_err(failure)?;
        let Some(last) = page.last() else { break };
        after = last.version;
        for event in &page {
            if arguments.get_flag("json") {
                writeln!(out, "{}", as_json(event)).map_err(output)?;
            } else {
                rows.push(as_row(event));
            }
        }
    }
    if after == 0 {
        let what = format!("stream {stream} has no events there");
        return Err(Failure::new(Code::NoInput, what)
            .remedy("the name is as it was appended, such as account-123"));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let header = ["VERSION", "TIME", "EVENT", "CAUSE", "STORY", "FIELDS"];
    table::write(&mut out, &header, &rows).map_err(output)
}

fn as_row(event: &Recorded) -> Vec<String> {
    let envelope = &event.envelope;
    vec![
        event.version.to_string(),
        envelope.time.to_string(),
        envelope.name.clone(),
        envelope.causation.map_or_else(|| "-".to_owned(), |cause| cause.to_string()),
        envelope.correlation.to_string(),
        String::from_utf8_lossy(&envelope.body).into_owned(),
    ]
}

fn as_json(event: &Recorded) -> Value {
    let envelope = &event.envelope;
    let body = serde_json::from_slice(&envelope.body)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&envelope.body)));
    json!({
        "stream": event.stream,
        "version": event.version,
        "position": event.pos.to_string(),
        "id": envelope.id.to_string(),
        "time": envelope.time.to_string(),
        "name": envelope.name,
        "schema": envelope.version,
        "causation": envelope.causation.map(|cause| cause.to_string()),
        "correlation": envelope.correlation.to_string(),
        "traceparent": envelope.trace.as_ref().map(ToString::to_string),
        "body": body,
    })
}

/// Events read at once.
const PAGE: u32 = 500;
