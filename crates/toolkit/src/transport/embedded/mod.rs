//! Ottla in this process: the engine, its threads, and the wait for what is durable.

mod host;
mod properties;
mod queue;
mod topic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ottla_engine::Durability;
use tokio::sync::watch;

use self::host::Host;
use super::log::{Reading, subscribe};
use super::{BoxFuture, Caps, Parcel, RawFeed, Subscription, Transport};
use crate::address::Address;
use crate::error::{Error, Result};

/// A durable broker in this process, over a directory that it keeps for itself.
///
/// Opened again for the same directory in the same process it is the same broker.
#[derive(Debug)]
pub struct Embedded {
    host: Arc<Host>,
}

/// How the embedded broker behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps its files.
    pub data: PathBuf,
    /// Partitions of a topic that does not exist yet: as many consumers of a group can work at a time.
    pub partitions: u32,
    /// Whether what is published is synced to the disk before it is confirmed. `false` loses
    /// acknowledged messages when the machine loses power.
    pub sync: bool,
}

impl Options {
    /// In this directory, synced, with four partitions.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), partitions: PARTITIONS, sync: true }
    }
}

impl Embedded {
    /// Recovers what the directory holds, or starts empty. Needs the runtime it is called in as long as
    /// it lives. Waits for an earlier broker of this process that is closing.
    ///
    /// # Errors
    /// The directory cannot be used, is another process's, or holds what cannot be read.
    pub async fn open(options: &Options) -> Result<Self> {
        let data = std::path::absolute(&options.data).unwrap_or_else(|_| options.data.clone());
        loop {
            let ending = match find_or_open(&data, options)? {
                Found::Here(host) => return Ok(Self { host }),
                Found::Ending(ending) => ending,
            };
            let ended = tokio::time::timeout(ENDING_MAX, ending.clone().changed()).await;
            if ended.is_err() {
                let hint = "Close what still consumes from it";
                return Err(unreachable(&data, "it was closed and is still in use", hint));
            }
        }
    }
}

/// A broker of this process.
struct Running {
    host: Weak<Host>,
    /// Closes once the directory is free.
    ended: watch::Receiver<()>,
}

enum Found {
    Here(Arc<Host>),
    /// Closed, or let go by its last user a moment ago.
    Ending(watch::Receiver<()>),
}

fn find_or_open(data: &Path, options: &Options) -> Result<Found> {
    static RUNNING: Mutex<BTreeMap<PathBuf, Running>> = Mutex::new(BTreeMap::new());
    let mut running = host::lock(&RUNNING);
    running.retain(|_, running| running.ended.has_changed().is_ok());
    if let Some(known) = running.get(data) {
        let host = known.host.upgrade().filter(|host| !host.is_closed());
        return Ok(host.map_or_else(|| Found::Ending(known.ended.clone()), Found::Here));
    }
    let durability = if options.sync { Durability::Sync } else { Durability::Os };
    let (ends, ended) = watch::channel(());
    let host = Host::open(data, options.partitions.max(1), durability, ends)?;
    running.insert(data.to_owned(), Running { host: Arc::downgrade(&host), ended });
    Ok(Found::Here(host))
}

impl Transport for Embedded {
    fn caps(&self) -> Caps {
        Caps {
            keyed_order: true,
            replay: true,
            redelivery_count: true,
            durable: true,
            selective_ack: true,
        }
    }

    fn publish<'a>(&'a self, to: &'a Address, batch: Vec<Parcel>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match to {
                Address::Topic(name) => self.host.topic(name).await?.publish(batch).await,
                Address::Queue(name) => queue::publish(&self.host, name, &batch).await,
            }
        })
    }

    fn subscribe<'a>(&'a self, to: &'a Subscription) -> BoxFuture<'a, Result<RawFeed>> {
        Box::pin(async move {
            match &to.source {
                Address::Queue(name) => queue::subscribe(&self.host, name, to.max_in_flight).await,
                Address::Topic(name) => {
                    let log = self.host.topic(name).await?;
                    let group = to.group.as_ref().map(|name| (name.clone(), log.group(name)));
                    Ok(subscribe(Reading { log, group, max_in_flight: to.max_in_flight }))
                }
            }
        })
    }

    fn depth<'a>(&'a self, at: &'a Address, group: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            match at {
                Address::Queue(name) => Ok(queue::depth(&self.host, name)),
                Address::Topic(name) => self.host.topic(name).await?.lag(group),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let host = Arc::clone(&self.host);
            let stopped = tokio::task::spawn_blocking(move || host.stop()).await;
            stopped.map_err(|_| Error::Closed("the embedded broker"))
        })
    }
}

fn unreachable(data: &Path, source: impl Into<crate::error::Cause>, hint: &str) -> Error {
    Error::Unreachable {
        address: format!("the embedded broker in {}", data.display()),
        source: source.into(),
        hint: hint.to_owned(),
    }
}

const PARTITIONS: u32 = 4;
/// How long a broker that was closed may keep its directory.
const ENDING_MAX: Duration = Duration::from_secs(10);
