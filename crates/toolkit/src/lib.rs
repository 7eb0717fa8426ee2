//! The patterns of event-driven systems, over an embedded broker or a served one.
//!
//! A service says what it listens to, and runs. The same code runs in memory, on Ottla in the same
//! process, on a served Ottla, on Apache Kafka and on RabbitMQ; only the connection line changes.
//!
//! | module | what it is for |
//! |---|---|
//! | [`message`], [`envelope`] | contracts: a name, a version, a key; and what travels beside the body |
//! | [`connection`] | publish durably, subscribe; a message in hand, settled once; attempts and dead letters |
//! | [`handler`] | plain async functions, their arguments, layers around them |
//! | [`service`], [`policy`] | competing consumers: how many at a time, in which order, how often again; drain, health |
//! | [`dead_letters`] | what was given up: look at it, send it back |
//! | [`choreography`] | who says what to whom: a drawing, an AsyncAPI document, and what cannot be right |
//! | [`saga`] | a business transaction over several services, as steps that can be undone |
//! | [`view`] | another service's data, here: event-carried state transfer |
//! | [`transport`] | the border to brokers |
//! | [`db`] | SQLite or PostgreSQL, and the one transaction that everything below shares |
//! | [`inbox`] | a message's effects happen once |
//! | [`outbox`] | whatever commits is published |
//! | [`durable`] | a handler's inbox, effects and messages in one transaction |
//! | [`decider`], [`events`] | event sourcing: pure decisions, streams and tags, any moment of the past |
//! | `schema` (feature `schemas`) | contracts in a schema registry: Avro, JSON Schema, Protobuf |
//! | [`cloudevents`], [`testing`] | envelopes for others; what a transport promises |
//! | [`cqrs`], [`projection`] | commands with their publication; read models, rebuilt beside the live ones |

extern crate self as ottla; // what the derive macros name

pub mod address;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod choreography;
pub mod cloudevents;
pub mod connection;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod cqrs;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod db;
pub mod dead_letters;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod decider;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod durable;
pub mod envelope;
pub mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod events;
pub mod handler;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod inbox;
pub mod message;
pub mod mint;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod outbox;
pub mod policy;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod projection;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod saga;
#[cfg(feature = "schemas")]
pub mod schema;
pub mod service;
pub mod testing;
pub mod trace;
pub mod transport;
pub mod view;

pub use bytes::Bytes;
pub use ottla_derive::Message;
pub use uuid::Uuid;

pub use self::address::Address;
pub use self::connection::{Connection, DeadLetter, Delivery, Feed, Incoming, Reason, Settle};
pub use self::envelope::{Envelope, Headers, Outgoing};
pub use self::error::{Cause, Error, Failure, Result};
pub use self::message::Message;
pub use self::mint::{Mint, Timestamp};
pub use self::policy::{Backoff, Order, Policy};
pub use self::service::{Service, signals};
pub use self::trace::TraceContext;

/// The guides' code, compiled and run.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/guide/choreography.md")]
    struct Choreography;
    #[doc = include_str!("../../../docs/guide/competing-consumers.md")]
    struct CompetingConsumers;
    #[doc = include_str!("../../../docs/guide/cqrs.md")]
    struct Cqrs;
    #[doc = include_str!("../../../docs/guide/event-carried-state.md")]
    struct EventCarriedState;
    #[doc = include_str!("../../../docs/guide/event-sourcing.md")]
    struct EventSourcing;
    #[doc = include_str!("../../../docs/guide/inbox.md")]
    struct Inbox;
    #[doc = include_str!("../../../docs/guide/outbox.md")]
    struct Outbox;
    #[doc = include_str!("../../../docs/guide/retries-and-dead-letters.md")]
    struct RetriesAndDeadLetters;
    #[doc = include_str!("../../../docs/guide/sagas.md")]
    struct Sagas;
    #[cfg(feature = "schemas")]
    #[doc = include_str!("../../../docs/guide/schemas.md")]
    struct Schemas;
}
