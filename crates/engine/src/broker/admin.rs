//! What an operator changes: virtual hosts, users, permissions, policies. And what one looks at.

use std::sync::Arc;

use ottla_store::{Lsn, Purpose, Store};

use super::Broker;
use super::access::{SALT_BYTES, hash};
use super::declare::item;
use super::error::{BrokerError, ErrorKind};
use super::facts::{BrokerFact, PermissionImage, PolicyImage, UserImage};
use super::queue::Queue;
use super::request::QueueStatus;
use crate::queue::{Command, Rules};

impl Broker {
    /// Makes a virtual host exist; that it does already is no error.
    ///
    /// # Errors
    /// No room.
    pub fn create_vhost(&self, name: &str) -> Result<Lsn, BrokerError> {
        self.change(Purpose::Grow, BrokerFact::VhostCreated { name: name.to_owned() })
    }

    /// Makes a user exist, or gives it another password and other tags. Unlike `guest`, it may come from anywhere.
    ///
    /// # Errors
    /// No room.
    pub fn set_user(
        &self,
        name: &str,
        password: &[u8],
        tags: Vec<String>,
    ) -> Result<Lsn, BrokerError> {
        let bits = self.chance().bits().to_be_bytes();
        let mut salt = [0; SALT_BYTES];
        salt.iter_mut().zip(bits).for_each(|(salt, bits)| *salt = bits);
        let name = name.to_owned();
        let user = UserImage { name, hash: hash(salt, password), tags, loopback_only: false };
        self.change(Purpose::Grow, BrokerFact::UserSet(user))
    }

    /// Ends a user; open connections stay.
    ///
    /// # Errors
    /// No room.
    pub fn delete_user(&self, name: &str) -> Result<Lsn, BrokerError> {
        self.change(Purpose::Shrink, BrokerFact::UserDeleted { name: name.to_owned() })
    }

    /// What a user may do in a virtual host: regular expressions over names.
    ///
    /// # Errors
    /// 404 for an unknown user or virtual host; 406 for what is no regular expression.
    pub fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        permission: PermissionImage,
    ) -> Result<Lsn, BrokerError> {
        if permission.permissions().is_none() {
            return Err(BrokerError::precondition("invalid regular expression"));
        }
        let known = {
            let state = self.state();
            state.users.contains_key(user) && state.vhosts.contains_key(vhost)
        };
        if !known {
            return Err(BrokerError::new(ErrorKind::NotFound, "no such user or vhost"));
        }
        let (user, vhost) = (user.to_owned(), vhost.to_owned());
        self.change(Purpose::Grow, BrokerFact::PermissionSet { user, vhost, permission })
    }

    /// Sets a policy; queues and exchanges whose names match follow it at once.
    ///
    /// # Errors
    /// 406 for a pattern or definition that cannot be understood.
    pub fn set_policy(&self, vhost: &str, policy: PolicyImage) -> Result<Lsn, BrokerError> {
        let understood = policy.clone().policy();
        if understood.is_none_or(|policy| Rules::of_policy(&policy.definition).is_err()) {
            return Err(BrokerError::precondition("invalid policy"));
        }
        let fact = BrokerFact::PolicySet { vhost: vhost.to_owned(), policy };
        let lsn = self.change(Purpose::Grow, fact)?;
        self.follow_policies(vhost);
        Ok(lsn)
    }

    /// Ends a policy; a missing one is no error.
    ///
    /// # Errors
    /// No room.
    pub fn delete_policy(&self, vhost: &str, name: &str) -> Result<Lsn, BrokerError> {
        let fact = BrokerFact::PolicyDeleted { vhost: vhost.to_owned(), name: name.to_owned() };
        let lsn = self.change(Purpose::Shrink, fact)?;
        self.follow_policies(vhost);
        Ok(lsn)
    }

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

    fn follow_policies(&self, vhost: &str) {
        for queue in self.queues_of(vhost) {
            self.configure(&queue);
        }
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

/// Room for an operator's fact.
const ROOM: usize = 16 << 10;
