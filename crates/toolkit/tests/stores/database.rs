//! One transaction for everything, group commit, bounded waiting, tables by version.

use std::time::Duration;

use ottla::db::{Db, DbError, DbOptions, Dialect, Migration, Value};
use ottla::params;

use crate::support::Fresh;

#[tokio::test]
async fn what_is_not_committed_is_seen_by_nobody_else() {
    let fresh = Fresh::new().await;
    fresh.script("CREATE TABLE t (n BIGINT)").await;
    let other = fresh.again().await;
    let mut tx = fresh.db.begin().await.unwrap();
    tx.exec("INSERT INTO t VALUES ($1)", &params![1]).await.unwrap();
    assert_eq!(tx.one("SELECT count(*) FROM t", &[]).await.unwrap().get::<i64>(0).unwrap(), 1);
    for db in [&fresh.db, &other] {
        assert_eq!(db.query("SELECT n FROM t", &[]).await.unwrap().len(), 0);
    }
    tx.commit().await.unwrap();
    for db in [&fresh.db, &other] {
        assert_eq!(db.query("SELECT n FROM t", &[]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_dropped_transaction_never_happened() {
    let fresh = Fresh::new().await;
    fresh.script("CREATE TABLE t (n BIGINT)").await;
    let mut tx = fresh.db.begin().await.unwrap();
    tx.exec("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    tx.queue("INSERT INTO t VALUES ($1)", params![2].into()).await.unwrap();
    drop(tx);
    fresh.script("INSERT INTO t VALUES (3)").await;
    assert_eq!(fresh.number("SELECT CAST(sum(n) AS BIGINT) FROM t").await, 3);
}

#[tokio::test]
async fn after_a_failed_statement_nothing_of_the_transaction_counts() {
    let fresh = Fresh::new().await;
    fresh.script("CREATE TABLE t (n BIGINT PRIMARY KEY)").await;
    let mut tx = fresh.db.begin().await.unwrap();
    tx.exec("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    let twice = tx.exec("INSERT INTO t VALUES (1)", &[]).await.unwrap_err();
    assert!(matches!(twice, DbError::Constraint { .. }), "{twice}");
    assert!(matches!(tx.exec("INSERT INTO t VALUES (2)", &[]).await, Err(DbError::Aborted)));
    assert!(matches!(tx.commit().await, Err(DbError::Aborted)));
    assert_eq!(fresh.number("SELECT count(*) FROM t").await, 0);

    // What was queued fails where it is sent.
    let mut tx = fresh.db.begin().await.unwrap();
    tx.queue("INSERT INTO t VALUES (1), (1)", vec![]).await.unwrap();
    assert!(matches!(tx.commit().await, Err(DbError::Constraint { .. })));
    assert_eq!(fresh.number("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_value_that_does_not_fit_takes_back_what_was_queued_before_it() {
    let fresh = Fresh::new().await;
    fresh
        .script(match fresh.db.dialect() {
            Dialect::Sqlite => "CREATE TABLE t (n INTEGER) STRICT",
            Dialect::Postgres => "CREATE TABLE t (n BIGINT)",
        })
        .await;
    let put = "INSERT INTO t VALUES ($1)";
    let mut tx = fresh.db.begin().await.unwrap();
    tx.queue(put, params![1].into()).await.unwrap();
    tx.commit().await.unwrap();
    // Known by now, the statements and the commit go to PostgreSQL together, and this value is refused on the way.
    let mut tx = fresh.db.begin().await.unwrap();
    tx.queue(put, params![2].into()).await.unwrap();
    tx.queue(put, params!["three"].into()).await.unwrap();
    tx.commit().await.unwrap_err();
    assert_eq!(fresh.number("SELECT CAST(sum(n) AS BIGINT) FROM t").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_count_exactly_though_some_of_them_roll_back() {
    let fresh = Fresh::new().await;
    fresh.script("CREATE TABLE t (n BIGINT NOT NULL); INSERT INTO t VALUES (0); CREATE TABLE log (who BIGINT, i BIGINT)").await;
    let callers: Vec<_> = (0..32_i64)
        .map(|who| {
            let db = fresh.db.clone();
            tokio::spawn(async move {
                for i in 0..20_i64 {
                    let mut tx = db.begin().await.unwrap();
                    tx.exec("UPDATE t SET n = n + 1", &[]).await.unwrap();
                    tx.queue("INSERT INTO log VALUES ($1, $2)", params![who, i].into())
                        .await
                        .unwrap();
                    if (who + i) % 5 == 0 {
                        tx.rollback().await.unwrap()
                    } else {
                        tx.commit().await.unwrap()
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(fresh.number("SELECT n FROM t").await, 32 * 16);
    assert_eq!(fresh.number("SELECT count(*) FROM log").await, 32 * 16);
}

#[tokio::test]
async fn nobody_waits_forever_for_a_transaction_that_is_held_open() {
    let options = short(Duration::from_millis(200), Duration::from_secs(30));
    let fresh = Fresh::with(options).await;
    fresh.script("CREATE TABLE t (n BIGINT NOT NULL); INSERT INTO t VALUES (0)").await;
    let mut holder = fresh.db.begin().await.unwrap();
    holder.exec("UPDATE t SET n = 1", &[]).await.unwrap();
    let mut other = fresh.db.begin().await.unwrap();
    let error = other.exec("UPDATE t SET n = 2", &[]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    drop(other);
    holder.commit().await.unwrap();
    assert_eq!(fresh.number("SELECT n FROM t").await, 1);
}

#[tokio::test]
async fn a_transaction_without_a_statement_for_too_long_is_rolled_back() {
    let fresh = Fresh::with(short(Duration::from_secs(10), Duration::from_millis(100))).await;
    fresh.script("CREATE TABLE t (n BIGINT NOT NULL); INSERT INTO t VALUES (0)").await;
    let mut forgotten = fresh.db.begin().await.unwrap();
    forgotten.exec("UPDATE t SET n = 1", &[]).await.unwrap();
    let mut next = fresh.db.begin().await.unwrap();
    next.exec("UPDATE t SET n = n + 10", &[]).await.unwrap(); // once the forgotten one has expired
    next.commit().await.unwrap();
    let error = forgotten.commit().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(fresh.number("SELECT n FROM t").await, 10);
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    let fresh = Fresh::new().await;
    fresh
        .script("CREATE TABLE t (b BOOLEAN, i BIGINT, r DOUBLE PRECISION, s TEXT, x BYTEA, n TEXT)")
        .await;
    let mut tx = fresh.db.begin().await.unwrap();
    let values = params![true, i64::MIN, 0.5, "it's $1 – ö", vec![0_u8, 255], None::<String>];
    tx.exec("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6)", &values).await.unwrap();
    tx.commit().await.unwrap();
    let row = &fresh.db.query("SELECT * FROM t WHERE s <> '$1'", &[]).await.unwrap()[0];
    assert!(row.get::<bool>(0).unwrap());
    assert_eq!(row.named::<i64>("i").unwrap(), i64::MIN);
    assert_eq!(row.get::<f64>(2).unwrap(), 0.5);
    assert_eq!(row.get::<String>(3).unwrap(), "it's $1 – ö");
    assert_eq!(row.get::<Vec<u8>>(4).unwrap(), [0, 255]);
    assert_eq!(row.get::<Value>(5).unwrap(), Value::Null);
    let wrong = row.get::<i64>(3).unwrap_err().to_string();
    assert!(wrong.contains("`s`") && wrong.contains("whole number"), "{wrong}");
}

#[tokio::test]
async fn tables_are_migrated_once_and_never_back() {
    let fresh = Fresh::new().await;
    let first = Migration {
        version: 1,
        sqlite: "CREATE TABLE a (n BIGINT)",
        postgres: "CREATE TABLE a (n BIGINT)",
    };
    let second = Migration {
        version: 2,
        sqlite: "CREATE TABLE b (n BIGINT)",
        postgres: "CREATE TABLE b (n BIGINT)",
    };
    let (one, other, steps) = (fresh.db.clone(), fresh.again().await, [first]);
    let (left, right) = tokio::join!(one.migrate("mine", &steps), other.migrate("mine", &steps));
    left.and(right).unwrap();
    fresh.db.migrate("mine", &[first, second]).await.unwrap();
    assert_eq!(fresh.number("SELECT count(*) FROM b").await, 0);
    let error = fresh.db.migrate("mine", &[first]).await.unwrap_err();
    assert!(matches!(error, DbError::Newer { found: 2, known: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_address_says_what_a_right_one_is() {
    for url in ["mysql://x", "sqlite:", "sqlite:/tmp/x?durability=none"] {
        let error = Db::open(url).await.unwrap_err();
        assert!(matches!(error, DbError::Address { .. }), "{error}");
    }
    let error = Db::open("sqlite:/no/such/folder/db").await.unwrap_err();
    assert!(matches!(error, DbError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_memory_needs_no_file() {
    let db = Db::open("sqlite::memory:").await.unwrap();
    assert_eq!(db.dialect(), Dialect::Sqlite);
    let mut tx = db.begin().await.unwrap();
    tx.script("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.query("SELECT n FROM t", &[]).await.unwrap()[0].get::<i64>(0).unwrap(), 7);
}

fn short(wait: Duration, idle: Duration) -> DbOptions {
    let mut options = DbOptions::default();
    options.wait_max = wait;
    options.idle_max = idle;
    options
}
