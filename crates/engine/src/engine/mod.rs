//! The engine: the store, what exists in it, and the roles that keep it going.
//!
//! Locks, outermost first: transaction coordinator, catalogue, groups in ascending name, partitions
//! in ascending stream id; the store's own come inside. None is held while waiting for the disk.

mod amqp;
mod compaction;
mod groups;
mod lookup;
mod open;
mod producing;
mod retention;
mod topics;
mod txns;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ottla_store::{Fatal, Lsn, Store, StreamId};

pub use self::groups::{
    CommitFailure, CommitRefused, Commits, ConsumerRefused, DEAD_LETTERS_AUTO_CREATE,
    DEAD_LETTERS_PREFIX, DeleteGroupError, GROUP_SETTINGS, GROUPS_MAX, GroupRefused, GroupSetting,
    GroupSummary, GroupValues, Reply, ShareAcks, ShareConfig, ShareFetchError, ShareReset,
    ShareWant, Shared, check_group_setting, part_of,
};
pub use self::lookup::Found;
pub use self::open::{Options, PlantedBug};
pub use self::topics::{
    ConfigureError, CreateError, DeleteRecordsError, NewTopic, PartitionsError,
};
pub use self::txns::{Decided, TxnCommitRefused, TxnProduceError, Writer};
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::chance::Chance;
use crate::clock::{Clock, Now};

/// The broker without a wire.
#[derive(Debug)]
pub struct Engine {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    options: Options,
    catalog: Arc<RwLock<Catalog>>,
    chance: Mutex<Chance>,
    producer_ids: producing::ProducerIds,
    retention: retention::Retention,
    cleaner: compaction::Cleaner,
    broker: Broker,
    groups: groups::Groups,
    txns: txns::Txns,
    stopping: AtomicBool,
}

impl Engine {
    /// The store under it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// How it was opened.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What exists, to read. Replies that show it wait for [`Catalog::changed`].
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self) -> MutexGuard<'_, Chance> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log role: writes and syncs what is appended until [`stop`](Self::stop), then once more.
    pub fn run_log(&self) -> Result<(), Fatal> {
        loop {
            self.store.park(LOG_IDLE);
            let stopping = self.stopping.load(Ordering::Acquire);
            if self.store.commit()?.is_none() && stopping {
                return Ok(());
            }
        }
    }

    /// The keeper role: retires, takes snapshots, recycles, compacts, until [`stop`](Self::stop).
    pub fn run_keeper(&self) -> Result<(), Fatal> {
        while !self.stopping.load(Ordering::Acquire) {
            if self.store.keep(self)? {
                if !self.store.is_behind() {
                    std::thread::park_timeout(KEEPER_REST);
                }
            } else if !self.compact_next()? {
                std::thread::park_timeout(KEEPER_IDLE);
            }
        }
        Ok(())
    }

    /// Ends both roles; the keeper within its idle time.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.store.stop();
    }

    /// Tells who waits for records of these partitions that there are some.
    pub fn wake(&self, partitions: &[StreamId]) {
        let catalog = self.catalog();
        for stream in partitions {
            if let Some(partition) = catalog.partition(*stream) {
                partition.wake();
            }
        }
    }

    /// Lets timers run whose time has come. Dead letters of share groups are for [`bury`](Self::bury).
    pub fn tick(&self) {
        let now = self.now();
        self.tick_groups(now);
        self.sweep_groups(now);
        self.tick_txns(now);
        self.broker.tick();
        self.retain(now);
    }

    /// Everything below this place is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.store.durable()
    }
}

/// How long the log role waits before it proves its last group with an empty one (store.md rule 1).
const LOG_IDLE: Duration = Duration::from_millis(1);
/// How long the keeper waits when there is nothing to do.
const KEEPER_IDLE: Duration = Duration::from_millis(20);
/// How long the keeper leaves the disk to commits between two pieces of work.
const KEEPER_REST: Duration = Duration::from_millis(1);
