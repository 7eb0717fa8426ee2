//! What a connection says and hears: events to the handlers, replies, confirms and deliveries out,
//! each when it is due.
//!
//! Knows no socket: bytes come in and go out in buffers. The driver calls
//! [`receive`](Session::receive), [`step`](Session::step) and [`pull`](Session::pull) whenever
//! something has moved.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_amqp_proto::{
    Authenticate, ChannelId, Connection, Event, Fault, MethodId, Output, Phase, RawTable, Refusal,
    ReplyCode, ShortStr, Tick, methods,
};
use ottla_engine::Lsn;
use ottla_engine::broker::{self, Login, Peer};
use ottla_engine::queue::ChannelKey;
use tokio::task::JoinHandle;

use super::channel::{Channel, Wait};
use super::codes::{self, Trouble};
use super::handlers::{self, Answer, Call};
use super::lobby::Place;
use super::outgoing::{confirm, hand_out};
use super::{Context, arguments, is_local, login};

/// One connection, without its socket.
#[derive(Debug)]
pub(super) struct Session {
    context: Arc<Context>,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    wire: Wire,
    /// How the client logged in, and what it says of itself.
    introduction: (ShortStr, RawTable),
    /// The name and password that are being judged.
    judging: Option<JoinHandle<Option<Login>>>,
    login: Option<Login>,
    /// Among those that are not logged in.
    place: Option<Place>,
    link: Option<Arc<broker::Connection>>,
    channels: HashMap<ChannelId, Channel>,
    numbers: HashMap<ChannelKey, ChannelId>,
    /// Channels that need a look: something waits there.
    listed: Vec<ChannelId>,
    backlog: Backlog,
    unconfirmed: usize,
    end: End,
    /// The log is visible up to here.
    visible: Lsn,
    now: Duration,
    /// When something is tried again.
    retry: Option<Duration>,
    /// When the socket is dropped at the latest.
    over: Option<Duration>,
    blocked: bool,
    /// Input was left alone because there was too much to do.
    stalled: bool,
    /// The client reads no more.
    gone: bool,
    /// A refused client is left hanging without a word.
    silent: bool,
}

/// The protocol's machine and what it has to write.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) machine: Connection,
    pub(super) out: Output,
}

/// What waits on all channels together.
#[derive(Clone, Copy, Debug, Default)]
struct Backlog {
    events: usize,
    bytes: usize,
}

/// Whether the connection goes on, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// The client said `connection.close`, or is gone: what it sent before is done first.
    Leaving,
    /// The server stops: what waits for the log is answered first.
    Stopping,
    /// Nothing is left to be done but to write.
    Done,
}

impl Session {
    pub(super) fn new(
        context: Arc<Context>,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        place: Place,
    ) -> Self {
        let now = context.now();
        let machine = Connection::new(Arc::clone(&context.settings), now);
        Self {
            visible: context.release.visible(),
            context,
            remote,
            local,
            introduction: (ShortStr::new(), RawTable::default()),
            wire: Wire { machine, out: Output::new() },
            judging: None,
            login: None,
            place: Some(place),
            link: None,
            channels: HashMap::new(),
            numbers: HashMap::new(),
            listed: Vec::new(),
            backlog: Backlog::default(),
            unconfirmed: 0,
            end: End::NotYet,
            now,
            retry: None,
            over: None,
            blocked: false,
            stalled: false,
            gone: false,
            silent: false,
        }
    }

    /// What is to be written.
    pub(super) const fn out(&mut self) -> &mut Output {
        &mut self.wire.out
    }

    /// Whether there is room for more of what the client says.
    pub(super) fn wants_input(&self) -> bool {
        let hears = match self.end {
            End::NotYet => true,
            End::Leaving | End::Stopping => false,
            End::Done => self.wire.machine.phase() == Phase::Closing,
        };
        hears
            && self.judging.is_none()
            && self.backlog.events < BACKLOG_EVENTS_MAX
            && self.backlog.bytes < BACKLOG_BYTES_MAX
            && self.unconfirmed < UNCONFIRMED_MAX
            && self.wire.out.remaining() < OUTPUT_MAX
    }

    /// Whether input that was left alone can be looked at now.
    pub(super) fn can_resume(&self) -> bool {
        self.stalled && self.wants_input()
    }

    /// Whether the socket may be closed, after what can be written was written.
    pub(super) fn is_over(&self) -> bool {
        if self.end != End::Done {
            return false;
        }
        let late = self.is_overdue();
        match self.wire.machine.phase() {
            _ if self.gone => true,
            Phase::Closed | Phase::Header if !self.silent => self.wire.out.is_empty() || late,
            _ => late,
        }
    }

    fn is_overdue(&self) -> bool {
        self.over.is_some_and(|over| self.now >= over)
    }

    /// Takes what the client said.
    pub(super) fn receive(&mut self, input: &mut BytesMut, now: Duration) {
        self.now = now;
        self.visible = self.context.release.visible();
        loop {
            self.stalled = !self.wants_input();
            if self.stalled {
                if self.wire.out.remaining() < OUTPUT_MAX {
                    self.wire.machine.excuse(now);
                }
                return;
            }
            match self.wire.machine.receive(input, now, &mut self.wire.out) {
                Ok(Some(event)) => self.on_event(event),
                Ok(None) => return,
                Err(fault) => self.fail(&fault),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Publish(_) | Event::Method { .. } | Event::ChannelClose { .. } => {
                self.on_channel_event(event);
            }
            Event::Authenticate(login) => self.authenticate(&login),
            Event::Open { virtual_host } => self.open(&virtual_host),
            Event::ChannelOpen { channel } => self.open_channel(channel),
            Event::ChannelClosed { .. } => {}
            Event::UpdateSecret { .. } => {
                let done = methods::ConnectionUpdateSecretOk {};
                self.wire.machine.send(ChannelId::CONNECTION, done, &mut self.wire.out);
            }
            Event::Close { .. } => self.end = End::Leaving,
            Event::Foreign | Event::Closed => self.finish(),
        }
    }

    fn authenticate(&mut self, login: &Authenticate) {
        self.introduction = (login.mechanism.clone(), login.client_properties.clone());
        let peer = if is_local(self.remote) { Peer::Loopback } else { Peer::Remote };
        let context = Arc::clone(&self.context);
        if let Some(user) = context.anonymous.as_ref().filter(|_| login::is_anonymous(login)) {
            return self.judged(context.broker().admit_anonymous(user, peer));
        }
        let Some(credentials) = login::credentials(login) else {
            return self.refuse_login("");
        };
        // hashing a password is slow on purpose
        self.judging = Some(tokio::task::spawn_blocking(move || {
            let login::Credentials { user, password } = credentials;
            let login = context.broker().authenticate(&user, &password, peer);
            if login.is_none() {
                tracing::warn!(user, "login refused");
            }
            login
        }));
    }

    /// Goes on once the password was judged.
    pub(super) fn poll_login(&mut self, context: &mut task::Context<'_>) {
        let Some(judging) = &mut self.judging else { return };
        let Poll::Ready(judged) = Pin::new(judging).poll(context) else { return };
        self.judging = None;
        self.judged(judged.ok().flatten());
    }

    fn judged(&mut self, login: Option<Login>) {
        match login {
            Some(login) => {
                self.login = Some(login);
                self.wire.machine.accept_login(&mut self.wire.out);
            }
            None => self.refuse_login("name or password"),
        }
    }

    fn refuse_login(&mut self, why: &str) {
        tracing::info!(remote = %self.remote, why, "login refused");
        if self.wire.machine.refuse_login(&mut self.wire.out) == Refusal::Silent {
            self.silent = true;
            self.over = Some(self.now + SILENT_REFUSAL);
        }
        self.end = End::Done;
    }

    fn open(&mut self, virtual_host: &ShortStr) {
        let name = String::from_utf8_lossy(virtual_host);
        let Some(login) = self.login.clone() else { return };
        let client = self.client();
        match self.context.broker().connect_client(login, &name, client) {
            Ok(link) => {
                self.link = Some(link);
                self.place = None;
                self.wire.machine.accept_open(&mut self.wire.out);
            }
            Err(error) => {
                let culprit = methods::ConnectionOpen::ID;
                let fault = match codes::refused(ChannelId::CONNECTION, &error, culprit) {
                    Trouble::Fault(fault) => fault,
                    _ => Fault::connection(ReplyCode::ResourceError, error, culprit),
                };
                self.fail(&fault);
            }
        }
    }

    /// Who is at the other end, for those who look.
    fn client(&mut self) -> broker::Client {
        let (mechanism, properties) = std::mem::take(&mut self.introduction);
        let local = self.local.map(|local| local.to_string()).unwrap_or_default();
        let limits = self.wire.machine.limits();
        broker::Client {
            name: format!("{} -> {local}", self.remote),
            peer_host: self.remote.ip().to_canonical().to_string(),
            peer_port: self.remote.port(),
            host: self.local.map(|local| local.ip().to_string()).unwrap_or_default(),
            port: self.local.map_or(0, |local| local.port()),
            mechanism: mechanism.to_string(),
            properties: arguments::arguments(&properties),
            frame_max: limits.frame_max,
            channel_max: limits.channel_max,
            heartbeat: limits.heartbeat,
        }
    }

    fn open_channel(&mut self, number: ChannelId) {
        let Some(link) = &self.link else { return };
        let channel = match self.context.broker().open_client_channel(link, number.0) {
            Ok(channel) => channel,
            Err(error) => {
                let culprit = methods::ChannelOpen::ID;
                return self.fail(&Fault::connection(ReplyCode::NotAllowed, error, culprit));
            }
        };
        self.numbers.insert(channel.key(), number);
        self.channels.insert(number, Channel::new(number, channel));
        let done = methods::ChannelOpenOk::default();
        self.wire.machine.send(number, done, &mut self.wire.out);
    }

    fn on_channel_event(&mut self, event: Event) {
        let number = channel_of(&event);
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if channel.wait.is_some() {
            self.backlog.add(&event);
            channel.backlog.push_back(event);
            return;
        }
        self.attempt(number, event);
    }

    /// Does what an event asks for, or keeps it for later.
    fn attempt(&mut self, number: ChannelId, event: Event) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let broker = self.context.broker();
        if !handlers::may_overtake(&event) {
            channel.flush(broker);
            match self.append(number) {
                Ok(()) => {}
                Err(Trouble::Fault(fault)) => return self.fail(&fault),
                Err(Trouble::Busy) => return self.hold_for(number, event, self.visible),
                Err(Trouble::Full(why)) => {
                    self.block(why);
                    return self.hold(number, event, Wait::Until(self.now + DISK_RETRY));
                }
            }
        }
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let broker = self.context.broker();
        if handlers::looks_back(&event)
            && let Some(lsn) = broker.catch_up(&channel.link)
        {
            return self.hold_for(number, event, lsn);
        }
        if handlers::drains(&event) && self.is_consuming() {
            return self.hold(number, event, Wait::Until(self.now + LOG_RETRY));
        }
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let engine = &*self.context.engine;
        let mut call = Call { engine, broker, wire: &mut self.wire, channel };
        match handlers::handle(&mut call, &event) {
            Ok(Answer::Nothing) => {}
            Ok(Answer::Now(method)) => {
                self.wire.machine.send(number, method, &mut self.wire.out);
            }
            Ok(Answer::After(lsn, method)) => {
                channel.wait = Some(Wait::Reply(lsn, method));
            }
            Ok(Answer::Got(got)) if got.lsn.is_durable(self.visible) => {
                handlers::write_got(&mut self.wire, channel, &got);
            }
            Ok(Answer::Got(got)) => channel.wait = Some(Wait::Got(got)),
            Ok(Answer::Drained(method)) => {
                while self.pull_some() {}
                self.wire.machine.send(number, method, &mut self.wire.out);
            }
            Ok(Answer::Close) => return self.close_channel(number),
            Err(Trouble::Fault(fault)) => return self.fail(&fault),
            Err(Trouble::Busy) => return self.hold_for(number, event, self.visible),
            Err(Trouble::Full(why)) => {
                self.block(why);
                return self.hold(number, event, Wait::Until(self.now + DISK_RETRY));
            }
        }
        self.list(number);
    }

    /// Appends what a channel has published to streams.
    fn append(&mut self, number: ChannelId) -> Result<(), Trouble> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let (engine, broker) = (&*self.context.engine, self.context.broker());
        let mut call = Call { engine, broker, wire: &mut self.wire, channel };
        handlers::append_gathered(&mut call)
    }

    /// Appends what a channel has published to streams, or sees that it is tried again.
    fn append_or_wait(&mut self, number: ChannelId) {
        let wait = match self.append(number) {
            Ok(()) => return,
            Err(Trouble::Fault(fault)) => return self.fail(&fault),
            Err(Trouble::Busy) => LOG_RETRY,
            Err(Trouble::Full(why)) => {
                self.block(why);
                DISK_RETRY
            }
        };
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.wait.get_or_insert(Wait::Until(self.now + wait));
        }
    }

    fn hold_for(&mut self, number: ChannelId, event: Event, lsn: Lsn) {
        self.hold(number, event, self.wait_for(lsn));
    }

    fn wait_for(&self, lsn: Lsn) -> Wait {
        if self.is_visible(lsn) {
            Wait::Until(self.now + LOG_RETRY) // visible to us before it is to the queue
        } else {
            Wait::Log(lsn)
        }
    }

    fn hold(&mut self, number: ChannelId, event: Event, wait: Wait) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        self.backlog.add(&event);
        channel.backlog.push_front(event);
        channel.wait = Some(wait);
        self.list(number);
    }

    fn list(&mut self, number: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&number)
            && !channel.listed
        {
            channel.listed = true;
            self.listed.push(number);
        }
    }

    fn is_visible(&self, lsn: Lsn) -> bool {
        lsn == Lsn::ZERO || lsn.is_durable(self.visible)
    }

    /// Goes on where something has come to pass: the log, a moment. Hands over what was settled.
    pub(super) fn step(&mut self, now: Duration) {
        self.now = now;
        self.visible = self.context.release.visible();
        let listed = std::mem::take(&mut self.listed);
        self.unconfirmed = 0;
        self.retry = None;
        for number in listed {
            self.advance(number);
            self.append_or_wait(number);
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            channel.flush(self.context.broker());
            confirm(&mut self.wire, channel, self.visible);
            self.unconfirmed += channel.unconfirmed();
            if let Some(Wait::Until(at)) = channel.wait {
                self.retry = Some(self.retry.map_or(at, |retry| retry.min(at)));
            }
            let again = std::mem::replace(&mut channel.listed, false);
            if again && channel.is_busy() {
                self.list(number);
            }
        }
        self.unblock();
        self.end_by_force();
        self.wind_up();
        self.tick();
    }

    /// Does what waited on a channel, until something has to wait again.
    fn advance(&mut self, number: ChannelId) {
        loop {
            let Some(channel) = self.channels.get(&number) else { return };
            let due = match &channel.wait {
                None => true,
                Some(Wait::Reply(lsn, _) | Wait::Log(lsn)) => self.is_visible(*lsn),
                Some(Wait::Got(got)) => self.is_visible(got.lsn),
                Some(Wait::Until(at)) => self.now >= *at,
            };
            let Some(channel) = self.channels.get_mut(&number).filter(|_| due) else { return };
            match channel.wait.take() {
                Some(Wait::Reply(_, method)) => {
                    self.wire.machine.send(number, method, &mut self.wire.out);
                }
                Some(Wait::Got(got)) => handlers::write_got(&mut self.wire, channel, &got),
                _ => {}
            }
            let Some(event) = channel.backlog.pop_front() else { return };
            self.backlog.remove(&event);
            self.attempt(number, event);
        }
    }

    /// Takes deliveries while there is room for them; `true` if there may be more.
    pub(super) fn pull(&mut self) -> bool {
        if self.is_consuming() {
            return false;
        }
        while self.has_room() {
            if !self.pull_some() {
                return false;
            }
        }
        true
    }

    /// Takes some deliveries; `false` if there were none.
    fn pull_some(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        let parcels = self.context.broker().take(link, PULL_PARCELS);
        let any = !parcels.is_empty();
        for parcel in parcels {
            let number = self.numbers.get(&parcel.channel());
            if let Some(channel) = number.and_then(|number| self.channels.get_mut(number)) {
                hand_out(&mut self.wire, channel, parcel);
            }
        }
        any
    }

    /// Whether there is room for deliveries.
    pub(super) fn has_room(&self) -> bool {
        self.wire.out.remaining() < PULL_BYTES
    }

    fn is_consuming(&self) -> bool {
        let mut listed = self.listed.iter().filter_map(|number| self.channels.get(number));
        listed.any(Channel::is_consuming)
    }

    /// Sees that `waker` is woken when something moves; `false` if it already has.
    pub(super) fn park(&mut self, waker: &task::Waker) -> bool {
        let places = self.listed.iter().filter_map(|number| self.channels.get(number)?.waits_for());
        if let Some(lsn) = places.min()
            && self.context.release.register_visible(lsn, waker)
        {
            return false;
        }
        if self.has_room()
            && !self.is_consuming()
            && let Some(link) = &self.link
        {
            self.context.broker().register(link, waker);
        }
        if let Some(link) = &self.link {
            link.register_ending(waker);
        }
        true
    }

    /// When to come back at the latest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let machine = self.wire.machine.deadline();
        [machine, self.retry, self.over].into_iter().flatten().min()
    }

    /// The server stops: says so once what waits for the log is answered.
    pub(super) fn stop(&mut self) {
        if self.end == End::NotYet {
            self.end = End::Stopping;
        }
        self.over = Some(self.context.now() + STOP_PATIENCE);
    }

    /// The client is gone: what it sent is still done.
    pub(super) fn hang_up(&mut self) {
        self.gone = true;
        if self.end != End::Done {
            self.end = End::Leaving;
        }
        self.over.get_or_insert(self.now + STOP_PATIENCE);
    }

    /// Somebody said that this connection must end.
    fn end_by_force(&mut self) {
        if self.end != End::NotYet {
            return;
        }
        if let Some(reason) = self.link.as_ref().and_then(|link| link.ending()) {
            self.fail(&Fault::connection(ReplyCode::ConnectionForced, reason, MethodId::NONE));
        }
    }

    /// Ends in order once nothing waits any more.
    fn wind_up(&mut self) {
        let late = self.is_overdue();
        let end = self.end;
        match end {
            End::NotYet | End::Done => {}
            End::Stopping if !late && self.channels.values().any(Channel::is_busy) => {}
            End::Stopping => {
                let text = "broker forced connection closure with reason 'shutdown'";
                self.fail(&Fault::connection(ReplyCode::ConnectionForced, text, MethodId::NONE));
            }
            End::Leaving if !late && self.is_behind() => {}
            End::Leaving => {
                self.release();
                self.wire.machine.close_ok(&mut self.wire.out);
                self.end = End::Done;
                self.over = Some(self.now + STOP_PATIENCE);
            }
        }
    }

    /// Whether something that was published is not visible yet; if so, sees that it is looked at again.
    fn is_behind(&mut self) -> bool {
        let broker = self.context.broker();
        let mut behind = None;
        for channel in self.channels.values_mut() {
            channel.flush(broker);
            if channel.wait.is_some() {
                return true;
            }
            broker.append_gathered(&mut channel.link).ok();
            if let Some(lsn) = broker.catch_up(&channel.link) {
                behind = Some((channel.number, lsn));
                break;
            }
        }
        let Some((number, lsn)) = behind else { return false };
        let wait = self.wait_for(lsn);
        if let Wait::Until(at) = wait {
            self.retry = Some(at);
        }
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.wait = Some(wait);
        }
        self.list(number);
        true
    }

    fn tick(&mut self) {
        match self.wire.machine.tick(self.now, &mut self.wire.out) {
            Tick::Alive => {}
            Tick::Silent => {
                tracing::warn!(remote = %self.remote, "no heartbeat: closing an AMQP connection");
                self.gone = true;
                self.finish();
            }
            Tick::Overdue => {
                tracing::info!(remote = %self.remote, "an AMQP handshake or close took too long");
                self.gone = true;
                self.finish();
            }
        }
    }

    /// Closes what a fault says.
    fn fail(&mut self, fault: &Fault) {
        tracing::info!(remote = %self.remote, %fault, "AMQP error");
        match fault {
            Fault::Channel { channel: number, .. } => {
                self.append(*number).ok(); // what came before it counts
                if let Some(channel) = self.channels.get_mut(number) {
                    confirm(&mut self.wire, channel, self.visible);
                }
                self.wire.machine.fail(fault, &mut self.wire.out);
                self.drop_channel(*number);
            }
            Fault::Connection(_) => {
                self.wire.machine.fail(fault, &mut self.wire.out);
                self.release();
                self.end = End::Done;
            }
        }
    }

    fn close_channel(&mut self, number: ChannelId) {
        self.drop_channel(number);
        self.wire.machine.channel_close_ok(number, &mut self.wire.out);
    }

    fn drop_channel(&mut self, number: ChannelId) {
        let Some(mut channel) = self.channels.remove(&number) else { return };
        self.numbers.remove(&channel.link.key());
        for event in &channel.backlog {
            self.backlog.remove(event);
        }
        let broker = self.context.broker();
        channel.flush(broker);
        broker.append_gathered(&mut channel.link).ok();
        broker.close_channel(channel.link);
    }

    /// Gives everything back: what was delivered, consumers, exclusive queues.
    fn release(&mut self) {
        let numbers: Vec<ChannelId> = self.channels.keys().copied().collect();
        for number in numbers {
            self.drop_channel(number);
        }
        if let Some(link) = self.link.take() {
            self.context.broker().disconnect(&link);
        }
    }

    /// Nothing is left to be said.
    fn finish(&mut self) {
        self.release();
        self.end = End::Done;
        self.over = Some(self.now + STOP_PATIENCE);
    }

    fn block(&mut self, why: &'static str) {
        if !self.blocked {
            self.blocked = true;
            self.wire.machine.blocked(ShortStr::from_static(why), &mut self.wire.out);
        }
    }

    fn unblock(&mut self) {
        if self.blocked && self.retry.is_none() {
            self.blocked = false;
            self.wire.machine.unblocked(&mut self.wire.out);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.release(); // also when the driver was aborted
    }
}

impl Backlog {
    fn add(&mut self, event: &Event) {
        self.events += 1;
        self.bytes += body_of(event);
    }

    fn remove(&mut self, event: &Event) {
        self.events -= 1;
        self.bytes -= body_of(event);
    }
}

fn body_of(event: &Event) -> usize {
    match event {
        Event::Publish(publish) => publish.content.body.len(),
        _ => 0,
    }
}

fn channel_of(event: &Event) -> ChannelId {
    match event {
        Event::Publish(publish) => publish.channel,
        Event::Method { channel, .. } | Event::ChannelClose { channel, .. } => *channel,
        _ => ChannelId::CONNECTION,
    }
}

/// Events that wait on all channels of a connection before it is read no further.
const BACKLOG_EVENTS_MAX: usize = 1024;
/// Bytes of bodies among them.
const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// Publishes that wait for the log before the connection is read no further.
const UNCONFIRMED_MAX: usize = 65_536;
/// Output a client does not read before it is heard no further, in bytes.
const OUTPUT_MAX: usize = 4 << 20;
/// Output a client does not read before it gets no more deliveries, in bytes.
const PULL_BYTES: usize = 256 << 10;
/// Deliveries taken at once.
const PULL_PARCELS: usize = 64;
/// How long a refused client that cannot be told is left hanging, as by RabbitMQ.
const SILENT_REFUSAL: Duration = Duration::from_secs(3);
/// How long the end of a connection may take.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// When a publish is tried again on a full disk.
const DISK_RETRY: Duration = Duration::from_millis(250);
/// When something is tried again that the log should long have allowed.
const LOG_RETRY: Duration = Duration::from_millis(2);
