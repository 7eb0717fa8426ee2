//! `ottla exchange`

use clap::{ArgMatches, Command};
use serde_json::json;

use super::{Column, Done, api, arguments_option, done, flag, name_of, option, pairs, show};
use crate::kafka::text;

const LIST: &[Column] = &[
    ("EXCHANGE", "name"),
    ("TYPE", "type"),
    ("DURABLE", "durable"),
    ("INTERNAL", "internal"),
    ("ARGUMENTS", "arguments"),
];

pub(super) fn command() -> Command {
    Command::new("exchange")
        .about("Lists, declares and deletes exchanges")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists exchanges; the one without a name is `-`"))
        .subcommand(
            Command::new("declare")
                .about("Makes an exchange, durable unless told otherwise")
                .arg(name_of("EXCHANGE"))
                .arg(
                    option("type", "TYPE", "direct, fanout, topic, headers, x-…")
                        .default_value("direct")
                        .short('t'),
                )
                .arg(flag("transient", "gone after a restart"))
                .arg(flag("auto-delete", "gone with its last binding"))
                .arg(flag("internal", "clients may not publish to it"))
                .arg(arguments_option()),
        )
        .subcommand(
            Command::new("delete")
                .about("Deletes an exchange with its bindings")
                .arg(name_of("EXCHANGE"))
                .arg(flag("if-unused", "only while nothing is bound to it")),
        )
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("list", own)) => {
            show(own, &api(own)?.get(&["exchanges", &text(own, "vhost")])?, LIST)
        }
        Some(("declare", own)) => {
            let name = text(own, "name");
            let body = json!({
                "type": text(own, "type"),
                "durable": !own.get_flag("transient"),
                "auto_delete": own.get_flag("auto-delete"),
                "internal": own.get_flag("internal"),
                "arguments": pairs(own, "argument")?,
            });
            api(own)?.put(&["exchanges", &text(own, "vhost"), &name], &body)?;
            done(own, &format!("declared exchange {name}"))
        }
        Some(("delete", own)) => {
            let name = text(own, "name");
            let query = if own.get_flag("if-unused") { "?if-unused=true" } else { "" };
            api(own)?.delete(&["exchanges", &text(own, "vhost"), &name], query)?;
            done(own, &format!("deleted exchange {name}"))
        }
        _ => Ok(()), // clap has refused everything else
    }
}
