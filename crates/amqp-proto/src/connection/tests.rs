use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::methods::*;
use crate::properties::BasicProperties;
use crate::{Frame, split_frame, write_method_frame};

/// A client's side of the wire: what it says goes in, what it hears comes out.
struct Wire {
    connection: Connection,
    input: BytesMut,
    out: Output,
    now: Duration,
}

impl Wire {
    fn new(settings: Settings) -> Self {
        let connection = Connection::new(Arc::new(settings), Duration::ZERO);
        Self { connection, input: BytesMut::new(), out: Output::new(), now: Duration::ZERO }
    }

    /// A client that said start-ok, tune-ok and open, and was let in.
    fn open() -> Self {
        let mut wire = Self::new(Settings::default());
        wire.log_in(true);
        wire.tune(131_072, 2047, 60);
        wire.say(
            0,
            ConnectionOpen { virtual_host: ShortStr::from_static("/"), ..Default::default() },
        );
        assert!(matches!(wire.event(), Event::Open { .. }));
        wire.connection.accept_open(&mut wire.out);
        assert_eq!(wire.heard(), [(0, ConnectionOpenOk::default().into())]);
        wire
    }

    fn with_channel() -> Self {
        let mut wire = Self::open();
        wire.open_channel(1);
        wire
    }

    fn open_channel(&mut self, channel: u16) {
        self.say(channel, ChannelOpen::default());
        assert_eq!(self.event(), Event::ChannelOpen { channel: ChannelId(channel) });
        self.connection.send(ChannelId(channel), ChannelOpenOk::default(), &mut self.out);
        assert_eq!(self.heard(), [(channel, ChannelOpenOk::default().into())]);
    }

    fn log_in(&mut self, wants_reason: bool) {
        self.start_ok("PLAIN", wants_reason);
        let Event::Authenticate(login) = self.event() else { panic!("no login") };
        assert_eq!(
            (login.mechanism.as_str(), &login.response[..]),
            (Some("PLAIN"), &b"\0u\0p"[..])
        );
    }

    fn start_ok(&mut self, mechanism: &'static str, wants_reason: bool) {
        self.input.extend_from_slice(&PROTOCOL_HEADER);
        assert_eq!(self.next(), Ok(None));
        assert!(matches!(self.heard()[..], [(0, Method::ConnectionStart(_))]));
        let capabilities = crate::Table::new().with("authentication_failure_close", wants_reason);
        let properties = crate::Table::new().with("capabilities", capabilities);
        let start_ok = ConnectionStartOk {
            client_properties: properties.encode().unwrap(),
            mechanism: ShortStr::from_static(mechanism),
            response: Bytes::from_static(b"\0u\0p"),
            locale: ShortStr::from_static("en_US"),
        };
        self.say(0, start_ok);
    }

    fn tune(&mut self, frame_max: u32, channel_max: u16, heartbeat: u16) {
        self.connection.accept_login(&mut self.out);
        assert!(matches!(self.heard()[..], [(0, Method::ConnectionTune(_))]));
        self.say(0, ConnectionTuneOk { channel_max, frame_max, heartbeat });
    }

    fn say(&mut self, channel: u16, method: impl Into<Method>) {
        write_method_frame(ChannelId(channel), &method.into(), &mut self.input);
    }

    fn say_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap();
        frame::begin_frame(kind, ChannelId(channel), len, &mut self.input);
        self.input.extend_from_slice(payload);
        self.input.extend_from_slice(&[frame::FRAME_END]);
    }

    fn say_header(&mut self, channel: u16, size: u64, properties: &[u8]) {
        let payload = [&[0, 60, 0, 0], &size.to_be_bytes()[..], properties].concat();
        self.say_frame(2, channel, &payload);
    }

    fn next(&mut self) -> Result<Option<Event>, Fault> {
        self.connection.receive(&mut self.input, self.now, &mut self.out)
    }

    fn event(&mut self) -> Event {
        self.next().unwrap().expect("an event")
    }

    /// The next thing goes wrong; what the reply text says.
    fn fault(&mut self) -> String {
        let fault = self.next().expect_err("a fault");
        self.connection.fail(&fault, &mut self.out);
        let text = fault.failure().text.to_string();
        let heard = self.heard();
        match (&fault, &heard[..]) {
            (Fault::Connection(failure), [(0, Method::ConnectionClose(close))]) => {
                assert_eq!(
                    (close.reply_code, &close.reply_text),
                    (failure.code.number(), &failure.text)
                );
                format!("{} {text}", close.reply_code)
            }
            (Fault::Channel { channel, .. }, [(on, Method::ChannelClose(close))]) => {
                assert_eq!(channel.0, *on);
                format!("channel {on}: {} {text}", close.reply_code)
            }
            other => panic!("{other:?}"),
        }
    }

    fn heard_frames(&mut self) -> Vec<Frame> {
        let mut bytes = BytesMut::from(&self.out.copy_to_bytes(self.out.remaining())[..]);
        let frame_max = self.connection.limits().frame_max;
        std::iter::from_fn(|| split_frame(&mut bytes, frame_max).unwrap()).collect()
    }

    fn heard(&mut self) -> Vec<(u16, Method)> {
        let frames = self.heard_frames();
        frames
            .into_iter()
            .map(|f| (f.channel.0, channel::decode_method(f.payload).unwrap()))
            .collect()
    }
}

fn publish() -> BasicPublish {
    BasicPublish { routing_key: ShortStr::from_static("q"), ..Default::default() }
}

#[test]
fn a_message_in_three_frames_is_published_and_delivered_with_its_property_bytes() {
    let mut wire = Wire::with_channel();
    let properties = BasicProperties { delivery_mode: Some(2), ..Default::default() }.encode();
    wire.say(1, publish());
    wire.say_header(1, 5, properties.as_bytes());
    wire.say_frame(3, 1, b"hello");
    let Event::Publish(publish) = wire.event() else { panic!("no publish") };
    assert_eq!(publish.content.body, "hello");
    assert_eq!(publish.content.properties, properties);
    let delivery = Delivery {
        consumer_tag: &ShortStr::from_static("c"),
        delivery_tag: DeliveryTag(1),
        redelivered: false,
        exchange: &publish.exchange,
        routing_key: &publish.routing_key,
        properties: publish.content.properties.as_bytes(),
        body: &publish.content.body,
    };
    wire.connection.deliver(ChannelId(1), &delivery, &mut wire.out);
    let frames = wire.heard_frames();
    assert_eq!(frames.len(), 3);
    assert_eq!(
        frames[1].payload,
        [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], properties.as_bytes()].concat()
    );
    assert_eq!(frames[2].payload, "hello");
    let Method::BasicDeliver(deliver) = channel::decode_method(frames[0].payload.clone()).unwrap()
    else {
        panic!("no deliver")
    };
    assert_eq!(
        (deliver.consumer_tag, deliver.routing_key),
        (ShortStr::from_static("c"), publish.routing_key)
    );
}

#[test]
fn the_client_closes_and_is_answered() {
    let mut wire = Wire::with_channel();
    wire.say(0, ConnectionClose { reply_code: 200, ..Default::default() });
    assert!(matches!(wire.event(), Event::Close { .. }));
    wire.connection.close_ok(&mut wire.out);
    assert_eq!(wire.heard(), [(0, ConnectionCloseOk {}.into())]);
    assert_eq!(wire.connection.phase(), Phase::Closed);
}

#[test]
fn a_method_on_an_unopened_channel_ends_the_connection() {
    let mut wire = Wire::open();
    wire.say(3, QueueDeclare::default());
    assert_eq!(wire.fault(), "504 CHANNEL_ERROR - expected 'channel.open'");
}
