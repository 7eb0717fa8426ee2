//! The inbox: effects once, whoever else handles the same message at the same time.

use std::sync::Arc;
use std::time::Duration;

use ottla::inbox::{Inbox, Seen};
use ottla::params;

use crate::support::{Fresh, rows};

#[tokio::test]
async fn a_message_is_new_again_if_its_transaction_was_rolled_back() {
    let fresh = Fresh::new().await;
    let inbox = Inbox::open(&fresh.db).await.unwrap();
    let mut tx = fresh.db.begin().await.unwrap();
    assert_eq!(inbox.mark(&mut tx, "shipping", "m-1").await.unwrap(), Seen::First);
    assert_eq!(inbox.mark(&mut tx, "shipping", "m-1").await.unwrap(), Seen::Duplicate);
    tx.rollback().await.unwrap();
    let mut tx = fresh.db.begin().await.unwrap();
    assert_eq!(inbox.mark(&mut tx, "shipping", "m-1").await.unwrap(), Seen::First);
    assert_eq!(
        inbox.mark(&mut tx, "billing", "m-1").await.unwrap(),
        Seen::First,
        "another consumer"
    );
    tx.commit().await.unwrap();
    let mut tx = fresh.db.begin().await.unwrap();
    let seen = inbox.mark_all(&mut tx, "shipping", &["m-2", "m-1", "m-2"]).await.unwrap();
    assert_eq!(seen, [Seen::First, Seen::Duplicate, Seen::Duplicate]);
}

#[tokio::test]
async fn old_marks_are_forgotten_in_batches() {
    let fresh = Fresh::new().await;
    let inbox = Inbox::open(&fresh.db).await.unwrap();
    let ids: Vec<String> = (0..2_500).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut tx = fresh.db.begin().await.unwrap();
    let _ = inbox.mark_all(&mut tx, "shipping", &ids).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(inbox.sweep(Duration::from_secs(60)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(inbox.sweep(Duration::ZERO).await.unwrap(), 2_500);
}

/// One id to eight workers at once, over and over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_workers_race_for_each_message_and_each_is_handled_once() {
    let messages = i64::try_from(rows(1_000) / 10).unwrap().clamp(1_000, 10_000);
    let fresh = Fresh::new().await;
    fresh.script("CREATE TABLE handled (message BIGINT NOT NULL)").await;
    let inbox = Inbox::open(&fresh.db).await.unwrap();
    let start = Arc::new(tokio::sync::Barrier::new(8));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (db, inbox, start) = (fresh.db.clone(), inbox.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                for message in 0..messages {
                    let mut crashes = (message + worker) % 7 == 0;
                    loop {
                        let mut tx = db.begin().await.unwrap();
                        let seen =
                            inbox.mark(&mut tx, "worker", &message.to_string()).await.unwrap();
                        if seen == Seen::First {
                            tx.exec("INSERT INTO handled VALUES ($1)", &params![message])
                                .await
                                .unwrap();
                            if std::mem::take(&mut crashes) {
                                drop(tx); // before its commit; then the broker delivers again
                                continue;
                            }
                        }
                        tx.commit().await.unwrap();
                        break;
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(fresh.number("SELECT count(*) FROM handled").await, messages);
    assert_eq!(fresh.number("SELECT count(DISTINCT message) FROM handled").await, messages);
}
