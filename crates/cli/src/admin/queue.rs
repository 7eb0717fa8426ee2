//! `ottla queue`

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::{
    Column, Done, api, arguments_option, describe, done, flag, moves, name_of, option, pairs, show,
};
use crate::kafka::text;

const LIST: &[Column] = &[
    ("QUEUE", "name"),
    ("TYPE", "type"),
    ("READY", "messages_ready"),
    ("UNACKED", "messages_unacknowledged"),
    ("CONSUMERS", "consumers"),
    ("POLICY", "policy"),
    ("ARGUMENTS", "arguments"),
];
const DETAILS: &[Column] = &[
    ("queue", "name"),
    ("virtual host", "vhost"),
    ("type", "type"),
    ("durable", "durable"),
    ("auto-delete", "auto_delete"),
    ("exclusive", "exclusive"),
    ("arguments", "arguments"),
    ("policy", "policy"),
    ("operator policy", "operator_policy"),
    ("what policies say", "effective_policy_definition"),
    ("ready", "messages_ready"),
    ("unacknowledged", "messages_unacknowledged"),
    ("bytes ready", "message_bytes_ready"),
    ("consumers", "consumers"),
];

pub(super) fn command() -> Command {
    Command::new("queue")
        .about("Lists, declares, deletes, purges queues, and moves what is in them")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists queues with how full they are"))
        .subcommand(Command::new("describe").about("Shows one queue").arg(name_of("QUEUE")))
        .subcommand(
            Command::new("declare")
                .about("Makes a queue, durable unless told otherwise")
                .arg(name_of("QUEUE"))
                .arg(option("type", "TYPE", "classic, quorum or stream").short('t'))
                .arg(flag("transient", "gone after a restart"))
                .arg(flag("auto-delete", "gone with its last consumer"))
                .arg(arguments_option()),
        )
        .subcommand(
            Command::new("delete")
                .about("Deletes a queue with its messages")
                .arg(name_of("QUEUE"))
                .arg(flag("if-empty", "only while it has no ready messages"))
                .arg(flag("if-unused", "only while it has no consumers")),
        )
        .subcommand(Command::new("purge").about("Removes what is ready").arg(name_of("QUEUE")))
        .subcommand(moves::to_queue())
        .subcommand(moves::redrive())
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("list", own)) => show(own, &api(own)?.get(&["queues", &text(own, "vhost")])?, LIST),
        Some(("describe", own)) => {
            let (vhost, name) = (text(own, "vhost"), text(own, "name"));
            describe(own, &api(own)?.get(&["queues", &vhost, &name])?, DETAILS)
        }
        Some(("declare", own)) => declare(own),
        Some(("delete", own)) => delete(own),
        Some(("purge", own)) => {
            let (vhost, name) = (text(own, "vhost"), text(own, "name"));
            let api = api(own)?;
            let before = api.get(&["queues", &vhost, &name])?;
            api.delete(&["queues", &vhost, &name, "contents"], "")?;
            let count = before.get("messages_ready").and_then(Value::as_u64).unwrap_or(0);
            done(own, &format!("purged queue {name}: {count} messages were ready"))
        }
        Some(("move", own)) => moves::run(own, moves::Kind::Move),
        Some(("redrive", own)) => moves::run(own, moves::Kind::Redrive),
        _ => Ok(()), // clap has refused everything else
    }
}

fn declare(arguments: &ArgMatches) -> Done {
    let name = text(arguments, "name");
    let mut own = pairs(arguments, "argument")?;
    if let Some(kind) = arguments.get_one::<String>("type") {
        own.insert("x-queue-type".to_owned(), json!(kind));
    }
    let body = json!({
        "durable": !arguments.get_flag("transient"),
        "auto_delete": arguments.get_flag("auto-delete"),
        "arguments": own,
    });
    api(arguments)?.put(&["queues", &text(arguments, "vhost"), &name], &body)?;
    done(arguments, &format!("declared queue {name}"))
}

fn delete(arguments: &ArgMatches) -> Done {
    let name = text(arguments, "name");
    let word =
        |flag: &str| if arguments.get_flag(flag) { format!("{flag}=true&") } else { String::new() };
    let query = format!("?{}{}", word("if-empty"), word("if-unused"));
    api(arguments)?.delete(&["queues", &text(arguments, "vhost"), &name], &query)?;
    done(arguments, &format!("deleted queue {name}"))
}
