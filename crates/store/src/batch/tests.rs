use proptest::prelude::*;

use super::*;
use crate::codec::OUTPUT_FREE_BYTES;
use crate::records::Records;

const NOW: i64 = 1_700_000_000_000;

fn two_records(codec: Codec) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    let headers = [(&b"h"[..], Some(&b"1"[..])), (b"h", None)];
    for (key, value) in [("k1", "first"), ("k2", "second")] {
        builder.push(&RecordDraft {
            timestamp_ms: NOW,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &headers,
        });
    }
    builder
}

fn sent(builder: BatchBuilder) -> Bytes {
    builder.build().to_bytes(Offset::ZERO)
}

fn check(bytes: Bytes) -> Result<PreparedBatch, BatchError> {
    PreparedBatch::check(bytes, &BatchRules::default(), NOW)
}

/// `bytes` with some changed, and the CRC made to hold again.
fn forged(bytes: &Bytes, at: usize, new: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    let crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// Header and records from parts, as a client could send them.
fn raw(codec: Codec, count: i32, records: Vec<u8>) -> Bytes {
    let mut header = two_records(codec).build().header();
    header.count = count;
    header.last_offset_delta = count - 1;
    header.base_timestamp = NOW;
    header.max_timestamp = NOW;
    PreparedBatch::assemble(header, records.into()).to_bytes(Offset::ZERO)
}

#[test]
fn golden_bytes_of_a_batch() {
    let mut builder = BatchBuilder::new(Codec::None).producer(0x0102, 3, 4).transactional();
    builder.push(&RecordDraft {
        timestamp_ms: 1000,
        key: Some(b"k"),
        value: Some(b"vv"),
        headers: &[(b"h", None)],
    });
    let bytes = builder.build().with_leader_epoch(LeaderEpoch(7)).to_bytes(Offset(0x2a));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "000000000000002a", // base offset
        "0000003e",         // length: 74 - 12
        "00000007",         // leader epoch
        "02",               // magic
        "28e3c6a4",         // CRC-32C
        "0010",             // attributes: transactional
        "00000000",         // last offset delta
        "00000000000003e8", // base timestamp
        "00000000000003e8", // max timestamp
        "0000000000000102", // producer id
        "0003",             // producer epoch
        "00000004",         // base sequence
        "00000001",         // count
        "18",               // record: 12 bytes
        "00",               // attributes
        "00",               // timestamp delta
        "00",               // offset delta
        "026b",             // key
        "047676",           // value
        "02026801",         // one header: h = null
    ];
    assert_eq!(hex, expected.concat());
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!((header.base_offset, header.bytes), (Offset(0x2a), 74));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (0x102, 3, 4));
    assert!(header.is_transactional() && !header.is_control());
}

#[test]
fn golden_bytes_of_a_commit_marker() {
    let marker = control_marker(9, 1, Marker::Commit, 5, 1000);
    let header = marker.header();
    assert!(header.is_control() && header.is_transactional());
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 1, -1));
    let expected = [0x20, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 5, 0];
    assert_eq!(marker.records.as_ref(), expected);
}

#[test]
fn stamping_touches_only_what_the_crc_leaves_out() {
    let batch = check(sent(two_records(Codec::None))).unwrap().with_leader_epoch(LeaderEpoch(3));
    let (header, records) = batch.stamp(Offset(77));
    let stored = BatchHeader::decode(&header);
    assert_eq!((stored.base_offset, stored.leader_epoch), (Offset(77), LeaderEpoch(3)));
    let whole = batch.to_bytes(Offset(77));
    assert_eq!(whole.len(), batch.bytes_len());
    assert_eq!(crc32c::crc32c(&whole[CRC_COVERS_FROM..]), stored.crc);
    assert_eq!(crc32c::crc32c(&whole[8..]), batch.payload_crc());
    assert_eq!(whole.slice(HEADER_BYTES..), records);
}

#[test]
fn log_append_time_changes_the_header_and_keeps_the_crc_right() {
    let batch = check(sent(two_records(Codec::Lz4))).unwrap().with_log_append_time(NOW + 5);
    let whole = batch.to_bytes(Offset(10));
    let header = BatchHeader::parse(&whole).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.crc, crc32c::crc32c(&whole[CRC_COVERS_FROM..]));
    assert_eq!(crc32c::crc32c(&whole[8..]), batch.payload_crc());
    let records = Records::open(&whole).unwrap();
    assert!(records.iter().all(|record| record.unwrap().timestamp_ms == NOW + 5));
}

#[test]
fn recompression_keeps_the_records() {
    let plain = check(sent(two_records(Codec::None))).unwrap();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd, Codec::None] {
        let batch = plain.clone().recompressed(codec).unwrap();
        assert_eq!(batch.header().codec(), Some(codec));
        let again = check(batch.to_bytes(Offset::ZERO)).unwrap();
        assert_eq!(again.header().count, 2);
    }
}

#[test]
fn a_lying_largest_timestamp_is_corrected() {
    let honest = sent(two_records(Codec::Zstd));
    let lying = forged(&honest, 35, &(NOW + 99).to_be_bytes());
    assert_eq!(check(lying).unwrap().to_bytes(Offset::ZERO), honest);
}

#[test]
fn envelopes_that_are_refused() {
    let good = sent(two_records(Codec::None));
    assert_eq!(
        check(good.slice(..60)).unwrap_err(),
        BatchError::TooShort { bytes: 60, needed: 61 }
    );
    assert_eq!(check(forged(&good, 16, &[1])).unwrap_err(), BatchError::Magic { found: 1 });
    assert!(matches!(check(good.slice(..good.len() - 1)).unwrap_err(), BatchError::Length { .. }));
    assert!(matches!(
        check(forged(&good, 8, &(-1_i32).to_be_bytes())).unwrap_err(),
        BatchError::Length { declared: -1, .. }
    ));
    let mut rotten = good.to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    assert!(matches!(check(rotten.into()).unwrap_err(), BatchError::Crc { .. }));
    assert_eq!(
        check(forged(&good, 0, &5_i64.to_be_bytes())).unwrap_err(),
        BatchError::BaseOffset { found: 5 }
    );
    let rules = BatchRules { bytes_max: good.len() - 1, ..BatchRules::default() };
    let refused = PreparedBatch::check(good.clone(), &rules, NOW).unwrap_err();
    assert_eq!(refused, BatchError::TooLarge { bytes: good.len(), bytes_max: good.len() - 1 });
}

#[test]
fn headers_that_are_refused() {
    let good = sent(two_records(Codec::None));
    for (count, last) in [(0_i32, -1_i32), (-1, -2), (2, 0), (3, 1), (i32::MIN, i32::MAX)] {
        let bad = forged(&forged(&good, 57, &count.to_be_bytes()), 23, &last.to_be_bytes());
        assert!(matches!(check(bad).unwrap_err(), BatchError::Count { .. }), "{count} {last}");
    }
    assert_eq!(check(forged(&good, 21, &[0, 0x20])).unwrap_err(), BatchError::Control);
    assert_eq!(check(forged(&good, 21, &[0, 8])).unwrap_err(), BatchError::TimestampType);
    assert_eq!(
        check(forged(&good, 21, &[0, 6])).unwrap_err(),
        BatchError::UnknownCodec { bits: 6 }
    );
    assert_eq!(
        check(forged(&good, 43, &1_i64.to_be_bytes())).unwrap_err(),
        BatchError::BaseSequence
    );
    let old = BatchRules { zstd_allowed: false, ..BatchRules::default() };
    let refused = PreparedBatch::check(sent(two_records(Codec::Zstd)), &old, NOW);
    assert_eq!(refused.unwrap_err(), BatchError::ZstdNotAllowed);
}

#[test]
fn keyless_records_are_named_on_a_compacted_topic() {
    let rules =
        BatchRules { keys_required: true, validation: Validation::Header, ..BatchRules::default() };
    for codec in [Codec::None, Codec::Gzip] {
        let mut builder = BatchBuilder::new(codec);
        for key in [Some(&b"k"[..]), None, Some(b""), None] {
            builder.push(&RecordDraft { timestamp_ms: NOW, key, ..RecordDraft::default() });
        }
        let refused = PreparedBatch::check(sent(builder), &rules, NOW).unwrap_err();
        assert_eq!(refused, BatchError::Keyless { records: vec![1, 3] });
    }
}

#[test]
fn timestamps_outside_the_bounds_are_named() {
    let mut builder = BatchBuilder::new(Codec::Snappy);
    for timestamp_ms in [NOW, NOW - 11, -1, NOW + 6, NOW - 10, NOW + 5] {
        builder.push(&RecordDraft { timestamp_ms, ..RecordDraft::default() });
    }
    let bytes = sent(builder);
    let rules = BatchRules {
        timestamp_before_max_ms: 10,
        timestamp_after_max_ms: 5,
        ..BatchRules::default()
    };
    let refused = PreparedBatch::check(bytes.clone(), &rules, NOW).unwrap_err();
    assert_eq!(refused, BatchError::Timestamps { records: vec![1, 3] });
    let appended = BatchRules { timestamp_type: TimestampType::LogAppendTime, ..rules };
    let batch = PreparedBatch::check(bytes, &appended, NOW).unwrap();
    assert_eq!(batch.header().max_timestamp, NOW, "the topic's own time needs no bounds");
}

#[test]
fn records_that_are_not_records() {
    let one = [0x0c, 0, 0, 0, 1, 1, 0]; // 6 bytes: attributes, 0, 0, null, null, no header
    assert!(check(raw(Codec::None, 1, one.to_vec())).is_ok());
    for (count, records) in [
        (1, vec![]),                                                              // none at all
        (1, vec![0x0e, 0, 0, 0, 1, 1, 0]), // longer than its bytes
        (1, vec![0x0a, 0, 0, 0, 1, 1, 0]), // length too small
        (1, vec![0x0e, 0, 0, 0, 1, 1, 0, 0]), // length too large
        (1, vec![0x01]),                   // negative length
        (1, vec![0x0c, 0, 0, 0, 3, 1, 0]), // key length -2
        (1, vec![0x0c, 0, 0, 0, 1, 1, 1]), // header count -1
        (1, vec![0x10, 0, 0, 0, 1, 1, 2, 1, 1]), // header without a name
        (1, vec![0x0c, 0, 0, 0, 0x7e, 1, 0]), // key beyond the record
        (1, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), // endless varint
        (2, one.to_vec()),                 // fewer than counted
    ] {
        let refused = check(raw(Codec::None, count, records.clone())).unwrap_err();
        assert!(matches!(refused, BatchError::Record { .. }), "{records:?}: {refused}");
    }
    let twice = [one, one].concat();
    let refused = check(raw(Codec::None, 1, twice.clone())).unwrap_err();
    let what = "bytes after the last record";
    assert_eq!(refused, BatchError::Record { record: 1, what });
    let refused = check(raw(Codec::None, 2, twice)).unwrap_err();
    assert_eq!(refused, BatchError::Offsets { record: 1, found: 0 });
}

#[test]
fn a_bomb_is_refused_without_being_unpacked() {
    let zeros = vec![0; 40 << 20];
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Lz4] {
        let bytes = raw(codec, 1, [&[0x0c, 0, 0, 0, 1, 1, 0][..], &zeros].concat());
        let bytes = {
            let header = BatchHeader::parse(&bytes).unwrap();
            PreparedBatch::assemble(header, compress(codec, &bytes[HEADER_BYTES..]).into())
                .to_bytes(Offset::ZERO)
        };
        // Trailing bytes are seen before the cap is reached; one giant record is not.
        assert!(check(bytes).is_err());
        let mut giant = BatchBuilder::new(codec);
        giant.push(&RecordDraft { value: Some(&zeros), ..RecordDraft::default() });
        let refused = check(sent(giant)).unwrap_err();
        let BatchError::Compressed(InflateError::TooLarge { bytes_max }) = refused else {
            panic!("{codec:?}: {refused}")
        };
        assert!((OUTPUT_FREE_BYTES..=16 << 20).contains(&bytes_max), "{bytes_max}");
    }
}

#[test]
fn several_batches_are_cut_at_their_boundaries() {
    let batches = [
        sent(two_records(Codec::None)),
        sent(two_records(Codec::Gzip)),
        sent(two_records(Codec::None)),
    ];
    let joined = Bytes::from(batches.concat());
    let cut: Result<Vec<_>, _> = split(joined.clone()).collect();
    assert_eq!(cut.unwrap(), batches);
    for at in 1..joined.len() {
        let parts: Vec<_> = split(joined.slice(..at)).collect();
        let whole = parts.iter().filter(|part| part.is_ok()).count();
        let ends = [batches[0].len(), batches[0].len() + batches[1].len()];
        assert_eq!(whole, ends.iter().filter(|end| **end <= at).count());
        assert_eq!(
            parts.len() - whole,
            usize::from(!ends.contains(&at)),
            "one error, then the end"
        );
    }
    assert_eq!(split(Bytes::new()).count(), 0);
}

#[test]
fn a_sequence_wraps_to_zero() {
    let mut header = two_records(Codec::None).producer(1, 0, i32::MAX - 1).build().header();
    assert_eq!(header.last_sequence(), i32::MAX);
    header.base_sequence = i32::MAX;
    assert_eq!(header.last_sequence(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(
        records in prop::collection::vec(any::<u8>(), 0..200),
        count in 1..5_i32,
        bits in 0..5_i16,
    ) {
        let codec = Codec::of_attributes(bits).unwrap();
        let _judged = check(raw(codec, count, records));
    }

    #[test]
    fn any_prefix_is_refused(cut in 0..70_usize, bits in 0..5_i16) {
        let whole = sent(two_records(Codec::of_attributes(bits).unwrap()));
        prop_assume!(cut < whole.len());
        prop_assert!(check(whole.slice(..cut)).is_err());
    }

    #[test]
    fn any_header_field_is_judged_without_panic(at in 0..61_usize, byte: u8) {
        let _judged = check(forged(&sent(two_records(Codec::Lz4)), at, &[byte]));
    }
}
