//! What an operator changes: virtual hosts, users, permissions, policies. And what one looks at.

mod moves;
mod peek;
mod policies;
mod users;
mod vhosts;
mod view;

use std::sync::Arc;

use ottla_store::{Lsn, Purpose, Store};

pub use self::moves::{Filter, MoveTarget, Moved};
pub use self::peek::Peeked;
pub use self::policies::{PolicyKind, PolicyView};
pub use self::users::{NewUser, UserView};
pub use self::vhosts::VhostView;
pub use self::view::{
    BindingView, ChannelView, ConsumerView, ExchangeView, OwnerView, QueueView, Totals,
};

use super::Broker;
use super::declare::item;
use super::error::{BrokerError, ErrorKind};
use super::facts::BrokerFact;
use super::queue::Queue;
use super::request::QueueStatus;
use crate::queue::Command;

impl Broker {
    /// The queues of a virtual host by name.
    #[must_use]
    pub fn queues(&self, vhost: &str) -> Vec<QueueStatus> {
        let queues = self.queues_of(vhost);
        queues.iter().map(|queue| status(queue, &self.store)).collect()
    }

    fn queues_of(&self, vhost: &str) -> Vec<Arc<Queue>> {
        let state = self.state();
        let vhost = state.vhosts.get(vhost);
        vhost.map(|vhost| vhost.queues.values().cloned().collect()).unwrap_or_default()
    }

    /// Lets a queue's machine follow its rules.
    pub(super) fn configure(&self, queue: &Arc<Queue>) {
        let now = self.clock.now();
        let mut work = super::effects::Work::default();
        {
            let mut state = queue.lock();
            let settings = Arc::new(queue.settings(&state.rules, self.node));
            self.apply(queue, &mut state, Command::Configure(settings), now, &mut work);
        }
        self.finish(work, now);
    }

    fn change(&self, purpose: Purpose, fact: BrokerFact) -> Result<Lsn, BrokerError> {
        let item = item(&fact);
        let reservation = self.store.reserve(purpose, 1, ROOM)?;
        let mut state = self.state_mut();
        let before = state.changed;
        let lsn = self.log(&mut state, reservation, vec![item]);
        state.changed = before; // `apply` skips what is contained
        state.apply(lsn, fact);
        Ok(lsn)
    }

    /// The place of the newest change of what exists: what a look at it waits for.
    #[must_use]
    pub fn changed(&self) -> Lsn {
        self.state().changed
    }

    fn know_vhost(&self, name: &str) -> Result<(), BrokerError> {
        match self.state().vhosts.contains_key(name) {
            true => Ok(()),
            false => Err(BrokerError::new(ErrorKind::NotFound, format!("no vhost '{name}'"))),
        }
    }
}

fn status(queue: &Queue, store: &Store) -> QueueStatus {
    let counts = queue.counts(store);
    QueueStatus {
        name: Arc::clone(&queue.name),
        durable: queue.declaration.durable,
        exclusive: queue.declaration.exclusive,
        auto_delete: queue.declaration.auto_delete,
        queue_type: queue.declaration.queue_type,
        arguments: queue.declaration.arguments.clone(),
        ready: counts.ready,
        unacked: counts.unacked,
        consumers: counts.consumers,
    }
}

/// A name or text that an operator gives is judged before it is logged: it fits [`ROOM`].
fn fits(parts: &[&str]) -> Result<(), BrokerError> {
    match parts.iter().map(|part| part.len()).sum::<usize>() < TEXT_MAX {
        true => Ok(()),
        false => Err(BrokerError::precondition("names and texts are too long")),
    }
}

/// Room for an operator's fact.
const ROOM: usize = 64 << 10;
/// Bytes of texts in one such fact; more is refused.
const TEXT_MAX: usize = 32 << 10;
