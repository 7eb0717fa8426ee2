//! Messages that wait for their time: looked at, and called off. RabbitMQ has nothing of the kind.

use ottla_engine::broker::{DelayedMessage, Seq};
use serde_json::{Value, json};

use super::api::{Answer, Call};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::properties;

/// `GET ottla/delayed/…`: in the order in which they came, those behind `after`, at most `limit`.
pub(super) fn list(call: &mut Call<'_>, vhost: &str) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("GET, HEAD, OPTIONS"));
    }
    call.need_monitor()?;
    call.need_vhost(vhost)?;
    let word = |name: &str, default: u64| match call.ask.word(name) {
        None => Ok(default),
        Some(text) => {
            text.parse().map_err(|_| Problem::bad(format!("{name} must be a whole number")))
        }
    };
    let after = word("after", 0)?;
    let most = usize::try_from(word("limit", LIST_DEFAULT)?).unwrap_or(LIST_MAX).min(LIST_MAX);
    let now = call.context.engine.now().wall.0;
    let items = call.broker().delayed_messages(vhost, Seq(after), most);
    Ok(Reply::Json(json!({
        "total": call.broker().delayed_count(vhost),
        "items": items.iter().map(|item| shown(item, now)).collect::<Vec<_>>(),
    })))
}

/// `DELETE ottla/delayed/…/NUMBER`: calls one off.
pub(super) fn one(call: &mut Call<'_>, vhost: &str, number: &str) -> Answer {
    if call.verb() != Verb::Delete {
        return Err(Problem::method("DELETE, OPTIONS"));
    }
    call.need_admin()?;
    call.need_vhost(vhost)?;
    let number = number.parse().map_err(|_| Problem::bad("the number is none"))?;
    match call.broker().cancel_delayed(vhost, Seq(number))? {
        (true, lsn) => call.done(lsn),
        (false, _) => Err(Problem::not_found("message_not_found")),
    }
}

fn shown(message: &DelayedMessage, now: i64) -> Value {
    json!({
        "number": message.number.0,
        "due_at": message.due.0,
        "due_in_ms": message.due.0.saturating_sub(now).max(0),
        "arrived_at": message.arrived.0,
        "exchange": *message.exchange,
        "routing_key": *message.routing_key,
        "payload_bytes": message.body_bytes,
        "properties": properties::shown(&message.properties),
    })
}

/// Messages of one answer where nothing else is said, and at most.
const LIST_DEFAULT: u64 = 100;
const LIST_MAX: usize = 1000;
