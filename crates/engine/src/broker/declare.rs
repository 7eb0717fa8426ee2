//! Queues come and go: `queue.declare`, `queue.delete`, `queue.purge`, and those that end by themselves.

use std::sync::Arc;

use bytes::Bytes;
use ottla_store::frame::{Item, StreamKind};
use ottla_store::{Lsn, Purpose};

use super::Broker;
use super::connection::{Channel, Connection};
use super::consume::refused;
use super::effects::{Answer, Work};
use super::error::{BrokerError, ErrorKind};
use super::facts::{BrokerFact, QueueImage};
use super::publish::{REPLY_PREFIX, REPLY_TO};
use super::queue::Queue;
use super::request::{DeleteIf, QueueDeclare, QueueDeclared, Removed};
use super::state::State;
use super::stream::{SERVER_NAMED, TOPIC};
use crate::exchange::{Destination, clean_name};
use crate::fact::{Fact, encode};
use crate::queue::{Command, Declaration, QueueType, Rules};
use crate::value::Inequivalent;
use crate::vhost::{Access, Resource};

impl Broker {
    /// `queue.declare`
    ///
    /// # Errors
    /// 403, 405, 406.
    pub fn declare_queue(
        &self,
        channel: &mut Channel,
        request: QueueDeclare<'_>,
    ) -> Result<QueueDeclared, BrokerError> {
        let name = match request.name {
            "" => self.made_up("amq.gen-"),
            name => clean_name(name).into_owned(),
        };
        let made_up = request.name.is_empty();
        if made_up && QueueType::of(&request.arguments, QueueType::Classic) == Ok(QueueType::Stream)
        {
            return Err(BrokerError::precondition(SERVER_NAMED));
        }
        let vhost = channel.vhost().to_owned();
        let mut state = self.state_mut();
        let default = self.vhost(&state, channel)?.default_queue_type();
        let declaration = judge(&name, &vhost, request, default)?;
        self.permit(&state, channel, Access::Configure, Resource::Queue(&name))?;
        if let Some(queue) = state.find(&vhost, &name) {
            let own = queue.owner == declaration.exclusive.then_some(channel.connection.id);
            if !own {
                return Err(BrokerError::locked(&name, &vhost));
            }
            queue.declaration.check_same(&declaration).map_err(|differs| {
                BrokerError::inequivalent(&differs, &format!("queue '{name}' in vhost '{vhost}'"))
            })?;
            check_topic(&queue, &declaration)?;
            drop(state);
            return Ok(self.declared(channel, &queue));
        }
        if !made_up && name.starts_with("amq.") {
            return Err(BrokerError::refused(format!(
                "queue name '{name}' contains reserved prefix 'amq.*'"
            )));
        }
        self.permit_dead_letters(&state, channel, &name, &declaration)?;
        let queue = match declaration.queue_type {
            QueueType::Stream => self.create_stream(&mut state, channel, &name, declaration)?,
            _ => self.create_queue(&mut state, channel, &name, declaration)?,
        };
        drop(state);
        Ok(self.declared(channel, &queue))
    }

    pub(super) fn create_queue(
        &self,
        state: &mut State,
        channel: &Channel,
        name: &str,
        declaration: Declaration,
    ) -> Result<Arc<Queue>, BrokerError> {
        if state.queues.len() >= QUEUES_MAX {
            return Err(BrokerError::new(ErrorKind::ResourceError, "too many queues"));
        }
        let vhost = channel.vhost();
        self.check_queue_limit(state, vhost, name)?;
        let owner = declaration.exclusive.then_some(channel.connection.id);
        let id = self.store.new_stream_id();
        let mut place = Lsn::ZERO;
        if declaration.durable && owner.is_none() {
            let queue = QueueImage::of(id.0, name, &declaration);
            let fact = BrokerFact::QueueDeclared { vhost: vhost.to_owned(), queue };
            let payload = Bytes::from(encode(&Fact::Broker(fact)));
            let reservation = self.store.reserve(Purpose::Grow, 2, payload.len())?;
            let create = Item::Create { stream: id, kind: StreamKind::Queue };
            place = self.log(state, reservation, vec![create, Item::State { payload }]);
        }
        let queue = Arc::new(Queue::new(id, name, vhost, declaration, owner, place));
        if owner.is_some() {
            channel.connection.owned().push(Arc::clone(&queue));
        }
        state.add_queue(Arc::clone(&queue), self.node, self.clock.now());
        Ok(queue)
    }

    /// `queue.declare` with `passive`
    ///
    /// # Errors
    /// 404, 405.
    pub fn check_queue(
        &self,
        channel: &mut Channel,
        name: &str,
    ) -> Result<QueueDeclared, BrokerError> {
        if name == REPLY_TO || name.starts_with(REPLY_PREFIX) {
            if name != REPLY_TO && !self.has_reply_consumer(name) {
                return Err(BrokerError::no_queue(name, channel.vhost()));
            }
            let name = Arc::from(name);
            return Ok(QueueDeclared { name, messages: 0, consumers: 1, lsn: Lsn::ZERO });
        }
        let queue = self.find_queue(&self.state(), channel, name)?;
        Ok(self.declared(channel, &queue))
    }

    /// `queue.delete`; a missing one is no error.
    ///
    /// # Errors
    /// 403, 405; 406 if a condition does not hold.
    pub fn delete_queue(
        &self,
        channel: &mut Channel,
        name: &str,
        condition: DeleteIf,
    ) -> Result<Removed, BrokerError> {
        let found = self.find_queue(&self.state(), channel, name);
        let queue = match found {
            Err(error) if error.kind() == ErrorKind::NotFound && !name.is_empty() => {
                return Ok(Removed { messages: 0, lsn: self.state().changed, topic: None });
            }
            found => found?,
        };
        self.permit(&self.state(), channel, Access::Configure, Resource::Queue(&queue.name))?;
        if queue.is_stream() {
            return self.delete_stream(&queue, condition);
        }
        // room first: what has begun to end cannot be taken back
        let room = self.store.reserve(Purpose::Shrink, FORGET_ITEMS, FORGET_BYTES)?;
        let command = Command::Delete { if_unused: condition.unused, if_empty: condition.empty };
        let now = self.clock.now();
        let mut work = Work::default();
        let answer = self.apply(&queue, &mut queue.lock(), command, now, &mut work);
        let messages = match answer {
            Some(Answer::Removed(messages)) => messages,
            Some(Answer::Refused(refusal)) => return Err(refused(refusal, &queue)),
            _ => 0,
        };
        drop(room);
        self.forget_queue(&queue);
        self.finish(work, now);
        Ok(Removed { messages, lsn: self.state().changed, topic: None })
    }

    /// `queue.purge`
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn purge_queue(&self, channel: &mut Channel, name: &str) -> Result<Removed, BrokerError> {
        let queue = self.find_queue(&self.state(), channel, name)?;
        self.permit(&self.state(), channel, Access::Read, Resource::Queue(&queue.name))?;
        if queue.is_stream() {
            return Err(BrokerError::on_stream("queue.purge", &queue.name, &queue.vhost));
        }
        let now = self.clock.now();
        let mut work = Work::default();
        let (answer, lsn) = {
            let mut state = queue.lock();
            let answer = self.apply(&queue, &mut state, Command::Purge, now, &mut work);
            (answer, state.applied)
        };
        self.finish(work, now);
        match answer {
            Some(Answer::Removed(messages)) => Ok(Removed { messages, lsn, topic: None }),
            Some(Answer::Refused(refusal)) => Err(refused(refusal, &queue)),
            _ => Ok(Removed { messages: 0, lsn, topic: None }),
        }
    }

    /// The connection is gone or about to be: its channels are closed first by the session
    /// ([`close_channel`](Self::close_channel)); its exclusive queues are deleted here.
    pub fn disconnect(&self, connection: &Connection) {
        connection.mailbox.close();
        self.connections().remove(&connection.id);
        let owned = std::mem::take(&mut *connection.owned());
        let now = self.clock.now();
        let mut work = Work::default();
        for queue in owned {
            let command = Command::Delete { if_unused: false, if_empty: false };
            self.apply(&queue, &mut queue.lock(), command, now, &mut work);
            self.forget_queue(&queue);
        }
        self.finish(work, now);
    }

    /// Takes out a queue whose machine has ended. Without room in the log it is tried again later.
    pub(super) fn forget_queue(&self, queue: &Arc<Queue>) {
        let Ok(reservation) = self.store.reserve(Purpose::Shrink, FORGET_ITEMS, FORGET_BYTES)
        else {
            self.unforgotten().push(Arc::clone(queue));
            return;
        };
        let mut state = self.state_mut();
        if !state.queues.contains_key(&queue.id) {
            return;
        }
        let to = Destination::Queue(queue.id);
        let durable = state.vhosts.get(&queue.vhost).is_some_and(|vhost| {
            let sources = vhost.topology.bindings_to(&to);
            sources.iter().any(|binding| {
                let source = vhost.topology.exchange(&binding.source);
                source.is_some_and(|source| source.durable && source.auto_delete)
            })
        });
        let removed = state.remove_queue(&queue.vhost, &queue.name);
        let mut items = Vec::new();
        let mut facts = Vec::new();
        let vhost = || queue.vhost.to_string();
        if queue.is_logged() {
            if !queue.is_stream() {
                items.push(Item::Delete { stream: queue.id }); // a stream's records are its topic's
            }
            facts.push(BrokerFact::QueueDeleted { vhost: vhost(), name: queue.name.to_string() });
        }
        if durable {
            let exchanges = removed.into_iter().flat_map(|removed| removed.exchanges);
            facts.extend(exchanges.map(|name| BrokerFact::ExchangeDeleted {
                vhost: vhost(),
                name: name.to_string(),
            }));
        }
        items.extend(facts.iter().map(item));
        if !items.is_empty() {
            self.log(&mut state, reservation, items);
        }
        drop(state);
        self.part_with(queue);
    }

    /// A queue is gone: its timer, and what it counted, go elsewhere.
    pub(super) fn part_with(&self, queue: &Queue) {
        let mut gone = self.gone();
        let mut state = queue.lock();
        self.timers().change(queue.id, state.deadline, crate::queue::Deadline::default());
        if let Some(mut meter) = state.traffic.take() {
            let totals = meter.read(self.clock.now().monotonic).totals;
            gone.1.totals = gone.1.totals.plus(totals);
        }
    }

    /// What `declare-ok` says.
    fn declared(&self, channel: &mut Channel, queue: &Arc<Queue>) -> QueueDeclared {
        let now = self.clock.now();
        let mut work = Work::default();
        self.apply(queue, &mut queue.lock(), Command::Touch, now, &mut work);
        let counts = queue.counts(&self.store);
        self.finish(work, now);
        channel.last_queue = Some(Arc::clone(&queue.name));
        QueueDeclared {
            name: Arc::clone(&queue.name),
            messages: counts.ready,
            // RabbitMQ counts none of a stream's
            consumers: if queue.is_stream() { 0 } else { counts.consumers },
            lsn: queue.declared,
        }
    }

    /// A queue with a dead-letter exchange reads itself and writes there (research 1.6).
    fn permit_dead_letters(
        &self,
        state: &State,
        channel: &Channel,
        name: &str,
        declaration: &Declaration,
    ) -> Result<(), BrokerError> {
        let exchange = declaration.arguments.get("x-dead-letter-exchange");
        let Some(exchange) = exchange.and_then(|value| value.as_str()) else { return Ok(()) };
        self.permit(state, channel, Access::Read, Resource::Queue(name))?;
        self.permit(state, channel, Access::Write, Resource::Exchange(exchange))
    }

    /// The queue of that name; empty: the last declared on the channel.
    pub(super) fn find_queue(
        &self,
        state: &State,
        channel: &Channel,
        name: &str,
    ) -> Result<Arc<Queue>, BrokerError> {
        let name = match name {
            "" => channel.last_queue.as_deref().ok_or_else(|| {
                BrokerError::new(ErrorKind::NotFound, "no previously declared queue")
            })?,
            name => name,
        };
        let vhost = channel.vhost();
        let queue = state.find(vhost, name).ok_or_else(|| BrokerError::no_queue(name, vhost))?;
        if queue.owner.is_some_and(|owner| owner != channel.connection.id) {
            return Err(BrokerError::locked(name, vhost));
        }
        Ok(queue)
    }
}

impl State {
    pub(super) fn find(&self, vhost: &str, name: &str) -> Option<Arc<Queue>> {
        self.vhosts.get(vhost)?.queues.get(name).cloned()
    }
}

/// Understands a declaration.
///
/// `default` is the virtual host's type for queues that do not say; where the type cannot be what the flags
/// ask for, it is a classic queue, as in RabbitMQ.
fn judge(
    name: &str,
    vhost: &str,
    request: QueueDeclare<'_>,
    default: QueueType,
) -> Result<Declaration, BrokerError> {
    let object = format!("queue '{name}' in vhost '{vhost}'");
    let explain =
        |error: crate::queue::ArgumentError| BrokerError::precondition(error.explain(&object));
    let fits = request.durable && !request.exclusive && !request.auto_delete;
    let default = if fits { default } else { QueueType::Classic };
    let queue_type = QueueType::of(&request.arguments, default).map_err(explain)?;
    let declaration = Declaration {
        durable: request.durable,
        auto_delete: request.auto_delete,
        exclusive: request.exclusive,
        queue_type,
        arguments: request.arguments,
    };
    declaration
        .check_properties()
        .map_err(|property| BrokerError::precondition(format!("{property} for {object}")))?;
    Rules::of_arguments(queue_type, &declaration.arguments).map_err(explain)?;
    Ok(declaration)
}

/// A declaration that names a topic means a stream over that topic.
fn check_topic(queue: &Queue, received: &Declaration) -> Result<(), BrokerError> {
    if received.arguments.get(TOPIC).is_none() {
        return Ok(());
    }
    let current = &queue.declaration.arguments;
    Inequivalent::check_argument(TOPIC, &received.arguments, current).map_err(|differs| {
        let object = format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
        BrokerError::inequivalent(&differs, &object)
    })
}

/// A fact for the log.
pub(super) fn item(fact: &BrokerFact) -> Item {
    Item::State { payload: Bytes::from(encode(&Fact::Broker(fact.clone()))) }
}

/// Queues of the whole broker; one more is refused.
const QUEUES_MAX: usize = 1_000_000;
/// Room to forget a queue and what goes along: its facts are names.
const FORGET_ITEMS: usize = 64;
const FORGET_BYTES: usize = 16 << 10;
