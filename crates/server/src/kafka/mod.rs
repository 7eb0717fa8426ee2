//! The front door for Kafka clients.

mod codes;
mod driver;
mod fetch_sessions;
mod handlers;
mod share_sessions;
pub(crate) mod telemetry;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ottla_engine::Engine;
use tokio::net::TcpListener;

use self::fetch_sessions::FetchSessions;
use self::share_sessions::{Held, ShareSessions};
use self::telemetry::{Software, Telemetry};
use crate::config::{Advertise, Config};
use crate::release::Release;
use crate::shutdown::Shutdown;

/// What all connections of this door share.
#[derive(Debug)]
pub(crate) struct Context {
    engine: Arc<Engine>,
    release: Arc<Release>,
    config: Config,
    fetch_sessions: FetchSessions,
    share_sessions: ShareSessions,
    telemetry: Telemetry,
}

/// What the handlers know of a connection.
#[derive(Debug)]
struct Peer {
    context: Arc<Context>,
    /// The address the client connected to: what it is told to come back to.
    local: SocketAddr,
    remote: SocketAddr,
    /// The share sessions of this connection: they end with it.
    shares: Held,
    /// What it says it runs, once it has (ApiVersions).
    software: OnceLock<Software>,
}

impl Context {
    pub(crate) fn new(config: &Config, engine: Arc<Engine>, release: Arc<Release>) -> Self {
        Self {
            engine,
            release,
            config: config.clone(),
            fetch_sessions: FetchSessions::default(),
            share_sessions: ShareSessions::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Context {
    /// Which clients were asked for metrics, and what they told last.
    pub(crate) fn client_metrics(&self) -> Vec<telemetry::ClientMetrics> {
        self.telemetry.shown()
    }
}

impl Peer {
    /// The host and port that a client of this connection is told to come back to.
    fn advertised(&self) -> Advertise {
        self.context.config.advertise.clone().unwrap_or_else(|| Advertise {
            host: self.local.ip().to_canonical().to_string(),
            port: self.local.port(),
        })
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
                let Ok(local) = stream.local_addr() else { continue };
                let shares = Held::new(Arc::clone(&context));
                let context = Arc::clone(&context);
                let software = OnceLock::new();
                let peer = Peer { context, local, remote, shares, software };
                tokio::spawn(driver::drive(stream, peer, shutdown.subscribe()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a Kafka connection");
                tokio::time::sleep(ACCEPT_PAUSE).await; // no file handles: let some close
            }
        }
    }
}

/// The only node's id.
const NODE_ID: i32 = 1;
/// How long accepting rests after it failed.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
