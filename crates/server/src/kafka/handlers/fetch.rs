//! Fetch: whole batches from memory or disk, waiting until there is enough or time is up.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use ottla_engine::topic::{Fetched, Isolation, Partition, PartitionId, TopicId};
use ottla_engine::{Batches, Lsn, Offset};
use ottla_kafka_proto::messages::fetch::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode, Records};
use tokio::sync::Notify;

use super::Answer;
use crate::kafka::fetch_sessions::{Named, Plan, Told, Wanted, lock};
use crate::kafka::{Peer, codes};

/// Handles a Fetch request; waits at most its `max_wait_ms` for `min_bytes`.
pub(super) async fn fetch(peer: &Peer, version: ApiVersion, request: FetchRequest) -> Answer {
    let now = peer.context.engine.now().monotonic;
    let plan = match peer.context.fetch_sessions.plan(&request, now) {
        Ok(plan) => plan,
        Err(error_code) => {
            return Answer::now(FetchResponse { error_code, ..Default::default() });
        }
    };
    let wanted = match &plan {
        Plan::Full(wanted) => wanted.clone(),
        Plan::Opened(_, session) | Plan::Incremental(_, session) => lock(session).wanted.clone(),
    };
    let call = Call::new(peer, version, &request, wanted);
    let found = call.wait(request.max_wait_ms, request.min_bytes).await;
    Answer::at(call.changed, call.shape(&plan, found))
}

/// The isolation a request asks for.
pub(super) const fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// One request with its partitions found.
struct Call<'a> {
    peer: &'a Peer,
    isolation: Isolation,
    bytes_max: usize,
    wanted: Vec<(Wanted, Result<Arc<Partition>, ErrorCode>)>,
    changed: Lsn,
}

/// What was found for one partition.
type Outcome = Result<Fetched, ErrorCode>;

impl<'a> Call<'a> {
    fn new(
        peer: &'a Peer,
        version: ApiVersion,
        request: &FetchRequest,
        wanted: Vec<Wanted>,
    ) -> Self {
        let catalog = peer.context.engine.catalog();
        let found = wanted.into_iter().map(|wanted| {
            let (topic, missing) = if version.0 >= 13 {
                let id = TopicId(wanted.named.topic_id.0);
                (catalog.topic_by_id(id), ErrorCode::UNKNOWN_TOPIC_ID)
            } else {
                let name: &str = &wanted.named.topic;
                (catalog.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            };
            let partition = topic.ok_or(missing).and_then(|topic| {
                topic
                    .partition(PartitionId(wanted.named.index))
                    .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            });
            let partition =
                partition.and_then(|found| codes::check_epoch(wanted.leader_epoch).map(|()| found));
            (wanted, partition)
        });
        Self {
            peer,
            isolation: isolation(request.isolation_level),
            bytes_max: usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX),
            wanted: found.collect(),
            changed: catalog.changed(),
        }
    }

    /// Collects until there is enough, something failed, or time is up.
    async fn wait(&self, max_wait_ms: i32, min_bytes: i32) -> Vec<Outcome> {
        let patience = u64::try_from(max_wait_ms).unwrap_or(0).min(WAIT_MS_MAX);
        let enough = usize::try_from(min_bytes).unwrap_or(0);
        let found = self.collect();
        if patience == 0 || self.is_enough(&found, enough) {
            return found;
        }
        let signal = Arc::new(Signal(Notify::new()));
        let waker = Waker::from(Arc::clone(&signal));
        let deadline = tokio::time::sleep(Duration::from_millis(patience));
        tokio::pin!(deadline);
        let registered = Registered { call: self, waker: &waker };
        let mut found;
        loop {
            registered.register(); // before looking, so that nothing comes in between unseen
            found = self.collect();
            if self.is_enough(&found, enough) {
                break;
            }
            tokio::select! {
                () = signal.0.notified() => {}
                () = &mut deadline => {
                    found = self.collect();
                    break;
                }
            }
        }
        found
    }

    fn is_enough(&self, found: &[Outcome], enough: usize) -> bool {
        let mut bytes = 0;
        for outcome in found {
            match outcome {
                Ok(fetched) => bytes += fetched.batches.bytes,
                Err(_) => return true,
            }
        }
        bytes >= enough || found.is_empty()
    }

    /// Reads every partition once: from memory, or from the disk if any of them needs it.
    fn collect(&self) -> Vec<Outcome> {
        match self.read_all(true) {
            Some(found) => found,
            None => tokio::task::block_in_place(|| self.read_all(false)).unwrap_or_default(),
        }
    }

    /// `None` if memory alone was asked for and is not enough.
    fn read_all(&self, cached_only: bool) -> Option<Vec<Outcome>> {
        let mut room = self.bytes_max;
        let mut found = Vec::with_capacity(self.wanted.len());
        for (wanted, partition) in &self.wanted {
            let outcome = match partition {
                Ok(partition) => {
                    let limit = usize::try_from(wanted.bytes_max).unwrap_or(0).min(room);
                    let store = self.peer.context.engine.store();
                    let from = Offset(wanted.from);
                    match partition.fetch(store, from, limit, self.isolation, cached_only) {
                        Ok(Some(fetched)) => Ok(fit(fetched, limit, room == self.bytes_max)),
                        Ok(None) => return None,
                        Err(error) => Err(codes::read(&error)),
                    }
                }
                Err(code) => Err(*code),
            };
            if let Ok(fetched) = &outcome {
                room = room.saturating_sub(fetched.batches.bytes);
            }
            found.push(outcome);
        }
        Some(found)
    }

    /// The answer: everything, or what changed since the session's last answer.
    fn shape(&self, plan: &Plan, found: Vec<Outcome>) -> FetchResponse {
        let (session_id, session) = match plan {
            Plan::Full(_) => (0, None),
            Plan::Opened(id, session) | Plan::Incremental(id, session) => (*id, Some(session)),
        };
        let incremental = matches!(plan, Plan::Incremental(..));
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        let mut told = Vec::with_capacity(found.len());
        for ((wanted, _), outcome) in self.wanted.iter().zip(found) {
            let brought = matches!(&outcome, Ok(fetched) if fetched.batches.bytes > 0);
            let now_told = outcome.as_ref().ok().map(|fetched| Told {
                high_watermark: fetched.high_watermark.0,
                log_start: fetched.log_start.0,
            });
            let news = brought || now_told.is_none() || now_told != wanted.told;
            told.push((wanted.named.clone(), now_told, brought));
            if !incremental || news {
                add(&mut responses, &wanted.named, shown(&wanted.named, outcome));
            }
        }
        if let Some(session) = session {
            remember(&mut lock(session), told);
        }
        FetchResponse { session_id, responses, ..Default::default() }
    }
}

/// Only the first batch of an answer may exceed the limits (KIP-74).
fn fit(mut fetched: Fetched, limit: usize, is_first: bool) -> Fetched {
    if !is_first && fetched.batches.bytes > limit {
        fetched.batches = Batches::default();
    }
    fetched
}

/// Keeps the waker registered with every partition of a call, and takes it out at the end.
struct Registered<'a> {
    call: &'a Call<'a>,
    waker: &'a Waker,
}

impl Registered<'_> {
    fn register(&self) {
        for partition in self.call.wanted.iter().filter_map(|(_, found)| found.as_ref().ok()) {
            partition.wait(self.waker);
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for partition in self.call.wanted.iter().filter_map(|(_, found)| found.as_ref().ok()) {
            partition.forget(self.waker);
        }
    }
}

/// A waker that keeps one signal until it is looked at.
struct Signal(Notify);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

fn remember(
    session: &mut crate::kafka::fetch_sessions::Session,
    told: Vec<(Named, Option<Told>, bool)>,
) {
    let brought: std::collections::HashSet<&Named> =
        told.iter().filter(|(_, _, brought)| *brought).map(|(named, _, _)| named).collect();
    for (wanted, (named, now_told, _)) in session.wanted.iter_mut().zip(&told) {
        if wanted.named == *named {
            wanted.told = *now_told;
        }
    }
    session.rotate(&|named| brought.contains(named));
}

fn add(responses: &mut Vec<FetchableTopicResponse>, named: &Named, partition: PartitionData) {
    let same = |topic: &FetchableTopicResponse| {
        topic.topic == named.topic && topic.topic_id == named.topic_id
    };
    match responses.last_mut().filter(|last| same(last)) {
        Some(topic) => topic.partitions.push(partition),
        None => match responses.iter_mut().find(|topic| same(topic)) {
            Some(topic) => topic.partitions.push(partition),
            None => responses.push(FetchableTopicResponse {
                topic: named.topic.clone(),
                topic_id: named.topic_id,
                partitions: vec![partition],
            }),
        },
    }
}

fn shown(named: &Named, outcome: Outcome) -> PartitionData {
    let fetched = match outcome {
        Ok(fetched) => fetched,
        Err(error_code) => {
            return PartitionData {
                partition_index: named.index,
                error_code,
                high_watermark: -1,
                records: Some(Records::default()),
                ..Default::default()
            };
        }
    };
    let aborted = fetched.aborted.map(|aborted| {
        let one = |aborted: &ottla_engine::Aborted| AbortedTransaction {
            producer_id: aborted.producer.0,
            first_offset: aborted.first,
        };
        aborted.iter().map(one).collect()
    });
    PartitionData {
        partition_index: named.index,
        high_watermark: fetched.high_watermark.0,
        last_stable_offset: fetched.last_stable.0,
        log_start_offset: fetched.log_start.0,
        aborted_transactions: aborted,
        preferred_read_replica: -1,
        records: Some(fetched.batches.pieces.into()),
        ..Default::default()
    }
}

/// Bytes of one answer whatever the client allows, as Kafka's `fetch.max.bytes`.
const FETCH_BYTES_MAX: usize = 55 << 20;
/// Milliseconds a fetch may wait whatever the client allows.
const WAIT_MS_MAX: u64 = 300_000;
