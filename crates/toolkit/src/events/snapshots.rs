//! A stream's state, kept now and then so that not everything is replayed.

use crate::db::{Row, Tx, int};
use crate::decider::Decider;
use crate::error::Result;
use crate::params;

use super::read::Source;
use super::{Appended, At};

/// Keeps the state if the append passed a multiple of [`Decider::SNAPSHOT_EVERY`].
pub(super) async fn save<D: Decider>(
    tx: &mut Tx,
    stream: &str,
    before: u64,
    appended: &Appended,
    state: &D::State,
) -> Result<()> {
    let Some(last) = appended.events.last() else { return Ok(()) };
    let passed = |version: u64| version.checked_div(D::SNAPSHOT_EVERY).unwrap_or(0);
    if passed(before) == passed(appended.version) {
        return Ok(());
    }
    let Some(body) = D::save(state) else { return Ok(()) };
    let keep = "INSERT INTO ottla_snapshots (stream, decider, schema, version, at, body)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (stream, decider) DO UPDATE SET
        schema = excluded.schema, version = excluded.version, at = excluded.at, body = excluded.body";
    let schema = u32::from(D::SNAPSHOT_VERSION);
    let values = params![
        stream,
        name::<D>(),
        schema,
        int(appended.version),
        int(last.envelope.time.0),
        body
    ];
    tx.queue(keep, values.into()).await?;
    Ok(())
}

/// The newest state at or before a moment, with its version.
pub(super) async fn find<D: Decider>(
    source: &mut Source<'_>,
    stream: &str,
    at: At,
) -> Result<Option<(D::State, u64)>> {
    if D::SNAPSHOT_EVERY == 0 {
        return Ok(None);
    }
    let (version, time) = at.bounds();
    let look = "SELECT body, version FROM ottla_snapshots
        WHERE stream = $1 AND decider = $2 AND schema = $3 AND version <= $4 AND at <= $5";
    let schema = u32::from(D::SNAPSHOT_VERSION);
    let rows =
        source.query(look, &params![stream, name::<D>(), schema, int(version), int(time)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (body, version): (Vec<u8>, u64) = (Row::get(row, 0)?, row.get(1)?);
    Ok(D::load(&body).map(|state| (state, version)))
}

/// Two deciders over one stream must not read each other's snapshots.
fn name<D: Decider>() -> &'static str {
    std::any::type_name::<D>()
}
