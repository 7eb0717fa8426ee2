//! Reads one source and handles its messages: within bounds, in order, again where that may help.

mod attempt;
mod intake;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::attempt::{Ended, attempt, set_aside};
use self::intake::{Arrived, Intake, Parked};
use super::breaker::Breaker;
use super::health::{Condition, Counters};
use super::lanes::{Lanes, Waits};
use crate::address::Address;
use crate::connection::{Connection, Delivery, Incoming, redrives};
use crate::error::{Error, Result};
use crate::handler::{Extensions, Handler, Layer};
use crate::policy::{Order, Policy};
use crate::transport::{Lane, Revoked};

/// What is done with the messages of a source.
pub(super) struct Route {
    pub(super) source: Address,
    pub(super) group: String,
    pub(super) policy: Policy,
    pub(super) handlers: Vec<Arc<dyn Handler>>,
    pub(super) layers: Vec<Arc<dyn Layer>>,
    pub(super) state: Extensions,
    pub(super) health: Arc<Counters>,
}

/// A delivery that waits for its turn.
pub(super) struct Job {
    delivery: Delivery,
    ordered: bool,
}

impl Waits for Job {
    fn key(&self) -> Option<&str> {
        self.delivery.envelope.key.as_deref().filter(|_| self.ordered)
    }

    fn lane(&self) -> Lane {
        self.delivery.lane()
    }
}

/// What a task tells when it is over.
struct Done {
    key: Option<String>,
    lane: Lane,
    feed: u32,
    ended: Ended,
}

pub(super) struct Runner {
    connection: Connection,
    route: Arc<Route>,
    intake: Intake,
    /// Counts the feeds: what came by an earlier one comes again.
    feed: u32,
    lanes: Lanes<Job>,
    tasks: JoinSet<Done>,
    running: HashMap<Lane, u32>,
    revoked: Vec<Revoked>,
    breaker: Breaker,
    parked: Parked,
}

impl Runner {
    pub(super) async fn open(connection: &Connection, route: Route) -> Result<Self> {
        let intake = Intake::open(connection, &route).await?;
        route.health.turn(Condition::Running);
        Ok(Self {
            connection: connection.clone(),
            breaker: Breaker::new(route.policy.trip),
            route: Arc::new(route),
            intake,
            feed: 0,
            lanes: Lanes::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            revoked: Vec::new(),
            parked: Parked::default(),
        })
    }

    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let mut outcome = Ok(());
        loop {
            let wake = self.start();
            tokio::select! {
                arrived = self.intake.next() => match arrived {
                    Arrived::Incoming(Incoming::Delivery(delivery)) => self.take(delivery),
                    Arrived::Incoming(Incoming::Revoked(revoked)) => self.revoke(revoked),
                    Arrived::Incoming(Incoming::Live) => {}
                    Arrived::Again => self.found_again(),
                    Arrived::Lost(error) => self.lost(&error),
                    Arrived::Ended(why) => { outcome = why; break; }
                },
                found = self.parked.found() => match found {
                    Ok(keys) => self.parked.learn(keys, &self.connection, &self.route),
                    Err(error) if error.is_transient() => self.lost(&error),
                    Err(error) => { outcome = Err(error); break; }
                },
                Some(done) = self.tasks.join_next() => if let Ok(done) = done { self.done(done) },
                () = sleep_until(wake) => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        self.drain().await.and(outcome)
    }

    fn take(&mut self, delivery: Delivery) {
        let ordered = self.route.policy.order != Order::Unordered;
        if self.route.policy.order == Order::ParkKey {
            self.parked.came_from(delivery.lane(), &self.connection, &self.route);
        }
        self.lanes.push(Job { delivery, ordered });
    }

    /// The broker is gone. What has not begun comes again from it; what has is finished, but can no more be
    /// settled: it comes again, too.
    fn lost(&mut self, error: &Error) {
        let (source, group) = (&self.route.source, &self.route.group);
        tracing::warn!(%source, group, %error, "the broker is gone: asked again until it is there");
        self.route.health.turn(Condition::Lost);
        self.intake.wait(&self.connection, &self.route);
        self.feed = self.feed.wrapping_add(1);
        self.parked.gone(None);
        self.revoked.clear();
        drop(self.lanes.clear());
    }

    fn found_again(&self) {
        let (source, group) = (&self.route.source, &self.route.group);
        tracing::info!(%source, group, "the broker is there again");
    }

    /// Starts what may be started; when there is more to start by itself.
    fn start(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let paused = self.breaker.paused_until(now);
        if paused.is_some() {
            self.route.health.turn(Condition::Paused);
            return paused;
        }
        if self.parked.is_looking() {
            return None; // a key that is parked would not be known
        }
        if self.intake.is_open() {
            self.route.health.turn(Condition::Running);
        }
        let probing = self.breaker.is_probing();
        let limit = if probing { 1 } else { self.route.policy.concurrency };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        while self.tasks.len() < limit {
            let Some(job) = self.lanes.pop(now) else { break };
            let (key, lane, feed) = (job.key().map(str::to_owned), job.lane(), self.feed);
            *self.running.entry(lane).or_default() += 1;
            let (route, delivery) = (Arc::clone(&self.route), job.delivery);
            let parks = key.as_ref().is_some_and(|key| self.parked.contains(key))
                && redrives(&delivery.envelope) == 0;
            self.tasks.spawn(async move {
                let ended = match parks {
                    true => set_aside(delivery).await,
                    false => attempt(&route, delivery).await,
                };
                Done { key, lane, feed, ended }
            });
        }
        if self.tasks.len() < limit { self.lanes.next_due() } else { None }
    }

    fn done(&mut self, done: Done) {
        let Done { key, lane, feed, ended } = done;
        if let Some(count) = self.running.get_mut(&lane) {
            *count = count.saturating_sub(1);
        }
        let (now, health) = (Instant::now(), &self.route.health);
        let (handled, failed, dead) = match &ended {
            Ended::Handled { .. } => (1, 0, 0),
            Ended::Again { .. } | Ended::Later => (0, 1, 0),
            Ended::Dead { .. } => (0, 1, 1),
            Ended::Parked => (0, 0, 1),
            Ended::Released => (0, 0, 0),
        };
        health.handled.fetch_add(handled, Ordering::Relaxed);
        health.failed.fetch_add(failed, Ordering::Relaxed);
        health.dead.fetch_add(dead, Ordering::Relaxed);
        let told = match &ended {
            Ended::Handled { .. } => Some(false),
            Ended::Again { .. } | Ended::Later | Ended::Dead { exhausted: true } => Some(true),
            _ => None, // the message's own fault, or nobody's
        };
        if told.is_some_and(|failed| self.breaker.told(failed, now)) {
            tracing::warn!(source = %self.route.source, group = self.route.group, "most attempts fail: intake pauses");
        }
        if let Some(key) = &key {
            match &ended {
                Ended::Dead { .. } if self.route.policy.order == Order::ParkKey => self.park(key),
                Ended::Handled { unparks: true } => self.parked.remove(key),
                _ => {}
            }
        }
        match (ended, key) {
            (Ended::Again { delivery, wait }, _) if feed == self.feed => {
                self.lanes.sleep(Job { delivery: *delivery, ordered: true }, now + wait);
            }
            (_, Some(key)) => self.lanes.settled(&key),
            (_, None) => {}
        }
        self.let_go();
    }

    fn park(&mut self, key: &str) {
        if !self.parked.insert(key) {
            tracing::error!(source = %self.route.source, "too many keys are parked: {key} goes on without its dead message");
        }
    }

    /// What has not begun goes back at once; what has is finished first.
    fn revoke(&mut self, revoked: Revoked) {
        self.lanes.take(&revoked.lanes); // dropped: given back
        self.parked.gone(Some(&revoked.lanes));
        self.revoked.push(revoked);
        self.let_go();
    }

    fn let_go(&mut self) {
        let running = &self.running;
        self.revoked.retain(|revoked| {
            revoked.lanes.iter().any(|lane| running.get(lane).is_some_and(|count| *count > 0))
        });
    }

    /// Takes nothing more, lets handlers finish, gives back the rest, leaves.
    async fn drain(mut self) -> Result<()> {
        self.route.health.turn(Condition::Draining);
        let stopped = self.intake.stop().await;
        drop(self.lanes.take_all());
        let deadline = Instant::now() + self.route.policy.drain;
        while !self.tasks.is_empty() {
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(Ok(done))) => {
                    self.done(done);
                    drop(self.lanes.take_all());
                }
                Ok(_) => {}
                Err(_) => {
                    let left = self.tasks.len();
                    tracing::warn!(source = %self.route.source, left, "handlers take too long: given back");
                    self.tasks.shutdown().await;
                }
            }
        }
        self.revoked.clear();
        let closed = self.intake.close().await;
        self.route.health.turn(Condition::Stopped);
        stopped.and(closed)
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
