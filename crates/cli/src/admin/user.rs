//! `ottla user`

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::{Column, Done, api, done, limits, name_of, option, show};
use crate::exit::{Code, Failure};
use crate::kafka::text;

const LIST: &[Column] = &[("USER", "name"), ("TAGS", "tags"), ("LIMITS", "limits")];
const LIMITS: [&str; 2] = ["max-connections", "max-channels"];

pub(super) fn command() -> Command {
    Command::new("user")
        .about("Lists, makes, limits and deletes users")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists users"))
        .subcommand(
            Command::new("set")
                .about("Makes a user, or changes its password and tags")
                .arg(name_of("USER"))
                .arg(option("new-password-file", "FILE", "its password stands there"))
                .arg(option("new-password", "TEXT", "its password, seen by all who see processes"))
                .arg(
                    option(
                        "tags",
                        "WORDS",
                        "administrator, monitoring, policymaker, management, with commas",
                    )
                    .default_value(""),
                ),
        )
        .subcommand(limits::command("USER", LIMITS))
        .subcommand(
            Command::new("delete")
                .about("Deletes a user and closes its connections")
                .arg(name_of("USER")),
        )
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("list", own)) => show(own, &api(own)?.get(&["users"])?, LIST),
        Some(("set", own)) => {
            let name = text(own, "name");
            let mut body = Map::new();
            body.insert("tags".to_owned(), json!(text(own, "tags")));
            if let Some(password) = password(own)? {
                body.insert("password".to_owned(), json!(password));
            }
            api(own)?.put(&["users", &name], &Value::Object(body))?;
            done(own, &format!("set user {name}: what it may do says `ottla permission set`"))
        }
        Some(("limit", own)) => limits::run(own, "user-limits", LIMITS),
        Some(("delete", own)) => {
            let name = text(own, "name");
            api(own)?.delete(&["users", &name], "")?;
            done(own, &format!("deleted user {name}"))
        }
        _ => Ok(()), // clap has refused everything else
    }
}

fn password(arguments: &ArgMatches) -> Result<Option<String>, Failure> {
    match arguments.get_one::<String>("new-password-file") {
        None => Ok(arguments.get_one::<String>("new-password").cloned()),
        Some(file) => std::fs::read_to_string(file)
            .map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            .map_err(|error| Failure::new(Code::NoInput, format!("{file}: {error}"))),
    }
}
