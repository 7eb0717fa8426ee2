//! What hostile clients can make the broker hold in memory, seen from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ottla_client::messages::fetch::{FetchPartition, FetchTopic};
use ottla_client::messages::produce::{PartitionProduceData, TopicProduceData};
use ottla_client::messages::{FetchRequest, ProduceRequest};
use ottla_engine::Offset;
use ottla_engine::batch::{BatchBuilder, RecordDraft};
use ottla_engine::codec::Codec;
use ottla_kafka_proto::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_kafka_proto::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_kafka_proto::{
    ApiKey, ApiVersion, CorrelationId, ErrorCode, Request, RequestHeader, Response,
    decode_response, encode_request,
};

use crate::rig::{Broker, feed};

const MIB: u64 = 1024; // of the kilobytes that the kernel counts

fn frame(version: i16, request: impl Into<Request>) -> Vec<u8> {
    let request = request.into();
    let header = RequestHeader {
        api: request.api(),
        version: ApiVersion(version),
        correlation_id: CorrelationId(1),
        client_id: None,
    };
    encode_request(&header, &request).unwrap().to_bytes().to_vec()
}

/// Bytes that were only announced take no memory.
#[test]
fn a_hundred_announced_giants_cost_next_to_nothing() {
    let broker = Broker::start();
    let before = broker.memory("VmRSS:");
    let mut giants = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(&broker.kafka).unwrap();
        let announced = 100u32 << 20;
        client.write_all(&announced.to_be_bytes()).unwrap();
        client.write_all(&[0; 1000]).unwrap();
        giants.push(client);
    }
    feed(&mut broker.command(&["produce", "innocent"]), "served\n").ok();
    let grown = broker.memory("VmHWM:").saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} kB for what would be ten gigabytes");
}

/// A thousand connections that say nothing.
#[test]
fn idle_connections_cost_kilobytes() {
    let broker = Broker::start();
    let before = broker.memory("VmRSS:");
    let idle: Vec<TcpStream> =
        (0..500).map(|_| TcpStream::connect(&broker.kafka).unwrap()).collect();
    feed(&mut broker.command(&["produce", "innocent"]), "served\n").ok();
    let grown = broker.memory("VmHWM:").saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} kB for {} connections", idle.len());
}

fn produce(topic: &str, records: bytes::Bytes) -> Vec<u8> {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(9, request)
}

fn batch(codec: Codec, value: &[u8]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.push(&RecordDraft { timestamp_ms: 1_000, value: Some(value), ..Default::default() });
    builder.build().to_bytes(Offset::ZERO)
}

/// Reads one answer of a produce.
fn outcome(client: &mut TcpStream) -> ErrorCode {
    let Response::Produce(answer) = answer(client, ApiKey::Produce, 9) else { panic!() };
    answer.responses[0].partition_responses[0].error_code
}

/// Each would be a gigabyte if it were believed.
#[test]
fn compression_bombs_cost_what_a_batch_may_cost() {
    let broker = Broker::start();
    feed(&mut broker.command(&["produce", "bombed"]), "first\n").ok();
    let zeros = vec![0; 256 << 20];
    let bomb = batch(Codec::Zstd, &zeros);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    drop(zeros);
    let before = broker.memory("VmRSS:");
    for _ in 0..5 {
        let mut clients: Vec<TcpStream> = (0..4)
            .map(|_| {
                let mut client = TcpStream::connect(&broker.kafka).unwrap();
                client.write_all(&produce("bombed", bomb.clone())).unwrap();
                client
            })
            .collect();
        for client in &mut clients {
            assert_eq!(outcome(client), ErrorCode::MESSAGE_TOO_LARGE);
        }
    }
    let grown = broker.memory("VmHWM:").saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} kB for bombs of 256 MiB");
}

/// Ten thousand names are given out and nobody comes back, a thousand members vanish, metadata is giant, and regular
/// expressions would explode.
#[test]
fn members_that_come_and_vanish_cost_little() {
    let broker = Broker::start();
    feed(&mut broker.command(&["produce", "innocent"]), "first\n").ok();
    let before = broker.memory("VmRSS:");
    let mut client = TcpStream::connect(&broker.kafka).unwrap();
    let joining = |group: &str, member: &str, bytes: usize| {
        let metadata = vec![7; bytes].into();
        let protocols = vec![JoinGroupRequestProtocol { name: "range".into(), metadata }];
        let (group_id, member_id) = (group.into(), member.into());
        let (session_timeout_ms, rebalance_timeout_ms) = (30_000, 60_000);
        let protocol_type = "consumer".into();
        JoinGroupRequest {
            group_id,
            member_id,
            session_timeout_ms,
            rebalance_timeout_ms,
            protocol_type,
            protocols,
            ..Default::default()
        }
    };
    for _ in 0..100 {
        client.write_all(&frame(5, joining("crowd", "", 1_000)).repeat(100)).unwrap();
        for _ in 0..100 {
            assert!(
                matches!(answer(&mut client, ApiKey::JoinGroup, 5), Response::JoinGroup(told) if told.error_code == ErrorCode::MEMBER_ID_REQUIRED)
            );
        }
    }
    for _ in 0..5 {
        client.write_all(&frame(5, joining("giant", "", 8 << 20))).unwrap();
        let Response::JoinGroup(promised) = answer(&mut client, ApiKey::JoinGroup, 5) else {
            panic!()
        };
        client.write_all(&frame(5, joining("giant", &promised.member_id, 20 << 20))).unwrap();
        let Response::JoinGroup(refused) = answer(&mut client, ApiKey::JoinGroup, 5) else {
            panic!()
        };
        assert_eq!(refused.error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    for number in 0..1_000 {
        let regex = ["(a+)+$", "(a|a)*b", "(.*a){20}", "a{2000}{2000}{2000}"][number % 4];
        let beat = ConsumerGroupHeartbeatRequest {
            group_id: format!("modern-{number}").into(),
            member_id: format!("m{number}").into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_regex: Some(regex.into()),
            topic_partitions: Some(vec![]),
            ..Default::default()
        };
        client.write_all(&frame(1, beat)).unwrap();
        answer(&mut client, ApiKey::ConsumerGroupHeartbeat, 1);
    }
    drop(client);
    feed(&mut broker.command(&["produce", "innocent"]), "served\n").ok();
    let grown = broker.memory("VmHWM:").saturating_sub(before);
    assert!(grown < 150 * MIB, "{grown} kB for members that never did anything");
}

fn answer(client: &mut TcpStream, api: ApiKey, version: i16) -> Response {
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
    client.read_exact(&mut frame).unwrap();
    decode_response(api, ApiVersion(version), frame.into(), usize::MAX).unwrap().1
}

/// Who asks for everything two hundred times and reads nothing is not served two hundred times.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let broker = Broker::start();
    feed(&mut broker.command(&["produce", "large"]), "first\n").ok();
    let mut client = TcpStream::connect(&broker.kafka).unwrap();
    let value = vec![b'x'; 1_000_000];
    for _ in 0..20 {
        client.write_all(&produce("large", batch(Codec::None, &value))).unwrap();
        assert_eq!(outcome(&mut client), ErrorCode::NONE);
    }
    let before = broker.memory("VmRSS:");
    let wanted = FetchPartition {
        partition_max_bytes: 50 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: "large".into(),
            partitions: vec![wanted],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut deaf = TcpStream::connect(&broker.kafka).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    drop(deaf.write_all(&frame(12, request).repeat(200))); // four gigabytes of answers
    for _ in 0..20 {
        feed(&mut broker.command(&["produce", "innocent"]), "served\n").ok();
    }
    let grown = broker.memory("VmHWM:").saturating_sub(before);
    assert!(grown < 200 * MIB, "{grown} kB for answers that nobody reads");
    drop(deaf);
}
