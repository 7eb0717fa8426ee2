//! Idempotent producers: what is sent twice is kept once, what is missing is noticed, whoever is old is out.

use bytes::Bytes;
use ottla_engine::batch::BatchBuilder;
use ottla_engine::codec::Codec;
use ottla_kafka_proto::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_kafka_proto::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use ottla_kafka_proto::{ErrorCode, Response};

use crate::rig::{Client, Node, filled, producing};

async fn new_producer(client: &mut Client) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    loop {
        let Response::InitProducerId(answer) = client.call(4, request.clone()).await else {
            panic!()
        };
        if answer.error_code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
            assert_eq!(answer.error_code, ErrorCode::NONE);
            return answer; // a cluster that has just started has to load first
        }
    }
}

/// `records` records of a producer from a sequence number on.
fn numbered(producer: i64, epoch: i16, sequence: i32, records: usize) -> Bytes {
    let values: Vec<&[u8]> = std::iter::repeat_n(&b"x"[..], records).collect();
    filled(BatchBuilder::new(Codec::None).producer(producer, epoch, sequence), &values)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_producers_get_the_same_id() {
    let node = Node::start().await;
    let (mut one, mut two) = (node.client().await, node.client().await);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..20 {
        assert!(ids.insert(new_producer(&mut one).await.producer_id));
        assert!(ids.insert(new_producer(&mut two).await.producer_id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_the_last_five_batches_may_be_repeated_and_has_its_offset() {
    let node = Node::start().await;
    let topic = node.topic("repeated").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    for sequence in 0..6 {
        let written = client.produce(&topic, numbered(id, 0, sequence * 2, 2)).await;
        assert_eq!(written.base_offset, i64::from(sequence) * 2);
    }
    for sequence in 1..6 {
        let again = client.produce(&topic, numbered(id, 0, sequence * 2, 2)).await;
        let outcome = (again.error_code, again.base_offset);
        assert_eq!(outcome, (ErrorCode::NONE, i64::from(sequence) * 2));
    }
    let forgotten = client.produce(&topic, numbered(id, 0, 0, 2)).await;
    assert_eq!(forgotten.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.fetch(&topic, 0).await.high_watermark, 12, "nothing was kept twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_repeated_in_the_same_breath_is_kept_once() {
    let node = Node::start().await;
    let topic = node.topic("breath").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    let batch = numbered(id, 0, 0, 3);
    for _ in 0..20 {
        client.send(9, producing(&topic, -1, Some(batch.clone()))).await;
    }
    for _ in 0..20 {
        let Response::Produce(answer) = client.receive().await else { panic!() };
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
    }
    assert_eq!(client.fetch(&topic, 0).await.high_watermark, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_the_sequence_is_out_of_order_and_can_be_filled() {
    let node = Node::start().await;
    let topic = node.topic("gap").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    client.produce(&topic, numbered(id, 0, 0, 1)).await;
    for sequence in [2, 100, i32::MAX] {
        let refused = client.produce(&topic, numbered(id, 0, sequence, 1)).await;
        let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
        assert_eq!((refused.error_code, refused.base_offset), (code, -1));
    }
    let filled = client.produce(&topic, numbered(id, 0, 1, 1)).await;
    assert_eq!((filled.error_code, filled.base_offset), (ErrorCode::NONE, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_epoch_shuts_the_older_one_out() {
    let node = Node::start().await;
    let topic = node.topic("epochs").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    client.produce(&topic, numbered(id, 0, 0, 1)).await;
    let not_from_zero = client.produce(&topic, numbered(id, 1, 5, 1)).await;
    assert_eq!(not_from_zero.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let newer = client.produce(&topic, numbered(id, 1, 0, 1)).await;
    assert_eq!((newer.error_code, newer.base_offset), (ErrorCode::NONE, 1));
    let older = client.produce(&topic, numbered(id, 0, 1, 1)).await;
    assert_eq!((older.error_code, older.base_offset), (ErrorCode::INVALID_PRODUCER_EPOCH, -1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequence_numbers_begin_again_behind_the_largest() {
    let node = Node::start().await;
    let topic = node.topic("wrap").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    let unknown_so_far = client.produce(&topic, numbered(id, 0, i32::MAX - 1, 2)).await;
    assert_eq!(unknown_so_far.error_code, ErrorCode::NONE, "any number opens the sequence");
    let wrapped = client.produce(&topic, numbered(id, 0, 0, 1)).await;
    assert_eq!((wrapped.error_code, wrapped.base_offset), (ErrorCode::NONE, 2));
    let again = client.produce(&topic, numbered(id, 0, 0, 1)).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 2));
}

/// Kafka's answers since 2.5: what is remembered of a producer outlives its records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_whose_records_were_all_deleted_goes_on() {
    let node = Node::start().await;
    let topic = node.topic("emptied").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    for sequence in 0..3 {
        client.produce(&topic, numbered(id, 0, sequence, 1)).await;
    }
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: topic.name.as_str().into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
    let Response::DeleteRecords(answer) = client.call(2, request).await else { panic!() };
    assert_eq!(answer.topics[0].partitions[0].low_watermark, 3);
    let again = client.produce(&topic, numbered(id, 0, 1, 1)).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 1), "though it is gone");
    let gap = client.produce(&topic, numbered(id, 0, 9, 1)).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let next = client.produce(&topic, numbered(id, 0, 3, 1)).await;
    assert_eq!((next.error_code, next.base_offset), (ErrorCode::NONE, 3));
    let stranger = client.produce(&topic, numbered(id + 1_000_000, 3, 7, 1)).await;
    assert_eq!((stranger.error_code, stranger.base_offset), (ErrorCode::NONE, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_neither_duplicates_nor_gaps_nor_epochs() {
    let mut node = Node::own(|_| {}).await;
    let topic = node.topic("restarted").await;
    let mut client = node.client().await;
    let id = new_producer(&mut client).await.producer_id;
    for sequence in 0..3 {
        client.produce(&topic, numbered(id, 1, sequence, 1)).await;
    }
    drop(client);
    node.restart().await;
    let mut client = node.client().await;
    for sequence in 0..3 {
        let again = client.produce(&topic, numbered(id, 1, sequence, 1)).await;
        let outcome = (again.error_code, again.base_offset);
        assert_eq!(outcome, (ErrorCode::NONE, i64::from(sequence)), "the original offset");
    }
    let gap = client.produce(&topic, numbered(id, 1, 4, 1)).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let old = client.produce(&topic, numbered(id, 0, 0, 1)).await;
    assert_eq!(old.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    let next = client.produce(&topic, numbered(id, 1, 3, 1)).await;
    assert_eq!((next.error_code, next.base_offset), (ErrorCode::NONE, 3));
    assert_ne!(new_producer(&mut client).await.producer_id, id, "ids are never given twice");
}

/// 80 MiB at once, of which the log takes 32 before a sync: nobody is refused, and all is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_that_outrun_the_disk_are_held_back() {
    let node = Node::own(|_| {}).await;
    let topic = node.topic_with("outrun", 1, &[("max.message.bytes", "33554432")]).await;
    let large = filled(BatchBuilder::new(Codec::None), &[&vec![7; 20 << 20]]);
    let mut clients = [node.client().await, node.client().await];
    for turn in 0..4 {
        clients[turn % 2].send(9, producing(&topic, -1, Some(large.clone()))).await;
    }
    for turn in 0..4 {
        let Response::Produce(answer) = clients[turn % 2].receive().await else { panic!() };
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    }
    assert_eq!(clients[0].fetch(&topic, 0).await.high_watermark, 4);
}
