//! What the simulated disk promises, and what it does not.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use ottla_sim::disk::cut::{Cutter, KeepAll, KeepNothing, PageFate, SECTORS};
use ottla_sim::disk::{Faults, PAGE, SECTOR, SimDisk};
use ottla_store::disk::{Disk, DiskFile};

/// Keeps exactly the pages and names it lists.
#[derive(Debug, Default)]
struct Exactly {
    pages: Vec<usize>,
    names: Vec<&'static str>,
    length: bool,
}

impl Cutter for Exactly {
    fn page(&mut self, _path: &str, index: usize, versions: usize) -> PageFate {
        PageFate::Version(if self.pages.contains(&index) { versions } else { 0 })
    }
    fn length(&mut self, _path: &str, changes: usize) -> usize {
        if self.length { changes } else { 0 }
    }
    fn name(&mut self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

fn write(file: &Arc<dyn DiskFile>, position: u64, bytes: &[u8]) {
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open_read(path).unwrap();
    let mut bytes = vec![0xEE; usize::try_from(file.len().unwrap()).unwrap()];
    let read = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

/// A disk whose file `f` holds `pages` pages of ones, durable, with its name.
fn disk_with_ones(pages: usize) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.create("f").unwrap();
    write(&file, 0, &vec![1; pages * PAGE]);
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

fn first_bytes_of_pages(disk: &SimDisk) -> Vec<u8> {
    content(disk, "f").chunks(PAGE).map(|page| page[0]).collect()
}

#[test]
fn a_reader_sees_what_was_written_across_pages_parts_and_holes() {
    let disk = SimDisk::new();
    let file = disk.create("f").unwrap();
    let parts = [IoSlice::new(&[1; 3_000]), IoSlice::new(&[2; 3_000]), IoSlice::new(&[3; 10])];
    file.write_at(&parts, 4_000).unwrap();
    let mut expected = vec![0; 4_000];
    expected.extend([1; 3_000]);
    expected.extend([2; 3_000]);
    expected.extend([3; 10]);
    assert_eq!(content(&disk, "f"), expected);
    let mut beyond = [9; 4];
    assert_eq!(file.read_at(&mut beyond, 10_008).unwrap(), 2);
    assert_eq!(file.read_at(&mut beyond, 10_010).unwrap(), 0);
}

#[test]
fn synced_bytes_with_a_synced_name_survive_whatever_the_cut_drops() {
    let (disk, _file) = disk_with_ones(3);
    for seed in 0..200 {
        assert_eq!(content(&disk.crash(seed), "f"), vec![1; 3 * PAGE]);
    }
}

#[test]
fn a_synced_file_whose_directory_was_not_synced_has_no_name() {
    let disk = SimDisk::new();
    let file = disk.create("f").unwrap();
    write(&file, 0, b"bytes");
    file.sync().unwrap();
    let lost = disk.crash_by(&mut KeepNothing);
    assert_eq!(lost.open("f").unwrap_err().kind(), ErrorKind::NotFound);
    // The other legal outcome: the name got through by itself.
    assert_eq!(
        content(&disk.crash_by(&mut Exactly { names: vec!["f"], ..Exactly::default() }), "f"),
        b"bytes"
    );
}

#[test]
fn of_an_unsynced_file_the_name_alone_may_survive() {
    let disk = SimDisk::new();
    write(&disk.create("f").unwrap(), 0, b"bytes");
    disk.sync_dir("").unwrap();
    assert_eq!(content(&disk.crash_by(&mut KeepNothing), "f"), b"");
    let mut length_only = Exactly { length: true, ..Exactly::default() };
    assert_eq!(content(&disk.crash_by(&mut length_only), "f"), [0; 5]);
}

#[test]
fn a_later_page_may_survive_without_an_earlier_one() {
    let (disk, file) = disk_with_ones(3);
    write(&file, 0, &[2; 3 * PAGE]);
    let cut = disk.crash_by(&mut Exactly { pages: vec![2], ..Exactly::default() });
    assert_eq!(first_bytes_of_pages(&cut), [1, 1, 2]);
}

#[test]
fn a_torn_page_is_made_of_old_and_new_sectors() {
    #[derive(Debug)]
    struct Tear;
    impl Cutter for Tear {
        fn page(&mut self, _: &str, _: usize, versions: usize) -> PageFate {
            let mut sectors = [0; SECTORS];
            sectors[1] = versions;
            sectors[2] = versions - 1;
            PageFate::Torn(sectors)
        }
        fn length(&mut self, _: &str, changes: usize) -> usize {
            changes
        }
        fn name(&mut self, _: &str) -> bool {
            true
        }
    }
    let (disk, file) = disk_with_ones(1);
    write(&file, 0, &[2; PAGE]);
    write(&file, 0, &[3; PAGE]);
    let torn = content(&disk.crash_by(&mut Tear), "f");
    let sectors = torn.chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>();
    assert_eq!(sectors, [1, 3, 2, 1, 1, 1, 1, 1]);
}

/// store.md rule 1: "of 65,536 subsets of a 16-page group 65,519 leave a bad frame before a valid one".
#[test]
fn of_the_subsets_of_a_group_of_16_pages_all_but_17_leave_a_gap() {
    let (disk, file) = disk_with_ones(16);
    write(&file, 0, &[2; 16 * PAGE]);
    let moment = disk.moment();
    let mut gaps = 0;
    for subset in 0..1_u32 << 16 {
        let pages = (0..16).filter(|page| subset >> page & 1 == 1).collect();
        let cut = moment.crash_by(&mut Exactly { pages, ..Exactly::default() });
        let file = cut.open_read("f").unwrap();
        let kept = (0..16).map(|page| {
            let mut byte = [0];
            file.read_at(&mut byte, page * 4096).unwrap();
            byte[0] == 2
        });
        let kept = kept.collect::<Vec<_>>();
        assert_eq!((0..16).filter(|page| kept[*page]).fold(0, |set, page| set | 1 << page), subset);
        gaps += usize::from(kept.windows(2).any(|pair| !pair[0] && pair[1]));
    }
    assert_eq!(gaps, 65_519);
}

#[test]
fn the_seeded_cut_reaches_every_subset_of_four_pages() {
    let (disk, file) = disk_with_ones(4);
    write(&file, 0, &[2; 4 * PAGE]);
    let moment = disk.moment();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..3_000 {
        seen.insert(first_bytes_of_pages(&moment.crash(seed)));
    }
    let whole = seen.iter().filter(|pages| pages.iter().all(|byte| [1, 2].contains(byte))).count();
    assert_eq!(whole, 16);
}

#[test]
fn after_a_failed_sync_reads_show_the_bytes_and_the_disk_never_gets_them() {
    let (disk, file) = disk_with_ones(2);
    disk.set_faults(Faults { sync_errors: [2].into(), ..Faults::default() });
    write(&file, 0, &[2; PAGE]);
    assert_eq!(file.sync().unwrap_err().to_string(), "EIO");
    assert_eq!(first_bytes_of_pages(&disk), [2, 1]);
    file.sync().expect("Linux reports success: the pages count as clean");
    assert_eq!(
        first_bytes_of_pages(&disk.restart()),
        [2, 1],
        "the page cache outlives the process"
    );
    for seed in 0..50 {
        assert_eq!(first_bytes_of_pages(&disk.crash(seed)), [1, 1]);
        assert_eq!(first_bytes_of_pages(&disk.restart().crash(seed)), [1, 1]);
    }
    write(&file, 0, &[3; PAGE]);
    file.sync().unwrap();
    assert_eq!(first_bytes_of_pages(&disk.crash_by(&mut KeepNothing)), [3, 1]);
}

#[test]
fn a_file_closed_dirty_loses_its_error_and_its_bytes() {
    let (disk, file) = disk_with_ones(1);
    disk.set_faults(Faults { forgets_on_close: true, ..Faults::default() });
    write(&file, 0, &[2; PAGE]);
    let second = disk.open("f").unwrap();
    drop(file);
    second.sync().expect("one handle was still open");
    assert_eq!(first_bytes_of_pages(&disk.crash_by(&mut KeepNothing)), [2]);
    write(&second, 0, &[3; PAGE]);
    drop(second);
    disk.open("f").unwrap().sync().expect("the error went with the handle");
    assert_eq!(first_bytes_of_pages(&disk), [3]);
    assert_eq!(first_bytes_of_pages(&disk.crash_by(&mut KeepAll)), [2]);
}

#[test]
fn a_killed_process_loses_nothing_and_makes_nothing_durable() {
    let (disk, file) = disk_with_ones(1);
    write(&file, 0, &[2; PAGE]);
    let restarted = disk.restart();
    assert_eq!(first_bytes_of_pages(&restarted), [2]);
    assert_eq!(first_bytes_of_pages(&restarted.crash_by(&mut KeepNothing)), [1]);
    restarted.open("f").unwrap().sync().unwrap();
    assert_eq!(first_bytes_of_pages(&restarted.crash_by(&mut KeepNothing)), [2]);
    assert_eq!(first_bytes_of_pages(&disk.crash_by(&mut KeepNothing)), [1], "disks are separate");
}

#[test]
fn a_rename_leaves_the_old_or_the_new_content_and_never_none() {
    let (disk, _old) = disk_with_ones(1);
    let file = disk.create("f.tmp").unwrap();
    write(&file, 0, &[2; PAGE]);
    file.sync().unwrap();
    disk.rename("f.tmp", "f").unwrap();
    for seed in 0..100 {
        let first = first_bytes_of_pages(&disk.crash(seed));
        assert!(first == [1] || first == [2], "{first:?}");
    }
    disk.sync_dir("").unwrap();
    let after = disk.crash_by(&mut KeepNothing);
    assert_eq!(first_bytes_of_pages(&after), [2]);
    assert_eq!(after.list("").unwrap(), ["f"]);
}

#[test]
fn a_rename_between_directories_never_loses_the_file() {
    let disk = SimDisk::new();
    disk.create_dir("a/b").unwrap();
    disk.create("a/f").unwrap();
    for dir in ["", "a", "a/b"] {
        disk.sync_dir(dir).unwrap();
    }
    disk.rename("a/f", "a/b/f").unwrap();
    let places = |disk: &SimDisk| [disk.open("a/f").is_ok(), disk.open("a/b/f").is_ok()];
    for seed in 0..100 {
        assert_ne!(places(&disk.crash(seed)), [false, false]);
    }
    disk.sync_dir("a").unwrap();
    assert_eq!(places(&disk.crash_by(&mut KeepNothing)), [false, true]);
}

#[test]
fn any_subset_of_unsynced_names_may_survive() {
    let disk = SimDisk::new();
    for name in ["a", "b", "c"] {
        disk.create(name).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..500 {
        seen.insert(disk.crash(seed).list("").unwrap());
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_directory_needs_its_parent_synced() {
    let disk = SimDisk::new();
    disk.create_dir("a").unwrap();
    disk.create("a/f").unwrap().sync().unwrap();
    disk.sync_dir("a").unwrap();
    assert_eq!(disk.crash_by(&mut KeepNothing).list("a").unwrap_err().kind(), ErrorKind::NotFound);
    disk.sync_dir("").unwrap();
    assert_eq!(disk.crash_by(&mut KeepNothing).list("a").unwrap(), ["f"]);
}

#[test]
fn a_removed_name_may_come_back_until_its_directory_is_synced() {
    let (disk, file) = disk_with_ones(1);
    disk.remove("f").unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 0).expect("an open file outlives its name");
    assert_eq!(byte, [1]);
    assert_eq!(first_bytes_of_pages(&disk.crash_by(&mut KeepNothing)), [1]);
    disk.sync_dir("").unwrap();
    assert!(disk.crash_by(&mut KeepNothing).list("").unwrap().is_empty());
}

#[test]
fn an_unsynced_cut_of_a_file_may_or_may_not_happen_and_never_shows_old_bytes_again() {
    let (disk, file) = disk_with_ones(2);
    file.set_len(100).unwrap();
    assert_eq!(content(&disk.crash_by(&mut KeepNothing), "f"), [1; 2 * PAGE]);
    let mut length_only = Exactly { length: true, ..Exactly::default() };
    assert_eq!(content(&disk.crash_by(&mut length_only), "f"), [1; 100]);
    file.set_len(200).unwrap();
    file.sync().unwrap();
    let cut = content(&disk.crash_by(&mut KeepNothing), "f");
    assert_eq!((&cut[..100], &cut[100..]), (&[1; 100][..], &[0; 100][..]));
}

#[test]
fn a_full_disk_writes_what_fits_and_says_so() {
    let disk = SimDisk::new();
    let capacity_bytes = Some(4 * 4096);
    disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
    let file = disk.create("f").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 3 * 4096, "the root directory takes a page");
    let error = file.write_at(&[IoSlice::new(&[1; 4 * PAGE])], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 3 * 4096);
    write(&file, 0, &[2; PAGE]);
    assert_eq!(disk.create("g").unwrap_err().kind(), ErrorKind::StorageFull);
    drop(file);
    disk.remove("f").unwrap();
    disk.sync_dir("").unwrap();
    disk.create("g").expect("what has no name and no reader is free again once its name is");
}

#[test]
fn rot_changes_one_byte_for_readers_and_after_a_cut() {
    let (disk, _file) = disk_with_ones(1);
    assert!(disk.rot("f", 77, 0x80));
    assert!(!disk.rot("f", 4096, 1));
    for disk in [disk.clone(), disk.crash(3)] {
        let bytes = content(&disk, "f");
        assert_eq!((bytes[76], bytes[77], bytes[78]), (1, 0x81, 1));
    }
}

#[test]
fn a_recorded_moment_does_not_change_when_the_disk_goes_on() {
    let disk = SimDisk::new();
    disk.record();
    let file = disk.create("f").unwrap();
    write(&file, 0, b"one");
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    write(&file, 0, b"two");
    file.sync().unwrap();
    let moments = disk.take_moments();
    let told = moments.iter().map(|moment| (moment.call, moment.what.as_str())).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            (1, "create f"),
            (2, "write f"),
            (3, "sync f"),
            (4, "sync_dir "),
            (5, "write f"),
            (6, "sync f")
        ]
    );
    assert_eq!(content(&moments[3].crash_by(&mut KeepAll), "f"), b"one");
    assert_eq!(content(&moments[4].crash_by(&mut KeepNothing), "f"), b"one");
    assert_eq!(content(&moments[5].crash_by(&mut KeepNothing), "f"), b"two");
}

#[test]
fn slow_syncs_are_added_up_without_waiting() {
    let disk = SimDisk::new();
    disk.set_faults(Faults { sync_micros: 5_000_000, ..Faults::default() });
    disk.create("f").unwrap().sync().unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.waited_micros(), 10_000_000);
}

#[test]
fn the_trace_tells_runs_apart_that_differ_in_one_byte() {
    let run = |byte: u8| {
        let disk = SimDisk::new();
        let file = disk.create("f").unwrap();
        write(&file, 0, &[1, byte]);
        file.sync().unwrap();
        disk.trace()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
