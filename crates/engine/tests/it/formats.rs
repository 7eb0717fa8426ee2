//! A data directory of every released format opens: `fixtures/format-N/` is one, written by the version
//! that brought the format and never changed. With `UPDATE_FIXTURES=1` a missing one is written; until the
//! first release a changed format is no new one: remove the folder and have it written again.

use std::fs;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use ottla_engine::inspect::{self, WalEvent};
use ottla_engine::topic::Isolation;
use ottla_sim::SimDisk;
use ottla_store::disk::Disk;

use crate::groups::{commit, committed};
use crate::rig::{Rig, batch, idempotent};

/// The newest; a new one gets a line here, and its fixture.
const FORMATS: [u32; 1] = [1];

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/fixtures/format-{format}"))
}

/// Everything a directory can hold: records in segments and in the log, an idempotent producer,
/// committed offsets, a deleted topic.
fn write(folder: &Path) {
    let rig = Rig::new();
    for topic in ["orders", "gone"] {
        rig.topic(topic, 2);
    }
    let value = "x".repeat(3_000);
    for n in 0..60 {
        let value = format!("order {n} {value}");
        let now = rig.engine.now();
        rig.engine.produce(&rig.partition("orders"), batch(&[&value]), now).unwrap();
        rig.engine.produce(&rig.partition("gone"), batch(&[&value]), now).unwrap();
        rig.keep();
    }
    rig.engine.delete_topic(rig.partition("gone").topic()).unwrap();
    let now = rig.engine.now();
    rig.engine.produce(&rig.partition("orders"), idempotent(&["last"], 7, 0), now).unwrap();
    commit(&rig, "orders", 33);
    rig.sync();
    for (path, bytes) in rig.image() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn load(folder: &Path, inside: &str, disk: &SimDisk) {
    for entry in fs::read_dir(folder.join(inside)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        if folder.join(&path).is_dir() {
            disk.create_dir(&path).unwrap();
            load(folder, &path, disk);
            continue;
        }
        let file = disk.create(&path).unwrap();
        file.write_at(&[IoSlice::new(&fs::read(folder.join(&path)).unwrap())], 0).unwrap();
        file.sync().unwrap();
    }
    disk.sync_dir(inside).unwrap();
}

#[test]
fn a_directory_of_every_format_opens_and_says_the_same() {
    for format in FORMATS {
        let folder = folder(format);
        if !folder.exists() && std::env::var_os("UPDATE_FIXTURES").is_some() {
            write(&folder);
        }
        let disk = SimDisk::new();
        load(&folder, "", &disk);
        let rig = Rig::on(disk);
        assert_eq!(rig.engine.store().damage(), []);
        let values = rig.read_all("orders");
        assert_eq!((values.len(), values[60].as_str()), (61, "last"), "format {format}");
        assert!(
            values[..60].iter().enumerate().all(|(n, v)| v.starts_with(&format!("order {n} ")))
        );
        assert_eq!(
            rig.partition("orders").topic(),
            rig.engine.catalog().topic("orders").unwrap().id()
        );
        assert!(rig.engine.catalog().topic("gone").is_none());
        assert_eq!(committed(&rig, "orders").0, Some(33));
        // The producer's window is remembered: its batch is a duplicate, its next one is not.
        let (partition, now) = (rig.partition("orders"), rig.engine.now());
        rig.engine.produce(&partition, idempotent(&["last"], 7, 0), now).unwrap();
        rig.engine.produce(&partition, idempotent(&["next"], 7, 1), now).unwrap();
        rig.sync();
        let values = rig.read(&partition, 60, Isolation::ReadUncommitted);
        assert_eq!(values, ["last", "next"]);
    }
}

#[test]
fn the_directory_is_read_in_full_and_damage_is_told_with_its_place() {
    let sound = SimDisk::new();
    load(&folder(1), "", &sound);
    let report = inspect::directory(&sound).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.unlisted, Vec::<String>::new());
    assert_eq!(report.snapshots, 2);
    assert!(report.records > 0 && report.wal.items > 0, "{report:?}");
    let mut kinds = Vec::new();
    let summary = inspect::wal(&sound, &mut |event| {
        if let WalEvent::Item(item) = event {
            kinds.push(item.kind);
        }
    });
    assert_eq!(summary.unwrap().end, report.wal.end);
    assert!(kinds.contains(&"batch") && kinds.contains(&"state") && kinds.contains(&"delete"));

    let segment = "partitions/0000000000000001/0000000000000001.seg";
    let disk = sound.restart();
    assert!(disk.rot(segment, 5_000, 1));
    let findings = inspect::directory(&disk).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].path, segment);
    assert!(findings[0].position <= 5_000 && findings[0].position > 0, "{findings:?}");

    let disk = sound.restart();
    assert!(disk.rot("snapshots/000000000000000e.snap", 300, 4));
    let findings = inspect::directory(&disk).unwrap().findings;
    assert_eq!(findings[0].path, "snapshots/000000000000000e.snap");
}
