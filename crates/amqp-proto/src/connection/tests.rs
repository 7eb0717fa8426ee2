use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::channel::Content;
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

// §4.2.2: a server answers its own version to any other, as soon as one octet is wrong.
#[test]
fn any_other_opening_is_answered_with_our_version_and_closed() {
    let openings: [&[u8]; 7] = [
        b"AMQP\x00\x00\x08\x00",
        b"AMQP\x00\x00\x09\x02",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"AMQX",
    ];
    for opening in openings {
        let mut wire = Wire::new(Settings::default());
        wire.input.extend_from_slice(opening);
        assert_eq!(wire.event(), Event::Foreign, "{opening:?}");
        assert_eq!(wire.out.copy_to_bytes(8), &b"AMQP\x00\x00\x09\x01"[..]);
        assert_eq!((wire.connection.phase(), wire.out.remaining()), (Phase::Closed, 0));
    }
}

#[test]
fn the_0_9_header_of_old_clients_is_taken() {
    let mut wire = Wire::new(Settings::default());
    wire.input.extend_from_slice(b"AMQP\x01\x01\x00\x09");
    assert_eq!(wire.next(), Ok(None));
    assert_eq!(wire.connection.phase(), Phase::Start);
}

#[test]
fn the_handshake_frames_are_these_bytes() {
    let settings = Settings {
        server_properties: crate::Table::new().with("product", "Ottla").encode().unwrap(),
        ..Settings::default()
    };
    let mut wire = Wire::new(settings);
    wire.input.extend_from_slice(&PROTOCOL_HEADER);
    assert_eq!(wire.next(), Ok(None));
    let start = b"\x01\x00\x00\x00\x00\x00\x37\x00\x0A\x00\x0A\x00\x09\
        \x00\x00\x00\x12\x07productS\x00\x00\x00\x05Ottla\
        \x00\x00\x00\x0EPLAIN AMQPLAIN\x00\x00\x00\x05en_US\xCE";
    assert_eq!(wire.out.copy_to_bytes(wire.out.remaining()), &start[..]);
    let start_ok = b"\x01\x00\x00\x00\x00\x00\x1C\x00\x0A\x00\x0B\
        \x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x04\x00u\x00p\x05en_US\xCE";
    wire.input.extend_from_slice(start_ok);
    assert!(matches!(wire.event(), Event::Authenticate(_)));
    wire.connection.accept_login(&mut wire.out);
    let tune = b"\x01\x00\x00\x00\x00\x00\x0C\x00\x0A\x00\x1E\x07\xFF\x00\x02\x00\x00\x00\x3C\xCE";
    assert_eq!(wire.out.copy_to_bytes(wire.out.remaining()), &tune[..]);
    wire.input.extend_from_slice(
        b"\x01\x00\x00\x00\x00\x00\x0C\x00\x0A\x00\x1F\x07\xFF\x00\x02\x00\x00\x00\x3C\xCE",
    );
    wire.input.extend_from_slice(b"\x01\x00\x00\x00\x00\x00\x08\x00\x0A\x00\x28\x01/\x00\x00\xCE");
    assert_eq!(wire.event(), Event::Open { virtual_host: ShortStr::from_static("/") });
    wire.connection.accept_open(&mut wire.out);
    let open_ok = b"\x01\x00\x00\x00\x00\x00\x05\x00\x0A\x00\x29\x00\xCE";
    assert_eq!(wire.out.copy_to_bytes(wire.out.remaining()), &open_ok[..]);
}

#[test]
fn a_refused_login_is_told_to_a_client_that_wants_to_know() {
    let mut wire = Wire::new(Settings::default());
    wire.log_in(true);
    assert_eq!(wire.connection.refuse_login(&mut wire.out), Refusal::Said);
    let [(0, Method::ConnectionClose(close))] = &wire.heard()[..] else { panic!("no close") };
    assert_eq!(close.reply_code, 403);
    assert_eq!(
        close.reply_text,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
         For details see the broker logfile."
    );
    wire.say(0, ConnectionCloseOk {});
    assert_eq!(wire.event(), Event::Closed);
}

#[test]
fn a_refused_login_of_an_old_client_is_silent() {
    let mut wire = Wire::new(Settings::default());
    wire.log_in(false);
    assert_eq!(wire.connection.refuse_login(&mut wire.out), Refusal::Silent);
    assert!(wire.out.is_empty());
    assert_eq!(wire.connection.phase(), Phase::Closed);
}

#[test]
fn a_mechanism_we_did_not_offer_is_refused() {
    let mut wire = Wire::new(Settings::default());
    wire.start_ok("CRAM-MD5", true);
    assert_eq!(wire.fault(), "503 COMMAND_INVALID - unknown authentication mechanism 'CRAM-MD5'");
}

#[test]
fn what_a_client_asks_beyond_the_offer_is_refused_in_rabbitmqs_words() {
    let cases = [
        (4095, 1, "frame_max = 4095 is lower than the minimum allowed value (4096)"),
        (131_073, 1, "frame_max = 131073 is higher than the maximum allowed value (131072)"),
        (0, 1, "frame_max = 0 (no limit) is higher than the maximum allowed value (131072)"),
        (8192, 2048, "channel_max = 2048 is higher than the maximum allowed value (2047)"),
        (8192, 0, "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
    ];
    for (frame_max, channel_max, text) in cases {
        let mut wire = Wire::new(Settings::default());
        wire.log_in(true);
        wire.tune(frame_max, channel_max, 0);
        assert_eq!(wire.fault(), format!("530 NOT_ALLOWED - negotiated {text}"));
    }
}

#[test]
fn the_smallest_frames_of_old_clients_are_taken() {
    let mut wire = Wire::new(Settings::default());
    wire.log_in(true);
    wire.tune(4096, 10, 7);
    assert_eq!(wire.next(), Ok(None));
    let limits = Limits { frame_max: 4096, channel_max: 10, heartbeat: 7 };
    assert_eq!((wire.connection.phase(), wire.connection.limits()), (Phase::Open, limits));
}

#[test]
fn before_the_login_no_frame_may_be_larger_than_8_kib() {
    let mut wire = Wire::new(Settings::default());
    wire.input.extend_from_slice(&PROTOCOL_HEADER);
    assert_eq!(wire.next(), Ok(None));
    wire.heard();
    wire.input.extend_from_slice(&[1, 0, 0, 0, 0, 0x20, 0x01]);
    let text = "501 FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}";
    assert_eq!(wire.fault(), text);
}

#[test]
fn methods_out_of_their_phase_end_the_connection() {
    let mut wire = Wire::new(Settings::default());
    wire.input.extend_from_slice(&PROTOCOL_HEADER);
    assert_eq!(wire.next(), Ok(None));
    wire.heard();
    wire.say(0, ConnectionOpen::default());
    assert_eq!(wire.fault(), "504 CHANNEL_ERROR - unexpected method in connection state starting");
    let mut wire = Wire::open();
    wire.say(0, QueueDeclare::default());
    assert_eq!(wire.fault(), "504 CHANNEL_ERROR - unexpected method in connection state running");
}

#[test]
fn channels_open_once_and_no_more_than_agreed() {
    let mut wire = Wire::with_channel();
    wire.say(1, ChannelOpen::default());
    assert_eq!(wire.fault(), "504 CHANNEL_ERROR - second 'channel.open' seen");

    let mut wire = Wire::new(Settings::default());
    wire.log_in(true);
    wire.tune(8192, 2, 0);
    wire.say(0, ConnectionOpen::default());
    wire.event();
    wire.connection.accept_open(&mut wire.out);
    wire.heard();
    wire.open_channel(65_535);
    wire.open_channel(1);
    wire.say(2, ChannelOpen::default());
    assert_eq!(
        wire.fault(),
        "530 NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
    );
}

#[test]
fn a_number_is_free_again_after_the_close_of_either_side() {
    let mut wire = Wire::with_channel();
    wire.open_channel(2);
    wire.open_channel(3);
    wire.say(1, ChannelClose { reply_code: 200, ..Default::default() });
    assert!(matches!(wire.event(), Event::ChannelClose { channel: ChannelId(1), .. }));
    wire.connection.send(ChannelId(1), BasicQosOk {}, &mut wire.out);
    wire.connection.channel_close_ok(ChannelId(1), &mut wire.out);
    assert_eq!(wire.heard(), [(1, ChannelCloseOk {}.into())]);
    wire.open_channel(1);
    wire.say(3, BasicQos::default());
    assert!(matches!(wire.event(), Event::Method { channel: ChannelId(3), .. }));
}

// §1.5.2.5: after sending channel.close everything but close and close-ok is ignored.
#[test]
fn after_our_channel_close_nothing_is_heard_or_said_until_close_ok() {
    let mut wire = Wire::with_channel();
    let missing = "no queue 'q' in vhost '/'";
    let fault = Fault::new(ChannelId(1), ReplyCode::NotFound, missing, BasicGet::ID);
    wire.connection.fail(&fault, &mut wire.out);
    wire.connection.fail(&fault, &mut wire.out);
    let close = ChannelClose {
        reply_code: 404,
        reply_text: ShortStr::from_static("NOT_FOUND - no queue 'q' in vhost '/'"),
        class_id: 60,
        method_id: 70,
    };
    assert_eq!(wire.heard(), [(1, close.into())]);
    wire.say(1, publish());
    wire.say_header(1, 3, &[0, 0]);
    wire.say_frame(3, 1, b"abc");
    wire.say(1, BasicQos::default());
    wire.say(1, ChannelClose::default());
    assert_eq!(wire.next(), Ok(None));
    wire.connection.ack(ChannelId(1), DeliveryTag(1), false, &mut wire.out);
    assert_eq!(wire.heard(), [(1, ChannelCloseOk {}.into())]);
    wire.say(1, ChannelCloseOk {});
    assert_eq!(wire.event(), Event::ChannelClosed { channel: ChannelId(1) });
    wire.open_channel(1);
}

#[test]
fn after_our_connection_close_only_close_ok_counts() {
    let mut wire = Wire::with_channel();
    let fault = Fault::connection(ReplyCode::ConnectionForced, "bye", MethodId::NONE);
    wire.connection.fail(&fault, &mut wire.out);
    assert!(matches!(wire.heard()[..], [(0, Method::ConnectionClose(_))]));
    wire.say(1, BasicQos::default());
    wire.say(0, ConnectionClose::default());
    assert_eq!(wire.next(), Ok(None));
    wire.connection.send(ChannelId(1), BasicQosOk {}, &mut wire.out);
    assert_eq!(wire.heard(), [(0, ConnectionCloseOk {}.into())]);
    wire.say(0, ConnectionCloseOk {});
    assert_eq!(wire.event(), Event::Closed);
}

/// What the reply text says of it, and the deed.
type Misdeed = (&'static str, fn(&mut Wire));

#[test]
fn frames_out_of_order_end_the_connection_in_rabbitmqs_words() {
    let cases: [Misdeed; 6] = [
        ("expected method frame, got non method frame instead", |wire| {
            wire.say_header(1, 3, &[0, 0]);
        }),
        ("expected method frame, got non method frame instead", |wire| wire.say_frame(3, 1, b"x")),
        (channel::NO_HEADER, |wire| {
            wire.say(1, publish());
            wire.say_frame(3, 1, b"x");
        }),
        (channel::NO_HEADER, |wire| {
            wire.say(1, publish());
            wire.say(1, publish());
        }),
        ("expected content header for class 60, got one for class 50 instead", |wire| {
            wire.say(1, publish());
            wire.say_frame(2, 1, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }),
        ("expected content body, got non content body frame instead", |wire| {
            wire.say(1, publish());
            wire.say_header(1, 3, &[0, 0]);
            wire.say_header(1, 3, &[0, 0]);
        }),
    ];
    for (text, say) in cases {
        let mut wire = Wire::with_channel();
        say(&mut wire);
        assert_eq!(wire.fault(), format!("505 UNEXPECTED_FRAME - {text}"));
    }
}

#[test]
fn a_body_larger_than_announced_ends_the_connection() {
    let mut wire = Wire::with_channel();
    wire.say(1, publish());
    wire.say_header(1, 3, &[0, 0]);
    wire.say_frame(3, 1, b"ab");
    wire.say_frame(3, 1, b"cd");
    assert_eq!(wire.fault(), "501 FRAME_ERROR - body of 4 octets, header announced 3");
}

#[test]
fn a_message_over_the_limit_costs_the_channel_and_not_the_connection() {
    let mut wire = Wire::with_channel();
    wire.say(1, publish());
    wire.say_header(1, (16 << 20) + 1, &[0, 0]);
    wire.say_frame(3, 1, b"ab");
    let text = "message size 16777217 is larger than configured max size 16777216";
    assert_eq!(wire.fault(), format!("channel 1: 406 PRECONDITION_FAILED - {text}"));
    assert_eq!(wire.next(), Ok(None));
    wire.open_channel(2);
}

#[test]
fn an_announced_body_reserves_little() {
    let settings = Settings { message_max: 1 << 40, ..Settings::default() };
    let mut wire = Wire::new(settings);
    wire.log_in(true);
    wire.tune(8192, 2, 0);
    wire.say(0, ConnectionOpen::default());
    wire.event();
    wire.connection.accept_open(&mut wire.out);
    wire.heard();
    wire.open_channel(1);
    wire.say(1, publish());
    wire.say_header(1, 1 << 39, &[0, 0]); // would abort if it were allocated
    wire.say_frame(3, 1, b"ab");
    assert_eq!(wire.next(), Ok(None));
}

#[test]
fn a_wrong_frame_end_is_answered_and_the_close_ok_behind_it_found() {
    let mut wire = Wire::with_channel();
    wire.say(1, BasicQos::default());
    *wire.input.last_mut().unwrap() = 0;
    let text = "type 1, all octets = <<0,60,0,10,0,0,0,0,0,0,0>>: {invalid_frame_end_marker,0}";
    assert_eq!(wire.fault(), format!("501 FRAME_ERROR - {text}"));
    wire.input.extend_from_slice(&[0xFF; 1000]);
    assert_eq!(wire.next(), Ok(None));
    assert!(wire.input.len() < 12, "what is not understood is not kept");
    wire.say(0, ConnectionCloseOk {});
    assert_eq!(wire.event(), Event::Closed);
}

#[test]
fn malformed_content_and_unknown_methods_end_the_connection() {
    let mut wire = Wire::with_channel();
    wire.say(1, publish());
    wire.say_header(1, 3, &[0x20, 0, 0, 0, 0, 3, 1, b'k', b'Z']);
    assert_eq!(wire.fault(), "502 SYNTAX_ERROR - unknown field type 90");
    let mut wire = Wire::with_channel();
    wire.say_frame(1, 1, &[0, 60, 0, 99]);
    assert_eq!(wire.fault(), "503 COMMAND_INVALID - unknown method {60,99}");
    let mut wire = Wire::with_channel();
    wire.say(1, BasicQosOk {});
    assert_eq!(wire.fault(), "503 COMMAND_INVALID - unimplemented method");
    let mut wire = Wire::with_channel();
    wire.say_frame(8, 1, &[]);
    assert_eq!(wire.fault(), "505 UNEXPECTED_FRAME - type 8, all octets = <<>>");
    let mut wire = Wire::with_channel();
    wire.say_frame(4, 1, &[]);
    assert_eq!(wire.fault(), "501 FRAME_ERROR - type 4, all octets = <<>>: unknown_frame");
}

#[test]
fn reply_texts_end_after_255_bytes() {
    let fault = Fault::new(ChannelId(1), ReplyCode::NotFound, "ü".repeat(300), MethodId::NONE);
    let text = fault.failure().text.as_str().expect("cut at a character").to_owned();
    assert!(text.len() <= 255 && text.len() >= 253 && text.ends_with("ü..."), "{text}");
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// §4.2.7
#[test]
fn a_heartbeat_goes_out_every_half_interval_unless_something_else_did() {
    let mut wire = Wire::open(); // an interval of 60 s
    assert_eq!(wire.connection.deadline(), Some(seconds(30)));
    assert_eq!(wire.connection.tick(seconds(29), &mut wire.out), Tick::Alive);
    assert!(wire.out.is_empty());
    assert_eq!(wire.connection.tick(seconds(30), &mut wire.out), Tick::Alive);
    assert!(wire.out.is_empty(), "open-ok went out in this half");
    for at in [60, 90] {
        assert_eq!(wire.connection.tick(seconds(at), &mut wire.out), Tick::Alive);
        assert_eq!(wire.out.copy_to_bytes(wire.out.remaining()), &[8, 0, 0, 0, 0, 0, 0, 0xCE][..]);
    }
    wire.connection.unblocked(&mut wire.out);
    assert!(wire.out.is_empty(), "the client did not say that it knows this method");
    assert_eq!(wire.connection.deadline(), Some(seconds(120)));
}

#[test]
fn a_client_is_dead_after_two_silent_intervals_and_any_byte_is_life() {
    let mut wire = Wire::open();
    wire.now = seconds(100);
    wire.input.extend_from_slice(&[8, 0]); // the beginning of a heartbeat
    assert_eq!(wire.next(), Ok(None));
    wire.now = seconds(150);
    assert_eq!(wire.next(), Ok(None)); // nothing new
    assert_eq!(wire.connection.tick(seconds(219), &mut wire.out), Tick::Alive);
    assert_eq!(wire.connection.tick(seconds(220), &mut wire.out), Tick::Silent);
    assert_eq!(wire.connection.phase(), Phase::Closed);
}

#[test]
fn a_slow_handshake_and_a_missing_close_ok_are_overdue() {
    let mut wire = Wire::new(Settings::default());
    assert_eq!(wire.connection.deadline(), Some(seconds(10)));
    assert_eq!(wire.connection.tick(seconds(10), &mut wire.out), Tick::Overdue);
    let mut wire = Wire::open();
    let fault = Fault::connection(ReplyCode::ConnectionForced, "bye", MethodId::NONE);
    wire.connection.fail(&fault, &mut wire.out);
    assert_eq!(wire.connection.tick(seconds(29), &mut wire.out), Tick::Alive);
    assert_eq!(wire.connection.tick(seconds(30), &mut wire.out), Tick::Overdue);
}

#[test]
fn bodies_are_cut_to_the_frame_size_and_large_ones_are_not_copied() {
    let mut wire = Wire::new(Settings::default());
    wire.log_in(true);
    wire.tune(8192, 1, 0);
    wire.say(0, ConnectionOpen::default());
    wire.event();
    wire.connection.accept_open(&mut wire.out);
    wire.open_channel_quietly();
    let body = Bytes::from(vec![7; 20_000]);
    let empty = ShortStr::new();
    let got = GetOk {
        delivery_tag: DeliveryTag(9),
        redelivered: true,
        exchange: &empty,
        routing_key: &empty,
        message_count: 2,
        properties: &[0, 0],
        body: &body,
    };
    wire.connection.get_ok(ChannelId(1), &got, &mut wire.out);
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let filled = wire.out.chunks_vectored(&mut slices);
    let own = body.as_ptr_range();
    let spliced = slices[..filled].iter().filter(|slice| own.contains(&slice.as_ptr())).count();
    assert_eq!(spliced, 2, "two full frames are spliced, the rest below 4 KiB is copied");
    let frames = wire.heard_frames();
    let sizes: Vec<usize> = frames.iter().skip(2).map(|frame| frame.payload.len()).collect();
    assert_eq!(sizes, [8184, 8184, 3632]);
}

impl Wire {
    fn open_channel_quietly(&mut self) {
        self.say(1, ChannelOpen::default());
        self.event();
        self.heard();
    }
}

/// A session's worth of bytes: publishes of several shapes among other methods.
fn script() -> BytesMut {
    let mut wire = Wire::open();
    wire.say(1, ChannelOpen::default());
    wire.say(1, publish());
    wire.say_header(1, 5, &[0x10, 0, 2]);
    wire.say_frame(3, 1, b"he");
    wire.say_frame(3, 1, b"llo");
    wire.say_frame(8, 0, &[]);
    wire.say(1, BasicAck { delivery_tag: DeliveryTag(3), multiple: true });
    wire.say(1, publish());
    wire.say_header(1, 0, &[0, 0]);
    wire.say(7, ChannelOpen::default());
    wire.say(7, publish());
    wire.say(1, BasicQos { prefetch_count: 9, ..Default::default() });
    wire.say_header(7, 2, &[0, 0]);
    wire.say_frame(3, 7, b"");
    wire.say_frame(3, 7, b"ab");
    wire.say(7, ChannelClose::default());
    wire.input
}

fn events(bytes: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut wire = Wire::open();
    let mut events = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().chain([&usize::MAX]) {
        let (piece, later) = rest.split_at((*cut).min(rest.len()));
        wire.input.extend_from_slice(piece);
        events.extend(std::iter::from_fn(|| wire.next().unwrap()));
        rest = later;
    }
    assert!(wire.input.is_empty());
    events
}

proptest::proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_events(cuts in proptest::collection::vec(0usize..40, 0..40)) {
        let bytes = script();
        let whole = events(&bytes, &[]);
        proptest::prop_assert_eq!(whole.len(), 8);
        proptest::prop_assert_eq!(events(&bytes, &cuts), whole);
    }

    #[test]
    fn no_input_makes_the_machine_panic_or_hang(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        at in 0usize..400,
    ) {
        let mut garbled = script();
        let at = at.min(garbled.len());
        garbled.truncate(at);
        garbled.extend_from_slice(&bytes);
        let mut wire = Wire::open();
        wire.input = garbled;
        for _ in 0..100 {
            match wire.next() {
                Ok(None) => break,
                Ok(Some(Event::Close { .. })) => wire.connection.close_ok(&mut wire.out),
                Ok(Some(_)) => {}
                Err(fault) => wire.connection.fail(&fault, &mut wire.out),
            }
        }
        proptest::prop_assert_eq!(wire.next(), Ok(None));
    }
}

#[test]
fn a_prefix_of_a_frame_is_never_an_event() {
    let mut wire = Wire::new(Settings::default());
    wire.say(1, QueueDeclare { queue: ShortStr::from_static("a queue"), ..Default::default() });
    for len in 0..wire.input.len() {
        let mut prefix = BytesMut::from(&wire.input[..len]);
        assert_eq!(split_frame(&mut prefix, 8192), Ok(None));
        assert_eq!(prefix.len(), len);
    }
}

// What our own commands and the load generator do: the client's side with the same parts.
#[test]
fn a_client_assembles_what_the_server_delivers_and_the_server_what_the_client_publishes() {
    let mut wire = Wire::with_channel();
    for len in [0, 1, 4095, 4096, 131_064, 131_065, 300_000] {
        let content = Content {
            properties: BasicProperties { priority: Some(3), ..Default::default() }.encode(),
            body: Bytes::from(vec![5; len]),
        };
        let mut said = Output::new();
        let method = BasicPublish { mandatory: true, ..publish() }.into();
        crate::write_command(ChannelId(1), &method, &content, 131_072, &mut said);
        wire.input.extend_from_slice(&said.copy_to_bytes(said.remaining()));
        let Event::Publish(published) = wire.event() else { panic!("no publish") };
        assert!(published.mandatory && !published.immediate);
        assert_eq!(published.content, content);
        let returned = Returned {
            code: ReplyCode::NoRoute,
            exchange: &published.exchange,
            routing_key: &published.routing_key,
            properties: content.properties.as_bytes(),
            body: &content.body,
        };
        wire.connection.return_message(ChannelId(1), &returned, &mut wire.out);
        let mut assembler = crate::Assembler::default();
        let frames = wire.heard_frames();
        let heard = frames.into_iter().filter_map(|frame| assembler.push(frame, 1 << 20).unwrap());
        let expected = BasicReturn {
            reply_code: 312,
            reply_text: ShortStr::from_static("NO_ROUTE"),
            exchange: ShortStr::new(),
            routing_key: ShortStr::from_static("q"),
        };
        let expected = Command { method: expected.into(), content: Some(content) };
        assert_eq!(heard.collect::<Vec<_>>(), [expected]);
    }
}
