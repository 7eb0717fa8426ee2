//! Who has connected and not logged in yet: so many and no more. When one comes too many, the one that has been
//! waiting longest must go: a flood of sockets that say nothing keeps nobody out who logs in at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The connections that are not logged in.
#[derive(Debug)]
pub(super) struct Lobby {
    waiting: Mutex<Waiting>,
    waiting_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By the order they came in.
    called: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A connection's place; given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

/// How a connection hears that its place went to another.
#[derive(Debug)]
pub(super) struct Called(oneshot::Receiver<()>);

impl Lobby {
    /// At least one may wait.
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { waiting: Mutex::default(), waiting_max: waiting_max.max(1) }
    }

    /// A place for one more; who has waited longest loses his if there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> (Place, Called) {
        let (caller, called) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.called.len() >= self.waiting_max
            && let Some((number, oldest)) = waiting.called.pop_first()
        {
            tracing::warn!(
                number,
                "too many AMQP connections are not logged in: closing the oldest"
            );
            oldest.send(()).ok(); // it may have gone by itself
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.called.insert(number, caller);
        (Place { lobby: Arc::clone(self), number }, Called(called))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.lock().called.remove(&self.number);
    }
}

impl Called {
    /// Resolves when the place is lost; never for who gave it up himself.
    pub(super) async fn away(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_waiting_goes_first_and_who_has_logged_in_stays() {
        let lobby = Arc::new(Lobby::new(2));
        let (first, first_called) = lobby.enter();
        let (_second, second_called) = lobby.enter();
        drop(first); // logged in
        let (_third, _) = lobby.enter();
        let (_fourth, _) = lobby.enter();
        second_called.away().await;
        let first = tokio::time::timeout(std::time::Duration::ZERO, first_called.away());
        assert!(first.await.is_err(), "who has logged in was sent away");
        assert_eq!(lobby.lock().called.len(), 2);
    }
}
