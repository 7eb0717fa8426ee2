//! Exchanges.

use ottla_engine::broker::{DeleteIf, ExchangeDeclare, ExchangeView};
use serde_json::{Value, json};

use super::api::{Answer, Call, text, truth};
use super::ask::Verb;
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
            vec![vhost.to_owned()]
        }
        None => call.own_vhosts(),
    };
    let views = call.broker().exchanges(vhost);
    let visible = views.iter().filter(|view| own.iter().any(|own| *own == *view.vhost));
    listing::reply(call.ask, visible.map(exchange_json).collect())
}

/// One exchange; the default exchange has no name.
pub(super) fn one(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    match call.verb() {
        Verb::Get => {
            call.need_vhost(vhost)?;
            find(call, vhost, name).map(|view| Reply::Json(exchange_json(&view)))
        }
        Verb::Put => declare(call, vhost, name),
        Verb::Delete => {
            call.need_vhost(vhost)?;
            find(call, vhost, name)?;
            let condition = DeleteIf { unused: call.ask.flag("if-unused"), empty: false };
            let lsn = call.on_channel(vhost, |broker, channel| {
                broker.delete_exchange(channel, name, condition).map_err(Problem::from)
            })?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}

fn declare(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    let body = call.ask.object()?;
    let kind = match text(&body, "type") {
        "" => "direct",
        kind => kind,
    };
    let declare = ExchangeDeclare {
        name,
        kind,
        durable: truth(body.get("durable"), false)?,
        auto_delete: truth(body.get("auto_delete"), false)?,
        internal: truth(body.get("internal"), false)?,
        arguments: values::arguments(body.get("arguments"))?,
    };
    let was_there = find(call, vhost, name).is_ok();
    let lsn = call.on_channel(vhost, |broker, channel| {
        broker.declare_exchange(channel, declare).map_err(Problem::from)
    })?;
    call.put(lsn, was_there)
}

pub(super) fn find(call: &Call<'_>, vhost: &str, name: &str) -> Result<ExchangeView, Problem> {
    let views = call.broker().exchanges(Some(vhost));
    views.into_iter().find(|view| *view.name == *name).ok_or_else(Problem::missing)
}

fn exchange_json(view: &ExchangeView) -> Value {
    let mut shown = json!({
        "name": *view.name,
        "vhost": *view.vhost,
        "type": view.kind,
        "durable": view.durable,
        "auto_delete": view.auto_delete,
        "internal": view.internal,
        "arguments": values::shown(&view.arguments),
        "incoming": [],
        "outgoing": [],
    });
    if let (Value::Object(fields), Some(policy)) = (&mut shown, &view.policy) {
        fields.insert("policy".to_owned(), json!(policy));
    }
    shown
}
