//! The writer thread: transactions one after another, as savepoints of a group that is committed,
//! and synced, once. Nobody hears of a commit before the group's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::db::statement::{Answer, Statement, Want};
use crate::db::{DbError, DbOptions};

use super::connection::{meaning, run as run_one};

type Reply<T> = oneshot::Sender<Result<T, DbError>>;

/// What a transaction asks of the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Run the first ones, then the last, and answer that.
    Run { before: Vec<Statement>, last: Option<(Statement, Want)>, reply: Reply<Answer> },
    /// Run these, end, and answer once the group is committed.
    Commit { before: Vec<Statement>, reply: Reply<()> },
    /// Undo and end.
    Rollback { reply: Reply<()> },
}

/// A transaction that waits for its turn, with its first command already sent.
#[derive(Debug)]
pub(super) struct Job {
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    _admission: OwnedSemaphorePermit,
}

/// The caller's end of a [`Job`].
#[derive(Debug)]
pub(super) struct Session {
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
}

/// What both ends of a transaction may see.
#[derive(Debug, Default)]
struct Shared {
    /// Set once: by the writer that begins it, or by the caller that has waited for too long.
    claimed: AtomicBool,
    /// It was idle for too long.
    expired: AtomicBool,
}

impl Job {
    pub(super) fn new(first: Command, admission: OwnedSemaphorePermit) -> (Self, Session) {
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let sent = sender.try_send(first);
        debug_assert!(sent.is_ok(), "the channel is new");
        let shared = Arc::<Shared>::default();
        let session = Session { commands: sender, shared: Arc::clone(&shared) };
        (Self { commands, shared, _admission: admission }, session)
    }
}

impl Session {
    pub(super) fn send(&self, command: Command, idle_max: Duration) -> Result<(), DbError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Disconnected(_) => self.ended(idle_max),
            TrySendError::Full(_) => DbError::Aborted, // cancelled calls left their commands behind
        })
    }

    /// Gives up waiting. False: the writer has begun, so its answer must be waited for.
    pub(super) fn withdraw(&self) -> bool {
        !self.shared.claimed.swap(true, Ordering::AcqRel)
    }

    /// Why the writer no longer listens.
    pub(super) fn ended(&self, limit: Duration) -> DbError {
        let expired = self.shared.expired.load(Ordering::Acquire);
        if expired { DbError::Expired { limit } } else { DbError::Aborted }
    }
}

/// Serves until nobody can send a transaction any more.
pub(super) fn run(connection: Connection, jobs: &Receiver<Job>, options: &DbOptions) {
    let mut writer = Writer { connection, open: false, committing: Vec::new(), options };
    while let Ok(job) = jobs.recv() {
        writer.serve(&job);
        for job in jobs.try_iter().take(GROUP_MAX - 1) {
            writer.serve(&job);
        }
        writer.close_group();
    }
}

struct Writer<'a> {
    connection: Connection,
    /// A group is begun.
    open: bool,
    /// Whoever waits for the group's commit; at most [`GROUP_MAX`].
    committing: Vec<Reply<()>>,
    options: &'a DbOptions,
}

/// How a transaction of the group ended.
enum End {
    Committed(Reply<()>),
    RolledBack,
}

impl Writer<'_> {
    /// One transaction from its first command to its last.
    fn serve(&mut self, job: &Job) {
        let Ok(first) = job.commands.try_recv() else { return };
        if job.shared.claimed.swap(true, Ordering::AcqRel) {
            return; // it waited for too long, and its caller has left
        }
        if let Err(error) = self.begin() {
            first.refuse(error);
            return;
        }
        match self.converse(first, job) {
            End::Committed(reply) => {
                if let Err(error) = self.step("RELEASE t") {
                    drop(reply.send(Err(error)));
                } else {
                    self.committing.push(reply);
                }
            }
            End::RolledBack if self.connection.is_autocommit() => self.group_is_lost(),
            End::RolledBack => {
                if let Err(error) = self.script("ROLLBACK TO t; RELEASE t") {
                    tracing::error!(%error, "cannot undo a transaction: its whole group is undone");
                    drop(self.script("ROLLBACK"));
                    self.group_is_lost();
                }
            }
        }
    }

    fn begin(&mut self) -> Result<(), DbError> {
        if !self.open {
            self.step("BEGIN IMMEDIATE")?;
            self.open = true;
        }
        self.step("SAVEPOINT t")
    }

    fn converse(&self, first: Command, job: &Job) -> End {
        let mut failed = false;
        let mut next = first;
        loop {
            match next {
                Command::Run { before, last, reply } => {
                    let answer = self.run(&before, last.as_ref(), failed);
                    failed |= answer.is_err();
                    drop(reply.send(answer)); // a caller that left is none of our business
                }
                Command::Commit { before, reply } => match self.run(&before, None, failed) {
                    Ok(_) => return End::Committed(reply),
                    Err(error) => {
                        drop(reply.send(Err(error)));
                        return End::RolledBack;
                    }
                },
                Command::Rollback { reply } => {
                    drop(reply.send(Ok(())));
                    return End::RolledBack;
                }
            }
            next = match job.commands.recv_timeout(self.options.idle_max) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => {
                    job.shared.expired.store(true, Ordering::Release);
                    return End::RolledBack;
                }
                Err(RecvTimeoutError::Disconnected) => return End::RolledBack,
            };
        }
    }

    /// As PostgreSQL does it: after a failed statement nothing of the transaction counts.
    fn run(
        &self,
        before: &[Statement],
        last: Option<&(Statement, Want)>,
        failed: bool,
    ) -> Result<Answer, DbError> {
        if failed {
            return Err(DbError::Aborted);
        }
        for statement in before {
            run_one(&self.connection, statement, Want::Count)?;
        }
        last.map_or(Ok(Answer::Count(0)), |(statement, want)| {
            run_one(&self.connection, statement, *want)
        })
    }

    fn close_group(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        if let Err(error) = self.step("COMMIT") {
            let reason = error.to_string();
            drop(self.script("ROLLBACK"));
            for reply in self.committing.drain(..) {
                drop(reply.send(Err(DbError::Unknown { reason: reason.clone() })));
            }
            return;
        }
        for reply in self.committing.drain(..) {
            drop(reply.send(Ok(())));
        }
    }

    /// SQLite undid everything by itself (full disk, failed read): those who were promised a commit must hear it.
    fn group_is_lost(&mut self) {
        self.open = false;
        for reply in self.committing.drain(..) {
            let reason = "the transactions it shared a sync with were undone by SQLite".to_owned();
            drop(reply.send(Err(DbError::Lost { reason })));
        }
    }

    /// One statement that is run for each transaction: parsed once.
    fn step(&self, sql: &str) -> Result<(), DbError> {
        let done = self.connection.prepare_cached(sql).and_then(|mut step| step.execute([]));
        done.map(drop).map_err(|error| meaning(&error, sql))
    }

    fn script(&self, sql: &str) -> Result<(), DbError> {
        self.connection.execute_batch(sql).map_err(|error| meaning(&error, sql))
    }
}

impl Command {
    fn refuse(self, error: DbError) {
        match self {
            Self::Run { reply, .. } => drop(reply.send(Err(error))),
            Self::Commit { reply, .. } | Self::Rollback { reply } => drop(reply.send(Err(error))),
        }
    }
}

/// Commands of one transaction on their way; more than one only after a cancelled call.
const COMMANDS_MAX: usize = 4;
/// Transactions that share a sync at most.
const GROUP_MAX: usize = 256;
