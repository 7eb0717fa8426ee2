//! A database of its own for each test, and what many of them do.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla::db::{Db, DbOptions};

/// A database for one test, gone (SQLite) or left to its server (PostgreSQL) afterwards.
pub(crate) struct Fresh {
    pub(crate) db: Db,
    pub(crate) url: String,
    folder: Option<PathBuf>,
}

impl Fresh {
    pub(crate) async fn new() -> Self {
        Self::with(DbOptions::default()).await
    }

    pub(crate) async fn with(options: DbOptions) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (url, folder) = match server() {
            Some(server) => {
                let admin = Db::open(&server).await.expect("the server of STORES_DATABASE");
                let mut tx = admin.begin().await.unwrap();
                tx.script(&format!("CREATE SCHEMA {name}")).await.unwrap();
                tx.commit().await.unwrap();
                let mark = if server.contains('?') { '&' } else { '?' };
                (format!("{server}{mark}options=-csearch_path%3D{name}"), None)
            }
            None => {
                let folder = std::env::temp_dir().join(format!("ottla-stores-{name}"));
                std::fs::create_dir_all(&folder).unwrap();
                (format!("sqlite:{}", folder.join("db").display()), Some(folder))
            }
        };
        let db = Db::open_with(&url, options).await.unwrap();
        Self { db, url, folder }
    }

    /// The same database, as another program sees it.
    pub(crate) async fn again(&self) -> Db {
        Db::open(&self.url).await.unwrap()
    }

    pub(crate) async fn script(&self, sql: &str) {
        let mut tx = self.db.begin().await.unwrap();
        tx.script(sql).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.db.query(sql, &[]).await.unwrap()[0].get(0).unwrap()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

/// The address of a real PostgreSQL, if there is one.
pub(crate) fn server() -> Option<String> {
    std::env::var("STORES_DATABASE").ok()
}

/// How many rows a long test has.
pub(crate) fn rows(without: u64) -> u64 {
    std::env::var("STORES_ROWS")
        .ok()
        .map_or(without, |rows| rows.parse().expect("STORES_ROWS is a number"))
}

/// A generator of chance whose seed is told when a test fails.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Waits until something is true, up to 30 s.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    for _ in 0..3_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

/// Waits until every event is handed out: on a server, other tests' open transactions hold the newest back.
/// What was handed out once always is.
pub(crate) async fn settled(store: &ottla::events::EventStore) {
    until("every event is handed out", async || {
        let all = store.gap(ottla::events::Pos::START).await.unwrap().0;
        let seen = store.after(ottla::events::Pos::START, 10_000).await.unwrap().len();
        u64::try_from(seen).unwrap() == all
    })
    .await;
}
