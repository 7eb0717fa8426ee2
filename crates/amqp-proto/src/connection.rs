//! The server's side of one connection: handshake, channels, closes, heartbeats.
//!
//! ```text
//!          header          start-ok                 accept_login
//! Header ─────────▶ Start ──────────▶ Authenticate ─────────────▶ Tune
//!    │ foreign                             │ refuse_login           │ tune-ok
//!    ▼                                     │                        ▼
//! Closed ◀────────────── silent ───────────┤        accept_open   Open ── open ──▶ Entering
//!    ▲                                     │          ┌──────────────────────────────┘
//!    │ close-ok                            ▼          ▼
//!    ├────────────────────────────────▶ Closing ◀── Running        (fail: from every phase)
//!    │ close_ok                                       │ client's close
//!    └──────────────────────────────── Leaving ◀──────┘
//! ```
//!
//! In `Authenticate`, `Entering` and `Leaving` the session has the word and no input is looked at.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::channel::{self, Command, Delivery, GetOk, Publish, Returned};
use crate::channels::{Channels, State};
use crate::fault::{Failure, Fault, ReplyCode};
use crate::frame::{self, Frame, FrameKind, PROTOCOL_HEADER};
use crate::handshake::{self, Authenticate, Capabilities, Opening, Refusal};
use crate::heartbeat::{Heartbeat, Tick};
use crate::hot;
use crate::ids::{ChannelId, DeliveryTag, MethodId, ShortStr};
use crate::methods::{
    BasicAck, BasicNack, ChannelClose, ChannelCloseOk, ChannelOpen, ConnectionBlocked,
    ConnectionClose, ConnectionCloseOk, ConnectionOpenOk, ConnectionStart, ConnectionStartOk,
    ConnectionTune, ConnectionUnblocked, Method,
};
use crate::output::Output;
use crate::settings::{HANDSHAKE_FRAME_MAX, Limits, Settings};

/// What a client wants, in the order it said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Log in: answer with [`Connection::accept_login`] or [`Connection::refuse_login`].
    Authenticate(Authenticate),
    /// Enter a virtual host: answer with [`Connection::accept_open`] or [`Connection::fail`].
    Open {
        /// Its name.
        virtual_host: ShortStr,
    },
    /// Open a channel: answer with `channel.open-ok`, or fail.
    ChannelOpen {
        /// Its number, never 0.
        channel: ChannelId,
    },
    /// A message to publish.
    Publish(Publish),
    /// Any other method of an open channel: one of [`Method::is_channel_request`].
    Method {
        /// The channel it came on.
        channel: ChannelId,
        /// The method.
        method: Method,
    },
    /// The client closes a channel: settle what it holds, answer with [`Connection::channel_close_ok`].
    ChannelClose {
        /// Its number.
        channel: ChannelId,
        /// What the client says.
        close: ChannelClose,
    },
    /// The client confirmed our `channel.close`: the number is free again.
    ChannelClosed {
        /// Its number.
        channel: ChannelId,
    },
    /// A new secret for the login: answer with `connection.update-secret-ok` on channel 0, or fail.
    UpdateSecret {
        /// What to check again.
        secret: bytes::Bytes,
        /// Why, in the client's words.
        reason: ShortStr,
    },
    /// The client closes: release exclusive queues, then answer with [`Connection::close_ok`].
    Close {
        /// What the client says.
        close: ConnectionClose,
    },
    /// Not AMQP 0-9-1: our version was written as the answer; flush and drop the socket.
    Foreign,
    /// The client confirmed our close: flush and drop the socket.
    Closed,
}

/// Where a connection stands; the diagram is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the protocol header.
    Header,
    /// Start was sent.
    Start,
    /// The session decides about the login.
    Authenticate,
    /// Tune was sent.
    Tune,
    /// Waiting for `connection.open`.
    Open,
    /// The session decides about the virtual host.
    Entering,
    /// Channels work.
    Running,
    /// The client said close; the session owes close-ok.
    Leaving,
    /// We said close; all but close and close-ok is ignored.
    Closing,
    /// Over: what is in the output is all that is left to do.
    Closed,
}

/// One connection, seen from the server.
///
/// Invariant: after `connection.close` or close-ok was written, nothing more is; after
/// `channel.close`, nothing more on that channel but close-ok.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<Settings>,
    phase: Phase,
    limits: Limits,
    capabilities: Capabilities,
    channels: Channels,
    heartbeat: Option<Heartbeat>,
    /// When the handshake or the close must be over.
    overdue: Option<Duration>,
    /// Frames written, for the heartbeat to see whether there were any.
    sent: u64,
    /// Input left over by the last `receive`, to see whether something came.
    left: usize,
    now: Duration,
    mechanism: ShortStr,
    /// A framing error was answered: where the next frame begins is not known any more.
    deaf: bool,
}

impl Connection {
    /// A connection that was accepted at `now`. Time is counted from any fixed start.
    #[must_use]
    pub fn new(settings: Arc<Settings>, now: Duration) -> Self {
        let overdue = Some(now + settings.handshake_timeout);
        let limits = Limits { frame_max: HANDSHAKE_FRAME_MAX, channel_max: 0, heartbeat: 0 };
        Self {
            settings,
            phase: Phase::Header,
            limits,
            capabilities: Capabilities::default(),
            channels: Channels::default(),
            heartbeat: None,
            overdue,
            sent: 0,
            left: 0,
            now,
            mechanism: ShortStr::new(),
            deaf: false,
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What was negotiated; before tune-ok the limits of the handshake.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// What the client understands.
    #[must_use]
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether `channel` is open in both directions.
    #[must_use]
    pub fn is_open(&self, channel: ChannelId) -> bool {
        self.phase == Phase::Running && self.channels.is_open(channel)
    }

    /// Takes from `input` what makes the next event. Call until it gives `None`, then read more, or,
    /// in a phase where the session has the word, answer first.
    ///
    /// # Errors
    /// A fault is to be handed to [`fail`](Self::fail) before the next call.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        now: Duration,
        out: &mut Output,
    ) -> Result<Option<Event>, Fault> {
        self.arrived(input.len(), now);
        let event = self.next_event(input, out);
        self.left = input.len();
        event
    }

    fn arrived(&mut self, len: usize, now: Duration) {
        self.now = self.now.max(now);
        if len > self.left
            && let Some(heartbeat) = &mut self.heartbeat
        {
            heartbeat.received(self.now);
        }
    }

    fn next_event(
        &mut self,
        input: &mut BytesMut,
        out: &mut Output,
    ) -> Result<Option<Event>, Fault> {
        loop {
            match self.phase {
                Phase::Authenticate | Phase::Entering | Phase::Leaving => return Ok(None),
                Phase::Closed => {
                    input.clear();
                    return Ok(None);
                }
                Phase::Closing if self.deaf => return Ok(self.listen_for_close_ok(input)),
                Phase::Header => match handshake::opening(input) {
                    Opening::Incomplete => return Ok(None),
                    Opening::Foreign => return Ok(Some(self.refuse_protocol(input, out))),
                    Opening::Ours => self.start(input, out),
                },
                _ => {
                    if let Some(event) = self.take_hot(input) {
                        return Ok(Some(event));
                    }
                    let frame = frame::split_frame(input, self.limits.frame_max)
                        .inspect_err(|_| self.deaf = true)?;
                    let Some(frame) = frame else { return Ok(None) };
                    if let Some(event) = self.on_frame(frame, out)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// The frequent events, if their channel is between commands and they are all there.
    fn take_hot(&mut self, input: &mut BytesMut) -> Option<Event> {
        let channel = hot::channel_of(input)?;
        match self.channels.get(channel) {
            Some(State::Open(assembler)) if assembler.is_idle() => {}
            _ => return None,
        }
        if let Some(ack) = hot::take_ack(input) {
            return Some(Event::Method { channel, method: ack.into() });
        }
        hot::take_publish(input, self.limits.frame_max, self.settings.message_max)
            .map(Event::Publish)
    }

    fn refuse_protocol(&mut self, input: &mut BytesMut, out: &mut Output) -> Event {
        input.clear();
        out.tail().extend_from_slice(&PROTOCOL_HEADER);
        self.phase = Phase::Closed;
        Event::Foreign
    }

    fn start(&mut self, input: &mut BytesMut, out: &mut Output) {
        input.advance(PROTOCOL_HEADER.len());
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: self.settings.server_properties.clone(),
            mechanisms: self.settings.mechanisms.clone(),
            locales: bytes::Bytes::from_static(b"en_US"),
        };
        self.write(ChannelId::CONNECTION, &start.into(), out);
        self.phase = Phase::Start;
    }

    fn on_frame(&mut self, frame: Frame, out: &mut Output) -> Result<Option<Event>, Fault> {
        if self.phase == Phase::Closing {
            return Ok(self.on_frame_closing(&frame, out));
        }
        match (frame.kind, frame.channel) {
            (FrameKind::Heartbeat, ChannelId::CONNECTION) => Ok(None),
            (FrameKind::Method, ChannelId::CONNECTION) => {
                self.on_connection_method(channel::decode_method(frame.payload)?)
            }
            (FrameKind::Heartbeat, _) | (_, ChannelId::CONNECTION) => Err(unexpected_frame(&frame)),
            _ if self.phase == Phase::Running => self.on_channel_frame(frame, out),
            _ => Err(unexpected_frame(&frame)),
        }
    }

    fn on_connection_method(&mut self, method: Method) -> Result<Option<Event>, Fault> {
        match (self.phase, method) {
            (_, Method::ConnectionClose(close)) => {
                self.phase = Phase::Leaving;
                self.channels.clear();
                Ok(Some(Event::Close { close }))
            }
            (Phase::Start, Method::ConnectionStartOk(start_ok)) => {
                self.on_start_ok(start_ok).map(Some)
            }
            (Phase::Tune, Method::ConnectionTuneOk(tune_ok)) => {
                self.limits = handshake::tune(&tune_ok, &self.settings)?;
                self.heartbeat = Heartbeat::new(tune_ok.heartbeat, self.now, self.sent);
                self.phase = Phase::Open;
                Ok(None)
            }
            (Phase::Open, Method::ConnectionOpen(open)) => {
                self.phase = Phase::Entering;
                Ok(Some(Event::Open { virtual_host: open.virtual_host }))
            }
            (Phase::Running, Method::ConnectionUpdateSecret(update)) => {
                Ok(Some(Event::UpdateSecret { secret: update.new_secret, reason: update.reason }))
            }
            (phase, method) => {
                let text = format!("unexpected method in connection state {}", phase.word());
                Err(Fault::connection(ReplyCode::ChannelError, text, method.id()))
            }
        }
    }

    fn on_start_ok(&mut self, start_ok: ConnectionStartOk) -> Result<Event, Fault> {
        handshake::login(&start_ok, &self.settings)?;
        self.capabilities = Capabilities::of(&start_ok.client_properties);
        self.mechanism = start_ok.mechanism.clone();
        self.phase = Phase::Authenticate;
        Ok(Event::Authenticate(Authenticate {
            mechanism: start_ok.mechanism,
            response: start_ok.response,
            client_properties: start_ok.client_properties,
        }))
    }

    fn on_channel_frame(&mut self, frame: Frame, out: &mut Output) -> Result<Option<Event>, Fault> {
        let channel = frame.channel;
        let message_max = self.settings.message_max;
        let assembler = match self.channels.get(channel) {
            Some(State::Open(assembler)) => assembler,
            Some(State::Closing) => return Ok(self.on_channel_closing(&frame, out)),
            Some(State::Leaving) => return Ok(None), // nothing follows a close
            None => return self.on_unopened(frame).map(Some),
        };
        match assembler.push(frame, message_max)? {
            None => Ok(None),
            Some(Command { method: Method::BasicPublish(publish), content: Some(content) }) => {
                Ok(Some(Event::Publish(Publish::new(channel, publish, content))))
            }
            Some(command) => self.on_channel_method(channel, command.method).map(Some),
        }
    }

    fn on_channel_method(&mut self, channel: ChannelId, method: Method) -> Result<Event, Fault> {
        match method {
            Method::ChannelClose(close) => {
                if let Some(state) = self.channels.get(channel) {
                    *state = State::Leaving;
                }
                Ok(Event::ChannelClose { channel, close })
            }
            Method::ChannelOpen(_) => {
                let text = "second 'channel.open' seen";
                Err(Fault::new(channel, ReplyCode::ChannelError, text, ChannelOpen::ID))
            }
            method if method.is_channel_request() => Ok(Event::Method { channel, method }),
            method => {
                let text = "unimplemented method";
                Err(Fault::new(channel, ReplyCode::CommandInvalid, text, method.id()))
            }
        }
    }

    fn on_unopened(&mut self, frame: Frame) -> Result<Event, Fault> {
        let channel = frame.channel;
        let expected = |culprit| {
            Fault::new(channel, ReplyCode::ChannelError, "expected 'channel.open'", culprit)
        };
        if frame.kind != FrameKind::Method {
            return Err(expected(MethodId::NONE));
        }
        let method = channel::decode_method(frame.payload)?;
        if !matches!(method, Method::ChannelOpen(_)) {
            return Err(expected(method.id()));
        }
        let (open, most) = (self.channels.len(), self.limits.channel_max);
        if most != 0 && open >= usize::from(most) {
            let text = format!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({most})"
            );
            return Err(Fault::new(channel, ReplyCode::NotAllowed, text, ChannelOpen::ID));
        }
        self.channels.open(channel);
        Ok(Event::ChannelOpen { channel })
    }

    /// After our `channel.close`: only close-ok frees the number; a close that crossed ours is
    /// answered.
    fn on_channel_closing(&mut self, frame: &Frame, out: &mut Output) -> Option<Event> {
        let channel = frame.channel;
        match method_id(frame)? {
            ChannelCloseOk::ID => {
                self.channels.remove(channel);
                Some(Event::ChannelClosed { channel })
            }
            ChannelClose::ID => {
                self.write(channel, &ChannelCloseOk {}.into(), out);
                None
            }
            _ => None,
        }
    }

    fn on_frame_closing(&mut self, frame: &Frame, out: &mut Output) -> Option<Event> {
        if frame.channel != ChannelId::CONNECTION {
            return None;
        }
        match method_id(frame)? {
            ConnectionCloseOk::ID => {
                self.phase = Phase::Closed;
                Some(Event::Closed)
            }
            ConnectionClose::ID => {
                self.write(ChannelId::CONNECTION, &ConnectionCloseOk {}.into(), out);
                None
            }
            _ => None,
        }
    }

    /// Looks for close-ok in a stream whose frames are lost; keeps no more than its beginning.
    fn listen_for_close_ok(&mut self, input: &mut BytesMut) -> Option<Event> {
        const CLOSE_OK: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, frame::FRAME_END];
        if input.windows(CLOSE_OK.len()).any(|window| window == CLOSE_OK) {
            input.clear();
            self.phase = Phase::Closed;
            return Some(Event::Closed);
        }
        input.advance(input.len().saturating_sub(CLOSE_OK.len() - 1));
        None
    }

    /// The login is good: proposes the limits.
    ///
    /// # Panics
    /// If no login waits for an answer.
    pub fn accept_login(&mut self, out: &mut Output) {
        assert!(self.phase == Phase::Authenticate, "no login to accept");
        let Settings { channel_max, frame_max, heartbeat, .. } = *self.settings;
        let tune = ConnectionTune { channel_max, frame_max, heartbeat };
        self.write(ChannelId::CONNECTION, &tune.into(), out);
        self.phase = Phase::Tune;
    }

    /// The login is not good: says so to a client that declared `authentication_failure_close`. The
    /// others see a socket that closes, after a moment that the driver waits.
    ///
    /// # Panics
    /// If no login waits for an answer.
    pub fn refuse_login(&mut self, out: &mut Output) -> Refusal {
        assert!(self.phase == Phase::Authenticate, "no login to refuse");
        if !self.capabilities.authentication_failure_close {
            self.phase = Phase::Closed;
            return Refusal::Silent;
        }
        let text = format!(
            "Login was refused using authentication mechanism {}. For details see the broker logfile.",
            self.mechanism
        );
        let fault = Fault::connection(ReplyCode::AccessRefused, text, MethodId::NONE);
        self.fail(&fault, out);
        Refusal::Said
    }

    /// The virtual host is entered: channels work from now on.
    ///
    /// # Panics
    /// If no `connection.open` waits for an answer.
    pub fn accept_open(&mut self, out: &mut Output) {
        assert!(self.phase == Phase::Entering, "no virtual host to enter");
        self.write(ChannelId::CONNECTION, &ConnectionOpenOk::default().into(), out);
        self.phase = Phase::Running;
        self.overdue = None;
    }

    /// Closes what the fault says: one channel or everything. Does nothing where a close was said
    /// already.
    pub fn fail(&mut self, fault: &Fault, out: &mut Output) {
        match fault {
            Fault::Channel { channel, failure } => self.close_channel(*channel, failure, out),
            Fault::Connection(failure) => self.close(failure, out),
        }
    }

    fn close_channel(&mut self, channel: ChannelId, failure: &Failure, out: &mut Output) {
        if !self.is_open(channel) {
            return;
        }
        let close = ChannelClose {
            reply_code: failure.code.number(),
            reply_text: failure.text.clone(),
            class_id: failure.culprit.class,
            method_id: failure.culprit.method,
        };
        self.write(channel, &close.into(), out);
        if let Some(state) = self.channels.get(channel) {
            *state = State::Closing;
        }
    }

    fn close(&mut self, failure: &Failure, out: &mut Output) {
        if matches!(self.phase, Phase::Header | Phase::Leaving | Phase::Closing | Phase::Closed) {
            return;
        }
        let close = ConnectionClose {
            reply_code: failure.code.number(),
            reply_text: failure.text.clone(),
            class_id: failure.culprit.class,
            method_id: failure.culprit.method,
        };
        self.write(ChannelId::CONNECTION, &close.into(), out);
        self.phase = Phase::Closing;
        self.channels.clear();
        self.heartbeat = None;
        self.overdue = Some(self.now + self.settings.close_timeout);
    }

    /// Confirms the client's `connection.close`. Flush, then drop the socket.
    pub fn close_ok(&mut self, out: &mut Output) {
        if self.phase == Phase::Leaving {
            self.write(ChannelId::CONNECTION, &ConnectionCloseOk {}.into(), out);
            self.phase = Phase::Closed;
        }
    }

    /// Confirms the client's `channel.close`; its number is free again.
    pub fn channel_close_ok(&mut self, channel: ChannelId, out: &mut Output) {
        if self.phase == Phase::Running
            && let Some(State::Leaving) = self.channels.get(channel)
        {
            self.write(channel, &ChannelCloseOk {}.into(), out);
            self.channels.remove(channel);
        }
    }

    /// Writes any method without content. One for a channel that is not open any more is dropped: a
    /// late answer after a fault is no error.
    pub fn send(&mut self, channel: ChannelId, method: impl Into<Method>, out: &mut Output) {
        if self.may_write(channel) {
            self.write(channel, &method.into(), out);
        }
    }

    /// Writes `basic.deliver` with its content; dropped like [`send`](Self::send).
    pub fn deliver(&mut self, channel: ChannelId, delivery: &Delivery<'_>, out: &mut Output) {
        if self.may_write(channel) {
            let frame_max = self.limits.frame_max;
            if !hot::write_delivery(channel, delivery, frame_max, out) {
                channel::write_delivery(channel, delivery, frame_max, out);
            }
            self.sent += 1;
        }
    }

    /// Writes `basic.get-ok` with its content; dropped like [`send`](Self::send).
    pub fn get_ok(&mut self, channel: ChannelId, got: &GetOk<'_>, out: &mut Output) {
        if self.may_write(channel) {
            channel::write_get_ok(channel, got, self.limits.frame_max, out);
            self.sent += 1;
        }
    }

    /// Writes `basic.return` with its content; dropped like [`send`](Self::send).
    pub fn return_message(
        &mut self,
        channel: ChannelId,
        returned: &Returned<'_>,
        out: &mut Output,
    ) {
        if self.may_write(channel) {
            channel::write_return(channel, returned, self.limits.frame_max, out);
            self.sent += 1;
        }
    }

    /// Confirms publishes: `basic.ack` to the client; dropped like [`send`](Self::send).
    pub fn ack(&mut self, channel: ChannelId, tag: DeliveryTag, multiple: bool, out: &mut Output) {
        self.send(channel, BasicAck { delivery_tag: tag, multiple }, out);
    }

    /// Refuses a publish: `basic.nack` to the client; dropped like [`send`](Self::send).
    pub fn nack(&mut self, channel: ChannelId, tag: DeliveryTag, out: &mut Output) {
        let nack = BasicNack { delivery_tag: tag, multiple: false, requeue: false };
        self.send(channel, nack, out);
    }

    /// Tells a client that publishers wait, if it understands that.
    pub fn blocked(&mut self, reason: ShortStr, out: &mut Output) {
        if self.capabilities.connection_blocked {
            self.send(ChannelId::CONNECTION, ConnectionBlocked { reason }, out);
        }
    }

    /// Tells a client that publishers go on, if it understands that.
    pub fn unblocked(&mut self, out: &mut Output) {
        if self.capabilities.connection_blocked {
            self.send(ChannelId::CONNECTION, ConnectionUnblocked {}, out);
        }
    }

    /// Looks at the timers: writes a heartbeat if one is due.
    pub fn tick(&mut self, now: Duration, out: &mut Output) -> Tick {
        self.now = self.now.max(now);
        if self.overdue.is_some_and(|overdue| now >= overdue) {
            self.phase = Phase::Closed;
            return Tick::Overdue;
        }
        let Some(heartbeat) = &mut self.heartbeat else { return Tick::Alive };
        if heartbeat.is_silent(now) {
            self.phase = Phase::Closed;
            return Tick::Silent;
        }
        if heartbeat.is_due(now, self.sent) {
            frame::write_heartbeat(out);
            self.sent += 1;
        }
        Tick::Alive
    }

    /// Input is left unread for reasons of our own: silence until `now` is not the client's.
    pub fn excuse(&mut self, now: Duration) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.received(now);
        }
    }

    /// When to call [`tick`](Self::tick) next, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let heartbeat = self.heartbeat.as_ref().map(Heartbeat::deadline);
        [heartbeat, self.overdue].into_iter().flatten().min()
    }

    fn may_write(&self, channel: ChannelId) -> bool {
        let connection = channel == ChannelId::CONNECTION && self.phase == Phase::Running;
        connection || self.is_open(channel)
    }

    fn write(&mut self, channel: ChannelId, method: &Method, out: &mut Output) {
        frame::write_method(channel, method, out);
        self.sent += 1;
    }
}

impl Phase {
    /// RabbitMQ's word for it in reply texts.
    const fn word(self) -> &'static str {
        match self {
            Self::Header => "pre_init",
            Self::Start | Self::Authenticate => "starting",
            Self::Tune => "tuning",
            Self::Open | Self::Entering => "opening",
            Self::Running => "running",
            Self::Leaving | Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// The numbers in a method frame, whatever its arguments are.
fn method_id(frame: &Frame) -> Option<MethodId> {
    let (FrameKind::Method, Some(&[c1, c2, m1, m2])) = (frame.kind, frame.payload.first_chunk())
    else {
        return None;
    };
    Some(MethodId::new(u16::from_be_bytes([c1, c2]), u16::from_be_bytes([m1, m2])))
}

fn unexpected_frame(frame: &Frame) -> Fault {
    let text = frame::show(frame.kind.octet(), &frame.payload);
    Fault::connection(ReplyCode::UnexpectedFrame, text, MethodId::NONE)
}

#[cfg(test)]
mod tests;
