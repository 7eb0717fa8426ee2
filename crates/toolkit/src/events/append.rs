//! Writing events: what is expected of the stream is checked under its lock, then they are written.

use crate::db::{DbError, Dialect, Tx, Value, int};
use crate::decider::{Decider, Query, Scope};
use crate::error::{Error, Result};
use crate::mint::Timestamp;
use crate::params;

use super::read::Source;
use super::record::pack;
use super::snapshots;
use super::{At, EventStore, Mark, Meta, NewEvent, Pos, Recorded};

/// What must be true of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: the order of the appends decides.
    Any,
    /// It has no event.
    NoStream,
    /// Its last event has this version: what the caller has seen is all there is.
    Version(u64),
}

/// Events that were written, in the caller's transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The version of the stream's last event; 0 without a stream.
    pub version: u64,
    /// The events as they are stored.
    pub events: Vec<Recorded>,
}

/// A command that was carried out, in the caller's transaction.
#[derive(Debug, Clone)]
pub struct Handled<D: Decider> {
    /// What happened.
    pub events: Vec<D::Event>,
    /// The same as it is stored.
    pub appended: Appended,
    /// The state after it.
    pub state: D::State,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DecideError<E: std::error::Error + Send + Sync + 'static> {
    /// The decider says no.
    #[error(transparent)]
    Refused(E),
    /// The store says no, or cannot be asked.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<E: std::error::Error + Send + Sync + 'static> From<DbError> for DecideError<E> {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

impl EventStore {
    /// Appends to a stream. Nobody else appends to it until the transaction ends.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the stream is not as expected; the transaction goes on, nothing was written.
    pub async fn append(
        &self,
        tx: &mut Tx,
        stream: &str,
        expect: Expect,
        events: Vec<NewEvent>,
    ) -> Result<Appended> {
        lock(
            tx,
            &keys(
                Some(stream),
                events.iter().flat_map(|event| &event.tags).map(|tag| tag.as_str()),
            ),
        )
        .await?;
        let last =
            "SELECT version, at FROM ottla_events WHERE stream = $1 ORDER BY version DESC LIMIT 1";
        let (found, at) = match tx.first(last, &params![stream]).await? {
            Some(row) => (row.get::<u64>(0)?, Timestamp(row.get(1)?)),
            None => (0, Timestamp::default()),
        };
        let expected = match expect {
            Expect::Any => found,
            Expect::NoStream => 0,
            Expect::Version(version) => version,
        };
        if expected != found {
            let version = |version| {
                if version == 0 { "empty".to_owned() } else { format!("version {version}") }
            };
            return Err(Error::Conflict {
                what: format!("stream {stream}"),
                expected: version(expected),
                found: version(found),
            });
        }
        let at = tx.now().max(at); // a clock put back must not turn the history round
        let events = self.write(tx, Some((stream, found)), at, events).await?;
        Ok(Appended { version: events.last().map_or(found, |last| last.version), events })
    }

    /// Appends events that belong to tags alone, if nothing that fits `query` was appended since `mark`
    /// was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] where something was; the transaction goes on, nothing was written.
    pub async fn append_tagged(
        &self,
        tx: &mut Tx,
        query: &Query,
        mark: Mark,
        events: Vec<NewEvent>,
    ) -> Result<Appended> {
        let tags = query.tags().chain(events.iter().flat_map(|event| &event.tags));
        lock(tx, &keys(None, tags.map(|tag| tag.as_str()))).await?;
        let beyond = Source::Tx(tx).beyond(query, mark.horizon).await?;
        if beyond != mark.beyond {
            return Err(Error::Conflict {
                what: format!("what carries {:?}", query.tags().collect::<Vec<_>>()),
                expected: "as it was read".to_owned(),
                found: format!("changed by {} events", beyond.saturating_sub(mark.beyond)),
            });
        }
        let at = tx.now();
        Ok(Appended { version: 0, events: self.write(tx, None, at, events).await? })
    }

    /// Carries out a command: loads what it is about, decides, appends. Nobody else decides about the same
    /// until the transaction ends, so this never conflicts; on PostgreSQL two transactions that carry out
    /// several commands in different order may deadlock, which one of them hears as
    /// [`DbError::Conflict`].
    ///
    /// # Errors
    /// [`DecideError::Refused`]: the decider's own reason; the transaction goes on, nothing was written.
    pub async fn handle<D: Decider>(
        &self,
        tx: &mut Tx,
        command: D::Command,
        story: &Meta,
    ) -> Result<Handled<D>, DecideError<D::Error>> {
        let scope = D::scope(&command);
        match &scope {
            Scope::Stream(stream) => lock(tx, &keys(Some(stream), [])).await?,
            Scope::Tags(query) => {
                lock(tx, &keys(None, query.tags().map(|tag| tag.as_str()))).await?
            }
        }
        let loaded = Source::Tx(tx).load_scope::<D>(&scope, At::Latest).await?;
        let mut state = loaded.state;
        let events = D::decide(&state, command).map_err(DecideError::Refused)?;
        let mint = tx.mint().clone();
        let new = events.iter().map(|event| NewEvent::of(event, story, &mint));
        let new = new.collect::<Result<Vec<_>>>()?;
        for event in &events {
            D::evolve(&mut state, event);
        }
        let appended = match &scope {
            _ if events.is_empty() => Appended { version: loaded.version, events: Vec::new() },
            Scope::Stream(stream) => {
                let appended =
                    self.append(tx, stream, Expect::Version(loaded.version), new).await?;
                snapshots::save::<D>(tx, stream, loaded.version, &appended, &state).await?;
                appended
            }
            Scope::Tags(query) => self.append_tagged(tx, query, loaded.mark, new).await?,
        };
        Ok(Handled { events, appended, state })
    }

    async fn write(
        &self,
        tx: &mut Tx,
        to: Option<(&str, u64)>,
        at: Timestamp,
        mut events: Vec<NewEvent>,
    ) -> Result<Vec<Recorded>> {
        let mut recorded: Vec<Recorded> = Vec::with_capacity(events.len());
        let mut version = to.map_or(0, |(_, version)| version);
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(ROWS_MAX));
            let mut values = Vec::with_capacity(events.len() * VALUES);
            for event in &events {
                version += 1;
                values.extend(row(&event.envelope, to.map(|(stream, _)| (stream, version)), at));
            }
            let mut places = Vec::with_capacity(events.len());
            for place in tx.query(&insert(events.len()), &values).await? {
                places.push((place.get::<u64>(0)?, place.get::<u64>(1)?));
            }
            places.sort_unstable(); // numbers were drawn in the order of the rows, but may be told in any
            let first = version + 1 - u64::try_from(events.len()).unwrap_or(0);
            for ((event, (seq, label)), version) in events.into_iter().zip(places).zip(first..) {
                for tag in &event.tags {
                    let tagged = "INSERT INTO ottla_event_tags (tag, seq) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                    tx.queue(tagged, params![tag.as_str(), int(seq)].into()).await?;
                }
                let stream = to.map(|(stream, _)| stream.to_owned());
                let mut envelope = event.envelope;
                envelope.time = at;
                envelope.key = stream.clone();
                let version = if stream.is_some() { version } else { 0 };
                recorded.push(Recorded { pos: Pos { label, seq }, stream, version, envelope });
            }
            events = rest;
        }
        for inline in &self.inline {
            inline.appended(tx, &recorded).await?;
        }
        Ok(recorded)
    }
}

fn row(
    envelope: &crate::envelope::Envelope,
    to: Option<(&str, u64)>,
    at: Timestamp,
) -> [Value; VALUES] {
    params![
        to.map(|(stream, _)| stream),
        to.map_or(Value::Null, |(_, version)| int(version)),
        envelope.id,
        envelope.name.as_str(),
        u32::from(envelope.version),
        int(at.0),
        envelope.correlation,
        envelope.causation,
        pack(envelope),
        &*envelope.body,
    ]
}

fn insert(rows: usize) -> String {
    let mut sql = "INSERT INTO ottla_events \
        (stream, version, id, name, schema, at, correlation, causation, rest, body) VALUES "
        .to_owned();
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for value in 1..=VALUES {
            sql.push_str(if value == 1 { "$" } else { ", $" });
            sql.push_str(&(row * VALUES + value).to_string());
        }
        sql.push(')');
    }
    sql.push_str(" RETURNING seq, label");
    sql
}

fn keys<'a>(stream: Option<&str>, tags: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let stream = stream.map(|stream| format!("stream {stream}"));
    stream.into_iter().chain(tags.into_iter().map(|tag| format!("tag {tag}"))).collect()
}

/// Makes appends to the same streams and tags wait for each other, in PostgreSQL, until the transaction
/// ends. Taken before the stream is looked at: the next statement sees what the one before committed.
async fn lock(tx: &mut Tx, keys: &[String]) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite || keys.is_empty() {
        return Ok(());
    }
    let lock = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(k) FROM
        (SELECT DISTINCT hashtextextended(v, 0) AS k FROM json_array_elements_text($1::json) AS v ORDER BY 1)
        AS sorted) AS taken";
    let keys = serde_json::Value::from(keys.to_vec()).to_string();
    tx.query(lock, &params![keys]).await?;
    Ok(())
}

/// Events in one INSERT.
const ROWS_MAX: usize = 20;
/// Values of an event.
const VALUES: usize = 10;
