//! Every message of every version: there and back, and against an independent codec.

use super::*;
use crate::dice::Dice;
use crate::messages::{Request, Response};

const ITEMS_MAX: usize = 100_000;

fn each_version(mut check: impl FnMut(ApiKey, ApiVersion)) {
    for spec in ApiKey::all() {
        for version in spec.first.0..=spec.last.0 {
            check(spec.key, ApiVersion(version));
        }
    }
}

fn random_request(api: ApiKey, version: ApiVersion, seed: u64) -> Request {
    let mut dice = Dice::reader(seed, api.spec().is_flexible(version));
    Request::decode(api, &mut dice, version).unwrap()
}

fn random_response(api: ApiKey, version: ApiVersion, seed: u64) -> Response {
    let mut dice = Dice::reader(seed, api.spec().is_flexible(version));
    Response::decode(api, &mut dice, version).unwrap()
}

fn header(api: ApiKey, version: ApiVersion) -> RequestHeader {
    RequestHeader { api, version, correlation_id: CorrelationId(77), client_id: Some("me".into()) }
}

fn without_length(encoded: &Encoded) -> Bytes {
    let bytes = encoded.to_bytes();
    assert_eq!(bytes[..4], u32::try_from(bytes.len() - 4).unwrap().to_be_bytes());
    bytes.slice(4..)
}

/// Compares as text, so that NaN equals NaN.
fn assert_same(
    left: &impl std::fmt::Debug,
    right: &impl std::fmt::Debug,
    api: ApiKey,
    v: ApiVersion,
) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"), "{api} v{v}");
}

#[test]
fn every_message_of_every_version_comes_back_as_it_went() {
    each_version(|api, version| {
        for seed in 0..40 {
            let request = random_request(api, version, seed);
            let frame = without_length(&encode_request(&header(api, version), &request).unwrap());
            let (back_header, back) = decode_request(frame, ITEMS_MAX).unwrap();
            assert_eq!(back_header, header(api, version));
            assert_same(&back, &request, api, version);

            let response = random_response(api, version, seed);
            let encoded = encode_response(CorrelationId(5), version, &response).unwrap();
            let frame = without_length(&encoded);
            let (id, back) = decode_response(api, version, frame, ITEMS_MAX).unwrap();
            assert_eq!(id, CorrelationId(5));
            assert_same(&back, &response, api, version);
        }
    });
}

/// What the other codec makes of our body: read it all and write it again. `None` if its tables end before this version.
macro_rules! through_the_other_codec {
    ($kind:ident, $api:expr, $version:expr, $message:expr) => {{
        let (api, version): (ApiKey, ApiVersion) = ($api, $version);
        let mut w = Writer::bare();
        w.set_flexible(api.spec().is_flexible(version));
        $message.encode(&mut w, version);
        let ours = w.finish_blob().unwrap();
        let mut rest = ours.clone();
        let key = kafka_protocol::messages::ApiKey::try_from(api.code()).unwrap();
        match kafka_protocol::messages::$kind::decode(key, &mut rest, version.0) {
            Ok(read) => {
                assert!(rest.is_empty(), "{api} v{version}: {} bytes left", rest.len());
                let mut theirs = bytes::BytesMut::new();
                read.encode(&mut theirs, version.0).unwrap();
                assert_eq!(ours, theirs, "{api} v{version} {read:?}");
                true
            }
            Err(error) => {
                let error = format!("{error:#}");
                assert!(
                    error.contains("specified version not supported"),
                    "{api} v{version}: {error}"
                );
                false
            }
        }
    }};
}

/// Each side reads what the other writes, byte for byte, wherever the other has tables at all.
#[test]
fn an_independent_codec_reads_and_writes_the_same_bytes() {
    let mut only_here = std::collections::BTreeSet::new();
    each_version(|api, version| {
        for seed in 0..40 {
            let request = random_request(api, version, seed);
            if !through_the_other_codec!(RequestKind, api, version, request) {
                only_here.insert(format!("{api} request {version}"));
            }
            let response = random_response(api, version, seed);
            if !through_the_other_codec!(ResponseKind, api, version, response) {
                only_here.insert(format!("{api} response {version}"));
            }
        }
    });
    // What Kafka 4.2 and 4.3 added, or 4.1 still kept back: verified against the published tables by hand.
    let expected = [
        ("DescribeLogDirs", 5, "both"),
        ("DescribeShareGroupOffsets", 1, "both"),
        ("ListOffsets", 11, "both"),
        ("OffsetCommit", 10, "request"),
        ("OffsetFetch", 10, "request"),
        ("ShareAcknowledge", 2, "both"),
        ("ShareFetch", 2, "both"),
        ("WriteTxnMarkers", 2, "both"),
    ];
    let mut expected_here = std::collections::BTreeSet::new();
    for (api, version, halves) in expected {
        expected_here.insert(format!("{api} request {version}"));
        if halves == "both" {
            expected_here.insert(format!("{api} response {version}"));
        }
    }
    assert_eq!(only_here, expected_here);
}

#[test]
fn every_prefix_of_every_message_is_refused() {
    each_version(|api, version| {
        for seed in 0..6 {
            let request = random_request(api, version, seed);
            let frame = without_length(&encode_request(&header(api, version), &request).unwrap());
            for end in 0..frame.len() {
                let result = decode_request(frame.slice(..end), ITEMS_MAX);
                assert!(result.is_err(), "{api} v{version}: {end} of {} bytes", frame.len());
            }
            let response = random_response(api, version, seed);
            let encoded = encode_response(CorrelationId(5), version, &response).unwrap();
            let frame = without_length(&encoded);
            for end in 0..frame.len() {
                let result = decode_response(api, version, frame.slice(..end), ITEMS_MAX);
                assert!(result.is_err(), "{api} v{version}: {end} of {} bytes", frame.len());
            }
        }
    });
}

/// Whatever a byte is changed to, the answer is a value or an error, never a panic, and arrays stay within the frame.
#[test]
fn damaged_messages_are_judged_not_believed() {
    let mut dice = Dice::reader(99, false);
    each_version(|api, version| {
        for seed in 0..6 {
            let request = random_request(api, version, seed);
            let good = without_length(&encode_request(&header(api, version), &request).unwrap());
            for _ in 0..20 {
                let mut bad = good.to_vec();
                let place = usize::from(dice.u16().unwrap()) % bad.len();
                bad[place] ^= dice.i8().unwrap().to_be_bytes()[0] | 1;
                decode_request(bad.into(), ITEMS_MAX).ok();
            }
        }
    });
}

fn produce_head(version: i16) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, u8::try_from(version).unwrap(), 0, 0, 0, 1, 0xff, 0xff];
    if version >= 9 {
        frame.extend([0, 0, 0, 1, 0, 0, 0, 9]); // tags, transactional id, acks, timeout
    } else {
        frame.extend([0xff, 0xff, 0, 1, 0, 0, 0, 9]);
    }
    frame
}

#[test]
fn an_array_of_more_items_than_bytes_is_refused_before_allocating() {
    let mut frame = produce_head(11);
    frame.extend([0xff, 0xff, 0xff, 0xff, 0x0f]); // 2^32 - 2 topics, which would be 400 GB
    let refused = decode_request(frame.into(), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::ArrayTooLong { count: 0xffff_fffe, left: 0, .. }));

    let mut frame = produce_head(3);
    frame.extend([0x7f, 0xff, 0xff, 0xff, 0, 0]);
    let refused = decode_request(frame.into(), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::ArrayTooLong { count: 0x7fff_ffff, left: 2, .. }));
}

#[test]
fn more_items_than_a_frame_may_hold_are_refused_over_all_arrays_together() {
    let topic = || crate::messages::metadata::MetadataRequestTopic {
        name: Some("t".into()),
        ..Default::default()
    };
    let topics: Vec<_> = (0..101).map(|_| topic()).collect();
    let request = Request::from(crate::messages::MetadataRequest {
        topics: Some(topics),
        ..Default::default()
    });
    let header = header(ApiKey::Metadata, ApiVersion(9));
    let frame = without_length(&encode_request(&header, &request).unwrap());
    assert!(decode_request(frame.clone(), 101).is_ok());
    let refused = decode_request(frame, 100).unwrap_err();
    assert!(matches!(refused, Malformed::TooManyItems { .. }));
}

#[test]
fn lengths_and_nulls_that_the_version_does_not_have_are_refused() {
    let mut frame = produce_head(3);
    frame.extend([0xff, 0xff, 0xff, 0xfe]);
    let refused = decode_request(frame.into(), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::NegativeLength { len: -2, .. }));

    let mut frame = produce_head(3);
    frame.extend([0xff, 0xff, 0xff, 0xff]);
    let refused = decode_request(frame.into(), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::Null { .. }));

    let mut frame = produce_head(9);
    frame.extend([0xff, 0xff, 0xff, 0xff, 0x1f]); // 33 bits
    let refused = decode_request(frame.into(), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::Varint { .. }));

    let heartbeat = b"\0\x0c\0\0\0\0\0\x01\xff\xff\0\x02\xc3\x28\0\0\0\x01\0\x01m";
    let refused = decode_request(Bytes::from_static(heartbeat), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::NotUtf8 { .. }));
}

#[test]
fn unknown_tagged_fields_are_skipped_and_lying_ones_refused() {
    let mut frame = produce_head(9);
    frame.extend([1, 2, 7, 3, b'a', b'b', b'c', 99, 0]); // no topics, tags 7 (3 bytes) and 99 (none)
    assert!(decode_request(frame.into(), ITEMS_MAX).is_ok());

    let mut frame = produce_head(9);
    frame.extend([1, 1, 7, 200, 1, 0]); // tag 7 claims 200 bytes
    let refused = decode_request(frame.into(), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::Truncated { wanted: 200, .. }));

    // Fetch v12, cluster id (tag 0) in a field of 5 bytes, of which the string takes 3
    let fetch: &[u8] =
        b"\0\x01\0\x0c\0\0\0\x01\xff\xff\0\xff\xff\xff\xff\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\
        \0\0\0\0\0\0\0\0\x01\x01\x01\x01\0\x05\x03abcd";
    let refused = decode_request(Bytes::from_static(fetch), ITEMS_MAX).unwrap_err();
    assert!(matches!(refused, Malformed::TagSize { tag: 0, .. }), "{refused}");
}

#[test]
fn a_string_too_long_for_its_version_is_reported_not_cut() {
    let request = crate::messages::HeartbeatRequest {
        group_id: "g".repeat(40_000).into(),
        ..Default::default()
    };
    let request = Request::from(request);
    let result = encode_request(&header(ApiKey::Heartbeat, ApiVersion(3)), &request);
    assert_eq!(result.unwrap_err(), Unencodable::StringTooLong { len: 40_000 });
    assert!(encode_request(&header(ApiKey::Heartbeat, ApiVersion(4)), &request).is_ok());
}

#[test]
fn versions_without_a_table_are_refused_both_ways() {
    let request = Request::from(crate::messages::ProduceRequest::default());
    let too_old = header(ApiKey::Produce, ApiVersion(2));
    assert_eq!(
        encode_request(&too_old, &request).unwrap_err(),
        Unencodable::Version { api: 0, version: 2 }
    );
    let refused = decode_request(produce_head(2).into(), ITEMS_MAX).unwrap_err();
    assert_eq!(refused, Malformed::Version { api: 0, version: 2 });
}

#[test]
fn frames_are_taken_one_by_one_as_they_arrive() {
    let mut input = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03c"[..]);
    assert_eq!(take_frame(&mut input, 3), Ok(Some(Bytes::from_static(b"ab"))));
    assert_eq!(take_frame(&mut input, 3), Ok(Some(Bytes::new())));
    assert_eq!(take_frame(&mut input, 3), Ok(None));
    assert_eq!(take_frame(&mut input, 2), Err(Malformed::FrameLength { len: 3, max: 2 }));
    let mut negative = BytesMut::from(&[0xff; 4][..]);
    assert_eq!(take_frame(&mut negative, 3), Err(Malformed::FrameLength { len: -1, max: 3 }));
}
