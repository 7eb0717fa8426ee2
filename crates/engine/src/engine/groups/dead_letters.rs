//! Dead letters of share groups (KIP-1191): what a group gives up becomes a record of its dead-letter
//! topic, in the very frame that archives it (store.md rule 9).
//!
//! What would be given up is planned under the group's lock, read without it, and carried out under it
//! again if the plan still holds. A frame takes about a megabyte of letters; more come in several.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_store::batch::{BatchBuilder, PreparedBatch, RecordDraft, split};
use ottla_store::codec::Codec;
use ottla_store::frame::{Frame, Item};
use ottla_store::records::Records;
use ottla_store::{Lsn, Offset, Purpose, Refused};

use super::share_config::DeadLetterWish;
use super::shares::{ShareAcks, ack_bytes};
use super::{ConsumerRefused, FACT_BYTES};
use crate::catalog::Catalog;
use crate::clock::Now;
use crate::engine::{CreateError, Engine, NewTopic};
use crate::fact::{Fact, encode};
use crate::group::assignor::Part;
use crate::group::share::{AckBatch, AckError, Death, ShareGroup, ShareRecord};
use crate::group::{GroupId, GroupRecord, MemberId, OtherProtocol};
use crate::topic::config::{Compression, DEAD_LETTERS, Overrides, TopicConfig};
use crate::topic::{Isolation, Partition, PartitionId, Topic, TopicId};

/// Where the dead letters of one group go.
pub(super) struct DeadLetters {
    group: GroupId,
    topic: Arc<Topic>,
    config: Arc<TopicConfig>,
    copies: bool,
}

/// Why a group's dead letters cannot be written: its records are given up without. Kafka's rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NoLetters {
    #[error("the name of a dead-letter topic cannot begin with __")]
    Internal,
    #[error("the topic does not have {DEAD_LETTERS}=true")]
    NotEnabled,
    #[error("the name of a dead-letter topic has to begin with {0}")]
    Prefix(String),
    #[error("there is no such topic, and {AUTO_CREATE} is false")]
    Missing,
    #[error("the topic could not be made: {0}")]
    NotMade(CreateError),
    /// For now: nothing is given up without a letter on its account.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// One frame of letters.
struct Bundle {
    /// `None`: none of what is given up can have a letter in this topic.
    batch: Option<PreparedBatch>,
    partition: Arc<Partition>,
    /// Whose letters these are.
    deaths: Vec<Death>,
    /// What comes behind it is in the next frame; the end of all offsets if nothing does.
    upto: i64,
}

/// Keys and values of records that are given up.
struct Copies {
    records: HashMap<i64, (Option<Bytes>, Option<Bytes>)>,
    /// Behind it nothing was read yet.
    upto: i64,
}

impl Engine {
    /// Whether acknowledging may have to read from the disk, for a dead letter.
    pub fn share_buries(&self, id: &GroupId) -> bool {
        DeadLetterWish::of(self.catalog().group_settings(id.as_str())).is_some()
    }

    /// Where the group's dead letters go; `None` if it wants none or none can be written, which is said
    /// once.
    pub(super) fn dead_letters(&self, id: &GroupId) -> Result<Option<DeadLetters>, Refused> {
        let wish = DeadLetterWish::of(self.catalog().group_settings(id.as_str()));
        let (Some(wish), Some(cell)) = (wish, self.groups.find(id)) else { return Ok(None) };
        match self.dead_letter_topic(&wish) {
            Ok(topic) => {
                cell.without_letters.store(false, Ordering::Relaxed);
                let (group, config, copies) = (id.clone(), topic.config(), wish.copies);
                Ok(Some(DeadLetters { group, topic, config, copies }))
            }
            Err(NoLetters::Refused(refused)) => Err(refused),
            Err(why) => {
                if !cell.without_letters.swap(true, Ordering::Relaxed) {
                    let (group, topic) = (id.as_str(), wish.topic);
                    tracing::warn!(group, topic, %why, "records are given up without dead letters");
                }
                Ok(None)
            }
        }
    }

    /// The topic that a group names, made if need be and allowed.
    fn dead_letter_topic(&self, wish: &DeadLetterWish) -> Result<Arc<Topic>, NoLetters> {
        if let Some(topic) = judged(&self.catalog(), &wish.topic)? {
            return Ok(topic);
        }
        let overrides = Overrides::from([
            (DEAD_LETTERS.to_owned(), "true".to_owned()),
            ("message.timestamp.type".to_owned(), "CreateTime".to_owned()),
        ]);
        let new = NewTopic { name: wish.topic.clone(), partitions: None, overrides };
        match self.create_topic(&new) {
            Ok((topic, _)) => Ok(topic),
            Err(CreateError::Refused(refused)) => Err(refused.into()),
            Err(error) => match judged(&self.catalog(), &wish.topic)? {
                Some(topic) => Ok(topic), // somebody else was faster
                None => Err(NoLetters::NotMade(error)),
            },
        }
    }

    /// [`share_acknowledge`](Self::share_acknowledge) for a group with a dead-letter topic.
    pub(super) fn acknowledge_and_bury(
        &self,
        letters: &DeadLetters,
        member: &MemberId,
        parts: &[(Part, Vec<AckBatch>)],
    ) -> Result<ShareAcks, ConsumerRefused> {
        let id = &letters.group;
        let settings = self.share_config(id).settings;
        let planned = self.with_group(id, false, |group| {
            let share = group.machine.as_share_mut().ok_or(OtherProtocol)?;
            share.configure(settings);
            let plan =
                |(part, batches): &(Part, Vec<AckBatch>)| share.deaths(*part, member, batches);
            Ok::<_, ConsumerRefused>((parts.iter().map(plan).collect::<Vec<_>>(), group.changed))
        })?;
        let (planned, mut lsn) = planned.unwrap_or(Err(ConsumerRefused::NotFound))?;
        let mut results = Vec::new();
        for ((part, batches), deaths) in parts.iter().zip(planned) {
            let (result, place) = match deaths {
                Err(error) => (Err(error), lsn),
                Ok(deaths) if deaths.is_empty() => {
                    self.acknowledge_part(id, member, *part, batches)?
                }
                Ok(deaths) => self.bury_acknowledged(letters, member, *part, batches, deaths)?,
            };
            results.push(result);
            lsn = lsn.max(place);
        }
        Ok((results, lsn))
    }

    fn acknowledge_part(
        &self,
        id: &GroupId,
        member: &MemberId,
        part: Part,
        batches: &[AckBatch],
    ) -> Result<(Result<(), AckError>, Lsn), ConsumerRefused> {
        let now = self.now();
        let bytes = batches.iter().map(ack_bytes).sum();
        self.share_change(id, bytes, |share| match share.acknowledge(part, member, batches, now) {
            Ok(records) => (Ok(()), records),
            Err(error) => (Err(error), Vec::new()),
        })
    }

    /// Acknowledges frame by frame, each with its letters.
    fn bury_acknowledged(
        &self,
        letters: &DeadLetters,
        member: &MemberId,
        part: Part,
        batches: &[AckBatch],
        mut deaths: Vec<Death>,
    ) -> Result<(Result<(), AckError>, Lsn), ConsumerRefused> {
        let mut rest = batches.to_vec();
        let mut lsn = Lsn::ZERO;
        while !rest.is_empty() {
            let now = self.now();
            let (here, later);
            let done = if deaths.is_empty() {
                (here, later) = (rest, Vec::new());
                self.acknowledge_part(&letters.group, member, part, &here)?
            } else {
                let bundle = self.bundle(letters, part, &deaths, now);
                (here, later) = cut(rest, bundle.upto);
                deaths = behind(deaths, bundle.upto);
                let bytes = here.iter().map(ack_bytes).sum();
                self.bury(letters, &bundle, bytes, |share| {
                    if share.deaths(part, member, &here)? != bundle.deaths {
                        return Err(AckError::InvalidState); // lost and taken again meanwhile
                    }
                    share.acknowledge(part, member, &here, now)
                })?
            };
            lsn = lsn.max(done.1);
            if done.0.is_err() {
                return Ok((done.0, lsn));
            }
            rest = later;
        }
        Ok((Ok(()), lsn))
    }

    /// Gives up, with letters, what was held too long after its last delivery. Says whether nothing of it
    /// is left; the rest is for the next call.
    pub(super) fn bury_overdue(&self, id: &GroupId, now: Now) -> bool {
        let letters = match self.dead_letters(id) {
            Ok(Some(letters)) => letters,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let settings = self.share_config(id).settings;
        let overdue = self.with_group(id, false, |group| {
            let share = group.machine.as_share_mut()?;
            share.configure(settings);
            Some(share.overdue(now))
        });
        let Ok(Some(overdue)) = overdue else { return true };
        for (part, deaths) in overdue.unwrap_or_default() {
            let bundle = self.bundle(&letters, part, &deaths, now);
            let bytes = deaths.len() * OVERDUE_BYTES;
            let done = self.bury(&letters, &bundle, bytes, |share| {
                let overdue = share.overdue(now).into_iter().find(|(known, _)| *known == part);
                let overdue = overdue.map(|(_, deaths)| deaths).unwrap_or_default();
                if within(&overdue, bundle.upto) != bundle.deaths {
                    return Err(AckError::InvalidState);
                }
                Ok(share.give_up(part, bundle.upto, now))
            });
            let all = bundle.upto == i64::MAX && matches!(done, Ok((Ok(()), _)));
            if !all {
                return false;
            }
        }
        true
    }

    /// The letters of what is given up, as many as go into one frame.
    fn bundle(&self, letters: &DeadLetters, part: Part, deaths: &[Death], now: Now) -> Bundle {
        let source = self.catalog().topic_by_id(TopicId(part.topic.0)).cloned();
        let copies =
            match source.as_ref().and_then(|topic| topic.partition(PartitionId(part.partition))) {
                Some(partition) if letters.copies => self.copies(&partition, deaths),
                _ => Copies { records: HashMap::new(), upto: i64::MAX },
            };
        let name = source
            .map_or_else(|| TopicId(part.topic.0).to_string(), |topic| topic.name().to_string());
        let mut builder =
            BatchBuilder::new(letters.config.compression.map_or(Codec::None, Compression::codec));
        let bytes_max = letters.config.message_bytes_max.min(LETTERS_BYTES_MAX);
        let mut upto = i64::MAX;
        'all: for death in deaths {
            for offset in death.first..=death.last {
                let letter =
                    Letter { topic: &name, part, offset, death, group: letters.group.as_str() };
                let copy = copies
                    .records
                    .get(&offset)
                    .filter(|copy| letter.bytes(copy) <= letters.config.message_bytes_max);
                let bytes = copy.map_or(0, |copy| letter.bytes(copy));
                let full =
                    builder.count() > 0 && builder.bytes_len() + bytes + LETTER_BYTES > bytes_max;
                if offset > copies.upto || full || builder.count() >= LETTERS_MAX {
                    upto = offset - 1;
                    break 'all;
                }
                let (key, value) = copy.cloned().unwrap_or_default();
                if key.is_some() || !letters.config.compact {
                    letter.write(&mut builder, key.as_deref(), value.as_deref(), now);
                }
            }
        }
        let stamp = |batch: PreparedBatch| {
            let is_stamped = letters.config.log_append_time;
            if is_stamped { batch.with_log_append_time(now.wall.0) } else { batch }
        };
        let batch = (builder.count() > 0).then(|| stamp(builder.build()));
        let partition = letters.partition_for(part);
        Bundle { batch, partition, deaths: within(deaths, upto), upto }
    }

    /// Reads a piece of the log that begins at the first of the dead. What cannot be read has letters
    /// without key and value.
    fn copies(&self, source: &Partition, deaths: &[Death]) -> Copies {
        let mut copies = Copies { records: HashMap::new(), upto: i64::MAX };
        let Some(first) = deaths.first().map(|death| death.first) else { return copies };
        let isolation = Isolation::ReadUncommitted;
        let read = source.fetch(&self.store, Offset(first), COPIED_BYTES, isolation, false);
        let Ok(Some(fetched)) = read else { return copies };
        for batch in fetched.batches.pieces.into_iter().flat_map(split) {
            let Ok(batch) = batch else { return copies };
            let Ok(records) = Records::open(&batch) else { return copies };
            for record in records.iter().map_while(Result::ok) {
                if is_among(deaths, record.offset.0) {
                    let (key, value) = (
                        record.key.map(Bytes::copy_from_slice),
                        record.value.map(Bytes::copy_from_slice),
                    );
                    copies.records.insert(record.offset.0, (key, value));
                }
            }
            copies.upto = records.header().last_offset().0;
        }
        copies
    }

    /// Archives what `act` gives up and writes its letters, in one frame. An error of `act` writes
    /// nothing.
    fn bury(
        &self,
        letters: &DeadLetters,
        bundle: &Bundle,
        bytes: usize,
        act: impl FnOnce(&mut ShareGroup) -> Result<Vec<ShareRecord>, AckError>,
    ) -> Result<(Result<(), AckError>, Lsn), ConsumerRefused> {
        let letters_bytes = bundle.batch.as_ref().map_or(0, PreparedBatch::bytes_len);
        let done = self.with_group(&letters.group, false, |group| {
            let bytes = bytes + letters_bytes + FACT_BYTES + letters.group.as_str().len();
            let reservation = self.store.reserve(Purpose::Grow, 2, bytes)?;
            let share = group.machine.as_share_mut().ok_or(OtherProtocol)?;
            let mut state = bundle.partition.lock();
            if bundle.partition.is_closed() {
                return Ok((Err(AckError::InvalidState), group.changed)); // the topic has just gone
            }
            let records = match act(share) {
                Ok(records) if records.is_empty() => return Ok((Ok(()), group.changed)),
                Ok(records) => records.into_iter().map(GroupRecord::Share).collect(),
                Err(error) => return Ok((Err(error), group.changed)),
            };
            let mut frame = Frame::new();
            if let Some(batch) = bundle.batch.clone() {
                frame.push(Item::Batch { stream: bundle.partition.stream(), batch });
            }
            let fact = Fact::Group { group: letters.group.clone(), records };
            frame.push(Item::State { payload: Bytes::from(encode(&fact)) });
            let lsn = self.store.append(reservation, frame).lsn;
            if bundle.batch.is_some() {
                state.applied = lsn;
            }
            group.changed = lsn;
            Ok((Ok(()), lsn))
        })?;
        done.unwrap_or(Err(ConsumerRefused::NotFound))
    }
}

impl DeadLetters {
    /// Kafka's choice: the record's own partition, as far as there are so many.
    fn partition_for(&self, part: Part) -> Arc<Partition> {
        let partitions = self.topic.partitions();
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX).max(1);
        let own = self.topic.partition(PartitionId(part.partition.rem_euclid(count)));
        #[expect(
            clippy::expect_used,
            reason = "a topic has a partition for each number below their count"
        )]
        own.expect("a topic without partitions")
    }
}

/// A record of the dead-letter topic.
struct Letter<'a> {
    topic: &'a str,
    part: Part,
    offset: i64,
    death: &'a Death,
    group: &'a str,
}

impl Letter<'_> {
    /// Bytes with a copy, at most.
    fn bytes(&self, (key, value): &(Option<Bytes>, Option<Bytes>)) -> usize {
        let copied = key.as_ref().map_or(0, Bytes::len) + value.as_ref().map_or(0, Bytes::len);
        copied + self.topic.len() + self.group.len() + LETTER_BYTES
    }

    fn write(
        &self,
        builder: &mut BatchBuilder,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        now: Now,
    ) {
        let [partition, offset, count] = [
            self.part.partition.to_string(),
            self.offset.to_string(),
            self.death.count.to_string(),
        ];
        let cause = self.death.cause.to_string();
        let headers: [(&[u8], Option<&[u8]>); 6] = [
            (b"__dlq.errors.topic", Some(self.topic.as_bytes())),
            (b"__dlq.errors.partition", Some(partition.as_bytes())),
            (b"__dlq.errors.offset", Some(offset.as_bytes())),
            (b"__dlq.errors.group", Some(self.group.as_bytes())),
            (b"__dlq.errors.delivery.count", Some(count.as_bytes())),
            (b"__dlq.errors.message", Some(cause.as_bytes())),
        ];
        builder.push(&RecordDraft { timestamp_ms: now.wall.0, key, value, headers: &headers });
    }
}

/// The topic if it is there and may be used; `None` if it may be made.
fn judged(catalog: &Catalog, name: &str) -> Result<Option<Arc<Topic>>, NoLetters> {
    let is_on = |value: &String| value.trim().eq_ignore_ascii_case("true");
    if name.starts_with("__") {
        return Err(NoLetters::Internal);
    }
    let topic = catalog.topic(name);
    if topic.is_some_and(|topic| !topic.overrides().get(DEAD_LETTERS).is_some_and(is_on)) {
        return Err(NoLetters::NotEnabled);
    }
    let prefix =
        catalog.broker().get(NAME_PREFIX).map_or(NAME_PREFIX_DEFAULT, |prefix| prefix.trim());
    if !name.starts_with(prefix) {
        return Err(NoLetters::Prefix(prefix.to_owned()));
    }
    match topic {
        None if !catalog.broker().get(AUTO_CREATE).is_some_and(is_on) => Err(NoLetters::Missing),
        topic => Ok(topic.cloned()),
    }
}

/// What is said up to an offset, and what is said behind it.
fn cut(batches: Vec<AckBatch>, upto: i64) -> (Vec<AckBatch>, Vec<AckBatch>) {
    let (mut here, mut later) = (Vec::new(), Vec::new());
    for (head, tail) in batches.into_iter().map(|batch| batch.cut(upto)) {
        here.extend(head);
        later.extend(tail);
    }
    (here, later)
}

/// The dead up to an offset.
fn within(deaths: &[Death], upto: i64) -> Vec<Death> {
    let near = deaths.iter().filter(|death| death.first <= upto);
    near.map(|death| Death { last: death.last.min(upto), ..*death }).collect()
}

/// The dead behind an offset.
fn behind(deaths: Vec<Death>, upto: i64) -> Vec<Death> {
    let far = deaths.into_iter().filter(|death| death.last > upto);
    far.map(|death| Death { first: death.first.max(upto.saturating_add(1)), ..death }).collect()
}

fn is_among(deaths: &[Death], offset: i64) -> bool {
    let at = deaths.partition_point(|death| death.last < offset);
    deaths.get(at).is_some_and(|death| death.first <= offset)
}

/// Setting of the broker: what the name of a dead-letter topic begins with.
pub const NAME_PREFIX: &str = "errors.deadletterqueue.topic.name.prefix";
/// Setting of the broker: whether a dead-letter topic is made that does not exist.
pub const AUTO_CREATE: &str = "errors.deadletterqueue.auto.create.topics.enable";
const NAME_PREFIX_DEFAULT: &str = "dlq.";
/// Letters of one frame, about; one that is larger goes alone.
const LETTERS_BYTES_MAX: usize = 1 << 20;
const LETTERS_MAX: i32 = 10_000;
/// What of the log is read at once to copy records.
const COPIED_BYTES: usize = 1 << 20;
/// A letter beside topic, group, key and value: names of headers, numbers, cause, lengths.
const LETTER_BYTES: usize = 320;
/// What giving up one run adds to a fact.
const OVERDUE_BYTES: usize = 24;
