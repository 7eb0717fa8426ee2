//! A topic of the engine: batches in, records out, groups' positions in the engine's own groups.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use ottla_engine::batch::{BatchBuilder, BatchHeader, PreparedBatch, RecordDraft};
use ottla_engine::codec::Codec;
use ottla_engine::group::classic::Committer;
use ottla_engine::group::offsets::Commit;
use ottla_engine::group::{Generation, GroupId};
use ottla_engine::records::{Record, Records};
use ottla_engine::topic::{Fetched, Isolation, Partition, PartitionId, ProduceError, Topic};
use ottla_engine::{Lsn, Offset, ReadError, Refused, StreamId};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use uuid::Uuid;

use super::host::{Host, lock};
use crate::cloudevents::{self, Fallback};
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::mint::Timestamp;
use crate::transport::Parcel;
use crate::transport::log::{Group, PartitionLog, Piece, partition_of};

#[derive(Debug)]
pub(super) struct EmbeddedTopic {
    host: Weak<Host>,
    topic: Arc<Topic>,
    groups: Mutex<HashMap<String, Arc<Group>>>,
    arrivals: watch::Sender<u64>,
    turn: AtomicU32,
}

impl EmbeddedTopic {
    pub(super) fn new(host: Weak<Host>, topic: Arc<Topic>) -> Self {
        let arrivals = watch::Sender::new(0);
        Self { host, topic, groups: Mutex::default(), arrivals, turn: AtomicU32::new(0) }
    }

    fn host(&self) -> Result<Arc<Host>> {
        let host = self.host.upgrade().filter(|host| !host.is_closed());
        host.ok_or(Error::Closed("the embedded broker"))
    }

    /// One batch for each partition; `Ok` once all are durable.
    pub(super) async fn publish(&self, parcels: Vec<Parcel>) -> Result<()> {
        let host = self.host()?;
        let count = self.partitions();
        let mut batches: BTreeMap<u32, BatchBuilder> = BTreeMap::new();
        for Parcel { envelope, .. } in &parcels {
            let partition = match &envelope.key {
                Some(key) => partition_of(key, count),
                None => self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1),
            };
            push(
                batches.entry(partition).or_insert_with(|| BatchBuilder::new(Codec::None)),
                envelope,
            );
        }
        let mut newest = Lsn::ZERO;
        for (partition, batch) in batches {
            let partition = self.partition(partition)?;
            newest = newest.max(produce(&host, &partition, &batch.build()).await?);
        }
        host.reached(newest).await
    }

    pub(super) fn group(&self, name: &str) -> Arc<Group> {
        let mut groups = lock(&self.groups);
        Arc::clone(groups.entry(name.to_owned()).or_insert_with(|| Arc::new(Group::new())))
    }

    pub(super) fn lag(&self, group: &str) -> Result<u64> {
        let mut behind = 0;
        for partition in 0..self.partitions() {
            let (start, end) = self.bounds(partition)?;
            let position = self.committed(group, partition).unwrap_or(start);
            behind += end.saturating_sub(position);
        }
        Ok(behind)
    }

    /// Some partitions have got records.
    pub(super) fn arrived(&self, streams: &[StreamId]) {
        let partitions = self.topic.partitions();
        let mine = |partition: &Arc<Partition>| streams.binary_search(&partition.stream()).is_ok();
        if partitions.iter().any(mine) {
            self.arrivals.send_modify(|version| *version += 1);
        }
    }

    fn partition(&self, number: u32) -> Result<Arc<Partition>> {
        let id = PartitionId(i32::try_from(number).unwrap_or(i32::MAX));
        let gone = || Error::refused(format!("partition {number}"), "the topic has no such");
        self.topic.partition(id).ok_or_else(gone)
    }
}

impl PartitionLog for EmbeddedTopic {
    fn partitions(&self) -> u32 {
        u32::try_from(self.topic.partitions().len()).unwrap_or(u32::MAX)
    }

    fn bounds(&self, partition: u32) -> Result<(u64, u64)> {
        let host = self.host()?;
        let partition = self.partition(partition)?;
        let extent = host.engine.store().extent(partition.stream());
        let end = partition.visible_end(host.engine.store(), Isolation::ReadCommitted);
        let start = extent.map_or(Offset::ZERO, |extent| extent.start);
        Ok((number(start), number(end.unwrap_or(start))))
    }

    fn read(&self, partition: u32, from: u64, max: usize) -> Result<Piece> {
        let host = self.host()?;
        let partition = self.partition(partition)?;
        let offset = Offset(i64::try_from(from).unwrap_or(i64::MAX));
        let store = host.engine.store();
        let fetch =
            |cached| partition.fetch(store, offset, PIECE_BYTES, Isolation::ReadCommitted, cached);
        let fetched = match fetch(true) {
            Ok(None) => off_the_worker(|| fetch(false)), // from the disk
            cached => cached,
        };
        match fetched {
            Ok(fetched) => {
                Ok(fetched.map_or_else(Piece::default, |f| piece(&f, &partition, from, max)))
            }
            Err(ReadError::OutOfRange { start, .. }) if number(start) > from => {
                Ok(Piece { records: Vec::new(), next: number(start) }) // deleted meanwhile
            }
            Err(ReadError::OutOfRange { .. }) => Ok(Piece { records: Vec::new(), next: from }),
            Err(error) => {
                Err(Error::refused(format!("reading topic {}", self.topic.name()), error))
            }
        }
    }

    fn committed(&self, group: &str, partition: u32) -> Option<u64> {
        let host = self.host().ok()?;
        let number = i32::try_from(partition).ok()?;
        let (found, _) = host.engine.read_group(&GroupId::from(group), |group| {
            let found = group.offsets().fetch(self.topic.name(), number, false);
            found.ok().flatten().map(|committed| committed.offset)
        });
        u64::try_from(found??).ok()
    }

    fn commit(&self, group: &str, positions: &[(u32, u64)]) -> Result<()> {
        let host = self.host()?;
        let committer = Committer {
            member: None,
            instance: None,
            generation: Generation::NONE,
            knows_epochs: true,
        };
        let commit = |(partition, position): &(u32, u64)| Commit {
            topic: Arc::clone(self.topic.name()),
            partition: i32::try_from(*partition).unwrap_or(i32::MAX),
            offset: i64::try_from(*position).unwrap_or(i64::MAX),
            leader_epoch: None,
            metadata: Arc::from(""),
        };
        let commits = positions.iter().map(commit).collect();
        let committed =
            host.engine.commit_offsets(&GroupId::from(group), &committer, commits, None);
        let refused = |error| Error::refused(format!("committing for group {group}"), error);
        committed.map_err(refused)?;
        Ok(())
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }
}

async fn produce(host: &Host, partition: &Partition, batch: &PreparedBatch) -> Result<Lsn> {
    loop {
        match host.engine.produce(partition, batch.clone(), host.engine.now()) {
            Ok(produced) => return Ok(produced.lsn),
            Err(ProduceError::Refused(Refused::Busy)) => host.room().await?,
            Err(error) => {
                let doing = format!("publishing to topic {}", partition.topic_name());
                return Err(Error::refused(doing, error));
            }
        }
    }
}

fn push(batch: &mut BatchBuilder, envelope: &Envelope) {
    let mut headers = vec![("content-type".to_owned(), envelope.content_type.to_string())];
    cloudevents::binary(envelope, cloudevents::KAFKA, |name, value| {
        headers.push((name.to_owned(), value.to_owned()));
    });
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
    batch.push(&RecordDraft {
        timestamp_ms: i64::try_from(envelope.time.0).unwrap_or(-1),
        key: envelope.key.as_deref().map(str::as_bytes),
        value: (!envelope.is_tombstone()).then_some(&envelope.body),
        headers: &headers,
    });
}

/// At most so many records from an offset on, without markers and aborted ones. What nobody has room for yet
/// is not decoded.
fn piece(fetched: &Fetched, partition: &Partition, from: u64, max: usize) -> Piece {
    let mut piece = Piece { records: Vec::new(), next: from };
    for bytes in &fetched.batches.pieces {
        let mut rest = bytes.clone();
        while let Ok(header) = BatchHeader::parse(&rest) {
            if header.bytes > rest.len() {
                break;
            }
            let batch = rest.split_to(header.bytes);
            piece.next = piece.next.max(number(header.next_offset()));
            if header.is_control() || is_aborted(fetched, &header) {
                continue;
            }
            let Ok(records) = Records::open(&batch) else { continue };
            for record in records.iter().map_while(Result::ok) {
                let offset = number(record.offset);
                if offset < from {
                    continue;
                }
                if piece.records.len() >= max {
                    piece.next = offset;
                    return piece;
                }
                piece.records.push((offset, envelope(&record, partition)));
            }
        }
    }
    piece
}

fn is_aborted(fetched: &Fetched, header: &BatchHeader) -> bool {
    header.is_transactional()
        && fetched.aborted.iter().flatten().any(|aborted| {
            aborted.producer.0 == header.producer_id
                && (aborted.first..=aborted.last).contains(&header.base_offset.0)
        })
}

fn envelope(record: &Record<'_>, partition: &Partition) -> Envelope {
    let place = format!("{}/{}/{}", partition.topic_name(), partition.id().0, record.offset.0);
    let fallback = Fallback {
        id: Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes()),
        time: Timestamp(u64::try_from(record.timestamp_ms).unwrap_or(0)),
    };
    let headers = record.headers.filter_map(|(name, value)| {
        Some((std::str::from_utf8(name).ok()?, Cow::from(std::str::from_utf8(value?).ok()?)))
    });
    let key = record.key.map(|key| String::from_utf8_lossy(key).into_owned());
    let body = record.value.map(Bytes::copy_from_slice).unwrap_or_default();
    cloudevents::read(headers, None, key, body, fallback)
}

/// Where that is possible, without holding up the runtime's worker.
fn off_the_worker<T>(read: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(read),
        _ => read(),
    }
}

fn number(offset: Offset) -> u64 {
    u64::try_from(offset.0).unwrap_or(0)
}

/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;
