//! One message at a time: the next is published when this one has come (and is confirmed).

use super::args::{Acks, Load};
use super::consume::Consumer;
use super::encode::Frames;
use super::flow::publisher;
use super::queues;
use super::run::{Run, described, rates, wide};
use super::wire::Piece;
use crate::Failure;
use crate::clock::seconds;
use crate::figures::Figures;
use crate::process::Usage;
use crate::spread::Spread;

pub(super) fn run(load: &Load) -> Result<Figures, Failure> {
    if load.queues != 1 {
        return Err("one queue".into());
    }
    queues::prepare(load)?;
    let mut consumer = Consumer::open(load, 0)?;
    let mut wire = publisher(load)?;
    let mut frames = Frames::new(load)?;
    let run = Run::new(load);
    let (mut spans, mut before, mut warmed) = (Vec::new(), None, 0);
    while run.clock.now() < run.until {
        let began = run.clock.now();
        if before.is_none() && began >= run.warm {
            before = Usage::of_server(&load.watched())?;
            warmed = began;
        }
        wire.send(frames.take(1).0)?;
        while consumer.take()? == 0 {}
        let mut confirmed = !load.confirms;
        while !confirmed {
            if !wire.fill()? {
                return Err("no confirm came".into());
            }
            wire.pieces(|piece| {
                confirmed |= matches!(piece, Piece::Confirm { .. });
                Ok(())
            })?;
        }
        if began >= run.warm {
            spans.push(run.clock.now() - began);
        }
    }
    let used = before.zip(Usage::of_server(&load.watched())?);
    let span = seconds(run.clock.now() - warmed.max(run.warm)).max(f64::EPSILON);
    wire.close()?;
    consumer.close()?;
    queues::clean(load)?;
    let acks = match load.acks {
        Acks::Auto => "consumed",
        Acks::Each | Acks::Batch => "consumed; its acknowledgement was sent",
    };
    let figures = described("round-trip", load).with("until", acks);
    let figures = rates(figures, load, wide(spans.len()), span, used);
    Ok(figures.with("round_trip_ms", Spread::of(spans)))
}
