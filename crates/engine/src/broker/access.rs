//! Who may do what: users, their passwords, their permissions in a virtual host (research 1.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::connection::Peer;
use super::error::BrokerError;
use super::facts::UserImage;
use crate::vhost::{Access, Permissions, Refused, Resource};

/// A user and what it may do, by virtual host.
#[derive(Debug)]
pub(super) struct User {
    pub(super) image: UserImage,
    pub(super) permissions: BTreeMap<Arc<str>, Permissions>,
}

impl User {
    /// `guest` with the password `guest`, from the same machine only.
    pub(super) fn guest() -> Self {
        let image = UserImage {
            name: "guest".to_owned(),
            hash: hash([0; SALT_BYTES], b"guest"),
            tags: vec!["administrator".to_owned()],
            loopback_only: true,
        };
        Self { image, permissions: BTreeMap::new() }
    }

    pub(super) fn accepts(&self, password: &[u8], peer: Peer) -> bool {
        if self.image.loopback_only && peer != Peer::Loopback {
            return false;
        }
        let Some((salt, digest)) = self.image.hash.split_first_chunk::<SALT_BYTES>() else {
            return false;
        };
        let shown = hash(*salt, password);
        let shown = shown.get(SALT_BYTES..).unwrap_or_default();
        // the time it takes says nothing about where the two differ
        let differing: u32 = digest.iter().zip(shown).map(|(a, b)| (a ^ b).count_ones()).sum();
        digest.len() == shown.len() && differing == 0
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
}

/// Salt, then the SHA-256 of salt and password: RabbitMQ's `rabbit_password_hashing_sha256`.
pub(super) fn hash(salt: [u8; SALT_BYTES], password: &[u8]) -> Vec<u8> {
    let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
    [&salt[..], &digest].concat()
}

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
}
