//! What services say to each other: a type with a name, a version and perhaps a key.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A contract between services: its name and version outlive the Rust type.
///
/// ```
/// use ottla::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Message)]
/// #[message(name = "order.paid", v = 2, key = "order_id")]
/// struct OrderPaid {
///     order_id: String,
///     cents: u64,
/// }
///
/// let paid = OrderPaid { order_id: "o-1".to_owned(), cents: 4_200 };
/// assert_eq!((OrderPaid::NAME, OrderPaid::VERSION), ("order.paid", 2));
/// assert_eq!(paid.key().as_deref(), Some("o-1"));
/// ```
///
/// A name is required, and the key is a field:
///
/// ```compile_fail
/// #[derive(serde::Serialize, serde::Deserialize, ottla::Message)]
/// #[message(name = "order.paid", key = "no_such_field")]
/// struct OrderPaid { order_id: String }
/// ```
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is called on the wire (CloudEvents' `type`). Never changes.
    const NAME: &'static str;
    /// Of its shape, from 1. Raise it when a reader must do something about older ones, see [`upcast`](Self::upcast).
    const VERSION: u16 = 1;

    /// What keeps its order: messages with the same key are handled one after the other, in the order
    /// of their publication.
    fn key(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Turns the JSON of an older version (below [`VERSION`](Self::VERSION)) into today's. As it is by
    /// default: what was added has a default, what was removed is ignored.
    #[must_use]
    fn upcast(version: u16, body: serde_json::Value) -> serde_json::Value {
        let _ = version;
        body
    }
}
