//! Publishers and consumers at once; the row counts what was consumed, or confirmed if nobody consumes.

use std::thread::{Builder, Scope, scope};

use ottla_amqp_proto::methods::ConfirmSelect;

use super::args::Load;
use super::consume::Consumer;
use super::publish::publish;
use super::queues;
use super::run::{Handle, Run, Tally, described, join, rates};
use super::wire::Wire;
use crate::Failure;
use crate::figures::Figures;
use crate::process::Usage;
use crate::spread::Spread;

pub(super) fn run(load: &Load) -> Result<Figures, Failure> {
    if load.publishers == 0 || load.consumers == 0 && !load.confirms {
        return Err("at least one publisher, and consumers or confirms".into());
    }
    let Outcome { published, consumed, used } =
        on_queues(load, |run, wire, _| publish(run, wire, u64::MAX))?;
    let counted = if load.consumers == 0 { &published } else { &consumed };
    let figures = described("flow", load);
    let figures = rates(figures, load, counted.messages, load.seconds, used);
    Ok(figures.with("confirm_ms", Spread::of(published.answers)))
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) published: Tally,
    pub(super) consumed: Tally,
    /// The server at the end of the warm-up and at the end.
    pub(super) used: Option<(Usage, Usage)>,
}

/// Makes the queues, consumes from them while `publishes` runs on each publisher's connection, waits
/// until all that was published has come, deletes the queues.
pub(super) fn on_queues(
    load: &Load,
    publishes: impl Fn(&Run<'_>, Wire, u32) -> Result<Tally, Failure> + Sync,
) -> Result<Outcome, Failure> {
    queues::prepare(load)?;
    let consumers = (0..load.consumers).map(|index| Consumer::open(load, index));
    let consumers = consumers.collect::<Result<Vec<_>, Failure>>()?;
    let publishers = (0..load.publishers).map(|_| publisher(load));
    let publishers = publishers.collect::<Result<Vec<_>, Failure>>()?;
    let run = Run::new(load);
    let outcome = scope(|scope| {
        let (run, publishes) = (&run, &publishes);
        let outcome = (|| {
            let consuming = consumers
                .into_iter()
                .map(|consumer| spawn(scope, "consumer", move || consumer.consume(run)));
            let consuming = consuming.collect::<Result<Vec<_>, Failure>>()?;
            let publishing = (0..).zip(publishers).map(|(index, wire)| {
                spawn(scope, "publisher", move || publishes(run, wire, index))
            });
            let publishing = publishing.collect::<Result<Vec<_>, Failure>>()?;
            let used = watch(run)?;
            let published = join(publishing)?;
            if load.consumers > 0 {
                run.drain()?;
            }
            run.end();
            Ok(Outcome { published, consumed: join(consuming)?, used })
        })();
        run.end(); // also when it failed: the consumers end then
        outcome
    });
    let cleaned = queues::clean(load);
    outcome.and_then(|outcome| cleaned.map(|()| outcome))
}

/// A connection that publishes, in confirm mode if the load says so.
pub(super) fn publisher(load: &Load) -> Result<Wire, Failure> {
    let mut wire = Wire::open(&load.broker)?;
    if load.confirms {
        wire.call(ConfirmSelect::default(), "confirm.select-ok")?;
    }
    Ok(wire)
}

fn watch(run: &Run<'_>) -> Result<Option<(Usage, Usage)>, Failure> {
    let usage = || Usage::of_server(&run.load.watched());
    run.clock.wait_until(run.warm);
    let before = usage()?;
    run.clock.wait_until(run.until);
    Ok(before.zip(usage()?))
}

pub(super) fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> Result<Tally, Failure> + Send + 'scope,
) -> Result<Handle<'scope>, Failure> {
    Ok(Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?)
}
