//! Which topic names are legal, and which collide.

/// Why a topic name is refused: Kafka's `INVALID_TOPIC_EXCEPTION` (17) with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, `.` or `..`.
    #[error("Topic name is invalid: {why}")]
    Reserved {
        /// Kafka's words.
        why: &'static str,
    },
    /// Longer than a name may be.
    #[error(
        "Topic name is invalid: the length of '{name}' is longer than the max allowed length {NAME_CHARACTERS_MAX}"
    )]
    TooLong {
        /// The name as given.
        name: String,
    },
    /// Contains what a name may not contain.
    #[error(
        "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters {
        /// The name as given.
        name: String,
    },
}

/// Whether `name` may name a topic.
pub fn check(name: &str) -> Result<(), NameError> {
    match name {
        "" => return Err(NameError::Reserved { why: "the empty string is not allowed" }),
        "." => return Err(NameError::Reserved { why: "'.' is not allowed" }),
        ".." => return Err(NameError::Reserved { why: "'..' is not allowed" }),
        _ => {}
    }
    if name.len() > NAME_CHARACTERS_MAX {
        return Err(NameError::TooLong { name: name.to_owned() });
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return Err(NameError::Characters { name: name.to_owned() });
    }
    Ok(())
}

/// The form in which names collide: metric names cannot tell `.` from `_`, so topics may not either.
#[must_use]
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// Characters of a topic name.
pub const NAME_CHARACTERS_MAX: usize = 249;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        for legal in ["orders", "a.b_c-D9", &"x".repeat(249)] {
            assert_eq!(check(legal), Ok(()), "{legal}");
        }
        for illegal in ["", ".", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(250)] {
            assert!(check(illegal).is_err(), "{illegal:?}");
        }
    }
}
