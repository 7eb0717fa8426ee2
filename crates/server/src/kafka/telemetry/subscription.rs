//! Which clients are asked for which metrics: resources of the type `CLIENT_METRICS`, as
//! `kafka-client-metrics.sh` sets them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ottla_engine::topic::config::Overrides;
use ottla_kafka_proto::{ErrorCode, Uuid};
use regex::Regex;

use super::Software;

/// What one client is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// Another for every other question.
    pub(crate) id: i32,
    /// How often it shall tell.
    pub(crate) interval_ms: u64,
    /// Prefixes of names; `*` is all, nothing is none.
    pub(crate) metrics: BTreeSet<String>,
}

/// One setting of a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// Kafka's default.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) documentation: &'static str,
    /// Whether it is a list, which can be appended to.
    pub(crate) is_list: bool,
}

/// Everything that can be set of a subscription, by name.
pub(crate) const CHOICES: &[Choice] = &[
    Choice {
        name: INTERVAL,
        default: "300000",
        documentation: "How often a client tells, in milliseconds.",
        is_list: false,
    },
    Choice {
        name: MATCH,
        default: "",
        documentation: "Which clients are asked: patterns, all of which must fit.",
        is_list: true,
    },
    Choice {
        name: METRICS,
        default: "",
        documentation: "Prefixes of the metrics they are asked for; `*` is all.",
        is_list: true,
    },
];

/// Judges a setting; the text is Kafka's.
pub(crate) fn check(name: &str, value: &str) -> Result<(), (ErrorCode, String)> {
    let invalid = |text| Err((ErrorCode::INVALID_REQUEST, text));
    match name {
        METRICS => Ok(()),
        INTERVAL => match value.trim().parse::<i32>() {
            Ok(INTERVAL_MS_MIN..=INTERVAL_MS_MAX) => Ok(()),
            Ok(_) => invalid(format!(
                "Invalid value {value} for {name}, interval must be between {INTERVAL_MS_MIN} and {INTERVAL_MS_MAX} (1 hour)"
            )),
            Err(_) => Err((
                ErrorCode::INVALID_CONFIG,
                format!("Invalid value {value} for configuration {name}: Not a number of type INT"),
            )),
        },
        MATCH => match patterns(value) {
            Ok(_) => Ok(()),
            Err(text) => Err((ErrorCode::INVALID_CONFIG, text)),
        },
        _ => invalid(format!("Unknown client metrics configuration: {name}")),
    }
}

/// `key=regex`, comma-separated.
fn patterns(text: &str) -> Result<Vec<(&str, Regex)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pattern = |part| -> Option<(&str, Regex)> {
        let (key, pattern) = str::split_once(part, '=')?;
        let key = key.trim();
        let pattern = Regex::new(&format!("^(?:{})$", pattern.trim())).ok()?;
        KEYS.contains(&key).then_some((key, pattern))
    };
    parts.map(|part| pattern(part).ok_or_else(|| illegal(part))).collect()
}

fn illegal(part: &str) -> String {
    format!("Illegal client matching pattern: {part}")
}

/// Who a client is, for the patterns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) instance: Uuid,
    pub(crate) client_id: &'a str,
    pub(crate) software: &'a Software,
    pub(crate) address: SocketAddr,
}

impl Who<'_> {
    fn is(self, key: &str, pattern: &Regex) -> bool {
        match key {
            "client_instance_id" => pattern.is_match(&ottla_engine::base64_id(self.instance.0)),
            "client_id" => pattern.is_match(self.client_id),
            "client_software_name" => pattern.is_match(&self.software.name),
            "client_software_version" => pattern.is_match(&self.software.version),
            "client_source_address" => {
                pattern.is_match(&self.address.ip().to_canonical().to_string())
            }
            _ => pattern.is_match(&self.address.port().to_string()),
        }
    }
}

impl Subscription {
    /// What all resources that fit a client ask of it together.
    pub(crate) fn of(resources: &BTreeMap<String, Overrides>, who: Who<'_>) -> Self {
        let mut metrics = BTreeSet::new();
        let mut interval_ms: Option<u64> = None;
        for settings in resources.values() {
            let text = |name: &str| settings.get(name).map_or("", String::as_str);
            let fits = patterns(text(MATCH))
                .is_ok_and(|patterns| patterns.iter().all(|(key, pattern)| who.is(key, pattern)));
            let asked = text(METRICS).split(',').map(str::trim).filter(|prefix| !prefix.is_empty());
            let asked: Vec<&str> = asked.collect();
            if !fits || asked.is_empty() {
                continue;
            }
            metrics.extend(asked.into_iter().map(str::to_owned));
            let own = text(INTERVAL).parse().unwrap_or(INTERVAL_MS);
            interval_ms = Some(interval_ms.map_or(own, |least| least.min(own)));
        }
        if metrics.contains(ALL) {
            metrics = BTreeSet::from([ALL.to_owned()]);
        }
        let interval_ms = interval_ms.unwrap_or(INTERVAL_MS);
        Self { id: id(&metrics, interval_ms), interval_ms, metrics }
    }

    #[cfg(test)]
    pub(super) const fn for_test(id: i32, interval_ms: u64) -> Self {
        Self { id, interval_ms, metrics: BTreeSet::new() }
    }
}

/// FNV-1a over the question: the same after a restart.
fn id(metrics: &BTreeSet<String>, interval_ms: u64) -> i32 {
    let bytes = metrics.iter().flat_map(|prefix| prefix.bytes().chain([b',']));
    let hash = bytes
        .chain(interval_ms.to_be_bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::from_be_bytes(hash.to_be_bytes())
}

const METRICS: &str = "metrics";
const INTERVAL: &str = "interval.ms";
const MATCH: &str = "match";
const ALL: &str = "*";
const INTERVAL_MS: u64 = 300_000;
const INTERVAL_MS_MIN: i32 = 100;
const INTERVAL_MS_MAX: i32 = 3_600_000;
const KEYS: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(resources: &[&[(&str, &str)]]) -> Subscription {
        let resource = |settings: &&[(&str, &str)]| -> Overrides {
            settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let named = resources.iter().enumerate();
        let resources = named.map(|(number, one)| (number.to_string(), resource(one))).collect();
        let software = Software { name: "apache-kafka-java".into(), version: "4.3.1".into() };
        let address = "127.0.0.1:4711".parse().unwrap();
        let who =
            Who { instance: Uuid([0; 16]), client_id: "orders", software: &software, address };
        Subscription::of(&resources, who)
    }

    #[test]
    fn a_client_is_asked_for_what_all_that_fit_it_ask() {
        let one: &[(&str, &str)] = &[("metrics", "a.,b."), ("interval.ms", "2000")];
        let other: &[(&str, &str)] =
            &[("metrics", "c."), ("interval.ms", "1000"), ("match", "client_id=ord.*")];
        let stranger: &[(&str, &str)] = &[("metrics", "*"), ("match", "client_id=ord")];
        let found = asked(&[one, other, stranger]);
        assert_eq!((found.interval_ms, found.metrics.len()), (1000, 3));
        let all: &[(&str, &str)] = &[("metrics", "*"), ("match", "client_source_port=47..")];
        assert_eq!(asked(&[one, all]).metrics, BTreeSet::from(["*".to_owned()]));
        assert_ne!(asked(&[one]).id, asked(&[other]).id);
        assert!(asked(&[]).metrics.is_empty());
    }

    #[test]
    fn settings_are_judged_in_kafkas_words() {
        assert_eq!(check("interval.ms", "100"), Ok(()));
        let (code, text) = check("interval.ms", "5").unwrap_err();
        assert_eq!(code, ErrorCode::INVALID_REQUEST);
        assert!(text.ends_with("interval must be between 100 and 3600000 (1 hour)"), "{text}");
        for wrong in ["colour=red", "client_id", "client_id=("] {
            let (_, text) = check("match", wrong).unwrap_err();
            assert_eq!(text, format!("Illegal client matching pattern: {wrong}"));
        }
        assert_eq!(check("match", "client_id=a.*,client_software_name=b"), Ok(()));
        assert!(check("retention.ms", "1").is_err());
    }
}
