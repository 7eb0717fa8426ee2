//! `ottla events show`: the seed's account as an auditor sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use ottla::Envelope;
use ottla::db::Db;
use ottla::events::{EventStore, Expect, NewEvent};

fn ottla(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ottla")).args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn the_history_of_a_stream_tells_what_happened_and_why() {
    let folder = std::env::temp_dir().join(format!("ottla-events-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite:{}", folder.join("db").display());
    let missing = ottla(&["events", "show", "account-123", "--database", &url]);
    assert_eq!(missing.status.code(), Some(66), "{}", told(&missing));

    let db = Db::open(&url).await.unwrap();
    let none = ottla(&["events", "show", "account-123", "--database", &url]);
    assert_eq!(none.status.code(), Some(78), "{}", told(&none));
    let store = EventStore::open(&db).await.unwrap();
    let cause = Envelope::raw("open.account", "{}", db.mint());
    let mut tx = db.begin().await.unwrap();
    for (name, body) in [
        ("AccountCreated", r#"{"id":"123","balance":0}"#),
        ("Deposited", r#"{"amount":100}"#),
        ("Withdrawn", r#"{"amount":30}"#),
    ] {
        let envelope = Envelope::raw(name, body, db.mint()).caused_by(&cause, db.mint());
        let event = NewEvent { envelope, tags: Vec::new() };
        store.append(&mut tx, "account-123", Expect::Any, vec![event]).await.unwrap();
    }
    tx.commit().await.unwrap();

    let all = ottla(&["events", "show", "account-123", "--database", &url]);
    let text = told(&all);
    assert!(all.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("VERSION") && lines[2].contains("Deposited"), "{text}");
    assert!(
        lines[2].contains(&cause.id.to_string()) && lines[2].ends_with(r#"{"amount":100}"#),
        "{text}"
    );

    let second = told(&ottla(&["events", "show", "account-123", "--at", "2", "--database", &url]));
    assert!(second.contains("Deposited") && !second.contains("Withdrawn"), "{second}");
    let past = ottla(&[
        "events",
        "show",
        "account-123",
        "--at",
        "2020-01-01T00:00:00Z",
        "--database",
        &url,
    ]);
    assert_eq!(past.status.code(), Some(66), "{}", told(&past));
    let json =
        told(&ottla(&["events", "show", "account-123", "--json", "--at", "1", "--database", &url]));
    let first: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(first["causation"], cause.id.to_string());
    assert_eq!(first["body"]["id"], "123");
    let unknown =
        ottla(&["events", "show", "account-123", "--at", "yesterday", "--database", &url]);
    assert_eq!(unknown.status.code(), Some(64), "{}", told(&unknown));
    std::fs::remove_dir_all(folder).unwrap();
}
