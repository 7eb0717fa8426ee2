//! How much a virtual host or a user may have.

use ottla_engine::broker::LimitsImage;
use serde_json::{Map, Value, json};

use super::api::{Answer, Call};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::users;

/// `vhost-limits…`
pub(super) fn of_vhosts(call: &mut Call<'_>, path: &[&str]) -> Answer {
    match (call.verb(), path) {
        (Verb::Get, []) => {
            let own = call.own_vhosts();
            let views = call.broker().vhosts();
            let visible = views.iter().filter(|view| {
                view.limits != LimitsImage::default() && own.iter().any(|own| *own == *view.name)
            });
            let shown = visible.map(|view| shown("vhost", &view.name, &view.limits));
            Ok(Reply::Json(Value::Array(shown.collect())))
        }
        (Verb::Get, [vhost]) => {
            call.need_vhost(vhost)?;
            let limits = vhost_limits(call, vhost)?;
            Ok(Reply::Json(json!([shown("vhost", vhost, &limits)])))
        }
        (verb @ (Verb::Put | Verb::Delete), [vhost, name]) => {
            call.need_admin()?;
            let mut limits = vhost_limits(call, vhost)?;
            let value = if verb == Verb::Put { Some(value(call, name)?) } else { None };
            let refused = |text: String| Problem::bad(format!("Validation failed\n\n{text}\n"));
            match *name {
                "max-connections" => limits.max_connections = value.flatten(),
                "max-queues" => limits.max_queues = value.flatten(),
                _ => return Err(refused(format!("Unrecognised terms [{name}] in limits"))),
            }
            let lsn = call.broker().limit_vhost(vhost, limits)?;
            call.done(lsn)
        }
        (_, [_, _]) => Err(Problem::method("PUT, DELETE, OPTIONS")),
        (_, [] | [_]) => Err(Problem::method("HEAD, GET, OPTIONS")),
        _ => Err(Problem::missing()),
    }
}

/// `user-limits…`
pub(super) fn of_users(call: &mut Call<'_>, path: &[&str]) -> Answer {
    match (call.verb(), path) {
        (Verb::Get, []) => {
            let limited = |limits: &LimitsImage| *limits != LimitsImage::default();
            let admin = call.is_admin();
            let users = call.broker().users().into_iter();
            let visible =
                users.filter(|user| limited(&user.limits) && (admin || *user.name == *call.user()));
            let shown = visible.map(|user| shown("user", &user.name, &user.limits));
            Ok(Reply::Json(Value::Array(shown.collect())))
        }
        (Verb::Get, [name]) => {
            call.need_admin()?;
            let user = users::find(call, name).ok_or_else(Problem::missing)?;
            Ok(Reply::Json(json!([shown("user", name, &user.limits)])))
        }
        (verb @ (Verb::Put | Verb::Delete), [user, name]) => {
            call.need_admin()?;
            let known = users::find(call, user);
            let Some(known) = known else {
                return Err(Problem::bad(json!(["no_such_user", user])));
            };
            let mut limits = known.limits;
            let value = if verb == Verb::Put { Some(value(call, name)?) } else { None };
            match *name {
                "max-connections" => limits.max_connections = value.flatten(),
                "max-channels" => limits.max_channels = value.flatten(),
                _ => {
                    let text = format!("Unrecognised terms [{name}] in user-limits");
                    return Err(Problem::bad(text));
                }
            }
            let lsn = call.broker().limit_user(user, limits)?;
            call.done(lsn)
        }
        (_, [_, _]) => Err(Problem::method("PUT, DELETE, OPTIONS")),
        (_, [] | [_]) => Err(Problem::method("HEAD, GET, OPTIONS")),
        _ => Err(Problem::missing()),
    }
}

fn vhost_limits(call: &Call<'_>, vhost: &str) -> Result<LimitsImage, Problem> {
    let mut views = call.broker().vhosts().into_iter();
    views.find(|view| *view.name == *vhost).map(|view| view.limits).ok_or_else(Problem::missing)
}

/// A negative number is no limit.
fn value(call: &Call<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let body = call.ask.object()?;
    let value = body.get("value").ok_or_else(|| Problem::keys(&["value"]))?;
    let number = value.as_i64().ok_or_else(|| {
        let text = format!("{name} should be a number, actually was {value}");
        Problem::bad(format!("Validation failed\n\n{text}\n"))
    })?;
    Ok(u64::try_from(number).ok())
}

fn shown(key: &str, name: &str, limits: &LimitsImage) -> Value {
    let mut shown = Map::new();
    shown.insert(key.to_owned(), json!(name));
    shown.insert("value".to_owned(), limits_json(limits));
    Value::Object(shown)
}

pub(super) fn limits_json(limits: &LimitsImage) -> Value {
    let all = [
        ("max-connections", limits.max_connections),
        ("max-queues", limits.max_queues),
        ("max-channels", limits.max_channels),
    ];
    let set = all.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), json!(limit?))));
    Value::Object(set.collect())
}

/// Limits of definitions; a negative number is no limit.
pub(super) fn read(value: Option<&Value>) -> LimitsImage {
    let number = |name: &str| value.and_then(|limits| limits.get(name)).and_then(Value::as_u64);
    LimitsImage {
        max_connections: number("max-connections"),
        max_queues: number("max-queues"),
        max_channels: number("max-channels"),
    }
}
