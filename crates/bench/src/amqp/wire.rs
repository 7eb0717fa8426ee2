//! One connection with one open channel, and little work on it: ready bytes out, frames in by their
//! borders alone.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_amqp_proto::methods::{
    ChannelOpen, ConnectionClose, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk,
};
use ottla_amqp_proto::{
    ChannelId, Method, MethodId, PROTOCOL_HEADER, RawTable, ShortStr, write_method_frame,
};

use crate::Failure;

#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
}

/// What a frame carries, as far as a load generator looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// `basic.deliver` with this tag.
    Deliver(u64),
    /// `basic.ack` from the server.
    Confirm { tag: u64, multiple: bool },
    /// A content header: the size of the body.
    Size(u64),
    /// So many bytes of a body.
    Body(&'a [u8]),
    /// Any other method.
    Method(&'a [u8]),
}

impl Wire {
    /// Connects as guest and opens channel 1.
    pub(super) fn open(broker: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(broker).map_err(|error| format!("{broker}: {error}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut wire = Self { stream, input: Vec::new(), filled: 0 };
        wire.send(&PROTOCOL_HEADER)?;
        wire.expect("connection.start")?;
        let login = ConnectionStartOk {
            client_properties: RawTable::default(),
            mechanism: ShortStr::from_static("PLAIN"),
            response: Bytes::from_static(b"\0guest\0guest"),
            locale: ShortStr::from_static("en_US"),
        };
        wire.say(ChannelId::CONNECTION, login)?;
        wire.expect("connection.tune")?;
        let tune = ConnectionTuneOk { channel_max: 16, frame_max: FRAME_MAX, heartbeat: 0 };
        wire.say(ChannelId::CONNECTION, tune)?;
        let open =
            ConnectionOpen { virtual_host: ShortStr::from_static("/"), ..Default::default() };
        wire.say(ChannelId::CONNECTION, open)?;
        wire.expect("connection.open-ok")?;
        wire.say(CHANNEL, ChannelOpen::default())?;
        wire.expect("channel.open-ok")?;
        wire.input = Vec::new(); // an idle connection costs the generator nothing either
        Ok(wire)
    }

    /// The same connection for another thread; one of the two reads.
    pub(super) fn twin(&self) -> Result<Self, Failure> {
        Ok(Self { stream: self.stream.try_clone()?, input: Vec::new(), filled: 0 })
    }

    /// Ends the connection in the protocol's way: a server may drop what it has not read of one that
    /// just vanishes.
    pub(super) fn close(mut self) -> Result<(), Failure> {
        self.patience(PATIENCE)?;
        self.say(ChannelId::CONNECTION, ConnectionClose { reply_code: 200, ..Default::default() })?;
        self.expect("connection.close-ok").map(|_| ())
    }

    /// How long one `fill` waits.
    pub(super) fn patience(&self, patience: Duration) -> Result<(), Failure> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// Says a method on the channel and returns the answer, which must be `answer`.
    pub(super) fn call(
        &mut self,
        method: impl Into<Method>,
        answer: &'static str,
    ) -> Result<Method, Failure> {
        self.say(CHANNEL, method)?;
        self.expect(answer)
    }

    pub(super) fn say(
        &mut self,
        channel: ChannelId,
        method: impl Into<Method>,
    ) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        write_method_frame(channel, &method.into(), &mut out);
        self.send(&out)
    }

    /// Sends all bytes; if the server hung up, says what it said.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => {
                while matches!(self.fill(), Ok(true)) {
                    self.pieces(|_| Ok(()))?;
                }
                Err(format!("writing: {error}").into())
            }
        }
    }

    /// The next method, which must be `name`.
    pub(super) fn expect(&mut self, name: &'static str) -> Result<Method, Failure> {
        let mut found = None;
        while found.is_none() {
            if !self.fill()? {
                return Err(format!("no {name} within {PATIENCE:?}").into());
            }
            self.pieces(|piece| {
                if let Piece::Method(payload) = piece {
                    found = Some(decode(payload)?);
                }
                Ok(())
            })?;
        }
        match found {
            Some(method) if method.name() == name => Ok(method),
            other => Err(format!("not {name} but {other:?}").into()),
        }
    }

    /// Waits for more bytes; `false` if none came in time.
    pub(super) fn fill(&mut self) -> Result<bool, Failure> {
        if self.input.len() < self.filled + READ_BYTES {
            self.input.resize(self.filled + READ_BYTES, 0);
        }
        match self.stream.read(self.input.get_mut(self.filled..).unwrap_or_default()) {
            Ok(0) => Err("the broker closed the connection".into()),
            Ok(read) => {
                self.filled += read;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hands over all whole frames that have come.
    ///
    /// # Errors
    /// If the server closes the channel or the connection, with its words.
    pub(super) fn pieces(
        &mut self,
        mut each: impl FnMut(Piece<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut rest = self.input.get(..self.filled).unwrap_or_default();
        while let Some((kind, payload, behind)) = split(rest) {
            if let Some(piece) = judge(kind, payload)? {
                each(piece)?;
            }
            rest = behind;
        }
        let (from, left) = (self.filled - rest.len(), rest.len());
        self.input.copy_within(from..self.filled, 0);
        self.filled = left;
        Ok(())
    }
}

/// Kind, payload and what follows, of the first frame if it is whole.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, _, _, l1, l2, l3, l4], rest) = bytes.split_first_chunk::<7>()?;
    let len = usize::try_from(u32::from_be_bytes([l1, l2, l3, l4])).ok()?;
    let (payload, rest) = rest.split_at_checked(len)?;
    Some((kind, payload, rest.get(1..)?))
}

fn judge(kind: u8, payload: &[u8]) -> Result<Option<Piece<'_>>, Failure> {
    Ok(match (kind, payload) {
        (BODY, body) => Some(Piece::Body(body)),
        (HEADER, [_, _, _, _, rest @ ..]) => {
            rest.first_chunk().map(|size| Piece::Size(u64::from_be_bytes(*size)))
        }
        (METHOD, [0, 60, 0, 60, len, rest @ ..]) => {
            let tag = rest.get(usize::from(*len)..).and_then(|rest| rest.first_chunk());
            tag.map(|tag| Piece::Deliver(u64::from_be_bytes(*tag)))
        }
        (METHOD, [0, 60, 0, 80, rest @ ..]) => {
            let tag = rest.first_chunk();
            let multiple = rest.get(8).is_some_and(|bits| bits & 1 == 1);
            tag.map(|tag| Piece::Confirm { tag: u64::from_be_bytes(*tag), multiple })
        }
        (METHOD, [0, 10, 0, 50, ..] | [0, 20, 0, 40, ..] | [0, 60, 0, 120, ..]) => {
            return Err(format!("the broker says {:?}", decode(payload)?).into());
        }
        (METHOD, other) => Some(Piece::Method(other)),
        _ => None,
    })
}

fn decode(payload: &[u8]) -> Result<Method, Failure> {
    let (&[c1, c2, m1, m2], arguments) =
        payload.split_first_chunk::<4>().ok_or("a method frame of no method")?;
    let id = MethodId::new(u16::from_be_bytes([c1, c2]), u16::from_be_bytes([m1, m2]));
    Ok(Method::decode(id, Bytes::copy_from_slice(arguments))?)
}

/// The channel of every run.
pub(super) const CHANNEL: ChannelId = ChannelId(1);
/// What clients propose; bodies here are smaller and stand in one frame.
pub(super) const FRAME_MAX: u32 = 131_072;
const PATIENCE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 256 << 10;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

#[cfg(test)]
mod tests {
    use ottla_amqp_proto::DeliveryTag;
    use ottla_amqp_proto::methods::{BasicAck, BasicDeliver, ChannelClose};

    use super::*;

    fn frame(method: impl Into<Method>) -> BytesMut {
        let mut out = BytesMut::new();
        write_method_frame(CHANNEL, &method.into(), &mut out);
        out
    }

    #[test]
    fn tags_are_found_without_decoding() {
        let deliver = BasicDeliver {
            consumer_tag: ShortStr::from_static("some consumer"),
            delivery_tag: DeliveryTag(77),
            ..Default::default()
        };
        let bytes = frame(deliver);
        let (kind, payload, rest) = split(&bytes).unwrap();
        assert_eq!(judge(kind, payload).unwrap(), Some(Piece::Deliver(77)));
        assert!(rest.is_empty());
        let bytes = frame(BasicAck { delivery_tag: DeliveryTag(5), multiple: true });
        let (kind, payload, _) = split(&bytes).unwrap();
        let confirm = Piece::Confirm { tag: 5, multiple: true };
        assert_eq!(judge(kind, payload).unwrap(), Some(confirm));
        assert_eq!(split(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_closed_channel_ends_the_run_with_the_servers_words() {
        let text = ShortStr::from_static("NOT_FOUND - no queue");
        let bytes = frame(ChannelClose { reply_code: 404, reply_text: text, ..Default::default() });
        let (kind, payload, _) = split(&bytes).unwrap();
        assert!(judge(kind, payload).unwrap_err().to_string().contains("no queue"));
    }
}
