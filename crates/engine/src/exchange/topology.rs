//! What exists: exchanges, queue names and bindings of one virtual host, and how they go together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ottla_store::StreamId;

use super::table::Table;
use super::{
    BindError, Binding, DeclareError, DeleteError, Destination, ExchangeName, Kind, Routing,
};
use crate::value::{Arguments, Inequivalent, Value};

/// The exchanges, queue names and bindings of one virtual host.
///
/// Invariant: `incoming` is the exact inverse of all tables.
#[derive(Debug)]
pub struct Topology {
    exchanges: BTreeMap<ExchangeName, (Exchange, Table)>,
    queues: HashMap<Arc<str>, StreamId>,
    incoming: HashMap<Destination, BTreeSet<(ExchangeName, Box<str>)>>,
    bindings: usize,
    /// Bindings of exchanges that look at headers.
    header_readers: usize,
}

/// An exchange as it was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// At most 255 bytes.
    pub name: ExchangeName,
    /// Its type.
    pub kind: Kind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding as a source.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// All of them, as declared.
    pub arguments: Arguments,
    /// The alternate exchange a policy gives it; an argument comes first.
    pub policy_alternate: Option<ExchangeName>,
}

/// What a deletion took along.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Removed {
    /// Exchanges: the one named, then those whose last binding went.
    pub exchanges: Vec<ExchangeName>,
    /// Bindings from and to what was removed.
    pub bindings: Vec<Binding>,
}

impl Exchange {
    /// Understands a declaration.
    ///
    /// # Errors
    /// An unknown type or an argument that cannot be understood.
    pub fn new(name: &str, kind: &str, arguments: Arguments) -> Result<Self, DeclareError> {
        if let Some(value) = arguments.get(ALTERNATE).filter(|value| value.as_str().is_none()) {
            return Err(DeclareError::InvalidType { argument: ALTERNATE, value: value.clone() });
        }
        Ok(Self {
            name: name.into(),
            kind: Kind::parse(kind, &arguments)?,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments,
            policy_alternate: None,
        })
    }

    /// The same, durable.
    #[must_use]
    pub fn durable(self) -> Self {
        Self { durable: true, ..self }
    }

    /// Where a message goes that nothing here wants.
    #[must_use]
    pub fn alternate(&self) -> Option<&str> {
        let argument = self.arguments.get(ALTERNATE).and_then(Value::as_str);
        argument.or(self.policy_alternate.as_deref())
    }

    /// Whether a redeclaration means this exchange (research 1.2).
    ///
    /// # Errors
    /// The first property or argument that differs, in RabbitMQ's order.
    pub fn check_same(&self, received: &Self) -> Result<(), Inequivalent> {
        Inequivalent::check("type", received.kind.name(), self.kind.name())?;
        Inequivalent::check("durable", received.durable, self.durable)?;
        Inequivalent::check("auto_delete", received.auto_delete, self.auto_delete)?;
        Inequivalent::check("internal", received.internal, self.internal)?;
        [ALTERNATE, "x-delayed-type"].into_iter().try_for_each(|argument| {
            Inequivalent::check_argument(argument, &received.arguments, &self.arguments)
        })
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

impl Topology {
    /// A virtual host with the exchanges every virtual host has.
    #[must_use]
    pub fn new() -> Self {
        let mut topology = Self {
            exchanges: BTreeMap::new(),
            queues: HashMap::new(),
            incoming: HashMap::new(),
            bindings: 0,
            header_readers: 0,
        };
        for (name, routing, internal) in [
            ("", Routing::Direct, false),
            ("amq.direct", Routing::Direct, false),
            ("amq.fanout", Routing::Fanout, false),
            ("amq.headers", Routing::Headers, false),
            ("amq.match", Routing::Headers, false),
            ("amq.topic", Routing::Topic, false),
            ("amq.rabbitmq.trace", Routing::Topic, true),
        ] {
            topology.add(Exchange {
                name: name.into(),
                kind: Kind::plain(routing),
                durable: true,
                auto_delete: false,
                internal,
                arguments: Arguments::new(),
                policy_alternate: None,
            });
        }
        topology
    }

    /// `exchange.declare`: true if it is new, false if the same exists.
    ///
    /// # Errors
    /// A name that is not the client's to use, an exchange of that name that is not the same, too many.
    pub fn declare(&mut self, exchange: Exchange) -> Result<bool, DeclareError> {
        if exchange.name.is_empty() {
            return Err(DeclareError::DefaultExchange);
        }
        if let Some((current, _)) = self.exchanges.get(&exchange.name) {
            current.check_same(&exchange).map_err(DeclareError::Inequivalent)?;
            return Ok(false);
        }
        if exchange.name.starts_with(RESERVED) {
            return Err(DeclareError::ReservedName);
        }
        if self.exchanges.len() >= EXCHANGES_MAX {
            return Err(DeclareError::TooMany);
        }
        self.add(exchange);
        Ok(true)
    }

    /// `exchange.delete`; a missing exchange is no error.
    ///
    /// # Errors
    /// A predeclared exchange; with `unless_used`, one that is the source of a binding.
    pub fn delete(&mut self, name: &str, unless_used: bool) -> Result<Removed, DeleteError> {
        if name.is_empty() {
            return Err(DeleteError::DefaultExchange);
        }
        if name.starts_with(RESERVED) {
            return Err(DeleteError::SystemExchange);
        }
        match self.exchanges.get(name) {
            Some((_, table)) if unless_used && table.len() > 0 => Err(DeleteError::InUse),
            _ => Ok(self.remove_exchanges(vec![name.into()])),
        }
    }

    /// `queue.bind` and `exchange.bind`: true if it is new.
    ///
    /// # Errors
    /// A missing exchange at either end, the default exchange, arguments its type cannot use.
    pub fn bind(&mut self, binding: Binding) -> Result<bool, BindError> {
        let Binding { source, destination, key, arguments } = binding;
        Self::check_ends(&source, &destination)?;
        if let Destination::Exchange(name) = &destination
            && !self.exchanges.contains_key(name)
        {
            return Err(BindError::NoExchange((**name).into()));
        }
        if self.bindings >= BINDINGS_MAX {
            return Err(BindError::TooMany);
        }
        let missing = || BindError::NoExchange((*source).into());
        let (exchange, table) = self.exchanges.get_mut(&source).ok_or_else(missing)?;
        let fresh = table.insert(&key, &destination, &arguments)?;
        if fresh {
            self.bindings += 1;
            self.header_readers += usize::from(exchange.kind.reads_headers());
            self.incoming.entry(destination).or_default().insert((source, key));
        }
        Ok(fresh)
    }

    /// `queue.unbind` and `exchange.unbind`; a missing binding or exchange is no error.
    /// An auto-delete exchange goes with its last binding, and so on.
    ///
    /// # Errors
    /// The default exchange.
    pub fn unbind(&mut self, binding: &Binding) -> Result<Removed, BindError> {
        Self::check_ends(&binding.source, &binding.destination)?;
        let mut removed = Removed::default();
        let Some((exchange, table)) = self.exchanges.get_mut(&binding.source) else {
            return Ok(removed);
        };
        if !table.remove(&binding.key, &binding.destination, &binding.arguments) {
            return Ok(removed);
        }
        self.bindings -= 1;
        self.header_readers -= usize::from(exchange.kind.reads_headers());
        removed.bindings.push(binding.clone());
        let idle = exchange.auto_delete && table.len() == 0;
        if table.of(&binding.key, &binding.destination).is_empty() {
            self.forget_incoming(binding);
        }
        if idle {
            let more = self.remove_exchanges(vec![Arc::clone(&binding.source)]);
            removed.exchanges = more.exchanges;
            removed.bindings.extend(more.bindings);
        }
        Ok(removed)
    }

    /// Makes a queue reachable by its name; the default exchange routes to it.
    pub fn add_queue(&mut self, name: &str, queue: StreamId) {
        self.queues.insert(name.into(), queue);
    }

    /// Removes a queue with its bindings and the auto-delete exchanges that lose their last one.
    pub fn remove_queue(&mut self, name: &str) -> Removed {
        let Some(queue) = self.queues.remove(name) else { return Removed::default() };
        let mut removed = Removed::default();
        let idle = self.remove_incoming(&Destination::Queue(queue), &mut removed.bindings);
        let more = self.remove_exchanges(idle);
        removed.exchanges = more.exchanges;
        removed.bindings.extend(more.bindings);
        removed
    }

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<StreamId> {
        self.queues.get(name).copied()
    }

    /// The exchange of that name; `""` is the default exchange.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name).map(|(exchange, _)| exchange)
    }

    /// All exchanges in the order of their names, the default exchange first.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.values().map(|(exchange, _)| exchange)
    }

    /// The bindings an exchange is the source of, ordered by key and destination.
    #[must_use]
    pub fn bindings_from(&self, source: &str) -> Vec<Binding> {
        let Some((exchange, table)) = self.exchanges.get(source) else { return Vec::new() };
        let bindings = table.all().into_iter().map(|(key, destination, arguments)| Binding {
            source: Arc::clone(&exchange.name),
            destination: destination.clone(),
            key: key.into(),
            arguments: arguments.clone(),
        });
        bindings.collect()
    }

    /// The bindings that lead to a queue or exchange, ordered by source and key. The implicit
    /// binding of every queue to the default exchange is not among them.
    #[must_use]
    pub fn bindings_to(&self, destination: &Destination) -> Vec<Binding> {
        let Some(incoming) = self.incoming.get(destination) else { return Vec::new() };
        let mut found = Vec::new();
        for (source, key) in incoming {
            let Some((_, table)) = self.exchanges.get(source) else { continue };
            found.extend(table.of(key, destination).iter().map(|arguments| Binding {
                source: Arc::clone(source),
                destination: destination.clone(),
                key: key.clone(),
                arguments: arguments.clone(),
            }));
        }
        found
    }

    /// Whether any exchange with bindings may look at headers, so that they must be decoded.
    /// `CC` and `BCC` are the publisher's own business, see [`routing_keys`](super::routing_keys).
    #[must_use]
    pub const fn reads_headers(&self) -> bool {
        self.header_readers > 0
    }

    /// The alternate exchange that a policy gives, or no longer gives.
    pub fn set_policy_alternate(&mut self, exchange: &str, alternate: Option<ExchangeName>) {
        if let Some((exchange, _)) = self.exchanges.get_mut(exchange) {
            exchange.policy_alternate = alternate;
        }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&(Exchange, Table)> {
        self.exchanges.get(name)
    }

    fn add(&mut self, exchange: Exchange) {
        let table = Table::new(&exchange.kind.routing);
        self.exchanges.insert(Arc::clone(&exchange.name), (exchange, table));
    }

    fn check_ends(source: &str, destination: &Destination) -> Result<(), BindError> {
        let to_default = matches!(destination, Destination::Exchange(name) if name.is_empty());
        if source.is_empty() || to_default {
            return Err(BindError::DefaultExchange);
        }
        Ok(())
    }

    /// Removes exchanges and, in turn, those that lose their last binding by it.
    fn remove_exchanges(&mut self, mut names: Vec<ExchangeName>) -> Removed {
        let mut removed = Removed::default();
        while let Some(name) = names.pop() {
            let bindings = self.bindings_from(&name);
            let Some((exchange, _)) = self.exchanges.remove(&name) else { continue };
            let reads = usize::from(exchange.kind.reads_headers());
            self.header_readers -= reads * bindings.len();
            self.bindings -= bindings.len();
            bindings.iter().for_each(|binding| self.forget_incoming(binding));
            removed.bindings.extend(bindings);
            let own = Destination::Exchange(Arc::clone(&name));
            names.extend(self.remove_incoming(&own, &mut removed.bindings));
            removed.exchanges.push(name);
        }
        removed
    }

    /// Removes all bindings to a destination; returns the auto-delete exchanges left without any.
    fn remove_incoming(
        &mut self,
        destination: &Destination,
        removed: &mut Vec<Binding>,
    ) -> Vec<ExchangeName> {
        let bindings = self.bindings_to(destination);
        self.incoming.remove(destination);
        let mut idle = Vec::new();
        for binding in bindings {
            let Some((exchange, table)) = self.exchanges.get_mut(&binding.source) else { continue };
            table.remove(&binding.key, &binding.destination, &binding.arguments);
            self.bindings -= 1;
            self.header_readers -= usize::from(exchange.kind.reads_headers());
            if exchange.auto_delete && table.len() == 0 {
                idle.push(Arc::clone(&binding.source));
            }
            removed.push(binding);
        }
        idle
    }

    fn forget_incoming(&mut self, binding: &Binding) {
        let Some(incoming) = self.incoming.get_mut(&binding.destination) else { return };
        incoming.remove(&(Arc::clone(&binding.source), binding.key.clone()));
        if incoming.is_empty() {
            self.incoming.remove(&binding.destination);
        }
    }
}

const ALTERNATE: &str = "alternate-exchange";
const RESERVED: &str = "amq.";
/// Exchanges of one virtual host; one more is refused.
const EXCHANGES_MAX: usize = 100_000;
/// Bindings of one virtual host; one more is refused.
const BINDINGS_MAX: usize = 4_000_000;
