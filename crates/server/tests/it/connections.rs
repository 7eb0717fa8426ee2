//! Clients that dawdle, hang, rush or never listen: they cost little, and nobody else notices.

use std::time::Duration;

use ottla_kafka_proto::messages::api_versions::ApiVersionsRequest;
use ottla_kafka_proto::messages::metadata::MetadataRequest;
use ottla_kafka_proto::{ErrorCode, Response};
use ottla_server::config::Listen;
use tokio::time::timeout;

use crate::rig::{Client, Node, batch, fetching, producing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_byte_by_byte_is_answered() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("slow").await;
    let mut slow = node.client().await;
    let bytes = slow.frame(9, producing(&topic, -1, Some(batch(&["slow but sure"]))));
    for (at, byte) in bytes.iter().enumerate() {
        slow.raw(&[*byte]).await;
        tokio::task::yield_now().await;
        if at == bytes.len() / 2 {
            innocent.is_served(&node).await;
        }
    }
    let Response::Produce(answer) = slow.receive().await else { panic!() };
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_from_a_client_that_hangs_or_dies_disturbs_nobody() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("half").await;
    let mut hanging = Vec::new();
    for bytes in [1, 4, 20, 90] {
        let mut client = node.client().await;
        let frame = client.frame(9, producing(&topic, -1, Some(batch(&["never whole"]))));
        client.raw(&frame[..bytes]).await;
        hanging.push(client);
        let mut client = node.client().await;
        let frame = client.frame(9, producing(&topic, -1, Some(batch(&["never whole"]))));
        client.raw(&frame[..bytes]).await;
        drop(client);
    }
    innocent.is_served(&node).await;
    assert_eq!(node.client().await.fetch(&topic, 0).await.high_watermark, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_clients_do_not_hold_up_a_stop() {
    let mut node = Node::own(|_| {}).await;
    let topic = node.topic("stopped").await;
    let mut half = node.client().await;
    let frame = half.frame(9, producing(&topic, -1, Some(batch(&["never whole"]))));
    half.raw(&frame[..30]).await;
    let idle = node.client().await;
    let mut waiting = node.client().await;
    let mut request = fetching(&topic, 0);
    request.max_wait_ms = 60_000;
    waiting.send(12, request).await;
    timeout(Duration::from_secs(5), node.stop()).await.expect("a stop within five seconds");
    half.must_be_closed_unanswered().await;
    idle.must_be_closed_unanswered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_idle_connections_disturb_nobody() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let mut idle: Vec<Client> = Vec::new();
    for _ in 0..300 {
        idle.push(node.client().await);
    }
    innocent.is_served(&node).await;
    for client in idle.iter_mut().step_by(50) {
        let answer = client.call(0, ApiVersionsRequest::default()).await;
        let Response::ApiVersions(answer) = answer else { panic!() };
        assert_eq!(answer.error_code, ErrorCode::NONE, "an idle connection wakes up");
    }
}

/// What waits for the disk, what waits for nothing and what waits for time, all in one pipe. A fetch
/// that was sent before a produce was answered may or may not see it: docs/differences.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_strictly_in_order() {
    let node = Node::start().await;
    let topic = node.topic("pipe").await;
    let mut client = node.client().await;
    for round in 0..50 {
        client.send(9, producing(&topic, -1, Some(batch(&["piped"])))).await;
        client.send(0, ApiVersionsRequest::default()).await;
        let mut waiting = fetching(&topic, 0);
        waiting.min_bytes = 1 << 20;
        waiting.max_wait_ms = i32::from(round % 10 == 0) * 20;
        client.send(12, waiting).await;
        client.send(9, MetadataRequest { topics: Some(Vec::new()), ..Default::default() }).await;
    }
    let mut last_seen = 0;
    for round in 0..50 {
        let Response::Produce(written) = client.receive().await else { panic!() };
        assert_eq!(written.responses[0].partition_responses[0].base_offset, round);
        assert!(matches!(client.receive().await, Response::ApiVersions(_)));
        let found = client.receive_fetch().await;
        let seen = found.responses[0].partitions[0].high_watermark;
        assert!((last_seen..=round + 1).contains(&seen), "{seen} behind {last_seen} in {round}");
        last_seen = seen;
        assert!(matches!(client.receive().await, Response::Metadata(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_its_answers_disturbs_nobody() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("unread").await;
    let mut client = node.client().await;
    let large = "x".repeat(500_000);
    assert_eq!(client.produce(&topic, batch(&[&large])).await.error_code, ErrorCode::NONE);
    let mut deaf = node.client().await;
    let mut requests = Vec::new();
    for _ in 0..1_000 {
        requests.extend_from_slice(&deaf.frame(12, fetching(&topic, 0)));
    }
    let all = deaf.raw(&requests);
    drop(timeout(Duration::from_secs(2), all).await); // half a gigabyte of answers, unread
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_loopback_addresses_are_served_where_the_machine_has_both() {
    let node = Node::own(|config| config.kafka = Listen::Loopback(0)).await;
    let mut expected = vec![std::net::SocketAddr::from(([127, 0, 0, 1], node.address.port()))];
    if tokio::net::TcpListener::bind("[::1]:0").await.is_ok() {
        let six = std::net::Ipv6Addr::LOCALHOST;
        expected.push(std::net::SocketAddr::from((six, node.address.port())));
    }
    assert_eq!(node.addresses(), expected);
    for address in expected {
        let mut client = Client::connect(address).await;
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let Response::Metadata(answer) = client.call(9, request).await else { panic!() };
        let told = &answer.brokers[0];
        let told = (told.host.parse().unwrap(), told.port);
        assert_eq!(told, (address.ip(), i32::from(address.port())), "the address it came to");
    }
}
