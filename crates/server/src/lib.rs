//! Ottla's listeners: Kafka, AMQP 0-9-1 and HTTP over one engine. A library: the command `ottla
//! serve` is a few lines around it.

mod amqp;
pub mod config;
mod error;
mod http;
mod kafka;
mod listener;
mod memory;
mod release;
mod roles;
mod shutdown;
mod syncs;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ottla_engine::clock::SystemClock;
use ottla_engine::{Durability, DurableObserver, Engine, FileDisk, Lsn, Options, StreamId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::error::ServeError;
pub use self::kafka::telemetry::{ClientMetrics, Sample, Software};

use self::config::Config;
use self::release::Release;
use self::roles::Roles;
use self::shutdown::Shutdown;
use self::syncs::{Measured, Syncs};

/// A broker that serves.
#[derive(Debug)]
pub struct Server {
    startup: Startup,
    roles: Roles,
    shutdown: Shutdown,
    tasks: Vec<JoinHandle<()>>,
    kafka: Arc<kafka::Context>,
}

/// Where a server serves.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Startup {
    /// The data directory.
    pub data: PathBuf,
    /// Bound addresses for Kafka clients.
    pub kafka: Vec<SocketAddr>,
    /// Bound addresses for RabbitMQ clients.
    pub amqp: Vec<SocketAddr>,
    /// Bound addresses for HTTP clients.
    pub http: Vec<SocketAddr>,
}

impl Startup {
    /// Every address with the name of its protocol.
    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let all = [("kafka", &self.kafka), ("amqp", &self.amqp), ("http", &self.http)];
        all.into_iter().flat_map(|(name, bound)| bound.iter().map(move |at| (name, *at))).collect()
    }
}

impl Server {
    /// Binds the listeners, recovers the data directory and serves. Returns once clients may connect.
    pub async fn start(config: Config) -> Result<Self, ServeError> {
        let kafka = listener::bind("kafka", &config.kafka).await?;
        let amqp = listener::bind("amqp", &config.amqp).await?;
        let http = listener::bind("http", &config.http).await?;
        if config.durability == Durability::Os {
            tracing::warn!(
                "durability = os: acknowledged records are lost if the machine loses power; sync keeps them"
            );
        }
        let release = Arc::new(Release::default());
        let syncs = Arc::new(Syncs::default());
        let engine = open_engine(&config, &release, &syncs)?;
        let roles = Roles::start(&engine)?;
        release.publish(engine.durable(), &[]); // what was recovered
        let shutdown = Shutdown::default();
        let startup = Startup {
            data: config.data.clone(),
            kafka: addresses(&kafka),
            amqp: addresses(&amqp),
            http: addresses(&http),
        };
        let mut tasks = vec![
            tokio::spawn(releaser(Arc::clone(&release), Arc::clone(&engine))),
            tokio::spawn(ticker(Arc::clone(&engine))),
        ];
        let door = amqp::Context::new(&config, Arc::clone(&engine), Arc::clone(&release));
        let door = Arc::new(door);
        for listener in amqp {
            tasks.push(tokio::spawn(amqp::listen(listener, Arc::clone(&door), shutdown.clone())));
        }
        let (engine_there, release_there) = (Arc::clone(&engine), Arc::clone(&release));
        let listeners = startup.listeners();
        let door = http::Context::new(&config, engine_there, release_there, syncs, listeners);
        let door = Arc::new(door);
        for listener in http {
            tasks.push(tokio::spawn(http::listen(listener, Arc::clone(&door), shutdown.clone())));
        }
        let door = Arc::new(kafka::Context::new(&config, engine, release));
        for listener in kafka {
            tasks.push(tokio::spawn(kafka::listen(listener, Arc::clone(&door), shutdown.clone())));
        }
        let kafka = door;
        if let Some(path) = &config.ready_file {
            write_ready_file(path, &startup)?;
        }
        tracing::info!("Server startup complete");
        Ok(Self { startup, roles, shutdown, tasks, kafka })
    }

    /// Where it serves.
    #[must_use]
    pub const fn startup(&self) -> &Startup {
        &self.startup
    }

    /// The Kafka clients that were asked for metrics (KIP-714) and what each told last, those heard of
    /// last first.
    #[must_use]
    pub fn client_metrics(&self) -> Vec<ClientMetrics> {
        self.kafka.client_metrics()
    }

    /// Serves until `stop` resolves, then stops in order; or until the log fails.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        tokio::select! {
            () = stop => self.stop().await,
            failure = self.roles.failed() => Err(failure),
        }
    }

    /// Takes no more connections, lets those that are open finish what they began, syncs, ends.
    pub async fn stop(self) -> Result<(), ServeError> {
        tracing::info!("stopping");
        self.shutdown.drain(DRAIN).await;
        for task in self.tasks {
            task.abort();
            drop(task.await); // what it held of the engine is free when it has ended
        }
        drop(self.kafka);
        let roles = self.roles;
        let stopped = tokio::task::spawn_blocking(move || roles.stop()).await;
        if stopped.is_err() {
            tracing::error!("the engine did not stop in order");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

fn open_engine(
    config: &Config,
    release: &Arc<Release>,
    syncs: &Arc<Syncs>,
) -> Result<Arc<Engine>, ServeError> {
    let data = &config.data;
    let disk = FileDisk::open(data).map_err(|error| ServeError::disk(data, error))?;
    let disk = Measured::new(disk, Arc::clone(syncs));
    let mut seed = [0; 8];
    #[expect(clippy::disallowed_methods, reason = "the outermost layer seeds chance")]
    getrandom::fill(&mut seed).map_err(|error| ServeError::Io {
        doing: "asking the system for a random seed".to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let mut options = Options::new(config.durability, u64::from_le_bytes(seed));
    options.partitions = config.partitions;
    options.auto_create_topics = config.auto_create_topics;
    options.queues.nack_counts = config.nack_counts;
    options.queues.memory_bytes_max = config.message_memory.unwrap_or_else(memory::default_max);
    options.planted = config.planted_bug;
    options.groups = config.groups;
    options.transactions = config.transactions;
    options.offsets_retention_ms = config.offsets_retention_minutes.saturating_mul(60_000);
    options.producer_expiration_ms = config.producer_id_expiration_ms;
    let observer = Published { release: Arc::clone(release) };
    let engine =
        Engine::open(Arc::new(disk), Arc::new(SystemClock::new()), options, Box::new(observer))
            .map_err(|error| ServeError::open(data, error))?;
    release.publish(engine.durable(), &[]); // what was recovered is durable
    Ok(Arc::new(engine))
}

/// What the log's thread does after a commit: one number, one list, one wake.
#[derive(Debug)]
struct Published {
    release: Arc<Release>,
}

impl DurableObserver for Published {
    fn durable(&self, upto: Lsn, partitions: &[StreamId]) {
        self.release.publish(upto, partitions);
    }
}

/// Wakes, inside the runtime, who waited for the log.
async fn releaser(release: Arc<Release>, engine: Arc<Engine>) {
    loop {
        let (durable, partitions) = release.moved().await;
        engine.wake(&partitions);
        engine.broker().durable_moved(durable);
        release.publish_visible(durable);
    }
}

/// Lets the engine's timers run.
async fn ticker(engine: Arc<Engine>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_full = false;
    loop {
        interval.tick().await;
        engine.tick();
        if engine.has_dying() {
            let engine = Arc::clone(&engine);
            tokio::task::spawn_blocking(move || engine.bury()).await.ok(); // reads from the disk
        }
        let room = engine.store().disk_room();
        if room.is_full != was_full {
            was_full = room.is_full;
            tell_room(was_full, room.free_bytes);
        }
    }
}

/// Says what to do on a full disk, and when it is over (store.md rule 22).
fn tell_room(is_full: bool, free_bytes: u64) {
    if is_full {
        tracing::warn!(
            free_bytes,
            "the disk is full: what would add data is refused, reading, acknowledging, committing and \
             deleting go on; free some space, delete topics, queues or records, or shorten retention: \
             publishing then goes on by itself"
        );
    } else {
        tracing::info!(free_bytes, "the disk has room again: publishing goes on");
    }
}

fn write_ready_file(path: &std::path::Path, startup: &Startup) -> Result<(), ServeError> {
    let failed = |source: std::io::Error| ServeError::Io {
        doing: format!("writing {}", path.display()),
        source,
    };
    let text = serde_json::to_string(startup).map_err(|error| failed(error.into()))?;
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}

/// How long open connections may take to finish what they began.
const DRAIN: Duration = Duration::from_secs(3);
/// The grain of the engine's timers.
const TICK: Duration = Duration::from_millis(10);
