//! From one exchange to the set of queues: over exchange-to-exchange bindings and alternates, each
//! exchange visited once and each queue found once.

use ottla_store::StreamId;

use super::{Destination, Publication, RouteError, Topology};

impl Topology {
    /// The queues a published message goes to, ascending and each once; empty if it is unroutable.
    ///
    /// # Errors
    /// No such exchange, or one that only exchanges may publish to.
    pub fn route(
        &self,
        exchange: &str,
        publication: &Publication<'_>,
    ) -> Result<Vec<StreamId>, RouteError> {
        let source = self.exchange(exchange).ok_or(RouteError::NoExchange)?;
        if source.internal {
            return Err(RouteError::Internal);
        }
        Ok(self.route_inside(exchange, publication))
    }

    /// The same for a message that the broker moves itself (dead letters may go to an internal
    /// exchange); no such exchange means no queue.
    #[must_use]
    pub fn route_inside(&self, exchange: &str, publication: &Publication<'_>) -> Vec<StreamId> {
        let mut queues = Vec::new();
        if exchange.is_empty() {
            queues.extend(publication.keys.iter().filter_map(|key| self.queue(key)));
        } else {
            self.walk(exchange, publication, &mut queues);
        }
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    fn walk(&self, first: &str, publication: &Publication<'_>, queues: &mut Vec<StreamId>) {
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
    }
}
