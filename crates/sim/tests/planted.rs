//! Every mistake that store.md section 4 lists, planted, must be found: otherwise the crash proof
//! proves nothing.
#![expect(clippy::print_stdout, reason = "the run says how soon each mistake was found")]

use ottla_sim::explore::{Effort, Explorer, Finding};
use ottla_sim::lies::{Lie, LyingDisk};
use ottla_sim::model;
use ottla_sim::world::{Duplicates, Markers, Namesakes, Patience, Rig};
use ottla_store::{Options, PlantedBug};

/// Crash points within which a planted mistake must be found.
const POINTS_MAX: u64 = 120_000;

/// Explores until the mistake is found and returns the finding.
fn found(name: &str, rig: &Rig) -> Box<Finding> {
    let mut points = 0;
    for seed in 1.. {
        let effort = Effort { points_max: 2_000, rotten_percent: 15, ..Effort::default() };
        match Explorer::explore(rig, effort, seed) {
            Ok(tally) => points += tally.points,
            Err(finding) => {
                println!("{name}: found after {} crash points", points + finding.points);
                println!("{finding}");
                return finding;
            }
        }
        assert!(points < POINTS_MAX, "{name}: not found in {points} crash points");
    }
    unreachable!("the loop ends by finding or by failing")
}

#[test]
fn acknowledge_before_sync() {
    let rig = Rig { patience: Patience::AcknowledgesAtOnce, ..Rig::default() };
    found("acknowledge before append is durable", &rig);
    let wrap = |disk| LyingDisk::over(disk, Lie::SkipsSyncOf("wal"));
    found("durable without a sync of the WAL", &Rig { wrap, ..Rig::default() });
}

#[test]
fn skip_a_directory_sync() {
    let wrap = |disk| LyingDisk::over(disk, Lie::SkipsSyncOfNamesIn(""));
    found("no directory is synced", &Rig { wrap, ..Rig::default() });
    let wrap = |disk| LyingDisk::over(disk, Lie::SkipsSyncOfNamesIn("wal"));
    found("the WAL's directory is not synced", &Rig { wrap, ..Rig::default() });
    let wrap = |disk| LyingDisk::over(disk, Lie::SkipsSyncOfNamesIn("partitions"));
    found("the partitions' directories are not synced", &Rig { wrap, ..Rig::default() });
}

#[test]
fn file_closed_dirty() {
    let wrap = |disk| LyingDisk::over(disk, Lie::ClosesDirty("partitions"));
    found("a partition's file is closed before its sync", &Rig { wrap, ..Rig::default() });
}

#[test]
fn duplicate_answered_early() {
    let rig = Rig { duplicates: Duplicates::AreAnsweredEarly, ..Rig::default() };
    found("a duplicate does not wait for its first copy", &rig);
}

#[test]
fn old_topics_frames_into_the_new_one() {
    let rig = Rig { namesakes: Namesakes::InheritTheId, ..Rig::default() };
    found("a namesake inherits the id", &rig);
}

#[test]
fn marker_of_one_partition_only() {
    let rig = Rig { markers: Markers::FrameEach, ..Rig::default() };
    found("a transaction's markers are written one by one", &rig);
}

#[test]
fn duplicate_window_lost() {
    let rig = Rig { engine: model::Planted::DuplicateWindowLost, ..Rig::default() };
    found("the duplicate windows are not in the snapshot", &rig);
}

#[test]
fn corruption_called_torn() {
    let options = |options| Options { planted: PlantedBug::CorruptionCalledTorn, ..options };
    found("the log is cut where it breaks off", &Rig { options, ..Rig::default() });
}

#[test]
fn truncate_in_the_middle() {
    let options = |options| Options { planted: PlantedBug::TruncatesInTheMiddle, ..options };
    found("the log is cut at the first damaged payload", &Rig { options, ..Rig::default() });
}

#[test]
fn torn_group_called_corruption() {
    let options = |options| Options { planted: PlantedBug::TornCalledCorruption, ..options };
    found("a torn group refuses the start", &Rig { options, ..Rig::default() });
}

#[test]
fn stale_frame_accepted() {
    let options = |options| Options { planted: PlantedBug::StaleFrameAccepted, ..options };
    found("a group of an earlier life of the file counts", &Rig { options, ..Rig::default() });
}

#[test]
fn recycle_before_sync() {
    let options = |options| Options { planted: PlantedBug::RecyclesBeforeSync, ..options };
    found("a segment goes before the snapshot is there", &Rig { options, ..Rig::default() });
}

#[test]
fn liveness_from_unsynced_settles() {
    let options = |options| Options { planted: PlantedBug::LivenessFromUnsyncedSettles, ..options };
    found("a snapshot is ahead of the log", &Rig { options, ..Rig::default() });
}

#[test]
fn fallback_snapshot_without_its_wal() {
    let options =
        |options| Options { planted: PlantedBug::FallbackSnapshotWithoutItsWal, ..options };
    found("the older snapshot lacks its log", &Rig { options, ..Rig::default() });
}
