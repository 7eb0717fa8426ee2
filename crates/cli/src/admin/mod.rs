//! Commands that talk to a broker's HTTP interface: Ottla's, or RabbitMQ's management plugin.

mod binding;
mod client;
mod definitions;
mod delayed;
mod exchange;
mod get;
mod limits;
mod moves;
mod permission;
mod policy;
mod publish;
mod queue;
mod user;
mod vhost;

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use self::client::Api;
use crate::exit::{Code, Failure};
use crate::kafka::{output, text};
use crate::table;

type Done = Result<(), Failure>;

/// The commands of this folder.
pub(crate) fn commands() -> Vec<Command> {
    let commands = [
        queue::command(),
        exchange::command(),
        binding::command(),
        policy::command(),
        vhost::command(),
        user::command(),
        permission::command(),
        publish::command(),
        get::command(),
        delayed::command(),
        definitions::command(),
    ];
    commands.into_iter().map(with_address).collect()
}

/// Runs a command of this folder; `None` if the name is not one.
pub(crate) fn run(name: &str, arguments: &ArgMatches) -> Option<Done> {
    let run = match name {
        "queue" => queue::run,
        "exchange" => exchange::run,
        "binding" => binding::run,
        "policy" => policy::run,
        "vhost" => vhost::run,
        "user" => user::run,
        "permission" => permission::run,
        "publish" => publish::run,
        "get" => get::run,
        "delayed" => delayed::run,
        "definitions" => definitions::run,
        _ => return None,
    };
    Some(run(arguments))
}

/// Where the broker is and who asks.
fn with_address(command: Command) -> Command {
    let option = |name: &'static str, value: &'static str, default: &'static str| {
        Arg::new(name).long(name).value_name(value).default_value(default).global(true)
    };
    command
        .arg(option("http", "HOST:PORT", "127.0.0.1:15672").help("the broker's HTTP interface"))
        .arg(option("user", "NAME", "guest").help("who asks"))
        .arg(option("password", "TEXT", "guest").help("the user's password"))
        .arg(
            Arg::new("password-file")
                .long("password-file")
                .value_name("FILE")
                .global(true)
                .help("read the password from here, so that it shows in no list of processes"),
        )
        .arg(option("vhost", "NAME", "/").help("virtual host"))
        .arg(crate::kafka::json().global(true))
}

fn name_of(what: &'static str) -> Arg {
    Arg::new("name").required(true).value_name(what)
}

fn flag(name: &'static str, about: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(about)
}

fn option(name: &'static str, value: &'static str, about: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(about)
}

/// `--argument NAME=VALUE`, repeatable.
fn arguments_option() -> Arg {
    option("argument", "NAME=VALUE", "an argument, as x-max-length=5; can be repeated")
        .short('a')
        .action(ArgAction::Append)
}

/// The values of a repeatable `NAME=VALUE`: numbers, truth values and JSON are taken as such.
fn pairs(arguments: &ArgMatches, name: &str) -> Result<Map<String, Value>, Failure> {
    let given = arguments.get_many::<String>(name).into_iter().flatten();
    let pair = |pair: &String| {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(Code::Usage, format!("`{pair}` is not NAME=VALUE")))?;
        Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value))))
    };
    given.map(pair).collect()
}

/// A whole number of the command line.
fn number(arguments: &ArgMatches, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = arguments.get_one::<String>(name) else { return Ok(None) };
    let wrong = || Failure::new(Code::Usage, format!("--{name} must be a whole number"));
    text.parse().map(Some).map_err(|_| wrong())
}

/// Says what was done.
fn done(arguments: &ArgMatches, what: &str) -> Done {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{}", json!({"done": what})).map_err(output);
    }
    writeln!(out, "{what}").map_err(output)
}

/// A column: its title, and the path of its value in an item.
type Column = (&'static str, &'static str);

/// A list as a table for people, or as it came for programs.
fn show(arguments: &ArgMatches, items: &Value, columns: &[Column]) -> Done {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{items}").map_err(output);
    }
    let header: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let row = |item: &Value| columns.iter().map(|(_, path)| cell(item, path)).collect();
    let rows: Vec<Vec<String>> = items.as_array().into_iter().flatten().map(row).collect();
    table::write(&mut out, &header, &rows).map_err(output)
}

/// One thing, line by line, or as it came for programs.
fn describe(arguments: &ArgMatches, item: &Value, columns: &[Column]) -> Done {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{item}").map_err(output);
    }
    let row = |(title, path): &Column| vec![(*title).to_owned(), cell(item, path)];
    let rows: Vec<Vec<String>> = columns.iter().map(row).collect();
    table::write(&mut out, &["", ""], &rows).map_err(output)
}

fn cell(item: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(item, |inner, name| inner.get(name));
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(fields)) if fields.is_empty() => "-".to_owned(),
        Some(Value::Object(fields)) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", plain(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        Some(Value::Array(values)) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn api(arguments: &ArgMatches) -> Result<Api, Failure> {
    let password = match arguments.get_one::<String>("password-file") {
        None => text(arguments, "password"),
        Some(file) => std::fs::read_to_string(file)
            .map(|password| password.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| Failure::new(Code::NoInput, format!("{file}: {error}")))?,
    };
    Ok(Api::new(&text(arguments, "http"), &text(arguments, "user"), &password))
}

/// The exchange's name in a path: the default exchange has none.
fn exchange_path(name: &str) -> &str {
    if name.is_empty() { "amq.default" } else { name }
}
