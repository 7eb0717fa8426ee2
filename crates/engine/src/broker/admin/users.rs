//! Users, and what they may do where.

use std::sync::Arc;

use ottla_store::{Lsn, Purpose};

use super::fits;
use crate::broker::Broker;
use crate::broker::access::{GUEST, SALT_BYTES, hash, is_well_formed};
use crate::broker::error::{BrokerError, ErrorKind};
use crate::broker::facts::{
    BrokerFact, LimitsImage, PermissionImage, SecretImage, TopicPermissionImage, UserImage,
};
use crate::vhost::TopicPermissions;

/// What opens a user that is made or changed.
#[derive(Clone, Copy, Debug)]
pub enum NewUser<'a> {
    /// This password.
    Password(&'a [u8]),
    /// What this is a hash of.
    Hash(&'a SecretImage),
    /// What did so far; nothing, if it is new.
    Unchanged,
}

/// A user as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// Its name.
    pub name: Arc<str>,
    /// Management tags.
    pub tags: Vec<String>,
    /// What a password is compared with.
    pub secret: SecretImage,
    /// How much it may open.
    pub limits: LimitsImage,
    /// By virtual host.
    pub permissions: Vec<(Arc<str>, PermissionImage)>,
    /// By virtual host and exchange.
    pub topics: Vec<(Box<str>, Box<str>, TopicPermissionImage)>,
}

impl Broker {
    /// Makes a user exist, or gives it another password and other tags. It may come from anywhere,
    /// but for `guest`.
    ///
    /// # Errors
    /// No room.
    pub fn set_user(
        &self,
        name: &str,
        password: &[u8],
        tags: Vec<String>,
    ) -> Result<Lsn, BrokerError> {
        self.define_user(name, NewUser::Password(password), tags)
    }

    /// Makes a user exist, or changes what opens it and its tags.
    ///
    /// # Errors
    /// No room; 406 for a hash that cannot be one, or texts that are too long.
    pub fn define_user(
        &self,
        name: &str,
        opens: NewUser<'_>,
        tags: Vec<String>,
    ) -> Result<Lsn, BrokerError> {
        fits(&[name, &tags.concat()])?;
        let known = self.state().users.get(name).map(|user| user.secret.clone());
        if known.is_none() && self.state().users.len() >= USERS_MAX {
            return Err(BrokerError::new(ErrorKind::ResourceError, "too many users"));
        }
        let secret = match opens {
            NewUser::Password(password) => {
                let bits = self.chance().bits().to_be_bytes();
                let mut salt = [0; SALT_BYTES];
                salt.iter_mut().zip(bits).for_each(|(salt, bits)| *salt = bits);
                SecretImage::Sha256(hash(salt, password))
            }
            NewUser::Hash(secret) if is_well_formed(secret) => secret.clone(),
            NewUser::Hash(_) => return Err(BrokerError::precondition("invalid password hash")),
            NewUser::Unchanged => known.unwrap_or(SecretImage::None),
        };
        let image =
            |hash| UserImage { name: name.to_owned(), hash, tags, loopback_only: name == GUEST };
        let fact = match secret {
            SecretImage::Sha256(hash) => BrokerFact::UserSet(image(hash)),
            secret => BrokerFact::UserDefined { user: image(Vec::new()), secret },
        };
        self.change(Purpose::Grow, fact)
    }

    /// Ends a user and its connections.
    ///
    /// # Errors
    /// No room.
    pub fn delete_user(&self, name: &str) -> Result<Lsn, BrokerError> {
        let fact = BrokerFact::UserDeleted { name: name.to_owned() };
        let lsn = self.change(Purpose::Shrink, fact)?;
        let reason = format!("user '{name}' is deleted");
        self.end_connections(|connection| connection.user() == name, &reason);
        Ok(lsn)
    }

    /// Limits a user; what is open already stays.
    ///
    /// # Errors
    /// 404
    pub fn limit_user(&self, name: &str, limits: LimitsImage) -> Result<Lsn, BrokerError> {
        self.know_user(name)?;
        self.change(Purpose::Shrink, BrokerFact::UserLimited { name: name.to_owned(), limits })
    }

    /// What a user may do in a virtual host: regular expressions over names.
    ///
    /// # Errors
    /// 404 for an unknown user or virtual host; 406 for what is no regular expression.
    pub fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        permission: PermissionImage,
    ) -> Result<Lsn, BrokerError> {
        fits(&[&permission.configure, &permission.write, &permission.read])?;
        if permission.permissions().is_none() {
            return Err(BrokerError::precondition("invalid regular expression"));
        }
        self.know_user(user)?;
        self.know_vhost(vhost)?;
        let (user, vhost) = (user.to_owned(), vhost.to_owned());
        self.change(Purpose::Grow, BrokerFact::PermissionSet { user, vhost, permission })
    }

    /// The user may not enter the virtual host any more; open connections stay.
    ///
    /// # Errors
    /// 404 if it might not anyway.
    pub fn delete_permissions(&self, user: &str, vhost: &str) -> Result<Lsn, BrokerError> {
        let has = |user: &crate::broker::access::User| user.permissions.contains_key(vhost);
        if !self.state().users.get(user).is_some_and(has) {
            return Err(BrokerError::new(ErrorKind::NotFound, "no such permission"));
        }
        let (user, vhost) = (user.to_owned(), vhost.to_owned());
        self.change(Purpose::Shrink, BrokerFact::PermissionDeleted { user, vhost })
    }

    /// Which routing keys of a topic exchange a user may use: regular expressions.
    ///
    /// # Errors
    /// 404 for an unknown user or virtual host; 406 for what is no regular expression.
    pub fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        permission: TopicPermissionImage,
    ) -> Result<Lsn, BrokerError> {
        fits(&[exchange, &permission.write, &permission.read])?;
        let TopicPermissionImage { write, read } = permission.clone();
        TopicPermissions { write, read }
            .compile(vhost, user)
            .map_err(|error| BrokerError::precondition(error.to_string()))?;
        self.know_user(user)?;
        self.know_vhost(vhost)?;
        let (user, vhost, exchange) = (user.to_owned(), vhost.to_owned(), exchange.to_owned());
        let fact = BrokerFact::TopicPermissionSet { user, vhost, exchange, permission };
        self.change(Purpose::Grow, fact)
    }

    /// The user may use all routing keys of an exchange again; of all exchanges without a name.
    ///
    /// # Errors
    /// 404 for an unknown user or virtual host.
    pub fn delete_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<Lsn, BrokerError> {
        self.know_user(user)?;
        self.know_vhost(vhost)?;
        let (user, vhost) = (user.to_owned(), vhost.to_owned());
        let exchange = exchange.map(str::to_owned);
        let fact = BrokerFact::TopicPermissionDeleted { user, vhost, exchange };
        self.change(Purpose::Shrink, fact)
    }

    /// All users by name.
    #[must_use]
    pub fn users(&self) -> Vec<UserView> {
        let state = self.state();
        let users = state.users.iter().map(|(name, user)| UserView {
            name: Arc::clone(name),
            tags: user.image.tags.clone(),
            secret: user.secret.clone(),
            limits: user.limits,
            permissions: user
                .permissions
                .iter()
                .map(|(vhost, own)| (Arc::clone(vhost), PermissionImage::of(own)))
                .collect(),
            topics: user
                .topics
                .iter()
                .map(|((vhost, exchange), own)| {
                    (vhost.clone(), exchange.clone(), own.image.clone())
                })
                .collect(),
        });
        users.collect()
    }

    fn know_user(&self, name: &str) -> Result<(), BrokerError> {
        match self.state().users.contains_key(name) {
            true => Ok(()),
            false => Err(BrokerError::new(ErrorKind::NotFound, format!("no user '{name}'"))),
        }
    }
}

/// Users of the node; one more is refused.
const USERS_MAX: usize = 100_000;
