//! The paths of the API, and what every answer may need: who asks, where, and how far it must wait.

use ottla_engine::Lsn;
use ottla_engine::broker::{Broker, Channel};
use serde_json::Value;

use super::ask::{Ask, Verb};
use super::problem::{Problem, Reply};
use super::{
    Context, bindings, connections, definitions, delayed, exchanges, health, limits, messages,
    moves, overview, parameters, permissions, policies, queues, users, vhosts,
};

pub(super) type Answer = Result<Reply, Problem>;

/// One request at work.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) context: &'a Context,
    pub(super) ask: &'a Ask,
    /// The answer waits for this place.
    lsn: Lsn,
}

/// Answers a request; the answer waits for the place.
pub(super) fn answer(context: &Context, ask: &Ask) -> Result<(Reply, Lsn), Problem> {
    let mut call = Call { context, ask, lsn: Lsn::ZERO };
    let reply = route(&mut call)?;
    if ask.verb == Verb::Get {
        call.wait_for(context.broker().changed());
    }
    Ok((reply, call.lsn))
}

fn route(call: &mut Call<'_>) -> Answer {
    let ask = call.ask;
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["queues" | "exchanges" | "bindings", ..] => route_objects(call, &path),
        ["users" | "permissions" | "topic-permissions" | "whoami" | "user-limits", ..] => {
            route_users(call, &path)
        }
        ["vhosts", ..] => route_vhosts(call, &path),
        ["policies", rest @ ..] => policies::answer(call, policies::USER, rest),
        ["operator-policies", rest @ ..] => policies::answer(call, policies::OPERATOR, rest),
        ["vhost-limits", rest @ ..] => limits::of_vhosts(call, rest),
        ["connections", rest @ ..] => connections::connections(call, rest),
        ["channels"] => connections::channels(call, None),
        ["channels", name] => connections::channel(call, name),
        ["consumers"] => connections::consumers(call, None),
        ["consumers", vhost] => connections::consumers(call, Some(vhost)),
        ["definitions"] => definitions::of_node(call),
        ["definitions", vhost] => definitions::of_vhost(call, vhost),
        ["parameters" | "global-parameters", ..] => parameters::answer(call, &path),
        ["health", "checks", rest @ ..] => health::check(call, rest),
        ["healthchecks", "node"] => health::check(call, &["alarms"]),
        ["aliveness-test", vhost] => health::aliveness(call, vhost),
        ["ottla", "delayed", vhost] => delayed::list(call, vhost),
        ["ottla", "delayed", vhost, number] => delayed::one(call, vhost, number),
        ["ottla", "queues", vhost, queue, "move"] => moves::to_queue(call, vhost, queue),
        ["ottla", "queues", vhost, queue, "redrive"] => moves::redrive(call, vhost, queue),
        _ => overview::answer(call, &path),
    }
}

fn route_objects(call: &mut Call<'_>, path: &[&str]) -> Answer {
    match path {
        ["queues" | "queues-detailed"] | ["queues", "detailed"] => queues::list(call, None),
        ["queues", vhost] => queues::list(call, Some(vhost)),
        ["queues", vhost, name] => queues::one(call, vhost, name),
        ["queues", vhost, name, "bindings"] => bindings::of_queue(call, vhost, name),
        ["queues", vhost, name, "contents"] => queues::contents(call, vhost, name),
        ["queues", vhost, name, "get"] => messages::get(call, vhost, name),
        ["exchanges"] => exchanges::list(call, None),
        ["exchanges", vhost] => exchanges::list(call, Some(vhost)),
        ["exchanges", vhost, name] => exchanges::one(call, vhost, plain(name)),
        ["exchanges", vhost, name, "publish"] => messages::publish(call, vhost, plain(name)),
        ["exchanges", vhost, name, "bindings", "source"] => {
            bindings::of_source(call, vhost, plain(name))
        }
        ["exchanges", vhost, name, "bindings", "destination"] => {
            bindings::of_destination(call, vhost, plain(name))
        }
        ["bindings"] => bindings::list(call, None),
        ["bindings", vhost] => bindings::list(call, Some(vhost)),
        ["bindings", vhost, "e", source, kind @ ("q" | "e"), destination, rest @ ..] => {
            let ends = bindings::Ends {
                vhost,
                source: plain(source),
                destination: plain(destination),
                to_queue: *kind == "q",
            };
            match rest {
                [] => bindings::between(call, ends),
                [properties] => bindings::one(call, ends, properties),
                _ => Err(Problem::missing()),
            }
        }
        _ => Err(Problem::missing()),
    }
}

fn route_users(call: &mut Call<'_>, path: &[&str]) -> Answer {
    match path {
        ["whoami"] => users::whoami(call),
        ["users"] => users::list(call),
        ["users", "without-permissions"] => users::without_permissions(call),
        ["users", "bulk-delete"] => users::bulk_delete(call),
        ["users", name] => users::one(call, name),
        ["users", name, "permissions"] => permissions::of_user(call, name),
        ["users", name, "topic-permissions"] => permissions::topics_of_user(call, name),
        ["permissions"] => permissions::list(call),
        ["permissions", vhost, user] => permissions::one(call, vhost, user),
        ["topic-permissions"] => permissions::list_topics(call),
        ["topic-permissions", vhost, user] => permissions::topics(call, vhost, user),
        ["user-limits", rest @ ..] => limits::of_users(call, rest),
        _ => Err(Problem::missing()),
    }
}

fn route_vhosts(call: &mut Call<'_>, path: &[&str]) -> Answer {
    match path {
        ["vhosts"] => vhosts::list(call),
        ["vhosts", name] => vhosts::one(call, name),
        ["vhosts", name, "permissions"] => permissions::of_vhost(call, name),
        ["vhosts", name, "topic-permissions"] => permissions::topics_of_vhost(call, name),
        ["vhosts", name, "connections"] => connections::of_vhost(call, name),
        ["vhosts", name, "channels"] => connections::channels(call, Some(name)),
        _ => Err(Problem::missing()),
    }
}

/// The default exchange has no name; in a path it is called `amq.default`.
fn plain(name: &str) -> &str {
    if name == DEFAULT_EXCHANGE { "" } else { name }
}

impl<'a> Call<'a> {
    pub(super) fn broker(&self) -> &'a Broker {
        self.context.broker()
    }

    pub(super) const fn verb(&self) -> Verb {
        self.ask.verb
    }

    /// Who asks.
    pub(super) fn user(&self) -> &'a str {
        self.ask.login.user()
    }

    pub(super) fn wait_for(&mut self, lsn: Lsn) {
        self.lsn = self.lsn.max(lsn);
    }

    /// It is done; the answer waits for this place.
    pub(super) fn done(&mut self, lsn: Lsn) -> Answer {
        self.wait_for(lsn);
        Ok(Reply::Done)
    }

    /// It is made, or was there and is changed.
    pub(super) fn put(&mut self, lsn: Lsn, was_there: bool) -> Answer {
        self.wait_for(lsn);
        Ok(if was_there { Reply::Done } else { Reply::Created(None) })
    }

    pub(super) fn has_tag(&self, tags: &[&str]) -> bool {
        self.ask.login.tags().iter().any(|own| tags.contains(&own.as_str()))
    }

    pub(super) fn is_admin(&self) -> bool {
        self.has_tag(&["administrator"])
    }

    pub(super) fn is_monitor(&self) -> bool {
        self.has_tag(&["administrator", "monitoring"])
    }

    pub(super) fn need_admin(&self) -> Result<(), Problem> {
        match self.is_admin() {
            true => Ok(()),
            false => Err(Problem::not_yours("Not administrator user")),
        }
    }

    pub(super) fn need_monitor(&self) -> Result<(), Problem> {
        match self.is_monitor() {
            true => Ok(()),
            false => Err(Problem::not_yours("Not monitor user")),
        }
    }

    pub(super) fn need_policymaker(&self) -> Result<(), Problem> {
        match self.has_tag(&["administrator", "policymaker"]) {
            true => Ok(()),
            false => Err(Problem::not_yours("User not authorised to access object")),
        }
    }

    /// The virtual hosts that the user may enter.
    pub(super) fn own_vhosts(&self) -> Vec<String> {
        let user = self.broker().users().into_iter().find(|user| *user.name == *self.user());
        let permissions = user.map(|user| user.permissions).unwrap_or_default();
        permissions.iter().map(|(vhost, _)| vhost.to_string()).collect()
    }

    /// That virtual host must exist and be the user's to enter.
    pub(super) fn need_vhost(&self, vhost: &str) -> Result<(), Problem> {
        if !self.has_vhost(vhost) {
            return Err(Problem::missing());
        }
        match self.own_vhosts().iter().any(|own| own == vhost) {
            true => Ok(()),
            false => Err(Problem::not_yours("User not authorised to access virtual host")),
        }
    }

    pub(super) fn has_vhost(&self, vhost: &str) -> bool {
        self.broker().vhosts().iter().any(|known| *known.name == *vhost)
    }

    /// A channel in a virtual host on which the user's permissions hold. Close it.
    pub(super) fn channel(&self, vhost: &str) -> Result<Channel, Problem> {
        if !self.has_vhost(vhost) {
            return Err(Problem::not_found("vhost_not_found"));
        }
        self.need_vhost(vhost)?;
        let connection = self.broker().connect(self.ask.login.clone(), vhost)?;
        Ok(self.broker().open_channel(&connection))
    }

    /// Does something on a channel of the user's in a virtual host.
    pub(super) fn on_channel<T>(
        &mut self,
        vhost: &str,
        act: impl FnOnce(&Broker, &mut Channel) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let channel = self.channel(vhost)?;
        self.act_on(channel, act)
    }

    /// Does something in a virtual host that no permission stands against: for administrators.
    pub(super) fn as_operator<T>(
        &mut self,
        vhost: &str,
        act: impl FnOnce(&Broker, &mut Channel) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let connection = self.broker().connect_operator(self.ask.login.clone(), vhost)?;
        self.act_on(self.broker().open_channel(&connection), act)
    }

    fn act_on<T>(
        &self,
        mut channel: Channel,
        act: impl FnOnce(&Broker, &mut Channel) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let connection = std::sync::Arc::clone(channel.connection());
        let done = act(self.broker(), &mut channel);
        self.broker().close_channel(channel);
        self.broker().disconnect(&connection);
        done
    }
}

/// A truth value of a body; RabbitMQ takes words, too.
pub(super) fn truth(value: Option<&Value>, default: bool) -> Result<bool, Problem> {
    match value {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(truth)) => Ok(*truth),
        Some(Value::String(word)) if word == "true" => Ok(true),
        Some(Value::String(word)) if word == "false" => Ok(false),
        Some(other) => Err(Problem::bad(Value::Array(vec!["not_boolean".into(), other.clone()]))),
    }
}

/// A text of a body; empty if it is not there.
pub(super) fn text<'a>(body: &'a serde_json::Map<String, Value>, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Keys that a body must have.
pub(super) fn need_keys(
    body: &serde_json::Map<String, Value>,
    keys: &[&str],
) -> Result<(), Problem> {
    let missing: Vec<&str> = keys.iter().copied().filter(|key| !body.contains_key(*key)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Problem::keys(&missing)) }
}

/// What the default exchange is called where a name is needed.
pub(super) const DEFAULT_EXCHANGE: &str = "amq.default";
