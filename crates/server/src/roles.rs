//! The engine's blocking roles, each on a thread of its own.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use ottla_engine::{Engine, Fatal};
use tokio::sync::mpsc;

use crate::error::ServeError;

/// The threads that work for the engine while the server serves.
#[derive(Debug)]
pub(crate) struct Roles {
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
    failed: mpsc::Receiver<Fatal>,
}

impl Roles {
    /// Starts the log role and the keeper role.
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self, ServeError> {
        let (failure, failed) = mpsc::channel(2);
        let threads = vec![
            spawn("log", engine, failure.clone(), Engine::run_log)?,
            spawn("keeper", engine, failure, Engine::run_keeper)?,
        ];
        Ok(Self { engine: Arc::clone(engine), threads, failed })
    }

    /// Resolves when a role failed.
    pub(crate) async fn failed(&mut self) -> ServeError {
        match self.failed.recv().await {
            Some(fatal) => ServeError::Fatal { why: fatal.to_string() },
            None => std::future::pending().await, // stopped in order
        }
    }

    /// Stops the roles after everything appended so far was synced.
    pub(crate) fn stop(self) {
        self.engine.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a role of the engine panicked");
            }
        }
    }
}

fn spawn(
    name: &str,
    engine: &Arc<Engine>,
    failure: mpsc::Sender<Fatal>,
    role: impl FnOnce(&Engine) -> Result<(), Fatal> + Send + 'static,
) -> Result<JoinHandle<()>, ServeError> {
    let engine = Arc::clone(engine);
    Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(fatal) = role(&engine) {
                tracing::error!(%fatal, "a role of the engine failed");
                drop(failure.try_send(fatal)); // room for each role's one failure
            }
        })
        .map_err(|source| ServeError::Io { doing: format!("starting the {name} thread"), source })
}
