//! Bytes that are no request, or not one that is served.

use ottla_kafka_proto::messages::api_versions::ApiVersionsRequest;
use ottla_kafka_proto::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use ottla_kafka_proto::{ApiKey, ApiVersion, CorrelationId, ErrorCode, Response, decode_response};

use crate::rig::{Client, Node};

/// A frame around the start of a header and `body`.
fn crafted(api: i16, version: i16, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&api.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(&(-1i16).to_be_bytes()); // no client id
    if flexible {
        frame.push(0); // no tags
    }
    frame.extend_from_slice(body);
    framed(&frame)
}

fn framed(content: &[u8]) -> Vec<u8> {
    let length = i32::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_that_no_request_has_close_the_connection() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    for length in [-1, i32::MIN, i32::MAX, 0, (100 << 20) + 1] {
        let mut hostile = node.client().await;
        hostile.raw(&i32::to_be_bytes(length)).await;
        hostile.must_be_closed_unanswered().await;
    }
    for bytes in 1..8 {
        let mut hostile = node.client().await;
        hostile.raw(&framed(&vec![0; bytes])).await; // too short for a header
        hostile.must_be_closed_unanswered().await;
    }
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_length_behind_a_good_request_closes_after_the_answer() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let mut bytes = client.frame(0, ApiVersionsRequest::default()).to_vec();
    bytes.extend_from_slice(&[0xff; 4]);
    client.raw(&bytes).await;
    let Response::ApiVersions(answer) = client.receive().await else { panic!() };
    assert_eq!(answer.error_code, ErrorCode::NONE);
    client.must_be_closed_unanswered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_other_protocols_are_turned_away_at_once() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let tls_client_hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let others: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /topics HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"AMQP\x00\x00\x09\x01",
        &tls_client_hello,
    ];
    for first_bytes in others {
        let mut lost = node.client().await;
        lost.raw(first_bytes).await;
        lost.must_be_closed_unanswered().await;
    }
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_requests_and_versions_close_the_connection() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let produce_before_batches = (ApiKey::Produce.code(), 2);
    let fetch_before_batches = (ApiKey::Fetch.code(), 3);
    let from_the_future = (ApiKey::Metadata.code(), 99);
    let below_zero = (ApiKey::Metadata.code(), -1);
    for (api, version) in [
        (i16::MAX, 0),
        (-1, 0),
        (92, 0),
        produce_before_batches,
        fetch_before_batches,
        from_the_future,
        below_zero,
    ] {
        let mut client = node.client().await;
        client.raw(&crafted(api, version, false, &[0; 64])).await;
        client.must_be_closed_unanswered().await;
    }
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_versions_too_new_is_answered_in_version_0_and_the_client_asks_again() {
    let node = Node::start().await;
    let mut client = node.client().await;
    client.raw(&crafted(ApiKey::ApiVersions.code(), 99, true, &[1, 1, 0])).await;
    let frame = client.receive_frame().await;
    let (id, answer) = decode_response(ApiKey::ApiVersions, ApiVersion(0), frame, 1000).unwrap();
    let Response::ApiVersions(answer) = answer else { panic!() };
    assert_eq!((id, answer.error_code), (CorrelationId(7), ErrorCode::UNSUPPORTED_VERSION));
    let code = ApiKey::ApiVersions.code();
    let own = answer.api_keys.iter().find(|range| range.api_key == code).unwrap();
    let request = ApiVersionsRequest {
        client_software_name: "it".into(),
        client_software_version: "1.0".into(),
    };
    let Response::ApiVersions(answer) = client.call(own.max_version, request).await else {
        panic!()
    };
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_software_name_that_is_none_is_an_invalid_request() {
    let node = Node::start().await;
    for (name, version) in [("", "1"), ("it", ""), ("-it", "1"), ("it!", "1"), ("it", "1.")] {
        let mut client = node.client().await;
        let request = ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: version.into(),
        };
        let Response::ApiVersions(answer) = client.call(3, request).await else { panic!() };
        assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST, "{name:?} {version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_larger_than_their_frame_close_the_connection() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let two_billion = i32::MAX.to_be_bytes();
    let five_byte_varint = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let endless_varint = [0xff; 10];
    let produce = |count: [u8; 4]| [&[0xff, 0xff, 0, 1, 0, 0, 0, 1][..], &count].concat();
    for (api, version, flexible, body) in [
        (ApiKey::Metadata, 1, false, two_billion.to_vec()),
        (ApiKey::Metadata, 9, true, five_byte_varint.to_vec()),
        (ApiKey::Metadata, 9, true, endless_varint.to_vec()),
        (ApiKey::Produce, 3, false, produce(two_billion)),
        (ApiKey::Produce, 3, false, produce(1_000_000i32.to_be_bytes())),
        (ApiKey::DeleteRecords, 0, false, two_billion.to_vec()),
        (ApiKey::CreateTopics, 4, false, two_billion.to_vec()),
        (ApiKey::ListOffsets, 1, false, [&[0; 4][..], &two_billion].concat()),
    ] {
        let mut hostile = node.client().await;
        hostile.raw(&crafted(api.code(), version, flexible, &body)).await;
        hostile.must_be_closed_unanswered().await;
    }
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strings_and_tags_that_reach_beyond_their_frame_close_the_connection() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let one_topic = 1i32.to_be_bytes();
    let long_name = [&one_topic[..], &[0x7f, 0xff], b"orders"].concat();
    let negative_name = [&one_topic[..], &[0xff, 0xfe]].concat();
    let tags_without_end = [0, 0, 0, 0, 0x7f];
    for (version, flexible, body) in [
        (1, false, &long_name[..]),
        (1, false, &negative_name),
        (1, false, &one_topic),
        (9, true, &tags_without_end),
        (9, true, &[]),
    ] {
        let mut hostile = node.client().await;
        hostile.raw(&crafted(ApiKey::Metadata.code(), version, flexible, body)).await;
        hostile.must_be_closed_unanswered().await;
    }
    innocent.is_served(&node).await;
}

/// Kafka sets no bound here; ours keeps what a request can make us remember in proportion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_items_than_any_client_asks_for_close_the_connection() {
    let node = Node::own(|config| config.auto_create_topics = false).await;
    let mut innocent = node.innocent().await;
    let topic = || MetadataRequestTopic { name: Some("".into()), ..Default::default() };
    let asking = |count: usize| MetadataRequest {
        topics: Some(std::iter::repeat_with(topic).take(count).collect()),
        ..Default::default()
    };
    let mut client = node.client().await;
    let Response::Metadata(answer) = client.call(4, asking(1_000)).await else { panic!() };
    assert_eq!(answer.topics.len(), 1_000);
    assert_eq!(answer.topics[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    let mut greedy: Client = node.client().await;
    greedy.send(4, asking(200_001)).await;
    greedy.must_be_closed_unanswered().await;
    innocent.is_served(&node).await;
}
