//! Virtual hosts: made, described, limited, deleted.

use std::sync::Arc;

use ottla_store::frame::Item;
use ottla_store::{Lsn, Purpose};

use super::{ROOM, fits};
use crate::broker::Broker;
use crate::broker::declare::item;
use crate::broker::effects::Work;
use crate::broker::error::{BrokerError, ErrorKind};
use crate::broker::facts::{BrokerFact, LimitsImage, VhostAbout};
use crate::broker::queue::Queue;
use crate::broker::stream::cancel_all;
use crate::queue::{Command, QueueType};

/// A virtual host as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostView {
    /// Its name.
    pub name: Arc<str>,
    /// What it was told about itself.
    pub about: VhostAbout,
    /// How much it may hold.
    pub limits: LimitsImage,
}

impl Broker {
    /// Makes a virtual host exist; that it does already is no error.
    ///
    /// # Errors
    /// No room; 406 for a name that is too long.
    pub fn create_vhost(&self, name: &str) -> Result<Lsn, BrokerError> {
        if name.is_empty() || name.len() > usize::from(u8::MAX) {
            return Err(BrokerError::precondition("a vhost's name has 1 to 255 bytes"));
        }
        if self.state().vhosts.len() >= VHOSTS_MAX && self.know_vhost(name).is_err() {
            return Err(BrokerError::new(ErrorKind::ResourceError, "too many vhosts"));
        }
        self.change(Purpose::Grow, BrokerFact::VhostCreated { name: name.to_owned() })
    }

    /// Tells a virtual host what it is for, and the type of queues that do not say.
    ///
    /// # Errors
    /// 404; 406 for a queue type that does not exist.
    pub fn describe_vhost(&self, name: &str, about: VhostAbout) -> Result<Lsn, BrokerError> {
        self.know_vhost(name)?;
        let types = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
        if let Some(word) = &about.default_queue_type
            && !types.iter().any(|known| known.as_str() == word)
        {
            let text = format!("unsupported default queue type '{word}'");
            return Err(BrokerError::precondition(text));
        }
        let tags: Vec<&str> = about.tags.iter().map(String::as_str).collect();
        fits(&[&about.description, &tags.concat()])?;
        self.change(Purpose::Grow, BrokerFact::VhostDescribed { name: name.to_owned(), about })
    }

    /// Limits a virtual host; what is there already stays.
    ///
    /// # Errors
    /// 404
    pub fn limit_vhost(&self, name: &str, limits: LimitsImage) -> Result<Lsn, BrokerError> {
        self.know_vhost(name)?;
        self.change(Purpose::Shrink, BrokerFact::VhostLimited { name: name.to_owned(), limits })
    }

    /// Ends a virtual host with everything in it, in one frame: its connections are closed, its queues deleted.
    /// The topics of its streams are the caller's to delete, before.
    ///
    /// # Errors
    /// 404; no room.
    pub fn delete_vhost(&self, name: &str) -> Result<Lsn, BrokerError> {
        self.know_vhost(name)?;
        let reason = format!("vhost '{name}' is deleted");
        self.end_connections(|connection| connection.vhost() == name, &reason);
        let now = self.clock.now();
        let mut work = Work::default();
        let (lsn, queues) = {
            let mut state = self.state_mut();
            let queues = state.vhosts.get(name).map(|vhost| vhost.queues.values().cloned());
            let queues: Vec<Arc<Queue>> = queues.into_iter().flatten().collect();
            let kept = queues.iter().filter(|queue| queue.is_logged() && !queue.is_stream());
            let mut items: Vec<Item> =
                kept.map(|queue| Item::Delete { stream: queue.id }).collect();
            let fact = BrokerFact::VhostDeleted { name: name.to_owned() };
            items.push(item(&fact));
            let reservation = self.store.reserve(Purpose::Shrink, items.len(), ROOM)?;
            for queue in queues.iter().filter(|queue| !queue.is_stream()) {
                let command = Command::Delete { if_unused: false, if_empty: false };
                self.apply(queue, &mut queue.lock(), command, now, &mut work); // takes no more
            }
            let lsn = self.log(&mut state, reservation, items);
            state.change(fact, lsn);
            (lsn, queues)
        };
        for queue in queues {
            if queue.is_stream() {
                work.wake.extend(cancel_all(&queue));
            }
            self.part_with(&queue);
        }
        self.finish(work, now);
        Ok(lsn)
    }

    /// All virtual hosts by name.
    #[must_use]
    pub fn vhosts(&self) -> Vec<VhostView> {
        let state = self.state();
        let vhosts = state.vhosts.values().map(|vhost| VhostView {
            name: Arc::clone(&vhost.name),
            about: vhost.about.clone(),
            limits: vhost.limits,
        });
        vhosts.collect()
    }
}

/// Virtual hosts of the node; one more is refused.
const VHOSTS_MAX: usize = 10_000;
