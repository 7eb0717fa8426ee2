//! DescribeConfigs: settings in force of topics, the broker, groups and client metrics.

use ottla_engine::topic::config::{DEFINITIONS, Definition, Kind, Overrides};
use ottla_engine::{
    DEAD_LETTERS_AUTO_CREATE, DEAD_LETTERS_PREFIX, GROUP_SETTINGS, GroupSetting, GroupValues, Lsn,
};
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::Answer;
use crate::config::Config;
use crate::kafka::telemetry::{CHOICES, Choice};
use crate::kafka::{NODE_ID, Peer};

/// An error of the protocol with its text.
pub(super) type Failure = (ErrorCode, String);

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
    /// What was set, if anything.
    set: Option<Source>,
    /// What is in force otherwise.
    default: Source,
}

/// A value and where it comes from.
struct Source {
    code: i8,
    /// What the setting is called there; `None`: nowhere but on its own resource.
    name: Option<&'static str>,
    value: String,
}

impl Source {
    fn new(code: i8, name: &'static str, value: &str) -> Self {
        Self { code, name: Some(name), value: value.to_owned() }
    }

    fn default_of(name: Option<&'static str>, value: &str) -> Self {
        Self { code: SOURCE_DEFAULT, name, value: value.to_owned() }
    }
}

impl Setting {
    fn show(self, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
        let in_force = self.set.as_ref().unwrap_or(&self.default);
        let every = self.set.iter().chain([&self.default]).filter_map(|source| {
            let (name, value) = (source.name?.into(), Some(source.value.as_str().into()));
            Some(DescribeConfigsSynonym { name, value, source: source.code })
        });
        DescribeConfigsResourceResult {
            name: self.name.into(),
            value: Some(in_force.value.as_str().into()),
            read_only: self.read_only,
            config_source: in_force.code,
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
        RESOURCE_CLIENT_METRICS => {
            let overrides = catalog.client_metrics().get(&*resource.resource_name);
            let settings = CHOICES.iter().map(|choice| chosen(choice, overrides));
            Ok((settings.collect(), catalog.changed()))
        }
        RESOURCE_BROKER_LOGGER => Ok((Vec::new(), catalog.changed())),
        other => Err((ErrorCode::INVALID_REQUEST, format!("Unexpected resource type {other}"))),
    }
}

fn topic_setting(definition: &'static Definition, overrides: &Overrides) -> Setting {
    let default = Source::default_of(definition.broker_name, definition.default);
    let set = overrides.get(definition.name);
    Setting {
        name: definition.name,
        kind: kind(definition.kind),
        documentation: definition.documentation,
        read_only: false,
        set: set.map(|value| Source::new(SOURCE_TOPIC, definition.name, value)),
        default,
    }
}

fn chosen(choice: &'static Choice, overrides: Option<&Overrides>) -> Setting {
    let set = overrides.and_then(|all| all.get(choice.name));
    Setting {
        name: choice.name,
        kind: if choice.is_list { TYPE_LIST } else { TYPE_INT },
        documentation: choice.documentation,
        read_only: false,
        set: set.map(|value| Source::new(SOURCE_CLIENT_METRICS, choice.name, value)),
        default: Source::default_of(None, choice.default),
    }
}

fn group_setting(setting: &'static GroupSetting, overrides: Option<&Overrides>) -> Setting {
    let set = overrides.and_then(|all| all.get(setting.name));
    Setting {
        name: setting.name,
        kind: match setting.values {
            GroupValues::Int(..) => TYPE_INT,
            GroupValues::Word(_) | GroupValues::Reset | GroupValues::Topic => TYPE_STRING,
            GroupValues::Boolean => TYPE_BOOLEAN,
        },
        documentation: setting.documentation,
        read_only: false,
        set: set.map(|value| Source::new(SOURCE_GROUP, setting.name, value)),
        default: Source::default_of(setting.broker_name, setting.default),
    }
}

/// A setting of the broker: its name, type, meaning and value.
type Fixed = (&'static str, i8, &'static str, String);

fn node_settings(peer: &Peer) -> Vec<Fixed> {
    let config = &peer.context.config;
    let advertised = peer.advertised();
    vec![
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
    ]
}

fn group_and_txn_settings(config: &Config) -> Vec<Fixed> {
    let (classic, consumer) = (&config.groups.classic, &config.groups.consumer);
    vec![
        (
            "group.initial.rebalance.delay.ms",
            TYPE_INT,
            "How long a new group waits for more members.",
            classic.initial_delay_ms.to_string(),
        ),
        (
            "group.min.session.timeout.ms",
            TYPE_INT,
            "The shortest session that a member may ask for.",
            classic.session_timeout_min_ms.to_string(),
        ),
        (
            "group.max.session.timeout.ms",
            TYPE_INT,
            "The longest session that a member may ask for.",
            classic.session_timeout_max_ms.to_string(),
        ),
        (
            "group.consumer.session.timeout.ms",
            TYPE_INT,
            "The silence after which a KIP-848 member is removed.",
            consumer.session_timeout_ms.to_string(),
        ),
        (
            "group.consumer.heartbeat.interval.ms",
            TYPE_INT,
            "How often KIP-848 members speak.",
            consumer.heartbeat_interval_ms.to_string(),
        ),
        (
            "offsets.retention.minutes",
            TYPE_INT,
            "How long a group without members keeps its offsets.",
            config.offsets_retention_minutes.to_string(),
        ),
        (
            "transaction.max.timeout.ms",
            TYPE_INT,
            "The longest timeout that a transaction may ask for.",
            config.transactions.timeout_max_ms.to_string(),
        ),
        (
            "transactional.id.expiration.ms",
            TYPE_LONG,
            "How long an unused transactional id is known.",
            config.transactions.expiration_ms.to_string(),
        ),
        (
            "producer.id.expiration.ms",
            TYPE_LONG,
            "How long an idle producer's window is known.",
            config.producer_id_expiration_ms.to_string(),
        ),
    ]
}

/// What the broker says of itself: what clients and tools look for.
fn broker_settings(peer: &Peer, of_node: bool, dynamic: &Overrides) -> Vec<Setting> {
    let fixed = node_settings(peer).into_iter().chain(group_and_txn_settings(&peer.context.config));
    let fixed = fixed.filter(|_| of_node).map(|(name, kind, documentation, value)| {
        let default = Source::new(SOURCE_STATIC_BROKER, name, &value);
        Setting { name, kind, documentation, read_only: true, set: None, default }
    });
    let dynamic = dynamic.iter().filter_map(|(name, value)| {
        let definition = broker_definition(name)?;
        Some(Setting {
            name: definition.0,
            kind: TYPE_STRING,
            documentation: "Set on the broker; kept and shown.",
            read_only: false,
            set: None,
            default: Source::new(SOURCE_DYNAMIC_DEFAULT, definition.0, value),
        })
    });
    fixed.chain(dynamic).collect()
}

/// The node a broker resource names; `None` is the default for all.
pub(super) fn node(name: &str) -> Result<Option<i32>, Failure> {
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

/// Settings of the broker that tools change while it runs. They are kept and shown; those of dead
/// letters have an effect.
pub(super) fn broker_definition(name: &str) -> Option<(&'static str, i8)> {
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
    ("leader.replication.throttled.rate", TYPE_LONG),
    ("follower.replication.throttled.rate", TYPE_LONG),
    ("replica.alter.log.dirs.io.max.bytes.per.second", TYPE_DOUBLE),
    (DEAD_LETTERS_PREFIX, TYPE_STRING),
    (DEAD_LETTERS_AUTO_CREATE, TYPE_BOOLEAN),
];

pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;
const RESOURCE_BROKER_LOGGER: i8 = 8;
pub(super) const RESOURCE_CLIENT_METRICS: i8 = 16;
pub(super) const RESOURCE_GROUP: i8 = 32;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_DEFAULT: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_CLIENT_METRICS: i8 = 7;
const SOURCE_GROUP: i8 = 8;

pub(super) const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;
