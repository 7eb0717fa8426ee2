//! Who may do what in a virtual host (research 1.7), and the words in which RabbitMQ refuses.

use std::fmt;

use super::pattern::{BadPattern, Pattern};

/// What a user may do in one virtual host: a pattern of names for each kind of access.
#[derive(Clone, Debug, PartialEq)]
pub struct Permissions {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

/// Kinds of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Declare and delete.
    Configure,
    /// Publish; bind to it as a destination.
    Write,
    /// Consume, get, purge; bind it as a source.
    Read,
}

/// What is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A queue by name.
    Queue(&'a str),
    /// An exchange by name; `""` is judged as `amq.default`.
    Exchange(&'a str),
    /// A routing key of a topic exchange.
    Topic {
        /// The exchange.
        exchange: &'a str,
        /// The key.
        key: &'a str,
    },
}

/// 403: prints as RabbitMQ's explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{access} access to {resource} in vhost '{vhost}' refused for user '{user}'")]
pub struct Refused {
    /// What was tried.
    pub access: Access,
    /// `queue 'q'`
    pub resource: String,
    /// Where.
    pub vhost: String,
    /// By whom.
    pub user: String,
}

impl Permissions {
    /// From the three patterns as an operator writes them; an empty one permits nothing.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Self, BadPattern> {
        Ok(Self {
            configure: Pattern::of_permission(configure)?,
            write: Pattern::of_permission(write)?,
            read: Pattern::of_permission(read)?,
        })
    }

    /// Whether this access is permitted. Topics are judged by [`TopicPermissions`], not here.
    ///
    /// # Errors
    /// It is not.
    pub fn check(
        &self,
        access: Access,
        resource: Resource<'_>,
        vhost: &str,
        user: &str,
    ) -> Result<(), Refused> {
        let pattern = match access {
            Access::Configure => &self.configure,
            Access::Write => &self.write,
            Access::Read => &self.read,
        };
        let name = match resource {
            Resource::Exchange("") => DEFAULT_EXCHANGE,
            Resource::Queue(name) | Resource::Exchange(name) => name,
            Resource::Topic { key, .. } => key,
        };
        if pattern.matches(name) {
            Ok(())
        } else {
            Err(Refused::new(access, resource, vhost, user))
        }
    }

    /// The patterns as written: configure, write, read.
    #[must_use]
    pub fn patterns(&self) -> [&str; 3] {
        [&self.configure, &self.write, &self.read].map(Pattern::as_str)
    }
}

/// Which routing keys of one topic exchange a user may write (publish) and read (bind).
/// A user without any may use all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermissions {
    /// With `{username}` and `{vhost}`, which stand for the user's own.
    pub write: String,
    /// Likewise.
    pub read: String,
}

impl Refused {
    /// Whoever has no permissions in a virtual host gets this there, whatever is tried.
    #[must_use]
    pub fn new(access: Access, resource: Resource<'_>, vhost: &str, user: &str) -> Self {
        Self { access, resource: resource.to_string(), vhost: vhost.into(), user: user.into() }
    }
}

impl TopicPermissions {
    /// Puts the user and virtual host in, and compiles; do it once for each connection.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn compile(&self, vhost: &str, user: &str) -> Result<Permissions, BadPattern> {
        let expand = |pattern: &str| {
            pattern
                .replace("{username}", &regex::escape(user))
                .replace("{vhost}", &regex::escape(vhost))
        };
        Permissions::new("", &expand(&self.write), &expand(&self.read))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue '{name}'"),
            Self::Exchange("") => write!(f, "exchange '{DEFAULT_EXCHANGE}'"),
            Self::Exchange(name) => write!(f, "exchange '{name}'"),
            Self::Topic { exchange, key } => write!(f, "topic '{key}' in exchange '{exchange}'"),
        }
    }
}

const DEFAULT_EXCHANGE: &str = "amq.default";

#[cfg(test)]
mod tests {
    use super::*;

    // research 1.7
    #[test]
    fn a_refusal_names_access_resource_vhost_and_user() {
        let permissions = Permissions::new("", "^own-", ".*").unwrap();
        let check = |access, resource| permissions.check(access, resource, "/", "u");
        assert_eq!(check(Access::Write, Resource::Queue("own-q")), Ok(()));
        assert_eq!(check(Access::Read, Resource::Exchange("")), Ok(()));
        let text = |access, resource| check(access, resource).unwrap_err().to_string();
        assert_eq!(
            text(Access::Write, Resource::Exchange("x")),
            "write access to exchange 'x' in vhost '/' refused for user 'u'"
        );
        assert_eq!(
            text(Access::Write, Resource::Exchange("")),
            "write access to exchange 'amq.default' in vhost '/' refused for user 'u'"
        );
        assert_eq!(
            text(Access::Configure, Resource::Queue("own-q")),
            "configure access to queue 'own-q' in vhost '/' refused for user 'u'",
            "an empty pattern permits nothing"
        );
    }

    #[test]
    fn a_topic_permission_may_name_the_user() {
        let topics = TopicPermissions { write: r"^{username}\.".into(), read: ".*".into() };
        let permissions = topics.compile("/", "a.b").unwrap();
        let key = |key| {
            let topic = Resource::Topic { exchange: "amq.topic", key };
            permissions.check(Access::Write, topic, "/", "a.b")
        };
        assert_eq!(key("a.b.c"), Ok(()));
        assert_eq!(
            key("aXb.c").unwrap_err().to_string(),
            "write access to topic 'aXb.c' in exchange 'amq.topic' in vhost '/' refused for user 'a.b'"
        );
    }

    #[test]
    fn a_pattern_that_is_none_or_too_large_is_refused() {
        assert!(Permissions::new("(", ".*", ".*").is_err());
        assert!(Pattern::new(r"(\w{1000}){1000}").is_err());
    }
}
