//! Outbox tables as they are found: ours, or a plain one that a program in any language made.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::Address;
use crate::db::{Db, Dialect, Row, Value};
use crate::envelope::{Envelope, Headers, Outgoing};
use crate::error::Result;
use crate::mint::{Mint, Timestamp};
use crate::params;
use crate::trace::TraceContext;

/// What a table's columns allow.
#[derive(Debug, Clone)]
pub struct Layout {
    table: String,
    columns: BTreeSet<String>,
    dialect: Dialect,
    published: Published,
}

/// What becomes of a row once it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is deleted.
    Deleted,
    /// Its column `published_at` gets the time; it is deleted after a while.
    Stamped,
    /// Its column `published` becomes true.
    Flagged,
}

/// A row on its way.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    /// The row's id as the database gave it.
    pub(super) id: Value,
    pub(super) message: Outgoing,
}

/// An envelope's fields that have no column of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Story<'a> {
    version: u16,
    correlation: Uuid,
    causation: Option<Uuid>,
    time: Timestamp,
    content_type: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    headers: Headers,
}

impl<'a> Story<'a> {
    pub(super) fn of(envelope: &'a Envelope) -> Self {
        Self {
            version: envelope.version,
            correlation: envelope.correlation,
            causation: envelope.causation,
            time: envelope.time,
            content_type: Cow::Borrowed(&envelope.content_type),
            traceparent: envelope.trace.as_ref().map(ToString::to_string),
            tracestate: envelope.trace.as_ref().map(|trace| trace.state.clone()),
            headers: envelope.headers.clone(),
        }
    }

    fn tell(self, envelope: &mut Envelope) {
        envelope.version = self.version;
        envelope.correlation = self.correlation;
        envelope.causation = self.causation;
        envelope.time = self.time;
        envelope.content_type = self.content_type.into_owned().into();
        let state = self.tracestate.as_deref();
        envelope.trace = self.traceparent.and_then(|parent| TraceContext::parse(&parent, state));
        envelope.headers = self.headers;
    }
}

impl Layout {
    /// Looks at a table.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) where there is none, or it lacks one of the four columns.
    pub async fn of(db: &Db, table: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if table.is_empty() || !table.bytes().all(plain) {
            return Err(crate::db::refused(
                "reading the outbox",
                format!("{table:?} is no table's name"),
            ));
        }
        let sql = match db.dialect() {
            Dialect::Sqlite => "SELECT name, type FROM pragma_table_info($1)",
            Dialect::Postgres => {
                "SELECT column_name::text, data_type::text FROM information_schema.columns
                 WHERE table_name = $1 AND table_schema = ANY (current_schemas(false))"
            }
        };
        let mut columns = BTreeSet::new();
        for row in db.query(sql, &params![table]).await? {
            columns.insert(row.get::<String>(0)?.to_lowercase());
        }
        let refuse =
            |why: String| Err(crate::db::refused(format!("reading the outbox `{table}`"), why));
        if columns.is_empty() {
            return refuse(format!("there is no such table; make it with {CREATE}"));
        }
        let lacking: Vec<_> = NEEDED.iter().filter(|name| !columns.contains(**name)).collect();
        if !lacking.is_empty() {
            return refuse(format!("it lacks {lacking:?}; it needs {NEEDED:?}"));
        }
        let published = if columns.contains("published_at") {
            Published::Stamped
        } else if columns.contains("published") {
            Published::Flagged
        } else {
            Published::Deleted
        };
        Ok(Self { table: table.to_owned(), columns, dialect: db.dialect(), published })
    }

    /// What becomes of its rows.
    #[must_use]
    pub const fn published(&self) -> Published {
        self.published
    }

    /// Whether each row says where it goes.
    #[must_use]
    pub fn has_destination(&self) -> bool {
        self.columns.contains("destination")
    }

    /// Whether [`Outbox`](super::Outbox) can write to it.
    pub(super) fn is_ours(&self) -> bool {
        OURS.iter().all(|name| self.columns.contains(*name))
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    fn waiting(&self) -> &'static str {
        match self.published {
            Published::Deleted => "TRUE",
            Published::Stamped => "published_at IS NULL",
            Published::Flagged => "NOT published",
        }
    }

    /// Reads the first rows that wait, in their order, but for those with one of so many keys.
    pub(super) fn select(&self, blocked: usize) -> String {
        let mut sql = "SELECT id, aggregate_id, event_type, payload".to_owned();
        for name in OPTIONAL {
            if self.columns.contains(name) {
                sql.push_str(", ");
                sql.push_str(name);
            }
        }
        let mut parameter = 1;
        let (table, waiting) = (&self.table, self.waiting());
        sql += &format!(" FROM {table} WHERE {waiting}");
        if self.columns.contains("due_at") {
            parameter += 1;
            sql += &format!(" AND (due_at IS NULL OR due_at <= ${parameter})");
        }
        if blocked > 0 {
            let list = places(parameter + 1, blocked);
            sql += &format!(" AND (aggregate_id IS NULL OR aggregate_id NOT IN ({list}))");
        }
        sql.push_str(" ORDER BY id LIMIT $1");
        sql
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.columns.contains("due_at")
    }

    /// What is done to so many rows once they are confirmed.
    pub(super) fn confirm(&self, rows: usize) -> String {
        let (table, list) = (&self.table, places(1, rows));
        match self.published {
            Published::Deleted => format!("DELETE FROM {table} WHERE id IN ({list})"),
            Published::Stamped => {
                format!("UPDATE {table} SET published_at = CURRENT_TIMESTAMP WHERE id IN ({list})")
            }
            Published::Flagged => {
                format!("UPDATE {table} SET published = TRUE WHERE id IN ({list})")
            }
        }
    }

    /// Copies row `$1` of table `$2` to the dead ones for reason `$3` at `$4`.
    pub(super) fn set_aside(&self) -> String {
        let known = |name: &'static str| if self.columns.contains(name) { name } else { "NULL" };
        let (destination, message_id, story) =
            (known("destination"), known("message_id"), known("story"));
        let payload = match (self.columns.contains("body"), self.dialect) {
            (false, _) => "CAST(payload AS TEXT)",
            (true, Dialect::Sqlite) => "coalesce(hex(body), payload)",
            (true, Dialect::Postgres) => "coalesce(encode(body, 'hex'), payload)",
        };
        let table = &self.table;
        format!(
            "INSERT INTO ottla_outbox_dead
                (source, row_id, aggregate_id, event_type, payload, destination, message_id, story, reason, at)
             SELECT CAST($2 AS TEXT), CAST(id AS TEXT), CAST(aggregate_id AS TEXT), event_type, {payload},
                {destination}, CAST({message_id} AS TEXT), {story}, CAST($3 AS TEXT), CAST($4 AS BIGINT)
             FROM {table} WHERE id = $1"
        )
    }

    /// Deletes up to `$2` rows that were published more than `$1` seconds ago.
    pub(super) fn clean(&self) -> Option<String> {
        let old = match (self.published, self.dialect) {
            (Published::Stamped, Dialect::Sqlite) => {
                "datetime(published_at) < datetime('now', '-' || $1 || ' seconds')"
            }
            (Published::Stamped, Dialect::Postgres) => {
                "published_at < now() - make_interval(secs => $1)"
            }
            _ => return None,
        };
        let table = &self.table;
        Some(format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE published_at IS NOT NULL AND {old} LIMIT $2)"
        ))
    }

    /// A row as a message.
    pub(super) fn parcel(&self, row: &Row, to: Option<&Address>, mint: &Mint) -> Result<Parcel> {
        let id: Value = row.get(0)?;
        let optional = |name: &str| -> Result<Option<String>> {
            Ok(if self.columns.contains(name) { row.named(name)? } else { None })
        };
        let body: Option<Vec<u8>> =
            if self.columns.contains("body") { row.named("body")? } else { None };
        let body = match body {
            Some(body) => body,
            None => row.get(3)?,
        };
        let mut envelope = Envelope::raw(row.get::<String>(2)?, Bytes::from(body), mint);
        envelope.key = text(row.get(1)?);
        // The same row is the same message, however often it is published.
        let given = optional("message_id")?;
        let derived = || {
            Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("ottla:{}:{id:?}", self.table).as_bytes())
        };
        envelope.id = match &given {
            Some(given) => Uuid::parse_str(given)
                .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_URL, given.as_bytes())),
            None => derived(),
        };
        envelope.correlation = envelope.id;
        if let Some(story) = optional("story")? {
            match serde_json::from_str::<Story<'_>>(&story) {
                Ok(story) => story.tell(&mut envelope),
                Err(error) => {
                    tracing::warn!(?id, %error, "a row's story cannot be read: sent without")
                }
            }
        }
        let to = optional("destination")?.map(Address::from).or_else(|| to.cloned());
        let to = to.ok_or_else(|| {
            crate::db::refused(
                "relaying a row without a destination",
                "say where rows go: --address TOPIC",
            )
        })?;
        Ok(Parcel { id, message: Outgoing { to, envelope, delay: None } })
    }
}

/// Keys may be numbers or UUIDs in the program's own schema.
fn text(key: Value) -> Option<String> {
    match key {
        Value::Text(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

fn places(first: usize, count: usize) -> String {
    let list: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    list.join(", ")
}

const NEEDED: [&str; 4] = ["id", "aggregate_id", "event_type", "payload"];
const OPTIONAL: [&str; 4] = ["body", "destination", "message_id", "story"];
const OURS: [&str; 6] = ["body", "destination", "message_id", "story", "due_at", "payload"];
const CREATE: &str = "CREATE TABLE outbox (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, aggregate_id TEXT, event_type TEXT NOT NULL, payload TEXT NOT NULL) (on SQLite: id INTEGER PRIMARY KEY AUTOINCREMENT), or let Ottla make it: --create";
