//! What is fed, and what must hold for each input. A target tells whether the input was accepted.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_amqp_proto::{Connection as AmqpConnection, Output, RawTable, Settings, Table, Value};
use ottla_engine::batch::{BatchBuilder, BatchRules, PreparedBatch, RecordDraft, split};
use ottla_engine::clock::SystemClock;
use ottla_engine::codec::Codec;
use ottla_engine::records::Records;
use ottla_engine::topic::PartitionId;
use ottla_engine::{Durability, DurableObserver, Engine, Lsn, NewTopic, Offset, Options, StreamId};
use ottla_kafka_proto::{
    ApiKey, ApiVersion, Connection, Event, Limits, RequestHeader, decode_request, encode_request,
};
use ottla_store::inspect;
use ottla_store::snapshot::{SnapshotHeader, SnapshotWriter};

use crate::dice::Dice;
use crate::disk::MemDisk;

/// One decoder.
pub struct Target {
    pub name: &'static str,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub run: fn(&[u8], &mut Dice) -> bool,
}

pub const TARGETS: [Target; 6] = [
    Target { name: "kafka_request", seeds: kafka_seeds, run: kafka_request },
    Target { name: "record_batch", seeds: batch_seeds, run: record_batch },
    Target { name: "wal_scan", seeds: wal_seeds, run: wal_scan },
    Target { name: "snapshot", seeds: snapshot_seeds, run: snapshot },
    Target { name: "amqp_frames", seeds: amqp_seeds, run: amqp_frames },
    Target { name: "amqp_table", seeds: table_seeds, run: amqp_table },
];

/// Every API in every version, with a body of small numbers.
fn kafka_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for spec in ApiKey::all() {
        for version in spec.first.0..=spec.last.0 {
            for filler in [0, 1, 2] {
                let mut frame = Vec::new();
                frame.extend_from_slice(&spec.code.to_be_bytes());
                frame.extend_from_slice(&version.to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0, 7, 0xff, 0xff]);
                if spec.is_flexible(ApiVersion(version)) {
                    frame.push(0);
                }
                let body = std::iter::repeat_n([0, 0, 0, filler], 64).flatten();
                frame.extend(if filler == 2 { vec![2; 300] } else { body.collect() });
                let length = u32::try_from(frame.len()).expect("a short frame");
                seeds.push([&length.to_be_bytes()[..], &frame].concat());
            }
        }
    }
    seeds
}

/// What was decoded can be written again, and then reads the same.
fn kafka_request(input: &[u8], dice: &mut Dice) -> bool {
    let mut bytes = input.to_vec();
    if dice.below(2) == 0 && bytes.len() > 4 {
        let length = u32::try_from(bytes.len() - 4).expect("a short frame");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
    }
    let limits = Limits { request_bytes_max: 16 << 20, ..Limits::default() };
    let mut connection = match dice.below(4) {
        0 => Connection::needs_authentication(limits),
        _ => Connection::open(limits),
    };
    let mut buffer = BytesMut::new();
    let mut accepted = false;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(1 + dice.below(rest.len()));
        rest = later;
        buffer.extend_from_slice(now);
        loop {
            match connection.receive(&mut buffer) {
                Ok(Some(Event::Request { correlation_id, version, client_id, request })) => {
                    accepted = true;
                    let api = request.api();
                    let header = RequestHeader { api, version, correlation_id, client_id };
                    let written = encode_request(&header, &request).expect("what was decoded");
                    let frame = written.to_bytes().slice(4..);
                    let (again, same) = decode_request(frame, usize::MAX).expect("our own bytes");
                    assert_eq!(again, header);
                    // numbers that are no numbers equal nothing, themselves included
                    assert_eq!(format!("{same:?}"), format!("{request:?}"));
                }
                Ok(Some(_)) => accepted = true,
                Ok(None) => break,
                Err(_) => return accepted,
            }
        }
    }
    assert!(buffer.capacity() <= 2 * bytes.len() + (2 << 20), "room for what was only announced");
    accepted
}

fn batch_seeds() -> Vec<Vec<u8>> {
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut seeds = Vec::new();
    for codec in codecs {
        for records in [1, 3, 50] {
            let mut builder = BatchBuilder::new(codec).producer(7, 0, 0);
            for number in 0..records {
                builder.push(&RecordDraft {
                    timestamp_ms: 1_000 + number,
                    key: (number % 2 == 0).then_some(b"key"),
                    value: Some(b"a value that is long enough to be packed packed packed"),
                    headers: &[(b"trace", Some(b"7f")), (b"none", None)],
                });
            }
            seeds.push(builder.build().to_bytes(Offset::ZERO).to_vec());
        }
    }
    seeds
}

/// An accepted batch can be read to its end, and has as many records as it says.
fn record_batch(input: &[u8], dice: &mut Dice) -> bool {
    let mut bytes = input.to_vec();
    if dice.below(4) != 0 && bytes.len() > 61 {
        let length = i32::try_from(bytes.len() - 12).expect("a short batch");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    for piece in split(Bytes::copy_from_slice(&bytes)) {
        drop(piece);
    }
    let rules = BatchRules { keys_required: dice.below(4) == 0, ..BatchRules::default() };
    let Ok(checked) = PreparedBatch::check(bytes.into(), &rules, 2_000) else { return false };
    let whole = checked.to_bytes(Offset(5));
    let records = Records::open(&whole).expect("an accepted batch opens");
    let read = records.iter().map(|record| record.expect("an accepted record reads")).count();
    assert_eq!(read, usize::try_from(records.header().count).expect("a count"));
    records.find_timestamp(1_001).expect("an accepted batch can be searched");
    true
}

struct Nobody;

impl DurableObserver for Nobody {
    fn durable(&self, _: Lsn, _: &[StreamId]) {}
}

fn engine(disk: Arc<MemDisk>) -> Result<Engine, ottla_engine::OpenError> {
    let mut options = Options::new(Durability::Sync, 1);
    options.store.wal_segment_bytes = 64 << 10;
    Engine::open(disk, Arc::new(SystemClock::new()), options, Box::new(Nobody))
}

/// The files of a broker that held a topic, ten batches and a producer.
fn image() -> Vec<(String, Vec<u8>)> {
    let disk = Arc::new(MemDisk::default());
    let engine = engine(Arc::clone(&disk)).expect("an empty disk");
    let new = NewTopic { name: "t".to_owned(), partitions: None, overrides: Default::default() };
    let (topic, _) = engine.create_topic(&new).expect("a topic");
    let partition = topic.partition(PartitionId(0)).expect("a partition");
    for sequence in 0..10 {
        let mut builder = BatchBuilder::new(Codec::None).producer(7, 0, sequence);
        builder.push(&RecordDraft { timestamp_ms: 1_000, value: Some(b"x"), ..Default::default() });
        engine.produce(&partition, builder.build(), engine.now()).expect("a batch");
    }
    engine.stop();
    engine.run_log().expect("a disk that works");
    disk.files()
}

/// The log, cut behind its last written page: what is mutated is what is read.
fn wal_seeds() -> Vec<Vec<u8>> {
    let files = image();
    let logs = files.into_iter().filter(|(name, _)| name.ends_with(".wal")).map(|(_, bytes)| bytes);
    logs.map(|bytes| {
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        bytes[..(used / 4096 + 2) * 4096].to_vec()
    })
    .collect()
}

/// A start on a damaged log says what is wrong or serves; it does not panic.
fn wal_scan(input: &[u8], dice: &mut Dice) -> bool {
    thread_local! {
        static IMAGE: Vec<(String, Vec<u8>)> = image();
    }
    let mut files = IMAGE.with(Clone::clone);
    let log = files.iter_mut().find(|(name, _)| name.ends_with(".wal")).expect("a log");
    let mut bytes = input.to_vec();
    if dice.below(2) == 0 && bytes.len() >= 52 {
        let crc = crc32c::crc32c(&bytes[..48]); // the header holds, so that the groups are looked at
        bytes[48..52].copy_from_slice(&crc.to_le_bytes());
    }
    bytes.resize(log.1.len(), 0);
    log.1 = bytes;
    engine(Arc::new(MemDisk::of(&files))).is_ok()
}

fn snapshot_seeds() -> Vec<Vec<u8>> {
    let disk = MemDisk::default();
    let mut writer = SnapshotWriter::create(&disk, "new").expect("a file");
    for number in 0..20_u8 {
        let object = vec![number; usize::from(number) * 7];
        writer.object(&[number], Lsn(u64::from(number)), &object).expect("an object");
    }
    let header = SnapshotHeader {
        number: 3,
        floor: Lsn(1),
        begin: Lsn(2),
        end: Lsn(3),
        durable_upto: Lsn(4),
    };
    writer.finish(&header).expect("a snapshot");
    disk.files().into_iter().map(|(_, bytes)| bytes).collect()
}

/// A damaged snapshot is refused; one that is accepted is the one that was written.
fn snapshot(input: &[u8], _: &mut Dice) -> bool {
    let disk = MemDisk::of(&[("s".to_owned(), input.to_vec())]);
    match inspect::snapshot(&disk, "s") {
        Ok(Ok((header, objects))) => {
            assert_eq!((header.number, objects.len()), (3, 20), "a damaged snapshot was believed");
            true
        }
        _ => false,
    }
}

/// A handshake as a client speaks it, then a channel, a queue and a publish.
fn amqp_seeds() -> Vec<Vec<u8>> {
    let method = |channel: u16, class: u16, method: u16, arguments: &[u8]| {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        frame(1, channel, &payload)
    };
    let table = [0, 0, 0, 0];
    let plain = b"\x05PLAIN\x00\x00\x00\x0c\x00guest\x00guest\x05en_US";
    let start_ok = method(0, 10, 11, &[&table[..], plain].concat());
    let tune_ok = method(0, 10, 31, &[0, 0, 0, 2, 0, 0, 0, 0]);
    let open = method(0, 10, 40, b"\x01/\x00\x00");
    let channel = method(1, 20, 10, &[0]);
    let declare = method(1, 50, 10, &[&[0, 0, 1, b'q', 0][..], &table].concat());
    let consume = method(1, 60, 20, &[&[0, 0, 1, b'q', 0, 0][..], &table].concat());
    let publish = method(1, 60, 40, &[0, 0, 0, 1, b'q', 0]);
    let header = frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x10, 0, 2]);
    let body = frame(3, 1, b"hello");
    let begin = [b"AMQP\x00\x00\x09\x01".to_vec(), start_ok, tune_ok, open, channel].concat();
    let rest = [declare.clone(), consume, publish.clone(), header.clone(), body.clone()].concat();
    vec![begin.clone(), [begin, rest].concat(), [publish, header, body].concat(), declare]
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[0xce]].concat()
}

/// Any bytes in any pieces end in events or one fault.
fn amqp_frames(input: &[u8], dice: &mut Dice) -> bool {
    let mut connection = AmqpConnection::new(Arc::new(Settings::default()), Duration::ZERO);
    let (mut buffer, mut out) = (BytesMut::new(), Output::new());
    let mut events = 0;
    let mut rest = input;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(1 + dice.below(rest.len()));
        rest = later;
        buffer.extend_from_slice(now);
        loop {
            match connection.receive(&mut buffer, Duration::from_millis(1), &mut out) {
                Ok(Some(event)) => {
                    events += 1;
                    let told = format!("{event:?}");
                    if told.starts_with("Login") || told.starts_with("Authenticate") {
                        connection.accept_login(&mut out);
                    } else if told.starts_with("Open") {
                        connection.accept_open(&mut out);
                    }
                }
                Ok(None) => break,
                Err(fault) => {
                    connection.fail(&fault, &mut out);
                    return events > 0;
                }
            }
        }
    }
    events > 1
}

fn table_seeds() -> Vec<Vec<u8>> {
    let inner = Table::new().with("x-match", "any").with("n", 7_i32).with("flag", true);
    let array = ottla_amqp_proto::Array(vec![Value::from(1_i32), Value::from("two")]);
    let outer = Table::new().with("inner", inner).with("list", array).with("text", "value");
    let deep =
        (0..20).fold(Table::new().with("leaf", 1_i32), |inside, _| Table::new().with("t", inside));
    let raw = |table: Table| table.encode().expect("a table").as_bytes().to_vec();
    vec![raw(outer), raw(deep), Vec::new()]
}

/// An accepted table can be read to its end, and written again reads the same.
fn amqp_table(input: &[u8], _: &mut Dice) -> bool {
    let Ok(raw) = RawTable::new(Bytes::copy_from_slice(input)) else { return false };
    let table = raw.view().to_table();
    if let Ok(written) = table.encode() {
        let again = written.view().to_table();
        assert_eq!(format!("{again:?}"), format!("{table:?}"));
    }
    true
}
