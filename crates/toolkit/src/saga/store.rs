//! Sagas at work: each message moves one instance, in one transaction with what it sends.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::definition::Saga;
use super::instance::{Instance, Phase, Turn};
use crate::db::{Db, Dialect, Migration, Row, Tx, Value, int};
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::inbox::{Inbox, Seen};
use crate::outbox::Outbox;
use crate::params;
use crate::service::Service;

/// All instances of a saga, in a database. What they send goes to the [`Outbox`], in the transaction that
/// moves them: a saga is never moved without its messages, nor the other way round.
#[derive(Debug)]
pub struct Sagas<D> {
    saga: Saga<D>,
    db: Db,
    inbox: Inbox,
    outbox: Outbox,
}

/// What became of a message or a look at the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The saga with this id is now in this phase.
    To {
        /// Its id.
        id: String,
        /// Where it stands.
        phase: Phase,
    },
    /// Nothing changed: late, repeated, or of no saga.
    Nothing,
}

impl<D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Sagas<D> {
    /// Opens the saga's instances, making the table where there is none.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Refused`].
    pub async fn open(saga: Saga<D>, db: &Db) -> Result<Self> {
        db.migrate("saga", &STEPS).await?;
        let (inbox, outbox) = (Inbox::open(db).await?, Outbox::open(db).await?);
        Ok(Self { saga, db: db.clone(), inbox, outbox })
    }

    /// The definition.
    #[must_use]
    pub const fn saga(&self) -> &Saga<D> {
        &self.saga
    }

    /// Takes a message that one of its [sources](Saga::sources) delivered. `Ok`: acknowledge it. A message that
    /// was taken before changes nothing.
    ///
    /// # Errors
    /// [`Error::Decode`]: trying again does not help. [`Error::Store`]: it may.
    pub async fn receive(&self, message: &Envelope) -> Result<Moved> {
        let Some(key) = message.key.as_deref().filter(|_| self.is_for_us(message)) else {
            return Ok(Moved::Nothing);
        };
        let mut tx = self.db.begin().await?;
        let consumer = format!("saga {}", self.saga.name());
        if self.inbox.mark(&mut tx, &consumer, &message.id.to_string()).await? == Seen::Duplicate {
            tx.rollback().await?;
            return Ok(Moved::Nothing);
        }
        let found = self.locked(&mut tx, key).await?;
        let turn = self.saga.receive(found, message, self.db.mint())?;
        self.keep(tx, turn).await
    }

    /// Moves the instances whose time has come: steps that nobody answered, undos that are asked for again.
    /// To be called once a second or so, by any number of processes. Returns how many it moved.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn tick(&self) -> Result<u64> {
        let now = int(self.db.mint().now().0);
        let sql = "SELECT id FROM ottla_sagas WHERE saga = $1 AND due <= $2 ORDER BY due LIMIT 100";
        let mut moved = 0;
        for row in self.db.query(sql, &params![self.saga.name(), now]).await? {
            let id: String = row.get(0)?;
            let turn = |instance: Instance<D>| {
                let due = instance.due.is_some_and(|due| due <= self.db.mint().now());
                if due { self.saga.wake(instance, self.db.mint()) } else { Ok(still(instance)) }
            };
            moved += u64::from(self.turned(&id, turn).await? != Moved::Nothing);
        }
        Ok(moved)
    }

    /// Lets a service listen to everything that moves the saga.
    #[must_use]
    pub fn listen(self: &Arc<Self>, service: Service) -> Service {
        self.saga.sources().into_iter().fold(service, |service, source| {
            let sagas = Arc::clone(self);
            service.on(source, move |message: Envelope| {
                let sagas = Arc::clone(&sagas);
                async move { sagas.receive(&message).await.map(drop) }
            })
        })
    }

    /// [Ticks](Self::tick) once a second until `stop` resolves.
    ///
    /// # Errors
    /// What trying again cannot help.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = pin!(stop);
        loop {
            match self.tick().await {
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, saga = self.saga.name(), "could not look at the clock")
                }
                Ok(_) => {}
            }
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// See [`Saga::resume`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn resume(&self, id: &str) -> Result<Moved> {
        self.turned(id, |instance| self.saga.resume(instance, self.db.mint())).await
    }

    /// See [`Saga::skip`].
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn skip(&self, id: &str) -> Result<Moved> {
        self.turned(id, |instance| self.saga.skip(instance, self.db.mint())).await
    }

    /// The instance with this id.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::Refused`] if what is stored cannot be read.
    pub async fn get(&self, id: &str) -> Result<Option<Instance<D>>> {
        let sql = "SELECT state FROM ottla_sagas WHERE saga = $1 AND id = $2";
        let rows = self.db.query(sql, &params![self.saga.name(), id]).await?;
        rows.first().map(|row| self.read(row)).transpose()
    }

    /// The ids of instances in this phase ([`Phase::name`]), those that moved longest ago first; at most 1,000.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, phase: &str) -> Result<Vec<String>> {
        let sql =
            "SELECT id FROM ottla_sagas WHERE saga = $1 AND phase = $2 ORDER BY moved LIMIT 1000";
        let rows = self.db.query(sql, &params![self.saga.name(), phase]).await?;
        rows.iter().map(|row| Ok(row.get(0)?)).collect()
    }

    fn is_for_us(&self, message: &Envelope) -> bool {
        self.saga.heeds().any(|(_, name)| name == message.name)
    }

    async fn turned(
        &self,
        id: &str,
        turn: impl FnOnce(Instance<D>) -> Result<Turn<D>> + Send,
    ) -> Result<Moved> {
        let mut tx = self.db.begin().await?;
        match self.locked(&mut tx, id).await? {
            Some(instance) => {
                let turn = turn(instance)?;
                self.keep(tx, turn).await
            }
            None => {
                tx.rollback().await?;
                Ok(Moved::Nothing)
            }
        }
    }

    /// The instance; nobody else moves it, or begins it, until the transaction ends.
    async fn locked(&self, tx: &mut Tx, id: &str) -> Result<Option<Instance<D>>> {
        hold(tx, self.saga.name(), id).await?;
        let sql = "SELECT state FROM ottla_sagas WHERE saga = $1 AND id = $2";
        let row = tx.first(sql, &params![self.saga.name(), id]).await?;
        row.map(|row| self.read(&row)).transpose()
    }

    async fn keep(&self, mut tx: Tx, turn: Turn<D>) -> Result<Moved> {
        let Turn { instance: Some(instance), sends, moved: true } = turn else {
            tx.commit().await?; // the inbox's mark
            return Ok(Moved::Nothing);
        };
        let state = serde_json::to_string(&instance)
            .map_err(|error| Error::Encode { name: self.saga.name(), source: error.into() })?;
        let values = params![
            self.saga.name(),
            instance.id.as_str(),
            instance.phase.name(),
            instance.due.map_or(Value::Null, |due| int(due.0)),
            int(tx.now().0),
            state,
        ];
        tx.queue(PUT, values.into()).await?;
        for message in &sends {
            self.outbox.send(&mut tx, message).await?;
        }
        tx.commit().await?;
        Ok(Moved::To { id: instance.id, phase: instance.phase })
    }

    fn read(&self, row: &Row) -> Result<Instance<D>> {
        let state: String = row.get(0)?;
        serde_json::from_str(&state).map_err(|error| {
            let why = format!("{error}: what it remembers has changed its shape");
            crate::db::refused(format!("reading a saga {:?}", self.saga.name()), why)
        })
    }
}

/// Nobody else moves this saga, or begins it, until the transaction ends.
pub(super) async fn hold(tx: &mut Tx, saga: &str, id: &str) -> Result<()> {
    if tx.dialect() == Dialect::Postgres {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        tx.query(lock, &params![format!("saga {saga} {id}")]).await?;
    }
    Ok(())
}

const fn still<D>(instance: Instance<D>) -> Turn<D> {
    Turn { instance: Some(instance), sends: Vec::new(), moved: false }
}

const TICK: Duration = Duration::from_secs(1);

/// Saga, id, phase, due, moved, state.
pub(super) const PUT: &str =
    "INSERT INTO ottla_sagas (saga, id, phase, due, moved, state) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (saga, id) DO UPDATE SET phase = excluded.phase, due = excluded.due, moved = excluded.moved,
        state = excluded.state";

const STEPS: [Migration; 1] = [Migration {
    version: 1,
    sqlite: "CREATE TABLE ottla_sagas (saga TEXT NOT NULL, id TEXT NOT NULL, phase TEXT NOT NULL, due INTEGER,
            moved INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (saga, id)) WITHOUT ROWID;
        CREATE INDEX ottla_sagas_due ON ottla_sagas (saga, due) WHERE due IS NOT NULL;
        CREATE INDEX ottla_sagas_phase ON ottla_sagas (saga, phase, moved);",
    postgres: "CREATE TABLE ottla_sagas (saga TEXT NOT NULL, id TEXT NOT NULL, phase TEXT NOT NULL, due BIGINT,
            moved BIGINT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (saga, id));
        CREATE INDEX ottla_sagas_due ON ottla_sagas (saga, due) WHERE due IS NOT NULL;
        CREATE INDEX ottla_sagas_phase ON ottla_sagas (saga, phase, moved);",
}];
