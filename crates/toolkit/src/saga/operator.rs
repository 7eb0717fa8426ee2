//! Sagas as an operator sees them: whose program is elsewhere, so nothing is known but what is stored.

use serde::Serialize;
use serde_json::Value as Json;

use super::instance::{Instance, Phase};
use super::store::{PUT, hold};
use crate::db::{Db, Row, Value, int, refused};
use crate::error::{Error, Result};
use crate::mint::Timestamp;
use crate::params;

/// The sagas in a database, whichever program they belong to.
///
/// ```no_run
/// # use ottla::{db::Db, saga::SagaOperator};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> ottla::Result<()> {
/// let operator = SagaOperator::existing(&Db::open("sqlite:shop.db").await?).await?;
/// for stuck in operator.list(None, Some("stuck"), 100).await? {
///     operator.resume(&stuck.saga, &stuck.id).await?; // its program asks for the undo once more
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SagaOperator {
    db: Db,
}

/// One saga, as it stands.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Standing {
    /// The saga's name.
    pub saga: String,
    /// The key of its messages.
    pub id: String,
    /// Where it stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// When it moved last.
    pub moved: Timestamp,
    /// When it looks again by itself.
    pub due: Option<Timestamp>,
}

impl SagaOperator {
    /// Looks into a database that has sagas.
    ///
    /// # Errors
    /// [`Error::Refused`] if it has none, [`Error::Store`] if it cannot be read.
    pub async fn existing(db: &Db) -> Result<Self> {
        match db.query("SELECT 1 FROM ottla_sagas LIMIT 1", &[]).await {
            Ok(_) => Ok(Self { db: db.clone() }),
            Err(error) if error.is_transient() => Err(error.into()),
            Err(_) => {
                let why = "this database has no sagas: is it the right one?";
                Err(refused("looking for sagas", why))
            }
        }
    }

    /// Those of one saga, or of all, in one phase ([`Phase::name`]), or in any; those that moved longest ago
    /// first, at most `max`.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::Refused`] if what is stored cannot be read.
    pub async fn list(
        &self,
        saga: Option<&str>,
        phase: Option<&str>,
        max: u32,
    ) -> Result<Vec<Standing>> {
        let (mut sql, mut values) = (SELECT.to_owned(), Vec::new());
        for (column, value) in [("saga", saga), ("phase", phase)] {
            if let Some(value) = value {
                values.push(Value::from(value));
                let word = if values.len() == 1 { "WHERE" } else { "AND" };
                sql.push_str(&format!(" {word} {column} = ${}", values.len()));
            }
        }
        sql.push_str(&format!(" ORDER BY moved, saga, id LIMIT {max}"));
        let rows = self.db.query(&sql, &values).await?;
        rows.iter().map(standing).collect()
    }

    /// One saga with all that it remembers and what happened to it.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn get(&self, saga: &str, id: &str) -> Result<Option<Instance<Json>>> {
        let sql = "SELECT state FROM ottla_sagas WHERE saga = $1 AND id = $2";
        let rows = self.db.query(sql, &params![saga, id]).await?;
        rows.first().map(|row| instance(row, 0)).transpose()
    }

    /// Lets a [stuck](Phase::Stuck) saga go on: its program, when it runs, asks for the undo once more, and as
    /// often as if it were the first time. What it waits for should have been mended. `false`: it was not stuck.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn resume(&self, saga: &str, id: &str) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        hold(&mut tx, saga, id).await?;
        let sql = "SELECT state FROM ottla_sagas WHERE saga = $1 AND id = $2";
        let row = tx.first(sql, &params![saga, id]).await?;
        let found = row.map(|row| instance(&row, 0)).transpose()?;
        let now = tx.now();
        let Some(resumed) = found.and_then(|found| found.resumed(now)) else {
            tx.rollback().await?;
            return Ok(false);
        };
        let state = serde_json::to_string(&resumed)
            .map_err(|error| Error::Encode { name: "saga", source: error.into() })?;
        let now = int(now.0);
        let values = params![saga, id, resumed.phase.name(), now.clone(), now, state];
        tx.exec(PUT, &values).await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn standing(row: &Row) -> Result<Standing> {
    let instance = instance(row, 3)?;
    let moved: i64 = row.get(2)?;
    let moved = Timestamp(u64::try_from(moved).unwrap_or(0));
    let (phase, due) = (instance.phase, instance.due);
    Ok(Standing { saga: row.get(0)?, id: row.get(1)?, phase, moved, due })
}

fn instance(row: &Row, column: usize) -> Result<Instance<Json>> {
    let state: String = row.get(column)?;
    serde_json::from_str(&state).map_err(|error| refused("reading a saga", error.to_string()))
}

const SELECT: &str = "SELECT saga, id, moved, state FROM ottla_sagas";
