//! Reading: a stream at a version or a moment, what carries tags, and everything in one order.

use std::str::FromStr;

use crate::db::{Db, DbError, Dialect, Row, Tx, Value, int};
use crate::decider::{Decider, Query, Scope};
use crate::error::Result;
use crate::mint::Timestamp;
use crate::params;

use super::record::{COLUMNS, recorded};
use super::snapshots;
use super::{EventStore, Mark, Pos, Recorded};

/// Which state of a stream is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// Today's.
    #[default]
    Latest,
    /// After the event with this version.
    Version(u64),
    /// At the end of this millisecond.
    Time(Timestamp),
}

/// A state and what it rests on.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// The state.
    pub state: S,
    /// Of the stream's last event that counts; 0: none, or no stream.
    pub version: u64,
    /// For [`EventStore::append_tagged`].
    pub mark: Mark,
}

impl EventStore {
    /// A stream's state.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) where an event cannot be read; [`Error::Store`](crate::Error::Store).
    pub async fn load<D: Decider>(&self, stream: &str, at: At) -> Result<Loaded<D::State>> {
        Source::Db(&self.db).load_scope::<D>(&Scope::stream(stream), at).await
    }

    /// The state of any scope.
    ///
    /// # Errors
    /// As [`EventStore::load`].
    pub async fn load_scope<D: Decider>(&self, scope: &Scope) -> Result<Loaded<D::State>> {
        Source::Db(&self.db).load_scope::<D>(scope, At::Latest).await
    }

    /// The same inside a transaction: sees what it has written.
    ///
    /// # Errors
    /// As [`EventStore::load`].
    pub async fn load_in<D: Decider>(
        &self,
        tx: &mut Tx,
        scope: &Scope,
    ) -> Result<Loaded<D::State>> {
        Source::Tx(tx).load_scope::<D>(scope, At::Latest).await
    }

    /// A stream's events behind version `after` up to a moment, at most `max` of them: its audit trail.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn history(
        &self,
        stream: &str,
        after: u64,
        at: At,
        max: u32,
    ) -> Result<Vec<Recorded>> {
        Source::Db(&self.db).stream(stream, after, at, max).await
    }

    /// Events of all streams behind `after`, at most `max` of them, in the one order that every reader
    /// sees. None will ever appear before one that was handed out.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn after(&self, after: Pos, max: u32) -> Result<Vec<Recorded>> {
        Source::Db(&self.db).after(after, max).await
    }

    /// The same inside a transaction.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn after_in(&self, tx: &mut Tx, after: Pos, max: u32) -> Result<Vec<Recorded>> {
        Source::Tx(tx).after(after, max).await
    }

    /// Keeps everybody from appending until the transaction ends, and returns when those who had begun to
    /// have ended.
    pub(crate) async fn hold_appends(&self, tx: &mut Tx) -> Result<()> {
        if tx.dialect() == Dialect::Postgres {
            tx.exec("LOCK TABLE ottla_events IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
        }
        Ok(())
    }

    /// Everything behind `after`, while appends are held.
    pub(crate) async fn committed_in(
        &self,
        tx: &mut Tx,
        after: Pos,
        max: u32,
    ) -> Result<Vec<Recorded>> {
        Source::Tx(tx).committed(after, max).await
    }

    /// How many events there are behind `after`, and since when the first of them waits. Counts those that
    /// cannot be handed out yet.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn gap(&self, after: Pos) -> Result<(u64, Option<Timestamp>)> {
        let sql = match self.db.dialect() {
            Dialect::Sqlite => {
                "SELECT count(*), min(at) FROM ottla_events WHERE seq > $2 AND $1 >= 0"
            }
            Dialect::Postgres => {
                "SELECT count(*), min(at) FROM ottla_events WHERE (label, seq) > ($1, $2)"
            }
        };
        let rows = self.db.query(sql, &params![int(after.label), int(after.seq)]).await?;
        let Some(row) = rows.first() else { return Ok((0, None)) };
        Ok((row.get(0)?, row.get::<Option<u64>>(1)?.map(Timestamp)))
    }

    /// How long the transaction has been open that holds back the newest events, in PostgreSQL: a
    /// transaction that has written, in any database of the cluster. `None`: there is none.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn oldest_blocking(&self) -> Result<Option<std::time::Duration>> {
        if self.db.dialect() == Dialect::Sqlite {
            return Ok(None);
        }
        let sql =
            "SELECT CAST(extract(epoch FROM max(clock_timestamp() - xact_start)) * 1000 AS BIGINT)
            FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()";
        let rows = self.db.query(sql, &[]).await?;
        let since = rows.first().map(|row| row.get::<Option<u64>>(0)).transpose()?.flatten();
        Ok(since.map(std::time::Duration::from_millis))
    }
}

/// Where to read: what is committed, or what a transaction sees.
pub(super) enum Source<'a> {
    Db(&'a Db),
    Tx(&'a mut Tx),
}

impl Source<'_> {
    pub(super) async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        match self {
            Self::Db(db) => db.query(sql, params).await,
            Self::Tx(tx) => tx.query(sql, params).await,
        }
    }

    const fn dialect(&self) -> Dialect {
        match self {
            Self::Db(db) => db.dialect(),
            Self::Tx(tx) => tx.dialect(),
        }
    }

    pub(super) async fn load_scope<D: Decider>(
        &mut self,
        scope: &Scope,
        at: At,
    ) -> Result<Loaded<D::State>> {
        let query = match scope {
            Scope::Stream(stream) => return self.load_stream::<D>(stream, at).await,
            Scope::Tags(query) => query,
        };
        let mut state = D::State::default();
        let horizon = self.horizon().await?;
        let (mut after, mut beyond) = (0, 0);
        loop {
            let (filter, mut values) = fits(query)?;
            values.push(int(after));
            let sql = format!(
                "SELECT {COLUMNS}, label FROM ottla_events WHERE ({filter}) AND seq > ${} ORDER BY seq LIMIT {PAGE}",
                values.len()
            );
            let page = self.query(&sql, &values).await?;
            for row in &page {
                let event = recorded(row)?;
                after = event.pos.seq;
                beyond += u64::from(self.place(event.pos) >= horizon);
                if let Some(event) = event.decode()? {
                    D::evolve(&mut state, &event);
                }
            }
            if page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(Loaded { state, version: 0, mark: Mark { horizon, beyond } });
            }
        }
    }

    async fn load_stream<D: Decider>(&mut self, stream: &str, at: At) -> Result<Loaded<D::State>> {
        let kept = snapshots::find::<D>(self, stream, at).await?;
        let (mut state, mut version) = kept.unwrap_or_default();
        loop {
            let page = self.stream(stream, version, at, PAGE).await?;
            for event in &page {
                version = event.version;
                if let Some(event) = event.decode()? {
                    D::evolve(&mut state, &event);
                }
            }
            if page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(Loaded { state, version, mark: Mark { horizon: 0, beyond: 0 } });
            }
        }
    }

    async fn stream(
        &mut self,
        stream: &str,
        after: u64,
        at: At,
        max: u32,
    ) -> Result<Vec<Recorded>> {
        let (version, time) = at.bounds();
        let sql = format!(
            "SELECT {COLUMNS}, label FROM ottla_events WHERE stream = $1 AND version > $2 AND version <= $3
             AND at <= $4 ORDER BY version LIMIT $5"
        );
        let values = params![stream, int(after), int(version), int(time), i64::from(max)];
        all(&self.query(&sql, &values).await?)
    }

    /// Everything that is committed behind `after`: for whoever has locked appenders out.
    pub(super) async fn committed(&mut self, after: Pos, max: u32) -> Result<Vec<Recorded>> {
        let (filter, order) = match self.dialect() {
            Dialect::Sqlite => ("seq > $2 AND $1 >= 0", "seq"),
            Dialect::Postgres => ("(label, seq) > ($1, $2)", "label, seq"),
        };
        let sql = format!(
            "SELECT {COLUMNS}, label FROM ottla_events WHERE {filter} ORDER BY {order} LIMIT $3"
        );
        let values = params![int(after.label), int(after.seq), i64::from(max)];
        all(&self.query(&sql, &values).await?)
    }

    async fn after(&mut self, after: Pos, max: u32) -> Result<Vec<Recorded>> {
        // The bound is one value for the planner, computed in the same snapshot as the rows.
        let (filter, order) = match self.dialect() {
            Dialect::Sqlite => ("seq > $2 AND $1 >= 0", "seq"),
            Dialect::Postgres => (
                "(label, seq) > ($1, $2) AND label < (SELECT base + \
                 pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM ottla_epoch)",
                "label, seq",
            ),
        };
        let sql = format!(
            "SELECT {COLUMNS}, label FROM ottla_events WHERE {filter} ORDER BY {order} LIMIT $3"
        );
        let values = params![int(after.label), int(after.seq), i64::from(max)];
        all(&self.query(&sql, &values).await?)
    }

    /// Everything below it is final.
    async fn horizon(&mut self) -> Result<u64> {
        let sql = match self.dialect() {
            Dialect::Sqlite => "SELECT coalesce(max(seq), 0) + 1 FROM ottla_events",
            Dialect::Postgres => {
                "SELECT base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM ottla_epoch"
            }
        };
        let rows = self.query(sql, &[]).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.get(0)?))
    }

    const fn place(&self, pos: Pos) -> u64 {
        match self.dialect() {
            Dialect::Sqlite => pos.seq,
            Dialect::Postgres => pos.label,
        }
    }

    /// How many events that fit are at or above a horizon.
    pub(super) async fn beyond(&mut self, query: &Query, horizon: u64) -> Result<u64> {
        let (filter, mut values) = fits(query)?;
        values.push(int(horizon));
        let place = match self.dialect() {
            Dialect::Sqlite => "seq",
            Dialect::Postgres => "label",
        };
        let sql = format!(
            "SELECT count(*) FROM ottla_events WHERE {place} >= ${} AND ({filter})",
            values.len()
        );
        let rows = self.query(&sql, &values).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.get(0)?))
    }
}

fn all(rows: &[Row]) -> Result<Vec<Recorded>> {
    Ok(rows.iter().map(recorded).collect::<Result<_, _>>()?)
}

/// A query as a condition with its parameters.
fn fits(query: &Query) -> Result<(String, Vec<Value>)> {
    let (mut sql, mut values) = (String::new(), Vec::new());
    let mut next = |value: &str| {
        values.push(Value::from(value));
        format!("${}", values.len())
    };
    for part in &query.parts {
        if part.tags.is_empty() {
            return Err(crate::db::refused("reading by tags", "each part of a Query needs a tag"));
        }
        let mut conditions: Vec<String> = part
            .tags
            .iter()
            .map(|tag| {
                let tag = next(tag.as_str());
                format!("seq IN (SELECT seq FROM ottla_event_tags WHERE tag = {tag})")
            })
            .collect();
        if !part.names.is_empty() {
            let names: Vec<String> = part.names.iter().map(|name| next(name)).collect();
            conditions.push(format!("name IN ({})", names.join(", ")));
        }
        if !sql.is_empty() {
            sql.push_str(" OR ");
        }
        sql.push_str(&format!("({})", conditions.join(" AND ")));
    }
    if sql.is_empty() {
        return Err(crate::db::refused("reading by tags", "the Query has no part"));
    }
    Ok((sql, values))
}

impl At {
    /// The last version and the last millisecond that count.
    pub(super) fn bounds(self) -> (u64, u64) {
        const ANY: u64 = i64::MAX.unsigned_abs();
        match self {
            Self::Latest => (ANY, ANY),
            Self::Version(version) => (version, ANY),
            Self::Time(time) => (ANY, time.0),
        }
    }
}

/// A number is a version; anything else is a time (RFC 3339).
impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        let time = Timestamp::parse(text);
        time.map(Self::Time).ok_or_else(|| {
            format!("{text:?} is neither a version (2) nor a time (2026-11-23T15:04:05Z)")
        })
    }
}

/// Events read at once.
const PAGE: u32 = 500;
