//! The traces a dead letter carries: `x-death` and its companions (research 1.6).

use super::command::Death;
use crate::value::{Arguments, Value};

/// The deaths of one message, newest first, one record for each queue and reason.
///
/// Only deaths that the broker recorded count: since RabbitMQ 4.0 what a client sends in `x-death` is
/// not interpreted. [`Deaths::read`] is therefore for messages that are known to be dead letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deaths {
    records: Vec<Record>,
    first: Option<Origin>,
    last: Option<Origin>,
}

/// How a message dies now.
#[derive(Clone, Copy, Debug)]
pub struct Dying<'a> {
    /// The queue it was in.
    pub queue: &'a str,
    /// Why.
    pub reason: Death,
    /// Seconds since 1970-01-01 UTC.
    pub time: u64,
    /// The exchange it had been published to.
    pub exchange: &'a str,
    /// Its routing key and those of `CC`, without those of `BCC`.
    pub routing_keys: &'a [&'a str],
    /// Its `expiration` property, which it loses.
    pub expiration: Option<&'a str>,
}

/// Where and how a message died last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastDeath<'a> {
    /// The queue it was in.
    pub queue: &'a str,
    /// `rejected`, `expired`, …
    pub reason: &'a str,
    /// The exchange it had been published to.
    pub exchange: &'a str,
    /// With these keys.
    pub routing_keys: Vec<&'a str>,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    origin: Origin,
    count: i64,
    time: u64,
    routing_keys: Vec<Box<str>>,
    expiration: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Origin {
    queue: Box<str>,
    reason: Box<str>,
    exchange: Box<str>,
}

impl Deaths {
    /// The deaths in the headers of a dead letter of ours. What cannot be understood is left out.
    #[must_use]
    pub fn read(headers: &Arguments) -> Self {
        let records = match headers.get("x-death") {
            Some(Value::Array(records)) => records.iter().filter_map(Record::read).collect(),
            _ => Vec::new(),
        };
        let origin = |which: &str| {
            let part = |name: &str| text(headers, &format!("x-{which}-death-{name}"));
            Some(Origin {
                queue: part("queue")?,
                reason: part("reason")?,
                exchange: part("exchange")?,
            })
        };
        Self { records, first: origin("first"), last: origin("last") }
    }

    /// Records one more death. A second one in the same queue for the same reason counts up and
    /// becomes the newest; its time stays that of the first.
    pub fn record(&mut self, dying: &Dying<'_>) {
        let origin = Origin {
            queue: dying.queue.into(),
            reason: dying.reason.as_str().into(),
            exchange: dying.exchange.into(),
        };
        let same = |record: &Record| {
            record.origin.queue == origin.queue && record.origin.reason == origin.reason
        };
        let record = match self.records.iter().position(same) {
            Some(position) => {
                let mut record = self.records.remove(position);
                record.count = record.count.saturating_add(1);
                record
            }
            None => Record {
                origin: origin.clone(),
                count: 1,
                time: dying.time,
                routing_keys: dying.routing_keys.iter().map(|key| (*key).into()).collect(),
                expiration: dying.expiration.map(Into::into),
            },
        };
        self.records.insert(0, record);
        self.records.truncate(RECORDS_MAX);
        self.first.get_or_insert_with(|| origin.clone());
        self.last = Some(origin);
    }

    /// The newest death.
    #[must_use]
    pub fn last(&self) -> Option<LastDeath<'_>> {
        let record = self.records.first()?;
        Some(LastDeath {
            queue: &record.origin.queue,
            reason: &record.origin.reason,
            exchange: &record.origin.exchange,
            routing_keys: record.routing_keys.iter().map(|key| &**key).collect(),
        })
    }

    /// Whether going to that queue would close a circle that nobody breaks: it died there before,
    /// and since then no consumer has rejected it. Such a message is dropped.
    #[must_use]
    pub fn closes_cycle(&self, target: &str) -> bool {
        let Some(back) = self.records.iter().position(|r| *r.origin.queue == *target) else {
            return false;
        };
        let mut cycle = self.records.iter().take(back + 1);
        cycle.all(|record| &*record.origin.reason != Death::Rejected.as_str())
    }

    /// Puts the deaths into the headers, in the place of whatever had their names.
    pub fn write(&self, headers: &mut Arguments) {
        let records = self.records.iter().map(Record::table).collect();
        headers.set("x-death", Value::Array(records));
        for (which, origin) in [("first", &self.first), ("last", &self.last)] {
            let Some(origin) = origin else { continue };
            let parts = [
                ("reason", &origin.reason),
                ("queue", &origin.queue),
                ("exchange", &origin.exchange),
            ];
            for (name, part) in parts {
                headers.set(format!("x-{which}-death-{name}"), Value::text(part));
            }
        }
    }
}

impl Record {
    fn read(value: &Value) -> Option<Self> {
        let Value::Table(table) = value else { return None };
        let origin = Origin {
            queue: text(table, "queue")?,
            reason: text(table, "reason")?,
            exchange: text(table, "exchange")?,
        };
        let time = match table.get("time") {
            Some(Value::Timestamp(seconds)) => *seconds,
            _ => 0,
        };
        let routing_keys = match table.get("routing-keys") {
            Some(Value::Array(keys)) => {
                keys.iter().filter_map(Value::as_str).map(Into::into).collect()
            }
            _ => Vec::new(),
        };
        let count = table.get("count").and_then(Value::as_int).unwrap_or(1);
        Some(Self {
            origin,
            count,
            time,
            routing_keys,
            expiration: text(table, "original-expiration"),
        })
    }

    fn table(&self) -> Value {
        let keys = self.routing_keys.iter().map(Value::text).collect();
        let mut table: Arguments = [
            ("count", Value::I64(self.count)),
            ("reason", Value::text(&self.origin.reason)),
            ("queue", Value::text(&self.origin.queue)),
            ("time", Value::Timestamp(self.time)),
            ("exchange", Value::text(&self.origin.exchange)),
            ("routing-keys", Value::Array(keys)),
        ]
        .into_iter()
        .collect();
        if let Some(expiration) = &self.expiration {
            table.set("original-expiration", Value::text(expiration));
        }
        Value::Table(table)
    }
}

/// The headers of a message on its way to a dead-letter exchange: `BCC` goes always, `CC` with a
/// routing key of the queue's own, which stands in for all others.
pub fn remove_selectors(headers: &mut Arguments, has_own_key: bool) {
    headers.remove("BCC");
    if has_own_key {
        headers.remove("CC");
    }
}

fn text(table: &Arguments, name: &str) -> Option<Box<str>> {
    table.get(name).and_then(Value::as_str).map(Into::into)
}

/// The oldest records beyond this are forgotten; a message cannot grow without end by dying.
const RECORDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn dying(queue: &'static str, reason: Death, time: u64) -> Dying<'static> {
        Dying {
            queue,
            reason,
            time,
            exchange: "x",
            routing_keys: &["k", "cc"],
            expiration: Some("60"),
        }
    }

    fn after(deaths: &[(&'static str, Death)]) -> Deaths {
        let mut all = Deaths::default();
        for (time, (queue, reason)) in (1..).zip(deaths) {
            all.record(&dying(queue, *reason, time));
        }
        all
    }

    #[test]
    fn deaths_are_newest_first_and_count_by_queue_and_reason() {
        let deaths =
            after(&[("a", Death::Rejected), ("b", Death::Expired), ("a", Death::Rejected)]);
        let mut headers: Arguments =
            [("kept", Value::Bool(true)), ("x-death", Value::Void)].into_iter().collect();
        deaths.write(&mut headers);
        let Some(Value::Array(records)) = headers.get("x-death") else { panic!("{headers}") };
        let Value::Table(first) = &records[0] else { panic!("{headers}") };
        assert_eq!(
            first.to_string(),
            "[{<<\"count\">>,long,2},{<<\"reason\">>,longstr,rejected},{<<\"queue\">>,longstr,a},\
             {<<\"time\">>,timestamp,1},{<<\"exchange\">>,longstr,x},\
             {<<\"routing-keys\">>,array,[{longstr,k},{longstr,cc}]},{<<\"original-expiration\">>,longstr,60}]"
        );
        assert_eq!(records.len(), 2);
        assert_eq!(headers.get("kept"), Some(&Value::Bool(true)));
        assert_eq!(headers.get("x-first-death-reason"), Some(&Value::text("rejected")));
        assert_eq!(headers.get("x-last-death-queue"), Some(&Value::text("a")));
        assert_eq!(Deaths::read(&headers), deaths, "what was written is read");
    }

    #[test]
    fn the_first_death_stays_and_the_last_moves() {
        let mut headers = Arguments::new();
        after(&[("a", Death::Expired), ("b", Death::MaxLength)]).write(&mut headers);
        let part = |name: &str| headers.get(name).and_then(Value::as_str).unwrap().to_owned();
        assert_eq!(part("x-first-death-queue") + &part("x-last-death-queue"), "ab");
        assert_eq!(part("x-first-death-reason") + &part("x-last-death-reason"), "expiredmaxlen");
    }

    #[test]
    fn a_circle_ends_unless_a_consumer_is_in_it() {
        use Death::{Expired, Rejected};
        assert!(!after(&[("a", Expired)]).closes_cycle("b"));
        assert!(after(&[("a", Expired)]).closes_cycle("a"));
        assert!(after(&[("a", Expired), ("b", Expired)]).closes_cycle("a"));
        assert!(!after(&[("a", Rejected), ("b", Expired)]).closes_cycle("a"));
        assert!(!after(&[("a", Expired), ("b", Rejected)]).closes_cycle("a"));
        assert!(after(&[("c", Rejected), ("a", Expired), ("b", Expired)]).closes_cycle("a"));
    }

    #[test]
    fn records_are_bounded() {
        let mut deaths = Deaths::default();
        let names: Vec<String> = (0..1000).map(|n| format!("q{n}")).collect();
        for queue in &names {
            deaths.record(&Dying { queue, ..dying("", Death::Expired, 1) });
        }
        assert_eq!(deaths.records.len(), 256);
        assert!(deaths.closes_cycle("q999") && !deaths.closes_cycle("q0"));
    }
}
