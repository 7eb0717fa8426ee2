//! Who may do what: users, their passwords, their permissions in a virtual host (research 1.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha512};

use super::connection::Peer;
use super::error::BrokerError;
use super::facts::{LimitsImage, SecretImage, TopicPermissionImage, UserImage};
use crate::vhost::{Access, Permissions, Refused, Resource, TopicPermissions};

/// A user and what it may do, by virtual host.
#[derive(Debug)]
pub(super) struct User {
    pub(super) image: UserImage,
    pub(super) secret: SecretImage,
    pub(super) limits: LimitsImage,
    pub(super) permissions: BTreeMap<Arc<str>, Permissions>,
    /// Which routing keys, by virtual host and topic exchange.
    pub(super) topics: BTreeMap<(Box<str>, Box<str>), Topics>,
}

/// Which routing keys of one exchange.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) image: TopicPermissionImage,
    compiled: Option<Permissions>,
}

impl User {
    pub(super) fn new(image: UserImage) -> Self {
        let secret = match image.hash.is_empty() {
            true => SecretImage::None,
            false => SecretImage::Sha256(image.hash.clone()),
        };
        let limits = LimitsImage::default();
        Self { image, secret, limits, permissions: BTreeMap::new(), topics: BTreeMap::new() }
    }

    /// `guest` with the password `guest`, from the same machine only.
    pub(super) fn guest() -> Self {
        Self::new(UserImage {
            name: GUEST.to_owned(),
            hash: hash([0; SALT_BYTES], b"guest"),
            tags: vec!["administrator".to_owned()],
            loopback_only: true,
        })
    }

    pub(super) fn may_come_from(&self, peer: Peer) -> bool {
        !self.image.loopback_only || peer == Peer::Loopback
    }

    pub(super) fn accepts(&self, password: &[u8], peer: Peer) -> bool {
        if !self.may_come_from(peer) {
            return false;
        }
        match &self.secret {
            SecretImage::None => false,
            SecretImage::Sha256(hash) => is_hash_of::<Sha256>(hash, password),
            SecretImage::Sha512(hash) => is_hash_of::<Sha512>(hash, password),
        }
    }

    pub(super) fn check(
        &self,
        access: Access,
        resource: Resource<'_>,
        vhost: &str,
    ) -> Result<(), BrokerError> {
        let user = self.image.name.as_str();
        let checked = match self.permissions.get(vhost) {
            Some(permissions) => permissions.check(access, resource, vhost, user),
            None => Err(Refused::new(access, resource, vhost, user)),
        };
        checked.map_err(|refused| BrokerError::refused(refused.to_string()))
    }

    /// Whether it may use a routing key of a topic exchange. Who has no topic permissions there may use all.
    pub(super) fn check_topic(
        &self,
        access: Access,
        exchange: &str,
        key: &str,
        vhost: &str,
    ) -> Result<(), BrokerError> {
        if self.topics.is_empty() {
            return Ok(());
        }
        let Some(topics) = self.topics.get(&(vhost.into(), exchange.into())) else { return Ok(()) };
        let resource = Resource::Topic { exchange, key };
        let user = self.image.name.as_str();
        let checked = match &topics.compiled {
            Some(permissions) => permissions.check(access, resource, vhost, user),
            None => Err(Refused::new(access, resource, vhost, user)),
        };
        checked.map_err(|refused| BrokerError::refused(refused.to_string()))
    }

    pub(super) fn set_topics(
        &mut self,
        vhost: Box<str>,
        exchange: Box<str>,
        image: TopicPermissionImage,
    ) {
        let patterns = TopicPermissions { write: image.write.clone(), read: image.read.clone() };
        let compiled = patterns.compile(&vhost, &self.image.name).ok();
        self.topics.insert((vhost, exchange), Topics { image, compiled });
    }

    /// Of one exchange; `None` for all of them.
    pub(super) fn forget_topics(&mut self, vhost: &str, exchange: Option<&str>) {
        self.topics.retain(|(in_vhost, of), _| {
            **in_vhost != *vhost || exchange.is_some_and(|exchange| **of != *exchange)
        });
    }
}

/// Salt, then the SHA-256 of salt and password: RabbitMQ's `rabbit_password_hashing_sha256`.
pub(super) fn hash(salt: [u8; SALT_BYTES], password: &[u8]) -> Vec<u8> {
    let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
    [&salt[..], &digest].concat()
}

fn is_hash_of<D: Digest>(hash: &[u8], password: &[u8]) -> bool {
    let Some((salt, digest)) = hash.split_first_chunk::<SALT_BYTES>() else { return false };
    let shown: Output<D> = D::new().chain_update(salt).chain_update(password).finalize();
    // the time it takes says nothing about where the two differ
    let differing: u32 = digest.iter().zip(&shown).map(|(a, b)| (a ^ b).count_ones()).sum();
    digest.len() == shown.len() && differing == 0
}

/// Whether this can be a hash of that kind.
pub(super) fn is_well_formed(secret: &SecretImage) -> bool {
    match secret {
        SecretImage::None => true,
        SecretImage::Sha256(hash) => hash.len() == SALT_BYTES + 32,
        SecretImage::Sha512(hash) => hash.len() == SALT_BYTES + 64,
    }
}

/// The user that a new broker has; it stays on the same machine whatever becomes of its password.
pub(super) const GUEST: &str = "guest";
pub(super) const SALT_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_comes_with_its_password_from_the_same_machine_only() {
        let guest = User::guest();
        assert!(guest.accepts(b"guest", Peer::Loopback));
        assert!(!guest.accepts(b"guest", Peer::Remote));
        assert!(!guest.accepts(b"wrong", Peer::Loopback));
        assert!(!guest.accepts(b"", Peer::Loopback));
    }

    #[test]
    fn who_has_no_permission_in_a_virtual_host_may_do_nothing_there() {
        let refused = User::guest().check(Access::Read, Resource::Queue("q"), "/").unwrap_err();
        assert_eq!(
            refused.text(),
            "read access to queue 'q' in vhost '/' refused for user 'guest'"
        );
    }

    #[test]
    fn both_of_rabbitmqs_hashes_open_what_they_are_of() {
        let salt = [1, 2, 3, 4];
        let digest = Sha512::new().chain_update(salt).chain_update(b"secret").finalize();
        let long = [&salt[..], &digest].concat();
        for secret in [SecretImage::Sha256(hash(salt, b"secret")), SecretImage::Sha512(long)] {
            assert!(is_well_formed(&secret));
            let user = User { secret, ..User::guest() };
            assert!(user.accepts(b"secret", Peer::Loopback));
            assert!(!user.accepts(b"guest", Peer::Loopback));
        }
        let nobody = User { secret: SecretImage::None, ..User::guest() };
        assert!(!nobody.accepts(b"", Peer::Loopback), "an empty hash is no open door");
    }
}
