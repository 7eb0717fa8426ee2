//! `ottla saga`: where sagas stand, why they are stuck, and letting them go on.

use std::io::Write;

use clap::{Arg, ArgMatches, Command, value_parser};
use ottla::saga::{Phase, SagaOperator, Standing};
use serde_json::json;

use crate::database::{self, block_on, failure};
use crate::exit::{Code, Failure};
use crate::kafka::{self, output, text};
use crate::table;

pub(crate) fn command() -> Command {
    let list = Command::new("list")
        .about("Lists sagas, those that moved longest ago first: the stuck ones unless asked otherwise")
        .arg(Arg::new("saga").long("saga").value_name("NAME").help("only those of this saga"))
        .arg(
            Arg::new("phase")
                .long("phase")
                .value_name("PHASE")
                .default_value("stuck")
                .value_parser(["doing", "undoing", "stuck", "completed", "failed", "any"]),
        )
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("N")
                .default_value("100")
                .value_parser(value_parser!(u32)),
        );
    let show = one(Command::new("show"))
        .about("Prints one saga: where it stands, what it remembers, what happened to it");
    let resume = one(Command::new("resume")).about(
        "Lets a stuck saga go on: its program asks once more for the undo that was not answered",
    );
    let all = [list, show, resume];
    Command::new("saga")
        .about("The sagas in a database: list, show, resume")
        .subcommand_required(true)
        .subcommands(all.map(|command| command.arg(database::argument()).arg(kafka::json())))
}

fn one(command: Command) -> Command {
    command
        .arg(Arg::new("saga").required(true).value_name("SAGA").help("the saga's name"))
        .arg(Arg::new("id").required(true).value_name("ID").help("the key of its messages"))
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    match arguments.subcommand() {
        Some(("list", arguments)) => block_on(list(arguments)),
        Some(("show", arguments)) => block_on(show(arguments)),
        Some(("resume", arguments)) => block_on(resume(arguments)),
        _ => Ok(()), // clap has refused everything else
    }
}

async fn open(arguments: &ArgMatches) -> Result<SagaOperator, Failure> {
    SagaOperator::existing(&database::open(arguments).await?).await.map_err(failure)
}

async fn list(arguments: &ArgMatches) -> Result<(), Failure> {
    let saga = arguments.get_one::<String>("saga").map(String::as_str);
    let phase = arguments.get_one::<String>("phase").map(String::as_str);
    let max = arguments.get_one("limit").copied().unwrap_or(u32::MAX);
    let phase = phase.filter(|phase| *phase != "any");
    let found = open(arguments).await?.list(saga, phase, max).await.map_err(failure)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        for one in &found {
            let line = json!({
                "saga": one.saga, "id": one.id, "phase": one.phase.name(), "step": step(&one.phase),
                "why": why(&one.phase), "cause": cause(&one.phase), "moved": one.moved.to_string(),
                "due": one.due.map(|due| due.to_string()),
            });
            writeln!(out, "{line}").map_err(output)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        return writeln!(out, "there are none in phase {}", text(arguments, "phase"))
            .map_err(output);
    }
    let header = ["SAGA", "ID", "PHASE", "STEP", "MOVED", "WHY", "CAUSE"];
    let rows: Vec<Vec<String>> = found.iter().map(as_row).collect();
    table::write(&mut out, &header, &rows).map_err(output)
}

fn as_row(one: &Standing) -> Vec<String> {
    let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
    vec![
        one.saga.clone(),
        one.id.clone(),
        one.phase.name().to_owned(),
        or(step(&one.phase)),
        one.moved.to_string(),
        or(why(&one.phase)),
        or(cause(&one.phase)),
    ]
}

async fn show(arguments: &ArgMatches) -> Result<(), Failure> {
    let (saga, id) = (text(arguments, "saga"), text(arguments, "id"));
    let found = open(arguments).await?.get(&saga, &id).await.map_err(failure)?;
    let found = found.ok_or_else(|| unknown(&saga, &id))?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let moments = found.history.iter();
        let history = moments.map(|m| json!({ "at": m.at.to_string(), "what": m.what }));
        let line = json!({
            "saga": saga, "id": id, "phase": found.phase.name(), "step": step(&found.phase),
            "why": why(&found.phase), "cause": cause(&found.phase),
            "due": found.due.map(|due| due.to_string()), "data": found.data,
            "history": history.collect::<Vec<_>>(),
        });
        return writeln!(out, "{line}").map_err(output);
    }
    let remembers = found.data.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let mut pairs = vec![("saga", saga), ("id", id), ("phase", found.phase.name().to_owned())];
    for (name, value) in
        [("step", step(&found.phase)), ("why", why(&found.phase)), ("cause", cause(&found.phase))]
    {
        pairs.extend(value.map(|value| (name, value.to_owned())));
    }
    pairs.extend(found.due.map(|due| ("due", due.to_string())));
    pairs.push(("remembers", remembers));
    for (name, value) in pairs {
        writeln!(out, "{name:<10} {value}").map_err(output)?;
    }
    writeln!(out).map_err(output)?;
    let moments = found.history.iter();
    let rows: Vec<Vec<String>> = moments.map(|m| vec![m.at.to_string(), m.what.clone()]).collect();
    table::write(&mut out, &["TIME", "WHAT"], &rows).map_err(output)
}

async fn resume(arguments: &ArgMatches) -> Result<(), Failure> {
    let (saga, id) = (text(arguments, "saga"), text(arguments, "id"));
    let operator = open(arguments).await?;
    let resumed = operator.resume(&saga, &id).await.map_err(failure)?;
    if !resumed {
        let found = operator.get(&saga, &id).await.map_err(failure)?;
        let phase = found.ok_or_else(|| unknown(&saga, &id))?.phase;
        let what = format!("saga {saga} {id} is not stuck, it is {}", phase.name());
        return Err(Failure::new(Code::Data, what));
    }
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{}", json!({ "saga": saga, "id": id, "resumed": true }))
            .map_err(output);
    }
    writeln!(out, "saga {saga} {id} goes on: its program asks for the undo within a second or so")
        .map_err(output)
}

fn unknown(saga: &str, id: &str) -> Failure {
    Failure::new(Code::NoInput, format!("there is no saga {saga} with the id {id}"))
        .remedy("`ottla saga list --phase any` says which there are")
}

fn step(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Doing { step } | Phase::Undoing { step, .. } | Phase::Stuck { step, .. } => {
            Some(step)
        }
        _ => None,
    }
}

fn why(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Undoing { why, .. } | Phase::Stuck { why, .. } | Phase::Failed { why } => Some(why),
        _ => None,
    }
}

fn cause(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Stuck { cause, .. } => Some(cause),
        _ => None,
    }
}
