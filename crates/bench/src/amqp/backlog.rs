//! A queue that is filled while nobody reads it, and then emptied.

use std::thread::scope;

use super::args::Load;
use super::consume::Consumer;
use super::flow::{publisher, spawn};
use super::publish::publish;
use super::queues;
use super::run::{Run, described, join, rates};
use crate::Failure;
use crate::clock::seconds;
use crate::figures::Figures;
use crate::process::Usage;

pub(super) fn run(load: &Load, messages: u64, fill_seconds: f64) -> Result<Figures, Failure> {
    if load.publishers == 0 || load.consumers == 0 || !load.confirms {
        return Err("publishers, consumers and --confirms".into());
    }
    queues::prepare(load)?;
    let usage = || Usage::of_server(&load.watched());
    let rss = |usage: &Option<Usage>| usage.as_ref().map(Usage::rss_bytes);
    let empty = usage()?;
    let (filled, fill_span) = fill(load, messages, fill_seconds)?;
    let full = usage()?;
    let drain_span = drain(load, filled)?;
    let drained = usage()?;
    queues::clean(load)?;
    let described = described("backlog", load)
        .with("rss_empty_bytes", rss(&empty))
        .with("rss_full_bytes", rss(&full))
        .with("rss_drained_bytes", rss(&drained));
    let phase = |name, span, before: Option<Usage>, after: Option<Usage>| {
        rates(Figures::of(name), load, filled, span, before.zip(after))
    };
    Ok(described
        .with("fill", phase("fill", fill_span, empty, full).into_value())
        .with("drain", phase("drain", drain_span, full, drained).into_value()))
}

/// Messages and seconds.
fn fill(load: &Load, messages: u64, fill_seconds: f64) -> Result<(u64, f64), Failure> {
    let wires = (0..load.publishers).map(|_| publisher(load));
    let wires = wires.collect::<Result<Vec<_>, Failure>>()?;
    let run = Run::new(load).filling(fill_seconds);
    let tally = scope(|scope| {
        let run = &run;
        let share = |index| {
            let publishers = u64::from(load.publishers);
            messages / publishers + u64::from(index < messages % publishers)
        };
        let threads = (0..).zip(wires).map(|(index, wire)| {
            let share = share(index);
            spawn(scope, "publisher", move || publish(run, wire, share))
        });
        join(threads.collect::<Result<Vec<_>, Failure>>()?)
    })?;
    Ok((run.sent(), seconds(tally.last).max(f64::EPSILON)))
}

/// Seconds.
fn drain(load: &Load, messages: u64) -> Result<f64, Failure> {
    let run = Run::new(load).draining(messages);
    let tally = scope(|scope| {
        let run = &run;
        let outcome = (|| {
            let mut threads = Vec::new();
            for index in 0..load.consumers {
                let consumer = Consumer::open(load, index)?;
                threads.push(spawn(scope, "consumer", move || consumer.consume(run))?);
            }
            run.drain()?;
            run.end();
            join(threads)
        })();
        run.end(); // also when it failed
        outcome
    })?;
    Ok(seconds(tally.last).max(f64::EPSILON))
}
