//! What administrators see of groups, and deleting them.

use std::sync::Arc;

use ottla_store::{Lsn, Purpose, Refused};

use super::FACT_BYTES;
use crate::engine::Engine;
use crate::group::{Group, GroupId, Protocol};

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub id: GroupId,
    /// `consumer`, `connect`, …; empty for a group that only has offsets.
    pub protocol_type: Arc<str>,
    /// Kafka's name of where it stands.
    pub state: String,
    /// `classic`, `consumer` or `share`.
    pub kind: &'static str,
}

/// Why a group was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteGroupError {
    /// Kafka: `GROUP_ID_NOT_FOUND` (69).
    #[error("there is no such group")]
    NotFound,
    /// Kafka: `NON_EMPTY_GROUP` (68).
    #[error("the group has members")]
    NotEmpty,
    /// The log takes nothing now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Engine {
    /// Looks at a group under its lock: `read` must not ask the engine for anything. `None` if there is
    /// no such group. The reply waits for the returned place.
    pub fn read_group<T>(&self, id: &GroupId, read: impl FnOnce(&Group) -> T) -> (Option<T>, Lsn) {
        let Some(cell) = self.groups.find(id) else { return (None, self.groups.removed()) };
        let group = cell.lock();
        let exists = !group.gone;
        (exists.then(|| read(&group.machine)), group.changed)
    }

    /// Every group. The reply waits for the returned place.
    pub fn list_groups(&self) -> (Vec<GroupSummary>, Lsn) {
        let mut newest = self.groups.removed();
        let mut groups = Vec::new();
        for cell in self.groups.all() {
            let group = cell.lock();
            newest = newest.max(group.changed);
            if group.gone {
                continue;
            }
            groups.push(GroupSummary {
                id: group.id.clone(),
                protocol_type: group.machine.protocol_type().into(),
                state: group.machine.state().to_string(),
                kind: match group.machine.protocol() {
                    Protocol::Classic => "classic",
                    Protocol::Consumer => "consumer",
                    Protocol::Share => "share",
                },
            });
        }
        (groups, newest)
    }

    /// DeleteGroups: an empty group goes with its offsets. The reply waits for the returned place.
    pub fn delete_group(&self, id: &GroupId) -> Result<Lsn, DeleteGroupError> {
        let reservation = self.store.reserve(Purpose::Shrink, 1, FACT_BYTES)?;
        let cell = self.groups.find(id).ok_or(DeleteGroupError::NotFound)?;
        let mut group = cell.lock();
        if group.gone {
            return Err(DeleteGroupError::NotFound);
        }
        let record = group.machine.delete().map_err(|_| DeleteGroupError::NotEmpty)?;
        self.log_group(&mut group, reservation, vec![record]);
        self.groups.take_out(&mut group);
        Ok(group.changed)
    }
}
