//! Frames written down byte by byte from the protocol guide, and the promise that records are not copied.

use bytes::Bytes;

use super::*;
use crate::error_code::ErrorCode;
use crate::messages::api_versions::ApiVersionRange;
use crate::messages::fetch::{FetchableTopicResponse, PartitionData};
use crate::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::messages::{ApiVersionsResponse, FetchResponse, ProduceRequest};
use crate::value::{Records, Uuid};
use crate::writer::SPLICE_BYTES_MIN;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn api_versions() -> Response {
    Response::from(ApiVersionsResponse {
        error_code: ErrorCode::NONE,
        api_keys: vec![ApiVersionRange { api_key: 18, min_version: 0, max_version: 4 }],
        ..Default::default()
    })
}

/// KIP-511: the header stays at version 0 (no tags) while the body becomes flexible in version 3.
#[test]
fn api_versions_answers_have_the_bytes_of_the_protocol_guide() {
    let head = "00000007"; // correlation id
    for (version, body) in [
        (0, "0000 00000001 0012 0000 0004"),
        (1, "0000 00000001 0012 0000 0004 00000000"),
        (2, "0000 00000001 0012 0000 0004 00000000"),
        (3, "0000 02 0012 0000 0004 00 00000000 00"),
        (4, "0000 02 0012 0000 0004 00 00000000 00"),
    ] {
        let body = format!("{head}{}", body.replace(' ', ""));
        let expected = format!("{:08x}{body}", body.len() / 2);
        let encoded =
            encode_response(CorrelationId(7), ApiVersion(version), &api_versions()).unwrap();
        assert_eq!(hex(&encoded.to_bytes()), expected, "version {version}");
    }
}

#[test]
fn api_versions_requests_are_read_from_the_bytes_of_real_clients() {
    // librdkafka: version 3, client id "rdkafka", software "librdkafka" 2.3.0
    let frame = b"\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0\x0blibrdkafka\x062.3.0\0";
    let (header, request) = decode_request(Bytes::from_static(frame), 10).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("rdkafka"));
    let Request::ApiVersions(request) = request else { panic!("{request:?}") };
    assert_eq!(request.client_software_name, "librdkafka");
    assert_eq!(request.client_software_version, "2.3.0");

    let (header, _) =
        decode_request(Bytes::from_static(b"\0\x12\0\0\0\0\0\x02\xff\xff"), 10).unwrap();
    assert_eq!((header.version, header.client_id), (ApiVersion(0), None));
}

fn finalized() -> Response {
    let name = |name: &str, level| crate::messages::api_versions::FinalizedFeatureKey {
        name: name.into(),
        max_version_level: level,
        min_version_level: level,
    };
    Response::from(ApiVersionsResponse {
        finalized_features_epoch: 9,
        finalized_features: vec![name("group.version", 1)],
        ..Default::default()
    })
}

#[test]
fn tagged_fields_are_written_only_when_they_differ_and_in_order() {
    let encoded = encode_response(CorrelationId(1), ApiVersion(4), &finalized()).unwrap();
    let expected = "00000001 0000 01 00000000 02 \
        01 08 0000000000000009 \
        02 14 02 0e67726f75702e76657273696f6e 0001 0001 00"
        .replace(' ', "");
    assert_eq!(hex(&encoded.to_bytes()[4..]), expected);
}

fn produce(records: Bytes) -> Request {
    Request::from(ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "orders".into(),
            partition_data: vec![PartitionProduceData { index: 3, records: Some(records) }],
            ..Default::default()
        }],
    })
}

fn produce_header(version: i16) -> RequestHeader {
    RequestHeader {
        api: ApiKey::Produce,
        version: ApiVersion(version),
        correlation_id: CorrelationId(5),
        client_id: Some("p".into()),
    }
}

#[test]
fn produce_requests_have_the_bytes_of_the_protocol_guide() {
    let request = produce(Bytes::from_static(b"batch"));
    let encoded = encode_request(&produce_header(7), &request).unwrap();
    let expected = "0000 0007 00000005 0001 70 \
        ffff ffff 00007530 00000001 0006 6f7264657273 00000001 00000003 00000005 6261746368"
        .replace(' ', "");
    assert_eq!(hex(&encoded.to_bytes()[4..]), expected);

    let encoded = encode_request(&produce_header(9), &request).unwrap();
    let expected = "0000 0009 00000005 0001 70 00 \
        00 ffff 00007530 02 07 6f7264657273 02 00000003 06 6261746368 00 00 00"
        .replace(' ', "");
    assert_eq!(hex(&encoded.to_bytes()[4..]), expected);
}

fn fetch(records: impl Into<Records>) -> Response {
    Response::from(FetchResponse {
        session_id: 8,
        responses: vec![FetchableTopicResponse {
            topic: "t".into(),
            topic_id: Uuid([0xab; 16]),
            partitions: vec![PartitionData {
                partition_index: 2,
                high_watermark: 10,
                last_stable_offset: 9,
                log_start_offset: 1,
                aborted_transactions: Some(Vec::new()),
                records: Some(records.into()),
                ..Default::default()
            }],
        }],
        ..Default::default()
    })
}

#[test]
fn fetch_answers_have_the_bytes_of_the_protocol_guide() {
    let response = fetch(Bytes::from_static(b"batch"));
    let encoded = encode_response(CorrelationId(6), ApiVersion(4), &response).unwrap();
    let expected = "00000006 00000000 00000001 0001 74 00000001 \
        00000002 0000 000000000000000a 0000000000000009 00000000 00000005 6261746368"
        .replace(' ', "");
    assert_eq!(hex(&encoded.to_bytes()[4..]), expected);

    let encoded = encode_response(CorrelationId(6), ApiVersion(13), &response).unwrap();
    let expected = "00000006 00 00000000 0000 00000008 02 abababababababababababababababab 02 \
        00000002 0000 000000000000000a 0000000000000009 0000000000000001 01 ffffffff \
        06 6261746368 00 00 00"
        .replace(' ', "");
    assert_eq!(hex(&encoded.to_bytes()[4..]), expected);
}

#[test]
fn a_fetch_answer_shares_the_records_instead_of_copying_them() {
    let records = Bytes::from(vec![7; 16 * 1024]);
    let encoded =
        encode_response(CorrelationId(6), ApiVersion(12), &fetch(records.clone())).unwrap();
    let shared: Vec<_> =
        encoded.pieces().iter().filter(|p| p.as_ptr() == records.as_ptr()).collect();
    assert_eq!(shared, [&records]);
    assert_eq!(encoded.len(), encoded.pieces().iter().map(Bytes::len).sum::<usize>());
    assert_eq!(encoded.pieces().len(), 3);

    let small = Bytes::from(vec![7; SPLICE_BYTES_MIN - 1]);
    let encoded = encode_response(CorrelationId(6), ApiVersion(12), &fetch(small)).unwrap();
    assert_eq!(encoded.pieces().len(), 1, "few bytes are cheaper to copy");
}

#[test]
fn records_in_pieces_are_the_records_in_one() {
    let sizes = [3000, 1, SPLICE_BYTES_MIN, 0, SPLICE_BYTES_MIN - 1, 9];
    let pieces: Vec<Bytes> = sizes.iter().map(|size| vec![7; *size].into()).collect();
    let one = Bytes::from(pieces.concat());
    for version in [4, 12, 13] {
        let version = ApiVersion(version);
        let cut = encode_response(CorrelationId(6), version, &fetch(pieces.clone())).unwrap();
        let whole = encode_response(CorrelationId(6), version, &fetch(one.clone())).unwrap();
        assert_eq!(cut.to_bytes(), whole.to_bytes());
        for piece in pieces.iter().filter(|piece| piece.len() >= SPLICE_BYTES_MIN) {
            let is_shared = |sent: &&Bytes| sent.as_ptr() == piece.as_ptr();
            assert_eq!(cut.pieces().iter().filter(is_shared).count(), 1, "not copied");
        }
    }
    assert_eq!(Records::from(pieces), Records::from(one));
}

#[test]
fn a_produce_request_shares_the_records_with_its_frame() {
    let encoded = encode_request(&produce_header(9), &produce(vec![7; 4096].into())).unwrap();
    let frame = encoded.to_bytes().slice(4..);
    let (_, request) = decode_request(frame.clone(), 10).unwrap();
    let Request::Produce(request) = request else { panic!("{request:?}") };
    let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
    assert_eq!(records.len(), 4096);
}
