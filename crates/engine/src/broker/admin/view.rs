//! Everything that exists and how full it is, for those who look.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::connection::{ChannelCard, Connection};
use crate::broker::queue::Queue;
use crate::broker::state::{State, Vhost};
use crate::broker::traffic::Measured;
use crate::exchange::{Binding, Destination};
use crate::queue::{ChannelKey, Counts, QueueType};
use crate::value::Arguments;
use crate::vhost::{Policy, Target};

/// A queue.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// Its name.
    pub name: Arc<str>,
    /// Where.
    pub vhost: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// For one connection only.
    pub exclusive: bool,
    /// Gone with its last consumer.
    pub auto_delete: bool,
    /// Its type.
    pub queue_type: QueueType,
    /// As declared.
    pub arguments: Arguments,
    /// How full it is.
    pub counts: Counts,
    /// The policy that holds.
    pub policy: Option<Box<str>>,
    /// The operator policy that holds.
    pub operator_policy: Option<Box<str>>,
    /// What both say together.
    pub effective: Arguments,
    /// What passed through.
    pub measured: Measured,
    /// The one consumer that gets messages, where there is only one.
    pub active_consumer: Option<Arc<str>>,
    /// The connection it belongs to, if it is exclusive.
    pub owner: Option<OwnerView>,
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct ExchangeView {
    /// Its name; empty for the default exchange.
    pub name: Arc<str>,
    /// Where.
    pub vhost: Arc<str>,
    /// Its type's name on the wire.
    pub kind: &'static str,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding as a source.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: Arguments,
    /// The policy that holds.
    pub policy: Option<Box<str>>,
}

/// A binding, by names.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingView {
    /// Where.
    pub vhost: Arc<str>,
    /// An exchange; empty for the default exchange.
    pub source: Arc<str>,
    /// A queue or an exchange.
    pub destination: Arc<str>,
    /// Which of them.
    pub to_queue: bool,
    /// The key.
    pub key: Box<str>,
    /// As they came.
    pub arguments: Arguments,
}

/// Whose channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// The connection's name.
    pub connection: String,
    /// The channel's number.
    pub number: u16,
    /// The user.
    pub user: String,
    /// The client's address.
    pub peer_host: String,
    /// The client's port.
    pub peer_port: u16,
}

/// A consumer.
#[derive(Clone, Debug)]
pub struct ConsumerView {
    /// Unique on its channel.
    pub tag: Arc<str>,
    /// Of which queue.
    pub queue: Arc<str>,
    /// Where.
    pub vhost: Arc<str>,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Settled by being delivered.
    pub no_ack: bool,
    /// 0 for no limit.
    pub prefetch: u32,
    /// Whether it is its turn, where only one may.
    pub active: bool,
    /// As they came.
    pub arguments: Arguments,
    /// Whose; absent for one of our own.
    pub owner: Option<OwnerView>,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct ChannelView {
    /// Its connection.
    pub connection: Arc<Connection>,
    /// What it shows.
    pub card: Arc<ChannelCard>,
    /// How many consumers it has.
    pub consumers: u64,
    /// Messages it holds.
    pub unacked: u64,
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Clients that are connected.
    pub connections: u64,
    /// Their channels.
    pub channels: u64,
    /// Consumers.
    pub consumers: u64,
    /// Queues.
    pub queues: u64,
    /// Exchanges.
    pub exchanges: u64,
    /// Messages that are ready.
    pub ready: u64,
    /// Messages that channels hold.
    pub unacked: u64,
    /// Bytes of the bodies of those that are ready.
    pub ready_bytes: u64,
}

type Owners = HashMap<ChannelKey, (Arc<Connection>, Arc<ChannelCard>)>;

impl Broker {
    /// The queues of a virtual host, or of all, by name.
    #[must_use]
    pub fn queue_views(&self, vhost: Option<&str>) -> Vec<QueueView> {
        let state = self.state();
        let vhosts = of_vhost(&state, vhost);
        vhosts
            .flat_map(|vhost| vhost.queues.values().map(|queue| self.view(vhost, queue)))
            .collect()
    }

    /// One queue.
    #[must_use]
    pub fn queue_view(&self, vhost: &str, name: &str) -> Option<QueueView> {
        let state = self.state();
        let vhost = state.vhosts.get(vhost)?;
        vhost.queues.get(name).map(|queue| self.view(vhost, queue))
    }

    fn view(&self, vhost: &Vhost, queue: &Arc<Queue>) -> QueueView {
        let [policy, operator] = vhost.effective(queue);
        let mut effective = policy.map(|policy| policy.definition.clone()).unwrap_or_default();
        for (key, value) in operator.iter().flat_map(|operator| operator.definition.iter()) {
            let smaller = effective.get(key).and_then(|own| own.as_int()).zip(value.as_int());
            if smaller.is_none_or(|(own, operator)| operator < own) {
                effective.set(key, value.clone());
            }
        }
        let counts = queue.counts(&self.store);
        let now = self.clock.now().monotonic;
        let (active_consumer, measured) = {
            let mut state = queue.lock();
            let measured = state.traffic.as_mut().map(|meter| meter.read(now));
            let active = state.machine.active_consumer();
            let tag = active.and_then(|id| state.consumers.get(&id)).map(|c| Arc::clone(&c.tag));
            (tag, measured.unwrap_or_default())
        };
        let single = counts.consumers > 0;
        QueueView {
            name: Arc::clone(&queue.name),
            vhost: Arc::clone(&vhost.name),
            durable: queue.declaration.durable,
            exclusive: queue.declaration.exclusive,
            auto_delete: queue.declaration.auto_delete,
            queue_type: queue.declaration.queue_type,
            arguments: queue.declaration.arguments.clone(),
            counts,
            policy: policy.map(|policy| policy.name.clone()),
            operator_policy: operator.map(|policy| policy.name.clone()),
            effective,
            measured,
            active_consumer: active_consumer.filter(|_| single),
            owner: queue.owner.and_then(|id| self.connections().get(&id).map(|c| owner(c, 0))),
        }
    }

    /// The exchanges of a virtual host, or of all, by name.
    #[must_use]
    pub fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeView> {
        let state = self.state();
        let exchanges = of_vhost(&state, vhost).flat_map(|vhost| {
            vhost.topology.exchanges().map(|exchange| {
                let policies = vhost.policies.values();
                let policy = Policy::effective(policies, Target::Exchange, &exchange.name);
                ExchangeView {
                    name: Arc::clone(&exchange.name),
                    vhost: Arc::clone(&vhost.name),
                    kind: exchange.kind.name(),
                    durable: exchange.durable,
                    auto_delete: exchange.auto_delete,
                    internal: exchange.internal,
                    arguments: exchange.arguments.clone(),
                    policy: policy.map(|policy| policy.name.clone()),
                }
            })
        });
        exchanges.collect()
    }

    /// The bindings of a virtual host, or of all, with those that every queue has to the default exchange.
    #[must_use]
    pub fn bindings(&self, vhost: Option<&str>) -> Vec<BindingView> {
        let state = self.state();
        let mut found = Vec::new();
        for vhost in of_vhost(&state, vhost) {
            found.extend(vhost.queues.keys().map(|name| BindingView {
                vhost: Arc::clone(&vhost.name),
                source: "".into(),
                destination: Arc::clone(name),
                to_queue: true,
                key: (**name).into(),
                arguments: Arguments::new(),
            }));
            let sources = vhost.topology.exchanges();
            let bindings = sources.flat_map(|source| vhost.topology.bindings_from(&source.name));
            found.extend(bindings.filter_map(|binding| binding_view(&state, vhost, binding)));
        }
        found
    }

    /// All consumers; of one virtual host, of one queue of it.
    #[must_use]
    pub fn consumers(&self, vhost: Option<&str>, queue: Option<&str>) -> Vec<ConsumerView> {
        let owners = self.owners();
        let mut found = Vec::new();
        for queue in self.all_queues(vhost, queue) {
            let state = queue.lock();
            let single = state.machine.settings().single_active;
            let active = state.machine.active_consumer();
            found.extend(state.consumers.iter().map(|(id, consumer)| ConsumerView {
                tag: Arc::clone(&consumer.tag),
                queue: Arc::clone(&queue.name),
                vhost: Arc::clone(&queue.vhost),
                exclusive: consumer.exclusive,
                no_ack: consumer.no_ack,
                prefetch: consumer.prefetch,
                active: !single || active == Some(*id),
                arguments: consumer.arguments.clone(),
                owner: owners.get(&consumer.channel).map(|(of, card)| owner(of, card.number)),
            }));
        }
        found.sort_by(|a, b| (&a.vhost, &a.queue, &a.tag).cmp(&(&b.vhost, &b.queue, &b.tag)));
        found
    }

    /// All channels of clients.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelView> {
        let (mut consumers, mut held) = (HashMap::new(), HashMap::new());
        for queue in self.all_queues(None, None) {
            let state = queue.lock();
            for consumer in state.consumers.values() {
                *consumers.entry(consumer.channel).or_insert(0_u64) += 1;
            }
            for (channel, count) in state.machine.held() {
                *held.entry(channel).or_insert(0_u64) += count;
            }
        }
        let mut found = Vec::new();
        for connection in self.clients() {
            found.extend(connection.cards().into_iter().map(|(key, card)| ChannelView {
                connection: Arc::clone(&connection),
                card,
                consumers: consumers.get(&key).copied().unwrap_or(0),
                unacked: held.get(&key).copied().unwrap_or(0),
            }));
        }
        found
    }

    /// What passed through all queues, those that are gone included; `published` is what clients published,
    /// however many queues it went to.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let now = self.clock.now().monotonic;
        let mut measured = Measured::default();
        let queues = self.all_queues(None, None);
        let mut gone = self.gone(); // no queue goes while all are read: each is counted once
        for queue in queues {
            if let Some(meter) = &mut queue.lock().traffic {
                measured = measured.plus(meter.read(now));
            }
        }
        let publishing = gone.0.read(now);
        measured = measured.plus(gone.1);
        measured.totals.published = publishing.totals.published;
        measured.rates.published = publishing.rates.published;
        measured
    }

    /// How much of everything there is.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let clients = self.clients();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut totals = Totals {
            connections: count(clients.len()),
            channels: clients.iter().map(|client| count(client.cards().len())).sum(),
            ..Totals::default()
        };
        let state = self.state();
        for vhost in state.vhosts.values() {
            totals.exchanges += count(vhost.topology.exchanges().count());
            totals.queues += count(vhost.queues.len());
            for queue in vhost.queues.values() {
                let counts = queue.counts(&self.store);
                totals.consumers += counts.consumers;
                totals.ready += counts.ready;
                totals.unacked += counts.unacked;
                totals.ready_bytes += counts.ready_bytes;
            }
        }
        totals
    }

    fn all_queues(&self, vhost: Option<&str>, name: Option<&str>) -> Vec<Arc<Queue>> {
        let state = self.state();
        let queues = of_vhost(&state, vhost).flat_map(|vhost| vhost.queues.values());
        queues.filter(|queue| name.is_none_or(|name| *queue.name == *name)).cloned().collect()
    }

    fn owners(&self) -> Owners {
        let mut owners = Owners::new();
        for connection in self.clients() {
            let own = connection.cards().into_iter();
            owners.extend(own.map(|(key, card)| (key, (Arc::clone(&connection), card))));
        }
        owners
    }
}

fn of_vhost<'a>(state: &'a State, name: Option<&'a str>) -> impl Iterator<Item = &'a Vhost> {
    let vhosts = state.vhosts.values();
    vhosts.filter(move |vhost| name.is_none_or(|name| *vhost.name == *name))
}

fn owner(connection: &Connection, number: u16) -> OwnerView {
    let client = connection.client();
    let name = client.map(|client| client.name.clone()).unwrap_or_default();
    OwnerView {
        connection: name,
        number,
        user: connection.user().to_owned(),
        peer_host: client.map(|client| client.peer_host.clone()).unwrap_or_default(),
        peer_port: client.map_or(0, |client| client.peer_port),
    }
}

fn binding_view(state: &State, vhost: &Vhost, binding: Binding) -> Option<BindingView> {
    let (destination, to_queue) = match &binding.destination {
        Destination::Exchange(name) => (Arc::clone(name), false),
        Destination::Queue(id) => (Arc::clone(&state.queues.get(id)?.name), true),
    };
    Some(BindingView {
        vhost: Arc::clone(&vhost.name),
        source: binding.source,
        destination,
        to_queue,
        key: binding.key,
        arguments: binding.arguments,
    })
}
