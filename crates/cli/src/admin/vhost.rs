//! `ottla vhost`

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::{Column, Done, api, done, limits, name_of, option, show};
use crate::kafka::text;

const LIST: &[Column] = &[
    ("VHOST", "name"),
    ("DESCRIPTION", "description"),
    ("QUEUES ARE", "default_queue_type"),
    ("MESSAGES", "messages"),
];
const LIMITS: [&str; 2] = ["max-queues", "max-connections"];

pub(super) fn command() -> Command {
    Command::new("vhost")
        .about("Lists, makes, limits and deletes virtual hosts")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists virtual hosts"))
        .subcommand(
            Command::new("create")
                .about("Makes a virtual host, or changes what it is told about itself")
                .arg(name_of("VHOST"))
                .arg(option("description", "TEXT", "for people"))
                .arg(option("default-queue-type", "TYPE", "the type of queues that do not say")),
        )
        .subcommand(limits::command("VHOST", LIMITS))
        .subcommand(
            Command::new("delete")
                .about("Deletes a virtual host with everything in it")
                .arg(name_of("VHOST")),
        )
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("list", own)) => show(own, &api(own)?.get(&["vhosts"])?, LIST),
        Some(("create", own)) => {
            let name = text(own, "name");
            let mut body = Map::new();
            for (option, key) in
                [("description", "description"), ("default-queue-type", "default_queue_type")]
            {
                if let Some(value) = own.get_one::<String>(option) {
                    body.insert(key.to_owned(), json!(value));
                }
            }
            api(own)?.put(&["vhosts", &name], &Value::Object(body))?;
            done(own, &format!("made virtual host {name}"))
        }
        Some(("limit", own)) => limits::run(own, "vhost-limits", LIMITS),
        Some(("delete", own)) => {
            let name = text(own, "name");
            api(own)?.delete(&["vhosts", &name], "")?;
            done(own, &format!("deleted virtual host {name}"))
        }
        _ => Ok(()), // clap has refused everything else
    }
}
