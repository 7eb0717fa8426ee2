//! What holds for a whole virtual host: policies, permissions, limits. Pure; nothing here is stored.

mod access;
mod limits;
mod pattern;
mod policy;

pub use access::{Access, Permissions, Refused, Resource, TopicPermissions};
pub use limits::{LimitReached, Limits};
pub use pattern::{BadPattern, Pattern};
pub use policy::{ApplyTo, Policy, Target};
