use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::batch::{BatchBuilder, RecordDraft};
use crate::codec::Codec;
use crate::index::INDEX_INTERVAL_BYTES;
use crate::mem_disk::MemDisk;

const LOG: &str = "partitions/1/a.seg";

/// A batch of `records` records of about `bytes` each.
fn batch(base: i64, records: u32, bytes: usize, timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = vec![b'x'; bytes];
    for _ in 0..records {
        let draft = RecordDraft { timestamp_ms, value: Some(&value), ..RecordDraft::default() };
        builder.push(&draft);
    }
    builder.build().to_bytes(Offset(base))
}

/// 300 batches of 3 records and about 1 KiB, with a gap of 10 offsets behind every tenth.
fn segment(disk: &MemDisk) -> (SegmentMeta, SegmentIndex, BTreeMap<i64, Bytes>) {
    let mut writer = SegmentWriter::create(disk, LOG, 1, Offset(100)).unwrap();
    let mut index = SegmentIndex::default();
    let mut batches = BTreeMap::new();
    let mut base = 100;
    for number in 0..300 {
        let timestamp = 1000 + (number ^ 1); // slightly out of order
        let batch = batch(base, 3, 330, timestamp);
        writer.push(&batch, Some(&mut index)).unwrap();
        batches.insert(base, batch);
        base += if number % 10 == 9 { 13 } else { 3 };
    }
    (writer.finish().unwrap(), index, batches)
}

#[test]
fn a_segment_is_its_batches_and_nothing_else() {
    let disk = MemDisk::default();
    let (meta, _, batches) = segment(&disk);
    let bytes = disk.bytes(LOG);
    assert_eq!(bytes, batches.values().flat_map(|batch| batch.to_vec()).collect::<Vec<_>>());
    assert_eq!(meta.bytes, bytes.len() as u64);
    assert_eq!((meta.base, meta.max_timestamp), (Offset(100), 1299));
    let mut scan = Scan::open(&disk, LOG, &meta).unwrap();
    for (base, batch) in &batches {
        let found = scan.next_batch().unwrap().unwrap();
        assert_eq!((found.header.base_offset.0, &found.batch), (*base, batch));
    }
    assert!(scan.next_batch().unwrap().is_none());
}

#[test]
fn a_read_starts_with_the_batch_that_holds_the_offset() {
    let disk = MemDisk::default();
    let (meta, index, batches) = segment(&disk);
    let end = meta.next;
    let reader = SegmentReader::open(&disk, LOG, meta).unwrap();
    for from in 100..end.0 {
        let expected = batches.range(from - 2..).next().unwrap().1;
        let one = reader.read(&Arc::default(), &index, Offset(from), end, 1).unwrap();
        assert_eq!(&one, expected, "the first comes whole, at {from}");
    }
    assert!(reader.read(&Arc::default(), &index, end, Offset(i64::MAX), 1000).unwrap().is_empty());
}

#[test]
fn a_read_brings_whole_batches_up_to_its_bounds() {
    let disk = MemDisk::default();
    let (meta, index, batches) = segment(&disk);
    let (end, total) = (meta.next, usize::try_from(meta.bytes).unwrap());
    let reader = SegmentReader::open(&disk, LOG, meta).unwrap();
    let one = batches[&100].len();
    for (bytes_max, count) in [(one, 1), (2 * one - 1, 1), (2 * one, 2), (9 * one + 60, 9)] {
        let read = reader.read(&Arc::default(), &index, Offset(101), end, bytes_max).unwrap();
        assert_eq!(read.len(), count * one, "{bytes_max}");
    }
    let all = reader.read(&Arc::default(), &index, Offset(0), end, usize::MAX >> 1).unwrap();
    assert_eq!(all.len(), total);
    let below =
        reader.read(&Arc::default(), &index, Offset(100), Offset(106), usize::MAX >> 1).unwrap();
    assert_eq!(below.len(), 2 * one, "batches at or above the end are left out");
    assert!(
        reader.read(&Arc::default(), &index, Offset(100), Offset(100), 1000).unwrap().is_empty()
    );
}

#[test]
fn a_lost_index_is_made_again() {
    let disk = MemDisk::default();
    let (meta, index, _) = segment(&disk);
    assert!(index.entries().len() > 5, "{} entries", index.entries().len());
    for pair in index.entries().windows(2) {
        assert!(pair[1].position >= pair[0].position + INDEX_INTERVAL_BYTES);
    }
    let mut again = SegmentIndex::default();
    let mut place = (0, meta.base);
    while place.0 < meta.bytes {
        place = index_on(&disk, LOG, &meta, &mut again, place, 100_000).unwrap();
    }
    assert_eq!(place, (meta.bytes, meta.next));
    assert_eq!(again, index, "a piece at a time");
}

#[test]
fn the_first_batch_at_a_time_is_found() {
    let disk = MemDisk::default();
    let (meta, index, batches) = segment(&disk);
    let reader = SegmentReader::open(&disk, LOG, meta).unwrap();
    for time in [0, 1000, 1001, 1100, 1298, 1299] {
        let expected = batches
            .values()
            .find(|batch| BatchHeader::parse(batch).unwrap().max_timestamp >= time)
            .unwrap();
        let found = reader.find_timestamp(&index, time, Offset::ZERO).unwrap();
        assert_eq!(found.as_ref(), Some(expected), "{time}");
    }
    assert_eq!(reader.find_timestamp(&index, 1300, Offset::ZERO).unwrap(), None);
}

#[test]
fn what_was_never_promised_is_cut_off_when_going_on() {
    let disk = MemDisk::default();
    let first = batch(0, 1, 10, 1);
    let second = batch(1, 1, 10, 2);
    let mut writer = SegmentWriter::create(&disk, LOG, 9, Offset(0)).unwrap();
    writer.push(&first, None).unwrap();
    let meta = writer.finish().unwrap();
    // A crash left a batch that no snapshot knows: it must not come back.
    disk.put(LOG, &[first.to_vec(), batch(1, 5, 99, 9).to_vec()].concat());
    let reader = SegmentReader::open(&disk, LOG, meta.clone()).unwrap();
    let read = reader
        .read(&Arc::default(), &SegmentIndex::default(), Offset(0), Offset(9), 1 << 20)
        .unwrap();
    assert_eq!(read, first, "a reader does not look beyond the meta either");
    let mut writer = SegmentWriter::resume(&disk, LOG, meta.clone()).unwrap();
    writer.push(&second, None).unwrap();
    let grown = writer.finish().unwrap();
    assert_eq!(disk.bytes(LOG), [first.to_vec(), second.to_vec()].concat());
    let expected = SegmentMeta { next: Offset(2), max_timestamp: 2, ..meta };
    assert_eq!(grown, SegmentMeta { bytes: grown.bytes, ..expected });
    disk.put(LOG, &first[..first.len() - 1]);
    assert!(SegmentWriter::resume(&disk, LOG, grown).is_err(), "shorter than promised");
}

#[test]
#[should_panic(expected = "batch at 1 below 3")]
fn offsets_never_go_back() {
    let disk = MemDisk::default();
    let mut writer = SegmentWriter::create(&disk, LOG, 1, Offset(0)).unwrap();
    writer.push(&batch(0, 3, 1, 1), None).unwrap();
    writer.push(&batch(1, 1, 1, 1), None).unwrap();
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    let disk = MemDisk::default();
    let mut writer = SegmentWriter::create(&disk, LOG, 1, Offset(0)).unwrap();
    for base in 0..3 {
        writer.push(&batch(base, 1, 20, 5), None).unwrap();
    }
    let meta = writer.finish().unwrap();
    let good = disk.bytes(LOG);
    let one = good.len() / 3;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        disk.put(LOG, &bad);
        let mut scan = Scan::open(&disk, LOG, &meta).unwrap();
        let mut damaged_at = None;
        loop {
            match scan.next_batch() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(FileError::Damaged { position, .. }) => damaged_at = Some(position),
                Err(error) => panic!("{error}"),
            }
        }
        // Kafka's CRC leaves out base offset and leader epoch; a leader epoch harms nobody.
        let harmless = (12..16).contains(&(at % one));
        assert!(damaged_at.is_some() || harmless, "byte {at}");
    }
}
