//! The binary `ottla`, run in a directory of the test's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory that goes when the test ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ottla-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// `ottla ARGUMENTS` in `scratch`, ended by `timeout` should it hang; nothing of our environment is seen.
pub(crate) fn ottla(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60", env!("CARGO_BIN_EXE_ottla")]).args(arguments);
    command.current_dir(scratch.path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTTLA_")) {
        command.env_remove(name);
    }
    command
}

/// What a command that ends by itself says.
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(command: &mut Command) -> Told {
    told(command.stdin(Stdio::null()).output().unwrap())
}

/// Runs a command that reads `input`.
pub(crate) fn feed(command: &mut Command, input: &str) -> Told {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    told(child.wait_with_output().unwrap())
}

pub(crate) fn told(output: Output) -> Told {
    Told {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Told {
    /// The command succeeded; returns what it wrote to stdout.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// The command failed with this exit code and said all of this.
    pub(crate) fn failed(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "`{word}` is missing in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

/// A broker that serves on free ports until it is dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) scratch: Scratch,
    pub(crate) kafka: String,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::on(Scratch::new(), arguments)
    }

    /// Serves `scratch/data`, with its log in `scratch/log`.
    pub(crate) fn on(scratch: Scratch, arguments: &[&str]) -> Self {
        let log = std::fs::File::create(scratch.path().join("log")).unwrap();
        let ready = scratch.path().join("ready.json");
        drop(std::fs::remove_file(&ready));
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command.args(["serve", "--data", "data", "--ready-file", "ready.json"]);
        for (name, value) in [("--kafka", "127.0.0.1:0"), ("--amqp", "off"), ("--http", "off")] {
            if !arguments.contains(&name) {
                command.args([name, value]);
            }
        }
        command.args(arguments).current_dir(scratch.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTTLA_")) {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let text = within(Duration::from_secs(20), || {
            assert_eq!(child.try_wait().unwrap(), None, "the broker ended");
            std::fs::read_to_string(&ready).ok()
        });
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let kafka = parsed["kafka"][0].as_str().unwrap().to_owned();
        Self { child, scratch, kafka }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap()
    }

    /// A command against this broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ottla(&self.scratch, arguments);
        command.args(["--bootstrap", &self.kafka]);
        command
    }

    /// Asks it to stop; returns its exit code and how long that took.
    pub(crate) fn stop(&mut self) -> (Option<i32>, Duration) {
        let begun = clock();
        let process = self.process().to_string();
        let kill = Command::new("sh").args(["-c", "kill -TERM $0", &process]).status().unwrap();
        assert!(kill.success());
        let status = within(Duration::from_secs(20), || self.child.try_wait().unwrap());
        (status.code(), begun.elapsed())
    }

    /// Stops in order and gives the directory back.
    pub(crate) fn into_scratch(mut self) -> Scratch {
        assert_eq!(self.stop().0, Some(0));
        std::mem::replace(&mut self.scratch, Scratch::new())
    }

    /// Kilobytes of a line of `/proc/PID/status`: `VmHWM:` is the most it ever held in memory.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = clock();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "nothing within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests bound how long things take")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}
