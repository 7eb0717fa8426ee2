//! `ottla publish`: one message, from the command line or from stdin.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::{Done, api, done, exchange_path, flag, option, pairs};
use crate::exit::{Code, Failure};
use crate::kafka::text;

pub(super) fn command() -> Command {
    Command::new("publish")
        .about("Publishes a message for RabbitMQ clients; answers once it is safe")
        .arg(
            Arg::new("key")
                .required(true)
                .value_name("KEY")
                .help("routing key; a queue's name, without --exchange"),
        )
        .arg(
            Arg::new("body").value_name("TEXT").help("what it says; from stdin if it is not there"),
        )
        .arg(option("exchange", "NAME", "where to").short('e').default_value(""))
        .arg(
            option(
                "property",
                "NAME=VALUE",
                "a property, as content_type=text/plain; can be repeated",
            )
            .short('p')
            .action(ArgAction::Append),
        )
        .arg(option("header", "NAME=VALUE", "a header; can be repeated").action(ArgAction::Append))
        .arg(flag("transient", "need not survive a restart"))
}

pub(super) fn run(arguments: &ArgMatches) -> Done {
    let body = match arguments.get_one::<String>("body") {
        Some(body) => body.clone().into_bytes(),
        None => {
            let mut body = Vec::new();
            let read = std::io::stdin().lock().take(BODY_MAX).read_to_end(&mut body);
            read.map_err(|error| Failure::new(Code::NoInput, format!("stdin: {error}")))?;
            body
        }
    };
    let mut properties = pairs(arguments, "property")?;
    for name in TEXTS {
        if let Some(value) = properties.get_mut(name).filter(|value| !value.is_string()) {
            *value = json!(value.to_string()); // a number is a text here
        }
    }
    let headers = pairs(arguments, "header")?;
    if !headers.is_empty() {
        properties.insert("headers".to_owned(), Value::Object(headers));
    }
    if !arguments.get_flag("transient") {
        properties.entry("delivery_mode").or_insert(json!(2));
    }
    let (exchange, key) = (text(arguments, "exchange"), text(arguments, "key"));
    let message = json!({
        "properties": properties, "routing_key": key, "payload": STANDARD.encode(&body),
        "payload_encoding": "base64",
    });
    let vhost = text(arguments, "vhost");
    let path = ["exchanges", &vhost, exchange_path(&exchange), "publish"];
    let told = api(arguments)?.post(&path, &message)?;
    if told.get("rejected") == Some(&json!(true)) {
        return Err(Failure::new(Code::Data, "a queue is full and refused the message"));
    }
    if told.get("routed") != Some(&json!(true)) {
        let what = format!("no queue wants messages with key `{key}`: it was dropped");
        return Err(Failure::new(Code::Data, what).remedy(
            "see `ottla binding list`; without --exchange the key is the name of a queue",
        ));
    }
    done(arguments, &format!("published {} bytes", body.len()))
}

/// Properties that are texts, whatever they look like.
const TEXTS: [&str; 9] = [
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
];
/// Bytes of a message, as on AMQP.
const BODY_MAX: u64 = 16 << 20;
