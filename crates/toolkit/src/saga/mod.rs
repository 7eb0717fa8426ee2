//! Sagas: a business transaction over several services, as steps that can be undone.
//!
//! A [`Saga`] is a value: which message begins it, what each step asks of whom, which answer means that
//! it is done or refused, and what undoes it. It is executed, drawn ([`Saga::mermaid`]) and tested
//! ([`given`]) from that one definition. Deciding is pure: no clock, no chance, no database.
//!
//! ```
//! use ottla::Message;
//! use ottla::saga::{Saga, given, step};
//! use serde::{Deserialize, Serialize};
//!
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "order.placed", key = "order")]
//! # struct OrderPlaced { order: String, cents: u64 }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "stock.reserve", key = "order")]
//! # struct Reserve { order: String }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "stock.reserved", key = "order")]
//! # struct Reserved { order: String }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "stock.release", key = "order")]
//! # struct Release { order: String }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "stock.released", key = "order")]
//! # struct Released { order: String }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "payment.charge", key = "order")]
//! # struct Charge { order: String, cents: u64 }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "payment.charged", key = "order")]
//! # struct Charged { order: String }
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
//! # #[message(name = "payment.declined", key = "order")]
//! # struct Declined { order: String }
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Checkout { order: String, cents: u64 }
//!
//! let checkout = Saga::starts_on("checkout", "orders", |placed: OrderPlaced| Checkout {
//!     order: placed.order,
//!     cents: placed.cents,
//! })
//! .step(
//!     step("reserve", "queue:stock", |c: &Checkout| Reserve { order: c.order.clone() })
//!         .done_on::<Reserved>("stock-events")
//!         .undo("queue:stock", |c| Release { order: c.order.clone() })
//!         .undone_on::<Released>("stock-events"),
//! )
//! .step(
//!     step("charge", "queue:payment", |c: &Checkout| Charge { order: c.order.clone(), cents: c.cents })
//!         .done_on::<Charged>("payments")
//!         .failed_on::<Declined>("payments"),
//! );
//!
//! let order = || "o-1".to_owned();
//! given(&checkout, &OrderPlaced { order: order(), cents: 4_200 })
//!     .then_sends("queue:stock", &Reserve { order: order() })
//!     .when(&Reserved { order: order() })
//!     .then_sends("queue:payment", &Charge { order: order(), cents: 4_200 })
//!     .when(&Declined { order: order() }) // so what was done is undone, the last first
//!     .then_sends("queue:stock", &Release { order: order() })
//!     .when(&Released { order: order() })
//!     .then_failed("charge: payment.declined");
//! ```
//!
//! **Which saga a message belongs to** is said by its key: all messages of one saga have the key that
//! began it.
//!
//! **What participants must bear.** A step that did not answer in time is undone without anybody knowing
//! whether it was done: its undo may come *before* the request it undoes. A participant answers the undo
//! and remembers it, so that the request is refused when it comes. An undo is asked again until it is
//! answered: it must be idempotent.

mod definition;
mod diagram;
mod instance;
mod operator;
mod step;
mod store;
mod testing;

pub use self::definition::Saga;
pub use self::instance::{Instance, Moment, Phase, Turn};
pub use self::operator::{SagaOperator, Standing};
pub use self::step::{Asked, Step, Undoing, step};
pub use self::store::{Moved, Sagas};
pub use self::testing::{Given, given};

#[cfg(test)]
mod tests;
