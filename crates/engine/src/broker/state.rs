//! What exists: virtual hosts with their exchanges, queues and policies; users. A replay of its facts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use ottla_store::{Lsn, StreamId};

use super::access::User;
use super::facts::{
    BindingImage, BrokerFact, BrokerImage, ExchangeImage, LimitsImage, PermissionImage,
    PolicyImage, QueueImage, VhostAbout, VhostImage,
};
use super::message::Message;
use super::queue::{NodeRules, Queue};
use super::stream::{TOPIC, bounds};
use crate::clock::Now;
use crate::exchange::{Destination, ExchangeName, Removed, Topology};
use crate::queue::{QueueType, Rules};
use crate::value::Value;
use crate::vhost::{ApplyTo, Pattern, Permissions, Policy, Target};

/// Everything that exists, transient things included.
#[derive(Debug)]
pub(super) struct State {
    pub(super) vhosts: BTreeMap<Arc<str>, Vhost>,
    pub(super) users: BTreeMap<Arc<str>, User>,
    pub(super) queues: HashMap<StreamId, Arc<Queue>>,
    /// The place of the newest fact.
    pub(super) changed: Lsn,
}

/// A virtual host.
#[derive(Debug)]
pub(super) struct Vhost {
    pub(super) name: Arc<str>,
    pub(super) topology: Topology,
    pub(super) queues: BTreeMap<Arc<str>, Arc<Queue>>,
    pub(super) policies: BTreeMap<String, Policy>,
    /// What its `x-recent-history` exchanges remember.
    pub(super) history: Mutex<HashMap<Arc<str>, VecDeque<Arc<Message>>>>,
    /// Policies that clients and their policies cannot get around.
    pub(super) operators: BTreeMap<String, Policy>,
    pub(super) about: VhostAbout,
    pub(super) limits: LimitsImage,
}

impl Default for State {
    /// The virtual host `/` and the user `guest`, which every new broker has.
    fn default() -> Self {
        let mut guest = User::guest();
        if let Ok(all) = Permissions::new(".*", ".*", ".*") {
            guest.permissions.insert("/".into(), all);
        }
        Self {
            vhosts: [("/".into(), Vhost::new("/"))].into_iter().collect(),
            users: [("guest".into(), guest)].into_iter().collect(),
            queues: HashMap::new(),
            changed: Lsn::ZERO,
        }
    }
}

impl Vhost {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            topology: Topology::new(),
            queues: BTreeMap::new(),
            policies: BTreeMap::new(),
            history: Mutex::default(),
            operators: BTreeMap::new(),
            about: VhostAbout::default(),
            limits: LimitsImage::default(),
        }
    }

    /// The type of a queue whose declaration does not say.
    pub(super) fn default_queue_type(&self) -> QueueType {
        let known = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
        let word = self.about.default_queue_type.as_deref();
        known.into_iter().find(|known| Some(known.as_str()) == word).unwrap_or_default()
    }

    /// Whether both ends of a binding survive a restart.
    pub(super) fn is_durable(&self, binding: &crate::exchange::Binding) -> bool {
        let durable = |name: &str| self.topology.exchange(name).is_some_and(|found| found.durable);
        durable(&binding.source)
            && match &binding.destination {
                Destination::Exchange(name) => durable(name),
                Destination::Queue(id) => {
                    self.queues.values().any(|queue| queue.id == *id && queue.is_logged())
                }
            }
    }

    /// A queue with what its arguments and the policies make of it.
    pub(super) fn rules(&self, queue: &Queue) -> Rules {
        let own = Rules::of_arguments(queue.declaration.queue_type, &queue.declaration.arguments);
        let own = own.unwrap_or_default(); // judged when it was declared
        match (self.policy_rules(queue), self.effective(queue)) {
            (Some(rules), [None, Some(_)]) => own.below(rules),
            (Some(rules), _) => own.under(rules),
            (None, _) => own,
        }
    }

    /// What the policy and the operator policy that hold for a queue say together.
    fn policy_rules(&self, queue: &Queue) -> Option<Rules> {
        let [policy, operator] = self
            .effective(queue)
            .map(|policy| policy.and_then(|policy| Rules::of_policy(&policy.definition).ok()));
        match (policy, operator) {
            (Some(policy), Some(operator)) => Some(policy.below(operator)),
            (one, other) => one.or(other),
        }
    }

    /// The policy and the operator policy that hold for a queue.
    pub(super) fn effective(&self, queue: &Queue) -> [Option<&Policy>; 2] {
        let target = Target::Queue(queue.declaration.queue_type);
        [&self.policies, &self.operators]
            .map(|policies| Policy::effective(policies.values(), target, &queue.name))
    }

    fn image(&self) -> VhostImage {
        let exchanges: Vec<_> = self.topology.exchanges().filter(|known| known.durable).collect();
        let bindings = exchanges.iter().flat_map(|known| self.topology.bindings_from(&known.name));
        let own = exchanges.iter().filter(|known| !is_predeclared(&known.name));
        let queues = self.queues.values().filter(|queue| queue.is_logged());
        VhostImage {
            name: self.name.to_string(),
            exchanges: own.map(|exchange| ExchangeImage::of(exchange)).collect(),
            queues: queues
                .map(|queue| QueueImage::of(queue.id.0, &queue.name, &queue.declaration))
                .collect(),
            bindings: bindings
                .filter(|binding| self.is_durable(binding))
                .map(|binding| BindingImage::of(&binding))
                .collect(),
            policies: self.policies.values().map(PolicyImage::of).collect(),
        }
    }
}

impl State {
    /// What a snapshot remembers.
    pub(super) fn restore(image: BrokerImage, changed: Lsn) -> Self {
        let mut state = Self {
            vhosts: BTreeMap::new(),
            users: BTreeMap::new(),
            queues: HashMap::new(),
            changed: Lsn::ZERO,
        };
        for user in image.users {
            state.change(BrokerFact::UserSet(user), changed);
        }
        for vhost in image.vhosts {
            let name = vhost.name;
            state.change(BrokerFact::VhostCreated { name: name.clone() }, changed);
            let of = || name.clone();
            let policies = vhost.policies.into_iter();
            let policies = policies.map(|policy| BrokerFact::PolicySet { vhost: of(), policy });
            let exchanges = vhost
                .exchanges
                .into_iter()
                .map(|exchange| BrokerFact::ExchangeDeclared { vhost: of(), exchange });
            let queues = vhost.queues.into_iter();
            let queues = queues.map(|queue| BrokerFact::QueueDeclared { vhost: of(), queue });
            let bindings = vhost.bindings.into_iter();
            let bindings = bindings.map(|binding| BrokerFact::Bound { vhost: of(), binding });
            let facts: Vec<_> = policies.chain(exchanges).chain(queues).chain(bindings).collect();
            facts.into_iter().for_each(|fact| state.change(fact, changed));
        }
        for (user, vhost, permission) in image.permissions {
            state.change(BrokerFact::PermissionSet { user, vhost, permission }, changed);
        }
        state.changed = changed;
        state
    }

    /// What a snapshot must remember.
    pub(super) fn image(&self) -> BrokerImage {
        let permissions = self.users.iter().flat_map(|(user, known)| {
            known.permissions.iter().map(|(vhost, permission)| {
                (user.to_string(), vhost.to_string(), PermissionImage::of(permission))
            })
        });
        BrokerImage {
            users: self.users.values().map(|user| user.image.clone()).collect(),
            permissions: permissions.collect(),
            vhosts: self.vhosts.values().map(Vhost::image).collect(),
        }
    }

    /// Applies a fact that has its place in the log, unless it is already contained.
    pub(super) fn apply(&mut self, lsn: Lsn, fact: BrokerFact) {
        if lsn <= self.changed {
            return;
        }
        self.changed = lsn;
        self.change(fact, lsn);
    }

    pub(super) fn change(&mut self, fact: BrokerFact, lsn: Lsn) {
        match fact {
            BrokerFact::VhostCreated { name } => {
                let vhost = Vhost::new(&name);
                self.vhosts.entry(name.into()).or_insert(vhost);
            }
            BrokerFact::VhostDeleted { name } => self.remove_vhost(&name),
            BrokerFact::UserSet(image) => {
                let name: Arc<str> = image.name.as_str().into();
                self.define_user(name, User::new(image));
            }
            BrokerFact::UserDefined { user, secret } => {
                let name: Arc<str> = user.name.as_str().into();
                self.define_user(name, User { secret, ..User::new(user) });
            }
            BrokerFact::UserLimited { name, limits } => {
                if let Some(user) = self.users.get_mut(name.as_str()) {
                    user.limits = limits;
                }
            }
            BrokerFact::TopicPermissionSet { user, vhost, exchange, permission } => {
                if let Some(user) = self.users.get_mut(user.as_str()) {
                    user.set_topics(vhost.into(), exchange.into(), permission);
                }
            }
            BrokerFact::TopicPermissionDeleted { user, vhost, exchange } => {
                if let Some(user) = self.users.get_mut(user.as_str()) {
                    user.forget_topics(&vhost, exchange.as_deref());
                }
            }
            BrokerFact::UserDeleted { name } => {
                self.users.remove(name.as_str());
            }
            BrokerFact::PermissionSet { user, vhost, permission } => {
                if let Some(user) = self.users.get_mut(user.as_str())
                    && let Some(permissions) = permission.permissions()
                {
                    user.permissions.insert(vhost.into(), permissions);
                }
            }
            BrokerFact::PermissionDeleted { user, vhost } => {
                if let Some(user) = self.users.get_mut(user.as_str()) {
                    user.permissions.remove(vhost.as_str());
                }
            }
            BrokerFact::QueueDeclared { vhost, queue } => {
                let declaration = queue.declaration();
                let id = StreamId(queue.stream);
                let queue = Queue::new(id, &queue.name, &vhost, declaration, None, lsn);
                // the rules of the node come when the broker starts
                self.add_queue(Arc::new(queue), NodeRules::default(), Now::default());
            }
            BrokerFact::QueueDeleted { vhost, name } => {
                self.remove_queue(&vhost, &name);
            }
            BrokerFact::Counted { .. } | BrokerFact::Delivered { .. } => {}
            other => self.change_vhost(other),
        }
    }

    fn change_vhost(&mut self, fact: BrokerFact) {
        let (BrokerFact::ExchangeDeclared { vhost, .. }
        | BrokerFact::ExchangeDeleted { vhost, .. }
        | BrokerFact::Bound { vhost, .. }
        | BrokerFact::Unbound { vhost, .. }
        | BrokerFact::PolicySet { vhost, .. }
        | BrokerFact::PolicyDeleted { vhost, .. }
        | BrokerFact::OperatorPolicySet { vhost, .. }
        | BrokerFact::OperatorPolicyDeleted { vhost, .. }
        | BrokerFact::VhostDescribed { name: vhost, .. }
        | BrokerFact::VhostLimited { name: vhost, .. }) = &fact
        else {
            return;
        };
        let Some(vhost) = self.vhosts.get_mut(vhost.as_str()) else { return };
        // a fact was judged before it was logged: what fails now is already so
        match fact {
            BrokerFact::ExchangeDeclared { exchange, .. } => {
                if let Some(exchange) = exchange.exchange() {
                    let name = Arc::clone(&exchange.name);
                    vhost.topology.declare(exchange).ok();
                    vhost.apply_policy(&name);
                }
            }
            BrokerFact::ExchangeDeleted { name, .. } => {
                vhost.topology.delete(&name, false).ok();
            }
            BrokerFact::Bound { binding, .. } => {
                binding.binding().map(|binding| vhost.topology.bind(binding).ok());
            }
            BrokerFact::Unbound { binding, .. } => {
                binding.binding().map(|binding| vhost.topology.unbind(&binding).ok());
            }
            BrokerFact::PolicySet { policy, .. } => vhost.set_policy(policy),
            BrokerFact::PolicyDeleted { name, .. } => {
                vhost.policies.remove(&name);
                vhost.apply_policies();
            }
            BrokerFact::OperatorPolicySet { policy, .. } => {
                if let Some(policy) = policy.policy() {
                    vhost.operators.insert(policy.name.to_string(), policy);
                    vhost.apply_policies();
                }
            }
            BrokerFact::OperatorPolicyDeleted { name, .. } => {
                vhost.operators.remove(&name);
                vhost.apply_policies();
            }
            BrokerFact::VhostDescribed { about, .. } => vhost.about = about,
            BrokerFact::VhostLimited { limits, .. } => vhost.limits = limits,
            _ => {}
        }
    }

    /// A user that was known keeps what it may do.
    fn define_user(&mut self, name: Arc<str>, user: User) {
        let user = match self.users.remove(&name) {
            Some(known) => User { image: user.image, secret: user.secret, ..known },
            None => user,
        };
        self.users.insert(name, user);
    }

    /// Makes a queue exist.
    pub(super) fn add_queue(&mut self, queue: Arc<Queue>, node: NodeRules, now: Now) {
        let Some(vhost) = self.vhosts.get_mut(&queue.vhost) else { return };
        let rules = vhost.rules(&queue);
        queue.start(rules, node, now);
        vhost.bound_stream(&queue);
        vhost.topology.add_queue(&queue.name, queue.id);
        vhost.queues.insert(Arc::clone(&queue.name), Arc::clone(&queue));
        self.queues.insert(queue.id, queue);
    }

    /// Takes a queue out, with its bindings; returns the exchanges that went along.
    pub(super) fn remove_queue(&mut self, vhost: &str, name: &str) -> Option<Removed> {
        let vhost = self.vhosts.get_mut(vhost)?;
        let queue = vhost.queues.remove(name)?;
        self.queues.remove(&queue.id);
        Some(vhost.topology.remove_queue(name))
    }

    fn remove_vhost(&mut self, name: &str) {
        let Some(vhost) = self.vhosts.remove(name) else { return };
        for queue in vhost.queues.values() {
            self.queues.remove(&queue.id);
        }
        for user in self.users.values_mut() {
            user.permissions.remove(name);
            user.forget_topics(name, None);
        }
    }
}

impl Vhost {
    fn set_policy(&mut self, image: PolicyImage) {
        if let Some(policy) = image.policy() {
            self.policies.insert(policy.name.to_string(), policy);
            self.apply_policies();
        }
    }

    /// Policies changed: exchanges get their alternates and queues their rules.
    fn apply_policies(&mut self) {
        let exchanges = self.topology.exchanges().map(|exchange| Arc::clone(&exchange.name));
        let names: Vec<ExchangeName> = exchanges.collect();
        for name in names {
            self.apply_policy(&name);
        }
        for queue in self.queues.values() {
            queue.set_rules(self.rules(queue));
            self.bound_stream(queue);
        }
    }

    /// Gives a stream's own topic the bounds that policies say.
    pub(super) fn bound_stream(&self, queue: &Queue) {
        let own = queue.declaration.arguments.get(TOPIC).is_none();
        if let Some(view) = queue.view().filter(|_| own) {
            view.topic
                .bound(self.policy_rules(queue).map(|rules| bounds(&rules)).unwrap_or_default());
        }
    }

    /// Gives an exchange the alternate that policies say.
    pub(super) fn apply_policy(&mut self, exchange: &str) {
        let policy = Policy::effective(self.policies.values(), Target::Exchange, exchange);
        let alternate = policy.and_then(|policy| policy.definition.get("alternate-exchange"));
        let alternate = alternate.and_then(Value::as_str).map(ExchangeName::from);
        self.topology.set_policy_alternate(exchange, alternate);
    }
}

impl PolicyImage {
    pub(super) fn of(policy: &Policy) -> Self {
        Self {
            name: policy.name.to_string(),
            pattern: policy.pattern.as_str().to_owned(),
            apply_to: policy.apply_to.as_str().to_owned(),
            priority: policy.priority,
            definition: policy.definition.clone(),
        }
    }

    /// `None` if it cannot be understood.
    pub(super) fn policy(self) -> Option<Policy> {
        Some(Policy {
            name: self.name.into(),
            pattern: Pattern::new(&self.pattern).ok()?,
            apply_to: ApplyTo::parse(&self.apply_to)?,
            priority: self.priority,
            definition: self.definition,
        })
    }
}

impl PermissionImage {
    pub(super) fn of(permissions: &Permissions) -> Self {
        let [configure, write, read] = permissions.patterns().map(str::to_owned);
        Self { configure, write, read }
    }

    /// `None` if it cannot be understood.
    pub(super) fn permissions(&self) -> Option<Permissions> {
        Permissions::new(&self.configure, &self.write, &self.read).ok()
    }
}

/// Exchanges that every virtual host has from its beginning.
fn is_predeclared(name: &str) -> bool {
    name.is_empty() || name.starts_with("amq.")
}
