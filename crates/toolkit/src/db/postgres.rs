//! PostgreSQL: a small pool of connections, each with its prepared statements.

use std::collections::HashMap;
use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use futures_util::future::{join3, maybe_done, try_join_all};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Statement as Prepared};
use uuid::Uuid;

use super::error::shown;
use super::statement::{Answer, Statement, Want};
use super::{DbError, DbOptions, Durability, Row, Value};

/// A server, by its address.
#[derive(Debug)]
pub(super) struct Postgres {
    config: Config,
    address: String,
    options: DbOptions,
    idle: Mutex<Vec<Connection>>,
    admission: Arc<Semaphore>,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    prepared: HashMap<String, Prepared>,
}

impl Postgres {
    pub(super) async fn open(url: &str, options: DbOptions) -> Result<Self, DbError> {
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            DbError::Address { url: without_password(url), reason: told(&error) }
        })?;
        if config.get_application_name().is_none() {
            config.application_name("ottla");
        }
        config.connect_timeout(options.wait_max);
        let admission = Arc::new(Semaphore::new(options.connections_max));
        let address = without_password(url);
        let db = Self { config, address, options, idle: Mutex::default(), admission };
        let connection = db.connect().await?;
        db.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(db)
    }

    async fn connect(&self) -> Result<Connection, DbError> {
        let unreachable = |error: tokio_postgres::Error| DbError::Unreachable {
            address: self.address.clone(),
            reason: told(&error),
        };
        let (client, connection) = self.config.connect(NoTls).await.map_err(unreachable)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let synchronous = match self.options.durability {
            Durability::Full => "on",
            Durability::Normal => "off",
        };
        // Bounded waiting: for a lock as long as for a connection, and nobody sits on a transaction.
        let settings = format!(
            "SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SET synchronous_commit = {synchronous}; SET default_transaction_isolation = 'read committed'",
            self.options.wait_max.as_millis(),
            self.options.idle_max.as_millis(),
        );
        client.batch_execute(&settings).await.map_err(unreachable)?;
        Ok(Connection { client, prepared: HashMap::new() })
    }

    async fn checkout(self: &Arc<Self>) -> Result<Lease, DbError> {
        let advice = "end transactions soon, and do not begin one while holding another";
        let busy = DbError::Busy { waited: self.options.wait_max, what: "a connection", advice };
        let waited = timeout(self.options.wait_max, Arc::clone(&self.admission).acquire_owned());
        let Ok(Ok(permit)) = waited.await else { return Err(busy) };
        let kept = loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if kept.as_ref().is_none_or(|connection| !connection.client.is_closed()) {
                break kept;
            }
        };
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lease { db: Arc::clone(self), connection: Some(connection), _permit: permit })
    }

    pub(super) async fn begin(self: &Arc<Self>) -> Result<PostgresTx, DbError> {
        let lease = self.checkout().await?;
        Ok(PostgresTx { lease, state: State::Fresh })
    }

    pub(super) async fn read(self: &Arc<Self>, statement: Statement) -> Result<Answer, DbError> {
        let mut lease = self.checkout().await?;
        let connection = lease.get()?;
        let mut answer = connection.run(&statement, Want::Rows).await;
        if answer.is_err() && connection.prepared.remove(&statement.sql).is_some() {
            // A view that a new projection took over has other columns than the plan we kept.
            answer = connection.run(&statement, Want::Rows).await;
        }
        lease.give_back();
        answer
    }
}

/// A connection on loan. Dropped without being given back, it is closed: the server rolls back.
#[derive(Debug)]
struct Lease {
    db: Arc<Postgres>,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn get(&mut self) -> Result<&mut Connection, DbError> {
        self.connection.as_mut().ok_or(DbError::Aborted)
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.db.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// A transaction on a connection of its own.
#[derive(Debug)]
pub(super) struct PostgresTx {
    lease: Lease,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent yet.
    Fresh,
    Open,
    /// A statement failed, or its call was cancelled half-way.
    Failed,
}

impl PostgresTx {
    pub(super) async fn run(
        &mut self,
        before: Vec<Statement>,
        last: Option<(Statement, Want)>,
    ) -> Result<Answer, DbError> {
        let state = std::mem::replace(&mut self.state, State::Failed); // until the answer is in
        let connection = self.lease.get()?;
        if state == State::Failed {
            return Err(DbError::Aborted);
        }
        let begin = (state == State::Fresh).then_some("BEGIN");
        let answer = connection.together(begin, &before, last.as_ref()).await?;
        self.state = State::Open;
        Ok(answer)
    }

    pub(super) async fn commit(mut self, before: Vec<Statement>) -> Result<(), DbError> {
        match self.state {
            State::Failed => return Err(DbError::Aborted),
            State::Fresh if before.is_empty() => {}
            state => {
                let begin = (state == State::Fresh).then_some("BEGIN");
                self.lease.get()?.commit(begin, &before).await?;
            }
        }
        self.lease.give_back();
        Ok(())
    }

    pub(super) async fn rollback(mut self) -> Result<(), DbError> {
        if self.state != State::Fresh {
            let connection = self.lease.get()?;
            let outcome = connection.client.batch_execute("ROLLBACK").await;
            outcome.map_err(|error| meaning(&error, "ROLLBACK"))?;
        }
        self.lease.give_back();
        Ok(())
    }
}

impl Connection {
    async fn prepare(&mut self, sql: &str) -> Result<Prepared, DbError> {
        if let Some(prepared) = self.prepared.get(sql) {
            return Ok(prepared.clone());
        }
        let prepared = self.client.prepare(sql).await.map_err(|error| meaning(&error, sql))?;
        if self.prepared.len() >= STATEMENTS_MAX {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), prepared.clone());
        Ok(prepared)
    }

    async fn run(&mut self, statement: &Statement, want: Want) -> Result<Answer, DbError> {
        let told = |error| meaning(&error, &statement.sql);
        if matches!(want, Want::Script) {
            self.client.batch_execute(&statement.sql).await.map_err(told)?;
            return Ok(Answer::Count(0));
        }
        let prepared = self.prepare(&statement.sql).await?;
        self.answer(statement, &prepared, want).await
    }

    async fn answer(
        &self,
        statement: &Statement,
        prepared: &Prepared,
        want: Want,
    ) -> Result<Answer, DbError> {
        let told = |error| meaning(&error, &statement.sql);
        let params = bound(&statement.params);
        if matches!(want, Want::Count) {
            return self.client.execute(prepared, &params).await.map(Answer::Count).map_err(told);
        }
        let found = self.client.query(prepared, &params).await.map_err(told)?;
        let names: Arc<[String]> =
            prepared.columns().iter().map(|column| column.name().to_owned()).collect();
        let rows = found.iter().map(|row| {
            let values = (0..row.len()).map(|index| row.try_get::<_, Column>(index));
            let values = values.map(|column| column.map(|Column(value)| value));
            Ok(Row::new(Arc::clone(&names), values.collect::<Result<_, _>>().map_err(told)?))
        });
        Ok(Answer::Rows(rows.collect::<Result<_, DbError>>()?))
    }

    /// Sends all, then waits for all: one round trip instead of many. After a statement that fails the server
    /// refuses the rest. `begin` cannot fail alone: a connection is on loan only outside a transaction.
    async fn together(
        &mut self,
        begin: Option<&str>,
        before: &[Statement],
        last: Option<&(Statement, Want)>,
    ) -> Result<Answer, DbError> {
        let known = last.is_none_or(|(last, _)| self.prepared.contains_key(&last.sql));
        let Some(prepared) = self.prepared_all(before).filter(|_| known) else {
            self.simple(begin).await?; // one may need what the one before it made: one by one
            self.run_each(before).await?;
            return match last {
                Some((statement, want)) => self.run(statement, *want).await,
                None => Ok(Answer::Count(0)),
            };
        };
        let own = last.and_then(|(last, _)| self.prepared.get(&last.sql)).cloned();
        let answer = async {
            match (last, &own) {
                (Some((statement, want)), Some(own)) => self.answer(statement, own, *want).await,
                _ => Ok(Answer::Count(0)),
            }
        };
        let (begun, sent, answer) =
            join3(self.simple(begin), self.send_all(before, &prepared), answer).await;
        begun?;
        sent?;
        answer
    }

    /// The same, and the commit. A statement that fails at the server makes a rollback of the commit. Of one that
    /// cannot be sent, as a value does not fit its parameter, the server knows nothing: then the commit is not sent
    /// either, and the connection is to be closed.
    async fn commit(&mut self, begin: Option<&str>, before: &[Statement]) -> Result<(), DbError> {
        let Some(prepared) = self.prepared_all(before) else {
            self.simple(begin).await?;
            self.run_each(before).await?;
            return self.simple(Some("COMMIT")).await.map_err(unsure);
        };
        let mut begun = pin!(maybe_done(self.simple(begin)));
        let mut all = pin!(maybe_done(self.send_all(before, &prepared)));
        // Polled once, all that can be sent was sent.
        let [_, sent] = poll_fn(|context| {
            Poll::Ready([begun.as_mut().poll(context), all.as_mut().poll(context)])
        })
        .await;
        if sent.is_ready() && matches!(all.as_mut().output_mut(), Some(Err(_))) {
            return all.take_output().unwrap_or(Ok(()));
        }
        let commit = self.simple(Some("COMMIT"));
        let ((), (), committed) = join3(begun.as_mut(), all.as_mut(), commit).await;
        let earlier = [begun.take_output(), all.take_output()].into_iter().flatten();
        earlier.chain([committed]).collect::<Result<(), _>>().map_err(unsure)
    }

    async fn simple(&self, sql: Option<&str>) -> Result<(), DbError> {
        match sql {
            Some(sql) => self.client.batch_execute(sql).await.map_err(|error| meaning(&error, sql)),
            None => Ok(()),
        }
    }

    async fn run_each(&mut self, statements: &[Statement]) -> Result<(), DbError> {
        let mut prepared = Vec::with_capacity(statements.len());
        for statement in statements {
            prepared.push(self.prepare(&statement.sql).await?);
        }
        self.send_all(statements, &prepared).await
    }

    /// What these were prepared as; `None` unless all are.
    fn prepared_all(&self, statements: &[Statement]) -> Option<Vec<Prepared>> {
        statements.iter().map(|statement| self.prepared.get(&statement.sql).cloned()).collect()
    }

    async fn send_all(
        &self,
        statements: &[Statement],
        prepared: &[Prepared],
    ) -> Result<(), DbError> {
        let sent = statements.iter().zip(prepared).map(|(statement, prepared)| async move {
            let params = bound(&statement.params);
            let executed = self.client.execute(prepared, &params).await;
            executed.map_err(|error| meaning(&error, &statement.sql))
        });
        try_join_all(sent).await.map(drop)
    }
}

/// A connection lost on the way leaves open whether the commit was carried out.
fn unsure(error: DbError) -> DbError {
    match error {
        DbError::Lost { reason } => DbError::Unknown { reason },
        other => other,
    }
}

fn bound(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Value {
    fn to_sql(&self, to: &Type, out: &mut BytesMut) -> Result<IsNull, Refusal> {
        match (self, to) {
            (Self::Null, _) => return Ok(IsNull::Yes),
            (Self::Bool(truth), &Type::BOOL) => return truth.to_sql(to, out),
            (Self::Int(number), &Type::INT8) => return number.to_sql(to, out),
            (Self::Int(number), &Type::INT4) => return i32::try_from(*number)?.to_sql(to, out),
            (Self::Int(number), &Type::INT2) => return i16::try_from(*number)?.to_sql(to, out),
            (Self::Int(number), &Type::FLOAT8) => {
                return f64::from(i32::try_from(*number)?).to_sql(to, out);
            }
            (Self::Real(number), &Type::FLOAT8) => return number.to_sql(to, out),
            (Self::Bytes(bytes), &Type::BYTEA) => return bytes.to_sql(to, out),
            (Self::Text(text), &Type::UUID) => out.put_slice(Uuid::parse_str(text)?.as_bytes()),
            (Self::Text(text), &Type::JSONB) => {
                out.put_u8(1); // the version of jsonb's wire form
                out.put_slice(text.as_bytes());
            }
            (Self::Text(text), to) if is_text(to) => out.put_slice(text.as_bytes()),
            (Self::Bytes(bytes), to) if is_text(to) => {
                out.put_slice(std::str::from_utf8(bytes)?.as_bytes())
            }
            (value, to) => {
                return Err(format!(
                    "{value:?} does not fit a parameter of type {to}: cast it, as in $1::text::{to}"
                )
                .into());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column as it came over the wire.
struct Column(Value);

impl<'a> FromSql<'a> for Column {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Refusal> {
        Ok(Self(match *of {
            Type::VOID => Value::Null, // what a function returns that returns nothing
            Type::BOOL => Value::Bool(bool::from_sql(of, raw)?),
            Type::INT2 => Value::Int(i16::from_sql(of, raw)?.into()),
            Type::INT4 => Value::Int(i32::from_sql(of, raw)?.into()),
            Type::INT8 => Value::Int(i64::from_sql(of, raw)?),
            Type::FLOAT4 => Value::Real(f32::from_sql(of, raw)?.into()),
            Type::FLOAT8 => Value::Real(f64::from_sql(of, raw)?),
            Type::BYTEA => Value::Bytes(raw.to_vec()),
            Type::UUID => Value::Text(Uuid::from_slice(raw)?.to_string()),
            Type::JSONB => {
                Value::Text(std::str::from_utf8(raw.get(1..).unwrap_or_default())?.to_owned())
            }
            _ if is_text(of) => Value::Text(std::str::from_utf8(raw)?.to_owned()),
            _ => {
                return Err(format!(
                    "a column of type {of} is not read: cast it, as in column::text"
                )
                .into());
            }
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Refusal> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn is_text(of: &Type) -> bool {
    matches!(
        *of,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN
    )
}

/// What an error of PostgreSQL asks of the caller.
fn meaning(error: &tokio_postgres::Error, sql: &str) -> DbError {
    let reason = told(error);
    let Some(code) = error.code() else {
        return if error.is_closed()
            || error.source().is_some_and(|source| source.is::<std::io::Error>())
        {
            DbError::Lost { reason }
        } else {
            DbError::Statement { reason, sql: shown(sql) }
        };
    };
    if [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .contains(code)
    {
        return DbError::Conflict { reason };
    }
    match code.code().get(..2) {
        Some("23") => DbError::Constraint { reason, sql: shown(sql) },
        // 53: out of resources; 57: shut down or cancelled; 58: system error; 25P03: idle for too long
        Some("08" | "53" | "57" | "58") => DbError::Lost { reason },
        _ if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => DbError::Lost { reason },
        _ => DbError::Statement { reason, sql: shown(sql) },
    }
}

fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => {
            error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        }
    }
}

/// An address that may be shown: its password is gone.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{place}")
        }
        None => url.to_owned(),
    }
}

type Refusal = Box<dyn std::error::Error + Sync + Send>;
const STATEMENTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_address_has_no_password() {
        assert_eq!(without_password("postgres://u:se@cret@h:1/d"), "postgres://u@h:1/d");
        assert_eq!(without_password("postgres://h/d"), "postgres://h/d");
    }
}
