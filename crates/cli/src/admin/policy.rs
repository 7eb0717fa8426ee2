//! `ottla policy`

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::{Column, Done, api, done, flag, name_of, option, show};
use crate::exit::{Code, Failure};
use crate::kafka::text;

const LIST: &[Column] = &[
    ("POLICY", "name"),
    ("PATTERN", "pattern"),
    ("APPLIES TO", "apply-to"),
    ("PRIORITY", "priority"),
    ("DEFINITION", "definition"),
];

pub(super) fn command() -> Command {
    let operator = || flag("operator", "an operator policy, which nobody gets around").global(true);
    Command::new("policy")
        .about("Settings for queues and exchanges by their names")
        .subcommand_required(true)
        .arg(operator())
        .subcommand(Command::new("list").about("Lists policies"))
        .subcommand(
            Command::new("set")
                .about("Sets a policy, as: ottla policy set limits '^jobs' '{\"max-length\":1000}'")
                .arg(name_of("NAME"))
                .arg(Arg::new("pattern").required(true).value_name("REGEX"))
                .arg(Arg::new("definition").required(true).value_name("JSON"))
                .arg(
                    option(
                        "apply-to",
                        "WHAT",
                        "queues, exchanges, classic_queues, quorum_queues, streams, all",
                    )
                    .default_value("all"),
                )
                .arg(
                    option("priority", "N", "the highest that matches holds")
                        .default_value("0")
                        .allow_negative_numbers(true),
                ),
        )
        .subcommand(Command::new("delete").about("Deletes a policy").arg(name_of("NAME")))
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    let Some((verb, own)) = arguments.subcommand() else { return Ok(()) };
    let kind = if own.get_flag("operator") { "operator-policies" } else { "policies" };
    let (vhost, name) = (text(own, "vhost"), own.try_get_one::<String>("name").ok().flatten());
    let name = name.cloned().unwrap_or_default();
    match verb {
        "list" => show(own, &api(own)?.get(&[kind, &vhost])?, LIST),
        "set" => {
            let definition: Value =
                serde_json::from_str(&text(own, "definition")).map_err(|error| {
                    Failure::new(Code::Usage, format!("the definition is no JSON: {error}"))
                })?;
            let priority: i64 = text(own, "priority")
                .parse()
                .map_err(|_| Failure::new(Code::Usage, "--priority must be a whole number"))?;
            let body = json!({
                "pattern": text(own, "pattern"), "definition": definition,
                "apply-to": text(own, "apply-to"), "priority": priority,
            });
            api(own)?.put(&[kind, &vhost, &name], &body)?;
            done(own, &format!("set policy {name}"))
        }
        _ => {
            api(own)?.delete(&[kind, &vhost, &name], "")?;
            done(own, &format!("deleted policy {name}"))
        }
    }
}
