//! The front door for RabbitMQ clients.

mod arguments;
mod channel;
mod codes;
mod driver;
mod handlers;
mod lobby;
mod login;
mod outgoing;
mod session;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_amqp_proto::{Settings, Table, server_capabilities};
use ottla_engine::Engine;
use ottla_engine::broker::Broker;
use tokio::net::TcpListener;

use self::lobby::Lobby;
use crate::config::Config;
use crate::release::Release;
use crate::shutdown::Shutdown;

/// What all connections of this door share.
#[derive(Debug)]
pub(crate) struct Context {
    engine: Arc<Engine>,
    release: Arc<Release>,
    settings: Arc<Settings>,
    /// Whom the mechanism ANONYMOUS means, if it is offered.
    anonymous: Option<Arc<str>>,
    lobby: Arc<Lobby>,
}

impl Context {
    pub(crate) fn new(config: &Config, engine: Arc<Engine>, release: Arc<Release>) -> Self {
        // Clients look for this product and compare the version to know what they may use.
        let properties = Table::new()
            .with("capabilities", server_capabilities())
            .with("cluster_name", "ottla@localhost")
            .with("copyright", "")
            .with("information", "Ottla: RabbitMQ's clients and Kafka's on one durable log")
            .with("platform", concat!("Ottla ", env!("CARGO_PKG_VERSION")))
            .with("product", "RabbitMQ")
            .with("version", config.amqp_version.clone());
        let mechanisms: &[u8] = match config.anonymous {
            Some(_) => b"PLAIN AMQPLAIN ANONYMOUS",
            None => b"PLAIN AMQPLAIN",
        };
        let settings = Settings {
            mechanisms: bytes::Bytes::from_static(mechanisms),
            server_properties: properties.encode().unwrap_or_default(),
            ..Settings::default()
        };
        let anonymous = config.anonymous.as_deref().map(Arc::from);
        let lobby = Arc::new(Lobby::new(LOBBY_MAX));
        Self { engine, release, settings: Arc::new(settings), anonymous, lobby }
    }

    fn broker(&self) -> &Broker {
        self.engine.broker()
    }

    /// The machines' time: since the engine was opened.
    fn now(&self) -> Duration {
        Duration::from_millis(self.engine.now().monotonic.0)
    }
}

/// Accepts connections until the server stops.
pub(crate) async fn listen(listener: TcpListener, context: Arc<Context>, shutdown: Shutdown) {
    let mut stopping = shutdown.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.told() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                let context = Arc::clone(&context);
                let ends = (remote, stream.local_addr().ok());
                tokio::spawn(driver::drive(stream, context, ends, shutdown.subscribe()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an AMQP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await; // no file handles: let some close
            }
        }
    }
}

/// Whether a client sits on this machine.
fn is_local(remote: SocketAddr) -> bool {
    remote.ip().to_canonical().is_loopback()
}

/// How long accepting rests after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are not logged in; when one more comes, the oldest of them is closed.
const LOBBY_MAX: usize = 1000;
