//! The engine's facts as they stand in the log, and its objects as they stand in a snapshot.
//!
//! Encoded with postcard. Append-only: a released variant or field is never changed, moved or
//! removed; what is new is a variant at the end. See `docs/adr`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::broker_facts::BrokerFact;
use crate::catalog::CatalogFact;
use crate::clock::Wall;
use crate::group::{GroupId, GroupRecord};
use crate::txn::coordinator::TxnRecord;
use crate::txn::producers::End;
use crate::txn::{Outcome, ProducerEpoch, ProducerId};

/// One fact of the engine: the payload of a [`State`](ottla_store::frame::Item::State) item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fact {
    /// The catalogue of Kafka's side changed.
    Catalog(CatalogFact),
    /// Producer ids below this were given out.
    ProducerIds {
        /// The first that was not.
        next: i64,
    },
    /// What a group remembers, in order.
    Group {
        /// Which.
        group: GroupId,
        /// Not empty.
        records: Vec<GroupRecord>,
    },
    /// What the transaction coordinator remembers, in order.
    Transactions(Vec<TxnRecord>),
    /// A transaction has ended; the batches of the same frame are its markers.
    TransactionEnded(TransactionEnded),
    /// What exists for AMQP changed, or messages were counted.
    Broker(BrokerFact),
}

/// The end of a transaction (store.md rule 18).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TransactionEnded {
    /// The coordinator's part.
    pub(crate) record: TxnRecord,
    /// Whose transaction.
    pub(crate) producer: ProducerId,
    /// The markers' epoch.
    pub(crate) epoch: ProducerEpoch,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Written into the markers.
    pub(crate) coordinator_epoch: i32,
    /// When.
    pub(crate) at: Wall,
    /// The groups whose pending offsets end, ascending.
    pub(crate) groups: Vec<GroupId>,
}

impl TransactionEnded {
    /// As a partition sees it.
    pub(crate) const fn end(&self) -> End {
        End {
            producer: self.producer,
            epoch: self.epoch,
            outcome: self.outcome,
            coordinator_epoch: self.coordinator_epoch,
            at: self.at,
        }
    }
}

/// Which object of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ObjectKey {
    /// The catalogue.
    Catalog,
    /// A partition, by stream.
    Partition(u64),
    /// The first producer id that was not reserved.
    ProducerIds,
    /// A group, by name.
    Group(GroupId),
    /// The transaction coordinator.
    Transactions,
    /// What exists for AMQP.
    Broker,
    /// The messages of a queue, by stream.
    Queue(u64),
    /// Messages that wait for their time.
    Delayed {
        /// Their queue's stream.
        queue: u64,
        /// Which piece.
        part: u32,
    },
    /// What may have been delivered of a queue, by stream.
    Delivered(u64),
    /// What stands beside [`Broker`](Self::Broker).
    BrokerExtras,
}

/// The bytes of a fact, a key or an object.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap_or_default() // fails only for types that a fact does not have
}

/// What `bytes` say.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}
