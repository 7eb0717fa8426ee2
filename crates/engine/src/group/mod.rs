//! Groups: who consumes together, what each member is to do, and how far they have come. Pure
//! machines; knows no log, no lock and no wire.

pub mod assignor;
pub mod classic;
pub mod consumer;
mod effect;
mod ids;
pub mod offsets;
mod one;
pub mod share;
mod subscription;

pub use effect::Effect;
pub use ids::{Generation, GroupId, InstanceId, MemberId, Ticket};
pub use one::{
    DeleteError, Group, GroupEffect, GroupRecord, GroupSettings, OtherProtocol, Protocol,
    RememberedGroup, State,
};
