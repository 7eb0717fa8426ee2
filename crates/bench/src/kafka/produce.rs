//! Produces with a full window on every connection.

use std::collections::VecDeque;

use ottla_kafka_proto::messages::ProduceResponse;
use ottla_kafka_proto::{ApiKey, ApiVersion, Encoded, Response};

use super::batch::{PRODUCE, Template};
use super::wire::Wire;
use super::{Tally, on_every_connection, share};
use crate::Failure;
use crate::args::Load;
use crate::clock::{Clock, nanos, seconds};
use crate::report::Row;
use crate::spread::Spread;

pub(super) fn run(load: &Load) -> Result<Row, Failure> {
    let template = Template::new(load);
    let clock = Clock::start();
    let warm = nanos(load.warm_up);
    let plan = Plan {
        api: (ApiKey::Produce, PRODUCE),
        accepted,
        in_flight: load.in_flight,
        is_answered: load.acks != 0,
        warm,
        until: warm + nanos(load.seconds),
        until_max: warm + nanos(load.max_seconds),
        bytes_min: load.min_bytes / u64::from(load.connections),
        batch_bytes: u64::try_from(template.bytes_len())?,
        records: u64::try_from(template.records())?,
    };
    let (tally, used) = on_every_connection(load, clock, warm, |connection| {
        let partitions = share(load, connection);
        let frames: Result<Vec<Encoded>, Failure> =
            partitions.iter().map(|partition| template.request(load, *partition)).collect();
        drive(Wire::connect(&load.broker)?, clock, &frames?, &plan)
    })?;
    let span = seconds(tally.last.saturating_sub(warm)).max(f64::EPSILON);
    let mut row = Row::new("produce", load, (template.bytes_len(), template.records()));
    row = row.counted(span, tally.records, tally.bytes);
    row.server = used.map(|(before, after)| after.since(&before, span, tally.records, tally.bytes));
    row.answer_ms = Spread::of(tally.answers);
    Ok(row)
}

/// One batch to partition 0.
pub(super) fn one(load: &Load, template: &Template) -> Result<(), Failure> {
    let frame = template.request(load, 0)?;
    let mut wire = Wire::connect(&load.broker)?;
    wire.send(frame.pieces().iter().map(|piece| &**piece))?;
    accepted(&wire.answer(ApiKey::Produce, PRODUCE)?)
}

/// What a connection does with its requests.
pub(super) struct Plan {
    pub(super) api: (ApiKey, ApiVersion),
    /// Judges an answer.
    pub(super) accepted: fn(&Response) -> Result<(), Failure>,
    pub(super) in_flight: usize,
    pub(super) is_answered: bool,
    pub(super) warm: u64,
    pub(super) until: u64,
    /// The end even if not enough was sent.
    pub(super) until_max: u64,
    /// Bytes of this connection after the warm-up.
    pub(super) bytes_min: u64,
    pub(super) batch_bytes: u64,
    pub(super) records: u64,
}

/// Keeps the window full until the time is up and enough was sent, then waits for what is open.
pub(super) fn drive(
    mut wire: Wire,
    clock: Clock,
    frames: &[Encoded],
    plan: &Plan,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut open: VecDeque<u64> = VecDeque::with_capacity(plan.in_flight);
    let mut next = frames.iter().cycle();
    loop {
        let now = clock.now();
        let lacks = tally.bytes < plan.bytes_min && now < plan.until_max;
        let goes_on = now < plan.until || lacks;
        let room = if goes_on { plan.in_flight - open.len() } else { 0 };
        if room > 0 {
            let pieces = next.by_ref().take(room).flat_map(|frame| frame.pieces());
            wire.send(pieces.map(|piece| &**piece))?;
            open.extend(std::iter::repeat_n(now, room));
        }
        if open.is_empty() {
            return Ok(tally);
        }
        if plan.is_answered {
            wire.fill()?;
        }
        let mut count = |sent: u64| {
            let now = clock.now();
            if now >= plan.warm {
                tally.batches += 1;
                tally.records += plan.records;
                tally.bytes += plan.batch_bytes;
                tally.answers.push(now - sent);
                tally.last = now;
            }
        };
        if !plan.is_answered {
            open.drain(..).for_each(&mut count);
        }
        while let Some(response) = wire.ready(plan.api.0, plan.api.1)? {
            (plan.accepted)(&response)?;
            count(open.pop_front().ok_or("an answer without a request")?);
        }
    }
}

/// Refuses an answer that is none or names an error.
pub(super) fn accepted(response: &Response) -> Result<(), Failure> {
    let Response::Produce(ProduceResponse { responses, .. }) = response else {
        return Err("an answer to another request".into());
    };
    for partition in responses.iter().flat_map(|topic| &topic.partition_responses) {
        if !partition.error_code.is_ok() {
            let (code, text) = (partition.error_code, &partition.error_message);
            return Err(format!("produce was refused: {code:?} {text:?}").into());
        }
    }
    Ok(())
}
