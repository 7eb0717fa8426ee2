//! What can be set of a share group (resource type GROUP), with Kafka's names, defaults and bounds.

use crate::group::share::ShareSettings;
use crate::topic::Isolation;
use crate::topic::config::Overrides;

/// The settings of one share group in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// Of its machine.
    pub settings: ShareSettings,
    /// Where a partition that it never shared begins.
    pub reset: ShareReset,
    /// Which records it sees.
    pub isolation: Isolation,
}

/// Where a partition begins that the group has not shared yet (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareReset {
    /// At its end.
    Latest,
    /// At its first record.
    Earliest,
}

/// One setting of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// Kafka's default.
    pub default: &'static str,
    /// What it means.
    pub documentation: &'static str,
    /// What values it takes.
    pub values: GroupValues,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupValues {
    /// One of these.
    Word(&'static [&'static str]),
    /// A number from the first to the second.
    Int(u32, u32),
}

/// Everything that can be set of a group.
pub const GROUP_SETTINGS: &[GroupSetting] = &[
    GroupSetting {
        name: RESET,
        default: "latest",
        documentation: "Where a share group begins to read a partition.",
        values: GroupValues::Word(&["latest", "earliest"]),
    },
    GroupSetting {
        name: ISOLATION,
        default: "read_uncommitted",
        documentation: "Which records a share group sees.",
        values: GroupValues::Word(&["read_uncommitted", "read_committed"]),
    },
    GroupSetting {
        name: LOCK_MS,
        default: "30000",
        documentation: "How long a member holds a record, in milliseconds.",
        values: GroupValues::Int(15_000, 60_000),
    },
    GroupSetting {
        name: SESSION_MS,
        default: "45000",
        documentation: "Silence after which a member is removed, in milliseconds.",
        values: GroupValues::Int(45_000, 60_000),
    },
    GroupSetting {
        name: HEARTBEAT_MS,
        default: "5000",
        documentation: "How often members speak, in milliseconds.",
        values: GroupValues::Int(5_000, 15_000),
    },
    GroupSetting {
        name: DELIVERIES,
        default: "5",
        documentation: "How often a record is delivered before it is given up.",
        values: GroupValues::Int(2, 10),
    },
    GroupSetting {
        name: LOCKS,
        default: "2000",
        documentation: "Records of a partition in flight.",
        values: GroupValues::Int(100, 10_000),
    },
];

/// Judges the value of a setting; the text is for the client.
pub fn check_group_setting(name: &str, value: &str) -> Result<(), String> {
    let known = GROUP_SETTINGS.iter().find(|setting| setting.name == name);
    let Some(known) = known else { return Err(format!("Unknown group config name: {name}")) };
    let legal = match known.values {
        GroupValues::Word(words) => words.contains(&value),
        GroupValues::Int(least, most) => {
            value.parse::<u32>().is_ok_and(|number| (least..=most).contains(&number))
        }
    };
    if legal { Ok(()) } else { Err(format!("Invalid value {value} for configuration {name}")) }
}

impl ShareConfig {
    /// The defaults with these settings over them; they were checked when they were made.
    #[must_use]
    pub fn of(overrides: Option<&Overrides>) -> Self {
        let text = |name: &str| overrides.and_then(|all| all.get(name)).map(String::as_str);
        let number =
            |name, default: u32| text(name).and_then(|value| value.parse().ok()).unwrap_or(default);
        let base = ShareSettings::default();
        let limit = number(DELIVERIES, base.delivery_limit.into());
        Self {
            settings: ShareSettings {
                session_timeout_ms: number(SESSION_MS, base.session_timeout_ms),
                heartbeat_interval_ms: number(HEARTBEAT_MS, base.heartbeat_interval_ms),
                lock_ms: number(LOCK_MS, base.lock_ms),
                delivery_limit: u16::try_from(limit).unwrap_or(base.delivery_limit),
                locks_max: number(LOCKS, base.locks_max),
                ..base
            },
            reset: match text(RESET) {
                Some("earliest") => ShareReset::Earliest,
                _ => ShareReset::Latest,
            },
            isolation: match text(ISOLATION) {
                Some("read_committed") => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
        }
    }
}

const RESET: &str = "share.auto.offset.reset";
const ISOLATION: &str = "share.isolation.level";
const LOCK_MS: &str = "share.record.lock.duration.ms";
const SESSION_MS: &str = "share.session.timeout.ms";
const HEARTBEAT_MS: &str = "share.heartbeat.interval.ms";
const DELIVERIES: &str = "share.delivery.count.limit";
const LOCKS: &str = "share.partition.max.record.locks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_kafkas_and_are_what_the_table_says() {
        let config = ShareConfig::of(None);
        let defaults = GROUP_SETTINGS.iter().map(|s| (s.name.to_owned(), s.default.to_owned()));
        assert_eq!(config, ShareConfig::of(Some(&defaults.collect())));
        assert_eq!((config.settings.delivery_limit, config.settings.locks_max), (5, 2_000));
        for setting in GROUP_SETTINGS {
            assert_eq!(check_group_setting(setting.name, setting.default), Ok(()));
            assert!(check_group_setting(setting.name, "nonsense").is_err());
        }
        assert!(check_group_setting("share.delivery.count.limit", "11").is_err());
        assert!(check_group_setting("retention.ms", "11").is_err());
    }
}
