//! Opening: the engine is a replay of the log over the snapshot. And the other direction: the
//! engine's objects for the next snapshot.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use ottla_store::disk::Disk;
use ottla_store::frame::{Frame, Item};
use ottla_store::{
    Durability, DurableObserver, Lsn, Offset, OpenError, Purpose, Replay, ReplayFact, ReplayItem,
    State, Store, StreamId,
};

use super::Engine;
use super::groups::Groups;
use super::producing::ProducerIds;
use super::txns::Txns;
use crate::broker::{BrokerRecovery, NodeRules};
use crate::catalog::{Catalog, CatalogFact};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::fact::{Fact, ObjectKey, TransactionEnded, decode, encode};
use crate::group::offsets::{self, OffsetsRecord};
use crate::group::share::ShareRecord;
use crate::group::{GroupId, GroupRecord, GroupSettings, RememberedGroup, assignor};
use crate::topic::{PartitionImage, PartitionState, TopicId};
use crate::txn::coordinator::{RememberedTransactions, Settings as TransactionSettings, TxnRecord};
use crate::txn::producers;

/// How an engine behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's own options.
    pub store: ottla_store::Options,
    /// Partitions of a topic whose creator does not say.
    pub partitions: i32,
    /// Whether a topic that is asked for begins to exist.
    pub auto_create_topics: bool,
    /// What holds on every AMQP queue.
    pub queues: NodeRules,
    /// Timeouts and bounds of groups, unless their own settings say otherwise.
    pub groups: GroupSettings,
    /// Timeouts and bounds of transactions.
    pub transactions: TransactionSettings,
    /// Milliseconds after which the offsets of a group without members are forgotten
    /// (`offsets.retention.minutes`).
    pub offsets_retention_ms: u64,
    /// Milliseconds after which an idle producer's window is forgotten
    /// (`producer.id.expiration.ms`).
    pub producer_expiration_ms: u64,
    /// Seeds identifiers; differs at each start.
    pub seed: u64,
    /// For the tests of those who check histories.
    pub planted: PlantedBug,
}

/// A mistake that can be planted to show that the checker of histories (`tests/history`) finds it. No
/// released binary has a way to choose one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlantedBug {
    /// None.
    #[default]
    None,
    /// A start forgets what had joined an open transaction.
    TransactionLostAtBegin,
    /// The end of a transaction marks one of its partitions.
    MarkerOfOnePartition,
    /// A start forgets which batches it has.
    DuplicateWindowLost,
    /// A start forgets the groups.
    GroupForgotten,
}

impl Options {
    /// The defaults, with a seed from the outermost layer.
    #[must_use]
    pub fn new(durability: Durability, seed: u64) -> Self {
        Self {
            store: ottla_store::Options { durability, seed, ..ottla_store::Options::default() },
            partitions: 1,
            auto_create_topics: true,
            queues: NodeRules::default(),
            groups: GroupSettings::default(),
            transactions: TransactionSettings::default(),
            offsets_retention_ms: offsets::RETENTION_MS,
            producer_expiration_ms: producers::EXPIRATION_MS,
            seed,
            planted: PlantedBug::None,
        }
    }
}

impl Engine {
    /// Recovers what the disk holds, or starts empty.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: Options,
        observer: Box<dyn DurableObserver>,
    ) -> Result<Self, OpenError> {
        let mut recovery = Recovery::default();
        let store = Store::open(disk, options.store.clone(), &mut recovery)?;
        store.observe(observer);
        recovery.plant(options.planted);
        recovery.adopt_partitions();
        let now = clock.now();
        let groups = recovery.groups.drain().map(|(id, (image, changed))| (id, image, changed));
        let groups = Groups::restore(groups, options.groups, now);
        let (transactions, changed) = recovery.transactions;
        let txns = Txns::restore(options.transactions, transactions, changed, now);
        let store = Arc::new(store);
        let catalog = Arc::new(RwLock::new(recovery.catalog));
        let broker = recovery.broker.start(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&catalog),
            options.queues,
            options.seed,
        );
        let engine = Self {
            store,
            clock,
            groups,
            txns,
            chance: Mutex::new(Chance::new(options.seed)),
            options,
            catalog,
            producer_ids: ProducerIds::from(recovery.producer_ids),
            broker,
            retention: super::retention::Retention::default(),
            cleaner: super::compaction::Cleaner::default(),
            stopping: AtomicBool::new(false),
        };
        engine.name_cluster();
        Ok(engine)
    }

    /// Gives a new data directory its identity.
    fn name_cluster(&self) {
        let mut catalog = self.catalog_mut();
        if catalog.cluster() != [0; 16] {
            return;
        }
        let fact = CatalogFact::Cluster { id: self.chance().uuid() };
        let payload = Bytes::from(encode(&Fact::Catalog(fact.clone())));
        if let Ok(reservation) = self.store.reserve(Purpose::Shrink, 1, payload.len()) {
            let lsn = self.store.append(reservation, Frame::of(Item::State { payload })).lsn;
            catalog.apply(lsn, fact);
        }
    }
}

/// What recovery has found so far.
#[derive(Default)]
struct Recovery {
    catalog: Catalog,
    partitions: HashMap<StreamId, PartitionState>,
    producer_ids: i64,
    groups: HashMap<GroupId, (RememberedGroup, Lsn)>,
    transactions: (RememberedTransactions, Lsn),
    broker: BrokerRecovery,
}

impl Recovery {
    /// Gives each partition of the catalogue what was remembered of it.
    fn adopt_partitions(&mut self) {
        for (stream, remembered) in self.partitions.drain() {
            if let Some(partition) = self.catalog.partition(stream) {
                *partition.lock() = remembered;
            }
        }
    }

    /// See [`PlantedBug`].
    fn plant(&mut self, bug: PlantedBug) {
        match bug {
            PlantedBug::None | PlantedBug::MarkerOfOnePartition => {}
            PlantedBug::TransactionLostAtBegin => self.transactions.0.forget_open(),
            PlantedBug::GroupForgotten => self.groups.clear(),
            PlantedBug::DuplicateWindowLost => {
                self.partitions.values_mut().for_each(|state| state.producers.forget_windows());
            }
        }
    }

    fn apply(&mut self, lsn: Lsn, fact: Fact, markers: &[(StreamId, Offset)]) {
        match fact {
            Fact::Catalog(fact) => {
                if let CatalogFact::TopicDeleted { id } = &fact {
                    self.forget_offsets(lsn, *id);
                }
                self.catalog.apply(lsn, fact);
            }
            Fact::Transactions(records) => self.apply_transactions(lsn, records),
            Fact::TransactionEnded(ended) => self.apply_end(lsn, ended, markers),
            Fact::Group { group, records } => self.apply_group(lsn, group, records),
            Fact::ProducerIds { next } => self.producer_ids = self.producer_ids.max(next),
            Fact::Broker(_) => {} // see `frame`
        }
    }
}

impl Recovery {
    /// Takes facts of a group, unless what is known of it already contains them.
    fn apply_group(&mut self, lsn: Lsn, id: GroupId, records: Vec<GroupRecord>) {
        let (image, applied) = self.groups.entry(id.clone()).or_default();
        if lsn <= *applied {
            return;
        }
        *applied = lsn;
        let gone = records.last() == Some(&GroupRecord::Deleted);
        for record in records {
            image.replay(record);
        }
        if gone {
            self.groups.remove(&id);
        }
    }

    fn apply_transactions(&mut self, lsn: Lsn, records: Vec<TxnRecord>) {
        let (remembered, applied) = &mut self.transactions;
        if lsn <= *applied {
            return;
        }
        *applied = lsn;
        for record in records {
            remembered.replay(record);
        }
    }

    /// The end of a transaction, at each of those whom it concerns (store.md rule 18).
    fn apply_end(&mut self, lsn: Lsn, ended: TransactionEnded, markers: &[(StreamId, Offset)]) {
        let end = ended.end();
        for (stream, marker) in markers {
            self.partitions.entry(*stream).or_default().replay_end(&end, *marker, lsn);
        }
        for group in ended.groups {
            if let Some((image, applied)) = self.groups.get_mut(&group)
                && *applied < lsn
            {
                let (producer, outcome) = (end.producer, end.outcome);
                image.replay(GroupRecord::Offsets(OffsetsRecord::Ended { producer, outcome }));
                *applied = lsn;
            }
        }
        self.apply_transactions(lsn, vec![ended.record]);
    }

    /// A topic's offsets go with it (store.md rule 12).
    fn forget_offsets(&mut self, lsn: Lsn, id: TopicId) {
        let Some(topic) = self.catalog.topic_by_id(id).map(|topic| Arc::clone(topic.name())) else {
            return; // the catalogue's snapshot is newer: so are those of the groups, or they follow
        };
        for (image, applied) in self.groups.values_mut() {
            if *applied < lsn {
                let topic = Arc::clone(&topic);
                image.replay(GroupRecord::Offsets(OffsetsRecord::TopicDeleted { topic }));
                let topics = BTreeSet::from([assignor::TopicId(id.0)]);
                image.replay(GroupRecord::Share(ShareRecord::Forgotten { topics }));
                *applied = lsn;
            }
        }
    }
}

impl Replay for Recovery {
    fn object(&mut self, key: &[u8], applied: Lsn, bytes: &[u8]) -> Result<(), String> {
        let bytes = match bytes.split_first() {
            Some((&OBJECT_VERSION, bytes)) => bytes,
            Some((other, _)) => return Err(format!("an object of version {other}")),
            None => return Err("an object without a version".to_owned()),
        };
        match decode(key)? {
            ObjectKey::Catalog => self.catalog = Catalog::restore(decode(bytes)?, applied),
            ObjectKey::Partition(stream) => {
                let image: PartitionImage = decode(bytes)?;
                let state = PartitionState { producers: image.producers, applied };
                self.partitions.insert(StreamId(stream), state);
            }
            ObjectKey::ProducerIds => self.producer_ids = decode(bytes)?,
            ObjectKey::Transactions => self.transactions = (decode(bytes)?, applied),
            ObjectKey::Group(id) => {
                self.groups.insert(id, (decode(bytes)?, applied));
            }
            ObjectKey::Broker => self.broker.restore(applied, decode(bytes)?),
            ObjectKey::BrokerExtras => self.broker.restore_extras(decode(bytes)?),
            ObjectKey::Queue(stream) => {
                self.broker.restore_queue(StreamId(stream), applied, decode(bytes)?);
            }
            ObjectKey::Delayed { queue, .. } => {
                self.broker.restore_delayed(StreamId(queue), applied, bytes)?;
            }
            ObjectKey::Delivered(stream) => {
                self.broker.restore_delivered(StreamId(stream), applied, decode(bytes)?);
            }
        }
        Ok(())
    }

    fn frame(&mut self, lsn: Lsn, items: &[ReplayItem<'_>]) -> Result<(), String> {
        let mut markers = Vec::new();
        for item in items {
            self.broker.item(lsn, item)?;
            match &item.fact {
                ReplayFact::State(payload) => match decode(payload)? {
                    Fact::Broker(fact) => self.broker.fact(lsn, item.lsn, fact),
                    fact => self.apply(lsn, fact, &markers),
                },
                ReplayFact::Batch(stream, header) if header.is_control() => {
                    markers.push((*stream, header.base_offset));
                }
                ReplayFact::Delete(stream) => {
                    self.partitions.remove(stream);
                }
                ReplayFact::Batch(stream, header) => {
                    self.partitions.entry(*stream).or_default().replay(header, lsn);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Hands every object to `sink`: its key, the place of its newest fact, its bytes.
    #[expect(clippy::type_complexity, reason = "as the store's trait has it")]
    fn objects(&self, sink: &mut dyn FnMut(&[u8], Lsn, &[u8])) {
        let catalog = self.catalog();
        sink(&encode(&ObjectKey::Catalog), catalog.changed(), &encode(&catalog.image()));
        let partitions: Vec<_> =
            catalog.topics().flat_map(|topic| topic.partitions().to_vec()).collect();
        drop(catalog);
        self.each_group(&mut |id, applied, image| {
            sink(&encode(&ObjectKey::Group(id.clone())), applied, &encode(image));
        });
        let (transactions, applied) = self.remembered_transactions();
        sink(&encode(&ObjectKey::Transactions), applied, &transactions);
        let (end, applied) = self.producer_ids_end();
        sink(&encode(&ObjectKey::ProducerIds), applied, &encode(&end));
        for partition in partitions {
            let state = partition.lock();
            if state.producers.is_empty() {
                continue; // nothing to remember: replay from the log rebuilds it
            }
            let (applied, bytes) = (state.applied, encode(&state.producers));
            drop(state);
            sink(&encode(&ObjectKey::Partition(partition.stream().0)), applied, &bytes);
        }
        self.broker.snapshot(sink);
    }
}

impl State for Engine {
    fn snapshot(&self, sink: &mut dyn FnMut(&[u8], Lsn, &[u8])) {
        let mut versioned = Vec::new();
        self.objects(&mut |key, applied, bytes| {
            versioned.clear();
            versioned.push(OBJECT_VERSION);
            versioned.extend_from_slice(bytes);
            sink(key, applied, &versioned);
        });
    }

    fn holds(&self, queue: StreamId, message: Lsn) -> bool {
        self.broker.holds(queue, message)
    }

    fn segment_bytes(&self, partition: StreamId) -> Option<u64> {
        let catalog = self.catalog();
        let topic = catalog.partition(partition)?.topic();
        Some(catalog.topic_by_id(topic)?.config().segment_bytes)
    }

    fn segment_ms(&self, partition: StreamId) -> Option<i64> {
        let catalog = self.catalog();
        let topic = catalog.partition(partition)?.topic();
        Some(catalog.topic_by_id(topic)?.config().segment_ms)
    }
}

/// In front of the bytes of every object: which form they have. A changed form is a new version, and
/// the old one is still read.
const OBJECT_VERSION: u8 = 1;
