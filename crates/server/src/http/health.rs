//! Is it alive, and does it serve: for orchestrators.

use ottla_engine::Durability;
use serde_json::json;

use super::api::{Answer, Call};
use super::ask::Verb;
use super::overview::NODE;
use super::problem::{Problem, Reply};

pub(super) fn check(call: &Call<'_>, path: &[&str]) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let ok = || Ok(Reply::Json(json!({"status": "ok"})));
    match path {
        ["alarms"] => alarms(call, "There are alarms in effect in the cluster"),
        ["local-alarms"] => alarms(call, "There are alarms in effect on the node"),
        ["virtual-hosts" | "is-in-service" | "ready-to-serve-clients"]
        | [
            "below-node-connection-limit"
            | "metadata-store"
            | "quorum-queues-without-elected-leaders",
        ]
        | ["certificate-expiration", _, _] => ok(),
        ["node-is-quorum-critical"] => {
            Ok(Reply::Json(json!({"status": "ok", "reason": "single node cluster"})))
        }
        ["port-listener", port] => {
            let number: Result<u16, _> = port.parse();
            let Ok(number) = number else { return Err(Problem::bad("not a port")) };
            let ports: Vec<u16> = call.context.listeners.iter().map(|(_, at)| at.port()).collect();
            if ports.contains(&number) {
                return Ok(Reply::Json(json!({"status": "ok", "port": number})));
            }
            Ok(Reply::Failed(json!({
                "status": "failed", "reason": "No active listener", "missing": number, "ports": ports,
            })))
        }
        ["protocol-listener", protocol] => {
            let protocols: Vec<&str> =
                call.context.listeners.iter().map(|(name, _)| *name).collect();
            let wanted = if *protocol == "amqp091" { "amqp" } else { protocol };
            if protocols.contains(&wanted) {
                return Ok(Reply::Json(json!({"status": "ok", "protocol": protocol})));
            }
            Ok(Reply::Failed(json!({
                "status": "failed", "reason": "No active listener", "missing": protocol,
                "protocols": protocols,
            })))
        }
        _ => Err(Problem::missing()),
    }
}

/// Whether publishers have to wait, and for what.
fn alarms(call: &Call<'_>, reason: &str) -> Answer {
    let broker = call.broker();
    let known = [("memory", broker.is_short_of_memory()), ("disk", broker.is_short_of_disk())];
    let alarms = known.iter().filter(|(_, on)| *on);
    let alarms: Vec<_> =
        alarms.map(|(resource, _)| json!({"node": NODE, "resource": resource})).collect();
    if alarms.is_empty() {
        return Ok(Reply::Json(json!({"status": "ok"})));
    }
    Ok(Reply::Failed(json!({"status": "failed", "reason": reason, "alarms": alarms})))
}

/// Whether what is written becomes durable: a virtual host that answers is one the log works for.
pub(super) fn aliveness(call: &mut Call<'_>, vhost: &str) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    call.need_vhost(vhost)?;
    let engine = &call.context.engine;
    let synced = engine.options().store.durability == Durability::Sync;
    call.wait_for(engine.broker().changed());
    Ok(Reply::Json(json!({"status": "ok", "durability": if synced { "sync" } else { "os" }})))
}
