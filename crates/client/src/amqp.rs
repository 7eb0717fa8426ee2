//! A publisher for AMQP 0-9-1: messages out, confirms in. Blocking, against any RabbitMQ.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_amqp_proto::methods::{
    BasicPublish, ChannelCloseOk, ChannelOpen, ConfirmSelect, ConnectionClose, ConnectionCloseOk,
    ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, Method,
};
use ottla_amqp_proto::{
    ChannelId, Content, FrameKind, MethodId, Output, PROTOCOL_HEADER, split_frame, write_command,
    write_method_frame,
};

pub use ottla_amqp_proto::{BasicProperties, ShortStr, Table};

/// Why messages were not confirmed. Any of them may have arrived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmqpError {
    /// The address is none.
    #[error("{0:?} is no AMQP address: write amqp://USER:PASSWORD@HOST:PORT/VHOST")]
    Address(String),
    /// Nobody answers there, or the connection ended.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// The broker closed the channel or the connection, in its own words.
    #[error("the broker refused with {code}: {text}")]
    Closed {
        /// The reply code of AMQP.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// No queue is bound where a message went.
    #[error(
        "no queue takes what is published to exchange {exchange:?} with routing key {routing_key:?}"
    )]
    Unroutable {
        /// Where it went.
        exchange: String,
        /// With which key.
        routing_key: String,
    },
    /// The broker could not take responsibility.
    #[error("the broker did not take over {0} messages")]
    Nacked(usize),
    /// It speaks something else.
    #[error("{address} does not speak AMQP 0-9-1 as expected: {what}")]
    Protocol {
        /// Host and port.
        address: String,
        /// What was seen.
        what: String,
    },
}

/// A message to be published.
#[derive(Debug, Clone)]
pub struct Post {
    /// The exchange; empty is the default one, which routes to the queue named by the key.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The properties.
    pub properties: BasicProperties,
    /// The body.
    pub body: Bytes,
}

/// A connection with one channel in confirm mode.
#[derive(Debug)]
pub struct Publisher {
    address: String,
    stream: TcpStream,
    input: BytesMut,
    frame_max: u32,
    /// The delivery tag of the last message sent.
    sent: u64,
}

/// An address taken apart.
#[derive(Debug)]
struct Place {
    user: String,
    password: String,
    address: String,
    vhost: String,
}

impl Publisher {
    /// Connects, logs in and asks for confirms. What a part of the address leaves out is as RabbitMQ's
    /// clients have it: `guest`, port 5672, virtual host `/`.
    pub fn connect(url: &str) -> Result<Self, AmqpError> {
        let place = Place::parse(url).ok_or_else(|| AmqpError::Address(url.to_owned()))?;
        let stream = reach(&place.address)
            .map_err(|source| AmqpError::Unreachable { address: place.address.clone(), source })?;
        let address = place.address.clone();
        let mut publisher =
            Self { address, stream, input: BytesMut::new(), frame_max: 131_072, sent: 0 };
        publisher.write(PROTOCOL_HEADER.as_ref())?;
        publisher.handshake(&place)?;
        publisher.send(CHANNEL, &ChannelOpen::default().into())?;
        publisher.expect("channel.open-ok")?;
        publisher.send(CHANNEL, &ConfirmSelect::default().into())?;
        publisher.expect("confirm.select-ok")?;
        Ok(publisher)
    }

    /// Publishes in order and waits until the broker has confirmed every message. What no queue takes is an
    /// error. After an error the publisher is of no use any more.
    pub fn publish(&mut self, batch: &[Post]) -> Result<(), AmqpError> {
        let mut output = Output::new();
        let mut waiting = BTreeSet::new();
        for post in batch {
            let method = BasicPublish {
                exchange: ShortStr::cut(&post.exchange),
                routing_key: ShortStr::cut(&post.routing_key),
                mandatory: true,
                ..Default::default()
            };
            let content = Content { properties: post.properties.encode(), body: post.body.clone() };
            write_command(CHANNEL, &method.into(), &content, self.frame_max, &mut output);
            self.sent += 1;
            waiting.insert(self.sent);
        }
        while output.has_remaining() {
            let chunk = Bytes::copy_from_slice(output.chunk());
            self.write(&chunk)?;
            output.advance(chunk.len());
        }
        self.confirmed(waiting)
    }

    fn confirmed(&mut self, mut waiting: BTreeSet<u64>) -> Result<(), AmqpError> {
        let (mut returned, mut refused) = (None, 0);
        while !waiting.is_empty() {
            match self.method()? {
                Method::BasicAck(ack) => {
                    settle(&mut waiting, ack.delivery_tag.0, ack.multiple);
                }
                Method::BasicNack(nack) => {
                    refused += settle(&mut waiting, nack.delivery_tag.0, nack.multiple);
                }
                Method::BasicReturn(back) => {
                    returned = returned.or(Some(AmqpError::Unroutable {
                        exchange: shown(&back.exchange),
                        routing_key: shown(&back.routing_key),
                    }));
                }
                other => self.unasked(other)?,
            }
        }
        match returned {
            Some(unroutable) => Err(unroutable),
            None if refused > 0 => Err(AmqpError::Nacked(refused)),
            None => Ok(()),
        }
    }

    fn handshake(&mut self, place: &Place) -> Result<(), AmqpError> {
        self.expect("connection.start")?;
        let table = |table: Table| table.encode().unwrap_or_default();
        let capabilities = Table::new().with("publisher_confirms", true).with("basic.nack", true);
        let properties =
            Table::new().with("product", "ottla relay").with("capabilities", capabilities);
        let start = ConnectionStartOk {
            client_properties: table(properties),
            mechanism: ShortStr::from_static("PLAIN"),
            response: Bytes::from(format!("\0{}\0{}", place.user, place.password)),
            locale: ShortStr::from_static("en_US"),
        };
        self.send(ChannelId(0), &start.into())?;
        let Method::ConnectionTune(tune) = self.expect("connection.tune")? else {
            return Err(self.odd("no connection.tune"));
        };
        if tune.frame_max > 0 {
            self.frame_max = self.frame_max.min(tune.frame_max);
        }
        // No heartbeats: between two batches nobody would read them. A dead connection is seen at the next.
        let tuned = ConnectionTuneOk {
            channel_max: tune.channel_max,
            frame_max: self.frame_max,
            heartbeat: 0,
        };
        self.send(ChannelId(0), &tuned.into())?;
        let open =
            ConnectionOpen { virtual_host: ShortStr::cut(&place.vhost), ..Default::default() };
        self.send(ChannelId(0), &open.into())?;
        self.expect("connection.open-ok").map(drop)
    }

    fn expect(&mut self, name: &str) -> Result<Method, AmqpError> {
        loop {
            let method = self.method()?;
            if method.name() == name {
                return Ok(method);
            }
            self.unasked(method)?;
        }
    }

    /// What the broker says of its own accord: mostly that it has had enough.
    fn unasked(&mut self, method: Method) -> Result<(), AmqpError> {
        match method {
            Method::ConnectionClose(close) => {
                self.send(ChannelId(0), &ConnectionCloseOk::default().into())?;
                Err(AmqpError::Closed { code: close.reply_code, text: shown(&close.reply_text) })
            }
            Method::ChannelClose(close) => {
                self.send(CHANNEL, &ChannelCloseOk::default().into())?;
                Err(AmqpError::Closed { code: close.reply_code, text: shown(&close.reply_text) })
            }
            // Blocked publishers wait, as long as the read timeout lets them.
            Method::ConnectionBlocked(_) | Method::ConnectionUnblocked(_) => Ok(()),
            other => Err(self.odd(other.name())),
        }
    }

    /// The next method; contents of returned messages are passed over.
    fn method(&mut self) -> Result<Method, AmqpError> {
        loop {
            let frame = split_frame(&mut self.input, self.frame_max)
                .map_err(|fault| self.odd(&fault.to_string()))?;
            let Some(frame) = frame else {
                self.fill()?;
                continue;
            };
            if frame.kind != FrameKind::Method {
                continue;
            }
            let mut payload = frame.payload;
            if payload.len() < 4 {
                return Err(self.odd("a method without a number"));
            }
            let id = MethodId::new(payload.get_u16(), payload.get_u16());
            return Method::decode(id, payload).map_err(|error| self.odd(&error.to_string()));
        }
    }

    fn fill(&mut self) -> Result<(), AmqpError> {
        let mut chunk = [0; 16 << 10];
        let read = match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            other => other,
        };
        let read = read.map_err(|source| self.lost(source))?;
        self.input.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Ok(())
    }

    fn send(&mut self, channel: ChannelId, method: &Method) -> Result<(), AmqpError> {
        let mut out = BytesMut::new();
        write_method_frame(channel, method, &mut out);
        self.write(&out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AmqpError> {
        self.stream.write_all(bytes).map_err(|source| self.lost(source))
    }

    fn lost(&self, source: io::Error) -> AmqpError {
        AmqpError::Unreachable { address: self.address.clone(), source }
    }

    fn odd(&self, what: &str) -> AmqpError {
        AmqpError::Protocol { address: self.address.clone(), what: what.to_owned() }
    }
}

/// Says goodbye, if it still can.
impl Drop for Publisher {
    fn drop(&mut self) {
        let goodbye = ConnectionClose { reply_code: 200, ..Default::default() };
        drop(self.send(ChannelId(0), &goodbye.into()));
    }
}

impl Place {
    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("amqp://")?;
        let (rest, vhost) = rest.split_once('/').unwrap_or((rest, "%2f"));
        let vhost = vhost.split('?').next().unwrap_or_default();
        let (login, host) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        if host.is_empty() {
            return None;
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:5672") };
        let vhost = if vhost.is_empty() { "/".to_owned() } else { unescape(vhost)? };
        Some(Self { user: unescape(user)?, password: unescape(password)?, address, vhost })
    }
}

/// `%2f` is `/`.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Takes out what a confirm names. Returns how many.
fn settle(waiting: &mut BTreeSet<u64>, tag: u64, multiple: bool) -> usize {
    if !multiple {
        return usize::from(waiting.remove(&tag));
    }
    let later = waiting.split_off(&tag.saturating_add(1));
    std::mem::replace(waiting, later).len()
}

fn reach(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn shown(text: &ShortStr) -> String {
    text.as_str().unwrap_or("?").to_owned()
}

const CHANNEL: ChannelId = ChannelId(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_rabbitmq_s_clients_read_it() {
        let place = |url| {
            Place::parse(url).map(|place| (place.user, place.password, place.address, place.vhost))
        };
        let all = |parts: [&str; 4]| {
            let [user, password, address, vhost] = parts.map(str::to_owned);
            Some((user, password, address, vhost))
        };
        assert_eq!(place("amqp://h"), all(["guest", "guest", "h:5672", "/"]));
        assert_eq!(place("amqp://u:p%40ss@h:1/%2f"), all(["u", "p@ss", "h:1", "/"]));
        assert_eq!(place("amqp://u:p@[::1]:1/shop?x=1"), all(["u", "p", "[::1]:1", "shop"]));
        assert_eq!(place("amqp://"), None);
        assert_eq!(place("http://h"), None);
    }

    #[test]
    fn confirms_may_name_one_or_all_up_to_one() {
        let mut waiting = BTreeSet::from([3, 4, 5, 6]);
        assert_eq!(settle(&mut waiting, 5, true), 3);
        assert_eq!(settle(&mut waiting, 6, false), 1);
        assert_eq!(settle(&mut waiting, 6, false), 0);
        assert!(waiting.is_empty());
    }
}
