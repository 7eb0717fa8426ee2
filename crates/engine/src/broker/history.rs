//! `x-recent-history`: an exchange that remembers its last messages and gives them to a queue that is newly
//! bound. In memory: after a start it begins anew.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ottla_store::{Lsn, Purpose};

use super::Broker;
use super::arrive::Arriving;
use super::effects::Work;
use super::error::BrokerError;
use super::message::Message;
use super::properties::Properties;
use super::queue::Queue;
use crate::exchange::Routing;

impl Broker {
    /// Remembers a message that was published to such an exchange.
    pub(super) fn remember(&self, vhost: &str, message: &Arc<Message>) {
        if !self.has_history.load(Ordering::Relaxed) {
            return;
        }
        let state = self.state();
        let Some(vhost) = state.vhosts.get(vhost) else { return };
        let exchange = vhost.topology.exchange(&message.exchange);
        let Some(Routing::RecentHistory { length }) = exchange.map(|known| &known.kind.routing)
        else {
            return;
        };
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        let properties = Properties::parse(&message.properties);
        if properties.is_some_and(|own| own.headers().get(NO_STORE).is_some()) {
            return;
        }
        let mut history = vhost.history.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = history.entry(Arc::clone(&message.exchange)).or_default();
        remembered.push_back(Arc::clone(message));
        while remembered.len() > length {
            remembered.pop_front();
        }
    }

    /// Gives a newly bound queue what its exchange remembers.
    pub(super) fn replay_history(
        &self,
        vhost: &str,
        exchange: &str,
        queue: &Arc<Queue>,
    ) -> Result<Option<Lsn>, BrokerError> {
        let remembered: VecDeque<Arc<Message>> = {
            let state = self.state();
            let Some(vhost) = state.vhosts.get(vhost) else { return Ok(None) };
            let history = vhost.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.get(exchange).cloned().unwrap_or_default()
        };
        if remembered.is_empty() {
            return Ok(None);
        }
        let arriving: Vec<Arriving> = remembered
            .into_iter()
            .map(|message| Arriving { message, targets: [Arc::clone(queue)].into(), after: None })
            .collect();
        let now = self.clock.now();
        let mut work = Work::default();
        let arrived = self.arrive(Purpose::Grow, &arriving, &[], now, &mut work);
        self.finish(work, now);
        Ok(arrived?.1)
    }
}

/// Whether an exchange remembers.
pub(super) const fn is_history(routing: &Routing) -> bool {
    matches!(routing, Routing::RecentHistory { .. })
}

/// A message with this header is not remembered.
const NO_STORE: &str = "x-recent-history-no-store";
