//! Confirms at a fixed rate, whether or not the broker keeps up: a stall is counted for all messages
//! that it delays.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::scope;

use super::args::Load;
use super::encode::Frames;
use super::flow::{Outcome, on_queues, spawn};
use super::publish::Unconfirmed;
use super::run::{Run, Tally, described, join, rates};
use super::wire::{Piece, Wire};
use crate::Failure;
use crate::figures::Figures;
use crate::spread::Spread;

pub(super) fn run(load: &Load, rate: u32) -> Result<Figures, Failure> {
    if rate == 0 || !load.confirms || load.publishers == 0 {
        return Err("a rate above 0, a publisher, and --confirms".into());
    }
    let every = u64::from(load.publishers) * 1_000_000_000 / u64::from(rate);
    let publishes = |run: &Run<'_>, wire: Wire, index: u32| {
        let lag = every * u64::from(index) / u64::from(load.publishers);
        publish(run, wire, lag, every)
    };
    let Outcome { published, used, .. } = on_queues(load, publishes)?;
    let figures = described("paced", load).with("rate", rate);
    let figures = rates(figures, load, published.messages, load.seconds, used);
    Ok(figures.with("confirm_ms", Spread::of(published.answers)))
}

fn publish(run: &Run<'_>, wire: Wire, lag: u64, every: u64) -> Result<Tally, Failure> {
    scope(|scope| {
        let twin = wire.twin()?;
        let (due, dues) = sync_channel(OPEN_MAX);
        let confirms = spawn(scope, "confirms", move || confirmed(run, twin, &dues))?;
        let sent = send(run, wire, (lag, every), due);
        let tally = join([confirms]);
        sent.and(tally)
    })
}

fn send(
    run: &Run<'_>,
    mut wire: Wire,
    (lag, every): (u64, u64),
    dues: SyncSender<u64>,
) -> Result<(), Failure> {
    let mut frames = Frames::new(run.load)?;
    for due in (0..).map(|turn| lag + turn * every).take_while(|due| *due < run.until) {
        run.clock.wait_until(due);
        run.sends(1);
        dues.send(due)?; // before the message: its confirm finds it
        wire.send(frames.take(1).0)?;
    }
    drop(dues);
    Ok(())
}

fn confirmed(run: &Run<'_>, mut wire: Wire, dues: &Receiver<u64>) -> Result<Tally, Failure> {
    let (mut open, mut tally) = (Unconfirmed::default(), Tally::default());
    loop {
        if open.len() == 0 {
            match dues.recv() {
                Ok(due) => open.push(due, 1),
                Err(_) => return wire.close().map(|()| tally),
            }
        }
        if !wire.fill()? {
            return Err("no confirm came".into());
        }
        let now = run.clock.now();
        dues.try_iter().for_each(|due| open.push(due, 1));
        wire.pieces(|piece| {
            if let Piece::Confirm { tag, multiple } = piece {
                open.settle(tag, multiple, |due| {
                    if due >= run.warm {
                        tally.messages += 1;
                        tally.answers.push(now.saturating_sub(due));
                    }
                });
            }
            Ok(())
        })?;
    }
}

/// Messages of one connection without a confirm; the sender waits beyond.
const OPEN_MAX: usize = 1_000_000;
