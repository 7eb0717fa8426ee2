//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: settings of topics and of the broker.

use ottla_engine::topic::config::{DEFINITIONS, Definition, Kind, Overrides, check, definition};
use ottla_engine::{GROUP_SETTINGS, GroupSetting, GroupValues, Lsn, check_group_setting};
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use ottla_kafka_proto::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_kafka_proto::messages::incremental_alter_configs::{
    self as incremental_messages, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::Answer;
use crate::kafka::{NODE_ID, Peer, codes};

/// An error of the protocol with its text.
type Failure = (ErrorCode, String);

/// Shows settings in force, where each comes from, and what it would be otherwise.
pub(super) fn describe(peer: &Peer, request: DescribeConfigsRequest) -> Answer {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let mut lsn = Lsn::ZERO;
    let results = request.resources.into_iter().map(|resource| {
        let outcome = settings(peer, &resource);
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match outcome {
            Ok((settings, changed)) => {
                lsn = lsn.max(changed);
                let keys = resource.configuration_keys.as_ref();
                let asked =
                    |name: &str| keys.is_none_or(|keys| keys.iter().any(|key| *key == *name));
                let shown = settings.into_iter().filter(|setting| asked(setting.name));
                result.configs =
                    shown.map(|setting| setting.show(synonyms, documentation)).collect();
            }
            Err((code, text)) => {
                result.error_code = code;
                result.error_message = Some(text.into());
            }
        }
        result
    });
    let results = results.collect();
    Answer::at(lsn, DescribeConfigsResponse { results, ..Default::default() })
}

/// One setting with where its value comes from.
struct Setting {
    name: &'static str,
    kind: i8,
    documentation: &'static str,
    read_only: bool,
    /// From the most specific source to the default; the first is in force.
    sources: Vec<(i8, String)>,
}

impl Setting {
    fn show(self, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
        let (source, value) = self.sources.first().cloned().unwrap_or_default();
        let every = self.sources.into_iter().map(|(source, value)| DescribeConfigsSynonym {
            name: self.name.into(),
            value: Some(value.into()),
            source,
        });
        DescribeConfigsResourceResult {
            name: self.name.into(),
            value: Some(value.into()),
            read_only: self.read_only,
            config_source: source,
            synonyms: if synonyms { every.collect() } else { Vec::new() },
            config_type: self.kind,
            documentation: documentation.then(|| self.documentation.into()),
            ..Default::default()
        }
    }
}

fn settings(
    peer: &Peer,
    resource: &DescribeConfigsResource,
) -> Result<(Vec<Setting>, Lsn), Failure> {
    let catalog = peer.context.engine.catalog();
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let name: &str = &resource.resource_name;
            let topic = catalog.topic(name).ok_or_else(|| unknown_topic(name))?;
            let overrides = topic.overrides();
            let settings =
                DEFINITIONS.iter().map(|definition| topic_setting(definition, &overrides));
            Ok((settings.collect(), catalog.changed()))
        }
        RESOURCE_BROKER => {
            let id = node(&resource.resource_name)?;
            let dynamic = catalog.broker();
            Ok((broker_settings(peer, id.is_some(), dynamic), catalog.changed()))
        }
        RESOURCE_GROUP => {
            let overrides = catalog.group_settings(&resource.resource_name);
            let settings = GROUP_SETTINGS.iter().map(|setting| group_setting(setting, overrides));
            Ok((settings.collect(), catalog.changed()))
        }
        RESOURCE_BROKER_LOGGER | RESOURCE_CLIENT_METRICS => Ok((Vec::new(), catalog.changed())),
        other => Err((ErrorCode::INVALID_REQUEST, format!("Unexpected resource type {other}"))),
    }
}

fn topic_setting(definition: &'static Definition, overrides: &Overrides) -> Setting {
    let mut sources = vec![(SOURCE_DEFAULT, definition.default.to_owned())];
    if let Some(value) = overrides.get(definition.name) {
        sources.insert(0, (SOURCE_TOPIC, value.clone()));
    }
    Setting {
        name: definition.name,
        kind: kind(definition.kind),
        documentation: definition.documentation,
        read_only: false,
        sources,
    }
}

fn group_setting(setting: &'static GroupSetting, overrides: Option<&Overrides>) -> Setting {
    let mut sources = vec![(SOURCE_DEFAULT, setting.default.to_owned())];
    if let Some(value) = overrides.and_then(|all| all.get(setting.name)) {
        sources.insert(0, (SOURCE_GROUP, value.clone()));
    }
    Setting {
        name: setting.name,
        kind: match setting.values {
            GroupValues::Word(_) => TYPE_STRING,
            GroupValues::Int(..) => TYPE_INT,
        },
        documentation: setting.documentation,
        read_only: false,
        sources,
    }
}

/// What the broker says of itself: what clients and tools look for.
fn broker_settings(peer: &Peer, of_node: bool, dynamic: &Overrides) -> Vec<Setting> {
    let config = &peer.context.config;
    let advertised = peer.advertised();
    let fixed: [(&'static str, i8, &'static str, String); 9] = [
        ("node.id", TYPE_INT, "The id of this node.", NODE_ID.to_string()),
        ("broker.id", TYPE_INT, "The id of this node.", NODE_ID.to_string()),
        ("log.dirs", TYPE_STRING, "The data directory.", config.data.display().to_string()),
        (
            "advertised.listeners",
            TYPE_STRING,
            "Where clients come back to.",
            format!("PLAINTEXT://{}:{}", advertised.host, advertised.port),
        ),
        ("num.partitions", TYPE_INT, "Partitions by default.", config.partitions.to_string()),
        ("default.replication.factor", TYPE_INT, "Replicas by default.", "1".to_owned()),
        (
            "auto.create.topics.enable",
            TYPE_BOOLEAN,
            "Whether a topic that is asked for begins to exist.",
            config.auto_create_topics.to_string(),
        ),
        ("delete.topic.enable", TYPE_BOOLEAN, "Topics can be deleted.", "true".to_owned()),
        (
            "group.initial.rebalance.delay.ms",
            TYPE_INT,
            "How long a new group waits for more members.",
            config.group_initial_rebalance_delay_ms.to_string(),
        ),
    ];
    let fixed = fixed.into_iter().filter(|_| of_node).map(|(name, kind, documentation, value)| {
        let sources = vec![(SOURCE_STATIC_BROKER, value)];
        Setting { name, kind, documentation, read_only: true, sources }
    });
    let dynamic = dynamic.iter().filter_map(|(name, value)| {
        let definition = broker_definition(name)?;
        Some(Setting {
            name: definition.0,
            kind: TYPE_STRING,
            documentation: "Set on the broker; kept and shown.",
            read_only: false,
            sources: vec![(SOURCE_DYNAMIC_DEFAULT, value.clone())],
        })
    });
    fixed.chain(dynamic).collect()
}

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
    let name = &change.name;
    let refused = |text: String| (ErrorCode::INVALID_CONFIG, text);
    if !(OPERATION_SET..=OPERATION_SUBTRACT).contains(&change.operation) {
        let text = format!("Unknown operation type {}", change.operation);
        return Err((ErrorCode::INVALID_REQUEST, text));
    }
    if change.value.is_none() && change.operation != OPERATION_DELETE {
        return Err(refused(format!("Null value not supported for : {name}")));
    }
    let is_list = change.operation >= OPERATION_APPEND;
    if resource_type == RESOURCE_BROKER {
        return broker_definition(name).map(|_| ()).ok_or_else(|| {
            let text = format!("Cannot update these configs dynamically: Set({name})");
            (ErrorCode::INVALID_REQUEST, text)
        });
    }
    if resource_type == RESOURCE_GROUP {
        return match &change.value {
            Some(value) if !is_list => check_group_setting(name, value).map_err(refused),
            Some(_) => {
                Err(refused(format!("Config value append is not allowed for config key: {name}")))
            }
            None => Ok(()),
        };
    }
    let known =
        definition(name).ok_or_else(|| refused(format!("Unknown topic config name: {name}")))?;
    if is_list && !matches!(known.kind, Kind::List(_)) {
        return Err(refused(format!("Config value append is not allowed for config key: {name}")));
    }
    match (&change.value, is_list) {
        (Some(value), false) => check(name, value).map_err(|error| refused(error.to_string())),
        _ => Ok(()),
    }
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

/// The node a broker resource names; `None` is the default for all.
fn node(name: &str) -> Result<Option<i32>, Failure> {
    if name.is_empty() {
        return Ok(None);
    }
    match name.parse::<i32>() {
        Ok(NODE_ID) => Ok(Some(NODE_ID)),
        Ok(other) => Err((
            ErrorCode::INVALID_REQUEST,
            format!(
                "Unexpected broker id, expected {NODE_ID} or empty string, but received {other}"
            ),
        )),
        Err(_) => Err((
            ErrorCode::INVALID_REQUEST,
            format!("Broker id must be an integer, but it is: {name}"),
        )),
    }
}

fn unknown_topic(name: &str) -> Failure {
    (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist."))
}

/// Settings of the broker that tools change while it runs. They are kept and shown.
fn broker_definition(name: &str) -> Option<(&'static str, i8)> {
    DYNAMIC_BROKER.iter().find(|(known, _)| *known == name).copied()
}

const fn kind(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => TYPE_BOOLEAN,
        Kind::Word(_) => TYPE_STRING,
        Kind::Int(..) => TYPE_INT,
        Kind::Long(..) => TYPE_LONG,
        Kind::Double(..) => TYPE_DOUBLE,
        Kind::List(_) => TYPE_LIST,
    }
}

const DYNAMIC_BROKER: &[(&str, i8)] = &[
    ("log.retention.ms", TYPE_LONG),
    ("log.retention.bytes", TYPE_LONG),
    ("log.cleaner.threads", TYPE_INT),
    ("log.segment.bytes", TYPE_INT),
    ("message.max.bytes", TYPE_INT),
    ("num.io.threads", TYPE_INT),
    ("num.network.threads", TYPE_INT),
    ("background.threads", TYPE_INT),
];

const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
const OPERATION_APPEND: i8 = 2;
const OPERATION_SUBTRACT: i8 = 3;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
const RESOURCE_BROKER_LOGGER: i8 = 8;
const RESOURCE_CLIENT_METRICS: i8 = 16;
const RESOURCE_GROUP: i8 = 32;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_DEFAULT: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_GROUP: i8 = 8;

const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;
