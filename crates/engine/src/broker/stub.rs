//! The broker's face while its parts are still being joined to it.

use super::*;
use crate::queue::Outcome;

fn missing<T>() -> Result<T, BrokerError> {
    Err(BrokerError::new(ErrorKind::NotImplemented, "not implemented"))
}

impl Broker {
    /// Judges a name and a password; `guest` may only come from the same machine. `None`: refused.
    pub fn authenticate(&self, _user: &str, _password: &[u8], _peer: Peer) -> Option<Login> {
        None
    }

    /// `connection.open`: 530 if there is no such virtual host or the user may not enter it.
    pub fn connect(&self, _login: Login, _vhost: &str) -> Result<Arc<Connection>, BrokerError> {
        missing()
    }

    /// The connection is gone or about to be: its channels are closed first by the session
    /// ([`close_channel`](Self::close_channel)), then its exclusive queues are deleted.
    pub fn disconnect(&self, _connection: &Connection) {}

    /// `channel.open`
    pub fn open_channel(&self, connection: &Arc<Connection>) -> Channel {
        Channel {
            connection: Arc::clone(connection),
            key: crate::queue::ChannelKey(0),
            last: None,
            last_queue: None,
            prefetch: 0,
            shared_prefetch: 0,
            consumers: std::collections::HashMap::new(),
            queues: std::collections::BTreeMap::new(),
            reply: None,
        }
    }

    /// The channel is gone: its consumers end, what it held is returned.
    pub fn close_channel(&self, _channel: Channel) {}

    /// `None` if everything the channel published is visible; otherwise wait until the log is durable
    /// past this place, and ask again.
    pub fn catch_up(&self, _channel: &Channel) -> Option<Lsn> {
        None
    }

    /// `exchange.declare`
    pub fn declare_exchange(
        &self,
        _channel: &mut Channel,
        _exchange: ExchangeDeclare<'_>,
    ) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `exchange.declare` with `passive`
    pub fn check_exchange(&self, _channel: &mut Channel, _name: &str) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `exchange.delete`; a missing one is no error.
    pub fn delete_exchange(
        &self,
        _channel: &mut Channel,
        _name: &str,
        _condition: DeleteIf,
    ) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `exchange.bind`
    pub fn bind_exchange(
        &self,
        _channel: &mut Channel,
        _bind: Bind<'_>,
    ) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `exchange.unbind`; a missing binding is no error.
    pub fn unbind_exchange(
        &self,
        _channel: &mut Channel,
        _bind: Bind<'_>,
    ) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `queue.declare`
    pub fn declare_queue(
        &self,
        _channel: &mut Channel,
        _queue: QueueDeclare<'_>,
    ) -> Result<QueueDeclared, BrokerError> {
        missing()
    }

    /// `queue.declare` with `passive`
    pub fn check_queue(
        &self,
        _channel: &mut Channel,
        _name: &str,
    ) -> Result<QueueDeclared, BrokerError> {
        missing()
    }

    /// `queue.delete`; a missing one is no error.
    pub fn delete_queue(
        &self,
        _channel: &mut Channel,
        _name: &str,
        _condition: DeleteIf,
    ) -> Result<Removed, BrokerError> {
        missing()
    }

    /// `queue.purge`
    pub fn purge_queue(&self, _channel: &mut Channel, _name: &str) -> Result<Removed, BrokerError> {
        missing()
    }

    /// `queue.bind`
    pub fn bind_queue(&self, _channel: &mut Channel, _bind: Bind<'_>) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `queue.unbind`; a missing binding is no error.
    pub fn unbind_queue(
        &self,
        _channel: &mut Channel,
        _bind: Bind<'_>,
    ) -> Result<Lsn, BrokerError> {
        missing()
    }

    /// `basic.publish` outside a transaction.
    pub fn publish(
        &self,
        _channel: &mut Channel,
        _publish: Publish<'_>,
    ) -> Result<Published, BrokerError> {
        missing()
    }

    /// What `publish` would refuse, without publishing: for `basic.publish` in a transaction.
    pub fn check_publish(
        &self,
        _channel: &Channel,
        _publish: &Publish<'_>,
    ) -> Result<(), BrokerError> {
        missing()
    }

    /// `tx.commit`: all publishes and settlements become durable together.
    pub fn commit(
        &self,
        _channel: &mut Channel,
        _transaction: Transaction<'_>,
    ) -> Result<Committed, BrokerError> {
        missing()
    }

    /// `basic.get`; `None` is `get-empty`.
    pub fn get(
        &self,
        _channel: &mut Channel,
        _queue: &str,
        _no_ack: bool,
    ) -> Result<Option<Got>, BrokerError> {
        missing()
    }

    /// `basic.consume`; returns the tag for `consume-ok`, which waits for the place.
    pub fn consume(
        &self,
        _channel: &mut Channel,
        _request: ConsumeRequest<'_>,
    ) -> Result<(Arc<str>, Lsn), BrokerError> {
        missing()
    }

    /// `basic.cancel`; an unknown tag is no error. What it holds stays with the channel.
    pub fn cancel(&self, _channel: &mut Channel, _tag: &str) {}

    /// `basic.ack`, `basic.nack`, `basic.reject`: messages the channel holds, in the order of their
    /// delivery tags. Gather what one read of the socket brings into one call: it is one frame of the log.
    pub fn settle(&self, _channel: &Channel, _messages: &[Held], _outcome: Outcome) {}

    /// `basic.recover` with requeue: everything the channel holds is returned. Forget its delivery tags.
    pub fn recover(&self, _channel: &Channel) {}

    /// `basic.qos`; 0 for no limit.
    pub fn qos(&self, _channel: &mut Channel, _count: u16, _scope: PrefetchScope) {}

    /// Takes at most `max` parcels out of the connection's mailbox. May read bodies from the disk.
    pub fn take(&self, _connection: &Connection, _max: usize) -> Vec<Parcel> {
        Vec::new()
    }

    /// Everything below `upto` is durable: what waited for it becomes visible. From the releaser, after each commit.
    pub fn durable_moved(&self, _upto: Lsn) {}

    /// Lets timers run whose time has come: expiry, retries, consumer timeouts. Every few milliseconds.
    pub fn tick(&self) {}
}
