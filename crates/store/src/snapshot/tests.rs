use super::*;
use crate::mem_disk::MemDisk;

const HEADER: SnapshotHeader = SnapshotHeader {
    number: 3,
    floor: Lsn(0x10),
    begin: Lsn(0x20),
    end: Lsn(0x30),
    durable_upto: Lsn(0x28),
};

type Objects = Vec<(Vec<u8>, Lsn, Vec<u8>)>;

fn written(disk: &MemDisk, objects: &Objects) -> Vec<u8> {
    let mut writer = SnapshotWriter::create(disk, "snapshot/tmp").unwrap();
    for (key, applied, bytes) in objects {
        writer.object(key, *applied, bytes).unwrap();
    }
    let length = writer.finish(&HEADER).unwrap();
    let path = format!("snapshot/{}", file_name(3));
    publish(disk, "snapshot/tmp", &path).unwrap();
    let bytes = disk.bytes(&path);
    assert_eq!(bytes.len() as u64, length);
    bytes
}

fn read(disk: &MemDisk, path: &str) -> Result<(SnapshotHeader, Objects), FileError> {
    let snapshot = Snapshot::open(disk, path)?;
    let mut objects = Vec::new();
    snapshot.for_each(|object| {
        objects.push((object.key, object.applied, object.bytes));
        Ok::<_, FileError>(())
    })?;
    assert_eq!(objects.len() as u64, snapshot.objects());
    Ok((*snapshot.header(), objects))
}

#[test]
fn golden_bytes_of_a_snapshot() {
    let bytes =
        written(&MemDisk::default(), &vec![(b"key".to_vec(), Lsn(0x21), b"state".to_vec())]);
    let mut expected = b"OTLS\x01\0\0\0".to_vec();
    for number in [3_u64, 0x10, 0x20, 0x30, 0x28] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(&crc32c::crc32c(&expected).to_le_bytes());
    expected.resize(64, 0);
    let object = b"\x03\0\0\0\x05\0\0\0\x21\0\0\0\0\0\0\0";
    let crc = crc32c::crc32c(&[object, &b"keystate"[..]].concat()).to_le_bytes();
    expected.extend_from_slice(object);
    expected.extend_from_slice(&crc);
    expected.extend_from_slice(b"\0\0\0\0keystate");
    let mut footer = [0xff; 4].to_vec();
    footer.extend_from_slice(&crc32c::crc32c(&crc).to_le_bytes());
    footer.extend_from_slice(b"\x01\0\0\0\0\0\0\0");
    footer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
    footer.extend_from_slice(&[0; 4]);
    expected.extend_from_slice(&footer);
    assert_eq!(bytes, expected);
}

#[test]
fn what_was_written_is_read_back() {
    let objects: Objects = (0..50_u8)
        .map(|i| (vec![i; usize::from(i) + 1], Lsn(u64::from(i)), vec![i; usize::from(i) * 1000]))
        .collect();
    let disk = MemDisk::default();
    written(&disk, &objects);
    let path = "snapshot/0000000000000003.snap";
    assert_eq!(read(&disk, path).unwrap(), (HEADER, objects));
    written(&disk, &Vec::new());
    assert_eq!(read(&disk, path).unwrap(), (HEADER, Vec::new()), "replaced by an empty one");
}

#[test]
fn every_flipped_byte_and_every_cut_is_damage() {
    let disk = MemDisk::default();
    let objects = vec![(b"a".to_vec(), Lsn(1), b"one".to_vec()), (b"b".to_vec(), Lsn(2), vec![])];
    let good = written(&disk, &objects);
    // Nobody reads the padding of header, object and footer.
    let footer = good.len() - FOOTER_BYTES;
    let unread = |at: usize| {
        (52..64).contains(&at)
            || (84..88).contains(&at)
            || (footer - 5..footer - 1).contains(&at)
            || at >= good.len() - 4
    };
    for at in (0..good.len()).filter(|at| !unread(*at)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        disk.put("bad", &bad);
        assert!(matches!(read(&disk, "bad"), Err(FileError::Damaged { .. })), "byte {at}");
    }
    for length in 0..good.len() {
        disk.put("cut", &good[..length]);
        assert!(read(&disk, "cut").is_err(), "cut to {length}");
    }
    disk.put("longer", &[good, vec![0]].concat());
    assert!(read(&disk, "longer").is_err());
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let disk = MemDisk::default();
    let mut bytes = written(&disk, &Vec::new());
    bytes[4] = 2;
    let crc = crc32c::crc32c(&bytes[..48]);
    bytes[48..52].copy_from_slice(&crc.to_le_bytes());
    disk.put("newer", &bytes);
    let refused = read(&disk, "newer");
    assert!(matches!(refused, Err(FileError::NewerFormat { found: 2, supported: 1, .. })));
}

#[test]
fn snapshots_are_listed_newest_first() {
    let disk = MemDisk::default();
    assert_eq!(list(&disk, "snapshot").unwrap(), [0_u64; 0]);
    for number in [9, 0x1f, 2] {
        disk.put(&format!("snapshot/{}", file_name(number)), b"");
    }
    for other in ["tmp", "9.snap", "00000000000000FF.snap", "zz.snap", "0000000000000001.snap.tmp"]
    {
        disk.put(&format!("snapshot/{other}"), b"");
    }
    assert_eq!(list(&disk, "snapshot").unwrap(), [0x1f, 9, 2]);
}
