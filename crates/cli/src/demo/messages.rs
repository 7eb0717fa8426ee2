//! What the services say to each other. The key of all of them is the order.

use ottla::Message;
use serde::{Deserialize, Serialize};

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $text:literal { $($field:ident: $type:ty),* $(,)? })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, Message)]
        #[message(name = $text, key = "order")]
        pub(crate) struct $name { pub(crate) order: String, $(pub(crate) $field: $type),* })*
    };
}

messages! {
    OrderPlaced = "order.placed" { customer: String, item: String, cents: i64 }
    OrderConfirmed = "order.confirmed" { customer: String }
    OrderRejected = "order.rejected" { customer: String, why: String }

    Reserve = "inventory.reserve" { item: String }
    Reserved = "inventory.reserved" {}
    OutOfStock = "inventory.out-of-stock" {}
    Release = "inventory.release" { item: String }
    Released = "inventory.released" {}

    Charge = "payment.charge" { customer: String, cents: i64 }
    Charged = "payment.charged" {}
    Declined = "payment.declined" {}
    Refund = "payment.refund" { customer: String, cents: i64 }
    Refunded = "payment.refunded" {}
    /// To be looked at a moment after a payment was declined.
    Reminder = "payment.reminder" { customer: String }

    Ship = "shipping.ship" { customer: String }
    Shipped = "shipping.shipped" {}
}

/// A row that the catalogue service owns and others keep a view of.
#[derive(Clone, Debug, Serialize, Deserialize, Message)]
#[message(name = "price.changed", key = "item")]
pub(crate) struct Price {
    pub(crate) item: String,
    pub(crate) cents: i64,
    pub(crate) revision: u64,
}
