//! Runs a projection: batches, checkpoints, stops, rebuilds and turns.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::db::{DbError, Dialect, Migration, Row, Tx, int};
use crate::error::{Error, Failure, Result};
use crate::events::{EventStore, OnAppend, Pos, Recorded};
use crate::params;
use crate::transport::BoxFuture;

use super::{Projection, Tables};

/// When rows change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Some milliseconds after the append.
    #[default]
    Async,
    /// In the transaction of the append, see [`Projector::inline`].
    Inline,
}

/// What becomes of an event that cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The projection stops in front of it, says so, and goes on after [`Projector::resume`].
    #[default]
    Stop,
    /// It is noted in `ottla_projection_skipped` and passed over. The rows are wrong from then on.
    Skip,
}

/// How a projection runs. The defaults are right for most.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectorOptions {
    /// When rows change.
    pub mode: Mode,
    /// What becomes of an event that cannot be applied.
    pub on_error: OnError,
    /// Events in one transaction. 500.
    pub batch_max: u32,
    /// The longest wait between two looks. Commits of this process are seen at once. 250 ms.
    pub poll_max: Duration,
}

impl Default for ProjectorOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Async,
            on_error: OnError::Stop,
            batch_max: 500,
            poll_max: Duration::from_millis(250),
        }
    }
}

/// What a generation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It catches up, beside the one that readers see.
    Building,
    /// Readers see it.
    Live,
    /// Readers see it, and appends change it.
    Inline,
    /// An event could not be applied.
    Stopped,
    /// Another took its place.
    Retired,
}

/// A generation as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub generation: u64,
    /// Of the projection.
    pub version: u32,
    /// What it is doing.
    pub state: State,
    /// How far it came.
    pub pos: Pos,
    /// Events that it has not seen yet.
    pub gap: u64,
    /// How long the first of them waits.
    pub lag: Duration,
    /// Why it stopped.
    pub error: Option<String>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Events that were passed, applied or not wanted.
    pub events: u64,
    /// Readers were turned to a new generation.
    pub turned: bool,
    /// A generation stands still in front of an event.
    pub stopped: bool,
}

/// A projection and its generations. Any number may run: one works at a time, whoever is first.
pub struct Projector<P> {
    store: EventStore,
    projection: Arc<P>,
    options: ProjectorOptions,
}

struct Generation {
    tables: Tables,
    state: State,
    pos: Pos,
}

/// Whether a write may wait for the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Many writes in one trip; which event a failed one belongs to is not known.
    Fast,
    /// A failed write is put down to its event.
    OneByOne,
}

/// Why a batch was not applied.
enum Stuck {
    /// The event after so many could not be.
    At {
        done: usize,
        event: Box<Recorded>,
        reason: String,
    },
    Store(Error),
}

impl<P: Projection> Projector<P> {
    /// Makes the projection's first generation, or the one of a new version, where there is none.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Refused`] where its tables cannot be made.
    pub async fn open(
        store: &EventStore,
        projection: P,
        options: ProjectorOptions,
    ) -> Result<Self> {
        store.db().migrate("projections", &STEPS).await?;
        let projector = Self { store: store.clone(), projection: Arc::new(projection), options };
        let mut tx = store.db().begin().await?;
        lock(&mut tx, P::NAME).await?;
        let of_version = "SELECT 1 FROM ottla_projections WHERE name = $1 AND version = $2 AND state <> 'retired'";
        if tx.query(of_version, &params![P::NAME, P::VERSION]).await?.is_empty() {
            projector.begin(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(projector)
    }

    /// Begins another generation of the same version, filled from the first event on.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Refused`] where its tables cannot be made.
    pub async fn rebuild(&self) -> Result<()> {
        let mut tx = self.store.db().begin().await?;
        lock(&mut tx, P::NAME).await?;
        self.begin(&mut tx).await?;
        Ok(tx.commit().await?)
    }

    /// Runs until `stop` is ready.
    ///
    /// # Errors
    /// What trying again cannot help. An event that cannot be applied is no error here: see [`Step`].
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = pin!(stop);
        let mut commits = self.store.db().commits();
        let mut wait = POLL_MIN;
        loop {
            match self.step().await {
                Ok(step) if step.events > 0 || step.turned => wait = POLL_MIN,
                Ok(_) => wait = (wait * 2).min(self.options.poll_max),
                Err(error) if error.is_transient() => {
                    tracing::warn!(projection = P::NAME, %error, "tried again");
                    wait = self.options.poll_max;
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = self.store.db().nudged(&mut commits, wait) => {}
            }
        }
    }

    /// Steps until there is nothing left to apply.
    ///
    /// # Errors
    /// As [`Projector::step`].
    pub async fn catch_up(&self) -> Result<Step> {
        let mut total = Step::default();
        loop {
            let step = self.step().await?;
            total.events += step.events;
            total.turned |= step.turned;
            total.stopped |= step.stopped;
            if step.events == 0 && !step.turned {
                return Ok(total);
            }
        }
    }

    /// One batch for each generation of this version; a new one that has caught up takes its place.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn step(&self) -> Result<Step> {
        let mut step = Step::default();
        for number in self.generations().await? {
            let mut tx = self.store.db().begin().await?;
            let Some(generation) = claim(&mut tx, P::NAME, number).await? else { continue };
            match generation.state {
                State::Stopped => step.stopped = true,
                State::Retired | State::Inline => {}
                State::Building | State::Live => {
                    let whole =
                        self.batch(tx, &generation, &mut step).await? >= self.options.batch_max;
                    let stays = generation.state == State::Live && self.options.mode == Mode::Async;
                    if !whole && !stays {
                        step.turned |= self.turn(number, &mut step).await?;
                    }
                }
            }
        }
        Ok(step)
    }

    /// To be given to [`EventStore::on_append`], for [`Mode::Inline`]. Until [`Projector::step`] has caught up
    /// with what was there before, it does nothing.
    #[must_use]
    pub fn inline(&self) -> Arc<dyn OnAppend> {
        Arc::new(Inline { projection: Arc::clone(&self.projection) })
    }

    /// Lets a stopped generation try its event again.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn resume(&self) -> Result<()> {
        let mut tx = self.store.db().begin().await?;
        let resume = "UPDATE ottla_projections SET state = before, error = NULL WHERE name = $1 AND state = 'stopped'";
        tx.exec(resume, &params![P::NAME]).await?;
        Ok(tx.commit().await?)
    }

    /// Every generation that is not retired, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn status(&self) -> Result<Vec<Status>> {
        let sql = "SELECT generation, label, seq, state, version, error FROM ottla_projections
            WHERE name = $1 AND state <> 'retired' ORDER BY generation";
        let mut all = Vec::new();
        for row in self.store.db().query(sql, &params![P::NAME]).await? {
            let found = read(&row)?;
            let (gap, since) = match found.state {
                State::Inline => (0, None),
                _ => self.store.gap(found.pos).await?,
            };
            let now = self.store.db().mint().now();
            all.push(Status {
                generation: found.tables.generation,
                version: row.get(4)?,
                state: found.state,
                pos: found.pos,
                gap,
                lag: since.map_or(Duration::ZERO, |since| now.since(since)),
                error: row.get(5)?,
            });
        }
        Ok(all)
    }

    async fn begin(&self, tx: &mut Tx) -> Result<()> {
        let last =
            "SELECT coalesce(max(generation), 0), count(*) FROM ottla_projections WHERE name = $1";
        let row = tx.one(last, &params![P::NAME]).await?;
        let (last, others): (u64, u64) = (row.get(0)?, row.get(1)?);
        let tables = Tables { generation: last + 1 };
        tx.script(&self.projection.create(&tables)).await?;
        let first = others == 0;
        if first {
            tables.show(tx, P::TABLES).await?; // nothing better is there to be read meanwhile
        }
        let state = if first && self.options.mode == Mode::Async { "live" } else { "building" };
        let add =
            "INSERT INTO ottla_projections (name, generation, version, label, seq, state, before)
            VALUES ($1, $2, $3, 0, 0, $4, $4)";
        tx.exec(add, &params![P::NAME, int(tables.generation), P::VERSION, state]).await?;
        tracing::info!(projection = P::NAME, generation = tables.generation, "a generation begins");
        Ok(())
    }

    async fn generations(&self) -> Result<Vec<u64>> {
        let sql = "SELECT generation FROM ottla_projections
            WHERE name = $1 AND version = $2 AND state NOT IN ('retired', 'inline') ORDER BY generation";
        let rows = self.store.db().query(sql, &params![P::NAME, P::VERSION]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, DbError>>()?)
    }

    /// Applies a batch and commits it. Returns how many events it had.
    async fn batch(&self, mut tx: Tx, generation: &Generation, step: &mut Step) -> Result<u32> {
        let events = self.store.after_in(&mut tx, generation.pos, self.options.batch_max).await?;
        match self.apply(&mut tx, generation, &events, Pace::Fast).await {
            Ok(()) => tx.commit().await?,
            Err(Stuck::Store(error)) if error.is_transient() => return Err(error),
            Err(_) => {
                tx.rollback().await?;
                return self.carefully(generation.tables.generation, step).await;
            }
        }
        step.events += u64::try_from(events.len()).unwrap_or(0);
        Ok(u32::try_from(events.len()).unwrap_or(u32::MAX))
    }

    /// The same batch again, to find the event that cannot be applied.
    async fn carefully(&self, number: u64, step: &mut Step) -> Result<u32> {
        let mut tx = self.store.db().begin().await?;
        let Some(generation) = claim(&mut tx, P::NAME, number).await? else { return Ok(0) };
        let events = self.store.after_in(&mut tx, generation.pos, self.options.batch_max).await?;
        let done = match self.apply(&mut tx, &generation, &events, Pace::OneByOne).await {
            Ok(()) => {
                tx.commit().await?;
                step.events += u64::try_from(events.len()).unwrap_or(0);
                events.len()
            }
            Err(Stuck::Store(error)) => return Err(error),
            Err(Stuck::At { done, event, reason }) => {
                tx.rollback().await?;
                self.stuck(&generation, done, &event, &reason, step).await?;
                done
            }
        };
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }

    async fn apply(
        &self,
        tx: &mut Tx,
        generation: &Generation,
        events: &[Recorded],
        pace: Pace,
    ) -> Result<(), Stuck> {
        for (done, event) in events.iter().enumerate() {
            let failed = |reason| Stuck::At { done, event: Box::new(event.clone()), reason };
            let applied = apply_one(&*self.projection, tx, generation.tables, event).await;
            applied.map_err(|error| match error {
                Ok(error) => Stuck::Store(error),
                Err(reason) => failed(reason),
            })?;
            if pace == Pace::OneByOne
                && let Err(error) = tx.flush().await
            {
                let transient = error.is_transient();
                return Err(if transient {
                    Stuck::Store(error.into())
                } else {
                    failed(error.to_string())
                });
            }
        }
        let Some(last) = events.last() else { return Ok(()) };
        advance(tx, P::NAME, generation, last.pos).await.map_err(Stuck::Store)
    }

    /// Applies what comes before the event, then stops in front of it or passes over it.
    async fn stuck(
        &self,
        generation: &Generation,
        done: usize,
        event: &Recorded,
        reason: &str,
        step: &mut Step,
    ) -> Result<()> {
        let number = generation.tables.generation;
        let mut tx = self.store.db().begin().await?;
        let Some(mut generation) = claim(&mut tx, P::NAME, number).await? else { return Ok(()) };
        let before = u32::try_from(done).unwrap_or(u32::MAX);
        let events = if before == 0 {
            Vec::new()
        } else {
            self.store.after_in(&mut tx, generation.pos, before).await?
        };
        match self.apply(&mut tx, &generation, &events, Pace::OneByOne).await {
            Ok(()) => {}
            Err(Stuck::Store(error)) => return Err(error),
            Err(Stuck::At { .. }) => return Ok(()), // another one fails now: the next step looks at it
        }
        if let Some(last) = events.last() {
            generation.pos = last.pos;
        }
        step.events += u64::try_from(events.len()).unwrap_or(0);
        tracing::error!(projection = P::NAME, pos = %event.pos, name = event.envelope.name, reason, "an event cannot be applied");
        match self.options.on_error {
            OnError::Stop => {
                let stop = "UPDATE ottla_projections SET state = 'stopped', error = $1 WHERE name = $2 AND generation = $3";
                let told = format!(
                    "event {} {} of {:?}: {reason}",
                    event.pos, event.envelope.name, event.stream
                );
                tx.exec(stop, &params![told, P::NAME, int(number)]).await?;
                step.stopped = true;
            }
            OnError::Skip => {
                let skip = "INSERT INTO ottla_projection_skipped (name, generation, pos, reason, at) VALUES ($1, $2, $3, $4, $5)";
                let now = int(tx.now().0);
                tx.exec(skip, &params![P::NAME, int(number), event.pos.to_string(), reason, now])
                    .await?;
                advance(&mut tx, P::NAME, &generation, event.pos).await?;
                step.events += 1;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Turns the readers to a generation that has come as far as the one they see. False: not yet.
    async fn turn(&self, number: u64, step: &mut Step) -> Result<bool> {
        let mut tx = self.store.db().begin().await?;
        lock(&mut tx, P::NAME).await?;
        let inline = self.options.mode == Mode::Inline;
        if inline {
            self.store.hold_appends(&mut tx).await?;
        }
        let Some(generation) = claim(&mut tx, P::NAME, number).await? else { return Ok(false) };
        let sql = "SELECT generation, label, seq, state FROM ottla_projections
            WHERE name = $1 AND generation < $2 AND state <> 'retired'";
        let mut older = Vec::new();
        for row in tx.query(sql, &params![P::NAME, int(number)]).await? {
            older.push(read(&row)?);
        }
        let most = self.options.batch_max;
        let events = if inline {
            self.store.committed_in(&mut tx, generation.pos, most).await?
        } else {
            self.store.after_in(&mut tx, generation.pos, most).await?
        };
        let reached = events.last().map_or(generation.pos, |last| last.pos);
        let behind = older.iter().any(|other| other.state != State::Inline && other.pos > reached);
        if behind || events.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Ok(false); // the next step comes nearer
        }
        match self.apply(&mut tx, &generation, &events, Pace::OneByOne).await {
            Ok(()) => {}
            Err(Stuck::Store(error)) => return Err(error),
            Err(Stuck::At { .. }) => return Ok(false),
        }
        step.events += u64::try_from(events.len()).unwrap_or(0);
        generation.tables.show(&mut tx, P::TABLES).await?;
        let gone = "SELECT generation, label, seq, state FROM ottla_projections WHERE name = $1 AND state = 'retired'";
        for row in tx.query(gone, &params![P::NAME]).await? {
            read(&row)?.tables.discard(&mut tx, P::TABLES).await?;
        }
        let retire =
            "UPDATE ottla_projections SET state = 'retired' WHERE name = $1 AND generation < $2";
        tx.exec(retire, &params![P::NAME, int(number)]).await?;
        let state = if inline { "inline" } else { "live" };
        let show = "UPDATE ottla_projections SET state = $1, before = $1 WHERE name = $2 AND generation = $3";
        tx.exec(show, &params![state, P::NAME, int(number)]).await?;
        tx.commit().await?;
        tracing::info!(projection = P::NAME, generation = number, "readers see it");
        Ok(true)
    }
}

impl<P> fmt::Debug for Projector<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projector").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A projection that an append carries along.
struct Inline<P> {
    projection: Arc<P>,
}

impl<P: Projection> OnAppend for Inline<P> {
    fn appended<'a>(&'a self, tx: &'a mut Tx, events: &'a [Recorded]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // Asked after the events were written: who turns to inline waits for writers, and new ones see it.
            let sql = "SELECT generation FROM ottla_projections WHERE name = $1 AND version = $2 AND state = 'inline'";
            let Some(row) = tx.first(sql, &params![P::NAME, P::VERSION]).await? else {
                return Ok(());
            };
            let tables = Tables { generation: row.get(0)? };
            for event in events {
                apply_one(&*self.projection, tx, tables, event).await.map_err(
                    |error| match error {
                        Ok(error) => error,
                        Err(reason) => crate::db::refused(
                            format!("applying {} to {}", event.envelope.name, P::NAME),
                            reason,
                        ),
                    },
                )?;
            }
            Ok(())
        })
    }
}

/// `Ok(error)`: the database, which may work later. `Err(reason)`: this event.
async fn apply_one<P: Projection>(
    projection: &P,
    tx: &mut Tx,
    tables: Tables,
    event: &Recorded,
) -> Result<(), Result<Error, String>> {
    let decoded = event.decode::<P::Event>().map_err(|error| Err(error.to_string()))?;
    let Some(decoded) = decoded else { return Ok(()) };
    match projection.apply(tx, &tables, &decoded, event).await {
        Ok(()) => Ok(()),
        Err(failure) => Err(judged(failure)),
    }
}

fn judged(failure: Failure) -> Result<Error, String> {
    match failure {
        Failure::Transient(cause) | Failure::After(_, cause) => match cause.downcast::<DbError>() {
            Ok(error) if error.is_transient() => Ok((*error).into()),
            Ok(error) => Err(error.to_string()),
            Err(cause) => Err(cause.to_string()),
        },
        other => Err(other.to_string()),
    }
}

/// The generation, if nobody else works on it.
async fn claim(tx: &mut Tx, name: &str, number: u64) -> Result<Option<Generation>> {
    let sql = tx.pick(
        "SELECT generation, label, seq, state FROM ottla_projections WHERE name = $1 AND generation = $2",
        "SELECT generation, label, seq, state FROM ottla_projections WHERE name = $1 AND generation = $2
         FOR UPDATE SKIP LOCKED",
    );
    let row = tx.first(sql, &params![name, int(number)]).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Moves the checkpoint, if it is where it was read.
async fn advance(tx: &mut Tx, name: &str, from: &Generation, to: Pos) -> Result<()> {
    let sql = "UPDATE ottla_projections SET label = $1, seq = $2
        WHERE name = $3 AND generation = $4 AND label = $5 AND seq = $6";
    let number = int(from.tables.generation);
    let values =
        params![int(to.label), int(to.seq), name, number, int(from.pos.label), int(from.pos.seq)];
    if tx.exec(sql, &values).await? == 1 {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!("the checkpoint of {name}"),
        expected: from.pos.to_string(),
        found: "another place: somebody else runs it".to_owned(),
    })
}

fn read(row: &Row) -> Result<Generation, DbError> {
    let state = match row.get::<String>(3)?.as_str() {
        "building" => State::Building,
        "live" => State::Live,
        "inline" => State::Inline,
        "retired" => State::Retired,
        _ => State::Stopped,
    };
    let pos = Pos { label: row.get(1)?, seq: row.get(2)? };
    Ok(Generation { tables: Tables { generation: row.get(0)? }, state, pos })
}

/// One at a time makes or turns generations of a projection.
async fn lock(tx: &mut Tx, name: &str) -> Result<()> {
    if tx.dialect() == Dialect::Postgres {
        let lock = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended('projection ' || $1, 0))) AS taken";
        tx.query(lock, &params![name]).await?;
    }
    Ok(())
}

const POLL_MIN: Duration = Duration::from_millis(5);
const TABLES: &str = "CREATE TABLE ottla_projections (
        name TEXT NOT NULL, generation BIGINT NOT NULL, version BIGINT NOT NULL, label BIGINT NOT NULL,
        seq BIGINT NOT NULL, state TEXT NOT NULL, before TEXT NOT NULL, error TEXT, PRIMARY KEY (name, generation));
    CREATE TABLE ottla_projection_skipped (
        name TEXT NOT NULL, generation BIGINT NOT NULL, pos TEXT NOT NULL, reason TEXT NOT NULL, at BIGINT NOT NULL);";
const STEPS: [Migration; 1] = [Migration { version: 1, sqlite: TABLES, postgres: TABLES }];
