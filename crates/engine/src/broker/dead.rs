//! Dead letters: out of their queue and on to its dead-letter exchange, in one frame (store.md rule 9;
//! research 1.6).

use std::sync::Arc;

use ottla_store::Purpose;

use super::Broker;
use super::arrive::{Arriving, Leaving};
use super::effects::{Corpse, Remains, Work};
use super::mailbox::Source;
use super::message::{Head, Message};
use super::properties::Properties;
use super::queue::Queue;
use super::request::Seq;
use crate::clock::Now;
use crate::exchange::Publication;
use crate::queue::{Deaths, Dying, Rules, remove_selectors};

impl Broker {
    /// Moves a dead message on. Without room in the log it stays where it is and is tried again later.
    pub(super) fn bury(&self, corpse: Corpse, now: Now, work: &mut Work) {
        let (source, rules) = {
            let state = corpse.queue.lock();
            let source = match &corpse.what {
                Remains::Refused(message) => Some(Source::Memory(Arc::clone(message))),
                Remains::Entry(entry) => state.slots.get(Seq(entry.seq.0)).map(|s| s.source()),
            };
            (source, Arc::clone(&state.rules))
        };
        let Some(source) = source else { return }; // the queue was deleted or purged meanwhile
        let leaving = match &corpse.what {
            Remains::Refused(_) => Vec::new(),
            Remains::Entry(entry) => {
                let (queue, seqs) = (Arc::clone(&corpse.queue), vec![Seq(entry.seq.0)]);
                vec![Leaving { queue, seqs, with: None }]
            }
        };
        let letter =
            self.load(&source).and_then(|message| self.letter(&corpse, &rules, &message, now));
        let arriving: Vec<Arriving> = letter.into_iter().collect();
        if arriving.is_empty() && leaving.is_empty() {
            return;
        }
        if self.arrive(Purpose::Shrink, &arriving, &leaving, now, work).is_err() {
            self.stalled().push(corpse);
        }
    }

    /// Tries again what found no room in the log.
    pub(super) fn retry_stalled(&self, work: &mut Work) {
        work.dead.extend(std::mem::take(&mut *self.stalled()));
    }

    /// The dead letter and where it goes; `None` if it goes nowhere.
    fn letter(
        &self,
        corpse: &Corpse,
        rules: &Rules,
        message: &Message,
        now: Now,
    ) -> Option<Arriving> {
        let exchange = rules.dead_letter_exchange.as_deref()?;
        let properties = Properties::parse(&message.properties)?;
        let mut headers = properties.headers();
        let mut deaths = match message.head.dead {
            true => Deaths::read(&headers),
            false => Deaths::default(), // a client's own are not ours to interpret
        };
        let keys: Vec<&str> = message.keys.iter().map(|key| &**key).collect();
        deaths.record(&Dying {
            queue: &corpse.queue.name,
            reason: corpse.reason,
            time: u64::try_from(now.wall.0 / 1000).unwrap_or(0),
            exchange: &message.exchange,
            routing_keys: &keys,
            expiration: properties.expiration(),
        });
        deaths.write(&mut headers);
        let own_key = rules.dead_letter_routing_key.as_deref();
        remove_selectors(&mut headers, own_key.is_some());
        let keys: Arc<[Arc<str>]> = match own_key {
            Some(key) => [key.into()].into(),
            None => Arc::clone(&message.keys),
        };
        let routed = self.route_letter(&corpse.queue, exchange, &keys, &properties, &headers);
        let targets: Arc<[Arc<Queue>]> =
            routed.into_iter().filter(|queue| !deaths.closes_cycle(&queue.name)).collect();
        let letter = Message {
            head: Head { arrived: now.wall, expiration: None, dead: true, ..message.head },
            exchange: exchange.into(),
            keys,
            properties: properties.buried(&headers),
            body: message.body.clone(),
        };
        let message = Arc::new(letter);
        (!targets.is_empty()).then_some(Arriving { message, targets, after: None })
    }

    /// A message whose delay is over: it goes where it was published to.
    pub(super) fn release(&self, from: &Queue, message: &Message, now: Now) -> Option<Arriving> {
        let properties = Properties::parse(&message.properties)?;
        let headers = properties.headers();
        let keys = &message.keys;
        let targets = self.route_letter(from, &message.exchange, keys, &properties, &headers);
        let targets: Arc<[Arc<Queue>]> = targets.into();
        let expiration = properties.expiration().and_then(|text| text.parse().ok());
        let head = Head { arrived: now.wall, expiration, ..message.head };
        let message = Arc::new(Message { head, ..message.clone() });
        (!targets.is_empty()).then_some(Arriving { message, targets, after: None })
    }

    fn route_letter(
        &self,
        from: &Queue,
        exchange: &str,
        keys: &[Arc<str>],
        properties: &Properties<'_>,
        headers: &crate::value::Arguments,
    ) -> Vec<Arc<Queue>> {
        let chance = self.chance().bits();
        let state = self.state();
        let Some(vhost) = state.vhosts.get(&from.vhost) else { return Vec::new() };
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let publication = Publication {
            keys: &keys,
            headers,
            message_id: properties.message_id(),
            correlation_id: properties.correlation_id(),
            timestamp: properties.timestamp(),
            chance,
        };
        let routed = vhost.topology.route_inside(exchange, &publication);
        routed.iter().filter_map(|id| state.queues.get(id).cloned()).collect()
    }
}
