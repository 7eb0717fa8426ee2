//! Where a runner's messages come from: a feed, opened again when the broker was gone; and the keys that are
//! parked, looked up when a lane comes from another consumer.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};

use super::Route;
use crate::address::Address;
use crate::connection::{Connection, Feed, Incoming, dead_address};
use crate::dead_letters::PATIENCE;
use crate::error::{Error, Result};
use crate::policy::Backoff;
use crate::transport::{Lane, Subscription};

/// A feed, or the wait for one.
#[derive(Debug)]
pub(super) enum Intake {
    Open(Feed),
    /// The broker is asked again and again.
    Lost(Task<Feed>),
}

/// What an intake has.
#[expect(clippy::large_enum_variant, reason = "almost every one is a delivery")]
pub(super) enum Arrived {
    Incoming(Incoming),
    /// The feed is open again.
    Again,
    /// The broker is gone: what was handed out comes again.
    Lost(Error),
    /// It ended, and why.
    Ended(Result<()>),
}

impl Intake {
    pub(super) async fn open(connection: &Connection, route: &Route) -> Result<Self> {
        Ok(Self::Open(connection.subscribe(subscription(route)).await?))
    }

    /// Waits for the broker, in place of a feed that ended.
    pub(super) fn wait(&mut self, connection: &Connection, route: &Arc<Route>) {
        *self = Self::Lost(Task::begin(again(connection.clone(), Arc::clone(route))));
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Safe to be cancelled.
    pub(super) async fn next(&mut self) -> Arrived {
        match self {
            Self::Open(feed) => match feed.next().await {
                Some(Ok(incoming)) => Arrived::Incoming(incoming),
                Some(Err(error)) if error.is_transient() => Arrived::Lost(error),
                Some(Err(error)) => Arrived::Ended(Err(error)),
                None => Arrived::Ended(Ok(())),
            },
            Self::Lost(opening) => match opening.end().await {
                Ok(feed) => {
                    *self = Self::Open(feed);
                    Arrived::Again
                }
                Err(error) => Arrived::Ended(Err(error)),
            },
        }
    }

    pub(super) async fn stop(&mut self) -> Result<()> {
        match self {
            Self::Open(feed) => feed.stop().await,
            Self::Lost(_) => Ok(()),
        }
    }

    pub(super) async fn close(self) -> Result<()> {
        match self {
            Self::Open(feed) => feed.close().await,
            Self::Lost(_) => Ok(()),
        }
    }
}

/// Something that goes on beside the runner and ends with it.
#[derive(Debug)]
pub(super) struct Task<T> {
    running: JoinHandle<Result<T>>,
    abort: AbortHandle,
}

impl<T: Send + 'static> Task<T> {
    fn begin(work: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        let running = tokio::spawn(work);
        Self { abort: running.abort_handle(), running }
    }

    /// Safe to be cancelled; to be called until it returns, once.
    async fn end(&mut self) -> Result<T> {
        (&mut self.running).await.map_err(|_| Error::Closed("the runtime"))?
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

fn subscription(route: &Route) -> Subscription {
    Subscription::new(&route.source, &route.group).max_in_flight(route.policy.in_flight)
}

async fn again(connection: Connection, route: Arc<Route>) -> Result<Feed> {
    let mut attempt: u32 = 1;
    loop {
        let wait = AGAIN.wait(attempt, connection.mint()).unwrap_or(AGAIN.max);
        tokio::time::sleep(wait).await;
        match connection.subscribe(subscription(&route)).await {
            Err(error) if error.is_transient() => {
                tracing::debug!(source = %route.source, %error, attempt, "the broker is still gone");
                attempt = attempt.saturating_add(1);
            }
            other => return other,
        }
    }
}

/// Keys of which a message is among the dead letters ([`Order::ParkKey`](crate::policy::Order::ParkKey)).
#[derive(Debug, Default)]
pub(super) struct Parked {
    keys: HashSet<String>,
    looking: Option<Task<HashSet<String>>>,
    /// Lanes whose keys are known; of others another consumer may have parked keys.
    lanes: HashSet<Lane>,
    /// A lane went away: what was known of its keys is out of date once it comes back.
    outdated: bool,
    /// Another lane came while the letters were being looked through.
    again: bool,
}

impl Parked {
    /// Something came from this lane: if it is the first, the dead letters are looked through.
    pub(super) fn came_from(&mut self, lane: Lane, connection: &Connection, route: &Arc<Route>) {
        if self.lanes.insert(lane) {
            match self.looking {
                Some(_) => self.again = true,
                None => self.look(connection, route),
            }
        }
    }

    pub(super) fn look(&mut self, connection: &Connection, route: &Arc<Route>) {
        self.again = false;
        if std::mem::take(&mut self.outdated) {
            self.keys.clear(); // nothing begins before they are known again
        }
        self.looking = Some(Task::begin(keys(connection.clone(), Arc::clone(route))));
    }

    /// These lanes go to another consumer; `None`: all of them.
    pub(super) fn gone(&mut self, lanes: Option<&[Lane]>) {
        self.outdated = true;
        match lanes {
            Some(gone) => self.lanes.retain(|lane| !gone.contains(lane)),
            None => self.lanes.clear(),
        }
    }

    /// Whether nothing may begin yet.
    pub(super) const fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Waits for the end of the look through the letters, if one is under way. Safe to be cancelled.
    pub(super) async fn found(&mut self) -> Result<HashSet<String>> {
        match &mut self.looking {
            Some(looking) => {
                let found = looking.end().await;
                self.looking = None;
                found
            }
            None => pending().await,
        }
    }

    /// Takes in what was found; looks again if a lane came meanwhile.
    pub(super) fn learn(
        &mut self,
        found: HashSet<String>,
        connection: &Connection,
        route: &Arc<Route>,
    ) {
        self.keys.extend(found);
        if self.again {
            self.look(connection, route);
        }
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// `false`: there are too many.
    pub(super) fn insert(&mut self, key: &str) -> bool {
        let room = self.keys.len() < PARKED_MAX;
        if room {
            self.keys.insert(key.to_owned());
        }
        room
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.keys.remove(key);
    }
}

/// Looks through the dead letters for keys that are parked. What is there stays there.
async fn keys(connection: Connection, route: Arc<Route>) -> Result<HashSet<String>> {
    let dead = dead_address(&route.source, &route.group);
    let max = u32::try_from(PARKED_MAX).unwrap_or(u32::MAX);
    if let Some(letters) = connection.look(&dead, &route.group, max).await? {
        return Ok(letters.into_iter().filter_map(|letter| letter.key).collect());
    }
    let mut keys = HashSet::new();
    for _ in 0..LOOKS_MAX {
        let missing = taken(&connection, &route, &dead, &mut keys).await?;
        if missing == 0 {
            return Ok(keys);
        }
        tracing::warn!(%dead, missing, "dead letters are in other hands: looked for again");
    }
    tracing::error!(%dead, "dead letters stay in other hands: their keys go on as if they were not parked");
    Ok(keys)
}

/// Takes the dead letters, notes their keys, gives them back. How many did not come: another consumer or an
/// operator has them, or has settled them meanwhile.
async fn taken(
    connection: &Connection,
    route: &Route,
    dead: &Address,
    keys: &mut HashSet<String>,
) -> Result<usize> {
    let depth = connection.depth(dead, &route.group).await?;
    let count = usize::try_from(depth).unwrap_or(PARKED_MAX).min(PARKED_MAX);
    if count == 0 {
        return Ok(0);
    }
    let max = u32::try_from(depth).unwrap_or(u32::MAX);
    let subscription = Subscription::new(dead, &route.group).max_in_flight(max);
    let mut letters = connection.subscribe(subscription).await?;
    let mut held = Vec::new();
    while held.len() < count {
        match tokio::time::timeout(PATIENCE, letters.next()).await {
            Ok(Some(Ok(Incoming::Delivery(letter)))) => {
                keys.extend(letter.envelope.key.clone());
                held.push(letter);
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Err(error), // half of the keys would let the others pass
            Ok(None) | Err(_) => break,
        }
    }
    let missing = count - held.len();
    drop(held);
    letters.close().await?;
    Ok(missing)
}

/// How a broker that is gone is asked again: for ever, from a tenth of a second to ten seconds apart.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), u32::MAX);
/// Keys that one consumer keeps parked.
const PARKED_MAX: usize = 65_536;
/// How often dead letters that are in other hands are looked for: for a minute, in which nothing begins.
const LOOKS_MAX: u32 = 6;
