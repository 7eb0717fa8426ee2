//! `ottla get`: looks at messages of a queue; takes them only when told to.

use std::io::Write;

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::{Done, api, cell, flag, name_of, option};
use crate::exit::{Code, Failure};
use crate::kafka::{output, text};

pub(super) fn command() -> Command {
    Command::new("get")
        .about("Shows the first messages of a queue and leaves them there, unless told to take them")
        .arg(name_of("QUEUE"))
        .arg(option("count", "N", "how many").short('n').default_value("10"))
        .arg(option("skip", "N", "how many to pass over").default_value("0"))
        .arg(flag("take", "take them out of the queue"))
        .arg(flag("requeue", "take them and give them back, as RabbitMQ's tools do: they are marked as redelivered").conflicts_with("take"))
        .arg(flag("headers", "show properties and headers, too"))
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    let number = |name: &str| {
        let wrong = || Failure::new(Code::Usage, format!("--{name} must be a whole number"));
        text(arguments, name).parse::<u64>().map_err(|_| wrong())
    };
    let mode = match (arguments.get_flag("take"), arguments.get_flag("requeue")) {
        (true, _) => "ack_requeue_false",
        (_, true) => "ack_requeue_true",
        _ => "peek",
    };
    let body = json!({
        "count": number("count")?, "skip": number("skip")?, "ackmode": mode, "encoding": "auto",
    });
    let (vhost, name) = (text(arguments, "vhost"), text(arguments, "name"));
    let messages = api(arguments)?.post(&["queues", &vhost, &name, "get"], &body)?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        return writeln!(out, "{messages}").map_err(output);
    }
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        return writeln!(out, "there is nothing in {name}").map_err(output);
    }
    for message in messages {
        show(&mut out, message, arguments.get_flag("headers")).map_err(output)?;
    }
    Ok(())
}

fn show(out: &mut impl Write, message: &Value, headers: bool) -> std::io::Result<()> {
    let again = if message.get("redelivered") == Some(&json!(true)) { ", redelivered" } else { "" };
    let (exchange, key) = (cell(message, "exchange"), cell(message, "routing_key"));
    writeln!(out, "{exchange} {key} ({} bytes{again})", cell(message, "payload_bytes"))?;
    if headers {
        let properties = message.get("properties").and_then(Value::as_object);
        for (name, value) in properties.into_iter().flatten() {
            writeln!(out, "  {name}: {value}")?;
        }
    }
    let encoded = message.get("payload_encoding") == Some(&json!("base64"));
    let note = if encoded { " (base64)" } else { "" };
    writeln!(out, "  {}{note}", message.get("payload").and_then(Value::as_str).unwrap_or_default())
}
