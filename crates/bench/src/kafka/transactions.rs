//! Transactions one after the other on each connection: a batch to every partition, then EndTxn, in the
//! flow of `transaction.version` 2 (KIP-890).

use std::thread::park_timeout;
use std::time::Duration;

use ottla_kafka_proto::messages::{EndTxnRequest, InitProducerIdRequest, ProduceResponse};
use ottla_kafka_proto::{ApiKey, ApiVersion, ErrorCode, Response, Str};

use super::batch::{PRODUCE_IN_TRANSACTION, Template, Transactional};
use super::wire::{Coordinated, Wire};
use super::{Tally, on_every_connection};
use crate::Failure;
use crate::args::Load;
use crate::clock::{Clock, nanos, seconds};
use crate::figures::Figures;
use crate::process::float;
use crate::spread::Spread;

/// Every `abort_every`th is aborted; 0 is none.
pub(super) fn run(load: &Load, abort_every: u32) -> Result<Figures, Failure> {
    let template = Template::new(load);
    warm(load, &template)?;
    let clock = Clock::start();
    let warm = nanos(load.warm_up);
    let (tally, used) = on_every_connection(load, clock, warm, |connection| {
        let mut producer = Producer::open(load, &template, connection)?;
        let mut tally = Tally::default();
        for turn in 1.. {
            let began = clock.now();
            if began >= warm + nanos(load.seconds) && tally.bytes >= load.min_bytes {
                break;
            }
            producer.produce()?;
            producer.end(abort_every == 0 || turn % abort_every != 0)?;
            let now = clock.now();
            if began >= warm {
                tally.batches += 1;
                tally.bytes += u64::try_from(template.bytes_len())? * u64::from(load.partitions);
                tally.records += u64::try_from(template.records())? * u64::from(load.partitions);
                tally.answers.push(now - began);
                tally.last = now;
            }
        }
        Ok(tally)
    })?;
    let span = seconds(tally.last.saturating_sub(warm)).max(f64::EPSILON);
    let cost = used.map(|(before, after)| after.since(&before, span, tally.batches, tally.bytes));
    Ok(Figures::of("transactions")
        .with("partitions", load.partitions)
        .with("connections", load.connections)
        .with("seconds", span)
        .with("per_second", float(tally.batches) / span)
        .with("mb_per_second", float(tally.bytes) / 1e6 / span)
        .with("transaction_ms", Spread::of(tally.answers))
        .with("server", cost))
}

/// One transaction: makes the topic of the transactions.
fn warm(load: &Load, template: &Template) -> Result<(), Failure> {
    let mut producer = Producer::open(load, template, u32::MAX)?;
    producer.produce()?;
    producer.end(true)
}

struct Producer {
    wire: Wire,
    name: Str,
    id: (i64, i16),
    frame: Transactional,
}

impl Producer {
    fn open(load: &Load, template: &Template, connection: u32) -> Result<Self, Failure> {
        let mut wire = Wire::connect(&load.broker)?;
        let name = Str::from(format!("{}-{connection}", load.topic).as_str());
        let frame = template.transactional(load, &name)?;
        wire.find_coordinator(name.clone(), Coordinated::Transactions)?;
        for _ in 0..TRIES_MAX {
            let request = InitProducerIdRequest {
                transactional_id: Some(name.clone()),
                transaction_timeout_ms: 60_000,
                producer_id: -1,
                producer_epoch: -1,
            };
            let Response::InitProducerId(answer) = wire.ask(INIT_PRODUCER_ID, request)? else {
                return Err("no answer to InitProducerId".into());
            };
            if answer.error_code.is_ok() {
                let id = (answer.producer_id, answer.producer_epoch);
                return Ok(Self { wire, name, id, frame });
            }
            pause(answer.error_code)?;
        }
        Err("no producer id".into())
    }

    /// Produces to all partitions, which also begins the transaction.
    fn produce(&mut self) -> Result<(), Failure> {
        for _ in 0..TRIES_MAX {
            let frame = self.frame.of(self.id);
            self.wire.send(std::iter::once(frame))?;
            let answer = self.wire.answer(ApiKey::Produce, PRODUCE_IN_TRANSACTION)?;
            let Response::Produce(ProduceResponse { responses, .. }) = answer else {
                return Err("an answer to another request".into());
            };
            let found = responses.iter().flat_map(|topic| &topic.partition_responses);
            let refused = found.map(|partition| partition.error_code).find(|code| !code.is_ok());
            match refused {
                None => return Ok(()),
                Some(code) => pause(code)?,
            }
        }
        Err("the transaction before did not end".into())
    }

    fn end(&mut self, committed: bool) -> Result<(), Failure> {
        for _ in 0..TRIES_MAX {
            let request = EndTxnRequest {
                transactional_id: self.name.clone(),
                producer_id: self.id.0,
                producer_epoch: self.id.1,
                committed,
            };
            let Response::EndTxn(answer) = self.wire.ask(END_TXN, request)? else {
                return Err("no answer to EndTxn".into());
            };
            if answer.error_code.is_ok() {
                self.id = (answer.producer_id, answer.producer_epoch);
                return Ok(());
            }
            pause(answer.error_code)?;
        }
        Err("the transaction does not end".into())
    }
}

/// Waits where a client tries again.
fn pause(code: ErrorCode) -> Result<(), Failure> {
    match code {
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR => {
            park_timeout(PAUSE);
            Ok(())
        }
        other => Err(format!("refused: {other:?}").into()),
    }
}

const INIT_PRODUCER_ID: ApiVersion = ApiVersion(4);
/// The first version that answers with the next epoch.
const END_TXN: ApiVersion = ApiVersion(5);
const PAUSE: Duration = Duration::from_millis(1);
const TRIES_MAX: u32 = 30_000;
