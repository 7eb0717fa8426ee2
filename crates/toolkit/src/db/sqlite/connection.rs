//! Connections and statements of SQLite, and what its errors mean.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, ToSql, params_from_iter};

use crate::db::error::shown;
use crate::db::statement::{Answer, Statement, Want, numbered};
use crate::db::{DbError, DbOptions, Durability, Row, Value};

/// The connection that writes. `None`: a memory of its own.
pub(super) fn writer(path: Option<&Path>, options: &DbOptions) -> Result<Connection, DbError> {
    let opened = match path {
        Some(path) => Connection::open(path),
        None => Connection::open_in_memory(),
    };
    let connection = opened.map_err(|error| unreachable_file(path, &error))?;
    let synchronous = match options.durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    let settings = format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA foreign_keys=ON; \
         PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16384;"
    );
    prepare(&connection, options, &settings).map_err(|error| unreachable_file(path, &error))?;
    Ok(connection)
}

/// A connection that reads beside the writer.
pub(super) fn reader(path: &Path, options: &DbOptions) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags);
    let connection = opened.map_err(|error| unreachable_file(Some(path), &error))?;
    prepare(&connection, options, "PRAGMA query_only=ON;")
        .map_err(|error| unreachable_file(Some(path), &error))?;
    Ok(connection)
}

fn prepare(connection: &Connection, options: &DbOptions, settings: &str) -> Result<(), Error> {
    // Another process may write: wait for it, but less long than our own callers wait for us.
    connection.busy_timeout(options.wait_max.min(Duration::from_secs(60)) / 2)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch(settings)
}

/// Runs one statement, or a script of several.
pub(super) fn run(
    connection: &Connection,
    statement: &Statement,
    want: Want,
) -> Result<Answer, DbError> {
    let told = |error| meaning(&error, &statement.sql);
    match want {
        Want::Script => {
            connection.execute_batch(&statement.sql).map_err(told)?;
            Ok(Answer::Count(0))
        }
        Want::Count => count(connection, statement).map_err(told),
        Want::Rows => rows(connection, statement).map_err(told),
    }
}

fn count(connection: &Connection, statement: &Statement) -> Result<Answer, Error> {
    let mut prepared = connection.prepare_cached(&numbered(&statement.sql))?;
    let bound = params_from_iter(&statement.params);
    // With RETURNING a statement answers rows; whoever counts wants to know how many.
    let changed = if prepared.column_count() == 0 {
        prepared.execute(bound)?
    } else {
        let mut rows = prepared.query(bound)?;
        let mut changed = 0;
        while rows.next()?.is_some() {
            changed += 1;
        }
        changed
    };
    Ok(Answer::Count(u64::try_from(changed).unwrap_or(u64::MAX)))
}

fn rows(connection: &Connection, statement: &Statement) -> Result<Answer, Error> {
    let mut prepared = connection.prepare_cached(&numbered(&statement.sql))?;
    let names: Arc<[String]> = prepared.column_names().map(str::to_owned).collect();
    let mut found = prepared.query(params_from_iter(&statement.params))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let values = (0..names.len()).map(|index| row.get_ref(index).map(value_of));
        rows.push(Row::new(Arc::clone(&names), values.collect::<Result<_, _>>()?));
    }
    Ok(Answer::Rows(rows))
}

fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Bool(truth) => ValueRef::Integer((*truth).into()),
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What an error of SQLite asks of the caller.
pub(super) fn meaning(error: &Error, sql: &str) -> DbError {
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => DbError::Constraint { reason, sql: shown(sql) },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DbError::Conflict { reason },
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory,
        ) => DbError::Lost { reason },
        _ => DbError::Statement { reason, sql: shown(sql) },
    }
}

fn unreachable_file(path: Option<&Path>, error: &Error) -> DbError {
    let address = path.map_or("sqlite::memory:".to_owned(), |path| path.display().to_string());
    DbError::Unreachable { address, reason: error.to_string() }
}

const STATEMENTS_MAX: usize = 128;
