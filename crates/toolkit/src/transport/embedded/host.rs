//! The engine and those who work for it: its threads, the releaser, the ticker.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_engine::broker::{Broker, Channel, ExchangeDeclare, Peer, QueueDeclare};
use ottla_engine::clock::SystemClock;
use ottla_engine::value::{Arguments, Value};
use ottla_engine::{
    CreateError, Durability, DurableObserver, Engine, Fatal, FileDisk, Lsn, NewTopic, OpenError,
    Options, StreamId,
};
use tokio::sync::{Notify, oneshot, watch};

use super::topic::EmbeddedTopic;
use super::unreachable;
use crate::error::{Error, Result};
use crate::mint::Mint;

/// An engine that runs.
#[derive(Debug)]
pub(super) struct Host {
    data: PathBuf,
    pub(super) engine: Arc<Engine>,
    partitions: u32,
    durable: Arc<Durable>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
    topics: Mutex<HashMap<String, Arc<EmbeddedTopic>>>,
    /// Queues that are known to exist.
    queues: Mutex<HashSet<String>>,
    /// Where everybody publishes to queues.
    publishing: Mutex<Channel>,
    closed: AtomicBool,
    /// Dropped last, when the directory is free again.
    _ends: watch::Sender<()>,
}

/// How far the log is durable.
#[derive(Debug)]
struct Durable {
    place: Mutex<Place>,
    moved: Notify,
    partitions: Mutex<Vec<StreamId>>,
}

#[derive(Debug, Default)]
struct Place {
    lsn: Lsn,
    failed: Option<String>,
    /// Who waits for which place: each is woken once, when the log is durable past it. One that is dropped stays until then.
    waiting: BTreeMap<(Lsn, u64), oneshot::Sender<()>>,
    next: u64,
}

impl Place {
    fn move_to(&mut self, upto: Lsn) {
        self.lsn = self.lsn.max(upto);
        while let Some(first) = self.waiting.first_entry()
            && first.key().0.is_durable(self.lsn)
        {
            first.remove().send(()).ok(); // gone meanwhile
        }
    }

    fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
        self.waiting.clear(); // dropped: they look why
    }
}

#[derive(Debug)]
struct Observer(Arc<Durable>);

impl DurableObserver for Observer {
    fn durable(&self, upto: Lsn, partitions: &[StreamId]) {
        let known = &self.0.partitions;
        known.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(partitions);
        lock(&self.0.place).move_to(upto);
        self.0.moved.notify_one();
    }
}

impl Host {
    pub(super) fn open(
        data: &Path,
        partitions: u32,
        durability: Durability,
        ends: watch::Sender<()>,
    ) -> Result<Arc<Self>> {
        let disk = FileDisk::open(data).map_err(|error| {
            unreachable(data, error, "Can this program write there, and is no other one using it?")
        })?;
        let mut options = Options::new(durability, Mint::system().number());
        options.partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        options.queues.nack_counts = false; // what is given back was not tried
        let durable = Arc::new(Durable {
            place: Mutex::default(),
            moved: Notify::new(),
            partitions: Mutex::default(),
        });
        let observer = Box::new(Observer(Arc::clone(&durable)));
        let engine = Engine::open(Arc::new(disk), Arc::new(SystemClock::new()), options, observer)
            .map_err(|error: OpenError| {
                unreachable(data, error, "`ottla inspect` says what is in the directory")
            })?;
        let engine = Arc::new(engine);
        lock(&durable.place).move_to(engine.durable());
        let threads = vec![
            thread("ottla-log", &engine, &durable, Engine::run_log)?,
            thread("ottla-keeper", &engine, &durable, Engine::run_keeper)?,
        ];
        let publishing = channel(engine.broker(), data)?;
        let host = Arc::new(Self {
            data: data.to_owned(),
            engine,
            partitions,
            durable,
            threads: Mutex::new(threads),
            tasks: Mutex::default(),
            topics: Mutex::default(),
            queues: Mutex::default(),
            publishing: Mutex::new(publishing),
            closed: AtomicBool::new(false),
            _ends: ends,
        });
        host.declare_delays()?;
        let releaser = tokio::spawn(release(Arc::downgrade(&host), Arc::clone(&host.durable)));
        let ticker = tokio::spawn(tick(Arc::downgrade(&host)));
        lock(&host.tasks).extend([releaser.abort_handle(), ticker.abort_handle()]);
        host.durable.moved.notify_one(); // what was recovered is visible
        Ok(host)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Syncs what was appended and ends. Blocks for some milliseconds.
    pub(super) fn stop(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
        self.engine.stop();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded broker panicked");
            }
        }
        lock(&self.durable.place).fail("it was closed".to_owned());
    }

    /// Waits until the log is durable past a place.
    pub(super) async fn reached(&self, lsn: Lsn) -> Result<()> {
        let wait = {
            let mut place = lock(&self.durable.place);
            if lsn.is_durable(place.lsn) {
                return Ok(());
            }
            let (told, wait) = oneshot::channel();
            if place.failed.is_none() {
                let number = place.next;
                place.next += 1;
                place.waiting.insert((lsn, number), told);
            }
            wait
        };
        if wait.await.is_ok() {
            return Ok(());
        }
        let why = lock(&self.durable.place).failed.clone().unwrap_or_default();
        let hint = "The disk failed or is gone: restart, acknowledged messages are kept";
        Err(unreachable(&self.data, why, hint))
    }

    /// The log has too much that is not synced: waits until what it has now is.
    pub(super) async fn room(&self) -> Result<()> {
        let staged = self.engine.store().end().0.saturating_sub(1);
        self.reached(Lsn(staged)).await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    /// A topic, made if need be.
    pub(super) async fn topic(self: &Arc<Self>, name: &str) -> Result<Arc<EmbeddedTopic>> {
        if self.is_closed() {
            return Err(Error::Closed("the embedded broker"));
        }
        if let Some(topic) = lock(&self.topics).get(name) {
            return Ok(Arc::clone(topic));
        }
        let partitions = i32::try_from(self.partitions).ok();
        let new = NewTopic { name: name.to_owned(), partitions, overrides: Default::default() };
        let (topic, lsn) = match self.engine.create_topic(&new) {
            Ok(made) => made,
            Err(CreateError::Exists(_)) => {
                let catalog = self.engine.catalog();
                let topic = catalog.topic(name).cloned();
                let gone = || Error::refused(format!("topic {name}"), "it was just deleted");
                (topic.ok_or_else(gone)?, catalog.changed())
            }
            Err(error) => return Err(Error::refused(format!("creating topic {name}"), error)),
        };
        self.reached(lsn).await?;
        let mut topics = lock(&self.topics);
        let topic = topics
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(EmbeddedTopic::new(Arc::downgrade(self), topic)));
        Ok(Arc::clone(topic))
    }

    /// Makes a queue that survives everything, and lets delayed messages find it.
    pub(super) async fn declare(&self, name: &str) -> Result<()> {
        if self.is_closed() {
            return Err(Error::Closed("the embedded broker"));
        }
        if lock(&self.queues).contains(name) {
            return Ok(());
        }
        let refused = |error| Error::refused(format!("declaring queue {name}"), error);
        let lsn = {
            let mut channel = self.publishing();
            let broker = self.engine.broker();
            let arguments =
                [("x-queue-type", Value::text("quorum")), ("x-delivery-limit", Value::I64(-1))];
            let request = QueueDeclare {
                name,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: arguments.into_iter().collect(),
            };
            broker.declare_queue(&mut channel, request).map_err(refused)?;
            let bind = ottla_engine::broker::Bind {
                destination: name,
                source: DELAY,
                key: name,
                arguments: Arguments::new(),
            };
            broker.bind_queue(&mut channel, bind).map_err(refused)?
        };
        self.reached(lsn).await?;
        lock(&self.queues).insert(name.to_owned());
        Ok(())
    }

    fn declare_delays(&self) -> Result<()> {
        let request = ExchangeDeclare {
            name: DELAY,
            kind: "x-delayed-message",
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: [("x-delayed-type", Value::text("direct"))].into_iter().collect(),
        };
        let declared = self.engine.broker().declare_exchange(&mut self.publishing(), request);
        declared.map_err(|error| Error::refused("declaring the exchange for delays", error))?;
        Ok(())
    }

    /// The channel everybody publishes on: held for one call, never while waiting.
    pub(super) fn publishing(&self) -> MutexGuard<'_, Channel> {
        lock(&self.publishing)
    }

    /// A channel of its own, for a consumer.
    pub(super) fn channel(&self) -> Result<Channel> {
        channel(self.engine.broker(), &self.data)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Tells readers what became durable, inside the runtime.
async fn release(host: Weak<Host>, durable: Arc<Durable>) {
    loop {
        durable.moved.notified().await;
        let mut moved = std::mem::take(&mut *lock(&durable.partitions));
        moved.sort_unstable();
        moved.dedup();
        let Some(host) = host.upgrade() else { return };
        let upto = lock(&durable.place).lsn;
        host.engine.wake(&moved);
        host.engine.broker().durable_moved(upto);
        if !moved.is_empty() {
            let topics: Vec<_> = lock(&host.topics).values().cloned().collect();
            topics.iter().for_each(|topic| topic.arrived(&moved));
        }
    }
}

/// Lets the engine's timers run.
async fn tick(host: Weak<Host>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(host) = host.upgrade() else { return };
        host.engine.tick();
        if host.engine.has_dying() {
            tokio::task::spawn_blocking(move || host.engine.bury()).await.ok(); // reads from the disk
        }
    }
}

fn thread(
    name: &str,
    engine: &Arc<Engine>,
    durable: &Arc<Durable>,
    role: impl FnOnce(&Engine) -> Result<(), Fatal> + Send + 'static,
) -> Result<JoinHandle<()>> {
    let (engine, durable) = (Arc::clone(engine), Arc::clone(durable));
    let run = move || {
        if let Err(fatal) = role(&engine) {
            tracing::error!(%fatal, "the embedded broker failed");
            lock(&durable.place).fail(fatal.to_string());
        }
    };
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| Error::refused("starting a thread", error))
}

fn channel(broker: &Broker, data: &Path) -> Result<Channel> {
    let hint =
        "The user guest is changed in this directory: serve it and connect with amqp:// instead";
    let login = broker
        .authenticate("guest", b"guest", Peer::Loopback)
        .ok_or_else(|| unreachable(data, "guest is refused", hint))?;
    let connection = broker.connect(login, "/").map_err(|error| unreachable(data, error, hint))?;
    Ok(broker.open_channel(&connection))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exchange that holds messages back.
pub(super) const DELAY: &str = "ottla.delay";
/// The grain of the engine's timers.
const TICK: Duration = Duration::from_millis(10);
