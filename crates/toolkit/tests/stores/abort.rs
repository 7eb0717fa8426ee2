//! Programs of this suite that run in a process of their own and are ended in it: by an abort, at a boundary
//! and a time that they are told. What they write to files of their home stays.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A program, which is a test of this suite that does nothing unless it is run from here.
pub(crate) struct Program {
    test: &'static str,
    pub(crate) home: PathBuf,
    url: String,
    runs: usize,
}

impl Program {
    /// `test`: its path in this suite; `url`: the database it works on.
    pub(crate) fn new(test: &'static str, url: &str) -> Self {
        let name = test.replace(':', "-");
        let home = std::env::temp_dir().join(format!("ottla-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        Self { test, home, url: url.to_owned(), runs: 0 }
    }

    /// Runs it, and ends it when it reaches a boundary for the nth time.
    pub(crate) fn ended_at(&mut self, boundary: &str, nth: usize) {
        let status = self.run(&format!("{nth} {boundary}"));
        assert_eq!(status, Some(ABORTED), "{boundary:?} was not reached for the {nth}. time");
    }

    /// Runs it to its end.
    pub(crate) fn run_to_its_end(&mut self) {
        assert_eq!(self.run("0 never"), None, "the last run must end by itself");
    }

    /// How often it was run.
    pub(crate) const fn runs(&self) -> usize {
        self.runs
    }

    /// The signal that ended it; `None` if it succeeded.
    fn run(&mut self, crash: &str) -> Option<i32> {
        self.runs += 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.test, "--nocapture"])
            .env("CRASH_HOME", &self.home)
            .env("CRASH_AT", crash)
            .env("CRASH_URL", &self.url)
            .env("CRASH_RUN", self.runs.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{}, to be ended at {crash:?}, hangs", self.test);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success() || status.signal().is_some(), "{} failed: {status}", self.test);
        status.signal()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.home));
    }
}

/// What a program is told.
pub(crate) struct Told {
    pub(crate) home: PathBuf,
    pub(crate) url: String,
    /// Which run it is, from 1.
    pub(crate) run: usize,
}

/// What this process was told; `None` if it is the suite itself.
pub(crate) fn told() -> Option<Told> {
    let home = PathBuf::from(std::env::var("CRASH_HOME").ok()?);
    let run = std::env::var("CRASH_RUN").unwrap().parse().unwrap();
    Some(Told { home, url: std::env::var("CRASH_URL").unwrap(), run })
}

/// Ends this process without a word, if this is the boundary and the time that it was told.
pub(crate) fn boundary(name: &str) {
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    let at = std::env::var("CRASH_AT").unwrap_or_default();
    let Some((nth, wanted)) = at.split_once(' ') else { return };
    if wanted == name
        && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == nth.parse::<usize>().unwrap()
    {
        std::process::abort();
    }
}

/// One more line, in one write.
pub(crate) fn append(file: &Path, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

pub(crate) fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

const ABORTED: i32 = 6;
/// As long as one run may take on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(120);
