//! A connection that consumes.

use std::time::Duration;

use ottla_amqp_proto::ShortStr;
use ottla_amqp_proto::methods::{BasicConsume, BasicQos};

use super::args::{Acks, Load};
use super::encode::ack;
use super::queues::share;
use super::run::{Run, Tally};
use super::wire::{CHANNEL, Piece, Wire};
use crate::Failure;

#[derive(Debug)]
pub(super) struct Consumer {
    wire: Wire,
    acks: Acks,
    /// Of the delivery whose content is coming.
    tag: u64,
    /// Bytes of its body that have not come.
    missing: u64,
    out: Vec<u8>,
}

impl Consumer {
    /// Consumes from its share of the queues.
    pub(super) fn open(load: &Load, index: u32) -> Result<Self, Failure> {
        let mut wire = Wire::open(&load.broker)?;
        if load.acks != Acks::Auto {
            let qos = BasicQos { prefetch_count: load.prefetch, ..Default::default() };
            wire.call(qos, "basic.qos-ok")?;
        }
        for queue in share(load, index) {
            let consume = BasicConsume {
                queue: ShortStr::try_from(load.queue_name(queue))?,
                consumer_tag: ShortStr::try_from(format!("c{queue:06}"))?,
                no_ack: load.acks == Acks::Auto,
                no_wait: true, // an answer could come in one read with deliveries
                ..Default::default()
            };
            wire.say(CHANNEL, consume)?;
        }
        Ok(Self { wire, acks: load.acks, tag: 0, missing: 0, out: Vec::new() })
    }

    /// Consumes until the run is over.
    pub(super) fn consume(mut self, run: &Run<'_>) -> Result<Tally, Failure> {
        self.wire.patience(LOOK_EVERY)?;
        let mut tally = Tally::default();
        while !run.is_over() {
            let count = self.take()?;
            if count > 0 && run.receives(count) {
                tally.messages += count;
                tally.last = run.clock.now();
            }
        }
        self.wire.close()?;
        Ok(tally)
    }

    pub(super) fn close(self) -> Result<(), Failure> {
        self.wire.close()
    }

    /// Reads once and acknowledges; returns how many messages that completed.
    pub(super) fn take(&mut self) -> Result<u64, Failure> {
        let Self { wire, acks, tag, missing, out } = self;
        if !wire.fill()? {
            return Ok(0);
        }
        let (mut count, mut last) = (0, 0);
        out.clear();
        wire.pieces(|piece| {
            let whole = match piece {
                Piece::Deliver(of) => {
                    *tag = of;
                    false
                }
                Piece::Size(size) => {
                    *missing = size;
                    size == 0
                }
                Piece::Body(body) => {
                    *missing = missing.saturating_sub(body.len().try_into()?);
                    *missing == 0
                }
                _ => false,
            };
            if whole {
                (count, last) = (count + 1, *tag);
                if *acks == Acks::Each {
                    out.extend_from_slice(&ack(last, false));
                }
            }
            Ok(())
        })?;
        if *acks == Acks::Batch && count > 0 {
            out.extend_from_slice(&ack(last, true));
        }
        if !out.is_empty() {
            wire.send(out)?;
        }
        Ok(count)
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
