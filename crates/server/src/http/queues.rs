//! Queues.

use ottla_engine::broker::{DeleteIf, Measured, QueueDeclare, QueueView, Traffic};
use serde_json::{Value, json};

use super::api::{Answer, Call, truth};
use super::ask::Verb;
use super::connections::{consumer_json, owner_json};
use super::overview::NODE;
use super::problem::{Problem, Reply};
use super::{listing, values};

/// All that the user may see, or those of one virtual host.
pub(super) fn list(call: &mut Call<'_>, vhost: Option<&str>) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let own = match vhost {
        Some(vhost) => {
            call.need_vhost(vhost)?;
            Vec::new()
        }
        None => call.own_vhosts(),
    };
    let views = call.broker().queue_views(vhost);
    let visible =
        views.iter().filter(|view| vhost.is_some() || own.iter().any(|o| *o == *view.vhost));
    listing::reply(call.ask, visible.map(queue_json).collect())
}

/// One queue.
pub(super) fn one(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    match call.verb() {
        Verb::Get => {
            call.need_vhost(vhost)?;
            let view = call.broker().queue_view(vhost, name).ok_or_else(Problem::missing)?;
            let mut shown = queue_json(&view);
            let consumers = call.broker().consumers(Some(vhost), Some(name));
            let consumers: Vec<Value> = consumers.iter().map(consumer_json).collect();
            if let Value::Object(fields) = &mut shown {
                fields.insert("consumer_details".to_owned(), json!(consumers));
                fields.insert("incoming".to_owned(), json!([]));
                fields.insert("deliveries".to_owned(), json!([]));
            }
            Ok(Reply::Json(shown))
        }
        Verb::Put => declare(call, vhost, name),
        Verb::Delete => delete(call, vhost, name),
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}

fn declare(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    let body = call.ask.object()?;
    let auto_delete = truth(body.get("auto_delete"), false)?;
    let declare = QueueDeclare {
        name,
        durable: truth(body.get("durable"), false)?,
        exclusive: false,
        auto_delete,
        arguments: values::arguments(body.get("arguments"))?,
    };
    let was_there = call.broker().queue_view(vhost, name).is_some();
    let declared = call.on_channel(vhost, |broker, channel| {
        broker.declare_queue(channel, declare).map_err(Problem::from)
    })?;
    call.put(declared.lsn, was_there)
}

fn delete(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    call.need_vhost(vhost)?;
    call.broker().queue_view(vhost, name).ok_or_else(Problem::missing)?;
    let condition =
        DeleteIf { unused: call.ask.flag("if-unused"), empty: call.ask.flag("if-empty") };
    let engine = &call.context.engine;
    let removed = call.on_channel(vhost, |_, channel| {
        engine.delete_queue(channel, name, condition).map_err(Problem::from)
    })?;
    call.done(removed.lsn)
}

/// Purges.
pub(super) fn contents(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    if call.verb() != Verb::Delete {
        return Err(Problem::method("DELETE, OPTIONS"));
    }
    call.need_vhost(vhost)?;
    call.broker().queue_view(vhost, name).ok_or_else(Problem::missing)?;
    let removed = call.on_channel(vhost, |broker, channel| {
        broker.purge_queue(channel, name).map_err(Problem::from)
    })?;
    call.done(removed.lsn)
}

pub(super) fn queue_json(view: &QueueView) -> Value {
    let counts = &view.counts;
    let messages = counts.ready + counts.unacked + counts.delayed;
    let mut shown = json!({
        "name": *view.name,
        "vhost": *view.vhost,
        "type": view.queue_type.as_str(),
        "durable": view.durable,
        "auto_delete": view.auto_delete,
        "exclusive": view.exclusive,
        "arguments": values::shown(&view.arguments),
        "node": NODE,
        "state": "running",
        "messages": messages,
        "messages_ready": counts.ready,
        "messages_unacknowledged": counts.unacked,
        "messages_delayed": counts.delayed,
        "message_bytes_ready": counts.ready_bytes,
        "consumers": counts.consumers,
        "policy": view.policy,
        "operator_policy": view.operator_policy,
        "effective_policy_definition": values::shown(&view.effective),
        "single_active_consumer_tag": view.active_consumer.as_deref(),
        "messages_details": {"rate": 0.0},
        "messages_ready_details": {"rate": 0.0},
        "messages_unacknowledged_details": {"rate": 0.0},
    });
    if let (Value::Object(fields), Some(stats)) = (&mut shown, message_stats(&view.measured)) {
        fields.insert("message_stats".to_owned(), stats);
    }
    if let (Value::Object(fields), Some(owner)) = (&mut shown, &view.owner) {
        fields.insert("owner_pid_details".to_owned(), owner_json(owner));
    }
    shown
}

type Count = fn(&Traffic) -> u64;

/// What passed through, as RabbitMQ names it; nothing as long as nothing has.
pub(super) fn message_stats(measured: &Measured) -> Option<Value> {
    if measured.totals == Traffic::default() {
        return None;
    }
    let names: [(&str, Count); 8] = [
        ("publish", |traffic| traffic.published),
        ("deliver", |traffic| traffic.delivered),
        ("deliver_no_ack", |traffic| traffic.delivered_no_ack),
        ("get", |traffic| traffic.got),
        ("get_no_ack", |traffic| traffic.got_no_ack),
        ("deliver_get", Traffic::handed_out),
        ("redeliver", |traffic| traffic.redelivered),
        ("ack", |traffic| traffic.acked),
    ];
    let mut stats = serde_json::Map::new();
    for (name, of) in names {
        let thousandths = u32::try_from(of(&measured.rates)).unwrap_or(u32::MAX);
        let rate = f64::from(thousandths) / 1000.0;
        stats.insert(name.to_owned(), json!(of(&measured.totals)));
        stats.insert(format!("{name}_details"), json!({"rate": rate}));
    }
    Some(Value::Object(stats))
}
