//! Which clients are connected, what they may open, and how one is ended that did not ask for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Broker;
use super::connection::{Channel, ChannelCard, Client, Connection, ConnectionId, Login};
use super::error::{BrokerError, ErrorKind};
use super::state::State;
use crate::queue::ChannelKey;
use crate::vhost::Limits;

impl Broker {
    /// A connection of our own making: it is not counted and nobody sees it.
    ///
    /// # Errors
    /// 530 if there is no such virtual host, or the user may not enter it.
    pub fn connect(&self, login: Login, vhost: &str) -> Result<Arc<Connection>, BrokerError> {
        self.admit(&self.state(), login, vhost, None)
    }

    /// A connection of our own making on which no permission is asked for: for what administrators do as such.
    ///
    /// # Errors
    /// 530 if there is no such virtual host.
    pub fn connect_operator(
        &self,
        login: Login,
        vhost: &str,
    ) -> Result<Arc<Connection>, BrokerError> {
        let state = self.state();
        let known = state.vhosts.get(vhost).ok_or_else(|| {
            BrokerError::new(ErrorKind::NotAllowed, format!("vhost {vhost} not found"))
        })?;
        Ok(Arc::new(self.made(login, Arc::clone(&known.name), None, true)))
    }

    /// `connection.open`
    ///
    /// # Errors
    /// 530 if there is no such virtual host, the user may not enter it, or a limit is reached.
    pub fn connect_client(
        &self,
        login: Login,
        vhost: &str,
        client: Client,
    ) -> Result<Arc<Connection>, BrokerError> {
        let state = self.state();
        let connection = self.admit(&state, login, vhost, Some(client))?;
        let mut open = self.connections();
        check_limits(&state, &open, &connection)?;
        open.insert(connection.id, Arc::clone(&connection));
        Ok(connection)
    }

    fn admit(
        &self,
        state: &State,
        login: Login,
        vhost: &str,
        client: Option<Client>,
    ) -> Result<Arc<Connection>, BrokerError> {
        let Some(known) = state.vhosts.get(vhost) else {
            let text = format!("vhost {vhost} not found");
            return Err(BrokerError::new(ErrorKind::NotAllowed, text));
        };
        let user = state.users.get(&login.user);
        if user.is_none_or(|user| !user.permissions.contains_key(vhost)) {
            let text = format!("access to vhost '{vhost}' refused for user '{}'", login.user);
            return Err(BrokerError::new(ErrorKind::NotAllowed, text));
        }
        Ok(Arc::new(self.made(login, Arc::clone(&known.name), client, false)))
    }

    fn made(
        &self,
        login: Login,
        vhost: Arc<str>,
        client: Option<Client>,
        trusted: bool,
    ) -> Connection {
        Connection {
            client,
            trusted,
            opened: self.clock.now().wall,
            cards: Mutex::default(),
            ending: Mutex::default(),
            id: ConnectionId(self.next_id()),
            login,
            vhost,
            mailbox: Arc::default(),
            owned: Mutex::default(),
            readers: Mutex::default(),
        }
    }

    /// A channel of our own making.
    #[must_use]
    pub fn open_channel(&self, connection: &Arc<Connection>) -> Channel {
        self.make_channel(connection, 0)
    }

    /// `channel.open`
    ///
    /// # Errors
    /// 530 if the user has as many channels as it may.
    pub fn open_client_channel(
        &self,
        connection: &Arc<Connection>,
        number: u16,
    ) -> Result<Channel, BrokerError> {
        let user = connection.user();
        let most = self.state().users.get(user).and_then(|user| user.limits.max_channels);
        if let Some(most) = most {
            let own = |other: &&Arc<Connection>| other.user() == user;
            let open = self.connections();
            let channels: usize =
                open.values().filter(own).map(|other| other.lock_cards().len()).sum();
            if u64::try_from(channels).unwrap_or(u64::MAX) >= most {
                let text = format!(
                    "number of channels opened for user '{user}' has reached the maximum allowed \
                     user limit of ({most})"
                );
                return Err(BrokerError::new(ErrorKind::NotAllowed, text));
            }
        }
        Ok(self.make_channel(connection, number))
    }

    fn make_channel(&self, connection: &Arc<Connection>, number: u16) -> Channel {
        let key = ChannelKey(self.next_id());
        let card = Arc::new(ChannelCard::new(number));
        connection.lock_cards().insert(key, Arc::clone(&card));
        Channel {
            connection: Arc::clone(connection),
            card,
            key,
            last: None,
            last_queue: None,
            prefetch: 0,
            shared_prefetch: 0,
            consumers: HashMap::new(),
            queues: BTreeMap::new(),
            reply: None,
            route: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
        }
    }

    /// The clients that are connected, oldest first.
    #[must_use]
    pub fn clients(&self) -> Vec<Arc<Connection>> {
        self.connections().values().cloned().collect()
    }

    /// Ends the connections for which `which` is true, with 320 and this reason; returns how many.
    pub fn end_connections(&self, which: impl Fn(&Connection) -> bool, reason: &str) -> usize {
        let ended: Vec<_> = self.clients().into_iter().filter(|client| which(client)).collect();
        ended.iter().for_each(|connection| connection.end(reason));
        ended.len()
    }

    pub(super) fn check_queue_limit(
        &self,
        state: &State,
        vhost: &str,
        queue: &str,
    ) -> Result<(), BrokerError> {
        let Some(known) = state.vhosts.get(vhost) else { return Ok(()) };
        let limits = Limits { max_queues: known.limits.max_queues, ..Limits::default() };
        let existing = u64::try_from(known.queues.len()).unwrap_or(u64::MAX);
        limits
            .check_queue(existing, queue, vhost)
            .map_err(|reached| BrokerError::precondition(reached.to_string()))
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more connection may open.
fn check_limits(
    state: &State,
    open: &BTreeMap<ConnectionId, Arc<Connection>>,
    new: &Connection,
) -> Result<(), BrokerError> {
    let count = |which: &dyn Fn(&Connection) -> bool| {
        u64::try_from(open.values().filter(|other| which(other)).count()).unwrap_or(u64::MAX)
    };
    let refused = |text: String| BrokerError::new(ErrorKind::NotAllowed, text);
    let (vhost, user) = (&*new.vhost, new.user());
    let limits = state.vhosts.get(vhost).map(|vhost| vhost.limits).unwrap_or_default();
    if limits.max_connections.is_some() {
        let limits = Limits { max_connections: limits.max_connections, ..Limits::default() };
        let existing = count(&|other| *other.vhost == *vhost);
        limits
            .check_connection(existing, vhost, user)
            .map_err(|reached| refused(reached.to_string()))?;
    }
    let limits = state.users.get(user).map(|user| user.limits).unwrap_or_default();
    match limits.max_connections {
        Some(most) if count(&|other| other.user() == user) >= most => Err(refused(format!(
            "connection refused for user '{user}': user connection limit ({most}) is reached"
        ))),
        _ => Ok(()),
    }
}
