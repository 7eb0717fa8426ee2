//! `ottla binding`

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::{Column, Done, api, arguments_option, done, exchange_path, flag, option, pairs, show};
use crate::exit::{Code, Failure};
use crate::kafka::text;

const LIST: &[Column] = &[
    ("FROM", "source"),
    ("TO", "destination"),
    ("KIND", "destination_type"),
    ("KEY", "routing_key"),
    ("ARGUMENTS", "arguments"),
];

pub(super) fn command() -> Command {
    let ends = |command: Command| {
        command
            .arg(Arg::new("source").required(true).value_name("EXCHANGE"))
            .arg(Arg::new("destination").required(true).value_name("QUEUE"))
            .arg(option("key", "KEY", "the routing key").short('k').default_value(""))
            .arg(flag("to-exchange", "the destination is an exchange"))
            .arg(arguments_option())
    };
    Command::new("binding")
        .about("Lists, makes and removes bindings")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists bindings"))
        .subcommand(ends(Command::new("create").about("Binds a queue to an exchange")))
        .subcommand(ends(Command::new("delete").about("Removes a binding")))
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    match arguments.subcommand() {
        Some(("list", own)) => show(own, &api(own)?.get(&["bindings", &text(own, "vhost")])?, LIST),
        Some(("create", own)) => {
            let body =
                json!({"routing_key": text(own, "key"), "arguments": pairs(own, "argument")?});
            let ends = ends(own);
            api(own)?.post(&ends.path(), &body)?;
            done(own, &format!("bound {} to {}", ends.destination, ends.source))
        }
        Some(("delete", own)) => delete(own),
        _ => Ok(()), // clap has refused everything else
    }
}

struct Ends {
    vhost: String,
    source: String,
    kind: &'static str,
    destination: String,
}

impl Ends {
    fn path(&self) -> [&str; 6] {
        let source = exchange_path(&self.source);
        ["bindings", &self.vhost, "e", source, self.kind, &self.destination]
    }
}

fn ends(arguments: &ArgMatches) -> Ends {
    Ends {
        vhost: text(arguments, "vhost"),
        source: text(arguments, "source"),
        kind: if arguments.get_flag("to-exchange") { "e" } else { "q" },
        destination: text(arguments, "destination"),
    }
}

/// Finds the binding by its key and arguments: its address is the broker's to know.
fn delete(arguments: &ArgMatches) -> Done {
    let (api, ends, key) = (api(arguments)?, ends(arguments), text(arguments, "key"));
    let own = Value::Object(pairs(arguments, "argument")?);
    let bindings = api.get(&ends.path())?;
    let same = |binding: &&Value| {
        binding.get("routing_key") == Some(&json!(key)) && binding.get("arguments") == Some(&own)
    };
    let found = bindings.as_array().into_iter().flatten().find(same);
    let properties = found.and_then(|found| found.get("properties_key")).and_then(Value::as_str);
    let Some(properties) = properties else {
        let what = format!("{} is not bound to {} with key `{key}`", ends.destination, ends.source);
        return Err(Failure::new(Code::Data, what).remedy("see `ottla binding list`"));
    };
    let mut path = ends.path().to_vec();
    path.push(properties);
    api.delete(&path, "")?;
    done(arguments, &format!("unbound {} from {}", ends.destination, ends.source))
}
