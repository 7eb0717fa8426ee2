//! Groups: who consumes together, what each member is to do, and how far they have come. Pure
//! machines; knows no log, no lock and no wire.

pub mod classic;
mod effect;
mod ids;
pub mod offsets;

pub use effect::Effect;
pub use ids::{Generation, GroupId, InstanceId, MemberId, Ticket};
