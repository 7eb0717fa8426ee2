use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, BatchRules, PreparedBatch, RecordDraft};
use crate::codec::Codec;

type Field = Option<Vec<u8>>;
/// Timestamp, key, value, headers.
type Owned = (i64, Field, Field, Vec<(Vec<u8>, Field)>);

fn any_field() -> impl Strategy<Value = Field> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..80))
}

fn any_record() -> impl Strategy<Value = Owned> {
    let name = prop::sample::select(vec![b"a".to_vec(), b"trace".to_vec(), vec![]]);
    let headers = prop::collection::vec((name, any_field()), 0..4);
    (0..10_i64.pow(13), any_field(), any_field(), headers)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd])
}

fn batch_of(codec: Codec, records: &[Owned]) -> PreparedBatch {
    let mut builder = BatchBuilder::new(codec);
    for (timestamp_ms, key, value, headers) in records {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
        builder.push(&RecordDraft {
            timestamp_ms: *timestamp_ms,
            key: key.as_deref(),
            value: value.as_deref(),
            headers: &headers,
        });
    }
    builder.build()
}

fn owned(record: &Record<'_>) -> Owned {
    let headers = record.headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
    (
        record.timestamp_ms,
        record.key.map(<[u8]>::to_vec),
        record.value.map(<[u8]>::to_vec),
        headers.collect(),
    )
}

proptest! {
    #[test]
    fn what_was_built_is_read_back(
        codec in any_codec(),
        records in prop::collection::vec(any_record(), 1..20),
        base in 0..i64::MAX / 2,
    ) {
        let rules = BatchRules { timestamp_after_max_ms: i64::MAX, ..BatchRules::default() };
        let bytes = batch_of(codec, &records).to_bytes(Offset::ZERO);
        let batch = PreparedBatch::check(bytes, &rules, 0).unwrap();
        let stored = batch.to_bytes(Offset(base));
        let opened = Records::open(&stored).unwrap();
        let read: Vec<_> = opened.iter().map(|record| record.unwrap()).collect();
        prop_assert_eq!(read.iter().map(owned).collect::<Vec<_>>(), records);
        for (record, offset) in read.iter().zip(base..) {
            prop_assert_eq!(record.offset, Offset(offset));
        }
    }

    #[test]
    fn every_prefix_is_an_error_and_no_panic(
        codec in any_codec(),
        records in prop::collection::vec(any_record(), 1..5),
        at: prop::sample::Index,
    ) {
        let whole = batch_of(codec, &records).to_bytes(Offset::ZERO);
        let at = at.index(whole.len());
        prop_assert!(Records::open(&whole[..at]).is_err());
        // The same bytes behind a header that does not know they are cut.
        let header = BatchHeader::parse(&whole).unwrap();
        let cut = &whole[HEADER_BYTES.min(at)..at];
        if let Ok(opened) = Records::of(header, cut) {
            let read: Vec<_> = opened.iter().collect();
            let good = read.iter().filter(|record| record.is_ok()).count();
            prop_assert!(good < records.len() || codec != Codec::None);
            prop_assert!(read.len() <= records.len() + 1);
        }
    }

    #[test]
    fn any_bytes_end_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in 0..10_i32,
        codec in any_codec(),
    ) {
        let mut header = batch_of(codec, &[(0, None, None, vec![])]).header();
        header.count = count;
        if let Ok(opened) = Records::of(header, &bytes) {
            let _read = opened.iter().count();
        }
    }

    #[test]
    fn an_independent_decoder_reads_the_same(
        records in prop::collection::vec(any_record(), 1..10),
        base in 0..1_000_000_i64,
    ) {
        let bytes = batch_of(Codec::None, &records).to_bytes(Offset(base));
        let mut buffer: &[u8] = &bytes;
        let theirs = kafka_protocol::records::RecordBatchDecoder::decode(&mut buffer).unwrap();
        prop_assert_eq!(theirs.records.len(), records.len());
        for ((theirs, ours), offset) in theirs.records.iter().zip(&records).zip(base..) {
            prop_assert_eq!((theirs.offset, theirs.timestamp), (offset, ours.0));
            prop_assert_eq!(theirs.key.as_deref(), ours.1.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.2.as_deref());
        }
    }
}

#[test]
fn an_independent_encoders_batch_is_taken() {
    use kafka_protocol::records::{
        Compression, Record as Theirs, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    let theirs: Vec<_> = (0..50_i32)
        .map(|i| Theirs {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: 7,
            producer_epoch: 1,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(i),
            sequence: i,
            timestamp: 1_000_000 + i64::from(i % 7),
            key: (i % 3 != 0).then(|| Bytes::from(format!("key-{i}"))),
            value: (i % 5 != 0).then(|| Bytes::from(vec![b'v'; 100])),
            headers: [("name".into(), Some(Bytes::from("value")))].into_iter().collect(),
        })
        .collect();
    let mut bytes = bytes::BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
    let batch = PreparedBatch::check(bytes.freeze(), &BatchRules::default(), 1_000_000).unwrap();
    let header = batch.header();
    assert_eq!((header.producer_id, header.base_sequence, header.count), (7, 0, 50));
    let stored = batch.to_bytes(Offset(100));
    let opened = Records::open(&stored).unwrap();
    for (ours, theirs) in opened.iter().zip(&theirs) {
        let ours = ours.unwrap();
        assert_eq!(ours.offset, Offset(theirs.offset + 100));
        assert_eq!(ours.timestamp_ms, theirs.timestamp);
        assert_eq!(ours.key, theirs.key.as_deref());
        assert_eq!(ours.value, theirs.value.as_deref());
        let headers: Vec<_> = ours.headers.collect();
        assert_eq!(headers, [(&b"name"[..], Some(&b"value"[..]))]);
    }
}

#[test]
fn the_first_record_at_a_time_is_found() {
    let records: Vec<Owned> =
        [10, 30, 20, 40].map(|timestamp| (timestamp, None, None, vec![])).into();
    let bytes = batch_of(Codec::Zstd, &records).to_bytes(Offset(5));
    let opened = Records::open(&bytes).unwrap();
    let at = |ms| opened.find_timestamp(ms).unwrap().map(|found| found.offset.0);
    assert_eq!([at(0), at(11), at(25), at(31), at(41)], [Some(5), Some(6), Some(6), Some(8), None]);
}

#[test]
fn a_bomb_that_was_never_validated_is_capped_when_read() {
    let zeros = vec![0; 70 << 20];
    let bytes = batch_of(Codec::Zstd, &[(0, None, Some(zeros), vec![])]).to_bytes(Offset::ZERO);
    assert!(matches!(Records::open(&bytes), Err(BatchError::Compressed(_))));
}
