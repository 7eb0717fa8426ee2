//! One attempt at a message, and what becomes of it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tracing::Instrument;

use super::Route;
use crate::connection::{Delivery, Reason, Settle, ends_parking};
use crate::error::{Cause, Error, Failure};
use crate::handler::{Cx, Handler, Next, Verdict};
use crate::policy::Order;

/// What became of a message.
pub(super) enum Ended {
    /// Done; its key may go on after what was sent back.
    Handled { unparks: bool },
    /// Still in hand, to be tried again after this long.
    Again { delivery: Box<Delivery>, wait: Duration },
    /// It comes again from the broker.
    Later,
    /// Among the dead letters.
    Dead { exhausted: bool },
    /// Among the dead letters, behind another one of its key.
    Parked,
    /// Given back.
    Released,
}

/// Handles a message once.
pub(super) async fn attempt(route: &Route, delivery: Delivery) -> Ended {
    let Some(handler) = handler_of(route, &delivery).cloned() else {
        tracing::debug!(name = delivery.envelope.name, "nobody listens to this");
        delivery.ack();
        return Ended::Released;
    };
    let span = tracing::info_span!(
        "handle",
        service = route.group,
        source = %route.source,
        message = delivery.envelope.name,
        id = %delivery.envelope.id,
        correlation = %delivery.envelope.correlation,
        attempt = delivery.attempt(),
        trace = delivery.envelope.trace.as_ref().map(tracing::field::display),
    );
    let number = delivery.attempt();
    let mut cx = Cx::new(delivery, number, route.state.clone());
    async {
        route.health.active.fetch_add(1, Ordering::Relaxed);
        let trial = trial(route, &*handler, &mut cx).await;
        route.health.active.fetch_sub(1, Ordering::Relaxed);
        judge(route, cx.into_delivery(), trial).await
    }
    .instrument(span)
    .await
}

/// Sets a message aside behind another one of its key.
pub(super) async fn set_aside(delivery: Delivery) -> Ended {
    let cause = "a message with this key is among the dead letters".to_owned();
    match bury(delivery, Reason::Parked, cause).await {
        Ended::Dead { .. } => Ended::Parked,
        other => other,
    }
}

/// What a handler did.
enum Trial {
    Said(Verdict),
    Panicked(String),
}

async fn trial(route: &Route, handler: &dyn Handler, cx: &mut Cx) -> Trial {
    let handled = caught(Next::new(&route.layers, handler).run(cx));
    match tokio::time::timeout(route.policy.timeout, handled).await {
        Ok(Ok(Ok(()))) => Trial::Said(publish_emitted(cx).await),
        Ok(Ok(Err(failure))) => Trial::Said(Err(failure)),
        Ok(Err(panic)) => Trial::Panicked(panic),
        Err(_) => {
            let text = format!("not done within {:?}", route.policy.timeout);
            Trial::Said(Err(Failure::Transient(text.into())))
        }
    }
}

/// What the handler emitted is durable before its message is acknowledged.
async fn publish_emitted(cx: &mut Cx) -> Verdict {
    let emitted = cx.take_emitted();
    if emitted.is_empty() {
        return Ok(());
    }
    Ok(cx.connection().send_all(emitted).await?)
}

async fn judge(route: &Route, delivery: Delivery, trial: Trial) -> Ended {
    let failure = match trial {
        Trial::Said(Ok(())) => {
            let unparks = ends_parking(&delivery.envelope);
            delivery.ack();
            return Ended::Handled { unparks };
        }
        Trial::Said(Err(failure)) => failure,
        Trial::Panicked(cause) => return bury(delivery, Reason::Panicked, cause).await,
    };
    let text = failure.to_string();
    let said = match failure {
        Failure::Released => {
            delivery.release();
            return Ended::Released;
        }
        Failure::Permanent(cause) => {
            let reason =
                if is_undecodable(&cause) { Reason::Undecodable } else { Reason::Permanent };
            return bury(delivery, reason, text).await;
        }
        Failure::After(wait, _) => Some(wait),
        Failure::Transient(_) => None,
    };
    let mint = delivery.connection().mint();
    let Some(backoff) = route.policy.retry.wait(delivery.attempt(), mint) else {
        return bury(delivery, Reason::Exhausted, text).await;
    };
    let wait = said.unwrap_or(backoff);
    tracing::debug!(cause = text, ?wait, "failed, to be tried again");
    if route.policy.order != Order::Unordered && delivery.envelope.key.is_some() {
        let delivery = Box::new(delivery.failed_in_hand(&text));
        return Ended::Again { delivery, wait };
    }
    match delivery.settle(Settle::Retry { after: wait, cause: text }).await {
        Ok(()) => Ended::Later,
        Err(error) => given_back(&error).await,
    }
}

/// To the dead letters.
async fn bury(delivery: Delivery, reason: Reason, cause: String) -> Ended {
    tracing::warn!(%reason, cause, attempt = delivery.attempt(), "set aside");
    match delivery.settle(Settle::Dead { reason, cause }).await {
        Ok(()) => Ended::Dead { exhausted: reason == Reason::Exhausted },
        Err(error) => given_back(&error).await,
    }
}

/// It could not be put elsewhere, so it comes again; not at once, the broker is unwell.
async fn given_back(error: &Error) -> Ended {
    tracing::error!(%error, "given back");
    tokio::time::sleep(UNWELL).await;
    Ended::Released
}

/// Who takes messages of this name; who has none takes what the first handler takes.
fn handler_of<'a>(route: &'a Route, delivery: &Delivery) -> Option<&'a Arc<dyn Handler>> {
    let name = delivery.envelope.name.as_str();
    if name.is_empty() {
        return route.handlers.first();
    }
    let listens = |handler: &&Arc<dyn Handler>| handler.listens_to().is_none_or(|own| own == name);
    route.handlers.iter().find(listens)
}

fn is_undecodable(cause: &Cause) -> bool {
    matches!(cause.downcast_ref::<Error>(), Some(Error::Decode { .. }))
}

/// Turns a panic into its text.
async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Err(text.unwrap_or_else(|| "the handler panicked".to_owned())))
        }
    })
    .await
}

/// How long a message that could not be settled is kept from coming again.
const UNWELL: Duration = Duration::from_secs(1);
