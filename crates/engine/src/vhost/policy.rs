//! Policies: which one holds for a queue or exchange (research 1.4, last row).

use super::pattern::Pattern;
use crate::queue::QueueType;
use crate::value::Arguments;

/// Settings for all objects of matching names; an operator policy has the same form.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name; of two equal priorities the first name wins.
    pub name: Box<str>,
    /// Which names.
    pub pattern: Pattern,
    /// Which objects.
    pub apply_to: ApplyTo,
    /// The highest of all that match holds, alone.
    pub priority: i64,
    /// Keys without `x-`; see [`Rules::of_policy`](crate::queue::Rules::of_policy).
    pub definition: Arguments,
}

/// Which objects a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyTo {
    /// `all`
    All,
    /// `exchanges`
    Exchanges,
    /// `queues`: of every type.
    Queues,
    /// `classic_queues`, `quorum_queues`, `streams`
    QueuesOf(QueueType),
}

/// An object that a policy may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue(QueueType),
}

impl ApplyTo {
    /// The word in the management API and in definition files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exchanges => "exchanges",
            Self::Queues => "queues",
            Self::QueuesOf(QueueType::Classic) => "classic_queues",
            Self::QueuesOf(QueueType::Quorum) => "quorum_queues",
            Self::QueuesOf(QueueType::Stream) => "streams",
        }
    }

    /// The opposite of [`ApplyTo::as_str`]; `None` for any other word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::All,
            Self::Exchanges,
            Self::Queues,
            Self::QueuesOf(QueueType::Classic),
            Self::QueuesOf(QueueType::Quorum),
            Self::QueuesOf(QueueType::Stream),
        ];
        all.into_iter().find(|apply_to| apply_to.as_str() == word)
    }

    fn covers(self, target: Target) -> bool {
        match (self, target) {
            (Self::All, _)
            | (Self::Exchanges, Target::Exchange)
            | (Self::Queues, Target::Queue(_)) => true,
            (Self::QueuesOf(wanted), Target::Queue(queue_type)) => wanted == queue_type,
            _ => false,
        }
    }
}

impl Policy {
    /// The one policy that holds for an object, if any does.
    pub fn effective<'a>(
        policies: impl IntoIterator<Item = &'a Self>,
        target: Target,
        name: &str,
    ) -> Option<&'a Self> {
        let matching = policies
            .into_iter()
            .filter(|policy| policy.apply_to.covers(target) && policy.pattern.matches(name));
        matching.min_by_key(|policy| (std::cmp::Reverse(policy.priority), policy.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, pattern: &str, apply_to: &str, priority: i64) -> Policy {
        let (pattern, apply_to) =
            (Pattern::new(pattern).unwrap(), ApplyTo::parse(apply_to).unwrap());
        Policy { name: name.into(), pattern, apply_to, priority, definition: Arguments::new() }
    }

    #[test]
    fn the_highest_priority_that_matches_holds_alone() {
        let policies = [
            policy("everything", ".*", "all", 0),
            policy("logs", "^log", "queues", 5),
            policy("kept", "^log", "streams", 9),
            policy("more", "^log", "queues", 5),
        ];
        let name = |target, object: &str| {
            Policy::effective(&policies, target, object).map(|policy| &*policy.name)
        };
        let classic = Target::Queue(QueueType::Classic);
        assert_eq!(name(classic, "logs.app"), Some("logs"));
        assert_eq!(name(Target::Queue(QueueType::Stream), "logs.app"), Some("kept"));
        assert_eq!(name(Target::Exchange, "logs.app"), Some("everything"));
        assert_eq!(name(classic, "catalog"), Some("everything"));
        assert_eq!(Policy::effective(&policies[1..], classic, "catalog"), None);
    }
}
