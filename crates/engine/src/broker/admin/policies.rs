//! Policies and operator policies.

use std::sync::Arc;

use ottla_store::{Lsn, Purpose};

use super::fits;
use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::facts::{BrokerFact, PolicyImage};
use crate::queue::Rules;

/// Whose policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Of those who use a virtual host.
    User,
    /// Of who runs the node: nobody gets around it.
    Operator,
}

/// A policy as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyView {
    /// Where.
    pub vhost: Arc<str>,
    /// What.
    pub policy: PolicyImage,
}

impl Broker {
    /// Sets a policy; queues and exchanges whose names match follow it at once.
    ///
    /// # Errors
    /// 404; 406 for a pattern or definition that cannot be understood.
    pub fn set_policy(&self, vhost: &str, policy: PolicyImage) -> Result<Lsn, BrokerError> {
        self.put_policy(PolicyKind::User, vhost, policy)
    }

    /// Sets a policy of either kind.
    ///
    /// # Errors
    /// 404; 406 for a pattern or definition that cannot be understood.
    pub fn put_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        policy: PolicyImage,
    ) -> Result<Lsn, BrokerError> {
        self.know_vhost(vhost)?;
        fits(&[&policy.name, &policy.pattern, &policy.definition.to_string()])?;
        let Some(understood) = policy.clone().policy() else {
            return Err(BrokerError::precondition("invalid pattern or apply-to"));
        };
        Rules::of_policy(&understood.definition).map_err(|error| {
            BrokerError::precondition(error.explain(&format!("policy '{}'", policy.name)))
        })?;
        let vhost = vhost.to_owned();
        let fact = match kind {
            PolicyKind::User => BrokerFact::PolicySet { vhost: vhost.clone(), policy },
            PolicyKind::Operator => BrokerFact::OperatorPolicySet { vhost: vhost.clone(), policy },
        };
        let lsn = self.change(Purpose::Grow, fact)?;
        self.follow_policies(&vhost);
        Ok(lsn)
    }

    /// Ends a policy; a missing one is no error.
    ///
    /// # Errors
    /// No room.
    pub fn delete_policy(&self, vhost: &str, name: &str) -> Result<Lsn, BrokerError> {
        self.drop_policy(PolicyKind::User, vhost, name)
    }

    /// Ends a policy of either kind; a missing one is no error.
    ///
    /// # Errors
    /// No room.
    pub fn drop_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        name: &str,
    ) -> Result<Lsn, BrokerError> {
        let (in_vhost, name) = (vhost.to_owned(), name.to_owned());
        let fact = match kind {
            PolicyKind::User => BrokerFact::PolicyDeleted { vhost: in_vhost, name },
            PolicyKind::Operator => BrokerFact::OperatorPolicyDeleted { vhost: in_vhost, name },
        };
        let lsn = self.change(Purpose::Shrink, fact)?;
        self.follow_policies(vhost);
        Ok(lsn)
    }

    /// All policies of a kind, by virtual host and name.
    #[must_use]
    pub fn policies(&self, kind: PolicyKind) -> Vec<PolicyView> {
        let state = self.state();
        let policies = state.vhosts.values().flat_map(|vhost| {
            let policies = match kind {
                PolicyKind::User => &vhost.policies,
                PolicyKind::Operator => &vhost.operators,
            };
            policies.values().map(|policy| PolicyView {
                vhost: Arc::clone(&vhost.name),
                policy: PolicyImage::of(policy),
            })
        });
        policies.collect()
    }

    fn follow_policies(&self, vhost: &str) {
        for queue in self.queues_of(vhost) {
            self.configure(&queue);
        }
    }
}
