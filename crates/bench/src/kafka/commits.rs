//! Offset commits of many groups: at a fixed rate, or as fast as they are answered.

use std::sync::mpsc::sync_channel;
use std::thread::{Builder, scope};

use ottla_kafka_proto::messages::OffsetCommitRequest;
use ottla_kafka_proto::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_kafka_proto::{
    ApiKey, ApiVersion, Encoded, ErrorCode, Request, Response, Str, encode_request,
};

use super::batch::header;
use super::produce::{Plan, drive};
use super::wire::{Coordinated, Wire};
use super::{Tally, on_every_connection};
use crate::Failure;
use crate::args::Load;
use crate::clock::{Clock, nanos, seconds};
use crate::figures::Figures;
use crate::process::float;
use crate::spread::Spread;

/// A rate of 0 is none.
pub(super) fn run(load: &Load, groups: u32, rate: u32) -> Result<Figures, Failure> {
    warm(load, groups)?;
    let clock = Clock::start();
    let warm = nanos(load.warm_up);
    let (tally, used) = on_every_connection(load, clock, warm, |connection| {
        let own = (0..groups).filter(|group| group % load.connections == connection);
        let frames = own.map(|group| frame(load, group)).collect::<Result<Vec<_>, Failure>>()?;
        let wire = Wire::connect(&load.broker)?;
        let plan = Plan {
            api: (ApiKey::OffsetCommit, OFFSET_COMMIT),
            accepted,
            in_flight: load.in_flight,
            is_answered: true,
            warm,
            until: warm + nanos(load.seconds),
            until_max: 0,
            bytes_min: 0,
            batch_bytes: 0,
            records: 1,
        };
        match rate {
            0 => drive(wire, clock, &frames, &plan),
            rate => {
                let every = u64::from(load.connections) * 1_000_000_000 / u64::from(rate);
                let lag = every * u64::from(connection) / u64::from(load.connections);
                paced(wire, clock, &frames, &plan, (lag, every))
            }
        }
    })?;
    let span = seconds(tally.last.saturating_sub(warm)).max(f64::EPSILON);
    let cost = used.map(|(before, after)| after.since(&before, span, tally.records, 0));
    Ok(Figures::of("commits")
        .with("groups", groups)
        .with("rate", (rate > 0).then_some(rate))
        .with("seconds", span)
        .with("per_second", float(tally.records) / span)
        .with("answer_ms", Spread::of(tally.answers))
        .with("server", cost))
}

/// Each group once, until its coordinator is ready.
fn warm(load: &Load, groups: u32) -> Result<(), Failure> {
    let mut wire = Wire::connect(&load.broker)?;
    let clock = Clock::start();
    for group in 0..groups {
        wire.find_coordinator(name(load, group), Coordinated::Group)?;
        let frame = frame(load, group)?;
        loop {
            wire.send(frame.pieces().iter().map(|piece| &**piece))?;
            let answer = wire.answer(ApiKey::OffsetCommit, OFFSET_COMMIT)?;
            match accepted(&answer) {
                Ok(()) => break,
                Err(_) if clock.now() < nanos(PATIENCE_SECONDS) => {
                    clock.wait_until(clock.now() + nanos(0.01));
                }
                Err(refused) => return Err(refused),
            }
        }
    }
    Ok(())
}

/// Sends each when it is due, whether or not the broker keeps up.
fn paced(
    mut wire: Wire,
    clock: Clock,
    frames: &[Encoded],
    plan: &Plan,
    (lag, every): (u64, u64),
) -> Result<Tally, Failure> {
    let mut twin = wire.twin()?;
    let (due, dues) = sync_channel::<u64>(OPEN_MAX);
    scope(|scope| {
        let answers = Builder::new().spawn_scoped(scope, move || {
            let mut tally = Tally::default();
            for due in dues {
                (plan.accepted)(&twin.answer(plan.api.0, plan.api.1)?)?;
                if due >= plan.warm {
                    tally.last = clock.now();
                    tally.records += 1;
                    tally.answers.push(tally.last - due);
                }
            }
            Ok(tally)
        })?;
        let turns = (0..).map(|turn| lag + turn * every).take_while(|due| *due < plan.until);
        let mut sent = Ok(());
        for (at, frame) in turns.zip(frames.iter().cycle()) {
            clock.wait_until(at);
            sent = wire.send(frame.pieces().iter().map(|piece| &**piece));
            if sent.is_err() || due.send(at).is_err() {
                break;
            }
        }
        drop(due);
        let tally: Result<Tally, Failure> = answers.join().map_err(|_| "a thread panicked")?;
        sent.and(tally)
    })
}

/// A commit of offset 0 of partition 0, outside of any generation.
fn frame(load: &Load, group: u32) -> Result<Encoded, Failure> {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 0,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    let topic = OffsetCommitRequestTopic {
        name: Str::from(load.topic.as_str()),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = Request::from(OffsetCommitRequest {
        group_id: name(load, group),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    });
    Ok(encode_request(&header(ApiKey::OffsetCommit, OFFSET_COMMIT), &request)?)
}

fn name(load: &Load, group: u32) -> Str {
    Str::from(format!("{}-{group}", load.topic).as_str())
}

fn accepted(response: &Response) -> Result<(), Failure> {
    let Response::OffsetCommit(answer) = response else {
        return Err("an answer to another request".into());
    };
    let mut codes =
        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code);
    match codes.find(|code| *code != ErrorCode::NONE) {
        Some(code) => Err(format!("a commit was refused: {code:?}").into()),
        None => Ok(()),
    }
}

const OFFSET_COMMIT: ApiVersion = ApiVersion(8);
const OPEN_MAX: usize = 100_000;
const PATIENCE_SECONDS: f64 = 60.0;
