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
use ottla_kafka_proto::{
    ApiVersion, CorrelationId, ErrorCode, Request, RequestHeader, Response, decode_response,
    encode_request,
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
    let mut length = [0; 4];
    client.read_exact(&mut length).unwrap();
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    client.read_exact(&mut frame).unwrap();
    let api = ottla_kafka_proto::ApiKey::Produce;
    let (_, answer) = decode_response(api, ApiVersion(9), frame.into(), 1000).unwrap();
    let Response::Produce(answer) = answer else { panic!() };
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
