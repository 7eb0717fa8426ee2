//! What can be set of a group (resource type GROUP), with Kafka's names, defaults and bounds.

use crate::group::consumer::ConsumerSettings;
use crate::group::share::ShareSettings;
use crate::topic::config::Overrides;
use crate::topic::{Isolation, name as topic_name};

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
    /// At the first record that is younger than so many milliseconds; at its end if there is none.
    ByDuration(i64),
}

/// Where a share group's dead letters are to go (KIP-1191).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetterWish {
    /// The topic's name, not empty.
    pub(super) topic: String,
    /// A dead letter carries the key and the value of its record.
    pub(super) copies: bool,
}

impl DeadLetterWish {
    /// What is set of a group, if it names a topic.
    pub(super) fn of(overrides: Option<&Overrides>) -> Option<Self> {
        let overrides = overrides?;
        let topic = overrides.get(DEAD_LETTER_TOPIC)?.trim().to_owned();
        let copies = overrides.get(DEAD_LETTER_COPIES).is_some_and(|value| value == "true");
        (!topic.is_empty()).then_some(Self { topic, copies })
    }
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
    /// What the broker's setting is called that gives the default; `None` if none does.
    pub broker_name: Option<&'static str>,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupValues {
    /// One of these.
    Word(&'static [&'static str]),
    /// A number from the first to the second.
    Int(u32, u32),
    /// `true` or `false`.
    Boolean,
    /// `latest`, `earliest` or `by_duration:` and a duration as `PT12H` (ISO 8601).
    Reset,
    /// The name of a topic, or nothing.
    Topic,
}

/// Everything that can be set of a group.
pub const GROUP_SETTINGS: &[GroupSetting] = &[
    GroupSetting {
        name: CONSUMER_SESSION_MS,
        default: "45000",
        documentation: "Silence after which a member of a consumer group is removed, in milliseconds.",
        values: GroupValues::Int(45_000, 60_000),
        broker_name: Some("group.consumer.session.timeout.ms"),
    },
    GroupSetting {
        name: CONSUMER_HEARTBEAT_MS,
        default: "5000",
        documentation: "How often members of a consumer group speak, in milliseconds.",
        values: GroupValues::Int(5_000, 15_000),
        broker_name: Some("group.consumer.heartbeat.interval.ms"),
    },
    GroupSetting {
        name: "consumer.assignment.interval.ms",
        default: "1000",
        documentation: "Kept for compatibility: a new assignment is made at once.",
        values: GroupValues::Int(0, 15_000),
        broker_name: Some("group.consumer.assignment.interval.ms"),
    },
    GroupSetting {
        name: "share.renew.acknowledge.enable",
        default: "true",
        documentation: "Kept for compatibility: a renewal is always granted.",
        values: GroupValues::Boolean,
        broker_name: Some("share.renew.acknowledge.enable"),
    },
    GroupSetting {
        name: "share.assignment.interval.ms",
        default: "1000",
        documentation: "Kept for compatibility: a new assignment is made at once.",
        values: GroupValues::Int(0, 15_000),
        broker_name: Some("group.share.assignment.interval.ms"),
    },
    GroupSetting {
        name: RESET,
        default: "latest",
        documentation: "Where a share group begins to read a partition.",
        values: GroupValues::Reset,
        broker_name: Some(RESET),
    },
    GroupSetting {
        name: ISOLATION,
        default: "read_uncommitted",
        documentation: "Which records a share group sees.",
        values: GroupValues::Word(&["read_uncommitted", "read_committed"]),
        broker_name: Some(ISOLATION),
    },
    GroupSetting {
        name: LOCK_MS,
        default: "30000",
        documentation: "How long a member holds a record, in milliseconds.",
        values: GroupValues::Int(15_000, 60_000),
        broker_name: Some("group.share.record.lock.duration.ms"),
    },
    GroupSetting {
        name: SESSION_MS,
        default: "45000",
        documentation: "Silence after which a member is removed, in milliseconds.",
        values: GroupValues::Int(45_000, 60_000),
        broker_name: Some("group.share.session.timeout.ms"),
    },
    GroupSetting {
        name: HEARTBEAT_MS,
        default: "5000",
        documentation: "How often members speak, in milliseconds.",
        values: GroupValues::Int(5_000, 15_000),
        broker_name: Some("group.share.heartbeat.interval.ms"),
    },
    GroupSetting {
        name: DELIVERIES,
        default: "5",
        documentation: "How often a record is delivered before it is given up.",
        values: GroupValues::Int(2, 10),
        broker_name: Some("group.share.delivery.count.limit"),
    },
    GroupSetting {
        name: LOCKS,
        default: "2000",
        documentation: "Records of a partition in flight.",
        values: GroupValues::Int(100, 10_000),
        broker_name: Some("group.share.partition.max.record.locks"),
    },
    GroupSetting {
        name: DEAD_LETTER_TOPIC,
        default: "",
        documentation: "Topic for the records that a share group gives up; none if empty.",
        values: GroupValues::Topic,
        broker_name: None,
    },
    GroupSetting {
        name: DEAD_LETTER_COPIES,
        default: "false",
        documentation: "Whether a dead letter carries the key and the value of its record.",
        values: GroupValues::Boolean,
        broker_name: None,
    },
];

/// Judges the value of a setting; the text is for the client.
pub fn check_group_setting(name: &str, value: &str) -> Result<(), String> {
    let known = GROUP_SETTINGS.iter().find(|setting| setting.name == name);
    let Some(known) = known else { return Err(format!("Unknown group config name: {name}")) };
    let invalid = || format!("Invalid value {value} for configuration {name}");
    let legal = match known.values {
        GroupValues::Word(words) => words.contains(&value),
        GroupValues::Boolean => matches!(value, "true" | "false"),
        GroupValues::Topic => value.trim().is_empty() || topic_name::check(value.trim()).is_ok(),
        GroupValues::Reset if ShareReset::named(value).is_none() => {
            let formats =
                "either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'";
            return Err(format!(
                "{}: Invalid value `{value}` for configuration {name}. The value must be {formats}.",
                invalid()
            ));
        }
        GroupValues::Reset => true,
        GroupValues::Int(least, most) => match value.parse::<u32>() {
            Ok(number) if number < least => {
                return Err(bounded(known, "greater", "min"));
            }
            Ok(number) if number > most => return Err(bounded(known, "less", "max")),
            parsed => parsed.is_ok(),
        },
    };
    if legal { Ok(()) } else { Err(invalid()) }
}

/// The broker's settings that bound a group's have their own names.
fn bounded(setting: &GroupSetting, relation: &str, bound: &str) -> String {
    let broker = setting.broker_name.unwrap_or(setting.name);
    let mut parts = broker.splitn(3, '.');
    let (group, kind, rest) = (parts.next(), parts.next(), parts.next());
    let [group, kind, rest] = [group, kind, rest].map(Option::unwrap_or_default);
    let name = setting.name;
    format!("{name} must be {relation} than or equal to {group}.{kind}.{bound}.{rest}")
}

/// The settings of a KIP-848 group in force: the node's with its own over them.
pub(super) fn consumer_settings(
    node: ConsumerSettings,
    overrides: Option<&Overrides>,
) -> ConsumerSettings {
    let number = |name: &str, default: u32| {
        let set = overrides.and_then(|all| all.get(name));
        set.and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    ConsumerSettings {
        session_timeout_ms: number(CONSUMER_SESSION_MS, node.session_timeout_ms),
        heartbeat_interval_ms: number(CONSUMER_HEARTBEAT_MS, node.heartbeat_interval_ms),
        ..node
    }
}

impl ShareReset {
    fn named(value: &str) -> Option<Self> {
        match value {
            "latest" => Some(Self::Latest),
            "earliest" => Some(Self::Earliest),
            _ => duration_ms(value.strip_prefix(BY_DURATION)?).map(Self::ByDuration),
        }
    }
}

/// Milliseconds of `PnDTnHnMn.nS`: days, hours, minutes, seconds, each at most once and in this order.
fn duration_ms(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase();
    let text = text.strip_prefix('P')?;
    let (date, time) = match text.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (text, ""),
    };
    let (days, rest) = unit(date, 'D', DAY_MS)?;
    let (hours, time) = unit(time, 'H', 3_600_000)?;
    let (minutes, time) = unit(time, 'M', 60_000)?;
    let (seconds, time) = match time.strip_suffix('S') {
        None => (0, time),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
            let padded = format!("{fraction:0<3}");
            let milli = number(padded.get(..3)?)?;
            number(fraction.get(3..).filter(|rest| !rest.is_empty()).unwrap_or("0"))?;
            (number(whole)?.checked_mul(1000)?.checked_add(milli)?, "")
        }
    };
    let is_whole = rest.is_empty() && time.is_empty() && !text.is_empty();
    let sum = days.checked_add(hours)?.checked_add(minutes)?.checked_add(seconds)?;
    is_whole.then_some(sum)
}

/// The number before `letter` in milliseconds, and what follows.
fn unit(text: &str, letter: char, ms: i64) -> Option<(i64, &str)> {
    match text.split_once(letter) {
        None => Some((0, text)),
        Some((digits, rest)) => Some((number(digits)?.checked_mul(ms)?, rest)),
    }
}

fn number(digits: &str) -> Option<i64> {
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { digits.parse().ok() } else { None }
}

const DAY_MS: i64 = 86_400_000;
const BY_DURATION: &str = "by_duration:";

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
                buries: DeadLetterWish::of(overrides).is_some(),
                session_timeout_ms: number(SESSION_MS, base.session_timeout_ms),
                heartbeat_interval_ms: number(HEARTBEAT_MS, base.heartbeat_interval_ms),
                lock_ms: number(LOCK_MS, base.lock_ms),
                delivery_limit: u16::try_from(limit).unwrap_or(base.delivery_limit),
                locks_max: number(LOCKS, base.locks_max),
                ..base
            },
            reset: text(RESET).and_then(ShareReset::named).unwrap_or(ShareReset::Latest),
            isolation: match text(ISOLATION) {
                Some("read_committed") => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
        }
    }
}

const CONSUMER_SESSION_MS: &str = "consumer.session.timeout.ms";
const CONSUMER_HEARTBEAT_MS: &str = "consumer.heartbeat.interval.ms";
const RESET: &str = "share.auto.offset.reset";
const ISOLATION: &str = "share.isolation.level";
const LOCK_MS: &str = "share.record.lock.duration.ms";
const SESSION_MS: &str = "share.session.timeout.ms";
const HEARTBEAT_MS: &str = "share.heartbeat.interval.ms";
const DELIVERIES: &str = "share.delivery.count.limit";
const LOCKS: &str = "share.partition.max.record.locks";
const DEAD_LETTER_TOPIC: &str = "errors.deadletterqueue.topic.name";
const DEAD_LETTER_COPIES: &str = "errors.deadletterqueue.copy.record.enable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_iso_8601_and_not_negative() {
        let reset = |text: &str| ShareReset::named(&format!("by_duration:{text}"));
        for (text, ms) in [
            ("PT0S", 0),
            ("PT1.5S", 1500),
            ("PT1.5000S", 1500),
            ("PT12H", 43_200_000),
            ("P1DT2H3M4S", 93_784_000),
            ("p2d", 172_800_000),
        ] {
            assert_eq!(reset(text), Some(ShareReset::ByDuration(ms)), "{text}");
        }
        for wrong in ["", "P", "PT", "1h", "PT-1H", "-PT1H", "PT1M1H", "P1H", "PT1", "PT1.5.5S"] {
            assert_eq!(reset(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_groups_own_timeouts_stand_over_the_nodes() {
        let node = ConsumerSettings { session_timeout_ms: 50_000, ..ConsumerSettings::default() };
        assert_eq!(consumer_settings(node, None), node);
        let own = Overrides::from([("consumer.heartbeat.interval.ms".into(), "6000".into())]);
        let settings = consumer_settings(node, Some(&own));
        assert_eq!((settings.session_timeout_ms, settings.heartbeat_interval_ms), (50_000, 6_000));
    }

    #[test]
    fn the_defaults_are_kafkas_and_are_what_the_table_says() {
        let config = ShareConfig::of(None);
        let defaults = GROUP_SETTINGS.iter().map(|s| (s.name.to_owned(), s.default.to_owned()));
        assert_eq!(config, ShareConfig::of(Some(&defaults.collect())));
        assert_eq!((config.settings.delivery_limit, config.settings.locks_max), (5, 2_000));
        for setting in GROUP_SETTINGS {
            assert_eq!(check_group_setting(setting.name, setting.default), Ok(()));
            assert!(check_group_setting(setting.name, "no/sense").is_err());
        }
        assert!(check_group_setting("share.delivery.count.limit", "11").is_err());
        assert!(check_group_setting("retention.ms", "11").is_err());
    }
}
