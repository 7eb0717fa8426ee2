//! The blobs that consumers exchange through JoinGroup and SyncGroup: subscription and assignment, with their version in front.

use bytes::Bytes;

use crate::api::ApiVersion;
use crate::malformed::{Malformed, Unencodable};
use crate::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use crate::reader::Reader;
use crate::writer::Writer;

/// The newest version this side knows. A newer blob is read as this one: versions only append (KIP-54).
pub const VERSION_LAST: ApiVersion = ApiVersion(3);

/// Reads a member's metadata of a group with the protocol type `consumer`.
///
/// # Errors
/// [`Malformed`], also for a negative version.
pub fn decode_subscription(
    blob: Bytes,
    items_max: usize,
) -> Result<ConsumerProtocolSubscription, Malformed> {
    let mut r = Reader::new(blob, items_max);
    let version = version(&mut r)?;
    ConsumerProtocolSubscription::decode(&mut r, version)
}

/// Writes a member's metadata in `version`, at most [`VERSION_LAST`].
///
/// # Errors
/// [`Unencodable`] if a string or list is too long.
pub fn encode_subscription(
    subscription: &ConsumerProtocolSubscription,
    version: ApiVersion,
) -> Result<Bytes, Unencodable> {
    let mut w = Writer::bare();
    w.i16(version.0);
    subscription.encode(&mut w, version);
    w.finish_blob()
}

/// Reads a member's assignment. An empty blob is no assignment.
///
/// # Errors
/// [`Malformed`], also for a negative version.
pub fn decode_assignment(
    blob: Bytes,
    items_max: usize,
) -> Result<ConsumerProtocolAssignment, Malformed> {
    if blob.is_empty() {
        return Ok(ConsumerProtocolAssignment::default());
    }
    let mut r = Reader::new(blob, items_max);
    let version = version(&mut r)?;
    ConsumerProtocolAssignment::decode(&mut r, version)
}

/// Writes a member's assignment in `version`, at most [`VERSION_LAST`].
///
/// # Errors
/// [`Unencodable`] if a string or list is too long.
pub fn encode_assignment(
    assignment: &ConsumerProtocolAssignment,
    version: ApiVersion,
) -> Result<Bytes, Unencodable> {
    let mut w = Writer::bare();
    w.i16(version.0);
    assignment.encode(&mut w, version);
    w.finish_blob()
}

fn version(r: &mut Reader) -> Result<ApiVersion, Malformed> {
    let version = ApiVersion(r.i16()?);
    if version.0 < 0 {
        return Err(Malformed::Version { api: -1, version: version.0 });
    }
    Ok(version.min(VERSION_LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_from_a_newer_client_is_read_as_the_newest_known() {
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["orders".into()],
            generation_id: 7,
            ..Default::default()
        };
        let mut blob = encode_subscription(&subscription, VERSION_LAST).unwrap().to_vec();
        blob[1] = 9;
        blob.extend_from_slice(b"a field of the future");
        assert_eq!(decode_subscription(blob.into(), 10).unwrap(), subscription);
    }

    #[test]
    fn an_empty_assignment_is_none_and_a_full_one_comes_back() {
        assert_eq!(decode_assignment(Bytes::new(), 10).unwrap(), Default::default());
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![
                crate::messages::consumer_protocol_assignment::AssignedPartitions {
                    topic: "orders".into(),
                    partitions: vec![0, 1],
                },
            ],
            user_data: Some(Bytes::from_static(b"sticky")),
        };
        let blob = encode_assignment(&assignment, ApiVersion(0)).unwrap();
        assert_eq!(
            *blob,
            *b"\0\0\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x06sticky"
        );
        assert_eq!(decode_assignment(blob.clone(), 10).unwrap(), assignment);
        for end in 1..blob.len() {
            assert!(decode_assignment(blob.slice(..end), 10).is_err());
        }
    }

    #[test]
    fn an_independent_codec_reads_and_writes_the_same_blobs() {
        use kafka_protocol::messages as other;
        use kafka_protocol::protocol::{Decodable, Encodable};
        for version in (0..=VERSION_LAST.0).map(ApiVersion) {
            for seed in 0..40 {
                let mut dice = crate::dice::Dice::reader(seed, false);
                let ours = ConsumerProtocolSubscription::decode(&mut dice, version).unwrap();
                let blob = encode_subscription(&ours, version).unwrap();
                let mut body = blob.slice(2..);
                let theirs =
                    other::ConsumerProtocolSubscription::decode(&mut body, version.0).unwrap();
                let mut again = bytes::BytesMut::new();
                theirs.encode(&mut again, version.0).unwrap();
                assert_eq!((body.len(), &blob[2..]), (0, &again[..]), "{ours:?}");
                assert_eq!(decode_subscription(blob, 1000).unwrap(), ours);

                let ours = ConsumerProtocolAssignment::decode(&mut dice, version).unwrap();
                let blob = encode_assignment(&ours, version).unwrap();
                let mut body = blob.slice(2..);
                let theirs =
                    other::ConsumerProtocolAssignment::decode(&mut body, version.0).unwrap();
                let mut again = bytes::BytesMut::new();
                theirs.encode(&mut again, version.0).unwrap();
                assert_eq!((body.len(), &blob[2..]), (0, &again[..]), "{ours:?}");
                assert_eq!(decode_assignment(blob, 1000).unwrap(), ours);
            }
        }
    }
}
