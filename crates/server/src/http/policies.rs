//! Policies and operator policies.

use ottla_engine::broker::{PolicyImage, PolicyKind, PolicyView};
use ottla_engine::queue::{QueueType, Rules};
use ottla_engine::vhost::{ApplyTo, Pattern};
use serde_json::{Map, Value, json};

use super::api::{Answer, Call, need_keys, text};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::{listing, values};

pub(super) const USER: PolicyKind = PolicyKind::User;
pub(super) const OPERATOR: PolicyKind = PolicyKind::Operator;

pub(super) fn answer(call: &mut Call<'_>, kind: PolicyKind, path: &[&str]) -> Answer {
    match path {
        [] => {
            let own = call.own_vhosts();
            list(call, kind, |view| own.iter().any(|own| *own == *view.vhost))
        }
        [vhost] => {
            call.need_vhost(vhost)?;
            list(call, kind, |view| *view.vhost == **vhost)
        }
        [vhost, name] => one(call, kind, vhost, name),
        _ => Err(Problem::missing()),
    }
}

fn list(call: &Call<'_>, kind: PolicyKind, which: impl Fn(&PolicyView) -> bool) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let views = call.broker().policies(kind);
    listing::reply(call.ask, views.iter().filter(|view| which(view)).map(policy_json).collect())
}

fn one(call: &mut Call<'_>, kind: PolicyKind, vhost: &str, name: &str) -> Answer {
    match (kind, call.verb()) {
        (_, Verb::Get) => call.need_vhost(vhost)?,
        (PolicyKind::Operator, _) => call.need_admin()?,
        (PolicyKind::User, _) => {
            call.need_vhost(vhost)?;
            call.need_policymaker()?;
        }
    }
    if !call.has_vhost(vhost) {
        return Err(Problem::not_found("vhost_not_found"));
    }
    let mut views = call.broker().policies(kind).into_iter();
    let known = views.find(|view| *view.vhost == *vhost && view.policy.name == name);
    match call.verb() {
        Verb::Get => Ok(Reply::Json(policy_json(&known.ok_or_else(Problem::missing)?))),
        Verb::Put => {
            let body = call.ask.object()?;
            let policy = policy_of(kind, name, &body)?;
            let lsn = call.broker().put_policy(kind, vhost, policy)?;
            call.put(lsn, known.is_some())
        }
        Verb::Delete => {
            known.ok_or_else(Problem::missing)?;
            let lsn = call.broker().drop_policy(kind, vhost, name)?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}

/// The policy that a body says, judged; also of definitions.
pub(super) fn policy_of(
    kind: PolicyKind,
    name: &str,
    body: &Map<String, Value>,
) -> Result<PolicyImage, Problem> {
    need_keys(body, &["pattern", "definition"])?;
    let refused = |text: String| Problem::bad(format!("Validation failed\n\n{text}\n"));
    let pattern = text(body, "pattern");
    if let Err(error) = Pattern::new(pattern) {
        return Err(refused(format!(
            "pattern should be regular expression but is invalid: {error}"
        )));
    }
    let apply_to = match text(body, "apply-to") {
        "" => "all",
        word => word,
    };
    if ApplyTo::parse(apply_to).is_none() {
        return Err(refused(format!(
            "apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues', \
             'quorum_queues', 'streams', 'exchanges', or 'all'"
        )));
    }
    let definition = values::arguments(body.get("definition"))?;
    if definition.is_empty() {
        return Err(refused("no policy provided".to_owned()));
    }
    let known = match kind {
        PolicyKind::User => &USER_KEYS[..],
        PolicyKind::Operator => &OPERATOR_KEYS[..],
    };
    if let Some((key, value)) = definition.iter().find(|(key, _)| !known.contains(key)) {
        return Err(refused(format!(
            "[{{<<\"{key}\">>,{value}}}] are not recognised policy settings"
        )));
    }
    Rules::of_policy(&definition)
        .map_err(|error| refused(error.explain(&format!("policy '{name}'"))))?;
    let priority = body.get("priority").and_then(Value::as_i64).unwrap_or(0);
    let (name, pattern) = (name.to_owned(), pattern.to_owned());
    Ok(PolicyImage { name, pattern, apply_to: apply_to.to_owned(), priority, definition })
}

pub(super) fn policy_json(view: &PolicyView) -> Value {
    json!({
        "vhost": *view.vhost,
        "name": view.policy.name,
        "pattern": view.policy.pattern,
        "apply-to": view.policy.apply_to,
        "definition": values::shown(&view.policy.definition),
        "priority": view.policy.priority,
    })
}

/// The types a virtual host may have for its default.
pub(super) const QUEUE_TYPES: [QueueType; 3] =
    [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
/// Keys of policies: those that do something, and those that RabbitMQ's tools set and that do nothing here.
const USER_KEYS: [&str; 24] = [
    "alternate-exchange",
    "consumer-timeout",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-strategy",
    "delayed-retry-max",
    "delayed-retry-min",
    "delayed-retry-type",
    "delivery-limit",
    "expires",
    "federation-upstream",
    "federation-upstream-set",
    "max-age",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "max-length",
    "max-length-bytes",
    "message-ttl",
    "overflow",
    "queue-leader-locator",
    "queue-mode",
    "queue-version",
    "stream-max-segment-size-bytes",
    "target-group-size",
];
const OPERATOR_KEYS: [&str; 10] = [
    "consumer-timeout",
    "delivery-limit",
    "expires",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "max-length",
    "max-length-bytes",
    "message-ttl",
    "overflow",
    "target-group-size",
];
