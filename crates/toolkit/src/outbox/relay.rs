//! From committed rows to a broker: publish, wait for the confirm, only then take the row away.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::address::Address;
use crate::connection::Connection;
use crate::db::{Db, Migration, Value, int};
use crate::envelope::Outgoing;
use crate::error::{Error, Result};
use crate::params;
use crate::transport::BoxFuture;

use super::lease::Lease;
use super::plain::Parcel;
use super::{Layout, TABLE};

/// Where rows go.
pub trait Sink: Send {
    /// Publishes in order. `Ok`: all are durable. An error that is transient is tried again with the same
    /// ids; any other sets a message aside.
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<()>>;
}

impl Sink for Connection {
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.send_all(batch.iter().cloned()))
    }
}

/// How rows are relayed. The defaults are right for most.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayOptions {
    /// The table. `outbox`.
    pub table: String,
    /// Where rows go that do not say it themselves.
    pub to: Option<Address>,
    /// Rows published at once. 256.
    pub rows_max: u32,
    /// How long a dead owner's place stays taken. 15 s.
    pub lease: Duration,
    /// The longest wait between two looks. Commits of this process are seen at once. 250 ms.
    pub poll_max: Duration,
    /// How long rows with a `published_at` are kept after it. 7 days.
    pub keep: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            table: TABLE.to_owned(),
            to: None,
            rows_max: 256,
            lease: Duration::from_secs(15),
            poll_max: Duration::from_millis(250),
            keep: Duration::from_secs(7 * 24 * 3_600),
        }
    }
}

/// What one look did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Rows that were published and confirmed.
    pub published: u64,
    /// Rows that never will be, moved to `ottla_outbox_dead`.
    pub set_aside: u64,
    /// Rows that could not be published now: they, and what follows them with the same key, stay.
    pub failed: u64,
    /// Somebody else relays this table.
    pub elsewhere: bool,
}

/// Takes rows of an outbox to a [`Sink`]. Any number may run for one table: one works, the others wait to
/// take its place.
#[derive(Debug)]
pub struct Relay<S> {
    db: Db,
    layout: Layout,
    sink: S,
    lease: Lease,
    renew: Option<Instant>,
    options: RelayOptions,
    /// Keys whose first row failed, until when they are left alone, and how often it failed.
    blocked: HashMap<String, Blocked>,
    /// Batches that failed one after the other.
    failures: u32,
}

#[derive(Debug)]
struct Blocked {
    key: Value,
    until: Instant,
    failures: u32,
}

impl<S: Sink> Relay<S> {
    /// Looks at the table and prepares what the relay keeps beside it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the table is missing or lacks a column; [`Error::Store`].
    pub async fn open(db: &Db, sink: S, options: RelayOptions) -> Result<Self> {
        let layout = Layout::of(db, &options.table).await?;
        if options.to.is_none() && !layout.has_destination() {
            let why = "its rows do not say where they go: name an address, or give it a column `destination`";
            return Err(crate::db::refused(format!("relaying `{}`", options.table), why));
        }
        db.migrate("outbox-dead", &STEPS).await?;
        let lease = Lease::open(db, format!("relay {}", options.table), options.lease).await?;
        let blocked = HashMap::new();
        Ok(Self { db: db.clone(), layout, sink, lease, renew: None, options, blocked, failures: 0 })
    }

    /// Relays until `stop` is ready, then finishes its round and gives its place back.
    ///
    /// # Errors
    /// What trying again cannot help: a table that is gone, a login that is refused.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<Round> {
        let mut stop = pin!(stop);
        let mut commits = self.db.commits();
        let (mut total, mut wait) = (Round::default(), Duration::ZERO);
        loop {
            let round = match self.round().await {
                Ok(round) => round,
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "the outbox cannot be read now");
                    Round { failed: 1, ..Round::default() }
                }
                Err(error) => return Err(error),
            };
            total.published += round.published;
            total.set_aside += round.set_aside;
            let idle = round.published + round.set_aside == 0;
            wait = if idle {
                (wait * 2).clamp(POLL_MIN, self.options.poll_max)
            } else {
                Duration::ZERO
            };
            let wait = if self.failures > 0 { backoff(self.failures) } else { wait };
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = tokio::time::sleep(wait), if self.failures > 0 => {}
                () = self.db.nudged(&mut commits, wait), if self.failures == 0 && idle => {}
                () = std::future::ready(()), if self.failures == 0 && !idle => {}
            }
        }
        self.lease.release().await?;
        Ok(total)
    }

    /// Relays until nothing waits that can be published now.
    ///
    /// # Errors
    /// As [`Relay::run`].
    pub async fn drain(&mut self) -> Result<Round> {
        let mut total = Round::default();
        loop {
            let round = self.round().await?;
            total.published += round.published;
            total.set_aside += round.set_aside;
            total.failed = round.failed;
            total.elsewhere = round.elsewhere;
            if round.published + round.set_aside == 0 {
                return Ok(total);
            }
        }
    }

    /// One look: at most `rows_max` rows.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn round(&mut self) -> Result<Round> {
        if !self.holds().await? {
            return Ok(Round { elsewhere: true, ..Round::default() });
        }
        let rows = self.waiting().await?;
        let mut round = Round::default();
        let mut parcels = Vec::with_capacity(rows.len());
        for row in &rows {
            match self.layout.parcel(row, self.options.to.as_ref(), self.db.mint()) {
                Ok(parcel) => parcels.push((parcel, row.get::<Value>(1)?)),
                Err(error) => {
                    self.set_aside(&row.get(0)?, &error).await?;
                    round.set_aside += 1;
                }
            }
        }
        if parcels.is_empty() {
            self.clean().await?;
            return Ok(round);
        }
        let batch: Vec<Outgoing> =
            parcels.iter().map(|(parcel, _)| parcel.message.clone()).collect();
        match self.sink.publish(&batch).await {
            Ok(()) => {
                self.confirm(parcels.iter().map(|(parcel, _)| parcel.id.clone()).collect()).await?;
                round.published += u64::try_from(parcels.len()).unwrap_or(0);
                self.failures = 0;
                self.blocked.clear();
            }
            Err(error) if error.is_transient() && self.failures < BATCH_FAILURES_MAX => {
                self.failures += 1;
                tracing::warn!(%error, rows = parcels.len(), "not published: tried again");
                round.failed = u64::try_from(parcels.len()).unwrap_or(0);
            }
            Err(error) => {
                tracing::debug!(%error, "a batch failed: row by row");
                self.one_by_one(parcels, &mut round).await?;
            }
        }
        Ok(round)
    }

    /// Gives its place back, so that the next owner need not wait, and the sink.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn close(self) -> Result<S> {
        self.lease.release().await?;
        Ok(self.sink)
    }

    async fn holds(&mut self) -> Result<bool> {
        let now = Instant::now();
        if self.renew.is_some_and(|renew| now < renew) {
            return Ok(true);
        }
        let held = self.lease.hold().await?;
        self.renew = held.then(|| now + self.lease.span() / 3);
        Ok(held)
    }

    async fn waiting(&mut self) -> Result<Vec<crate::db::Row>> {
        let now = Instant::now();
        let keys: Vec<Value> = self
            .blocked
            .values()
            .filter(|blocked| blocked.until > now && blocked.key != Value::Null)
            .map(|blocked| blocked.key.clone())
            .collect();
        let mut values = vec![Value::Int(self.options.rows_max.into())];
        if self.layout.is_delayed() {
            values.push(int(self.db.mint().now().0));
        }
        let sql = self.layout.select(keys.len());
        values.extend(keys);
        Ok(self.db.query(&sql, &values).await?)
    }

    /// A row that never can be published must not hold up the others; one that cannot now holds up its key.
    async fn one_by_one(&mut self, parcels: Vec<(Parcel, Value)>, round: &mut Round) -> Result<()> {
        let (mut stopped, mut confirmed) = (HashSet::new(), Vec::new());
        let mut in_a_row = 0;
        for (parcel, key) in parcels {
            let lane = format!("{key:?}");
            if in_a_row >= DOWN_AFTER || (key != Value::Null && stopped.contains(&lane)) {
                round.failed += 1;
                continue;
            }
            match self.sink.publish(std::slice::from_ref(&parcel.message)).await {
                Ok(()) => {
                    in_a_row = 0;
                    self.blocked.remove(&lane);
                    confirmed.push(parcel.id);
                }
                Err(error) if error.is_transient() => {
                    in_a_row += 1;
                    round.failed += 1;
                    self.block(&lane, key, &error);
                    stopped.insert(lane);
                }
                Err(error) => {
                    self.set_aside(&parcel.id, &error).await?;
                    round.set_aside += 1;
                }
            }
        }
        round.published += u64::try_from(confirmed.len()).unwrap_or(0);
        self.failures = if confirmed.is_empty() && round.failed > 0 {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.confirm(confirmed).await
    }

    fn block(&mut self, lane: &str, key: Value, error: &Error) {
        if self.blocked.len() >= BLOCKED_MAX {
            self.blocked.clear(); // so many at once: it is the broker, and `failures` waits for it
        }
        let now = Instant::now();
        let blocked =
            self.blocked.entry(lane.to_owned()).or_insert(Blocked { key, until: now, failures: 0 });
        blocked.failures = blocked.failures.saturating_add(1);
        blocked.until = now + backoff(blocked.failures);
        tracing::warn!(key = lane, %error, failures = blocked.failures, "a key waits");
    }

    async fn confirm(&self, mut ids: Vec<Value>) -> Result<()> {
        while let Some(last) = ids.first().cloned() {
            // Few different statements: the list is filled up to a power of two with what is in it anyway.
            let rest = ids.split_off(ids.len().min(CONFIRM_MAX));
            ids.resize(ids.len().next_power_of_two(), last);
            let mut tx = self.db.begin().await?;
            tx.exec(&self.layout.confirm(ids.len()), &ids).await?;
            tx.commit().await?;
            ids = rest;
        }
        Ok(())
    }

    async fn set_aside(&self, id: &Value, error: &Error) -> Result<()> {
        tracing::error!(?id, %error, table = self.layout.table(), "a row of the outbox is set aside");
        let table = self.layout.table();
        let mut tx = self.db.begin().await?;
        let keep = self.layout.set_aside();
        tx.exec(&keep, &params![id.clone(), table, error.to_string(), int(tx.now().0)]).await?;
        tx.exec(&format!("DELETE FROM {table} WHERE id = $1"), std::slice::from_ref(id)).await?;
        Ok(tx.commit().await?)
    }

    /// Deletes a batch of rows that were published long ago.
    async fn clean(&self) -> Result<()> {
        let Some(sql) = self.layout.clean() else { return Ok(()) };
        let seconds = self.options.keep.as_secs_f64();
        let mut tx = self.db.begin().await?;
        tx.exec(&sql, &params![seconds, i64::from(self.options.rows_max)]).await?;
        Ok(tx.commit().await?)
    }
}

/// 100 ms, 200 ms, … 10 s.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(100u64.saturating_mul(1 << failures.saturating_sub(1).min(7)))
        .min(BACKOFF_MAX)
}

const POLL_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Batches that may fail before rows are tried one by one.
const BATCH_FAILURES_MAX: u32 = 3;
/// Rows that fail one after the other before the rest of the batch is left alone.
const DOWN_AFTER: u32 = 5;
/// Keys that are left alone at most.
const BLOCKED_MAX: usize = 100;
const CONFIRM_MAX: usize = 256;

const DEAD: &str = "CREATE TABLE ottla_outbox_dead (
    source TEXT NOT NULL, row_id TEXT NOT NULL, aggregate_id TEXT, event_type TEXT, payload TEXT,
    destination TEXT, message_id TEXT, story TEXT, reason TEXT NOT NULL, at BIGINT NOT NULL)";
const STEPS: [Migration; 1] = [Migration { version: 1, sqlite: DEAD, postgres: DEAD }];
