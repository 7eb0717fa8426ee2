//! The conformance suite on each transport. `CONFORMANCE_AT` names one more broker, as a connection
//! line: `CONFORMANCE_AT=kafka://127.0.0.1:9092 cargo test -p ottla --features kafka --test conformance`.
#![expect(clippy::print_stderr, reason = "a test may stop here, and say why")]

use ottla::testing::{self, Outcome};
use ottla::{Connection, Mint};

fn show(broker: &str, shown: &[(&str, Outcome)]) {
    for (name, outcome) in shown {
        eprintln!("{broker}: {name}: {outcome:?}");
    }
    let kept = shown.iter().filter(|(_, outcome)| *outcome == Outcome::Kept).count();
    eprintln!("{broker}: {kept} of {} kept", shown.len());
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_its_promises_without_any_time_passing() {
    let shown =
        testing::conformance(|| Box::pin(Connection::open_with("memory:", Mint::virtual_from(1))));
    show("memory", &shown.await);
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_keeps_its_promises() {
    static DATA: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    let data = std::env::temp_dir().join(format!("ottla-conformance-{}", std::process::id()));
    DATA.set(data.clone()).unwrap();
    let shown = testing::conformance(|| {
        Box::pin(async {
            let line = format!("ottla://embedded?data={}", DATA.get().unwrap().display());
            Connection::open(&line).await
        })
    });
    let shown = shown.await;
    std::fs::remove_dir_all(&data).unwrap();
    show("embedded", &shown);
    assert!(shown.iter().all(|(_, outcome)| *outcome == Outcome::Kept), "all is promised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_named_by_the_environment_keeps_its_promises() {
    let Ok(line) = std::env::var("CONFORMANCE_AT") else { return };
    let shown = testing::conformance(|| {
        Box::pin(async {
            let line = std::env::var("CONFORMANCE_AT").unwrap_or_default();
            Connection::open(&line).await
        })
    });
    show(&line, &shown.await);
}
