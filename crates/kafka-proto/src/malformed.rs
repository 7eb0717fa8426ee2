//! What can be wrong with foreign bytes and with values that have no encoding.

/// Bytes that are not the message they claim to be. The connection they came on is closed. `at` counts from the start of the frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The frame ends inside a field.
    #[error("the frame ends at byte {at}, {wanted} more bytes are needed")]
    Truncated {
        /// Where the field starts.
        at: usize,
        /// Bytes the field needs from there.
        wanted: usize,
    },
    /// A length below -1.
    #[error("negative length {len} at byte {at}")]
    NegativeLength {
        /// Where the length stands.
        at: usize,
        /// The length.
        len: i32,
    },
    /// Null where the version has no null.
    #[error("null at byte {at} where a value is needed")]
    Null {
        /// Where the null stands.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the string starts.
        at: usize,
    },
    /// A varint of more than 32 bits.
    #[error("a varint of more than 32 bits at byte {at}")]
    Varint {
        /// Where the varint starts.
        at: usize,
    },
    /// More items than the rest of the frame can hold, found before anything is allocated.
    #[error("an array of {count} items at byte {at} with only {left} bytes left")]
    ArrayTooLong {
        /// Where the array starts.
        at: usize,
        /// Items claimed.
        count: usize,
        /// Bytes left in the frame.
        left: usize,
    },
    /// More array items in one frame than [`crate::Limits::items_max`].
    #[error("more array items than one frame may hold, at byte {at}")]
    TooManyItems {
        /// Where the array starts that exceeds the limit.
        at: usize,
    },
    /// A tagged field whose value is longer or shorter than its size says.
    #[error("tagged field {tag} does not have the size it claims, at byte {at}")]
    TagSize {
        /// The tag.
        tag: u32,
        /// Where reading its value stopped.
        at: usize,
    },
    /// The length in front of a frame is negative or above what is allowed.
    #[error("a frame of {len} bytes, {max} are allowed")]
    FrameLength {
        /// The length.
        len: i32,
        /// What is allowed.
        max: usize,
    },
    /// An API or version this build has no table for; reached by callers that decode without the connection machine.
    #[error("api {api} has no version {version}")]
    Version {
        /// The API's key.
        api: i16,
        /// The version asked for.
        version: i16,
    },
}

/// A value the wire has no form for. It is a bug of the caller: close the connection and log it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unencodable {
    /// A string over 32767 bytes in a version that is not flexible.
    #[error("a string of {len} bytes does not fit this version")]
    StringTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// An array, byte field or message of 2 GiB or more.
    #[error("a length of {len} does not fit an int32")]
    TooLong {
        /// The length.
        len: usize,
    },
    /// An API has no such version.
    #[error("api {api} has no version {version}")]
    Version {
        /// The API's key.
        api: i16,
        /// The version asked for.
        version: i16,
    },
}
