//! Who may do what in which virtual host, and with which routing keys.

use ottla_engine::broker::{PermissionImage, TopicPermissionImage, UserView};
use serde_json::{Map, Value, json};

use super::api::{Answer, Call, need_keys, text};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::{listing, users};

fn all(users: &[UserView]) -> Vec<Value> {
    let of = |user: &UserView| {
        let name = user.name.to_string();
        let own = user.permissions.iter();
        own.map(|(vhost, own)| permission_json(&name, vhost, own)).collect::<Vec<_>>()
    };
    users.iter().flat_map(of).collect()
}

fn all_topics(users: &[UserView]) -> Vec<Value> {
    let of = |user: &UserView| {
        let name = user.name.to_string();
        let own = user.topics.iter();
        own.map(|(vhost, exchange, own)| topic_json(&name, vhost, exchange, own))
            .collect::<Vec<_>>()
    };
    users.iter().flat_map(of).collect()
}

fn permission_json(user: &str, vhost: &str, own: &PermissionImage) -> Value {
    json!({
        "user": user, "vhost": vhost,
        "configure": own.configure, "write": own.write, "read": own.read,
    })
}

fn topic_json(user: &str, vhost: &str, exchange: &str, own: &TopicPermissionImage) -> Value {
    json!({
        "user": user, "vhost": vhost, "exchange": exchange,
        "write": own.write, "read": own.read,
    })
}

fn shown(call: &Call<'_>, items: Vec<Value>, key: &str, value: &str) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    call.need_admin()?;
    let is = |item: &Value| key.is_empty() || item.get(key).and_then(Value::as_str) == Some(value);
    listing::reply(call.ask, items.into_iter().filter(is).collect())
}

pub(super) fn list(call: &Call<'_>) -> Answer {
    shown(call, all(&call.broker().users()), "", "")
}

pub(super) fn list_topics(call: &Call<'_>) -> Answer {
    shown(call, all_topics(&call.broker().users()), "", "")
}

pub(super) fn of_user(call: &Call<'_>, user: &str) -> Answer {
    call.need_admin()?;
    users::find(call, user).ok_or_else(Problem::missing)?;
    shown(call, all(&call.broker().users()), "user", user)
}

pub(super) fn topics_of_user(call: &Call<'_>, user: &str) -> Answer {
    call.need_admin()?;
    users::find(call, user).ok_or_else(Problem::missing)?;
    shown(call, all_topics(&call.broker().users()), "user", user)
}

pub(super) fn of_vhost(call: &Call<'_>, vhost: &str) -> Answer {
    call.need_admin()?;
    known(call, vhost)?;
    shown(call, all(&call.broker().users()), "vhost", vhost)
}

pub(super) fn topics_of_vhost(call: &Call<'_>, vhost: &str) -> Answer {
    call.need_admin()?;
    known(call, vhost)?;
    shown(call, all_topics(&call.broker().users()), "vhost", vhost)
}

fn known(call: &Call<'_>, vhost: &str) -> Result<(), Problem> {
    if call.has_vhost(vhost) { Ok(()) } else { Err(Problem::missing()) }
}

/// What one user may do in one virtual host.
pub(super) fn one(call: &mut Call<'_>, vhost: &str, user: &str) -> Answer {
    call.need_admin()?;
    let known = users::find(call, user);
    let own = known.as_ref().and_then(|known| {
        let mut own = known.permissions.iter();
        own.find(|(of, _)| **of == *vhost).map(|(_, own)| own.clone())
    });
    match call.verb() {
        Verb::Get => {
            let own = own.ok_or_else(Problem::missing)?;
            Ok(Reply::Json(permission_json(user, vhost, &own)))
        }
        Verb::Put => {
            let body = call.ask.object()?;
            need_keys(&body, &["configure", "write", "read"])?;
            if known.is_none() || !call.has_vhost(vhost) {
                return Err(Problem::bad("vhost_or_user_not_found"));
            }
            let lsn = call.broker().set_permissions(user, vhost, image(&body))?;
            call.put(lsn, own.is_some())
        }
        Verb::Delete => {
            own.ok_or_else(Problem::missing)?;
            let lsn = call.broker().delete_permissions(user, vhost)?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}

/// Three patterns of a body; also of definitions.
pub(super) fn image(body: &Map<String, Value>) -> PermissionImage {
    let pattern = |name| text(body, name).to_owned();
    PermissionImage {
        configure: pattern("configure"),
        write: pattern("write"),
        read: pattern("read"),
    }
}

/// Two patterns of a body; also of definitions.
pub(super) fn topic_image(body: &Map<String, Value>) -> TopicPermissionImage {
    let pattern = |name| text(body, name).to_owned();
    TopicPermissionImage { write: pattern("write"), read: pattern("read") }
}

/// Which routing keys one user may use in one virtual host.
pub(super) fn topics(call: &mut Call<'_>, vhost: &str, user: &str) -> Answer {
    call.need_admin()?;
    let found = users::find(call, user);
    let own: Vec<Value> =
        found.iter().flat_map(|user| all_topics(std::slice::from_ref(user))).collect();
    let here = |item: &&Value| item.get("vhost").and_then(Value::as_str) == Some(vhost);
    let own: Vec<Value> = own.iter().filter(here).cloned().collect();
    match call.verb() {
        Verb::Get if own.is_empty() => Err(Problem::missing()),
        Verb::Get => Ok(Reply::Json(Value::Array(own))),
        Verb::Put => {
            let body = call.ask.object()?;
            need_keys(&body, &["exchange", "write", "read"])?;
            if found.is_none() || !call.has_vhost(vhost) {
                return Err(Problem::bad("vhost_or_user_not_found"));
            }
            let exchange = text(&body, "exchange");
            let topic = topic_image(&body);
            let lsn = call.broker().set_topic_permissions(user, vhost, exchange, topic)?;
            call.put(lsn, !own.is_empty())
        }
        Verb::Delete => {
            if own.is_empty() {
                return Err(Problem::missing());
            }
            let lsn = call.broker().delete_topic_permissions(user, vhost, None)?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}
