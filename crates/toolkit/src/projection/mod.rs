//! Read models: tables made of events, with the place they have come to in the same transaction.
//!
//! A [`Projector`] takes events in the store's one order to [`Projection::apply`]. What it writes and how
//! far it came are committed together, so after a crash nothing is applied twice and nothing is left out.
//! An event that cannot be applied stops the projection where it is, until somebody has looked at it.
//!
//! **Blue and green.** Each generation has tables of its own. A new [`Projection::VERSION`], or
//! [`Projector::rebuild`], begins another one beside the live one, fills it from the first event on, and
//! when it has come as far as the live one turns the readers to it in one transaction: they read a view
//! with the table's plain name. The one before stays until the next turn.
//!
//! **Inline.** With [`Mode::Inline`] rows change in the transaction of the append itself: readers see their
//! own writes, and appends pay for it.

mod projector;
mod tables;

use std::future::Future;

use crate::db::Tx;
use crate::decider::EventSet;
use crate::error::Failure;
use crate::events::Recorded;

pub use self::projector::{Mode, OnError, Projector, ProjectorOptions, State, Status, Step};
pub use self::tables::Tables;

/// A read model.
///
/// ```
/// use ottla::db::{Db, Tx};
/// use ottla::events::Recorded;
/// use ottla::projection::{Projection, Tables};
/// use ottla::{Failure, params};
/// # use ottla::decider::EventSet;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # #[serde(tag = "type")]
/// # enum Event { AccountCreated { id: String, balance: i64 }, Deposited { amount: i64 } }
/// # impl EventSet for Event {}
///
/// struct Balances;
/// impl Projection for Balances {
///     const NAME: &'static str = "balances";
///     const VERSION: u32 = 1; // raise it when the rows would come out differently
///     const TABLES: &'static [&'static str] = &["balance"];
///     type Event = Event;
///
///     fn create(&self, tables: &Tables) -> String {
///         format!("CREATE TABLE {} (account TEXT PRIMARY KEY, amount BIGINT NOT NULL)", tables.name("balance"))
///     }
///
///     async fn apply(&self, tx: &mut Tx, tables: &Tables, event: &Event, of: &Recorded) -> Result<(), Failure> {
///         let balance = tables.name("balance");
///         let account = of.stream.as_deref().unwrap_or_default();
///         let amount = match event {
///             Event::AccountCreated { balance, .. } => *balance,
///             Event::Deposited { amount } => *amount,
///         };
///         let add = format!("INSERT INTO {balance} VALUES ($1, $2)
///             ON CONFLICT (account) DO UPDATE SET amount = {balance}.amount + excluded.amount");
///         tx.queue(&add, params![account, amount].into()).await?;
///         Ok(())
///     }
/// }
/// ```
///
/// Readers ask `SELECT amount FROM balance WHERE account = $1`.
pub trait Projection: Send + Sync + 'static {
    /// What it is called. Never changes.
    const NAME: &'static str;
    /// Of its rows: a new one is built beside the old one.
    const VERSION: u32;
    /// The names that readers use; [`Tables::name`] is what stands behind each.
    const TABLES: &'static [&'static str];
    /// What it reads.
    type Event: EventSet;

    /// The statements that make its tables.
    fn create(&self, tables: &Tables) -> String;

    /// Writes what an event means. Only through `tx`: what else it does is not undone with it.
    fn apply(
        &self,
        tx: &mut Tx,
        tables: &Tables,
        event: &Self::Event,
        of: &Recorded,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
