//! Connections, channels and consumers.

use std::sync::Arc;

use ottla_engine::broker::{ChannelMode, ChannelView, Connection, ConsumerView, OwnerView};
use serde_json::{Value, json};

use super::api::{Answer, Call};
use super::ask::Verb;
use super::overview::NODE;
use super::problem::{Problem, Reply};
use super::{listing, values};

/// `connections…`
pub(super) fn connections(call: &mut Call<'_>, path: &[&str]) -> Answer {
    match (call.verb(), path) {
        (Verb::Get, []) => shown(call, |_| true),
        (Verb::Get, ["username", user]) => shown(call, |connection| connection.user() == *user),
        (Verb::Delete, ["username", user]) => {
            call.need_monitor()?;
            end(call, |connection| connection.user() == *user);
            Ok(Reply::Done)
        }
        (Verb::Get, [name]) => {
            let found = find(call, name)?;
            Ok(Reply::Json(connection_json(&found)))
        }
        (Verb::Delete, [name]) => {
            let found = find(call, name)?;
            end(call, |connection| connection.id() == found.id());
            Ok(Reply::Done)
        }
        (Verb::Get, [name, "channels"]) => {
            let found = find(call, name)?;
            let channels = call.broker().channels();
            let own = channels.iter().filter(|channel| channel.connection.id() == found.id());
            Ok(Reply::Json(Value::Array(own.map(channel_json).collect())))
        }
        (_, []) => Err(Problem::method("HEAD, GET, OPTIONS")),
        (_, [_]) => Err(Problem::method("HEAD, GET, DELETE, OPTIONS")),
        _ => Err(Problem::missing()),
    }
}

/// Those of one virtual host.
pub(super) fn of_vhost(call: &Call<'_>, vhost: &str) -> Answer {
    call.need_vhost(vhost)?;
    shown(call, |connection| connection.vhost() == vhost)
}

fn shown(call: &Call<'_>, which: impl Fn(&Connection) -> bool) -> Answer {
    let clients = call.broker().clients();
    let visible = clients.iter().filter(|client| which(client) && may_see(call, client.user()));
    listing::reply(call.ask, visible.map(|client| connection_json(client)).collect())
}

/// Who does not watch over all sees what is his own.
fn may_see(call: &Call<'_>, user: &str) -> bool {
    call.is_monitor() || call.user() == user
}

fn find(call: &Call<'_>, name: &str) -> Result<Arc<Connection>, Problem> {
    let clients = call.broker().clients().into_iter();
    let mut named = clients.filter(|found| found.client().is_some_and(|own| own.name == name));
    let found = named.next().ok_or_else(Problem::missing)?;
    match may_see(call, found.user()) {
        true => Ok(found),
        false => Err(Problem::not_yours("User not authorised to access object")),
    }
}

fn end(call: &Call<'_>, which: impl Fn(&Connection) -> bool) {
    let reason = call.ask.reason.as_deref().unwrap_or("Closed via management plugin");
    call.broker().end_connections(which, reason);
}

fn connection_json(connection: &Connection) -> Value {
    let channels = connection.cards().len();
    let Some(client) = connection.client() else { return json!({}) };
    json!({
        "name": client.name,
        "user": connection.user(),
        "user_who_performed_action": connection.user(),
        "vhost": connection.vhost(),
        "node": NODE,
        "type": "network",
        "state": "running",
        "protocol": "AMQP 0-9-1",
        "auth_mechanism": client.mechanism,
        "client_properties": values::shown(&client.properties),
        "connected_at": connection.opened().0,
        "channels": channels,
        "channel_max": client.channel_max,
        "frame_max": client.frame_max,
        "timeout": client.heartbeat,
        "host": client.host,
        "port": client.port,
        "peer_host": client.peer_host,
        "peer_port": client.peer_port,
        "ssl": false,
    })
}

/// `channels`, of one virtual host or all.
pub(super) fn channels(call: &Call<'_>, vhost: Option<&str>) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    if let Some(vhost) = vhost {
        call.need_vhost(vhost)?;
    }
    let channels = call.broker().channels();
    let visible = channels.iter().filter(|channel| {
        may_see(call, channel.connection.user())
            && vhost.is_none_or(|vhost| channel.connection.vhost() == vhost)
    });
    listing::reply(call.ask, visible.map(channel_json).collect())
}

/// One channel, by the name of its connection and its number.
pub(super) fn channel(call: &Call<'_>, name: &str) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let channels = call.broker().channels();
    let named = |channel: &&ChannelView| channel_name(channel) == name;
    let found = channels.iter().find(named).ok_or_else(Problem::missing)?;
    match may_see(call, found.connection.user()) {
        true => Ok(Reply::Json(channel_json(found))),
        false => Err(Problem::not_yours("User not authorised to access object")),
    }
}

fn channel_name(channel: &ChannelView) -> String {
    let client = channel.connection.client().map(|client| client.name.as_str()).unwrap_or_default();
    format!("{client} ({})", channel.card.number)
}

fn channel_json(channel: &ChannelView) -> Value {
    let connection = &channel.connection;
    let client = connection.client();
    let mode = channel.card.mode();
    json!({
        "name": channel_name(channel),
        "number": channel.card.number,
        "user": connection.user(),
        "user_who_performed_action": connection.user(),
        "vhost": connection.vhost(),
        "node": NODE,
        "state": "running",
        "confirm": mode == ChannelMode::Confirm,
        "transactional": mode == ChannelMode::Transaction,
        "consumer_count": channel.consumers,
        "messages_unacknowledged": channel.unacked,
        "prefetch_count": channel.card.prefetch(),
        "global_prefetch_count": channel.card.shared_prefetch(),
        "connection_details": {
            "name": client.map(|client| client.name.as_str()),
            "peer_host": client.map(|client| client.peer_host.as_str()),
            "peer_port": client.map(|client| client.peer_port),
        },
    })
}

/// `consumers`, of one virtual host or all.
pub(super) fn consumers(call: &Call<'_>, vhost: Option<&str>) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    if let Some(vhost) = vhost {
        call.need_vhost(vhost)?;
    }
    let consumers = call.broker().consumers(vhost, None);
    let visible = consumers.iter().filter(|consumer| {
        let owner = consumer.owner.as_ref().map(|owner| owner.user.as_str());
        may_see(call, owner.unwrap_or_default())
    });
    listing::reply(call.ask, visible.map(consumer_json).collect())
}

pub(super) fn consumer_json(consumer: &ConsumerView) -> Value {
    json!({
        "consumer_tag": *consumer.tag,
        "queue": {"name": *consumer.queue, "vhost": *consumer.vhost},
        "exclusive": consumer.exclusive,
        "ack_required": !consumer.no_ack,
        "prefetch_count": consumer.prefetch,
        "active": consumer.active,
        "activity_status": if consumer.active { "up" } else { "waiting" },
        "arguments": values::shown(&consumer.arguments),
        "channel_details": consumer.owner.as_ref().map_or_else(|| json!({}), owner_json),
    })
}

pub(super) fn owner_json(owner: &OwnerView) -> Value {
    json!({
        "connection_name": owner.connection,
        "name": format!("{} ({})", owner.connection, owner.number),
        "number": owner.number,
        "user": owner.user,
        "node": NODE,
        "peer_host": owner.peer_host,
        "peer_port": owner.peer_port,
    })
}
