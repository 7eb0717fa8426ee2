//! SQLite behind one writer thread: many transactions, one sync.

mod connection;
mod writer;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::statement::{Answer, Statement, Want};
use super::{DbError, DbOptions};

use self::writer::{Command, Job, Session};

/// One file, or one memory. Dropping it ends the writer when its last transaction has ended.
#[derive(Debug)]
pub(super) struct Sqlite {
    jobs: SyncSender<Job>,
    /// As many as `jobs` holds, so that sending never blocks.
    admission: Arc<Semaphore>,
    options: DbOptions,
    readers: Option<Readers>,
}

/// Connections that read what is committed, beside the writer. A memory has none.
#[derive(Debug)]
struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    admission: Arc<Semaphore>,
}

impl Sqlite {
    pub(super) async fn open(path: Option<PathBuf>, options: DbOptions) -> Result<Self, DbError> {
        let (jobs, inbox) = sync_channel(WAITING_MAX);
        let (ready, opened) = oneshot::channel();
        let for_writer = (path.clone(), options.clone());
        std::thread::Builder::new()
            .name("ottla-sqlite".to_owned())
            .spawn(move || {
                let (path, options) = for_writer;
                match connection::writer(path.as_deref(), &options) {
                    Ok(connection) => {
                        if ready.send(Ok(())).is_ok() {
                            writer::run(connection, &inbox, &options);
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(|error| DbError::Lost { reason: error.to_string() })?;
        opened.await.map_err(|_| gone())??;
        let readers = path.map(|path| Readers {
            path,
            idle: Arc::default(),
            admission: Arc::new(Semaphore::new(READERS_MAX)),
        });
        Ok(Self { jobs, admission: Arc::new(Semaphore::new(WAITING_MAX)), options, readers })
    }

    /// A transaction that costs nothing before its first statement.
    pub(super) fn begin(self: &Arc<Self>) -> SqliteTx {
        SqliteTx { db: Arc::clone(self), session: None }
    }

    /// Reads what is committed.
    pub(super) async fn read(self: &Arc<Self>, statement: Statement) -> Result<Answer, DbError> {
        let Some(readers) = &self.readers else {
            let mut tx = self.begin();
            let answer = tx.run(Vec::new(), Some((statement, Want::Rows))).await;
            tx.rollback().await?;
            return answer;
        };
        let permit = timeout(self.options.wait_max, Arc::clone(&readers.admission).acquire_owned())
            .await
            .map_err(|_| self.busy("a connection to read with"))?
            .map_err(|_| gone())?;
        let (path, idle, options) =
            (readers.path.clone(), Arc::clone(&readers.idle), self.options.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => connection::reader(&path, &options)?,
            };
            let answer = connection::run(&connection, &statement, Want::Rows)?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(answer)
        });
        task.await.map_err(|_| gone())?
    }

    const fn busy(&self, what: &'static str) -> DbError {
        let advice = "on SQLite a transaction is the whole database: a task that holds one must not wait for another, and must read through it";
        DbError::Busy { waited: self.options.wait_max, what, advice }
    }

    /// Hands a new transaction's first command to the writer.
    async fn send(&self, first: Command) -> Result<Session, DbError> {
        let permit = timeout(self.options.wait_max, Arc::clone(&self.admission).acquire_owned())
            .await
            .map_err(|_| self.busy("a place in the queue of transactions"))?
            .map_err(|_| gone())?;
        let (job, session) = Job::new(first, permit);
        match self.jobs.try_send(job) {
            Ok(()) => Ok(session),
            Err(TrySendError::Full(_)) => Err(self.busy("a place in the queue of transactions")),
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        }
    }
}

/// A transaction in the writer thread's hands.
#[derive(Debug)]
pub(super) struct SqliteTx {
    db: Arc<Sqlite>,
    session: Option<Session>,
}

impl SqliteTx {
    /// Runs `before`, then `last`, in one trip to the writer.
    pub(super) async fn run(
        &mut self,
        before: Vec<Statement>,
        last: Option<(Statement, Want)>,
    ) -> Result<Answer, DbError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Run { before, last, reply }, answer).await
    }

    /// Runs `before` and commits: returns once the group it joined is committed.
    pub(super) async fn commit(mut self, before: Vec<Statement>) -> Result<(), DbError> {
        if self.session.is_none() && before.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.command(Command::Commit { before, reply }, answer).await
    }

    pub(super) async fn rollback(mut self) -> Result<(), DbError> {
        if self.session.is_none() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.command(Command::Rollback { reply }, answer).await
    }

    async fn command<T>(
        &mut self,
        command: Command,
        answer: oneshot::Receiver<Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let first = self.session.is_none();
        match &self.session {
            None => self.session = Some(self.db.send(command).await?),
            Some(session) => session.send(command, self.db.options.idle_max)?,
        }
        // Once begun, the writer works for this transaction alone: only the first answer can be late.
        let mut answer = answer;
        let told = match timeout(self.db.options.wait_max, &mut answer).await {
            Ok(told) => told,
            Err(_) if first && self.session.as_ref().is_none_or(Session::withdraw) => {
                self.session = None;
                return Err(self.db.busy("its turn to write"));
            }
            Err(_) => answer.await,
        };
        let ended = || {
            self.session
                .as_ref()
                .map_or_else(gone, |session| session.ended(self.db.options.idle_max))
        };
        told.unwrap_or_else(|_| Err(ended()))
    }
}

fn gone() -> DbError {
    DbError::Lost { reason: "the database's thread has ended".to_owned() }
}

const WAITING_MAX: usize = 1024;
const READERS_MAX: usize = 4;
