//! The settings of a topic: what exists, its type, default and bounds, and the values in force.
//!
//! Names, types and defaults are Kafka 4.x's topic configuration reference. A setting that cannot
//! have an effect on one node (replica throttles, tiered storage) is accepted, kept and shown.

use std::collections::BTreeMap;

use ottla_store::codec::Codec;
use serde::{Deserialize, Serialize};

/// What was set explicitly, by name.
pub type Overrides = BTreeMap<String, String>;

/// One setting that exists.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// How its value is read.
    pub kind: Kind,
    /// The value when nothing is set.
    pub default: &'static str,
    /// One sentence for `DescribeConfigs`.
    pub documentation: &'static str,
    /// What the broker's setting is called that gives the default; `None` if none does.
    pub broker_name: Option<&'static str>,
}

/// How a value is read, with its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A 32-bit integer in the range.
    Int(i32, i32),
    /// A 64-bit integer in the range.
    Long(i64, i64),
    /// A number in the range.
    Double(f64, f64),
    /// One of the words.
    Word(&'static [&'static str]),
    /// Comma-separated words, each one of these; empty ones allowed if the slice is empty.
    List(&'static [&'static str]),
}

/// Why a setting was refused: Kafka answers `INVALID_CONFIG` (40) with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such setting.
    #[error("Unknown topic config name: {name}")]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// The value is not of the setting's type or outside its bounds.
    #[error("Invalid value {value} for configuration {name}: {why}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value as given.
        value: String,
        /// What it has to be.
        why: String,
    },
}

/// The values in force that the broker acts on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// Old records are deleted.
    pub delete: bool,
    /// Only the last record of each key is kept.
    pub compact: bool,
    /// Codec to store with; `None` is the producer's.
    pub compression: Option<Compression>,
    /// Largest batch in bytes.
    pub message_bytes_max: usize,
    /// Whether the broker's time replaces the producer's.
    pub log_append_time: bool,
    /// How far a record's time may lie before the broker's, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// How far a record's time may lie after the broker's, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// Age in milliseconds after which records are deleted; `None` is never.
    pub retention_ms: Option<i64>,
    /// Bytes of a partition beyond which the oldest are deleted; `None` is any number.
    pub retention_bytes: Option<u64>,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// Milliseconds after a segment's first record from which a record begins the next one.
    pub segment_ms: i64,
    /// How long a tombstone is kept after it was compacted, in milliseconds.
    pub delete_retention_ms: i64,
    /// How long a record stays uncompacted at least, in milliseconds.
    pub compaction_lag_min_ms: i64,
    /// Share of uncompacted bytes, in percent, from which compaction is worth it.
    pub dirty_percent_min: u8,
}

/// What bounds the values in force without being set on the topic: the policies of its stream. The smaller of
/// two holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Age in milliseconds after which records are deleted.
    pub retention_ms: Option<i64>,
    /// Bytes of a partition beyond which the oldest are deleted.
    pub retention_bytes: Option<u64>,
    /// Bytes of a segment file.
    pub segment_bytes: Option<u64>,
}

/// A codec to store with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// None.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    Lz4,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The codec of the batches.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::Uncompressed => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

impl TopicConfig {
    /// The same within bounds.
    #[must_use]
    pub fn within(self, bounds: &Bounds) -> Self {
        let age = self.retention_ms.into_iter().chain(bounds.retention_ms);
        let bytes = self.retention_bytes.into_iter().chain(bounds.retention_bytes);
        let segment = bounds.segment_bytes.unwrap_or(self.segment_bytes);
        Self {
            retention_ms: age.min(),
            retention_bytes: bytes.min(),
            segment_bytes: self.segment_bytes.min(segment),
            ..self
        }
    }

    /// The values in force under `overrides`, which `check` has passed.
    #[must_use]
    pub fn of(overrides: &Overrides) -> Self {
        let text = |name: &str| -> &str {
            overrides.get(name).map_or_else(|| default_of(name), String::as_str)
        };
        let long = |name: &str| -> i64 { text(name).trim().parse().unwrap_or_default() };
        let policies = text("cleanup.policy");
        let has = |word: &str| policies.split(',').any(|policy| policy.trim() == word);
        let ratio: f64 = text("min.cleanable.dirty.ratio").trim().parse().unwrap_or(0.5);
        Self {
            delete: has("delete"),
            compact: has("compact"),
            compression: match text("compression.type") {
                "uncompressed" => Some(Compression::Uncompressed),
                "gzip" => Some(Compression::Gzip),
                "snappy" => Some(Compression::Snappy),
                "lz4" => Some(Compression::Lz4),
                "zstd" => Some(Compression::Zstd),
                _ => None,
            },
            message_bytes_max: usize::try_from(long("max.message.bytes")).unwrap_or_default(),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            retention_ms: Some(long("retention.ms")).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(long("retention.bytes")).ok(),
            segment_bytes: u64::try_from(long("segment.bytes")).unwrap_or(1 << 30),
            segment_ms: long("segment.ms"),
            delete_retention_ms: long("delete.retention.ms"),
            compaction_lag_min_ms: long("min.compaction.lag.ms"),
            dirty_percent_min: percent(ratio),
        }
    }
}

/// The definition of a setting.
#[must_use]
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

/// Whether `value` may be given to the setting `name`.
pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    let definition =
        definition(name).ok_or_else(|| ConfigError::Unknown { name: name.to_owned() })?;
    definition.kind.check(value).map_err(|why| ConfigError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        why,
    })
}

fn default_of(name: &str) -> &'static str {
    definition(name).map_or("", |definition| definition.default)
}

fn percent(ratio: f64) -> u8 {
    let steps = (1..=100u8).rev().find(|percent| f64::from(*percent) <= ratio * 100.0);
    steps.unwrap_or(0)
}

impl Kind {
    fn check(self, value: &str) -> Result<(), String> {
        let value = value.trim();
        match self {
            Self::Boolean => one_of(&value.to_ascii_lowercase(), &["true", "false"]),
            Self::Int(low, high) => {
                let number = value.parse::<i32>().map_err(|_| not_a_number("int"))?;
                within(number, low, high)
            }
            Self::Long(low, high) => {
                let number = value.parse::<i64>().map_err(|_| not_a_number("long"))?;
                within(number, low, high)
            }
            Self::Double(low, high) => {
                let number = value.parse::<f64>().map_err(|_| not_a_number("double"))?;
                within(number, low, high)
            }
            Self::Word(words) => one_of(value, words),
            Self::List([]) => Ok(()),
            Self::List(words) => value.split(',').try_for_each(|word| one_of(word.trim(), words)),
        }
    }
}

fn not_a_number(kind: &str) -> String {
    format!("Not a number of type {}", kind.to_ascii_uppercase())
}

fn within<N: PartialOrd + std::fmt::Display>(number: N, low: N, high: N) -> Result<(), String> {
    if number < low {
        return Err(format!("Value must be at least {low}"));
    }
    if number > high {
        return Err(format!("Value must be no more than {high}"));
    }
    Ok(())
}

fn one_of(value: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&value) {
        return Ok(());
    }
    Err(format!("String must be one of: {}", words.join(", ")))
}

const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    documentation: &'static str,
) -> Definition {
    Definition { name, kind, default, documentation, broker_name: None }
}

impl Definition {
    /// The same with the broker's name for it.
    const fn on_broker(self, name: &'static str) -> Self {
        Self { broker_name: Some(name), ..self }
    }
}

/// A topic with this setting on takes the dead letters of share groups.
pub const DEAD_LETTERS: &str = "errors.deadletterqueue.group.enable";

const MS: Kind = Kind::Long(0, i64::MAX);
const MS_OR_NONE: Kind = Kind::Long(-1, i64::MAX);
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// Every setting of a topic, in the order of their names.
pub const DEFINITIONS: &[Definition] = &[
    setting(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        "Whether old records are deleted, compacted by key, or both.",
    )
    .on_broker("log.cleanup.policy"),
    setting("compression.gzip.level", Kind::Int(-1, 9), "-1", "Level for the codec gzip.")
        .on_broker("compression.gzip.level"),
    setting("compression.lz4.level", Kind::Int(1, 17), "9", "Level for the codec lz4.")
        .on_broker("compression.lz4.level"),
    setting(
        "compression.type",
        Kind::Word(CODECS),
        "producer",
        "Codec that batches are stored with; `producer` keeps them as they came.",
    )
    .on_broker("compression.type"),
    setting("compression.zstd.level", Kind::Int(-131_072, 22), "3", "Level for the codec zstd.")
        .on_broker("compression.zstd.level"),
    setting(
        "delete.retention.ms",
        MS,
        "86400000",
        "How long a tombstone stays readable after compaction.",
    )
    .on_broker("log.cleaner.delete.retention.ms"),
    setting(
        DEAD_LETTERS,
        Kind::Boolean,
        "false",
        "Whether share groups may write their dead letters to it (KIP-1191).",
    ),
    setting(
        "file.delete.delay.ms",
        MS,
        "60000",
        "Kept for compatibility: a file goes once no snapshot needs it.",
    )
    .on_broker("log.segment.delete.delay.ms"),
    setting(
        "flush.messages",
        Kind::Long(1, i64::MAX),
        "9223372036854775807",
        "Kept for compatibility: every acknowledged record is synced.",
    )
    .on_broker("log.flush.interval.messages"),
    setting(
        "flush.ms",
        MS,
        "9223372036854775807",
        "Kept for compatibility: every acknowledged record is synced.",
    ),
    setting(
        "follower.replication.throttled.replicas",
        Kind::List(&[]),
        "",
        "Kept for compatibility: there is one replica.",
    ),
    setting(
        "index.interval.bytes",
        Kind::Int(0, i32::MAX),
        "4096",
        "Kept for compatibility: the index has its own spacing.",
    )
    .on_broker("log.index.interval.bytes"),
    setting(
        "leader.replication.throttled.replicas",
        Kind::List(&[]),
        "",
        "Kept for compatibility: there is one replica.",
    ),
    setting(
        "local.retention.bytes",
        Kind::Long(-2, i64::MAX),
        "-2",
        "Kept for compatibility: nothing is tiered.",
    )
    .on_broker("log.local.retention.bytes"),
    setting(
        "local.retention.ms",
        Kind::Long(-2, i64::MAX),
        "-2",
        "Kept for compatibility: nothing is tiered.",
    )
    .on_broker("log.local.retention.ms"),
    setting(
        "max.compaction.lag.ms",
        Kind::Long(1, i64::MAX),
        "9223372036854775807",
        "How long a record stays uncompacted at most.",
    )
    .on_broker("log.cleaner.max.compaction.lag.ms"),
    setting(
        "max.message.bytes",
        Kind::Int(0, 33_554_432),
        "1048588",
        "Largest batch, after compression, that is accepted.",
    )
    .on_broker("message.max.bytes"),
    setting(
        "message.timestamp.after.max.ms",
        MS,
        "3600000",
        "How far a record's time may lie after the broker's.",
    )
    .on_broker("log.message.timestamp.after.max.ms"),
    setting(
        "message.timestamp.before.max.ms",
        MS,
        "9223372036854775807",
        "How far a record's time may lie before the broker's.",
    )
    .on_broker("log.message.timestamp.before.max.ms"),
    setting(
        "message.timestamp.type",
        Kind::Word(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whether a record carries the producer's time or the broker's.",
    )
    .on_broker("log.message.timestamp.type"),
    setting(
        "min.cleanable.dirty.ratio",
        Kind::Double(0.0, 1.0),
        "0.5",
        "Share of uncompacted bytes from which compaction starts.",
    )
    .on_broker("log.cleaner.min.cleanable.ratio"),
    setting("min.compaction.lag.ms", MS, "0", "How long a record stays uncompacted at least.")
        .on_broker("log.cleaner.min.compaction.lag.ms"),
    setting(
        "min.insync.replicas",
        Kind::Int(1, i32::MAX),
        "1",
        "Kept for compatibility: there is one replica, and it is in sync.",
    )
    .on_broker("min.insync.replicas"),
    setting("preallocate", Kind::Boolean, "false", "Kept for compatibility.")
        .on_broker("log.preallocate"),
    setting(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        "Kept for compatibility: nothing is tiered.",
    ),
    setting(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        "Kept for compatibility: nothing is tiered.",
    ),
    setting(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        "Kept for compatibility: there is no tiered storage.",
    ),
    setting(
        "retention.bytes",
        Kind::Long(-1, i64::MAX),
        "-1",
        "Bytes of a partition beyond which the oldest records are deleted; -1 is no bound.",
    )
    .on_broker("log.retention.bytes"),
    setting(
        "retention.ms",
        MS_OR_NONE,
        "604800000",
        "Age after which records are deleted; -1 is never.",
    ),
    setting(
        "segment.bytes",
        Kind::Int(1_048_576, i32::MAX),
        "1073741824",
        "Bytes of one segment file.",
    )
    .on_broker("log.segment.bytes"),
    setting(
        "segment.index.bytes",
        Kind::Int(4, i32::MAX),
        "10485760",
        "Kept for compatibility: an index grows as it needs.",
    )
    .on_broker("log.index.size.max.bytes"),
    setting("segment.jitter.ms", MS, "0", "Kept for compatibility."),
    setting(
        "segment.ms",
        Kind::Long(1, i64::MAX),
        "604800000",
        "Time after its first record from which a segment is closed even if it is not full.",
    ),
    setting(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "Kept for compatibility: there is one replica.",
    )
    .on_broker("unclean.leader.election.enable"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for definition in DEFINITIONS {
            assert_eq!(check(definition.name, definition.default), Ok(()), "{}", definition.name);
        }
    }

    #[test]
    fn without_overrides_kafkas_defaults_are_in_force() {
        let config = TopicConfig::of(&Overrides::new());
        assert!(config.delete && !config.compact);
        assert_eq!(config.message_bytes_max, 1_048_588);
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.dirty_percent_min, 50);
        assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, 604_800_000));
    }

    #[test]
    fn what_is_unknown_or_out_of_bounds_is_refused_by_name() {
        let unknown = check("retension.ms", "1").unwrap_err();
        assert_eq!(unknown.to_string(), "Unknown topic config name: retension.ms");
        let small = check("segment.bytes", "10").unwrap_err();
        assert!(small.to_string().contains("at least 1048576"), "{small}");
        assert!(check("cleanup.policy", "compact, delete").is_ok());
        assert!(check("cleanup.policy", "forget").is_err());
        assert!(check("compression.type", "brotli").is_err());
    }
}
