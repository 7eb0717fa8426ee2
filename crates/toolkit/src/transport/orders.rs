//! How a feed tells the task or the thread that reads for it to stop and to leave.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::BoxFuture;
use super::feed::FeedControl;
use crate::error::Result;

/// What a reader is told. It answers when it has done so; one that has ended is as good as done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Hand out nothing more.
    Stop(oneshot::Sender<()>),
    /// Commit what was settled, give back the rest, leave, end.
    Close(oneshot::Sender<Result<()>>),
}

/// A feed's end of its reader. Dropped: the reader leaves.
#[derive(Debug)]
pub(crate) struct Control {
    orders: mpsc::Sender<Order>,
}

/// Both ends.
pub(crate) fn orders() -> (Arc<Control>, mpsc::Receiver<Order>) {
    let (orders, taken) = mpsc::channel(ORDERS_MAX);
    (Arc::new(Control { orders }), taken)
}

impl FeedControl for Control {
    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let (done, wait) = oneshot::channel();
            if self.orders.send(Order::Stop(done)).await.is_ok() {
                drop(wait.await); // ended already
            }
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let (done, wait) = oneshot::channel();
            if self.orders.send(Order::Close(done)).await.is_err() {
                return Ok(());
            }
            wait.await.unwrap_or(Ok(()))
        })
    }
}

const ORDERS_MAX: usize = 4;
