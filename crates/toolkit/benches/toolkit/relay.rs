//! Rows of an outbox, published to a broker and taken away.

use std::time::Instant;

use ottla::db::Db;
use ottla::outbox::{Outbox, Relay, RelayOptions};
use ottla::{Connection, Envelope, Message};
use serde::{Deserialize, Serialize};

use crate::{Failure, row, two_workers};

#[derive(Serialize, Deserialize, Message)]
#[message(name = "parcel.packed", key = "order")]
struct Packed {
    order: String,
    weight: u64,
}

pub(crate) fn run(url: &str, line: &str, count: u64) -> Result<String, Failure> {
    two_workers()?.block_on(async {
        let db = Db::open(url).await?;
        let outbox = Outbox::open(&db).await?;
        let mut rest = 0..count;
        while !rest.is_empty() {
            let mut tx = db.begin().await?;
            for weight in rest.by_ref().take(1_000) {
                let packed = Packed { order: format!("order-{}", weight % 1_000), weight };
                outbox.put(&mut tx, "parcels", Envelope::of(&packed, db.mint())?).await?;
            }
            tx.commit().await?;
        }
        let connection = Connection::open(line).await?;
        let mut relay = Relay::open(&db, connection.clone(), RelayOptions::default()).await?;
        let began = Instant::now();
        let round = relay.drain().await?;
        let took = began.elapsed();
        if round.published != count {
            return Err(format!("{} rows were published, not {count}", round.published).into());
        }
        connection.close().await?;
        Ok(row("relay", count, took))
    })
}
