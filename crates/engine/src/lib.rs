//! The broker without a wire: topics, groups, transactions, exchanges, queues, over one [`ottla_store::Store`].
//!
//! Calls are synchronous: they append and return a result with the place (`Lsn`) of the newest fact it
//! reveals; the driver releases the reply once the log is durable past it. What is hard to get right is
//! a pure machine: `apply(command, now) -> effects`.

pub mod broker;
mod broker_facts;
pub mod catalog;
pub mod chance;
pub mod clock;
mod engine;
pub mod exchange;
mod fact;
pub mod group;
pub mod queue;
pub mod topic;
pub mod txn;
pub mod value;
pub mod vhost;
mod waiters;

pub use ottla_store::batch;
pub use ottla_store::codec;
pub use ottla_store::disk::{self, FileDisk, LookDisk};
pub use ottla_store::inspect;
pub use ottla_store::records;
pub use ottla_store::{
    Batches, Durability, DurableObserver, Fatal, FileError, Lsn, Offset, OpenError, ReadError,
    Refused, StreamId,
};

pub use self::chance::base64_id;
pub use self::engine::{
    CommitFailure, CommitRefused, Commits, ConfigureError, ConsumerRefused, CreateError,
    DEAD_LETTERS_AUTO_CREATE, DEAD_LETTERS_PREFIX, Decided, DeleteGroupError, DeleteRecordsError,
    Engine, Found, GROUP_SETTINGS, GROUPS_MAX, GroupRefused, GroupSetting, GroupSummary,
    GroupValues, NewTopic, Options, PartitionsError, PlantedBug, Reply, ShareAcks, ShareConfig,
    ShareFetchError, ShareReset, ShareWant, Shared, TxnCommitRefused, TxnProduceError, Writer,
    check_group_setting, part_of,
};
pub use self::txn::producers::Aborted;
