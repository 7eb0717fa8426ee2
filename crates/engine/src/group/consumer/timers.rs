//! One deadline for each member, in order.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Monotonic;
use crate::group::ids::MemberId;

#[derive(Debug, Default)]
pub(in crate::group) struct Timers {
    at: BTreeMap<MemberId, Monotonic>,
    order: BTreeSet<(Monotonic, MemberId)>,
}

impl Timers {
    pub(in crate::group) fn set(&mut self, id: &MemberId, at: Monotonic) {
        self.clear(id);
        self.at.insert(id.clone(), at);
        self.order.insert((at, id.clone()));
    }

    pub(in crate::group) fn clear(&mut self, id: &MemberId) {
        if let Some(at) = self.at.remove(id) {
            self.order.remove(&(at, id.clone()));
        }
    }

    pub(in crate::group) fn first(&self) -> Option<Monotonic> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out whatever is due.
    pub(in crate::group) fn due(&mut self, now: Monotonic) -> Vec<MemberId> {
        let mut due = Vec::new();
        while let Some((_, id)) = self.order.first().filter(|(at, _)| *at <= now) {
            let id = id.clone();
            self.clear(&id);
            due.push(id);
        }
        due
    }

    pub(in crate::group) fn holds(&self, id: &MemberId) -> bool {
        self.at.contains_key(id)
    }
}
