//! ShareFetch and ShareAcknowledge: records of a share group, held, renewed and settled (KIP-932).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use ottla_engine::group::assignor::{Part, TopicId};
use ottla_engine::group::share::{AckBatch, AckError, AckType};
use ottla_engine::group::{GroupId, MemberId};
use ottla_engine::topic::{Partition, PartitionId, TopicId as CatalogTopic};
use ottla_engine::{Lsn, ShareFetchError, ShareWant, Shared};
use ottla_kafka_proto::messages::{share_acknowledge as ack, share_fetch as fetch};
use ottla_kafka_proto::{ErrorCode, Str, Uuid};
use tokio::sync::Notify;

use super::Answer;
use crate::kafka::share_sessions::{Key, Turn};
use crate::kafka::{Peer, codes};

/// What was said of one partition: its batches, or why they cannot be meant.
type Said = (Part, Result<Vec<AckBatch>, ErrorCode>);
/// What became of it.
type Judged = BTreeMap<Part, ErrorCode>;

/// Acknowledges what is brought along, then waits at most `max_wait_ms` for records.
pub(super) async fn fetch(peer: &Peer, request: fetch::ShareFetchRequest) -> Answer {
    let refused =
        |error_code| Answer::now(fetch::ShareFetchResponse { error_code, ..Default::default() });
    let key = match key(request.group_id.as_ref(), request.member_id.as_ref()) {
        Ok(key) => key,
        Err(code) => return refused(code),
    };
    let said = said_in_fetch(&request);
    if request.share_session_epoch == 0 && !said.is_empty() {
        return refused(ErrorCode::INVALID_REQUEST);
    }
    let (judged, turn, mut lsn) = match settle(peer, &key, request.share_session_epoch, said) {
        Ok(settled) => settled,
        Err(code) => return refused(code),
    };
    let config = peer.context.engine.share_config(&key.0);
    let mut found = Vec::new();
    if turn != Turn::Last {
        let sessions = &peer.context.share_sessions;
        let parts = sessions.update(&key, &listed(&request), &forgotten(&request));
        if !request.is_renew_ack {
            let call = Call::new(peer, &key, &request, &parts);
            lsn = lsn.max(call.changed);
            found = match call.wait(request.max_wait_ms).await {
                Ok(found) => found,
                Err(error) => return refused(codes::share_fetch(&error)),
            };
        }
    }
    let (responses, newest) = shown(judged, found);
    let response = fetch::ShareFetchResponse {
        acquisition_lock_timeout_ms: i32::try_from(config.settings.lock_ms).unwrap_or(i32::MAX),
        responses,
        ..Default::default()
    };
    Answer::at(lsn.max(newest), response)
}

/// Says what became of records.
pub(super) fn acknowledge(peer: &Peer, request: ack::ShareAcknowledgeRequest) -> Answer {
    let refused = |error_code| {
        Answer::now(ack::ShareAcknowledgeResponse { error_code, ..Default::default() })
    };
    let key = match key(request.group_id.as_ref(), request.member_id.as_ref()) {
        Ok(key) => key,
        Err(code) => return refused(code),
    };
    if request.share_session_epoch == 0 {
        return refused(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
    }
    let said = said_in_acknowledge(&request);
    let (judged, _, lsn) = match settle(peer, &key, request.share_session_epoch, said) {
        Ok(settled) => settled,
        Err(code) => return refused(code),
    };
    let mut responses: Vec<ack::ShareAcknowledgeTopicResponse> = Vec::new();
    for (part, error_code) in judged {
        let partition_index = part.partition;
        let partition = ack::PartitionData { partition_index, error_code, ..Default::default() };
        let topic_id = Uuid(part.topic.0);
        match responses.last_mut().filter(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => responses
                .push(ack::ShareAcknowledgeTopicResponse { topic_id, partitions: vec![partition] }),
        }
    }
    let config = peer.context.engine.share_config(&key.0);
    let response = ack::ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: i32::try_from(config.settings.lock_ms).unwrap_or(i32::MAX),
        responses,
        ..Default::default()
    };
    Answer::at(lsn, response)
}

fn key(group: Option<&Str>, member: Option<&Str>) -> Result<Key, ErrorCode> {
    let named = |text: Option<&Str>| text.filter(|text| !text.is_empty()).cloned();
    let group = named(group).ok_or(ErrorCode::INVALID_REQUEST)?;
    let member = named(member).ok_or(ErrorCode::INVALID_REQUEST)?;
    if member.chars().count() > MEMBER_ID_CHARS_MAX {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok((GroupId::from(group.as_str()), MemberId::from(member.as_str())))
}

/// Takes the request's turn in its session and carries out what it says of records.
fn settle(
    peer: &Peer,
    key: &Key,
    epoch: i32,
    said: Vec<Said>,
) -> Result<(Judged, Turn, Lsn), ErrorCode> {
    let engine = &peer.context.engine;
    let turn = peer.context.share_sessions.turn(&peer.shares, key, epoch)?;
    if turn == Turn::Opened {
        engine.share_release(&key.0, &key.1); // of the member's former session
    }
    let mut judged = Judged::new();
    let mut meant = Vec::new();
    for (part, batches) in said {
        match batches {
            Ok(batches) => meant.push((part, batches)),
            Err(code) => {
                judged.insert(part, code);
            }
        }
    }
    let acknowledged = match meant.as_slice() {
        [] => Ok((Vec::new(), Lsn::ZERO)),
        meant if engine.share_buries(&key.0) => {
            tokio::task::block_in_place(|| engine.share_acknowledge(&key.0, &key.1, meant))
        }
        meant => engine.share_acknowledge(&key.0, &key.1, meant),
    };
    if turn == Turn::Last {
        engine.share_release(&key.0, &key.1); // also when the acknowledgements were refused
    }
    let (results, lsn) = acknowledged.map_err(|error| codes::consumer_refused(&error))?;
    for ((part, _), result) in meant.into_iter().zip(results) {
        let code = |error: AckError| codes::share_ack(error);
        judged.insert(part, result.map_or_else(code, |()| ErrorCode::NONE));
    }
    Ok((judged, turn, lsn))
}

/// One range of offsets with its types.
fn batch(first: i64, last: i64, types: &[i8], renewing: bool) -> Result<AckBatch, ErrorCode> {
    let one = |code: &i8| match AckType::from_code(*code) {
        Some(AckType::Renew) if !renewing => Err(ErrorCode::INVALID_REQUEST),
        Some(known) => Ok(known),
        None => Err(ErrorCode::INVALID_REQUEST),
    };
    Ok(AckBatch { first, last, types: types.iter().map(one).collect::<Result<_, _>>()? })
}

fn part(topic: Uuid, partition: i32) -> Part {
    Part { topic: TopicId(topic.0), partition }
}

fn said_in_fetch(request: &fetch::ShareFetchRequest) -> Vec<Said> {
    let mut said = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if partition.acknowledgement_batches.is_empty() {
                continue;
            }
            let one = |range: &fetch::AcknowledgementBatch| {
                let types = &range.acknowledge_types;
                batch(range.first_offset, range.last_offset, types, request.is_renew_ack)
            };
            let batches = partition.acknowledgement_batches.iter().map(one).collect();
            said.push((part(topic.topic_id, partition.partition_index), batches));
        }
    }
    said
}

fn said_in_acknowledge(request: &ack::ShareAcknowledgeRequest) -> Vec<Said> {
    let mut said = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let one = |range: &ack::AcknowledgementBatch| {
                let types = &range.acknowledge_types;
                batch(range.first_offset, range.last_offset, types, request.is_renew_ack)
            };
            let batches = partition.acknowledgement_batches.iter().map(one).collect();
            said.push((part(topic.topic_id, partition.partition_index), batches));
        }
    }
    said
}

fn listed(request: &fetch::ShareFetchRequest) -> Vec<Part> {
    let topics = request.topics.iter();
    let one = |topic: &fetch::FetchTopic| {
        let id = topic.topic_id;
        topic.partitions.iter().map(move |p| part(id, p.partition_index)).collect::<Vec<_>>()
    };
    topics.flat_map(one).collect()
}

fn forgotten(request: &fetch::ShareFetchRequest) -> Vec<Part> {
    let topics = request.forgotten_topics_data.iter();
    let one = |topic: &fetch::ForgottenTopic| {
        let id = topic.topic_id;
        topic.partitions.iter().map(move |index| part(id, *index)).collect::<Vec<_>>()
    };
    topics.flat_map(one).collect()
}

/// What was found in one partition.
type Found = (Part, Result<Shared, ErrorCode>);

/// One fetch with its partitions found.
struct Call<'a> {
    peer: &'a Peer,
    group: &'a GroupId,
    member: &'a MemberId,
    parts: Vec<(Part, Result<Arc<Partition>, ErrorCode>)>,
    want: ShareWant,
    changed: Lsn,
}

impl<'a> Call<'a> {
    fn new(
        peer: &'a Peer,
        key: &'a Key,
        request: &fetch::ShareFetchRequest,
        parts: &[Part],
    ) -> Self {
        let catalog = peer.context.engine.catalog();
        let find = |part: &Part| {
            let topic = catalog.topic_by_id(CatalogTopic(part.topic.0));
            let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
            let found = topic.partition(PartitionId(part.partition));
            found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let want = ShareWant {
            records_max: u32::try_from(request.max_records).unwrap_or(0),
            bytes_max: usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX),
            batch_size: u32::try_from(request.batch_size).unwrap_or(0).max(1),
            strict: request.share_acquire_mode == RECORD_LIMIT,
            cached_only: true,
        };
        Self {
            peer,
            group: &key.0,
            member: &key.1,
            parts: parts.iter().map(|part| (*part, find(part))).collect(),
            want,
            changed: catalog.changed(),
        }
    }

    /// Collects until there is something, or time is up.
    async fn wait(&self, max_wait_ms: i32) -> Result<Vec<Found>, ShareFetchError> {
        let patience = u64::try_from(max_wait_ms).unwrap_or(0).min(WAIT_MS_MAX);
        let found = self.collect()?;
        if patience == 0 || !found.is_empty() {
            return Ok(found);
        }
        let signal = Arc::new(Signal(Notify::new()));
        let waker = Waker::from(Arc::clone(&signal));
        let deadline = tokio::time::sleep(Duration::from_millis(patience));
        tokio::pin!(deadline);
        let registered = Registered { call: self, waker: &waker };
        loop {
            registered.register(); // before looking, so that nothing comes in between unseen
            let found = self.collect()?;
            if !found.is_empty() {
                return Ok(found);
            }
            tokio::select! {
                () = signal.0.notified() => {}
                () = &mut deadline => return self.collect(),
            }
        }
    }

    /// What there is now: partitions with records or with an error.
    fn collect(&self) -> Result<Vec<Found>, ShareFetchError> {
        let (mut records, mut bytes) = (self.want.records_max, self.want.bytes_max);
        let mut found = Vec::new();
        for (part, partition) in &self.parts {
            if records == 0 || bytes == 0 {
                break;
            }
            let outcome = match partition {
                Ok(partition) => {
                    let want = ShareWant { records_max: records, bytes_max: bytes, ..self.want };
                    match self.take(partition, want) {
                        Ok(shared) => Ok(shared),
                        Err(ShareFetchError::Read(error)) => Err(codes::read(&error)),
                        Err(error) if found.is_empty() => return Err(error),
                        Err(_) => break, // what was acquired is told first
                    }
                }
                Err(code) => Err(*code),
            };
            if let Ok(shared) = &outcome {
                if shared.acquired.is_empty() {
                    continue;
                }
                let count: i64 = shared.acquired.iter().map(|run| run.last - run.first + 1).sum();
                records = records.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                bytes = bytes.saturating_sub(shared.pieces.iter().map(Bytes::len).sum());
            }
            found.push((*part, outcome));
        }
        Ok(found)
    }

    /// From memory if that is enough, else from the disk.
    fn take(&self, partition: &Partition, want: ShareWant) -> Result<Shared, ShareFetchError> {
        let engine = &self.peer.context.engine;
        if let Some(shared) = engine.share_fetch(self.group, self.member, partition, want)? {
            return Ok(shared);
        }
        let want = ShareWant { cached_only: false, ..want };
        tokio::task::block_in_place(|| {
            engine
                .share_fetch(self.group, self.member, partition, want)
                .map(Option::unwrap_or_default)
        })
    }
}

/// Keeps the waker registered with the group and every partition, and takes it out at the end.
struct Registered<'a> {
    call: &'a Call<'a>,
    waker: &'a Waker,
}

impl Registered<'_> {
    fn register(&self) {
        self.call.peer.context.engine.wait_share(self.call.group, self.waker);
        for partition in self.call.parts.iter().filter_map(|(_, found)| found.as_ref().ok()) {
            partition.wait(self.waker);
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.call.peer.context.engine.forget_share(self.call.group, self.waker);
        for partition in self.call.parts.iter().filter_map(|(_, found)| found.as_ref().ok()) {
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

/// Each partition of which something was said or found.
fn shown(judged: Judged, found: Vec<Found>) -> (Vec<fetch::ShareFetchableTopicResponse>, Lsn) {
    let mut newest = Lsn::ZERO;
    let mut found: HashMap<Part, Result<Shared, ErrorCode>> = found.into_iter().collect();
    let parts: std::collections::BTreeSet<Part> =
        judged.keys().chain(found.keys()).copied().collect();
    let mut responses: Vec<fetch::ShareFetchableTopicResponse> = Vec::new();
    for part in parts {
        let mut data = fetch::PartitionData {
            partition_index: part.partition,
            acknowledge_error_code: judged.get(&part).copied().unwrap_or(ErrorCode::NONE),
            ..Default::default()
        };
        match found.remove(&part) {
            Some(Ok(shared)) => {
                newest = newest.max(shared.lsn);
                fill(&mut data, shared);
            }
            Some(Err(code)) => data.error_code = code,
            None => {}
        }
        let topic_id = Uuid(part.topic.0);
        match responses.last_mut().filter(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(data),
            None => responses
                .push(fetch::ShareFetchableTopicResponse { topic_id, partitions: vec![data] }),
        }
    }
    (responses, newest)
}

fn fill(data: &mut fetch::PartitionData, shared: Shared) {
    data.records = Some(shared.pieces.into());
    let runs = shared.acquired.into_iter().map(|run| fetch::AcquiredRecords {
        first_offset: run.first,
        last_offset: run.last,
        delivery_count: i16::try_from(run.count).unwrap_or(i16::MAX),
    });
    data.acquired_records = runs.collect();
}

/// Kafka's bound: a UUID as text.
const MEMBER_ID_CHARS_MAX: usize = 36;
/// `share_acquire_mode`: never more than `max_records` (KIP-1206).
const RECORD_LIMIT: i8 = 1;
/// Bytes of one answer whatever the client allows.
const FETCH_BYTES_MAX: usize = 55 << 20;
/// Milliseconds a fetch may wait whatever the client allows.
const WAIT_MS_MAX: u64 = 300_000;
