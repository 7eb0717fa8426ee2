//! `ottla definitions`: everything but the messages, in RabbitMQ's JSON.

use std::io::{Read, Write};

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use super::{Done, api, done, flag};
use crate::exit::{Code, Failure};
use crate::kafka::{output, text};

pub(super) fn command() -> Command {
    let file = |about: &'static str| Arg::new("file").value_name("FILE").help(about);
    let only = || flag("only-vhost", "of the one virtual host that --vhost names");
    Command::new("definitions")
        .about("Exports and imports users, virtual hosts, permissions, policies, exchanges, queues, bindings")
        .subcommand_required(true)
        .subcommand(
            Command::new("export")
                .about("Writes them as RabbitMQ does")
                .arg(file("where to; stdout if it is not there"))
                .arg(only()),
        )
        .subcommand(
            Command::new("import")
                .about("Takes in what this, or a RabbitMQ, has exported; what is there stays")
                .arg(file("what to read; stdin if it is not there"))
                .arg(only()),
        )
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("export", own)) => export(own),
        Some(("import", own)) => import(own),
        _ => Ok(()), // clap has refused everything else
    }
}

fn path(arguments: &ArgMatches) -> Vec<String> {
    let mut path = vec!["definitions".to_owned()];
    if arguments.get_flag("only-vhost") {
        path.push(text(arguments, "vhost"));
    }
    path
}

fn export(arguments: &ArgMatches) -> Done {
    let path = path(arguments);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let definitions = api(arguments)?.get(&path)?;
    let pretty = serde_json::to_string_pretty(&definitions).unwrap_or_default();
    match arguments.get_one::<String>("file") {
        None => writeln!(std::io::stdout().lock(), "{pretty}").map_err(output),
        Some(file) => {
            std::fs::write(file, pretty)
                .map_err(|error| Failure::new(Code::CantCreate, format!("{file}: {error}")))?;
            done(arguments, &format!("exported to {file}: it holds password hashes, keep it safe"))
        }
    }
}

fn import(arguments: &ArgMatches) -> Done {
    let (name, read) = match arguments.get_one::<String>("file") {
        Some(file) => (file.clone(), std::fs::read_to_string(file)),
        None => {
            let mut document = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut document);
            ("stdin".to_owned(), read.map(|_| document))
        }
    };
    let document = read.map_err(|error| Failure::new(Code::NoInput, format!("{name}: {error}")))?;
    let document: Value = serde_json::from_str(&document)
        .map_err(|error| Failure::new(Code::Data, format!("{name} is no JSON: {error}")))?;
    let path = path(arguments);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    api(arguments)?.post(&path, &document)?;
    let count = |key: &str| document.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let kinds = ["vhosts", "users", "policies", "exchanges", "queues", "bindings"];
    let told: Vec<String> = kinds.iter().map(|kind| format!("{} {kind}", count(kind))).collect();
    done(arguments, &format!("imported {}", told.join(", ")))
}
