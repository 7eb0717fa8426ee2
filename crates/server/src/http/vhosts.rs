//! Virtual hosts.

use ottla_engine::broker::{PermissionImage, VhostAbout, VhostView};
use serde_json::{Map, Value, json};

use super::api::{Answer, Call, text};
use super::ask::Verb;
use super::overview::NODE;
use super::policies::QUEUE_TYPES;
use super::problem::{Problem, Reply};
use super::{limits, listing, users};

/// All of them; for those who may not see all, their own.
pub(super) fn list(call: &Call<'_>) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let own = call.own_vhosts();
    let all = call.is_monitor();
    let views = call.broker().vhosts();
    let visible = views.iter().filter(|view| all || own.iter().any(|own| *own == *view.name));
    listing::reply(call.ask, visible.map(|view| vhost_json(call, view)).collect())
}

/// One virtual host.
pub(super) fn one(call: &mut Call<'_>, name: &str) -> Answer {
    call.need_admin()?;
    let known = find(call, name);
    match call.verb() {
        Verb::Get => {
            let known = known.ok_or_else(Problem::missing)?;
            Ok(Reply::Json(vhost_json(call, &known)))
        }
        Verb::Put => {
            let body = call.ask.object()?;
            put(call, name, &body)?;
            Ok(if known.is_some() { Reply::Done } else { Reply::Created(None) })
        }
        Verb::Delete => {
            known.ok_or_else(Problem::missing)?;
            let login = call.ask.login.clone();
            let lsn = call.context.engine.delete_vhost(login, name)?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}

fn find(call: &Call<'_>, name: &str) -> Option<VhostView> {
    call.broker().vhosts().into_iter().find(|view| *view.name == *name)
}

/// Makes a virtual host what a body says; also from definitions.
pub(super) fn put(
    call: &mut Call<'_>,
    name: &str,
    body: &Map<String, Value>,
) -> Result<(), Problem> {
    let empty = Map::new();
    let metadata = body.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let field = |key: &str| body.get(key).or_else(|| metadata.get(key));
    let word = field("default_queue_type").and_then(Value::as_str);
    let word = word.filter(|word| !["", "undefined"].contains(word));
    if let Some(word) = word
        && !QUEUE_TYPES.iter().any(|known| known.as_str() == word)
    {
        return Err(Problem::bad(format!("unsupported default queue type '{word}'")));
    }
    let known = find(call, name);
    let lsn = call.broker().create_vhost(name)?;
    call.wait_for(lsn);
    if known.is_none() {
        // who makes a virtual host may use it
        let all = || ".*".to_owned();
        let everything = PermissionImage { configure: all(), write: all(), read: all() };
        let lsn = call.broker().set_permissions(call.user(), name, everything)?;
        call.wait_for(lsn);
    }
    let mut about = known.map(|known| known.about).unwrap_or_default();
    if field("description").is_some() {
        about.description = match text(body, "description") {
            "" => text(metadata, "description").to_owned(),
            given => given.to_owned(),
        };
    }
    if field("tags").is_some() {
        about.tags = users::tags(field("tags"))?;
    }
    if let Some(word) = word {
        about.default_queue_type = Some(word.to_owned());
    }
    if about != VhostAbout::default() {
        let lsn = call.broker().describe_vhost(name, about)?;
        call.wait_for(lsn);
    }
    Ok(())
}

fn vhost_json(call: &Call<'_>, view: &VhostView) -> Value {
    let queues = call.broker().queues(&view.name);
    let (ready, unacked) = queues
        .iter()
        .fold((0, 0), |(ready, unacked), queue| (ready + queue.ready, unacked + queue.unacked));
    let mut shown = definition_json(view);
    if let Value::Object(fields) = &mut shown {
        fields.insert("tracing".to_owned(), json!(false));
        fields.insert("cluster_state".to_owned(), json!({NODE: "running"}));
        fields.insert("messages".to_owned(), json!(ready + unacked));
        fields.insert("messages_ready".to_owned(), json!(ready));
        fields.insert("messages_unacknowledged".to_owned(), json!(unacked));
    }
    shown
}

/// As in definitions.
pub(super) fn definition_json(view: &VhostView) -> Value {
    let about = &view.about;
    let kind = about.default_queue_type.as_deref().unwrap_or("classic");
    json!({
        "name": *view.name,
        "description": about.description,
        "tags": about.tags,
        "default_queue_type": kind,
        "limits": limits::limits_json(&view.limits),
        "metadata": {
            "description": about.description, "tags": about.tags, "default_queue_type": kind,
        },
    })
}
