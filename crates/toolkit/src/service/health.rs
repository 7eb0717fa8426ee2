//! How a service is doing: what a readiness probe and a metrics page are made of.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::address::Address;
use crate::connection::Connection;

/// How a service is doing. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    service: String,
    connection: Connection,
    sources: Mutex<BTreeMap<Address, Arc<Counters>>>,
}

/// Whether a source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Condition {
    /// Not subscribed yet.
    Starting,
    /// Reads.
    Running,
    /// The circuit breaker has paused intake.
    Paused,
    /// The broker cannot be reached; it is asked again and again.
    Lost,
    /// Takes nothing more, finishes what it has.
    Draining,
    /// Left.
    Stopped,
}

/// How one source of a service is doing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SourceHealth {
    /// What it listens to.
    pub source: String,
    /// Whether it is read.
    pub condition: Condition,
    /// Messages that the group has not settled; `None` if the broker does not say.
    pub lag: Option<u64>,
    /// Messages among the dead letters; `None` if the broker does not say.
    pub dead_letters: Option<u64>,
    /// Messages being handled.
    pub active: u64,
    /// Handled, since the start.
    pub handled: u64,
    /// Attempts that failed, since the start.
    pub failed: u64,
    /// Set aside, since the start.
    pub dead: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    condition: AtomicU8,
    pub(super) active: AtomicU64,
    pub(super) handled: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dead: AtomicU64,
}

impl Counters {
    pub(super) fn turn(&self, condition: Condition) {
        let code = CONDITIONS.iter().position(|known| *known == condition).unwrap_or(0);
        self.condition.store(u8::try_from(code).unwrap_or(0), Ordering::Relaxed);
    }

    fn condition(&self) -> Condition {
        let code = usize::from(self.condition.load(Ordering::Relaxed));
        CONDITIONS.get(code).copied().unwrap_or(Condition::Starting)
    }
}

impl Health {
    pub(super) fn new(service: &str, connection: &Connection) -> Self {
        let (service, connection) = (service.to_owned(), connection.clone());
        Self { inner: Arc::new(Inner { service, connection, sources: Mutex::default() }) }
    }

    pub(super) fn source(&self, source: &Address) -> Arc<Counters> {
        let mut sources = self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sources.entry(source.clone()).or_default())
    }

    /// Whether every source is read: what a readiness probe asks. A paused one is ready, it will go on.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let sources = self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = |counters: &Arc<Counters>| {
            matches!(counters.condition(), Condition::Running | Condition::Paused)
        };
        !sources.is_empty() && sources.values().all(reads)
    }

    /// Looks, and asks the broker how much is left to do.
    pub async fn look(&self) -> Vec<SourceHealth> {
        let sources: Vec<(Address, Arc<Counters>)> = {
            let sources = self.inner.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.iter().map(|(address, c)| (address.clone(), Arc::clone(c))).collect()
        };
        let Inner { service, connection, .. } = &*self.inner;
        let mut found = Vec::with_capacity(sources.len());
        for (source, counters) in sources {
            let dead = crate::connection::dead_address(&source, service);
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            found.push(SourceHealth {
                lag: connection.depth(&source, service).await.ok(),
                dead_letters: connection.depth(&dead, service).await.ok(),
                source: source.to_string(),
                condition: counters.condition(),
                active: read(&counters.active),
                handled: read(&counters.handled),
                failed: read(&counters.failed),
                dead: read(&counters.dead),
            });
        }
        found
    }

    /// The same in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        let found = self.look().await;
        let service = &self.inner.service;
        let mut text = String::new();
        let mut family = |name: &str,
                          kind: &str,
                          help: &str,
                          read: &dyn Fn(&SourceHealth) -> Option<u64>| {
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
            for source in &found {
                if let Some(value) = read(source) {
                    let source = &source.source;
                    writeln!(text, "{name}{{service=\"{service}\",source=\"{source}\"}} {value}")
                        .ok();
                }
            }
        };
        family("ottla_service_lag", "gauge", "Messages not settled by the group.", &|s| s.lag);
        let help = "Messages among the dead letters.";
        family("ottla_service_dead_letters", "gauge", help, &|s| s.dead_letters);
        family("ottla_service_active", "gauge", "Messages being handled.", &|s| Some(s.active));
        family("ottla_service_handled_total", "counter", "Messages handled.", &|s| Some(s.handled));
        family("ottla_service_failed_total", "counter", "Attempts that failed.", &|s| {
            Some(s.failed)
        });
        family("ottla_service_dead_total", "counter", "Messages set aside.", &|s| Some(s.dead));
        let paused = |s: &SourceHealth| Some(u64::from(s.condition == Condition::Paused));
        family("ottla_service_paused", "gauge", "Whether intake pauses.", &paused);
        text
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("service", &self.inner.service).finish_non_exhaustive()
    }
}

const CONDITIONS: [Condition; 6] = [
    Condition::Starting,
    Condition::Running,
    Condition::Paused,
    Condition::Lost,
    Condition::Draining,
    Condition::Stopped,
];
