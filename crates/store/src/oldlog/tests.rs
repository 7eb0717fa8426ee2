use super::*;
use crate::mem_disk::MemDisk;

const PATH: &str = "oldlog/a.old";

/// Messages of three queues, clustered; LSNs interleaved as they came.
fn messages(count: u64) -> Vec<(u64, u64, Vec<u8>)> {
    let mut all: Vec<_> = (0..count)
        .map(|i| {
            (
                1000 + i * 64,
                i % 3,
                format!("body {i} ").repeat(1 + usize::try_from(i % 40).unwrap()).into(),
            )
        })
        .collect();
    all.sort_by_key(|(lsn, queue, _)| (*queue, *lsn));
    all
}

fn written(disk: &MemDisk, messages: &[(u64, u64, Vec<u8>)]) -> OldLogReader {
    let mut writer = OldLogWriter::create(disk, "oldlog/tmp", Lsn(1000)).unwrap();
    for (lsn, queue, bytes) in messages {
        writer.push(&OldMessage { lsn: Lsn(*lsn), queue: StreamId(*queue), bytes }).unwrap();
    }
    let summary = writer.finish().unwrap();
    publish(disk, "oldlog/tmp", PATH).unwrap();
    assert_eq!(disk.bytes(PATH).len() as u64, summary.bytes);
    let reader = OldLogReader::open(disk, PATH, summary.bytes).unwrap();
    assert_eq!(reader.summary(), summary);
    reader
}

#[test]
fn golden_bytes_of_an_old_log() {
    let disk = MemDisk::default();
    written(&disk, &[(0x1234, 7, b"hello".to_vec())]);
    let bytes = disk.bytes(PATH);
    let with_crc = |part: &[u8]| [part, &crc32c::crc32c(part).to_le_bytes()].concat();
    let mut expected = with_crc(b"OTLO\x01\0\0\0\xe8\x03\0\0\0\0\0\0");
    expected.resize(64, 0);
    let head = b"\x34\x12\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0";
    expected.extend_from_slice(head);
    expected.extend_from_slice(&crc32c::crc32c(&[head, &b"hello"[..]].concat()).to_le_bytes());
    expected.extend_from_slice(b"hello");
    let index_at = 64 + 24 + 5;
    let mut page = b"\x34\x12\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x1d\0\0\0".to_vec();
    page.resize(4080, 0);
    page.extend_from_slice(&[1, 0, 0, 0]);
    let mut page = with_crc(&page);
    page.resize(4096, 0);
    expected.extend_from_slice(&page);
    let fence = b"\x34\x12\0\0\0\0\0\0";
    expected.extend_from_slice(fence);
    let mut footer = b"OTLO\x01\0\0\0\xe8\x03\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    footer.extend_from_slice(&[index_at, 0, 0, 0, 0, 0, 0, 0]);
    footer.extend_from_slice(&crc32c::crc32c(fence).to_le_bytes());
    let mut footer = with_crc(&footer);
    footer.resize(64, 0);
    expected.extend_from_slice(&footer);
    assert_eq!(bytes, expected);
}

#[test]
fn every_message_is_found_and_no_other() {
    for count in [0, 1, 203, 204, 205, 1000] {
        let disk = MemDisk::default();
        let all = messages(count);
        let reader = written(&disk, &all);
        for (lsn, _, bytes) in &all {
            assert_eq!(reader.get(Lsn(*lsn)).unwrap().unwrap(), bytes, "{count} {lsn}");
            assert_eq!(reader.get(Lsn(lsn + 1)).unwrap(), None);
        }
        assert_eq!(reader.get(Lsn(0)).unwrap(), None);
        assert_eq!(reader.get(Lsn(u64::MAX)).unwrap(), None);
        let mut lsns: Vec<_> = all.iter().map(|(lsn, ..)| Lsn(*lsn)).collect();
        lsns.sort_unstable();
        assert_eq!(reader.lsns().unwrap(), lsns);
        reader.verify().unwrap();
    }
}

#[test]
fn messages_are_walked_queue_by_queue() {
    let disk = MemDisk::default();
    let all = messages(500);
    let reader = written(&disk, &all);
    let mut walked = Vec::new();
    reader
        .for_each(|_, message| {
            walked.push((message.lsn.0, message.queue.0, message.bytes.to_vec()));
            Ok(())
        })
        .unwrap();
    assert_eq!(walked, all);
}

#[test]
fn a_rewrite_keeps_what_is_alive() {
    let disk = MemDisk::default();
    let all = messages(500);
    let reader = written(&disk, &all);
    let summary = rewrite(&disk, &reader, "oldlog/tmp", &mut |lsn| lsn.0 % 5 == 0).unwrap();
    let kept = OldLogReader::open(&disk, "oldlog/tmp", summary.bytes).unwrap();
    assert_eq!(kept.start(), reader.start());
    kept.verify().unwrap();
    for (lsn, _, bytes) in &all {
        let found = kept.get(Lsn(*lsn)).unwrap();
        assert_eq!(found.as_deref(), (lsn % 5 == 0).then_some(bytes.as_slice()));
    }
}

#[test]
fn bodies_larger_than_any_piece_are_walked() {
    let disk = MemDisk::default();
    let all = [(1, 1, vec![1; 700_000]), (2, 1, vec![]), (3, 1, vec![3; 3_000_000])];
    let reader = written(&disk, &all);
    reader.verify().unwrap();
    assert_eq!(reader.get(Lsn(3)).unwrap().unwrap().len(), 3_000_000);
    assert_eq!(reader.get(Lsn(2)).unwrap().unwrap().len(), 0);
}

#[test]
fn every_flipped_byte_is_damage_unless_it_is_padding() {
    let disk = MemDisk::default();
    let all = messages(3);
    let bytes = written(&disk, &all).summary().bytes;
    let good = disk.bytes(PATH);
    let index_at = good.len() - 64 - 24 / 3 - 4096;
    let unread = |at: usize| {
        (20..64).contains(&at)
            || (index_at + 4088..index_at + 4096).contains(&at)
            || at >= good.len() - 24
    };
    for at in (0..good.len()).filter(|at| !unread(*at)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        disk.put(PATH, &bad);
        let outcome = OldLogReader::open(&disk, PATH, bytes).and_then(|reader| reader.verify());
        assert!(matches!(outcome, Err(FileError::Damaged { .. })), "byte {at}: {outcome:?}");
    }
    for cut in 1..good.len() as u64 {
        disk.put(PATH, &good);
        assert!(OldLogReader::open(&disk, PATH, bytes - cut).is_err(), "cut by {cut}");
    }
}
