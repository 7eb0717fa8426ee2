//! The only way to start: snapshot, chain, what exists, a new generation (store.md rules 1, 5, 7, 12, 13, 15).

pub(crate) mod chain;
mod rebuild;
mod resume;

use std::io::{self, IoSlice};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use crate::OpenError;
use crate::admission::Admission;
use crate::core::Core;
use crate::disk::{Disk, is_full, read_exact_at};
use crate::garbage::Garbage;
use crate::index_cache::Indexes;
use crate::keeper::{BALLAST_NAME, Keeper, SNAPSHOT_DIR, load_snapshots, sweep};
use crate::messages::{OLD_LOG_DIR, OldLogs};
use crate::options::{Durability, Options};
use crate::state::Replay;
use crate::streams::{PARTITIONS_DIR, Streams};
use crate::wal::cache::Cache;
use crate::wal::layout::FORMAT_VERSION;
use crate::wal::segments::{Segments, WAL_DIR};
use crate::wal::stage::Staging;
use crate::wal::writer::Wal;

/// Recovers what the disk holds. Until the log is judged whole nothing is changed.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    options: Options,
    replay: &mut dyn Replay,
) -> Result<(Core, Keeper), OpenError> {
    let is_new = judge_format(&*disk)?;
    let snapshots = load_snapshots(&*disk)?;
    let files = chain::list(&*disk)?;
    let manifest = &snapshots.manifest;
    let chain = chain::follow(
        &files,
        manifest.floor,
        manifest.floor_chain,
        snapshots.known_durable,
        options.planted,
    )?;
    for object in &snapshots.objects {
        replay
            .object(&object.key, object.applied, &object.bytes)
            .map_err(|what| OpenError::Corrupt { what, lsn: object.applied })?;
    }
    let garbage = Garbage::new(manifest.garbage.clone(), snapshots.last_number);
    let rebuilt = rebuild::rebuild(manifest, &chain, &garbage, replay)?;

    if is_new {
        write_format(&*disk)?;
    }
    make_directories(&*disk)?;
    sweep(&*disk, &snapshots, &rebuilt.outputs)?;
    let segments = Segments::new(Arc::clone(&disk), options.seed, manifest.floor);
    let place = match resume::resume(&*disk, &segments, &files, &chain, &options) {
        Err(OpenError::Io { source, .. }) if is_full(&source) && gives_way(&*disk)? => {
            resume::resume(&*disk, &segments, &files, &chain, &options)?
        }
        resumed => resumed?,
    };
    let durable = place.durable;
    let staging = Staging::new(place.plan, durable, options.segment_capacity());
    let cache = Cache::new(options.cache_bytes as u64);
    let sync = options.durability == Durability::Sync;
    let wal = Wal::new(staging, segments, cache, (place.segment, place.chain, durable), sync);

    let keeper = Keeper::new(&snapshots);
    let damage = Mutex::new(rebuilt.damage.clone());
    let core = Core {
        wal,
        old_logs: OldLogs::new(manifest.old_logs.iter().cloned()),
        indexes: Indexes::default(),
        buffers: Arc::default(),
        admission: Arc::new(Admission::new(options.unsynced_bytes_max)),
        garbage,
        observer: OnceLock::new(),
        floor: AtomicU64::new(manifest.floor),
        next_file: AtomicU64::new(rebuilt.next_file),
        young_entries: AtomicU64::new(rebuilt.young_entries),
        damage,
        streams: Streams::new(rebuilt.next_id, rebuilt.table()),
        disk,
        options,
    };
    keeper.opened(&core)?;
    Ok((core, keeper))
}

/// A start needs a WAL segment: on a full disk the ballast makes room for it. `false` if there is none.
fn gives_way(disk: &dyn Disk) -> Result<bool, OpenError> {
    match disk.remove(BALLAST_NAME) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::Io { doing: format!("remove {BALLAST_NAME}"), source }),
    }
}

/// Whether the directory is new; an error if a newer version wrote it.
fn judge_format(disk: &dyn Disk) -> Result<bool, OpenError> {
    let io = |source| OpenError::Io { doing: format!("read {FORMAT_NAME}"), source };
    let file = match disk.open_read(FORMAT_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = [0; FORMAT_BYTES];
    let corrupt = || OpenError::Corrupt {
        what: format!("{FORMAT_NAME} is not that of a data directory"),
        lsn: crate::Lsn::ZERO,
    };
    match read_exact_at(&*file, &mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(corrupt()),
        Err(error) => return Err(io(error)),
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| corrupt())?;
    let digits = text.strip_prefix(FORMAT_PREFIX).ok_or_else(corrupt)?;
    let found: u32 = digits.trim().parse().map_err(|_| corrupt())?;
    if found > FORMAT_VERSION {
        let (path, supported) = (FORMAT_NAME.into(), FORMAT_VERSION);
        return Err(OpenError::NewerFormat { path, found, supported });
    }
    Ok(false)
}

/// Written under another name first: the file is whole as soon as it exists.
fn write_format(disk: &dyn Disk) -> Result<(), OpenError> {
    let write = || -> io::Result<()> {
        match disk.remove(FORMAT_NEW_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(FORMAT_NEW_NAME)?;
        let text = format!("{FORMAT_PREFIX}{FORMAT_VERSION:>9}\n");
        file.write_at(&[IoSlice::new(text.as_bytes())], 0)?;
        file.sync()?;
        disk.rename(FORMAT_NEW_NAME, FORMAT_NAME)?;
        disk.sync_dir("")
    };
    write().map_err(|source| OpenError::Io { doing: format!("write {FORMAT_NAME}"), source })
}

fn make_directories(disk: &dyn Disk) -> Result<(), OpenError> {
    let make = || -> io::Result<()> {
        for path in [WAL_DIR, PARTITIONS_DIR, OLD_LOG_DIR, SNAPSHOT_DIR] {
            disk.create_dir(path)?;
        }
        // A process that was killed may have named its last snapshot and not lived to make the name
        // last. What that snapshot does without must not go before the name stays.
        disk.sync_dir(SNAPSHOT_DIR)?;
        disk.sync_dir("")
    };
    make().map_err(|source| OpenError::Io { doing: "make the directories".into(), source })
}

const FORMAT_NAME: &str = "FORMAT";
const FORMAT_NEW_NAME: &str = "FORMAT.new";
const FORMAT_PREFIX: &str = "ottla data ";
/// The prefix, the version to nine places, a line end.
const FORMAT_BYTES: usize = FORMAT_PREFIX.len() + 10;
