//! What a group asks its caller to do.

use crate::group::ids::Ticket;

/// An effect of a command, to be carried out in order.
///
/// A reply is released once every [`Persist`](Self::Persist) before it, of this list and of earlier
/// ones of the same group, is durable (store.md rules 10 and 19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<A, R> {
    /// Answer the request that brought this ticket.
    Reply {
        /// The ticket; each is answered exactly once.
        ticket: Ticket,
        /// The answer.
        answer: A,
    },
    /// Append this record to the log.
    Persist(R),
}

impl<A, R> Effect<A, R> {
    /// The same effect in a wider vocabulary.
    pub fn map<B, S>(
        self,
        answer: impl FnOnce(A) -> B,
        record: impl FnOnce(R) -> S,
    ) -> Effect<B, S> {
        match self {
            Self::Reply { ticket, answer: given } => {
                Effect::Reply { ticket, answer: answer(given) }
            }
            Self::Persist(given) => Effect::Persist(record(given)),
        }
    }
}
