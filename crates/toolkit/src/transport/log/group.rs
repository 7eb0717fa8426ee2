//! Who of a group reads which partition. A partition changes hands only when its owner lets go.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A consumer group of one topic.
#[derive(Debug)]
pub(crate) struct Group {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeSet<u64>,
    owners: Vec<Option<u64>>,
    next: u64,
}

/// What a member has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Partitions that are now its own.
    pub(crate) gained: Vec<u32>,
    /// Partitions it should let go.
    pub(crate) lost: Vec<u32>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// A new member. What it reads, [`turn`](Self::turn) says.
    pub(crate) fn join(&self) -> u64 {
        let mut state = self.state();
        let member = state.next;
        state.next += 1;
        state.members.insert(member);
        drop(state);
        self.tell();
        member
    }

    /// The member is gone, and owns nothing any more.
    pub(crate) fn leave(&self, member: u64) {
        let mut state = self.state();
        state.members.remove(&member);
        state.owners.iter_mut().filter(|owner| **owner == Some(member)).for_each(|o| *o = None);
        drop(state);
        self.tell();
    }

    /// Takes what is free and due to the member; names what is another's.
    pub(crate) fn turn(&self, member: u64, partitions: u32) -> Turn {
        let mut state = self.state();
        let State { members, owners, .. } = &mut *state;
        let room = usize::try_from(partitions).unwrap_or(0);
        if owners.len() < room {
            owners.resize(room, None);
        }
        let mut turn = Turn::default();
        let due = members.iter().cycle();
        for ((partition, owner), due) in (0..).zip(owners.iter_mut()).zip(due) {
            if *owner == Some(member) && *due != member {
                turn.lost.push(partition);
            } else if owner.is_none() && *due == member {
                *owner = Some(member);
                turn.gained.push(partition);
            }
        }
        turn
    }

    /// The owner lets a partition go.
    pub(crate) fn let_go(&self, member: u64, partition: u32) {
        let mut state = self.state();
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        if let Some(owner) = state.owners.get_mut(index)
            && *owner == Some(member)
        {
            *owner = None;
        }
        drop(state);
        self.tell();
    }

    /// Changes when [`turn`](Self::turn) may have news.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_gets_its_share_when_the_owner_has_let_it_go() {
        let group = Group::new();
        let first = group.join();
        assert_eq!(group.turn(first, 4), Turn { gained: vec![0, 1, 2, 3], lost: vec![] });
        let second = group.join();
        assert_eq!(group.turn(second, 4), Turn::default(), "nothing is free yet");
        assert_eq!(group.turn(first, 4), Turn { gained: vec![], lost: vec![1, 3] });
        group.let_go(first, 1);
        assert_eq!(group.turn(second, 4), Turn { gained: vec![1], lost: vec![] });
        group.leave(second);
        assert_eq!(group.turn(first, 4), Turn { gained: vec![1], lost: vec![] });
    }
}
