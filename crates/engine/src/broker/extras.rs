//! What stands in a snapshot beside the image of the broker: limits, secrets, topic permissions, operator policies.

use ottla_store::Lsn;

use super::facts::{BrokerExtras, BrokerFact, LimitsImage, PolicyImage, SecretImage};
use super::state::State;

impl State {
    /// What a snapshot must remember beside the image.
    pub(super) fn extras(&self) -> BrokerExtras {
        let vhosts = self.vhosts.iter().map(|(name, vhost)| {
            let operators = vhost.operators.values().map(PolicyImage::of).collect();
            (name.to_string(), vhost.about.clone(), vhost.limits, operators)
        });
        let users = self.users.iter().map(|(name, user)| {
            let told =
                matches!(&user.secret, SecretImage::Sha256(hash) if *hash == user.image.hash);
            (name.to_string(), (!told).then(|| user.secret.clone()), user.limits)
        });
        let topics = self.users.iter().flat_map(|(name, user)| {
            user.topics.iter().map(|((vhost, exchange), topics)| {
                let image = topics.image.clone();
                (name.to_string(), vhost.to_string(), exchange.to_string(), image)
            })
        });
        BrokerExtras {
            vhosts: vhosts.collect(),
            users: users.collect(),
            topic_permissions: topics.collect(),
        }
    }

    /// Takes what a snapshot remembers beside the image.
    pub(super) fn adopt(&mut self, extras: BrokerExtras) {
        let changed = self.changed;
        for (name, about, limits, operators) in extras.vhosts {
            self.adopt_fact(BrokerFact::VhostDescribed { name: name.clone(), about });
            self.adopt_fact(BrokerFact::VhostLimited { name: name.clone(), limits });
            for policy in operators {
                let vhost = name.clone();
                self.adopt_fact(BrokerFact::OperatorPolicySet { vhost, policy });
            }
        }
        for (name, secret, limits) in extras.users {
            if let Some(user) = self.users.get_mut(name.as_str()) {
                user.secret = secret.unwrap_or_else(|| user.secret.clone());
            }
            if limits != LimitsImage::default() {
                self.adopt_fact(BrokerFact::UserLimited { name, limits });
            }
        }
        for (user, vhost, exchange, permission) in extras.topic_permissions {
            self.adopt_fact(BrokerFact::TopicPermissionSet { user, vhost, exchange, permission });
        }
        debug_assert_eq!(self.changed, changed, "a snapshot is no news");
    }

    fn adopt_fact(&mut self, fact: BrokerFact) {
        self.change(fact, Lsn::ZERO);
    }
}
