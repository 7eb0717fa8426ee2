//! The node as a whole: overview, its name, its one member, what it can do.

use serde_json::{Value, json};

use super::api::{Answer, Call};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::queues::message_stats;

/// Paths of one part that belong to nothing else.
pub(super) fn answer(call: &mut Call<'_>, path: &[&str]) -> Answer {
    let known = matches!(
        path,
        ["overview" | "cluster-name" | "nodes" | "extensions" | "auth" | "feature-flags"]
            | ["nodes", _]
            | ["deprecated-features"]
            | ["deprecated-features", "used"]
            | ["rebalance", "queues"]
    );
    if !known {
        return Err(Problem::missing());
    }
    if path == ["rebalance", "queues"] && call.verb() == Verb::Post {
        call.need_admin()?;
        return Ok(Reply::Done); // there is one node
    }
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let value = match path {
        ["overview"] => overview(call),
        ["cluster-name"] => json!({"name": NODE}),
        ["nodes"] => {
            call.need_monitor()?;
            json!([node(call)])
        }
        ["nodes", name] => {
            call.need_monitor()?;
            if *name != NODE {
                return Err(Problem::missing());
            }
            node(call)
        }
        ["auth"] => json!({"oauth_enabled": false}),
        _ => json!([]),
    };
    Ok(Reply::Json(value))
}

fn overview(call: &Call<'_>) -> Value {
    let totals = call.broker().totals();
    let kinds = [
        "direct",
        "fanout",
        "headers",
        "topic",
        "x-consistent-hash",
        "x-delayed-message",
        "x-local-random",
        "x-modulus-hash",
        "x-random",
        "x-recent-history",
    ];
    let kinds = kinds.map(|name| json!({"name": name, "description": "", "enabled": true}));
    let listeners: Vec<Value> = call
        .context
        .listeners
        .iter()
        .map(|(protocol, address)| {
            let (ip, port) = (address.ip().to_string(), address.port());
            json!({"node": NODE, "protocol": protocol, "ip_address": ip, "port": port})
        })
        .collect();
    let version = &call.context.version;
    json!({
        "management_version": version,
        "rates_mode": "basic",
        "exchange_types": kinds,
        "product_name": "RabbitMQ",
        "product_version": version,
        "rabbitmq_version": version,
        "ottla_version": env!("CARGO_PKG_VERSION"),
        "cluster_name": NODE,
        "node": NODE,
        "erlang_version": "none",
        "erlang_full_version": "none: Ottla",
        "default_queue_type": "classic",
        "disable_stats": false,
        "enable_queue_totals": false,
        "is_op_policy_updating_enabled": true,
        "message_stats": message_stats(&call.broker().measured()).unwrap_or_else(|| json!({})),
        "churn_rates": {},
        "queue_totals": {
            "messages": totals.ready + totals.unacked,
            "messages_ready": totals.ready,
            "messages_unacknowledged": totals.unacked,
        },
        "object_totals": {
            "channels": totals.channels,
            "connections": totals.connections,
            "consumers": totals.consumers,
            "exchanges": totals.exchanges,
            "queues": totals.queues,
        },
        "listeners": listeners,
        "contexts": [],
    })
}

fn node(call: &Call<'_>) -> Value {
    let totals = call.broker().totals();
    json!({
        "name": NODE,
        "type": "disc",
        "running": true,
        "mem_alarm": call.broker().is_short_of_memory(),
        "disk_free_alarm": call.broker().is_short_of_disk(),
        "partitions": [],
        "uptime": call.context.engine.now().monotonic.0,
        "applications": [],
        "enabled_plugins": [],
        "connection_created": totals.connections,
    })
}

/// The one node, as tools of RabbitMQ expect a node to be called.
pub(super) const NODE: &str = "ottla@localhost";
