//! Share sessions (KIP-932): which partitions a member reads over one connection. The end of a
//! session, also by a lost connection, frees what the member holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_engine::group::assignor::Part;
use ottla_engine::group::{GroupId, MemberId};
use ottla_kafka_proto::ErrorCode;

use super::Context;

/// Whose session: there is one for each member of a group.
pub(super) type Key = (GroupId, MemberId);

/// All sessions, bounded.
#[derive(Debug, Default)]
pub(super) struct ShareSessions {
    connections: AtomicU64,
    slots: Mutex<HashMap<Key, Slot>>,
}

#[derive(Debug)]
struct Slot {
    connection: u64,
    epoch: i32,
    parts: Vec<Part>,
}

/// What a request is to its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first; a former session of the member was ended by it.
    Opened,
    /// One more.
    Next,
    /// The last: after the acknowledgements everything is freed.
    Last,
}

/// The sessions that were opened over one connection; they end with it.
#[derive(Debug)]
pub(super) struct Held {
    context: Arc<Context>,
    connection: u64,
    keys: Mutex<BTreeSet<Key>>,
}

impl ShareSessions {
    /// Finds the session of a request by its epoch: 0 opens, -1 ends, else the next one in turn.
    pub(super) fn turn(&self, held: &Held, key: &Key, epoch: i32) -> Result<Turn, ErrorCode> {
        let mut slots = self.lock();
        match epoch {
            INITIAL_EPOCH => {
                if slots.len() >= SESSIONS_MAX && !slots.contains_key(key) {
                    return Err(ErrorCode::SHARE_SESSION_LIMIT_REACHED);
                }
                let slot = Slot { connection: held.connection, epoch: 1, parts: Vec::new() };
                slots.insert(key.clone(), slot);
                held.lock().insert(key.clone());
                Ok(Turn::Opened)
            }
            FINAL_EPOCH => {
                slots.remove(key).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
                held.lock().remove(key);
                Ok(Turn::Last)
            }
            epoch => {
                let slot = slots.get_mut(key).ok_or(ErrorCode::SHARE_SESSION_NOT_FOUND)?;
                if slot.epoch != epoch {
                    return Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH);
                }
                slot.epoch = slot.epoch.checked_add(1).unwrap_or(1);
                Ok(Turn::Next)
            }
        }
    }

    /// Adds partitions to a session and takes others out; what is left, another first each time.
    pub(super) fn update(&self, key: &Key, added: &[Part], forgotten: &[Part]) -> Vec<Part> {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key) else { return Vec::new() };
        for part in added {
            if !slot.parts.contains(part) {
                slot.parts.push(*part);
            }
        }
        slot.parts.retain(|part| !forgotten.contains(part));
        if !slot.parts.is_empty() {
            slot.parts.rotate_left(1);
        }
        slot.parts.clone()
    }

    /// Ends a session if it still belongs to this connection.
    fn end(&self, key: &Key, connection: u64) -> bool {
        let mut slots = self.lock();
        let ours = slots.get(key).is_some_and(|slot| slot.connection == connection);
        ours && slots.remove(key).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Of a new connection.
    pub(super) fn new(context: Arc<Context>) -> Self {
        let connection = context.share_sessions.connections.fetch_add(1, Ordering::Relaxed);
        Self { context, connection, keys: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut *self.lock());
        for key in keys {
            if self.context.share_sessions.end(&key, self.connection) {
                self.context.engine.share_release(&key.0, &key.1);
            }
        }
    }
}

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
/// Sessions at a time, as Kafka's `group.share.max.share.sessions`.
const SESSIONS_MAX: usize = 2_000;
