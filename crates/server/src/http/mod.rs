//! The front door for HTTP: the management API of RabbitMQ under `/api`, metrics under `/metrics`.
//!
//! A request is judged and answered on a thread that may block; its answer waits for the log like every
//! other (store.md rule 10).

mod api;
mod ask;
mod auth;
mod bindings;
mod connections;
mod definitions;
mod delayed;
mod exchanges;
mod health;
mod limits;
mod listing;
mod messages;
mod metrics;
mod moves;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod problem;
mod properties;
mod queues;
mod users;
mod values;
mod vhosts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ottla_engine::broker::Broker;
use ottla_engine::{Engine, Lsn};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::release::Release;
use crate::shutdown::{Shutdown, Stopping};
use crate::syncs::Syncs;

use self::ask::Ask;
use self::problem::{Problem, Reply};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Context {
    engine: Arc<Engine>,
    release: Arc<Release>,
    syncs: Arc<Syncs>,
    /// Version that RabbitMQ's tools are told.
    version: String,
    /// Every address the node listens on: protocol, address.
    listeners: Vec<(&'static str, SocketAddr)>,
    /// How many requests may be at work.
    work: Semaphore,
}

impl Context {
    pub(crate) fn new(
        config: &Config,
        engine: Arc<Engine>,
        release: Arc<Release>,
        syncs: Arc<Syncs>,
        listeners: Vec<(&'static str, SocketAddr)>,
    ) -> Self {
        Self {
            engine,
            release,
            syncs,
            version: config.amqp_version.clone(),
            listeners,
            work: Semaphore::new(WORK_MAX),
        }
    }

    fn broker(&self) -> &Broker {
        self.engine.broker()
    }
}

/// Accepts connections until the server stops.
pub(crate) async fn listen(listener: TcpListener, context: Arc<Context>, shutdown: Shutdown) {
    let mut stopping = shutdown.subscribe();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.told() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let context = Arc::clone(&context);
                tokio::spawn(serve(stream, remote, context, shutdown.subscribe(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await; // no file handles: let some close
            }
        }
    }
}

/// One connection, until either side closes it.
async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    context: Arc<Context>,
    mut stopping: Stopping,
    permit: OwnedSemaphorePermit,
) {
    let handler = move |request: Request<Body>| {
        let context = Arc::clone(&context);
        async move { answer(request, remote, context).await }
    };
    let router: Router = Router::new().fallback(handler);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopping.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "an HTTP connection broke");
    }
    drop(permit);
}

/// One request.
async fn answer(
    request: Request<Body>,
    remote: SocketAddr,
    context: Arc<Context>,
) -> Response<Body> {
    if request.uri().path() == "/metrics" || request.uri().path() == "/metrics/per-object" {
        let each = request.uri().path() != "/metrics";
        return metrics::reply(&context, each).into_response();
    }
    match attempt(request, remote, context).await {
        Ok(reply) => reply.into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn attempt(
    request: Request<Body>,
    remote: SocketAddr,
    context: Arc<Context>,
) -> Result<Reply, Problem> {
    let credentials = auth::credentials(request.headers())?;
    let Ok(_working) = context.work.acquire().await else { return Err(Problem::stopping()) };
    let login = {
        let context = Arc::clone(&context);
        let judge = move || auth::judge(context.broker(), &credentials, remote);
        blocking(judge).await?
    };
    let ask = Arc::new(Ask::read(request, login).await?);
    for _ in 0..BUSY_RETRIES_MAX {
        let (context_there, ask_there) = (Arc::clone(&context), Arc::clone(&ask));
        let outcome = blocking(move || api::answer(&context_there, &ask_there)).await;
        match outcome {
            Err(problem) if problem.is_busy() => tokio::time::sleep(BUSY_PAUSE).await,
            Err(problem) => return Err(problem),
            Ok((reply, lsn)) => {
                if lsn > Lsn::ZERO {
                    context.release.shown(lsn).await;
                }
                return Ok(reply);
            }
        }
    }
    Err(Problem::overloaded())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "answering an HTTP request failed");
            Err(Problem::internal())
        }
    }
}

/// Connections of one listener; one more waits to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// Requests at work; one more waits.
const WORK_MAX: usize = 16;
/// How long a client may take to send its headers.
const HEADER_PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How often a request is tried again that the log had no room for.
const BUSY_RETRIES_MAX: usize = 500;
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How long accepting rests after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
