//! Definitions: everything but the messages as one JSON document, RabbitMQ's, out and in.

use ottla_engine::broker::{
    Bind, BindingView, ErrorKind, ExchangeDeclare, ExchangeView, LimitsImage, PolicyKind,
    QueueDeclare, QueueView,
};
use ottla_engine::value::Value as Field;
use serde_json::{Map, Value, json};

use super::api::{Answer, Call, text, truth};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::{limits, overview, permissions, policies, users, values, vhosts};

type Object = Map<String, Value>;

/// `definitions`
pub(super) fn of_node(call: &mut Call<'_>) -> Answer {
    call.need_admin()?;
    match call.verb() {
        Verb::Get => Ok(Reply::Json(export(call))),
        Verb::Post => import(call, None),
        _ => Err(Problem::method("HEAD, GET, POST, OPTIONS")),
    }
}

/// `definitions/VHOST`
pub(super) fn of_vhost(call: &mut Call<'_>, vhost: &str) -> Answer {
    call.need_admin()?;
    if !call.has_vhost(vhost) {
        return Err(Problem::not_found("vhost_not_found"));
    }
    match call.verb() {
        Verb::Get => Ok(Reply::Json(export_vhost(call, vhost))),
        Verb::Post => import(call, Some(vhost)),
        _ => Err(Problem::method("HEAD, GET, POST, OPTIONS")),
    }
}

fn export(call: &Call<'_>) -> Value {
    let broker = call.broker();
    let (users, vhosts) = (broker.users(), broker.vhosts());
    let mut parameters = Vec::new();
    for vhost in vhosts.iter().filter(|vhost| vhost.limits != LimitsImage::default()) {
        parameters.push(parameter(
            "vhost-limits",
            &vhost.name,
            "limits",
            limits::limits_json(&vhost.limits),
        ));
    }
    for view in broker.policies(PolicyKind::Operator) {
        let mut value = policies::policy_json(&view);
        if let Value::Object(fields) = &mut value {
            fields.remove("vhost");
            fields.remove("name");
        }
        parameters.push(parameter("operator_policy", &view.vhost, &view.policy.name, value));
    }
    let permissions = users.iter().flat_map(|user| {
        user.permissions.iter().map(|(vhost, own)| {
            json!({
                "user": *user.name, "vhost": **vhost,
                "configure": own.configure, "write": own.write, "read": own.read,
            })
        })
    });
    let topics = users.iter().flat_map(|user| {
        user.topics.iter().map(|(vhost, exchange, own)| {
            json!({
                "user": *user.name, "vhost": vhost, "exchange": exchange,
                "write": own.write, "read": own.read,
            })
        })
    });
    let policies = broker.policies(PolicyKind::User);
    let version = &call.context.version;
    json!({
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": "RabbitMQ",
        "product_version": version,
        "rabbitmq_definition_format": "cluster",
        "original_cluster_name": overview::NODE,
        "explanation": format!("Definitions of cluster '{}'", overview::NODE),
        "users": users.iter().map(users::user_json).collect::<Vec<_>>(),
        "vhosts": vhosts.iter().map(vhosts::definition_json).collect::<Vec<_>>(),
        "permissions": permissions.collect::<Vec<_>>(),
        "topic_permissions": topics.collect::<Vec<_>>(),
        "parameters": parameters,
        "global_parameters": [],
        "policies": policies.iter().map(policies::policy_json).collect::<Vec<_>>(),
        "queues": queues(call, None),
        "exchanges": exchanges(call, None),
        "bindings": bindings(call, None),
    })
}

fn export_vhost(call: &Call<'_>, vhost: &str) -> Value {
    let views = call.broker().policies(PolicyKind::User);
    let own = views.iter().filter(|view| *view.vhost == *vhost);
    let version = &call.context.version;
    let mut shown = json!({
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": "RabbitMQ",
        "product_version": version,
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": vhost,
        "explanation": format!("Definitions of virtual host '{vhost}'"),
        "parameters": [],
        "policies": own.map(policies::policy_json).collect::<Vec<_>>(),
        "queues": queues(call, Some(vhost)),
        "exchanges": exchanges(call, Some(vhost)),
        "bindings": bindings(call, Some(vhost)),
    });
    for list in ["policies", "queues", "exchanges", "bindings"] {
        let items = shown.get_mut(list).and_then(Value::as_array_mut);
        for item in items.into_iter().flatten().filter_map(Value::as_object_mut) {
            item.remove("vhost");
        }
    }
    shown
}

fn parameter(component: &str, vhost: &str, name: &str, value: Value) -> Value {
    json!({"component": component, "vhost": vhost, "name": name, "value": value})
}

/// Queues of connections are not defined by anybody else.
fn queues(call: &Call<'_>, vhost: Option<&str>) -> Vec<Value> {
    let views = call.broker().queue_views(vhost);
    views.iter().filter(|view| !view.exclusive && is_own(&view.name)).map(queue_json).collect()
}

fn queue_json(view: &QueueView) -> Value {
    let mut arguments = view.arguments.clone();
    if arguments.get("x-queue-type").is_none() {
        arguments.set("x-queue-type", Field::text(view.queue_type.as_str()));
    }
    json!({
        "name": *view.name, "vhost": *view.vhost, "type": view.queue_type.as_str(),
        "durable": view.durable, "auto_delete": view.auto_delete, "arguments": values::shown(&arguments),
    })
}

fn exchanges(call: &Call<'_>, vhost: Option<&str>) -> Vec<Value> {
    let json = |view: &ExchangeView| {
        json!({
            "name": *view.name, "vhost": *view.vhost, "type": view.kind, "durable": view.durable,
            "auto_delete": view.auto_delete, "internal": view.internal,
            "arguments": values::shown(&view.arguments),
        })
    };
    let views = call.broker().exchanges(vhost);
    views.iter().filter(|view| is_own(&view.name)).map(json).collect()
}

fn bindings(call: &Call<'_>, vhost: Option<&str>) -> Vec<Value> {
    let lasting: std::collections::HashSet<(String, String)> = call
        .broker()
        .queue_views(vhost)
        .iter()
        .filter(|view| !view.exclusive)
        .map(|view| (view.vhost.to_string(), view.name.to_string()))
        .collect();
    let is_lasting = |view: &&BindingView| {
        !view.to_queue || lasting.contains(&(view.vhost.to_string(), view.destination.to_string()))
    };
    let json = |view: &BindingView| {
        json!({
            "source": *view.source, "vhost": *view.vhost, "destination": *view.destination,
            "destination_type": if view.to_queue { "queue" } else { "exchange" },
            "routing_key": view.key, "arguments": values::shown(&view.arguments),
        })
    };
    let views = call.broker().bindings(vhost);
    views.iter().filter(|view| !view.source.is_empty()).filter(is_lasting).map(json).collect()
}

/// What every virtual host has by itself is nobody's definition.
fn is_own(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("amq.")
}

/// Takes definitions in: what is there already and means the same stays. The first thing that cannot be is told by
/// name; what came before it is done.
fn import(call: &mut Call<'_>, only: Option<&str>) -> Answer {
    let unread = || Problem::bad("failed_to_parse_json");
    let document: Object = match serde_json::from_slice(&call.ask.body) {
        Ok(Value::Object(document)) => document,
        _ => return Err(unread()),
    };
    if only.is_none() {
        for user in list(&document, "users")? {
            import_user(call, user).map_err(|problem| about("user", user, &problem))?;
        }
        for vhost in list(&document, "vhosts")? {
            import_vhost(call, vhost).map_err(|problem| about("vhost", vhost, &problem))?;
        }
        import_permissions(call, &document)?;
    }
    for parameter in list(&document, "parameters")? {
        import_parameter(call, parameter, only).map_err(|p| about("parameter", parameter, &p))?;
    }
    for policy in list(&document, "policies")? {
        let vhost = place(call, policy, only)?;
        let image = policies::policy_of(PolicyKind::User, text(policy, "name"), policy)
            .map_err(|problem| about("policy", policy, &problem))?;
        let lsn = call.broker().put_policy(PolicyKind::User, &vhost, image)?;
        call.wait_for(lsn);
    }
    for (kind, import) in IMPORTS {
        for item in list(&document, kind)? {
            let vhost = place(call, item, only)?;
            import(call, &vhost, item).map_err(|problem| about(kind, item, &problem))?;
        }
    }
    Ok(Reply::Done)
}

type Import = fn(&mut Call<'_>, &str, &Object) -> Result<(), Problem>;
const IMPORTS: [(&str, Import); 3] =
    [("queues", import_queue), ("exchanges", import_exchange), ("bindings", import_binding)];

fn list<'a>(document: &'a Object, key: &str) -> Result<Vec<&'a Object>, Problem> {
    let wrong = || Problem::bad(format!("{key} must be a list of objects"));
    match document.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= ITEMS_MAX => {
            items.iter().map(|item| item.as_object().ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// Says which item it was.
fn about(kind: &str, item: &Object, problem: &Problem) -> Problem {
    let name = match item.get("name") {
        Some(Value::String(name)) => name.clone(),
        _ => format!("{} → {}", text(item, "source"), text(item, "destination")),
    };
    Problem::bad(format!("{kind} '{name}': {}", problem.reason()))
}

fn place(call: &Call<'_>, item: &Object, only: Option<&str>) -> Result<String, Problem> {
    let vhost = only.unwrap_or_else(|| text(item, "vhost"));
    if call.has_vhost(vhost) {
        return Ok(vhost.to_owned());
    }
    Err(Problem::bad(format!(
        "Please create virtual host \"{vhost}\" prior to importing definitions."
    )))
}

fn import_user(call: &mut Call<'_>, user: &Object) -> Result<(), Problem> {
    let name = text(user, "name");
    let lsn = users::put(call, name, user)?;
    call.wait_for(lsn);
    let limits = limits::read(user.get("limits"));
    if limits != LimitsImage::default() {
        let lsn = call.broker().limit_user(name, limits)?;
        call.wait_for(lsn);
    }
    Ok(())
}

/// Since 4.3 limits stand here, before that only among the parameters.
fn import_vhost(call: &mut Call<'_>, vhost: &Object) -> Result<(), Problem> {
    let name = text(vhost, "name");
    vhosts::put(call, name, vhost)?;
    let limits = limits::read(vhost.get("limits"));
    if limits != LimitsImage::default() {
        let lsn = call.broker().limit_vhost(name, limits)?;
        call.wait_for(lsn);
    }
    Ok(())
}

fn import_permissions(call: &mut Call<'_>, document: &Object) -> Result<(), Problem> {
    for item in list(document, "permissions")? {
        let (user, vhost) = (text(item, "user"), text(item, "vhost"));
        let lsn = call.broker().set_permissions(user, vhost, permissions::image(item))?;
        call.wait_for(lsn);
    }
    for item in list(document, "topic_permissions")? {
        let (user, vhost) = (text(item, "user"), text(item, "vhost"));
        let image = permissions::topic_image(item);
        let exchange = text(item, "exchange");
        let lsn = call.broker().set_topic_permissions(user, vhost, exchange, image)?;
        call.wait_for(lsn);
    }
    Ok(())
}

/// Limits and operator policies are parameters to RabbitMQ. All others belong to plugins that are not here: they
/// are passed over, and the log says so.
fn import_parameter(
    call: &mut Call<'_>,
    parameter: &Object,
    only: Option<&str>,
) -> Result<(), Problem> {
    let (component, name) = (text(parameter, "component"), text(parameter, "name"));
    let value = parameter.get("value");
    match component {
        "vhost-limits" => {
            let vhost = place(call, parameter, only)?;
            let lsn = call.broker().limit_vhost(&vhost, limits::read(value))?;
            call.wait_for(lsn);
        }
        "operator_policy" => {
            let vhost = place(call, parameter, only)?;
            let empty = Map::new();
            let body = value.and_then(Value::as_object).unwrap_or(&empty);
            let image = policies::policy_of(PolicyKind::Operator, name, body)?;
            let lsn = call.broker().put_policy(PolicyKind::Operator, &vhost, image)?;
            call.wait_for(lsn);
        }
        _ => tracing::warn!(component, name, "a parameter of the definitions was passed over"),
    }
    Ok(())
}

fn import_queue(call: &mut Call<'_>, vhost: &str, item: &Object) -> Result<(), Problem> {
    let name = text(item, "name");
    let mut arguments = values::arguments(item.get("arguments"))?;
    if let Some(kind) = item.get("type").and_then(Value::as_str)
        && arguments.get("x-queue-type").is_none()
    {
        arguments.set("x-queue-type", Field::text(kind));
    }
    let declare = QueueDeclare {
        name,
        durable: truth(item.get("durable"), true)?,
        exclusive: false,
        auto_delete: truth(item.get("auto_delete"), false)?,
        arguments,
    };
    let declared = call.as_operator(vhost, |broker, channel| {
        broker.declare_queue(channel, declare).map_err(Problem::from)
    })?;
    call.wait_for(declared.lsn);
    Ok(())
}

fn import_exchange(call: &mut Call<'_>, vhost: &str, item: &Object) -> Result<(), Problem> {
    if !is_own(text(item, "name")) {
        return Ok(()); // RabbitMQ exports exchanges of its plugins, which are not here
    }
    let declare = ExchangeDeclare {
        name: text(item, "name"),
        kind: text(item, "type"),
        durable: truth(item.get("durable"), true)?,
        auto_delete: truth(item.get("auto_delete"), false)?,
        internal: truth(item.get("internal"), false)?,
        arguments: values::arguments(item.get("arguments"))?,
    };
    let lsn = call.as_operator(vhost, |broker, channel| {
        broker.declare_exchange(channel, declare).map_err(Problem::from)
    })?;
    call.wait_for(lsn);
    Ok(())
}

fn import_binding(call: &mut Call<'_>, vhost: &str, item: &Object) -> Result<(), Problem> {
    let bind = Bind {
        destination: text(item, "destination"),
        source: text(item, "source"),
        key: text(item, "routing_key"),
        arguments: values::arguments(item.get("arguments"))?,
    };
    let to_queue = text(item, "destination_type") != "exchange";
    let bound = call.as_operator(vhost, |broker, channel| {
        let bound = match to_queue {
            true => broker.bind_queue(channel, bind),
            false => broker.bind_exchange(channel, bind),
        };
        match bound {
            // RabbitMQ exports the bindings of internal exchanges, and not the exchanges
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::warn!(vhost, %error, "a binding of the definitions was passed over");
                Ok(None)
            }
            bound => Ok(Some(bound?)),
        }
    })?;
    if let Some(lsn) = bound {
        call.wait_for(lsn);
    }
    Ok(())
}

/// Items of one list of definitions; more is refused.
const ITEMS_MAX: usize = 1_000_000;
