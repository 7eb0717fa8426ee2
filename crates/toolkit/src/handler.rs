//! What a service does with a message: a plain async function whose arguments are taken from it.

mod cx;
mod extract;
mod layer;

use std::future::Future;
use std::marker::PhantomData;

use crate::error::Failure;
use crate::transport::BoxFuture;

pub use self::cx::{Cx, Emit, Extensions};
pub use self::extract::{Attempt, FromCx, Msg, State, Story};
pub use self::layer::{Layer, Layered, Next};

/// What a handler comes to.
pub type Verdict = Result<(), Failure>;

/// Handles messages. Async functions become handlers by [`IntoHandler`].
pub trait Handler: Send + Sync + 'static {
    /// The name of the messages it takes; `None`: any.
    fn listens_to(&self) -> Option<&'static str>;

    /// Handles one message. What it emitted is published after it returned `Ok`, before the message is
    /// acknowledged.
    fn call<'a>(&'a self, cx: &'a mut Cx) -> BoxFuture<'a, Verdict>;
}

/// What can be a handler: an async function of up to six arguments that can be taken from a message
/// ([`FromCx`]), returning nothing or a `Result` whose error becomes a [`Failure`].
///
/// ```
/// # use ottla::{Message, Failure, handler::{Emit, IntoHandler, Msg}};
/// # #[derive(serde::Serialize, serde::Deserialize, Message)]
/// # #[message(name = "order.paid", key = "order")]
/// # struct OrderPaid { order: String }
/// # #[derive(serde::Serialize, serde::Deserialize, Message)]
/// # #[message(name = "parcel.sent", key = "order")]
/// # struct ParcelSent { order: String }
/// async fn on_paid(Msg(paid): Msg<OrderPaid>, emit: Emit) -> Result<(), Failure> {
///     emit.send("parcels", &ParcelSent { order: paid.order })?;
///     Ok(())
/// }
/// let handler = on_paid.into_handler();
/// # let _ = handler;
/// ```
pub trait IntoHandler<Args>: Sized {
    /// What it becomes.
    type Handler: Handler;

    /// Makes a handler.
    fn into_handler(self) -> Self::Handler;

    /// This handler inside a layer.
    fn layer(self, layer: impl Layer) -> Layered<Self::Handler> {
        Layered::new(layer, self.into_handler())
    }
}

/// An async function as a handler.
pub struct FnHandler<F, Args> {
    function: F,
    arguments: PhantomData<fn(Args)>,
}

/// What a handler function may return.
pub trait IntoVerdict {
    /// As a verdict.
    fn into_verdict(self) -> Verdict;
}

impl IntoVerdict for () {
    fn into_verdict(self) -> Verdict {
        Ok(())
    }
}

impl<E: Into<Failure>> IntoVerdict for Result<(), E> {
    fn into_verdict(self) -> Verdict {
        self.map_err(Into::into)
    }
}

/// A handler as it is: for those that were layered, and for handlers written by hand.
#[derive(Debug)]
pub struct AsItIs;

impl<H: Handler> IntoHandler<AsItIs> for H {
    type Handler = Self;

    fn into_handler(self) -> Self {
        self
    }
}

impl<F, Args> std::fmt::Debug for FnHandler<F, Args> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FnHandler").field("function", &std::any::type_name::<F>()).finish()
    }
}

macro_rules! functions {
    ($($argument:ident $name:ident),*) => {
        impl<F, Fut, R, $($argument),*> IntoHandler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoVerdict + Send,
            $($argument: FromCx + Send + 'static,)*
        {
            type Handler = FnHandler<F, ($($argument,)*)>;

            fn into_handler(self) -> Self::Handler {
                FnHandler { function: self, arguments: PhantomData }
            }
        }

        impl<F, Fut, R, $($argument),*> Handler for FnHandler<F, ($($argument,)*)>
        where
            F: Fn($($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoVerdict + Send,
            $($argument: FromCx + Send + 'static,)*
        {
            fn listens_to(&self) -> Option<&'static str> {
                None$(.or($argument::MESSAGE))*
            }

            fn call<'a>(&'a self, cx: &'a mut Cx) -> BoxFuture<'a, Verdict> {
                Box::pin(async move {
                    let _ = &cx; // a function without arguments needs nothing of it
                    $(let $name = $argument::from_cx(cx).await?;)*
                    (self.function)($($name),*).await.into_verdict()
                })
            }
        }
    };
}

functions!();
functions!(A a);
functions!(A a, B b);
functions!(A a, B b, C c);
functions!(A a, B b, C c, D d);
functions!(A a, B b, C c, D d, E e);
functions!(A a, B b, C c, D d, E e, G g);
