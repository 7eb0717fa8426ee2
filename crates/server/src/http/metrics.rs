//! The few numbers there are, as Prometheus reads them, under RabbitMQ's names where it has one.

use std::fmt::Write as _;

use ottla_engine::{Durability, Lsn};

use super::Context;
use super::problem::Reply;

/// All queues together; with `each`, one by one, too.
pub(super) fn reply(context: &Context, each: bool) -> Reply {
    let mut text = String::new();
    let totals = context.broker().totals();
    let engine = &context.engine;
    let store = engine.store();
    let lag = store.end().0.saturating_sub(engine.durable().0);
    let gauges = [
        ("rabbitmq_connections", "Connections of RabbitMQ clients", totals.connections),
        ("rabbitmq_channels", "Channels of RabbitMQ clients", totals.channels),
        ("rabbitmq_consumers", "Consumers of queues", totals.consumers),
        ("rabbitmq_queues", "Queues", totals.queues),
        ("rabbitmq_queue_messages_ready", "Messages that are ready", totals.ready),
        ("rabbitmq_queue_messages_unacked", "Messages that consumers hold", totals.unacked),
        ("rabbitmq_queue_messages", "Messages, ready or held", totals.ready + totals.unacked),
        ("rabbitmq_queue_messages_ready_bytes", "Bytes of ready messages", totals.ready_bytes),
        ("ottla_log_end_bytes", "Bytes ever appended to the log", store.end().0),
        ("ottla_log_unsynced_bytes", "Bytes of the log that wait for the disk", lag),
        (
            "ottla_log_retained_bytes",
            "Bytes of the log not retired yet",
            retained(store.end(), store.floor()),
        ),
        ("ottla_durability_sync", "1: acknowledged is on disk", u64::from(synced(context))),
    ];
    for (name, about, value) in gauges {
        line(
            &mut text,
            format_args!("# HELP {name} {about}\n# TYPE {name} gauge\n{name} {value}\n"),
        );
    }
    let about = "Seconds that syncs of the log took";
    text.push_str(&context.syncs.text("ottla_log_sync_seconds", about));
    if each {
        for view in context.broker().queue_views(None) {
            let (queue, vhost) = (escaped(&view.name), escaped(&view.vhost));
            let values = [
                ("rabbitmq_queue_messages_ready", view.counts.ready),
                ("rabbitmq_queue_messages_unacked", view.counts.unacked),
                ("rabbitmq_queue_consumers", view.counts.consumers),
            ];
            for (name, value) in values {
                line(
                    &mut text,
                    format_args!("{name}{{vhost=\"{vhost}\",queue=\"{queue}\"}} {value}\n"),
                );
            }
        }
    }
    Reply::Text(text)
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

const fn retained(end: Lsn, floor: Lsn) -> u64 {
    end.0.saturating_sub(floor.0)
}

fn synced(context: &Context) -> bool {
    context.engine.options().store.durability == Durability::Sync
}

/// Prometheus' text format: backslash, quote and line end.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
