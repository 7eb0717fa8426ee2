//! Runtime parameters: none of those that RabbitMQ's plugins would read exist here, and it is said so.

use serde_json::json;

use super::api::{Answer, Call};
use super::ask::Verb;
use super::problem::{Problem, Reply};

pub(super) fn answer(call: &Call<'_>, path: &[&str]) -> Answer {
    call.need_policymaker()?;
    match (call.verb(), path) {
        (
            Verb::Get,
            ["global-parameters"] | ["parameters"] | ["parameters", _] | ["parameters", _, _],
        ) => Ok(Reply::Json(json!([]))),
        (Verb::Put, ["parameters", component, _, _]) => {
            Err(Problem::bad(format!("Validation failed\n\ncomponent {component} not found\n")))
        }
        (Verb::Put, ["global-parameters", _]) => {
            Err(Problem::bad("Ottla has no parameters: shovels and federation are not served"))
        }
        (_, ["global-parameters" | "parameters", _, ..]) => Err(Problem::missing()),
        _ => Err(Problem::method("HEAD, GET, OPTIONS")),
    }
}
