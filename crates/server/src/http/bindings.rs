//! Bindings, each addressed by its key and arguments: the `properties_key`.

use ottla_engine::broker::{Bind, BindingView};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::api::{Answer, Call, text};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::{exchanges, listing, values};

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends<'a> {
    pub(super) vhost: &'a str,
    pub(super) source: &'a str,
    pub(super) destination: &'a str,
    pub(super) to_queue: bool,
}

/// All that the user may see, or those of one virtual host.
pub(super) fn list(call: &mut Call<'_>, vhost: Option<&str>) -> Answer {
    match vhost {
        Some(vhost) => shown(call, vhost, |_| true),
        None => {
            need_get(call)?;
            let own = call.own_vhosts();
            let views = call.broker().bindings(None);
            let visible = views.iter().filter(|view| own.iter().any(|own| *own == *view.vhost));
            listing::reply(call.ask, visible.map(binding_json).collect())
        }
    }
}

/// Those that lead to a queue.
pub(super) fn of_queue(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    call.need_vhost(vhost)?;
    call.broker().queue_view(vhost, name).ok_or_else(Problem::missing)?;
    shown(call, vhost, |view| view.to_queue && *view.destination == *name)
}

/// Those that begin at an exchange.
pub(super) fn of_source(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    call.need_vhost(vhost)?;
    exchanges::find(call, vhost, name)?;
    shown(call, vhost, |view| *view.source == *name)
}

/// Those that lead to an exchange.
pub(super) fn of_destination(call: &mut Call<'_>, vhost: &str, name: &str) -> Answer {
    call.need_vhost(vhost)?;
    exchanges::find(call, vhost, name)?;
    shown(call, vhost, |view| !view.to_queue && *view.destination == *name)
}

/// Those between two ends; POST makes one.
pub(super) fn between(call: &mut Call<'_>, ends: Ends<'_>) -> Answer {
    match call.verb() {
        Verb::Get => shown(call, ends.vhost, |view| ends.are_of(view)),
        Verb::Post => {
            let body = call.ask.object()?;
            let (key, arguments) =
                (text(&body, "routing_key"), values::arguments(body.get("arguments"))?);
            let place = properties_key(key, &values::shown(&arguments));
            let bind = Bind { destination: ends.destination, source: ends.source, key, arguments };
            let lsn = call.on_channel(ends.vhost, |broker, channel| {
                let bound = match ends.to_queue {
                    true => broker.bind_queue(channel, bind),
                    false => broker.bind_exchange(channel, bind),
                };
                bound.map_err(Problem::from)
            })?;
            call.wait_for(lsn);
            let place = quoted(&place).replace("%7E", "~"); // which stands for itself in an address
            Ok(Reply::Created(Some(format!("{}/{place}", quoted(ends.destination)))))
        }
        _ => Err(Problem::method("HEAD, GET, POST, OPTIONS")),
    }
}

/// One, by its properties key.
pub(super) fn one(call: &mut Call<'_>, ends: Ends<'_>, properties: &str) -> Answer {
    call.need_vhost(ends.vhost)?;
    let views = call.broker().bindings(Some(ends.vhost));
    let mut of_ends = views.into_iter().filter(|view| ends.are_of(view));
    let found = of_ends.find(|view| key_of(view) == properties).ok_or_else(Problem::missing)?;
    match call.verb() {
        Verb::Get => Ok(Reply::Json(binding_json(&found))),
        Verb::Delete => {
            let bind = Bind {
                destination: ends.destination,
                source: ends.source,
                key: &found.key,
                arguments: found.arguments.clone(),
            };
            let lsn = call.on_channel(ends.vhost, |broker, channel| {
                let unbound = match ends.to_queue {
                    true => broker.unbind_queue(channel, bind),
                    false => broker.unbind_exchange(channel, bind),
                };
                unbound.map_err(Problem::from)
            })?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, DELETE, OPTIONS")),
    }
}

impl Ends<'_> {
    fn are_of(&self, view: &BindingView) -> bool {
        *view.source == *self.source
            && *view.destination == *self.destination
            && view.to_queue == self.to_queue
    }
}

fn need_get(call: &Call<'_>) -> Result<(), Problem> {
    match call.verb() {
        Verb::Get => Ok(()),
        _ => Err(Problem::method("HEAD, GET, OPTIONS")),
    }
}

fn shown(call: &Call<'_>, vhost: &str, which: impl Fn(&BindingView) -> bool) -> Answer {
    need_get(call)?;
    call.need_vhost(vhost)?;
    let views = call.broker().bindings(Some(vhost));
    listing::reply(call.ask, views.iter().filter(|view| which(view)).map(binding_json).collect())
}

pub(super) fn binding_json(view: &BindingView) -> Value {
    json!({
        "source": *view.source,
        "vhost": *view.vhost,
        "destination": *view.destination,
        "destination_type": if view.to_queue { "queue" } else { "exchange" },
        "routing_key": view.key,
        "arguments": values::shown(&view.arguments),
        "properties_key": key_of(view),
    })
}

fn key_of(view: &BindingView) -> String {
    properties_key(&view.key, &values::shown(&view.arguments))
}

/// `~` for neither key nor arguments; the key; with arguments behind it `~` and what stands for them.
fn properties_key(key: &str, arguments: &Value) -> String {
    let has_arguments = arguments.as_object().is_some_and(|fields| !fields.is_empty());
    match (key, has_arguments) {
        ("", false) => "~".to_owned(),
        (key, false) => quoted(key),
        (key, true) => {
            let digest = fingerprint(arguments.to_string().as_bytes());
            format!("{}~{digest:016x}", quoted(key))
        }
    }
}

/// As RabbitMQ quotes keys: blanks are `+`, letters, digits and `_.-` stay.
fn quoted(text: &str) -> String {
    utf8_percent_encode(text, &QUOTED).to_string().replace("%20", "+")
}

/// FNV-1a: tells the bindings between two ends apart, nothing more.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

const QUOTED: AsciiSet = NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-');

#[cfg(test)]
mod tests {
    use super::*;

    // as RabbitMQ 4.0.5 says them
    #[test]
    fn a_binding_is_addressed_as_in_rabbitmq() {
        assert_eq!(properties_key("", &json!({})), "~");
        assert_eq!(properties_key("a.*", &json!({})), "a.%2A");
        assert_eq!(properties_key("a b+c/d.#~é", &json!({})), "a+b%2Bc%2Fd.%23%7E%C3%A9");
        let with = |n: u8| properties_key("k", &json!({"n": n}));
        assert!(with(1).starts_with("k~") && with(1) != with(2));
    }
}
