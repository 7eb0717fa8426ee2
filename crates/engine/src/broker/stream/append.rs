//! Messages on their way into streams: one batch for all that one frame brings to a partition.

use std::sync::Arc;

use ottla_store::batch::{BatchBuilder, PreparedBatch};
use ottla_store::codec::Codec;

use super::View;
use super::mapping::Envelope;
use crate::broker::arrive::Arriving;
use crate::broker::message::Message;
use crate::broker::queue::Queue;
use crate::clock::Now;
use crate::topic::config::TopicConfig;

/// What a frame adds to one stream.
#[derive(Debug)]
pub(in crate::broker) struct Additions {
    pub(in crate::broker) view: View,
    /// In order.
    pub(in crate::broker) batches: Vec<PreparedBatch>,
    /// For each message in them: which it is of all that arrive, and in which batch it stands.
    pub(in crate::broker) members: Vec<(usize, usize)>,
    /// Those that the topic does not take.
    pub(in crate::broker) refused: Vec<usize>,
}

/// What the arriving messages add to the streams they are routed to, by ascending stream. Their
/// checksums are computed here, before anything is locked.
pub(in crate::broker) fn additions(arriving: &[Arriving], now: Now) -> Vec<Additions> {
    let targets = arriving.iter().flat_map(|arrives| arrives.targets.iter());
    let mut streams: Vec<&Arc<Queue>> = targets.filter(|queue| queue.view().is_some()).collect();
    streams.sort_by_key(|queue| queue.id);
    streams.dedup_by_key(|queue| queue.id);
    streams.into_iter().filter_map(|queue| add(queue, arriving, now)).collect()
}

fn add(queue: &Arc<Queue>, arriving: &[Arriving], now: Now) -> Option<Additions> {
    let view = queue.view()?.clone();
    let config = view.topic.config();
    let mut additions =
        Additions { view, batches: Vec::new(), members: Vec::new(), refused: Vec::new() };
    let mut builder = BatchBuilder::new(Codec::None);
    for (index, arrives) in arriving.iter().enumerate() {
        if !arrives.targets.iter().any(|target| target.id == queue.id) {
            continue;
        }
        let message = &arrives.message;
        let envelope = Envelope::of(message);
        let bytes = room(&envelope, message);
        let keyless = config.compact && envelope.key.is_none();
        if keyless || bytes + BATCH_HEADER_BYTES > config.message_bytes_max {
            additions.refused.push(index);
            continue;
        }
        if builder.count() > 0 && builder.bytes_len() + bytes > config.message_bytes_max {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(Codec::None));
            additions.batches.push(finish(full, &config, now));
        }
        let headers = envelope.headers();
        let at = timestamp(&envelope, &config, now);
        builder.push(&envelope.draft(&headers, &message.body, at));
        additions.members.push((index, additions.batches.len()));
    }
    if builder.count() > 0 {
        additions.batches.push(finish(builder, &config, now));
    }
    Some(additions)
}

fn finish(builder: BatchBuilder, config: &TopicConfig, now: Now) -> PreparedBatch {
    let batch = builder.build();
    if config.log_append_time { batch.with_log_append_time(now.wall.0) } else { batch }
}

/// The property `timestamp` if the topic would take it from a producer, or else the time of arrival.
fn timestamp(envelope: &Envelope, config: &TopicConfig, now: Now) -> i64 {
    let taken = envelope.timestamp_ms.filter(|at| {
        let late = now.wall.0.saturating_sub(*at);
        late <= config.timestamp_before_max_ms
            && late.saturating_neg() <= config.timestamp_after_max_ms
    });
    taken.unwrap_or(now.wall.0)
}

/// Bytes of the record, at most.
fn room(envelope: &Envelope, message: &Message) -> usize {
    let headers = envelope.headers.iter();
    let headers = headers.map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 10);
    let key = envelope.key.as_ref().map_or(0, Vec::len);
    RECORD_BYTES + key + message.body.len() + headers.sum::<usize>()
}

/// Lengths and deltas of a record, at most.
const RECORD_BYTES: usize = 40;
const BATCH_HEADER_BYTES: usize = 61;
