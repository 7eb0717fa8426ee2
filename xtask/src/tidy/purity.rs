//! What the text of a pure crate must not say: files, sockets, threads, clocks, `async fn`.

use super::Finding;
use super::layers::PURE;
use super::source::Source;

/// A forbidden path (a run of segments), and why.
const BANNED: [(&[&str], &str); 6] = [
    (&["std", "fs"], FILES),
    (&["std", "net"], "sockets belong to crates/server"),
    (&["std", "thread"], "threads are spawned by crates/server or the embedded broker"),
    (&["std", "env"], "settings come in as arguments"),
    (&["Instant", "now"], CLOCK),
    (&["SystemTime"], CLOCK),
];
/// What a loop that the server runs on its thread may do there: wait to be woken.
const WAITING: [&str; 2] = ["park", "park_timeout"];
const FILES: &str = "the disk comes in as `dyn Disk`";
const CLOCK: &str = "time comes in as an argument";

/// Files and folders where one reason does not count: the real disk, the real clock.
const EXEMPT: [(&str, &str); 3] = [
    ("crates/store/src/disk.rs", FILES),
    ("crates/store/src/disk/", FILES),
    ("crates/engine/src/clock.rs", CLOCK),
];

/// The crates that may not even be asynchronous; the engine may hand out futures of its own.
const SYNCHRONOUS: [&str; 3] = ["crates/store", "crates/kafka-proto", "crates/amqp-proto"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !PURE.contains(&source.folder()) || source.is_test() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for path in &source.paths {
        for (banned, why) in BANNED {
            let said = path.segments.windows(banned.len()).any(|run| run == banned)
                && !path.segments.last().is_some_and(|last| WAITING.contains(&last.as_str()));
            if said && !is_exempt(&source.file, why) {
                let what = format!("`{}` in a pure crate: {why}", banned.join("::"));
                findings.push(Finding::at(&source.file, path.line, what));
            }
        }
    }
    if SYNCHRONOUS.contains(&source.folder()) {
        for pair in source.tokens.windows(2) {
            if let [first, second] = pair
                && first.text == "async"
                && matches!(second.text.as_str(), "fn" | "move" | "{")
            {
                let what = "`async` in a pure crate: machines are driven, they do not wait";
                findings.push(Finding::at(&source.file, first.line, what));
            }
        }
    }
    findings
}

fn is_exempt(file: &str, why: &str) -> bool {
    EXEMPT.iter().any(|(place, reason)| {
        *reason == why && (file == *place || place.ends_with('/') && file.starts_with(place))
    })
}
