//! Messages moved by hand, and dead letters back to where they died. RabbitMQ has nothing of the kind.

use bytes::Bytes;
use ottla_engine::broker::{Filter, MoveTarget, Moved};
use serde_json::{Map, Value, json};

use super::api::{Answer, Call, need_keys, text, truth};
use super::ask::Verb;
use super::problem::{Problem, Reply};

/// `POST ottla/queues/…/move` to another queue of the virtual host.
pub(super) fn to_queue(call: &mut Call<'_>, vhost: &str, queue: &str) -> Answer {
    let body = body(call)?;
    need_keys(&body, &["destination"])?;
    let destination = text(&body, "destination").to_owned();
    go(call, vhost, queue, MoveTarget::Queue(&destination), &body)
}

/// `POST ottla/queues/…/redrive`
pub(super) fn redrive(call: &mut Call<'_>, vhost: &str, queue: &str) -> Answer {
    let body = body(call)?;
    go(call, vhost, queue, MoveTarget::WhereItDied, &body)
}

fn body(call: &Call<'_>) -> Result<Map<String, Value>, Problem> {
    match call.verb() {
        Verb::Post => call.ask.object(),
        _ => Err(Problem::method("POST, OPTIONS")),
    }
}

fn go(
    call: &mut Call<'_>,
    vhost: &str,
    queue: &str,
    target: MoveTarget<'_>,
    body: &Map<String, Value>,
) -> Answer {
    let filter = filter(body)?;
    let preview = truth(body.get("preview"), false)?;
    let moved = call.on_channel(vhost, |broker, channel| {
        let moved = match preview {
            true => broker.preview_moves(channel, queue, target, &filter),
            false => broker.move_messages(channel, queue, target, &filter),
        };
        moved.map_err(Problem::from)
    })?;
    if let Some(lsn) = moved.lsn {
        call.wait_for(lsn);
    }
    let ready = call.broker().queue_view(vhost, queue).map_or(0, |view| view.counts.ready);
    Ok(Reply::Json(moved_json(&moved, ready)))
}

fn moved_json(moved: &Moved, ready: u64) -> Value {
    json!({
        "moved": moved.targets.values().sum::<u64>(),
        "targets": moved.targets,
        "examined": moved.examined,
        "stayed": moved.stayed,
        "kept": moved.kept,
        "ready": ready,
    })
}

fn filter(body: &Map<String, Value>) -> Result<Filter, Problem> {
    let given = |name: &str| match text(body, name) {
        "" => None,
        text => Some(text.to_owned()),
    };
    let number = |name: &str, default: usize, most: usize| match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            let wrong = || Problem::bad(format!("{name} must be a whole number"));
            number.map(|number| number.min(most)).ok_or_else(wrong)
        }
    };
    let header = match given("header") {
        None => None,
        Some(pair) => match pair.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => return Err(Problem::bad("header must be NAME=VALUE")),
        },
    };
    Ok(Filter {
        died_in: given("died_in"),
        reason: given("reason"),
        routing_key: given("routing_key"),
        header,
        contains: given("contains").map(Bytes::from),
        skip: number("skip", 0, usize::MAX)?,
        look_at: number("look_at", LOOK_AT_MAX, LOOK_AT_MAX)?,
        most: number("limit", LOOK_AT_MAX, LOOK_AT_MAX)?,
    })
}

/// Messages looked at for one request; who wants more asks again with `skip`.
const LOOK_AT_MAX: usize = 1000;
