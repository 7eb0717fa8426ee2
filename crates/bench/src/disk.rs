//! What a sync costs on a disk, to judge acknowledgements by.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use clap::Args;

use crate::Failure;
use crate::clock::{Clock, nanos};
use crate::figures::Figures;
use crate::noise::noise;
use crate::spread::Spread;

/// Overwrites blocks of a file one after another, each followed by fdatasync.
#[derive(Debug, Args)]
pub(crate) struct Disk {
    /// A folder on the disk; the file in it is removed at the end.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Disk) -> Result<String, Failure> {
    let path = args.folder.join(format!("ottla-bench-{}", std::process::id()));
    let spans = spans(args, &path);
    std::fs::remove_file(&path)?;
    let figures = Figures::of("disk").with("bytes", args.bytes);
    Ok(figures.with("sync_ms", Spread::of(spans?)).shown(args.json))
}

fn spans(args: &Disk, path: &std::path::Path) -> Result<Vec<u64>, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let block = noise(args.bytes);
    let step = u64::try_from(args.bytes)?;
    for index in 0..BLOCKS {
        file.write_all_at(&block, index * step)?; // so that the measured writes find their blocks
    }
    file.sync_all()?;
    let clock = Clock::start();
    let mut spans = Vec::new();
    for index in (0..BLOCKS).cycle() {
        let began = clock.now();
        if began >= nanos(args.seconds) {
            break;
        }
        file.write_all_at(&block, index * step)?;
        file.sync_data()?;
        spans.push(clock.now() - began);
    }
    Ok(spans)
}

const BLOCKS: u64 = 256;
