//! What is there and does nothing: connections, queues.

use std::thread::{Builder, park_timeout, scope};
use std::time::Duration;

use bytes::BytesMut;
use ottla_amqp_proto::write_method_frame;

use super::args::Load;
use super::queues::declare;
use super::wire::{CHANNEL, Piece, Wire};
use crate::Failure;
use crate::clock::{Clock, nanos, seconds};
use crate::figures::Figures;
use crate::process::{Usage, float};

/// Opens connections, holds them, and looks at the server's memory.
pub(super) fn connections(load: &Load, count: u32) -> Result<Figures, Failure> {
    Wire::open(&load.broker)?.close()?; // what only the first one costs
    let end = |held: Vec<Wire>| held.into_iter().try_for_each(Wire::close);
    measured(load, "connections", end, |clock| {
        let held = in_threads(|thread| {
            let own = (0..count).filter(|index| index % THREADS == thread);
            own.map(|_| Wire::open(&load.broker)).collect::<Result<Vec<_>, Failure>>()
        })?;
        let held: Vec<Wire> = held.into_iter().flatten().collect();
        Ok((u64::from(count), clock.now(), held))
    })
}

/// Declares durable queues and looks at the server's memory.
pub(super) fn queues(load: &Load, count: u32, declare_seconds: f64) -> Result<Figures, Failure> {
    measured(load, "queues", Ok, |clock| {
        let made = in_threads(|thread| {
            let own = (0..count).filter(|index| index % THREADS == thread).collect::<Vec<_>>();
            let mut wire = Wire::open(&load.broker)?;
            let mut made = 0;
            for indexes in own.chunks(AT_ONCE) {
                if clock.now() > nanos(declare_seconds) {
                    break;
                }
                made += declare_all(load, &mut wire, indexes)?;
            }
            wire.close()?;
            Ok(made)
        })?;
        Ok((made.into_iter().sum(), clock.now(), ()))
    })
}

/// Runs `make`, which returns a count, when it was done and what is to be held; compares memory; lets
/// go by `end`.
fn measured<T>(
    load: &Load,
    what: &str,
    end: impl FnOnce(T) -> Result<(), Failure>,
    make: impl FnOnce(Clock) -> Result<(u64, u64, T), Failure>,
) -> Result<Figures, Failure> {
    let before = Usage::of_server(&load.watched())?;
    let (count, done, held) = make(Clock::start())?;
    park_timeout(SETTLE);
    let after = Usage::of_server(&load.watched())?;
    end(held)?;
    let figures = Figures::of(what).with("count", count).with("seconds", seconds(done));
    let Some((before, after)) = before.zip(after) else { return Ok(figures) };
    let grown = after.rss_bytes().saturating_sub(before.rss_bytes());
    Ok(figures
        .with("rss_before_bytes", before.rss_bytes())
        .with("rss_after_bytes", after.rss_bytes())
        .with("bytes_each", float(grown) / float(count.max(1))))
}

fn in_threads<T: Send>(work: impl Fn(u32) -> Result<T, Failure> + Sync) -> Result<Vec<T>, Failure> {
    scope(|scope| {
        let work = &work;
        let threads = (0..THREADS).map(|thread| {
            Builder::new().spawn_scoped(scope, move || work(thread)).map_err(Failure::from)
        });
        let threads = threads.collect::<Result<Vec<_>, Failure>>()?;
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect()
    })
}

/// Sends all declarations, then waits for all answers.
fn declare_all(load: &Load, wire: &mut Wire, indexes: &[u32]) -> Result<u64, Failure> {
    let mut out = BytesMut::new();
    for index in indexes {
        write_method_frame(CHANNEL, &declare(load, *index)?.into(), &mut out);
    }
    wire.send(&out)?;
    let mut answers = 0;
    while answers < indexes.len() {
        if !wire.fill()? {
            return Err("no queue.declare-ok came".into());
        }
        wire.pieces(|piece| {
            answers += usize::from(matches!(piece, Piece::Method(_)));
            Ok(())
        })?;
    }
    Ok(indexes.len().try_into()?)
}

const THREADS: u32 = 16;
/// Declarations that wait for their answers on one connection.
const AT_ONCE: usize = 64;
/// For what the server does behind the last answer.
const SETTLE: Duration = Duration::from_secs(2);
