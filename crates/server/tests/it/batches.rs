//! What producers may not send: each batch is refused with Kafka's error, and nothing of it is kept.

use bytes::Bytes;
use ottla_engine::batch::{BatchBuilder, split};
use ottla_engine::codec::{Codec, compress};
use ottla_engine::records::Records;
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::produce::PartitionProduceData;

use crate::rig::{Node, Topic, batch, filled, producing, seal};

const COUNT: std::ops::Range<usize> = 57..61;
const LAST_DELTA: std::ops::Range<usize> = 23..27;

/// Sends the batch; it must be refused so, and the partition must stay as it was.
async fn is_refused(
    node: &Node,
    topic: &Topic,
    records: Option<Bytes>,
    code: ErrorCode,
    why: &str,
) {
    let mut hostile = node.client().await;
    let answer = hostile.produce_as(8, topic, records).await;
    assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{why}: {answer:?}");
    let found = hostile.fetch(topic, 0).await;
    assert_eq!(found.high_watermark, 0, "{why}: nothing may have been kept");
}

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Option<Bytes> {
    let mut bytes = batch(&["one", "two"]).to_vec();
    change(&mut bytes);
    Some(bytes.into())
}

/// As `changed`, with a checksum that holds.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Option<Bytes> {
    changed(|bytes| {
        change(bytes);
        seal(bytes);
    })
}

fn put(bytes: &mut [u8], place: std::ops::Range<usize>, value: i32) {
    bytes[place].copy_from_slice(&value.to_be_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_batches_are_corrupt_messages() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("damaged").await;
    let corrupt = ErrorCode::CORRUPT_MESSAGE;
    let flipped = changed(|bytes| *bytes.last_mut().unwrap() ^= 1);
    is_refused(&node, &topic, flipped, corrupt, "a flipped bit in the last record").await;
    let crc = changed(|bytes| bytes[17] ^= 0x80);
    is_refused(&node, &topic, crc, corrupt, "a checksum that does not hold").await;
    let short = changed(|bytes| put(bytes, 8..12, 5));
    is_refused(&node, &topic, short, corrupt, "a length below any batch").await;
    let unknown = changed(|bytes| bytes[16] = 3);
    is_refused(&node, &topic, unknown, corrupt, "a format from the future").await;
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_exactly_one_whole_batch_is_an_invalid_record() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("not-one").await;
    let invalid = ErrorCode::INVALID_RECORD;
    is_refused(&node, &topic, Some(Bytes::new()), invalid, "no bytes").await;
    let two = changed(|bytes| bytes.extend_from_slice(&batch(&["three"])));
    is_refused(&node, &topic, two, invalid, "two batches").await;
    let hundred: Bytes = batch(&["again"]).repeat(100).into();
    is_refused(&node, &topic, Some(hundred), invalid, "a hundred batches").await;
    let cut = changed(|bytes| bytes.truncate(40));
    is_refused(&node, &topic, cut, invalid, "a batch cut off in its header").await;
    let cut = changed(|bytes| bytes.truncate(bytes.len() - 1));
    is_refused(&node, &topic, cut, invalid, "a batch without its last byte").await;
    for format in [0, 1] {
        let old = changed(|bytes| bytes[16] = format);
        is_refused(&node, &topic, old, invalid, "a format before batches").await;
    }
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_contradict_themselves_are_invalid_records() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("contradicting").await;
    let invalid = ErrorCode::INVALID_RECORD;
    for (count, last_delta) in [(3, 1), (1, 1), (0, -1), (-1, -2), (i32::MAX, i32::MAX - 1), (2, 5)]
    {
        let lying = forged(|bytes| {
            put(bytes, COUNT, count);
            put(bytes, LAST_DELTA, last_delta);
        });
        is_refused(&node, &topic, lying, invalid, "a count that is not its records'").await;
    }
    let more = forged(|bytes| {
        put(bytes, COUNT, 3);
        put(bytes, LAST_DELTA, 2);
    });
    is_refused(&node, &topic, more, invalid, "more records counted than there are").await;
    let control = forged(|bytes| bytes[22] |= 0x20);
    is_refused(&node, &topic, control, invalid, "a control batch from a client").await;
    let unnumbered = forged(|bytes| {
        bytes[43..51].copy_from_slice(&7i64.to_be_bytes());
        bytes[51..53].copy_from_slice(&0i16.to_be_bytes());
    });
    is_refused(&node, &topic, unnumbered, invalid, "a producer id without a sequence").await;
    let behind = changed(|bytes| bytes[7] = 9);
    is_refused(&node, &topic, behind, invalid, "a base offset from a client").await;
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_of_the_next_century_are_refused() {
    let node = Node::start().await;
    let topic = node.topic("timely").await;
    let invalid = ErrorCode::INVALID_TIMESTAMP;
    let ahead = forged(|bytes| {
        let next_century = 4_000_000_000_000i64.to_be_bytes();
        bytes[27..35].copy_from_slice(&next_century);
        bytes[35..43].copy_from_slice(&next_century);
    });
    is_refused(&node, &topic, ahead, invalid, "records of the next century").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_above_the_topics_size_are_too_large() {
    let node = Node::start().await;
    let topic = node.topic_with("small", 1, &[("max.message.bytes", "1000")]).await;
    let large = filled(BatchBuilder::new(Codec::None), &[&[b'x'; 940]]);
    assert!(large.len() > 1000);
    let code = ErrorCode::MESSAGE_TOO_LARGE;
    is_refused(&node, &topic, Some(large), code, "a batch above max.message.bytes").await;
    let answer = node.client().await.produce(&topic, batch(&["small"])).await;
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyless_records_of_a_compacted_topic_are_named_one_by_one() {
    let node = Node::start().await;
    let topic = node.topic_with("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let mut client = node.client().await;
    let answer = client.produce_as(8, &topic, Some(batch(&["a", "b", "c"]))).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
    let named: Vec<i32> = answer.record_errors.iter().map(|record| record.batch_index).collect();
    assert_eq!(named, [0, 1, 2]);
}

/// A difference to Kafka, which takes it for CreateTime: docs/differences.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_claims_the_brokers_time_is_refused() {
    let node = Node::own(|_| {}).await;
    let topic = node.topic("stamped").await;
    let stamped = forged(|bytes| bytes[22] |= 0x08);
    let code = ErrorCode::INVALID_TIMESTAMP;
    is_refused(&node, &topic, stamped, code, "LogAppendTime from a client").await;
}

/// Sixty-four MiB of one byte in each codec, in a batch whose header tells the truth.
fn bomb(codec: Codec) -> Bytes {
    let mut record = Vec::new();
    let zeros = 64 << 20;
    varint(&mut record, 0); // attributes, and below: timestamp delta, offset delta
    let mut body = vec![0, 0, 0, 1]; // attributes, two deltas, no key (-1 in zigzag)
    varint(&mut body, zeros);
    let mut plain = Vec::with_capacity(zeros + 64);
    varint(&mut plain, body.len() + zeros + 1);
    plain.extend_from_slice(&body);
    plain.resize(plain.len() + zeros, 0);
    plain.push(0); // no headers
    let packed = compress(codec, &plain);
    assert!(packed.len() < 4 << 20, "{codec:?}: {}", packed.len());
    let mut bytes = batch(&["x"])[..61].to_vec();
    bytes[22] = u8::try_from(codec.bits()).unwrap();
    bytes.extend_from_slice(&packed);
    seal(&mut bytes);
    bytes.into()
}

/// A length as records write it: zigzag, seven bits a byte.
fn varint(into: &mut Vec<u8>, value: usize) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        into.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    into.push(u8::try_from(rest).unwrap());
}

/// A difference to Kafka, which inflates without a bound: docs/differences.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_bombs_of_every_codec_are_too_large() {
    let node = Node::own(|_| {}).await;
    let mut innocent = node.innocent().await;
    let topic = node.topic_with("bombed", 1, &[("max.message.bytes", "8388608")]).await;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let code = ErrorCode::MESSAGE_TOO_LARGE;
        is_refused(&node, &topic, Some(bomb(codec)), code, codec.name()).await;
        innocent.is_served(&node).await;
    }
}

/// A difference to Kafka, which answers UNKNOWN_SERVER_ERROR: docs/differences.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bytes_that_are_none_are_refused() {
    let node = Node::own(|_| {}).await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("garbled").await;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let garbled = forged(|bytes| bytes[22] = u8::try_from(codec.bits()).unwrap());
        is_refused(&node, &topic, garbled, ErrorCode::INVALID_RECORD, codec.name()).await;
    }
    let unassigned = forged(|bytes| bytes[22] = 7);
    is_refused(&node, &topic, unassigned, ErrorCode::INVALID_RECORD, "a codec without a name")
        .await;
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zstd_in_a_request_too_old_for_it_is_an_unsupported_compression() {
    let node = Node::start().await;
    let topic = node.topic("zstd").await;
    let zstd = filled(BatchBuilder::new(Codec::Zstd), &[b"x"]);
    let mut client = node.client().await;
    let answer = client.produce_as(6, &topic, Some(zstd.clone())).await;
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let answer = client.produce_as(7, &topic, Some(zstd)).await;
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_that_mean_nothing_are_refused() {
    let node = Node::start().await;
    let topic = node.topic("acks").await;
    let mut client = node.client().await;
    for acks in [2, -2, i16::MAX] {
        let request = producing(&topic, acks, Some(batch(&["x"])));
        let ottla_kafka_proto::Response::Produce(answer) = client.call(9, request).await else {
            panic!()
        };
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, ErrorCode::INVALID_REQUIRED_ACKS);
    }
    assert_eq!(client.fetch(&topic, 0).await.high_watermark, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acks_success_is_silent_and_an_error_closes_the_connection() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic("silent").await;
    let mut client = node.client().await;
    client.tell(9, producing(&topic, 0, Some(batch(&["kept"])))).await;
    let answer = client.produce(&topic, batch(&["answered"])).await; // in order behind it
    assert_eq!(answer.base_offset, 1);
    client.tell(9, producing(&topic, 0, changed(|bytes| bytes[17] ^= 1))).await;
    client.must_be_closed_unanswered().await;
    let mut client = node.client().await;
    let mut nowhere = producing(&topic, 0, Some(batch(&["x"])));
    nowhere.topic_data[0].partition_data[0].index = 99;
    client.tell(9, nowhere).await;
    client.must_be_closed_unanswered().await;
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_partition_does_not_spoil_the_others_of_its_request() {
    let node = Node::start().await;
    let topic = node.topic_with("mixed", 3, &[]).await;
    let mut request = producing(&topic, -1, Some(batch(&["good"])));
    let partitions = &mut request.topic_data[0].partition_data;
    partitions.push(PartitionProduceData { index: 1, records: changed(|bytes| bytes[17] ^= 1) });
    partitions.push(PartitionProduceData { index: 2, records: Some(batch(&["good"])) });
    partitions.push(PartitionProduceData { index: 3, records: Some(batch(&["nowhere"])) });
    let mut client = node.client().await;
    let ottla_kafka_proto::Response::Produce(answer) = client.call(9, request).await else {
        panic!()
    };
    let mut codes: Vec<(i32, ErrorCode)> = answer.responses[0]
        .partition_responses
        .iter()
        .map(|partition| (partition.index, partition.error_code))
        .collect();
    codes.sort_unstable_by_key(|(index, _)| *index);
    let expected = [
        (0, ErrorCode::NONE),
        (1, ErrorCode::CORRUPT_MESSAGE),
        (2, ErrorCode::NONE),
        (3, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    assert_eq!(codes, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_stores_with_the_codec_it_was_told() {
    let node = Node::start().await;
    let text = "what repeats itself is smaller afterwards, ".repeat(50);
    let values: Vec<&str> = vec![&text; 20];
    let plain = batch(&values);
    for (name, codec) in [
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ] {
        let topic = node.topic_with("stored", 1, &[("compression.type", name)]).await;
        let mut client = node.client().await;
        let produced = client.produce(&topic, plain.clone()).await;
        assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, 0), "{name}");
        let stored = client.fetch(&topic, 0).await.records.unwrap().into_bytes();
        assert!(stored.len() * 5 < plain.len(), "{name}: {} of {}", stored.len(), plain.len());
        let [batch] = &split(stored).map(Result::unwrap).collect::<Vec<_>>()[..] else { panic!() };
        let records = Records::open(batch).unwrap();
        assert_eq!(records.header().codec(), Some(codec));
        let read: Vec<_> = records.iter().map(|record| record.unwrap().value.unwrap()).collect();
        assert_eq!(read, values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
        // what is stored that way already stays as it came
        let again = client.produce(&topic, compressed(&values, codec)).await;
        assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 20), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_stores_uncompressed_measures_what_it_stores() {
    let node = Node::start().await;
    let settings = [("compression.type", "uncompressed"), ("max.message.bytes", "2000")];
    let topic = node.topic_with("uncompressed", 1, &settings).await;
    let mut client = node.client().await;
    let text = "x".repeat(1000);
    let fits = client.produce(&topic, compressed(&[&text], Codec::Gzip)).await;
    assert_eq!(fits.error_code, ErrorCode::NONE);
    let stored = client.fetch(&topic, 0).await.records.unwrap().into_bytes();
    assert!(stored.len() > 1000);
    let large = client.produce(&topic, compressed(&[&text, &text], Codec::Gzip)).await;
    assert_eq!(large.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    let topic = node
        .topic_with("squeezed", 1, &[("compression.type", "zstd"), ("max.message.bytes", "2000")])
        .await;
    let fits = client.produce(&topic, batch(&[&text])).await;
    assert_eq!(fits.error_code, ErrorCode::NONE);
    let large = client.produce(&topic, batch(&[&text, &text, &text])).await;
    let why = "it is measured as it comes, however small it would be stored";
    assert_eq!(large.error_code, ErrorCode::MESSAGE_TOO_LARGE, "{why}");
}

fn compressed(values: &[&str], codec: Codec) -> Bytes {
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    filled(BatchBuilder::new(codec), &values)
}
