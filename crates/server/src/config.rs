//! What the server can be told: by file, by environment, by flags. Flags win over variables,
//! variables over the file, the file over the defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ottla_engine::group::GroupSettings;
use ottla_engine::txn::coordinator::Settings as TransactionSettings;
use ottla_engine::{Durability, PlantedBug};

/// One setting that exists.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the file; the variable is `OTTLA_` and the key in capitals with `_` for `-`, the
    /// flag `--` and the key.
    pub key: &'static str,
    /// What a person is told about it.
    pub about: &'static str,
}

/// Everything the server can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where Kafka clients connect.
    pub kafka: Listen,
    /// Where RabbitMQ clients connect.
    pub amqp: Listen,
    /// Where browsers and HTTP clients connect.
    pub http: Listen,
    /// The host and port that Kafka clients are told to come back to; unset is the local address of
    /// the connection they already have.
    pub advertise: Option<Advertise>,
    /// Where to write the bound addresses as JSON once ready.
    pub ready_file: Option<PathBuf>,
    /// When an acknowledgement may be given.
    pub durability: Durability,
    /// What a replication factor above one means.
    pub replication_factor: ReplicationFactor,
    /// Whether a topic that is asked for begins to exist.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say.
    pub partitions: i32,
    /// Timeouts of groups.
    pub groups: GroupSettings,
    /// Timeouts of transactions.
    pub transactions: TransactionSettings,
    /// Minutes after which the offsets of a group without members are forgotten.
    pub offsets_retention_minutes: u64,
    /// Milliseconds after which an idle producer's window is forgotten.
    pub producer_id_expiration_ms: u64,
    /// Whether `basic.nack` with requeue counts toward a delivery limit (RabbitMQ 4.2) or not (4.3).
    pub nack_counts: bool,
    /// The version that RabbitMQ clients are told.
    pub amqp_version: String,
    /// Whom clients are that log in with the mechanism ANONYMOUS; unset: it is not offered.
    pub anonymous: Option<String>,
    /// Bytes of messages in memory alone beyond which their publishers are held back; unset: two fifths of the
    /// memory there is.
    pub message_memory: Option<u64>,
    /// A mistake for `tests/history`; only a build with debug assertions has a key for it.
    pub planted_bug: PlantedBug,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// On both loopback addresses, at this port. One of them missing is no error.
    Loopback(u16),
    /// On exactly these addresses.
    On(Vec<SocketAddr>),
}

/// What a replication factor above one means on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationFactor {
    /// One.
    Clamp,
    /// An error, as on a cluster with too few brokers.
    Strict,
}

/// A host and port to tell clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a configuration is refused (exit 78). The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such key.
    #[error("{source_name}: there is no setting `{key}`{hint}")]
    UnknownKey {
        /// Which file, or `environment`.
        source_name: String,
        /// The key as given.
        key: String,
        /// `; did you mean …?`, or all names.
        hint: String,
    },
    /// The value does not fit.
    #[error("{source_name}: `{key} = {value}`: {why}")]
    Value {
        /// Which file, variable or flag.
        source_name: String,
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What it has to be.
        why: String,
    },
    /// The file cannot be read or is no TOML.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reader's own words.
        why: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("ottla-data"),
            kafka: Listen::Loopback(9092),
            amqp: Listen::Loopback(5672),
            http: Listen::Loopback(15672),
            advertise: None,
            ready_file: None,
            durability: Durability::Sync,
            replication_factor: ReplicationFactor::Clamp,
            auto_create_topics: true,
            partitions: 1,
            groups: GroupSettings::default(),
            transactions: TransactionSettings::default(),
            offsets_retention_minutes: 7 * 24 * 60,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            nack_counts: true,
            amqp_version: "4.2.0".to_owned(),
            anonymous: None,
            message_memory: None,
            planted_bug: PlantedBug::None,
        }
    }
}

impl Config {
    /// Takes all settings of a TOML file.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let refused = |why: String| ConfigError::File { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| refused(error.to_string()))?;
        let source_name = path.display().to_string();
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Array(values) => {
                    let items = values.iter().map(|item| item.as_str().unwrap_or_default());
                    items.collect::<Vec<_>>().join(",")
                }
                other => other.to_string(),
            };
            self.set(&source_name, &key, &text)?;
        }
        Ok(())
    }

    /// Takes all variables that begin with `OTTLA_`.
    pub fn read_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("OTTLA_") else { continue };
            let key = key.to_ascii_lowercase().replace('_', "-");
            if key != "config" && key != "log" {
                self.set("environment", &key, &value)?;
            }
        }
        Ok(())
    }

    /// Takes one setting.
    pub fn set(&mut self, source_name: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        if let Some(outcome) = self.set_timeout(key, value) {
            return outcome.map_err(|why| ConfigError::refused(source_name, key, value, why));
        }
        let outcome = match key {
            "data" => store(&mut self.data, Ok(PathBuf::from(value))),
            "kafka" => store(&mut self.kafka, value.parse()),
            "amqp" => store(&mut self.amqp, value.parse()),
            "http" => store(&mut self.http, value.parse()),
            "advertise" => store(&mut self.advertise, value.parse().map(Some)),
            "ready-file" => store(&mut self.ready_file, Ok(Some(PathBuf::from(value)))),
            "durability" => store(
                &mut self.durability,
                word(value, &[("sync", Durability::Sync), ("os", Durability::Os)]),
            ),
            "replication-factor" => store(
                &mut self.replication_factor,
                word(
                    value,
                    &[("clamp", ReplicationFactor::Clamp), ("strict", ReplicationFactor::Strict)],
                ),
            ),
            "auto-create-topics" => store(&mut self.auto_create_topics, boolean(value)),
            "partitions" => store(&mut self.partitions, number(value, 1, 10_000)),
            "offsets-retention-minutes" => {
                store(&mut self.offsets_retention_minutes, number(value, 1, MINUTES_MAX))
            }
            "producer-id-expiration-ms" => {
                store(&mut self.producer_id_expiration_ms, number(value, 1, MS_MAX))
            }
            "nack-counts" => store(&mut self.nack_counts, boolean(value)),
            "amqp-version" => store(&mut self.amqp_version, Ok(value.to_owned())),
            "amqp-anonymous" => {
                let user =
                    Some(value.to_owned()).filter(|user| !matches!(user.as_str(), "off" | ""));
                store(&mut self.anonymous, Ok(user))
            }
            "message-memory" => {
                store(&mut self.message_memory, number(value, 0, u64::MAX).map(Some))
            }
            #[cfg(debug_assertions)]
            "planted-bug" => store(&mut self.planted_bug, word(value, &PLANTED_BUGS)),
            _ => {
                return Err(ConfigError::UnknownKey {
                    source_name: source_name.to_owned(),
                    key: key.to_owned(),
                    hint: nearest(key),
                });
            }
        };
        outcome.map_err(|why| ConfigError::refused(source_name, key, value, why))
    }

    /// Takes one of the timeouts of groups and transactions; `None` if it is no such key.
    fn set_timeout(&mut self, key: &str, value: &str) -> Option<Result<(), String>> {
        let (classic, consumer) = (&mut self.groups.classic, &mut self.groups.consumer);
        let (field, low, high) = match key {
            "group-initial-rebalance-delay-ms" => (&mut classic.initial_delay_ms, 0, 300_000),
            "group-min-session-timeout-ms" => (&mut classic.session_timeout_min_ms, 1, u32::MAX),
            "group-max-session-timeout-ms" => (&mut classic.session_timeout_max_ms, 1, u32::MAX),
            "group-consumer-session-timeout-ms" => {
                (&mut consumer.session_timeout_ms, 1000, 3_600_000)
            }
            "group-consumer-heartbeat-interval-ms" => {
                (&mut consumer.heartbeat_interval_ms, 100, 3_600_000)
            }
            "transaction-max-timeout-ms" => {
                (&mut self.transactions.timeout_max_ms, 1, i32::MAX.unsigned_abs())
            }
            "transactional-id-expiration-ms" => {
                let field = &mut self.transactions.expiration_ms;
                return Some(store(field, number(value, 1, MS_MAX)));
            }
            _ => return None,
        };
        Some(store(field, number(value, low, high)))
    }
}

impl ConfigError {
    fn refused(source_name: &str, key: &str, value: &str, why: String) -> Self {
        Self::Value {
            source_name: source_name.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            why,
        }
    }
}

/// By the names that `tests/history` has for them.
#[cfg(debug_assertions)]
const PLANTED_BUGS: [(&str, PlantedBug); 4] = [
    ("transaction-lost-at-begin", PlantedBug::TransactionLostAtBegin),
    ("marker-of-one-partition", PlantedBug::MarkerOfOnePartition),
    ("duplicate-window-lost", PlantedBug::DuplicateWindowLost),
    ("group-forgotten", PlantedBug::GroupForgotten),
];

/// Some 292 million years.
const MS_MAX: u64 = i64::MAX.unsigned_abs();
/// Kafka's: what an int holds.
const MINUTES_MAX: u64 = i32::MAX.unsigned_abs() as u64;

fn store<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

fn word<T: Copy>(value: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(name, _)| *name == value).map(|(_, chosen)| *chosen).ok_or_else(|| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        format!("must be one of: {}", names.join(", "))
    })
}

fn boolean(value: &str) -> Result<bool, String> {
    word(value, &[("true", true), ("false", false)])
}

fn number<N: FromStr + PartialOrd + fmt::Display>(
    value: &str,
    low: N,
    high: N,
) -> Result<N, String> {
    let refused = format!("must be a whole number from {low} to {high}");
    value.parse().ok().filter(|number| *number >= low && *number <= high).ok_or(refused)
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = |part: &str| {
            let named = part.trim().replace("localhost:", "127.0.0.1:");
            named.parse().map_err(|_| {
                format!("`{}` is not `off` or an address with a port, as 127.0.0.1:9092", part)
            })
        };
        text.split(',').map(address).collect::<Result<Vec<_>, _>>().map(Self::On)
    }
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is not a host with a port, as broker.example:9092");
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = port.parse().map_err(|_| refused())?;
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port })
    }
}

/// The end of the sentence about an unknown key: the nearest name that exists, or all of them.
fn nearest(key: &str) -> String {
    let best = SETTINGS.iter().map(|setting| (distance(key, setting.key), setting.key)).min();
    match best {
        Some((steps, name)) if steps <= 1 + key.len() / 3 => format!("; did you mean `{name}`?"),
        _ => {
            let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
            format!("; there are: {}", names.join(", "))
        }
    }
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in (1..).zip(left.bytes()) {
        let mut diagonal = line - 1;
        let mut before = line;
        let mut next = vec![line];
        for (b, above) in right.bytes().zip(row.iter().skip(1)) {
            let here = (diagonal + usize::from(a != b)).min(before + 1).min(above + 1);
            diagonal = *above;
            before = here;
            next.push(here);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

const fn setting(key: &'static str, about: &'static str) -> Setting {
    Setting { key, about }
}

/// Every setting, in the order in which help shows them.
pub const SETTINGS: &[Setting] = &[
    setting("data", "data directory"),
    setting("kafka", "addresses for Kafka clients, comma-separated, or off"),
    setting("amqp", "addresses for RabbitMQ clients, comma-separated, or off"),
    setting("http", "addresses for HTTP clients, comma-separated, or off"),
    setting("advertise", "host:port that Kafka clients are told to come back to"),
    setting("ready-file", "file that gets the bound addresses as JSON once ready"),
    setting("durability", "sync: acknowledged is on disk; os: acknowledged is written"),
    setting("replication-factor", "clamp: factors above one mean one; strict: they are refused"),
    setting("auto-create-topics", "whether a topic that is asked for begins to exist"),
    setting("partitions", "partitions of a topic whose creator does not say"),
    setting("group-initial-rebalance-delay-ms", "wait for more members of a new group"),
    setting("group-min-session-timeout-ms", "shortest session that a group member may ask for"),
    setting("group-max-session-timeout-ms", "longest session that a group member may ask for"),
    setting("group-consumer-session-timeout-ms", "silence that ends a KIP-848 member"),
    setting("group-consumer-heartbeat-interval-ms", "how often KIP-848 members speak"),
    setting("offsets-retention-minutes", "how long a group without members keeps its offsets"),
    setting("transaction-max-timeout-ms", "longest timeout that a transaction may ask for"),
    setting("transactional-id-expiration-ms", "how long an unused transactional id is known"),
    setting("producer-id-expiration-ms", "how long an idle producer's window is known"),
    setting("nack-counts", "whether basic.nack with requeue counts toward a delivery limit"),
    setting("amqp-version", "version that RabbitMQ clients are told"),
    setting("amqp-anonymous", "the user that clients without a name are (ANONYMOUS), or off"),
    setting("message-memory", "bytes of transient messages before their publishers must wait"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_set_and_none_else() {
        let mut config = Config::default();
        for setting in SETTINGS {
            let outcome = config.set("test", setting.key, "\u{0}");
            let unknown = matches!(outcome, Err(ConfigError::UnknownKey { .. }));
            assert!(!unknown, "{} is listed but unknown", setting.key);
        }
        let error = config.set("ottla.toml", "kafak", "off").unwrap_err();
        assert_eq!(
            error.to_string(),
            "ottla.toml: there is no setting `kafak`; did you mean `kafka`?"
        );
    }

    #[test]
    fn listeners_are_off_or_addresses() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        let both: Listen = "127.0.0.1:9092,[::1]:0".parse().unwrap();
        let Listen::On(addresses) = both else { panic!("{both:?}") };
        assert_eq!(addresses.len(), 2);
        assert!("9092".parse::<Listen>().is_err());
    }

    #[test]
    fn later_sources_win_and_bad_values_name_themselves() {
        let mut config = Config::default();
        config.set("file", "partitions", "3").unwrap();
        config.read_environment([("OTTLA_PARTITIONS".to_owned(), "6".to_owned())]).unwrap();
        assert_eq!(config.partitions, 6);
        let error = config.set("flag", "durability", "maybe").unwrap_err();
        assert_eq!(error.to_string(), "flag: `durability = maybe`: must be one of: sync, os");
    }
}
