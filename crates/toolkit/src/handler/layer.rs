//! What surrounds handlers: an inbox, a transaction, a measurement.

use std::fmt;
use std::sync::Arc;

use super::cx::Cx;
use super::{Handler, Verdict};
use crate::transport::BoxFuture;

/// Surrounds a handler. What runs before and after [`Next::run`] runs before and after the handler.
///
/// ```
/// use ottla::handler::{Cx, Layer, Next, Verdict};
/// use ottla::transport::BoxFuture;
///
/// /// Tells how long handlers take.
/// struct Timed;
///
/// impl Layer for Timed {
///     fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict> {
///         Box::pin(async move {
///             let before = cx.connection().mint().now();
///             let verdict = next.run(cx).await;
///             tracing::info!(took = ?cx.connection().mint().now().since(before));
///             verdict
///         })
///     }
/// }
/// ```
pub trait Layer: Send + Sync + 'static {
    /// Handles a message with the help of what is inside.
    fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict>;
}

/// What is inside a layer.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    layers: &'a [Arc<dyn Layer>],
    handler: &'a dyn Handler,
}

impl<'a> Next<'a> {
    pub(crate) fn new(layers: &'a [Arc<dyn Layer>], handler: &'a dyn Handler) -> Self {
        Self { layers, handler }
    }

    /// Goes on inwards.
    pub fn run(self, cx: &'a mut Cx) -> BoxFuture<'a, Verdict> {
        match self.layers.split_first() {
            Some((outer, layers)) => outer.call(cx, Self { layers, ..self }),
            None => self.handler.call(cx),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("layers", &self.layers.len()).finish()
    }
}

/// A handler inside a layer.
pub struct Layered<H> {
    layer: [Arc<dyn Layer>; 1],
    handler: H,
}

impl<H: Handler> Layered<H> {
    pub(super) fn new(layer: impl Layer, handler: H) -> Self {
        Self { layer: [Arc::new(layer)], handler }
    }
}

impl<H: Handler> Handler for Layered<H> {
    fn listens_to(&self) -> Option<&'static str> {
        self.handler.listens_to()
    }

    fn call<'a>(&'a self, cx: &'a mut Cx) -> BoxFuture<'a, Verdict> {
        Next::new(&self.layer, &self.handler).run(cx)
    }
}

impl<H: fmt::Debug> fmt::Debug for Layered<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("handler", &self.handler).finish_non_exhaustive()
    }
}
