//! Dead letters of share groups (KIP-1191): what a group gives up becomes a record of its dead-letter
//! topic, in the very frame that archives it (store.md rule 9).
//!
//! What is given up is remembered as dying (Kafka's `ARCHIVING`), which takes no more room than any
//! acknowledgement: a full disk refuses letters, and nothing else of the group (rule 22). The letters are
//! planned under the group's lock, read without it, and written under it again if the plan still holds. A
//! frame takes about a megabyte of letters; more come in several.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_store::batch::{BatchBuilder, PreparedBatch, RecordDraft, split};
use ottla_store::codec::Codec;
use ottla_store::frame::{Frame, Item};
use ottla_store::records::Records;
use ottla_store::{Offset, Purpose, Refused};

use super::share_config::DeadLetterWish;
use super::{ConsumerRefused, FACT_BYTES};
use crate::catalog::Catalog;
use crate::clock::{Monotonic, Now};
use crate::engine::{CreateError, Engine, NewTopic};
use crate::fact::{Fact, encode};
use crate::group::assignor::Part;
use crate::group::share::{Death, ShareGroup};
use crate::group::{GroupId, GroupRecord, OtherProtocol};
use crate::topic::config::{Compression, DEAD_LETTERS, Overrides, TopicConfig};
use crate::topic::{Isolation, Partition, PartitionId, Topic, TopicId};

/// Where the dead letters of one group go.
struct DeadLetters {
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
    /// For now: they wait for theirs.
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
    /// Bytes read and written.
    cost: usize,
}

/// Keys and values of records that are given up.
struct Copies {
    records: HashMap<i64, (Option<Bytes>, Option<Bytes>)>,
    /// Behind it nothing was read yet.
    upto: i64,
    /// Bytes of the log.
    bytes: usize,
}

impl Engine {
    /// Whether acknowledging may have to read from the disk, for a dead letter.
    pub fn share_buries(&self, id: &GroupId) -> bool {
        DeadLetterWish::of(self.catalog().group_settings(id.as_str())).is_some()
    }

    /// Where the group's dead letters go; `None` if it wants none or none can be written, which is said
    /// once.
    fn dead_letters(&self, id: &GroupId) -> Result<Option<DeadLetters>, Refused> {
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

    /// Whether [`bury`](Self::bury) has something to do.
    pub fn has_dying(&self) -> bool {
        self.groups.burials.is_due(self.now().monotonic)
    }

    /// Writes dead letters of what share groups gave up: some of them, for it may read from the disk. The
    /// rest is for the next call, and what finds no room is tried again a second later.
    pub fn bury(&self) {
        let now = self.now();
        let mut left = BURIED_BYTES;
        for id in self.groups.burials.due(now.monotonic) {
            self.bury_group(&id, now, &mut left);
        }
    }

    /// Writes the dead letters of what the group gave up, as long as `left` lasts.
    pub(super) fn bury_group(&self, id: &GroupId, now: Now, left: &mut usize) {
        self.groups.burials.take(id); // what is given up from here on is noted anew
        let again = loop {
            let dying = self.read_group(id, |group| group.as_share().and_then(ShareGroup::dying));
            let Some((part, deaths)) = dying.0.flatten() else { break None };
            if *left == 0 {
                break Some(now.monotonic);
            }
            match self.bury_some(id, part, &deaths, now, left) {
                Ok(()) => {}
                Err(ConsumerRefused::NotFound) => break None,
                Err(_) => break Some(now.monotonic.after(RETRY_MS)),
            }
        };
        if let Some(at) = again {
            self.groups.burials.put_off(id, at);
        }
        self.wake_share(id); // room in the window
    }

    /// One frame of letters, or none where none can be written.
    fn bury_some(
        &self,
        id: &GroupId,
        part: Part,
        deaths: &[Death],
        now: Now,
        left: &mut usize,
    ) -> Result<(), ConsumerRefused> {
        let bytes = deaths.len() * RUN_BYTES;
        let Some(letters) = self.dead_letters(id)? else {
            *left = left.saturating_sub(bytes.max(BURIAL_BYTES));
            self.share_change(id, bytes, |share| ((), share.bury(part, i64::MAX)))?;
            return Ok(());
        };
        let bundle = self.bundle(&letters, part, deaths, now, *left);
        *left = left.saturating_sub(bundle.cost.max(BURIAL_BYTES));
        self.write_letters(&letters, part, &bundle, bytes)
    }

    /// The letters of what is given up, as many as go into one frame.
    fn bundle(
        &self,
        letters: &DeadLetters,
        part: Part,
        deaths: &[Death],
        now: Now,
        bytes_max: usize,
    ) -> Bundle {
        let source = self.catalog().topic_by_id(TopicId(part.topic.0)).cloned();
        let copies =
            match source.as_ref().and_then(|topic| topic.partition(PartitionId(part.partition))) {
                Some(partition) if letters.copies => self.copies(&partition, deaths, bytes_max),
                _ => Copies::default(),
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
        let cost = copies.bytes + batch.as_ref().map_or(0, PreparedBatch::bytes_len);
        Bundle { batch, partition, deaths: within(deaths, upto), upto, cost }
    }

    /// Reads a piece of the log that begins at the first of the dead. What cannot be read has letters
    /// without key and value.
    fn copies(&self, source: &Partition, deaths: &[Death], bytes_max: usize) -> Copies {
        let mut copies = Copies::default();
        let Some(first) = deaths.first().map(|death| death.first) else { return copies };
        let isolation = Isolation::ReadUncommitted;
        let read = source.fetch(&self.store, Offset(first), bytes_max, isolation, false);
        let Ok(Some(fetched)) = read else { return copies };
        copies.bytes = fetched.batches.bytes;
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

    /// Archives what has letters in the frame that writes them. Nothing happens if the plan no longer holds.
    fn write_letters(
        &self,
        letters: &DeadLetters,
        part: Part,
        bundle: &Bundle,
        bytes: usize,
    ) -> Result<(), ConsumerRefused> {
        let letters_bytes = bundle.batch.as_ref().map_or(0, PreparedBatch::bytes_len);
        let done = self.with_group(&letters.group, false, |group| {
            let bytes = bytes + letters_bytes + FACT_BYTES + letters.group.as_str().len();
            let reservation = self.store.reserve(Purpose::Grow, 2, bytes)?;
            let share = group.machine.as_share_mut().ok_or(OtherProtocol)?;
            let mut state = bundle.partition.lock();
            let holds = within(&share.dying_in(part), bundle.upto) == bundle.deaths;
            if bundle.partition.is_closed() || !holds {
                return Ok(()); // the topic has just gone, or somebody else was faster
            }
            let records = share.bury(part, bundle.upto).into_iter().map(GroupRecord::Share);
            let mut frame = Frame::new();
            if let Some(batch) = bundle.batch.clone() {
                frame.push(Item::Batch { stream: bundle.partition.stream(), batch });
            }
            let fact = Fact::Group { group: letters.group.clone(), records: records.collect() };
            frame.push(Item::State { payload: Bytes::from(encode(&fact)) });
            let lsn = self.store.append(reservation, frame).lsn;
            if bundle.batch.is_some() {
                state.applied = lsn;
            }
            group.changed = lsn;
            Ok(())
        })?;
        done.unwrap_or(Err(ConsumerRefused::NotFound))
    }
}

/// Which groups have records that wait for their dead letters, and when to try.
#[derive(Debug, Default)]
pub(super) struct Burials(Mutex<BTreeMap<GroupId, Monotonic>>);

impl Burials {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Monotonic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group has given records up. What was put off stays so.
    pub(super) fn note(&self, id: &GroupId) {
        self.lock().entry(id.clone()).or_default();
    }

    /// Whether it is time to bury for the group.
    pub(super) fn is_due_for(&self, id: &GroupId, now: Monotonic) -> bool {
        self.lock().get(id).is_some_and(|at| *at <= now)
    }

    fn put_off(&self, id: &GroupId, at: Monotonic) {
        self.lock().insert(id.clone(), at);
    }

    fn take(&self, id: &GroupId) {
        self.lock().remove(id);
    }

    fn is_due(&self, now: Monotonic) -> bool {
        self.lock().values().any(|at| *at <= now)
    }

    /// Those that wait longest come first.
    fn due(&self, now: Monotonic) -> Vec<GroupId> {
        let all = self.lock();
        let mut due: Vec<_> = all.iter().filter(|(_, at)| **at <= now).collect();
        due.sort_by_key(|(_, at)| **at);
        due.into_iter().map(|(id, _)| id.clone()).collect()
    }
}

impl Default for Copies {
    /// Nothing that could be copied.
    fn default() -> Self {
        Self { records: HashMap::new(), upto: i64::MAX, bytes: 0 }
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

/// The dead up to an offset.
fn within(deaths: &[Death], upto: i64) -> Vec<Death> {
    let near = deaths.iter().filter(|death| death.first <= upto);
    near.map(|death| Death { last: death.last.min(upto), ..*death }).collect()
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
/// A letter beside topic, group, key and value: names of headers, numbers, cause, lengths.
const LETTER_BYTES: usize = 320;
/// Bytes read and written by one call of [`Engine::bury`], about.
pub(super) const BURIED_BYTES: usize = 1 << 20;
/// What one frame of letters counts as, at least.
const BURIAL_BYTES: usize = 16 << 10;
/// What archiving one run adds to a fact.
const RUN_BYTES: usize = 24;
/// When what found no room is tried again.
const RETRY_MS: u64 = 1_000;
