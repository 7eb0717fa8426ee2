//! From one exchange to the set of queues: over exchange-to-exchange bindings and alternates, each
//! exchange visited once and each queue found once.

use ottla_store::StreamId;

use super::{Destination, Publication, RouteError, Topology};

/// Where a published message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Ascending and each once; empty if it is unroutable.
    pub queues: Vec<StreamId>,
    /// Whether its keys alone decided it: whatever has the same keys goes there too, until something here
    /// changes.
    pub by_keys: bool,
}

impl Topology {
    /// The queues a published message goes to.
    ///
    /// # Errors
    /// No such exchange, or one that only exchanges may publish to.
    pub fn route(
        &self,
        exchange: &str,
        publication: &Publication<'_>,
    ) -> Result<Routes, RouteError> {
        let source = self.exchange(exchange).ok_or(RouteError::NoExchange)?;
        if source.internal {
            return Err(RouteError::Internal);
        }
        Ok(self.routes(exchange, publication))
    }

    /// The same for a message that the broker moves itself (dead letters may go to an internal
    /// exchange); no such exchange means no queue.
    #[must_use]
    pub fn route_inside(&self, exchange: &str, publication: &Publication<'_>) -> Vec<StreamId> {
        self.routes(exchange, publication).queues
    }

    fn routes(&self, exchange: &str, publication: &Publication<'_>) -> Routes {
        let mut queues = Vec::new();
        let mut by_keys = true;
        if exchange.is_empty() {
            queues.extend(publication.keys.iter().filter_map(|key| self.queue(key)));
        } else {
            by_keys = self.walk(exchange, publication, &mut queues);
        }
        queues.sort_unstable();
        queues.dedup();
        Routes { queues, by_keys }
    }

    /// Whether nothing but the keys was looked at.
    fn walk(&self, first: &str, publication: &Publication<'_>, queues: &mut Vec<StreamId>) -> bool {
        let mut by_keys = true;
        let mut seen: Vec<&str> = vec![first];
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(name) = seen.get(next).copied() {
            next += 1;
            if name.is_empty() {
                // an alternate exchange may be the default one
                queues.extend(publication.keys.iter().filter_map(|key| self.queue(key)));
                continue;
            }
            let Some((exchange, table)) = self.entry(name) else { continue };
            found.clear();
            by_keys &= exchange.kind.is_by_keys();
            table.collect(&exchange.kind.routing, publication, &mut found);
            if found.is_empty() {
                let alternate = exchange.alternate();
                seen.extend(alternate.filter(|name| !seen.contains(name)));
            }
            for destination in &found {
                match destination {
                    Destination::Queue(queue) => queues.push(*queue),
                    Destination::Exchange(to) if !seen.contains(&&**to) => seen.push(to),
                    Destination::Exchange(_) => {}
                }
            }
        }
        by_keys
    }
}
