//! Stories of connections: split input, foreign protocols, authentication, limits.

use super::*;
use crate::frame::encode_request;
use crate::header::RequestHeader;
use crate::messages::{
    ApiVersionsRequest, MetadataRequest, ProduceRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use crate::writer::Encoded;

fn frame(correlation_id: i32, version: i16, request: impl Into<Request>) -> Vec<u8> {
    let request = request.into();
    let header = RequestHeader {
        api: request.api(),
        version: ApiVersion(version),
        correlation_id: CorrelationId(correlation_id),
        client_id: Some("test".into()),
    };
    encode_request(&header, &request).map(|encoded: Encoded| encoded.to_bytes()).unwrap().to_vec()
}

fn conversation() -> Vec<u8> {
    let mut bytes = frame(1, 3, ApiVersionsRequest::default());
    bytes.extend(frame(2, 9, MetadataRequest::default()));
    bytes.extend(frame(3, 7, ProduceRequest { acks: -1, ..Default::default() }));
    bytes
}

/// Feeds the bytes in pieces of the given sizes, over and over.
fn events(mut connection: Connection, bytes: &[u8], sizes: &[usize]) -> Vec<Result<Event, Fault>> {
    let (mut input, mut rest, mut seen) = (BytesMut::new(), bytes, Vec::new());
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        input.extend_from_slice(piece);
        rest = after;
        loop {
            match connection.receive(&mut input) {
                Ok(Some(event)) => seen.push(Ok(event)),
                Ok(None) => break,
                Err(fault) => {
                    seen.push(Err(fault));
                    return seen;
                }
            }
        }
        if rest.is_empty() {
            return seen;
        }
    }
    seen
}

fn only_fault(bytes: &[u8]) -> Fault {
    let mut seen = events(Connection::open(Limits::default()), bytes, &[bytes.len()]);
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0).unwrap_err()
}

#[test]
fn however_the_input_is_split_the_events_are_the_same() {
    let bytes = conversation();
    let whole = events(Connection::open(Limits::default()), &bytes, &[bytes.len()]);
    assert_eq!(whole.len(), 3);
    for first in 1..bytes.len() {
        let split = events(Connection::open(Limits::default()), &bytes, &[first, bytes.len()]);
        assert_eq!(split, whole, "first piece of {first} bytes");
    }
    assert_eq!(events(Connection::open(Limits::default()), &bytes, &[1]), whole);
    assert_eq!(events(Connection::open(Limits::default()), &bytes, &[3, 1, 7]), whole);
}

#[test]
fn a_request_tells_who_asks_what_in_which_version() {
    let bytes = frame(77, 9, MetadataRequest::default());
    let mut seen = events(Connection::open(Limits::default()), &bytes, &[bytes.len()]);
    let Ok(Event::Request { correlation_id, version, client_id, request }) = seen.remove(0) else {
        panic!("{seen:?}")
    };
    assert_eq!((correlation_id, version), (CorrelationId(77), ApiVersion(9)));
    assert_eq!(client_id.as_deref(), Some("test"));
    assert_eq!(request.api(), ApiKey::Metadata);
}

#[test]
fn other_protocols_are_told_apart_from_their_first_four_bytes() {
    assert_eq!(only_fault(b"GET "), Fault::Http);
    assert_eq!(only_fault(b"POST / HTTP/1.1\r\n"), Fault::Http);
    assert_eq!(only_fault(b"\x16\x03\x01\x02\0"), Fault::Tls);
    assert_eq!(only_fault(b"AMQP\0\0\x09\x01"), Fault::Amqp);
}

#[test]
fn a_length_is_judged_before_anything_is_reserved() {
    let max = Limits::default().request_bytes_max;
    let too_long = u32::try_from(max + 1).unwrap().to_be_bytes();
    assert_eq!(only_fault(&too_long), Fault::TooLong { len: max + 1, max });
    assert_eq!(only_fault(&[0; 4]), Fault::Length { len: 0 });
    assert_eq!(only_fault(&[0xff; 4]), Fault::Length { len: -1 });

    let mut connection = Connection::open(Limits::default());
    let mut input = BytesMut::from(&u32::try_from(max).unwrap().to_be_bytes()[..]);
    assert_eq!(connection.receive(&mut input), Ok(None));
    assert!(input.capacity() <= 2 * READ_AHEAD_BYTES_MAX, "{} bytes for four", input.capacity());
}

#[test]
fn a_client_that_has_not_proved_itself_gets_no_room_for_four_bytes() {
    let mut connection = Connection::needs_authentication(Limits::default());
    let mut input = BytesMut::from(&60_000_u32.to_be_bytes()[..]);
    assert_eq!(connection.receive(&mut input), Ok(None));
    assert!(input.capacity() <= 64, "{}", input.capacity());
}

#[test]
fn unknown_apis_and_versions_close_the_connection() {
    assert_eq!(
        only_fault(b"\0\0\0\x0a\0\x07\0\0\0\0\0\x01\xff\xff"),
        Fault::UnknownApi { api: 7, version: 0 }
    );
    assert_eq!(
        only_fault(b"\0\0\0\x0a\0\0\0\x02\0\0\0\x01\xff\xff"),
        Fault::UnsupportedVersion { api: ApiKey::Produce, version: 2 }
    );
    assert_eq!(
        only_fault(b"\0\0\0\x0a\0\x03\x00\x63\0\0\0\x01\xff\xff"),
        Fault::UnsupportedVersion { api: ApiKey::Metadata, version: 99 }
    );
}

#[test]
fn api_versions_from_the_future_can_be_answered() {
    let bytes = b"\0\0\0\x0e\0\x12\x00\x63\0\0\0\x2a\xff\xff\0???";
    let seen = events(Connection::open(Limits::default()), bytes, &[bytes.len()]);
    assert_eq!(seen, [Ok(Event::ApiVersionsTooNew { correlation_id: CorrelationId(42) })]);
}

#[test]
fn a_truncated_body_closes_the_connection() {
    let fault = only_fault(b"\0\0\0\x0a\0\x0c\0\0\0\0\0\x01\xff\xff");
    assert_eq!(fault, Fault::Malformed(Malformed::Truncated { at: 10, wanted: 2 }));
}

#[test]
fn before_authentication_only_the_handshake_is_heard() {
    let bytes = frame(1, 9, MetadataRequest::default());
    let seen = events(Connection::needs_authentication(Limits::default()), &bytes, &[bytes.len()]);
    assert_eq!(seen, [Err(Fault::NotAuthenticated { api: ApiKey::Metadata })]);

    let mut connection = Connection::needs_authentication(Limits::default());
    let mut input = BytesMut::new();
    for request in [
        frame(1, 3, ApiVersionsRequest::default()),
        frame(2, 1, SaslHandshakeRequest { mechanism: "PLAIN".into() }),
        frame(3, 2, SaslAuthenticateRequest { auth_bytes: Bytes::from_static(b"\0u\0p") }),
    ] {
        input.extend_from_slice(&request);
        assert!(matches!(connection.receive(&mut input), Ok(Some(Event::Request { .. }))));
    }
    connection.authenticated();
    input.extend_from_slice(&frame(4, 9, MetadataRequest::default()));
    assert!(matches!(connection.receive(&mut input), Ok(Some(Event::Request { .. }))));
}

#[test]
fn after_the_old_handshake_frames_are_bare_tokens() {
    let mut connection = Connection::needs_authentication(Limits::default());
    let mut input = BytesMut::from(&frame(1, 0, SaslHandshakeRequest::default())[..]);
    assert!(matches!(connection.receive(&mut input), Ok(Some(Event::Request { .. }))));
    connection.expect_sasl_tokens();
    input.extend_from_slice(b"\0\0\0\x04\0u\0p\0\0\0\0");
    let token = Event::SaslToken(Bytes::from_static(b"\0u\0p"));
    assert_eq!(connection.receive(&mut input), Ok(Some(token)));
    let empty = Event::SaslToken(Bytes::new()); // GSSAPI sends empty tokens
    assert_eq!(connection.receive(&mut input), Ok(Some(empty)));
}

#[test]
fn a_handshake_ends_one_way_or_the_other() {
    let limits = Limits { handshake_requests_max: 2, ..Limits::default() };
    let bytes = frame(1, 3, ApiVersionsRequest::default()).repeat(3);
    let seen = events(Connection::needs_authentication(limits), &bytes, &[bytes.len()]);
    assert_eq!(seen.len(), 3);
    assert_eq!(seen.last(), Some(&Err(Fault::HandshakeTooLong { max: 2 })));

    let len = limits.handshake_bytes_max + 1;
    let bytes = u32::try_from(len).unwrap().to_be_bytes();
    let seen = events(Connection::needs_authentication(limits), &bytes, &[4]);
    assert_eq!(seen, [Err(Fault::TooLong { len, max: limits.handshake_bytes_max })]);
}
