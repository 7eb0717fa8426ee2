//! The names and numbers of groups and their members.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name!(
    /// A group's name: Kafka's `group.id`.
    GroupId
);
name!(
    /// A member's name: given by the broker in the classic protocol, by the client in KIP-848.
    MemberId
);
name!(
    /// The name that a static member keeps over its restarts: `group.instance.id` (KIP-345).
    InstanceId
);

/// How a waiting request is answered: drawn by the caller, unique, answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How often a classic group has completed its join phase; a new group has 0, "none" is -1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub i32);

impl Generation {
    /// What a simple consumer sends: it is no member.
    pub const NONE: Self = Self(-1);

    /// The generation after this one; starts over at 1 after the last.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(next) => Self(next),
            None => Self(1),
        }
    }
}

impl MemberId {
    /// `prefix` (client or instance id), a dash and a UUID, as Kafka's broker names its members.
    #[must_use]
    pub fn generate(prefix: &str, uuid: [u8; 16]) -> Self {
        use std::fmt::Write;
        let mut text = String::with_capacity(prefix.len() + 37);
        text.push_str(prefix);
        text.push('-');
        for (place, byte) in uuid.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            write!(text, "{byte:02x}").unwrap_or_default(); // writing to a String cannot fail
        }
        text.into()
    }
}
