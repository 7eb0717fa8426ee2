//! Stopping in order: tell every connection, wait for them, but not for ever.

use std::time::Duration;

use tokio::sync::watch;

/// Shared by the server, which stops, and its connections, which are told.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    stopping: watch::Sender<bool>,
}

/// Held by a connection while it lives.
#[derive(Debug)]
pub(crate) struct Stopping {
    told: watch::Receiver<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { stopping: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// For one connection or listener.
    pub(crate) fn subscribe(&self) -> Stopping {
        Stopping { told: self.stopping.subscribe() }
    }

    /// Tells all and waits until each has dropped its [`Stopping`], at most `patience`.
    pub(crate) async fn drain(&self, patience: Duration) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(patience, self.stopping.closed()).await.is_err() {
            let left = self.stopping.receiver_count();
            tracing::warn!(connections = left, "closing connections that did not finish in time");
        }
    }
}

impl Stopping {
    /// Resolves when the server stops.
    pub(crate) async fn told(&mut self) {
        let stopped = self.told.wait_for(|stopping| *stopping).await.is_ok();
        debug_assert!(stopped, "the server outlives its connections");
    }
}
