//! Fetch sessions (KIP-227): what a client reads is remembered, so that each request and answer
//! names only what changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_engine::clock::Monotonic;
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::fetch::{FetchPartition, FetchRequest};
use ottla_kafka_proto::{Str, Uuid};

/// A partition as a client names it: by topic name up to version 12, by topic id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Named {
    pub(super) topic: Str,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
}

/// A partition a client wants to read.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) named: Named,
    pub(super) from: i64,
    pub(super) bytes_max: i32,
    pub(super) leader_epoch: i32,
    /// What the client was last told; `None` before the first answer.
    pub(super) told: Option<Told>,
}

/// What an incremental answer need not repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
}

/// One client's session.
#[derive(Debug)]
pub(super) struct Session {
    epoch: i32,
    used: Monotonic,
    /// In the order in which they are read: what brought data goes to the end.
    pub(super) wanted: Vec<Wanted>,
}

/// All sessions, bounded.
#[derive(Debug, Default)]
pub(super) struct FetchSessions {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    last_id: i32,
    sessions: HashMap<i32, Arc<Mutex<Session>>>,
}

/// How a request is to be answered.
#[derive(Debug)]
pub(super) enum Plan {
    /// In full, and nothing is remembered.
    Full(Vec<Wanted>),
    /// In full, and remembered under this id.
    Opened(i32, Arc<Mutex<Session>>),
    /// Only what changed.
    Incremental(i32, Arc<Mutex<Session>>),
}

impl FetchSessions {
    /// What this request reads.
    pub(super) fn plan(&self, request: &FetchRequest, now: Monotonic) -> Result<Plan, ErrorCode> {
        match (request.session_id, request.session_epoch) {
            (NO_SESSION, FINAL_EPOCH) => Ok(Plan::Full(all_wanted(request))),
            (id, FINAL_EPOCH) => {
                self.lock().sessions.remove(&id);
                Ok(Plan::Full(all_wanted(request)))
            }
            (id, INITIAL_EPOCH) => {
                let mut slots = self.lock();
                slots.sessions.remove(&id); // reset: the client forgot what it had
                Ok(slots.open(all_wanted(request), now))
            }
            (id, epoch) => {
                let session = self.lock().sessions.get(&id).cloned();
                let session = session.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
                let is_empty = lock(&session).update(request, epoch, now)?;
                if is_empty {
                    self.lock().sessions.remove(&id); // nothing left to remember
                    return Ok(Plan::Full(Vec::new()));
                }
                Ok(Plan::Incremental(id, session))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session under its lock.
pub(super) fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    /// A new session if there is room for it, else an answer without one, which is always legal.
    fn open(&mut self, wanted: Vec<Wanted>, now: Monotonic) -> Plan {
        if wanted.is_empty() || !self.make_room(now) {
            return Plan::Full(wanted);
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.sessions.contains_key(&self.last_id) {
                break;
            }
        }
        let session = Session { epoch: 1, used: now, wanted };
        let session = Arc::new(Mutex::new(session));
        self.sessions.insert(self.last_id, Arc::clone(&session));
        Plan::Opened(self.last_id, session)
    }

    /// Gives up the session that was idle longest, if it was idle long enough.
    fn make_room(&mut self, now: Monotonic) -> bool {
        if self.sessions.len() < SESSIONS_MAX {
            return true;
        }
        let oldest = self.sessions.iter().map(|(id, session)| (lock(session).used, *id)).min();
        match oldest {
            Some((used, id)) if now.since(used) >= IDLE_MS_MIN => {
                self.sessions.remove(&id);
                true
            }
            _ => false,
        }
    }
}

impl Session {
    /// Takes in what a request changes; tells whether nothing is wanted any more.
    fn update(
        &mut self,
        request: &FetchRequest,
        epoch: i32,
        now: Monotonic,
    ) -> Result<bool, ErrorCode> {
        if epoch != self.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        self.used = now;
        let mut places: HashMap<Named, usize> =
            self.wanted.iter().enumerate().map(|(at, wanted)| (wanted.named.clone(), at)).collect();
        for change in all_wanted(request) {
            match places.get(&change.named).and_then(|at| self.wanted.get_mut(*at)) {
                Some(known) => *known = Wanted { told: known.told, ..change },
                None => {
                    places.insert(change.named.clone(), self.wanted.len());
                    self.wanted.push(change);
                }
            }
        }
        let forgotten: Vec<Named> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|index| Named {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    index: *index,
                })
            })
            .collect();
        self.wanted.retain(|wanted| !forgotten.contains(&wanted.named));
        Ok(self.wanted.is_empty())
    }

    /// Puts partitions that brought data behind those that did not, so that none starves.
    pub(super) fn rotate(&mut self, brought: &dyn Fn(&Named) -> bool) {
        self.wanted.sort_by_key(|wanted| brought(&wanted.named));
    }
}

fn all_wanted(request: &FetchRequest) -> Vec<Wanted> {
    let one = |topic: &Str, topic_id: Uuid, partition: &FetchPartition| Wanted {
        named: Named { topic: Str::from(&**topic), topic_id, index: partition.partition },
        from: partition.fetch_offset,
        bytes_max: partition.partition_max_bytes,
        leader_epoch: partition.current_leader_epoch,
        told: None,
    };
    let topics = request.topics.iter();
    topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| one(&topic.topic, topic.topic_id, partition))
        })
        .collect()
}

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
/// Sessions remembered at a time, as Kafka's `max.incremental.fetch.session.cache.slots`.
const SESSIONS_MAX: usize = 1000;
/// Milliseconds a session must be idle before another may take its slot.
const IDLE_MS_MIN: u64 = 120_000;
