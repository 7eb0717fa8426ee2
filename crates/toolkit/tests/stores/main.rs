//! The store suite: the same tests on SQLite, in every `cargo test`, and on a real PostgreSQL, whose address
//! is in `STORES_DATABASE` (`tests/rig`, suite `stores-postgres`). `STORES_ROWS` makes the long ones longer.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod abort;
mod account;
mod command;
mod crash;
mod crash_saga;
mod database;
#[cfg(feature = "embedded")]
mod durable;
mod history;
mod inbox;
mod outbox;
mod plain;
mod projection;
mod support;
