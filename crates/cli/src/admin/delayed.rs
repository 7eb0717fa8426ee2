//! `ottla delayed`

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use super::{Column, Done, api, done, number, option, show};
use crate::kafka::{output, text};

const LIST: &[Column] = &[
    ("NUMBER", "number"),
    ("DUE IN MS", "due_in_ms"),
    ("EXCHANGE", "exchange"),
    ("KEY", "routing_key"),
    ("BYTES", "payload_bytes"),
    ("MESSAGE ID", "properties.message_id"),
];

pub(super) fn command() -> Command {
    let numbers = Arg::new("number")
        .required(true)
        .action(ArgAction::Append)
        .num_args(1..)
        .value_name("NUMBER")
        .help("as `list` shows it");
    Command::new("delayed")
        .about("Lists and calls off messages that x-delayed-message exchanges hold back")
        .subcommand_required(true)
        .subcommand(
            Command::new("list")
                .about("Lists what waits, in the order in which it came")
                .arg(option("after", "NUMBER", "begin behind this one"))
                .arg(option("limit", "COUNT", "at most so many, 100 unless told otherwise")),
        )
        .subcommand(Command::new("cancel").about("Calls messages off").arg(numbers))
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("list", own)) => list(own),
        Some(("cancel", own)) => cancel(own),
        _ => Ok(()), // clap has refused everything else
    }
}

fn list(arguments: &ArgMatches) -> Done {
    let after = number(arguments, "after")?.unwrap_or(0);
    let limit = number(arguments, "limit")?.unwrap_or(100);
    let query = format!("?after={after}&limit={limit}");
    let found = api(arguments)?.ask(&["ottla", "delayed", &text(arguments, "vhost")], &query)?;
    let items = found.get("items").cloned().unwrap_or(Value::Array(Vec::new()));
    if arguments.get_flag("json") {
        return writeln!(std::io::stdout().lock(), "{found}").map_err(output);
    }
    show(arguments, &items, LIST)?;
    let shown = items.as_array().map_or(0, Vec::len);
    let total = found.get("total").and_then(Value::as_u64).unwrap_or(0);
    writeln!(std::io::stdout().lock(), "{shown} of {total} that wait").map_err(output)
}

fn cancel(arguments: &ArgMatches) -> Done {
    let (api, vhost) = (api(arguments)?, text(arguments, "vhost"));
    let mut called_off = 0;
    for number in arguments.get_many::<String>("number").into_iter().flatten() {
        api.delete(&["ottla", "delayed", &vhost, number], "")?;
        called_off += 1;
    }
    done(arguments, &format!("called off {called_off}"))
}
