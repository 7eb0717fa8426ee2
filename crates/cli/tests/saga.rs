//! `ottla saga`: an operator finds a stuck saga and lets it go on. On SQLite, and on the PostgreSQL of
//! `STORES_DATABASE`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use ottla::db::Db;
use ottla::saga::{Phase, Saga, Sagas, step};
use ottla::{Envelope, Message, Mint};
use serde::{Deserialize, Serialize};

macro_rules! messages {
    ($($name:ident = $text:literal),*) => { $(
        #[derive(Clone, Serialize, Deserialize, Message)]
        #[message(name = $text, key = "order")]
        struct $name { order: String }
    )* };
}

messages! {
    Placed = "order.placed", Reserve = "stock.reserve", Reserved = "stock.reserved",
    Release = "stock.release", Released = "stock.released", Charge = "payment.charge",
    Charged = "payment.charged", Declined = "payment.declined"
}

#[derive(Clone, Serialize, Deserialize)]
struct Checkout {
    order: String,
    cents: f64,
}

/// Asks for an undo once.
fn checkout() -> Saga<Checkout> {
    let order = |c: &Checkout| c.order.clone();
    Saga::starts_on("checkout", "orders", |m: Placed| Checkout { order: m.order, cents: 0.1 })
        .step(
            step("reserve", "queue:stock", move |c| Reserve { order: order(c) })
                .done_on::<Reserved>("stock-events")
                .undo("queue:stock", move |c| Release { order: order(c) })
                .undone_on::<Released>("stock-events"),
        )
        .step(
            step("charge", "queue:payment", move |c| Charge { order: order(c) })
                .done_on::<Charged>("payments")
                .failed_on::<Declined>("payments"),
        )
        .undo_again(1, Duration::ZERO, Duration::ZERO)
}

fn ottla(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ottla")).arg("saga").args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn message<M: Message>(message: &M) -> Envelope {
    Envelope::of(message, &Mint::system()).unwrap()
}

/// A database of this test's own.
async fn fresh() -> (String, PathBuf) {
    let name = format!("saga_{}", std::process::id());
    let folder = std::env::temp_dir().join(format!("ottla-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    let Ok(server) = std::env::var("STORES_DATABASE") else {
        return (format!("sqlite:{}", folder.join("db").display()), folder);
    };
    let admin = Db::open(&server).await.unwrap();
    let mut tx = admin.begin().await.unwrap();
    tx.script(&format!("CREATE SCHEMA {name}")).await.unwrap();
    tx.commit().await.unwrap();
    let mark = if server.contains('?') { '&' } else { '?' };
    (format!("{server}{mark}options=-csearch_path%3D{name}"), folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_why_a_saga_is_stuck_and_lets_it_go_on() {
    let (url, folder) = fresh().await;
    let db = Db::open(&url).await.unwrap();
    let sagas = Sagas::open(checkout(), &db).await.unwrap();
    let order = |number: u32| format!("o-{number}");
    for number in 0..3 {
        sagas.receive(&message(&Placed { order: order(number) })).await.unwrap();
        sagas.receive(&message(&Reserved { order: order(number) })).await.unwrap();
    }
    sagas.receive(&message(&Declined { order: order(1) })).await.unwrap();
    assert_eq!(sagas.tick().await.unwrap(), 1, "nobody released the stock");
    let at = ["--database", &url];
    let run = |arguments: &[&str]| ottla(&[arguments, &at].concat());

    let listed = told(&run(&["list"]));
    assert_eq!(listed.lines().count(), 2, "only the stuck one: {listed}");
    for word in ["o-1", "stuck", "reserve", "charge: payment.declined", "not answered"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    let all = told(&run(&["list", "--phase", "any", "--saga", "checkout", "--json"]));
    assert_eq!(all.lines().count(), 3, "{all}");
    let shown = told(&run(&["show", "checkout", "o-1"]));
    assert!(shown.contains("{\"cents\":0.1,\"order\":\"o-1\"}"), "{shown}");
    assert!(shown.contains("asked to undo reserve"), "{shown}");

    let healthy = run(&["resume", "checkout", "o-2"]);
    assert_eq!(healthy.status.code(), Some(65), "{}", told(&healthy));
    let unknown = run(&["resume", "checkout", "o-9"]);
    assert_eq!(unknown.status.code(), Some(66), "{}", told(&unknown));
    let resumed = run(&["resume", "checkout", "o-1"]);
    assert!(resumed.status.success(), "{}", told(&resumed));

    assert_eq!(sagas.tick().await.unwrap(), 1, "its program asks again");
    let phase = sagas.get("o-1").await.unwrap().unwrap().phase;
    assert!(matches!(phase, Phase::Undoing { attempt: 1, .. }), "{phase:?}");
    sagas.receive(&message(&Released { order: order(1) })).await.unwrap();
    let ended = sagas.get("o-1").await.unwrap().unwrap();
    assert_eq!(ended.phase, Phase::Failed { why: "charge: payment.declined".to_owned() });
    let what: Vec<&str> = ended.history.iter().map(|moment| moment.what.as_str()).collect();
    assert!(what.contains(&"resumed at reserve by an operator"), "{what:?}");
    let none = told(&run(&["list"]));
    assert!(none.contains("none in phase stuck"), "{none}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_database_without_sagas_is_told_so() {
    let missing = ottla(&["list", "--database", "sqlite:/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(66), "{}", told(&missing));
}
