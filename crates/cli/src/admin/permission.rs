//! `ottla permission`

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::{Column, Done, api, done, exchange_path, name_of, option, show};
use crate::kafka::text;

const LIST: &[Column] = &[
    ("USER", "user"),
    ("VHOST", "vhost"),
    ("CONFIGURE", "configure"),
    ("WRITE", "write"),
    ("READ", "read"),
];
const TOPICS: &[Column] = &[
    ("USER", "user"),
    ("VHOST", "vhost"),
    ("EXCHANGE", "exchange"),
    ("WRITE", "write"),
    ("READ", "read"),
];

pub(super) fn command() -> Command {
    let pattern =
        |name: &'static str, about: &'static str| option(name, "REGEX", about).default_value(".*");
    let exchange = || Arg::new("exchange").required(true).value_name("EXCHANGE");
    Command::new("permission")
        .about("What users may do in a virtual host, by the names of queues and exchanges")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists permissions"))
        .subcommand(
            Command::new("set")
                .about("Lets a user into a virtual host")
                .arg(name_of("USER"))
                .arg(pattern("configure", "what it may declare and delete; '' for nothing"))
                .arg(pattern("write", "where it may publish"))
                .arg(pattern("read", "what it may consume")),
        )
        .subcommand(Command::new("delete").about("Lets a user in no longer").arg(name_of("USER")))
        .subcommand(Command::new("list-topics").about("Lists permissions for routing keys"))
        .subcommand(
            Command::new("set-topic")
                .about("Which routing keys of a topic exchange a user may use")
                .arg(name_of("USER"))
                .arg(exchange())
                .arg(pattern("write", "keys to publish with"))
                .arg(pattern("read", "keys to bind with")),
        )
        .subcommand(
            Command::new("delete-topics")
                .about("Lets a user use all routing keys again")
                .arg(name_of("USER")),
        )
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    let Some((verb, own)) = arguments.subcommand() else { return Ok(()) };
    let api = api(own)?;
    let vhost = text(own, "vhost");
    let name = own.try_get_one::<String>("name").ok().flatten().cloned().unwrap_or_default();
    match verb {
        "list" => show(own, &api.get(&["permissions"])?, LIST),
        "list-topics" => show(own, &api.get(&["topic-permissions"])?, TOPICS),
        "set" => {
            let body = json!({
                "configure": text(own, "configure"), "write": text(own, "write"),
                "read": text(own, "read"),
            });
            api.put(&["permissions", &vhost, &name], &body)?;
            done(own, &format!("user {name} may enter {vhost}"))
        }
        "delete" => {
            api.delete(&["permissions", &vhost, &name], "")?;
            done(own, &format!("user {name} may not enter {vhost} any more"))
        }
        "set-topic" => {
            let exchange = text(own, "exchange");
            let body = json!({
                "exchange": exchange, "write": text(own, "write"), "read": text(own, "read"),
            });
            api.put(&["topic-permissions", &vhost, &name], &body)?;
            done(own, &format!("limited the keys of {} for user {name}", exchange_path(&exchange)))
        }
        _ => {
            api.delete(&["topic-permissions", &vhost, &name], "")?;
            done(own, &format!("user {name} may use all keys in {vhost}"))
        }
    }
}
