//! A service: what it listens to, and how it runs, drains and stops.

mod breaker;
mod health;
mod lanes;
mod runner;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::address::Address;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::handler::{Extensions, Handler, IntoHandler, Layer};
use crate::policy::Policy;

pub use self::health::{Condition, Health, SourceHealth};
use self::runner::{Route, Runner};

/// A service: a name, under which its instances share their work, and handlers.
///
/// ```no_run
/// use ottla::{Connection, Failure, Message, Service, handler::Msg, signals};
///
/// #[derive(serde::Serialize, serde::Deserialize, Message)]
/// #[message(name = "order.paid", key = "order_id")]
/// struct OrderPaid { order_id: String }
///
/// async fn on_paid(Msg(paid): Msg<OrderPaid>) -> Result<(), Failure> {
///     println!("shipping {}", paid.order_id);
///     Ok(())
/// }
///
/// # #[tokio::main] async fn main() -> ottla::Result<()> {
/// let connection = Connection::open("ottla://embedded?data=./data").await?;
/// Service::new("shipping", &connection).on("orders", on_paid).run(signals()).await
/// # }
/// ```
pub struct Service {
    name: String,
    connection: Connection,
    sources: BTreeMap<Address, Source>,
    layers: Vec<Arc<dyn Layer>>,
    state: Extensions,
    health: Health,
    #[cfg(feature = "schemas")]
    contracts: Option<crate::schema::Contracts>,
}

/// What is listened to.
struct Source {
    handlers: Vec<Arc<dyn Handler>>,
    policy: Policy,
}

impl Service {
    /// A service. Its name is its group: instances of the same name share the messages.
    pub fn new(name: impl Into<String>, connection: &Connection) -> Self {
        let name = name.into();
        let health = Health::new(&name, connection);
        Self {
            name,
            connection: connection.clone(),
            sources: BTreeMap::new(),
            layers: Vec::new(),
            state: Extensions::default(),
            health,
            #[cfg(feature = "schemas")]
            contracts: None,
        }
    }

    /// The schemas of its messages. [`run`](Self::run) begins by holding them against the registry; handlers then
    /// read and emit bodies as they say.
    #[cfg(feature = "schemas")]
    #[must_use]
    pub fn contracts(mut self, contracts: crate::schema::Contracts) -> Self {
        self.contracts = Some(contracts);
        self
    }

    /// Listens. Several handlers of one source each take the messages of their name; what no handler is
    /// there for is acknowledged and left alone.
    #[must_use]
    pub fn on<Args>(self, source: impl Into<Address>, handler: impl IntoHandler<Args>) -> Self {
        self.listen(source.into(), None, Arc::new(handler.into_handler()))
    }

    /// Listens, under a policy of its own. It holds for all handlers of the source.
    #[must_use]
    pub fn on_with<Args>(
        self,
        source: impl Into<Address>,
        policy: Policy,
        handler: impl IntoHandler<Args>,
    ) -> Self {
        self.listen(source.into(), Some(policy), Arc::new(handler.into_handler()))
    }

    fn listen(mut self, at: Address, policy: Option<Policy>, handler: Arc<dyn Handler>) -> Self {
        let new = || Source { handlers: Vec::new(), policy: Policy::default() };
        let source = self.sources.entry(at).or_insert_with(new);
        source.handlers.push(handler);
        if let Some(policy) = policy {
            source.policy = policy;
        }
        self
    }

    /// Surrounds every handler; what was added first is outermost.
    #[must_use]
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Something that handlers can ask for as [`State`](crate::handler::State).
    #[must_use]
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> Self {
        self.state.insert(state);
        self
    }

    /// How the service is doing: keep it before it runs.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// What it listens to, and the names of the messages it takes there.
    pub fn listens(&self) -> impl Iterator<Item = (&Address, Vec<&'static str>)> {
        self.sources.iter().map(|(address, source)| {
            (address, source.handlers.iter().filter_map(|handler| handler.listens_to()).collect())
        })
    }

    /// Runs until `stop` resolves, then drains: takes nothing more, lets handlers finish, gives back what
    /// has not begun, commits, leaves.
    ///
    /// # Errors
    /// A source could not be subscribed to, or broke. What was in flight was given back. With contracts also what the
    /// registry does not agree to.
    pub async fn run(
        #[cfg_attr(not(feature = "schemas"), expect(unused_mut, reason = "contracts"))] mut self,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        #[cfg(feature = "schemas")]
        if let Some(contracts) = self.contracts.take() {
            self.state.insert(contracts.agree().await?); // before anything is read or published
        }
        let (stopping, stopped) = tokio::sync::watch::channel(false);
        let mut running = tokio::task::JoinSet::new();
        for (address, source) in self.sources {
            let route = Route {
                source: address.clone(),
                group: self.name.clone(),
                policy: source.policy,
                handlers: source.handlers,
                layers: self.layers.clone(),
                state: self.state.clone(),
                health: self.health.source(&address),
            };
            let runner = Runner::open(&self.connection, route).await?;
            running.spawn(runner.run(stopped.clone()));
        }
        tracing::info!(service = self.name, sources = running.len(), "running");
        let mut outcome = Ok(());
        tokio::select! {
            () = stop => {}
            Some(ended) = running.join_next() => outcome = flat(ended), // a source broke: the others stop in order
        }
        tracing::info!(service = self.name, "draining");
        stopping.send(true).ok();
        while let Some(ended) = running.join_next().await {
            outcome = outcome.and(flat(ended));
        }
        tracing::info!(service = self.name, "stopped");
        outcome
    }
}

fn flat(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| Err(Error::refused("running the service", error)))
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<&Address> = self.sources.keys().collect();
        f.debug_struct("Service").field("name", &self.name).field("sources", &sources).finish()
    }
}

/// Resolves when the process is asked to end: by SIGINT or, on Unix, SIGTERM.
pub async fn signals() {
    #[cfg(unix)]
    if let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        return;
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
