//! How many connections and queues a virtual host may have.

/// Limits of one virtual host; `None` for no limit (an operator writes -1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `max-connections`
    pub max_connections: Option<u64>,
    /// `max-queues`
    pub max_queues: Option<u64>,
}

/// A limit that would be passed; prints as RabbitMQ's explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitReached {
    /// 530 at `connection.open`.
    #[error(
        "access to vhost '{vhost}' refused for user '{user}': connection limit ({max}) is reached"
    )]
    Connections {
        /// Where.
        vhost: String,
        /// Who.
        user: String,
        /// The limit.
        max: u64,
    },
    /// 406 at `queue.declare`.
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({max}) is reached")]
    Queues {
        /// Which was wanted.
        queue: String,
        /// Where.
        vhost: String,
        /// The limit.
        max: u64,
    },
}

impl Limits {
    /// Whether one more connection may open where `open` are.
    ///
    /// # Errors
    /// It may not.
    pub fn check_connection(&self, open: u64, vhost: &str, user: &str) -> Result<(), LimitReached> {
        match self.max_connections {
            Some(max) if open >= max => {
                Err(LimitReached::Connections { vhost: vhost.into(), user: user.into(), max })
            }
            _ => Ok(()),
        }
    }

    /// Whether one more queue may be declared where `existing` are.
    ///
    /// # Errors
    /// It may not.
    pub fn check_queue(&self, existing: u64, queue: &str, vhost: &str) -> Result<(), LimitReached> {
        match self.max_queues {
            Some(max) if existing >= max => {
                Err(LimitReached::Queues { queue: queue.into(), vhost: vhost.into(), max })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_too_many_is_refused_by_name() {
        let limits = Limits { max_connections: Some(1), max_queues: Some(0) };
        assert_eq!(limits.check_connection(0, "/", "u"), Ok(()));
        assert_eq!(
            limits.check_connection(1, "/", "u").unwrap_err().to_string(),
            "access to vhost '/' refused for user 'u': connection limit (1) is reached"
        );
        assert_eq!(
            limits.check_queue(0, "q", "/").unwrap_err().to_string(),
            "cannot declare queue 'q': queue limit in vhost '/' (0) is reached"
        );
        assert_eq!(Limits::default().check_queue(u64::MAX, "q", "/"), Ok(()));
    }
}
