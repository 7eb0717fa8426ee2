//! Ottla in this process: the engine, its threads, and the wait for what is durable.

mod host;
mod properties;
mod queue;
mod topic;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ottla_engine::Durability;

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
    /// Recovers what the directory holds, or starts empty. Called inside a runtime, which it needs as
    /// long as it lives.
    ///
    /// # Errors
    /// The directory cannot be used, is another process's, or holds what cannot be read.
    pub fn open(options: &Options) -> Result<Self> {
        static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Host>>>> = Mutex::new(None);
        let data = std::path::absolute(&options.data).unwrap_or_else(|_| options.data.clone());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        open.retain(|_, host| host.strong_count() > 0);
        if let Some(host) = open.get(&data).and_then(Weak::upgrade)
            && !host.is_closed()
        {
            return Ok(Self { host });
        }
        let durability = if options.sync { Durability::Sync } else { Durability::Os };
        let host = Host::open(&data, options.partitions.max(1), durability)?;
        open.insert(data, Arc::downgrade(&host));
        Ok(Self { host })
    }
}

impl Transport for Embedded {
    fn caps(&self) -> Caps {
        Caps { keyed_order: true, replay: true, redelivery_count: true, durable: true }
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
