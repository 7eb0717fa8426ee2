//! ListOffsets with every timestamp that means something else, and DeleteRecords.

use bytes::Bytes;
use ottla_engine::Offset;
use ottla_engine::batch::{BatchBuilder, RecordDraft};
use ottla_engine::codec::Codec;
use ottla_kafka_proto::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_kafka_proto::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_kafka_proto::{ErrorCode, Response};

use crate::rig::{Client, Node, Topic, batch};

async fn list(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let wanted = ListOffsetsPartition { current_leader_epoch: -1, timestamp, ..Default::default() };
    asked(client, version, topic, wanted).await
}

async fn asked(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    partition: ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let name = topic.name.as_str().into();
    let topics = vec![ListOffsetsTopic { name, partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let Response::ListOffsets(answer) = client.call(version, request).await else { panic!() };
    answer.topics[0].partitions[0].clone()
}

fn timed(codec: Codec, timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for timestamp_ms in timestamps {
        builder.push(&RecordDraft {
            timestamp_ms: *timestamp_ms,
            value: Some(b"x"),
            ..RecordDraft::default()
        });
    }
    builder.build().to_bytes(Offset::ZERO)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_special_timestamp_finds_its_offset() {
    let node = Node::start().await;
    let topic = node.topic("special").await;
    let mut client = node.client().await;
    client.produce(&topic, timed(Codec::None, &[1_000, 3_000])).await;
    client.produce(&topic, timed(Codec::Zstd, &[2_000, 5_000, 4_000])).await;
    let latest = list(&mut client, 1, &topic, -1).await;
    assert_eq!((latest.offset, latest.timestamp), (5, -1));
    let earliest = list(&mut client, 1, &topic, -2).await;
    assert_eq!((earliest.offset, earliest.timestamp), (0, -1));
    let newest = list(&mut client, 7, &topic, -3).await;
    assert_eq!((newest.offset, newest.timestamp), (3, 5_000));
    let local = list(&mut client, 8, &topic, -4).await;
    assert_eq!((local.offset, local.timestamp), (0, -1));
    let tiered = list(&mut client, 9, &topic, -5).await;
    assert_eq!((tiered.error_code, tiered.offset), (ErrorCode::NONE, -1));
    let pending = list(&mut client, 11, &topic, -6).await;
    assert_eq!((pending.error_code, pending.offset), (ErrorCode::NONE, -1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moment_finds_the_first_record_at_or_after_it_also_inside_a_compressed_batch() {
    let node = Node::start().await;
    let topic = node.topic("moments").await;
    let mut client = node.client().await;
    client.produce(&topic, timed(Codec::None, &[1_000, 3_000])).await;
    client.produce(&topic, timed(Codec::Zstd, &[2_000, 5_000, 4_000])).await;
    for (moment, offset, timestamp) in [
        (0, 0, 1_000),
        (1_000, 0, 1_000),
        (1_001, 1, 3_000),
        (3_001, 3, 5_000),
        (4_500, 3, 5_000),
        (5_001, -1, -1),
        (i64::MAX, -1, -1),
    ] {
        let found = list(&mut client, 7, &topic, moment).await;
        assert_eq!((found.offset, found.timestamp), (offset, timestamp), "at {moment}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_partition_has_ends_but_no_records() {
    let node = Node::start().await;
    let topic = node.topic("empty").await;
    let mut client = node.client().await;
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (-4, 0), (-5, -1), (0, -1)] {
        let found = list(&mut client, 9, &topic, timestamp).await;
        let outcome = (found.error_code, found.offset, found.timestamp);
        assert_eq!(outcome, (ErrorCode::NONE, offset, -1), "for {timestamp}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_that_a_version_does_not_know_are_unsupported() {
    let node = Node::start().await;
    let topic = node.topic("unknown").await;
    let mut client = node.client().await;
    for (version, timestamp) in [(6, -3), (7, -4), (8, -5), (10, -6), (10, -7), (10, i64::MIN)] {
        let found = list(&mut client, version, &topic, timestamp).await;
        let code = ErrorCode::UNSUPPORTED_VERSION;
        assert_eq!((found.error_code, found.offset), (code, -1), "{timestamp} in {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_and_epochs_that_do_not_exist_are_unknown() {
    let node = Node::start().await;
    let topic = node.topic("nowhere").await;
    let mut client = node.client().await;
    let beyond =
        ListOffsetsPartition { partition_index: 5, current_leader_epoch: -1, timestamp: -1 };
    let found = asked(&mut client, 7, &topic, beyond).await;
    assert_eq!(found.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let future =
        ListOffsetsPartition { partition_index: 0, current_leader_epoch: 1_000, timestamp: -1 };
    let found = asked(&mut client, 7, &topic, future).await;
    assert_eq!(found.error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
}

async fn delete(
    client: &mut Client,
    topic: &str,
    partition_index: i32,
    offset: i64,
) -> DeleteRecordsPartitionResult {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
    let Response::DeleteRecords(answer) = client.call(2, request).await else { panic!() };
    answer.topics[0].partitions[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_gone_and_only_those() {
    let node = Node::start().await;
    let topic = node.topic("deleted").await;
    let mut client = node.client().await;
    for value in ["a", "b", "c", "d"] {
        client.produce(&topic, batch(&[value])).await;
    }
    let deleted = delete(&mut client, &topic.name, 0, 2).await;
    assert_eq!((deleted.error_code, deleted.low_watermark), (ErrorCode::NONE, 2));
    let again = delete(&mut client, &topic.name, 0, 1).await;
    assert_eq!((again.error_code, again.low_watermark), (ErrorCode::NONE, 2), "never backwards");
    assert_eq!(client.fetch(&topic, 1).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(client.fetch(&topic, 2).await.log_start_offset, 2);
    assert_eq!(list(&mut client, 7, &topic, -2).await.offset, 2);
    let all = delete(&mut client, &topic.name, 0, -1).await;
    assert_eq!((all.error_code, all.low_watermark), (ErrorCode::NONE, 4), "-1 is the end");
    let written = client.produce(&topic, batch(&["e"])).await;
    assert_eq!((written.base_offset, written.log_start_offset), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_cannot_be_deleted() {
    let node = Node::start().await;
    let topic = node.topic("undeleted").await;
    let mut client = node.client().await;
    client.produce(&topic, batch(&["a"])).await;
    for offset in [2, i64::MAX, -2] {
        let refused = delete(&mut client, &topic.name, 0, offset).await;
        let outcome = (refused.error_code, refused.low_watermark);
        assert_eq!(outcome, (ErrorCode::OFFSET_OUT_OF_RANGE, -1), "before {offset}");
    }
    let unknown = delete(&mut client, &topic.name, 3, 0).await;
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let unknown = delete(&mut client, "no-such-topic", 0, 0).await;
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}
