//! Cuts the record data of one produced partition at its batch boundaries.

use bytes::Bytes;

use super::{BATCH_PREFIX_BYTES, BatchError};

/// Gives each batch of `bytes` as its own slice of them, without copying; an error, and then
/// nothing, where a length does not fit. The batches are not checked otherwise.
pub fn split(bytes: Bytes) -> Split {
    Split { rest: bytes }
}

/// The iterator of [`split`].
#[derive(Clone, Debug)]
pub struct Split {
    rest: Bytes,
}

impl Iterator for Split {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        Some(self.cut(rest))
    }
}

impl Split {
    fn cut(&mut self, mut rest: Bytes) -> Result<Bytes, BatchError> {
        let present = rest.len();
        let Some((_, length)) =
            rest.first_chunk::<BATCH_PREFIX_BYTES>().and_then(|prefix| prefix.split_last_chunk())
        else {
            return Err(BatchError::TooShort { bytes: present, needed: BATCH_PREFIX_BYTES });
        };
        let declared = i32::from_be_bytes(*length);
        match usize::try_from(declared) {
            Ok(body) if body >= SMALLEST_BODY_BYTES && body <= present - BATCH_PREFIX_BYTES => {
                self.rest = rest.split_off(BATCH_PREFIX_BYTES + body);
                Ok(rest)
            }
            _ => Err(BatchError::Length { declared, present }),
        }
    }
}

/// The smallest message of any format (v0): smaller cannot be skipped with a meaning.
const SMALLEST_BODY_BYTES: usize = 14;
