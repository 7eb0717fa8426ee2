//! AlterConfigs and IncrementalAlterConfigs: changing settings of topics, the broker, groups and client
//! metrics.

use ottla_engine::topic::config::{Kind, Overrides, check, definition};
use ottla_engine::{Lsn, check_group_setting};
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use ottla_kafka_proto::messages::incremental_alter_configs::{
    self as incremental_messages, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::Answer;
use super::configs::{
    Failure, RESOURCE_BROKER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC,
    TYPE_BOOLEAN, broker_definition, node,
};
use crate::kafka::telemetry::{self, CHOICES};
use crate::kafka::{Peer, codes};

/// Replaces all settings of each resource.
pub(super) fn alter(peer: &Peer, request: AlterConfigsRequest) -> Answer {
    let mut lsn = Lsn::ZERO;
    let responses = request.resources.into_iter().map(|resource| {
        let all = resource.configs.iter().map(|config| Change {
            name: config.name.to_string(),
            operation: OPERATION_SET,
            value: config.value.as_ref().map(ToString::to_string),
        });
        let changes = all.collect();
        let target = (resource.resource_type, &*resource.resource_name);
        let outcome = apply(peer, target, Replace::All, changes, request.validate_only);
        let (error_code, error_message) = told(outcome, &mut lsn);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        }
    });
    let responses = responses.collect();
    Answer::at(lsn, AlterConfigsResponse { responses, ..Default::default() })
}

/// Changes single settings of each resource (KIP-339).
pub(super) fn incremental(peer: &Peer, request: IncrementalAlterConfigsRequest) -> Answer {
    let mut lsn = Lsn::ZERO;
    let responses = request.resources.into_iter().map(|resource| {
        let changes = resource.configs.iter().map(|config| Change {
            name: config.name.to_string(),
            operation: config.config_operation,
            value: config.value.as_ref().map(ToString::to_string),
        });
        let changes = changes.collect();
        let target = (resource.resource_type, &*resource.resource_name);
        let outcome = apply(peer, target, Replace::Named, changes, request.validate_only);
        let (error_code, error_message) = told(outcome, &mut lsn);
        incremental_messages::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        }
    });
    let responses = responses.collect();
    Answer::at(lsn, IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

/// One change of one setting.
struct Change {
    name: String,
    operation: i8,
    value: Option<String>,
}

/// Which settings a request replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    /// All; what is not named gets its default.
    All,
    /// Those it names.
    Named,
}

fn apply(
    peer: &Peer,
    (resource_type, name): (i8, &str),
    replace: Replace,
    changes: Vec<Change>,
    validate_only: bool,
) -> Result<Lsn, Failure> {
    let engine = &peer.context.engine;
    if resource_type == RESOURCE_CLIENT_METRICS && name.is_empty() {
        return Err((ErrorCode::INVALID_REQUEST, "Subscription name can't be empty".to_owned()));
    }
    for change in &changes {
        check_change(resource_type, change)?;
    }
    let edit = |overrides: &mut Overrides| {
        if replace == Replace::All {
            overrides.clear();
        }
        for change in changes {
            edit(overrides, change);
        }
    };
    match resource_type {
        RESOURCE_TOPIC => engine
            .configure_topic(name, edit, validate_only)
            .map_err(|error| (codes::configure(&error), error.to_string())),
        RESOURCE_BROKER => {
            node(name)?;
            if validate_only {
                return Ok(engine.catalog().changed());
            }
            engine
                .configure_broker(edit)
                .map_err(|refused| (codes::refused(refused), refused.to_string()))
        }
        RESOURCE_CLIENT_METRICS => {
            if validate_only {
                return Ok(engine.catalog().changed());
            }
            engine
                .configure_client_metrics(name, edit)
                .map_err(|refused| (codes::refused(refused), refused.to_string()))
        }
        RESOURCE_GROUP if name.is_empty() => {
            Err((ErrorCode::INVALID_REQUEST, "Default group resources are not allowed.".to_owned()))
        }
        RESOURCE_GROUP => {
            if validate_only {
                return Ok(engine.catalog().changed());
            }
            engine
                .configure_group(name, edit)
                .map_err(|refused| (codes::refused(refused), refused.to_string()))
        }
        other => Err((
            ErrorCode::INVALID_REQUEST,
            format!("Unsupported resource type {other} for altering configs"),
        )),
    }
}

fn check_change(resource_type: i8, change: &Change) -> Result<(), Failure> {
    let name = change.name.as_str();
    if !(OPERATION_SET..=OPERATION_SUBTRACT).contains(&change.operation) {
        let text = format!("Unknown operation type {}", change.operation);
        return Err((ErrorCode::INVALID_REQUEST, text));
    }
    let is_list = change.operation >= OPERATION_APPEND;
    let value = match change.operation {
        OPERATION_DELETE => None, // whatever value comes with it
        _ => Some(change.value.as_deref().ok_or_else(|| {
            (ErrorCode::INVALID_CONFIG, format!("Null value not supported for : {name}"))
        })?),
    };
    if is_list && !takes_lists(resource_type, name) {
        let text = format!("Config value append is not allowed for config key: {name}");
        return Err((ErrorCode::INVALID_CONFIG, text));
    }
    let invalid = |text| (ErrorCode::INVALID_CONFIG, text);
    match (resource_type, value) {
        (RESOURCE_BROKER, value) => match broker_definition(name) {
            Some((_, TYPE_BOOLEAN)) if value.is_some_and(|value| !is_boolean(value)) => {
                let text =
                    format!("Invalid value {} for configuration {name}", value.unwrap_or_default());
                Err(invalid(text))
            }
            Some(_) => Ok(()),
            None => {
                let text = format!("Cannot update these configs dynamically: Set({name})");
                Err((ErrorCode::INVALID_REQUEST, text))
            }
        },
        (RESOURCE_GROUP, Some(value)) => check_group_setting(name, value).map_err(invalid),
        (RESOURCE_CLIENT_METRICS, Some(value)) => telemetry::check(name, value),
        (RESOURCE_TOPIC, _) if definition(name).is_none() => {
            Err(invalid(format!("Unknown topic config name: {name}")))
        }
        (RESOURCE_TOPIC, Some(value)) if !is_list => {
            check(name, value).map_err(|error| invalid(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Whether the setting is a list, to which can be added.
fn takes_lists(resource_type: i8, name: &str) -> bool {
    match resource_type {
        RESOURCE_TOPIC => definition(name).is_none_or(|known| matches!(known.kind, Kind::List(_))),
        RESOURCE_CLIENT_METRICS => {
            CHOICES.iter().any(|choice| choice.name == name && choice.is_list)
        }
        _ => false,
    }
}

fn is_boolean(value: &str) -> bool {
    ["true", "false"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

fn edit(overrides: &mut Overrides, change: Change) {
    let Change { name, operation, value } = change;
    let value = value.unwrap_or_default();
    let default = definition(&name).map_or("", |definition| definition.default);
    let current = overrides.get(&name).map_or(default, String::as_str);
    let words = current.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    match operation {
        OPERATION_DELETE => {
            overrides.remove(&name);
            return;
        }
        OPERATION_APPEND => {
            for word in value.split(',').map(str::trim) {
                if !words.iter().any(|known| known == word) {
                    words.push(word.to_owned());
                }
            }
        }
        OPERATION_SUBTRACT => words.retain(|word| !value.split(',').any(|out| out.trim() == word)),
        _ => words = vec![value],
    }
    overrides.insert(name, words.join(","));
}

fn told(
    outcome: Result<Lsn, Failure>,
    lsn: &mut Lsn,
) -> (ErrorCode, Option<ottla_kafka_proto::Str>) {
    match outcome {
        Ok(changed) => {
            *lsn = (*lsn).max(changed);
            (ErrorCode::NONE, None)
        }
        Err((code, text)) => (code, Some(text.into())),
    }
}

const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
const OPERATION_APPEND: i8 = 2;
const OPERATION_SUBTRACT: i8 = 3;
