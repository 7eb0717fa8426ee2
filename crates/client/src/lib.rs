//! A small Kafka client for Ottla's own commands. Blocking, one request at a time, against any Kafka.
//!
//! It moves requests and answers; what stands in a batch is the caller's. Beside it, [`amqp`]: a publisher
//! for RabbitMQ.

pub mod amqp;
mod cluster;
mod connection;
mod error;
mod group_offsets;
mod groups;
mod offsets;
mod partitioner;
mod transactions;

pub use ottla_kafka_proto::{ErrorCode, Request, Response, Str, Uuid, messages};

pub use self::cluster::{Cluster, CoordinatorKind, Leader, Topic, TopicPartition};
pub use self::connection::Connection;
pub use self::error::ClientError;
pub use self::groups::{Group, GroupDetails, GroupKind, Member};
pub use self::offsets::{EARLIEST, LATEST, Positions};
pub use self::partitioner::partition_of;
pub use self::transactions::{Transaction, TransactionDetails};
