//! Exchanges and bindings: `exchange.*`, `queue.bind`, `queue.unbind`.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use ottla_store::frame::Item;
use ottla_store::{Lsn, Purpose};

use super::Broker;
use super::connection::Channel;
use super::declare::item;
use super::error::BrokerError;
use super::facts::{BindingImage, BrokerFact, ExchangeImage};
use super::history::is_history;
use super::request::{Bind, DeleteIf, ExchangeDeclare};
use super::state::State;
use crate::exchange::{Binding, Destination, Exchange, Removed, clean_name};
use crate::queue::{Declaration, QueueType};
use crate::value::Value;
use crate::vhost::{Access, Resource};

/// Whether a binding is made or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Bind,
    Unbind,
}

impl Broker {
    /// `exchange.declare`
    ///
    /// # Errors
    /// 403, 406.
    pub fn declare_exchange(
        &self,
        channel: &mut Channel,
        request: ExchangeDeclare<'_>,
    ) -> Result<Lsn, BrokerError> {
        let name = clean_name(request.name).into_owned();
        let vhost = channel.vhost().to_owned();
        let refused = |error| BrokerError::declare(error, &name, &vhost);
        let declared = Exchange::new(&name, request.kind, request.arguments).map_err(refused)?;
        let exchange = Exchange {
            durable: request.durable,
            auto_delete: request.auto_delete,
            internal: request.internal,
            ..declared
        };
        if is_history(&exchange.kind.routing) {
            self.has_history.store(true, Ordering::Relaxed);
        }
        let image = ExchangeImage::of(&exchange);
        let fact = BrokerFact::ExchangeDeclared { vhost: vhost.clone(), exchange: image };
        let items = if exchange.durable { vec![item(&fact)] } else { Vec::new() };
        let reservation = self.store.reserve(Purpose::Grow, items.len(), bytes(&items))?;
        let mut state = self.state_mut();
        self.permit(&state, channel, Access::Configure, Resource::Exchange(&name))?;
        let alternate = exchange.arguments.get("alternate-exchange").and_then(Value::as_str);
        if let Some(alternate) = alternate {
            self.permit(&state, channel, Access::Read, Resource::Exchange(&name))?;
            self.permit(&state, channel, Access::Write, Resource::Exchange(alternate))?;
        }
        if exchange.kind.delayed && state.find(&vhost, DELAYED).is_none() {
            self.create_queue(&mut state, channel, DELAYED, waiting_room())?;
        }
        let known = self.vhost_mut(&mut state, channel)?;
        let fresh = known.topology.declare(exchange).map_err(refused)?;
        if fresh {
            // another of that name may have remembered something
            known.history.lock().unwrap_or_else(PoisonError::into_inner).remove(&*name);
            known.apply_policy(&name);
            if !items.is_empty() {
                self.log(&mut state, reservation, items);
            }
        }
        Ok(state.changed)
    }

    /// `exchange.declare` with `passive`
    ///
    /// # Errors
    /// 404
    pub fn check_exchange(&self, channel: &mut Channel, name: &str) -> Result<Lsn, BrokerError> {
        let state = self.state();
        let vhost = self.vhost(&state, channel)?;
        match vhost.topology.exchange(name) {
            Some(_) => Ok(state.changed),
            None => Err(BrokerError::no_exchange(name, channel.vhost())),
        }
    }

    /// `exchange.delete`; a missing one is no error.
    ///
    /// # Errors
    /// 403; 406 if it is in use.
    pub fn delete_exchange(
        &self,
        channel: &mut Channel,
        name: &str,
        condition: DeleteIf,
    ) -> Result<Lsn, BrokerError> {
        let reservation = self.store.reserve(Purpose::Shrink, FACTS, ROOM)?;
        let mut state = self.state_mut();
        self.permit(&state, channel, Access::Configure, Resource::Exchange(name))?;
        let vhost = self.vhost_mut(&mut state, channel)?;
        let durable = vhost.topology.exchange(name).is_some_and(|exchange| exchange.durable);
        let removed = vhost
            .topology
            .delete(name, condition.unused)
            .map_err(|error| BrokerError::delete(error, name, channel.vhost()))?;
        if durable {
            let items = deletions(channel.vhost(), &removed);
            self.log(&mut state, reservation, items);
        }
        Ok(state.changed)
    }

    /// `exchange.bind`
    ///
    /// # Errors
    /// 403, 404, 406.
    pub fn bind_exchange(&self, channel: &mut Channel, bind: Bind<'_>) -> Result<Lsn, BrokerError> {
        self.rebind_exchange(channel, bind, Change::Bind)
    }

    /// `exchange.unbind`; a missing binding is no error.
    ///
    /// # Errors
    /// 403, 404.
    pub fn unbind_exchange(
        &self,
        channel: &mut Channel,
        bind: Bind<'_>,
    ) -> Result<Lsn, BrokerError> {
        self.rebind_exchange(channel, bind, Change::Unbind)
    }

    /// `queue.bind`
    ///
    /// # Errors
    /// 403, 404, 405, 406.
    pub fn bind_queue(&self, channel: &mut Channel, bind: Bind<'_>) -> Result<Lsn, BrokerError> {
        self.rebind_queue(channel, bind, Change::Bind)
    }

    /// `queue.unbind`; a missing binding is no error.
    ///
    /// # Errors
    /// 403, 404, 405.
    pub fn unbind_queue(&self, channel: &mut Channel, bind: Bind<'_>) -> Result<Lsn, BrokerError> {
        self.rebind_queue(channel, bind, Change::Unbind)
    }

    fn rebind_exchange(
        &self,
        channel: &Channel,
        bind: Bind<'_>,
        change: Change,
    ) -> Result<Lsn, BrokerError> {
        let mut state = self.state_mut();
        let name = bind.destination;
        self.permit(&state, channel, Access::Write, Resource::Exchange(name))?;
        let vhost = self.vhost(&state, channel)?;
        if change == Change::Bind && !name.is_empty() && vhost.topology.exchange(name).is_none() {
            return Err(BrokerError::no_exchange(name, channel.vhost()));
        }
        let binding = Binding {
            source: bind.source.into(),
            destination: Destination::Exchange(name.into()),
            key: bind.key.into(),
            arguments: bind.arguments,
        };
        self.rebind(&mut state, channel, binding, change).map(|(lsn, _)| lsn)
    }

    fn rebind_queue(
        &self,
        channel: &Channel,
        bind: Bind<'_>,
        change: Change,
    ) -> Result<Lsn, BrokerError> {
        let mut state = self.state_mut();
        let queue = self.find_queue(&state, channel, bind.destination)?;
        self.permit(&state, channel, Access::Write, Resource::Queue(&queue.name))?;
        // with neither queue nor key, the name of the last queue is the key, too (§1.7.2.3)
        let key = match (bind.destination, bind.key) {
            ("", "") => &*queue.name,
            (_, key) => key,
        };
        let binding = Binding {
            source: bind.source.into(),
            destination: Destination::Queue(queue.id),
            key: key.into(),
            arguments: bind.arguments,
        };
        let (lsn, fresh) = self.rebind(&mut state, channel, binding, change)?;
        drop(state);
        if fresh && let Some(newer) = self.replay_history(channel.vhost(), bind.source, &queue)? {
            return Ok(lsn.max(newer));
        }
        Ok(lsn)
    }

    /// Also tells whether there is a binding that there was not.
    fn rebind(
        &self,
        state: &mut State,
        channel: &Channel,
        binding: Binding,
        change: Change,
    ) -> Result<(Lsn, bool), BrokerError> {
        self.permit(state, channel, Access::Read, Resource::Exchange(&binding.source))?;
        self.permit_topics(state, channel, Access::Read, &binding.source, &[&binding.key])?;
        let vhost = self.vhost_mut(state, channel)?;
        let refused = |error| BrokerError::bind(error, channel.vhost());
        let image = BindingImage::of(&binding);
        let name = channel.vhost().to_owned();
        let mut items = Vec::new();
        let mut fresh = false;
        match change {
            Change::Bind => {
                let fact = item(&BrokerFact::Bound { vhost: name, binding: image });
                let reservation =
                    self.store.reserve(Purpose::Grow, 1, bytes(std::slice::from_ref(&fact)))?;
                let durable = vhost.is_durable(&binding);
                fresh = vhost.topology.bind(binding).map_err(refused)?;
                if fresh && durable {
                    self.log(state, reservation, vec![fact]);
                }
            }
            Change::Unbind => {
                let fact = item(&BrokerFact::Unbound { vhost: name.clone(), binding: image });
                let room = bytes(std::slice::from_ref(&fact)) + ROOM;
                let reservation = self.store.reserve(Purpose::Shrink, FACTS, room)?;
                let durable = vhost.is_durable(&binding);
                let source = vhost.topology.exchange(&binding.source);
                let source_durable = source.is_some_and(|source| source.durable);
                let removed = vhost.topology.unbind(&binding).map_err(refused)?;
                if durable && !removed.bindings.is_empty() {
                    items.push(fact);
                }
                if source_durable {
                    items.extend(deletions(&name, &removed));
                }
                if !items.is_empty() {
                    self.log(state, reservation, items);
                }
            }
        }
        Ok((state.changed, fresh))
    }
}

/// The queue in which messages of `x-delayed-message` exchanges wait: they expire into their exchange
/// (store.md rule 21).
fn waiting_room() -> Declaration {
    Declaration {
        durable: true,
        auto_delete: false,
        exclusive: false,
        queue_type: QueueType::Classic,
        arguments: [("x-dead-letter-exchange", Value::text(""))].into_iter().collect(),
    }
}

/// A fact for each exchange that is gone; one that was not durable is gone at replay, too.
fn deletions(vhost: &str, removed: &Removed) -> Vec<Item> {
    let facts = removed.exchanges.iter().map(|name| BrokerFact::ExchangeDeleted {
        vhost: vhost.to_owned(),
        name: name.to_string(),
    });
    facts.map(|fact| item(&fact)).collect()
}

fn bytes(items: &[Item]) -> usize {
    let length = |item: &Item| match item {
        Item::State { payload } => payload.len(),
        _ => 0,
    };
    items.iter().map(length).sum()
}

/// One for each virtual host that has such an exchange.
pub(super) const DELAYED: &str = "amq.rabbitmq.delayed";
/// Room for what goes along with a deletion.
const FACTS: usize = 64;
const ROOM: usize = 16 << 10;
