//! Every message of every version: there and back, and against an independent codec.

use super::*;
use crate::dice::Dice;
use crate::messages::{Request, Response};

const ITEMS_MAX: usize = 100_000;

fn each_version(mut check: impl FnMut(ApiKey, ApiVersion)) {
    for spec in ApiKey::all() {
        for version in spec.first.0..=spec.last.0 {
            check(spec.key, ApiVersion(version));
        }
    }
}

fn random_request(api: ApiKey, version: ApiVersion, seed: u64) -> Request {
    let mut dice = Dice::reader(seed, api.spec().is_flexible(version));
    Request::decode(api, &mut dice, version).unwrap()
}

fn random_response(api: ApiKey, version: ApiVersion, seed: u64) -> Response {
    let mut dice = Dice::reader(seed, api.spec().is_flexible(version));
    Response::decode(api, &mut dice, version).unwrap()
}

fn header(api: ApiKey, version: ApiVersion) -> RequestHeader {
    RequestHeader { api, version, correlation_id: CorrelationId(77), client_id: Some("me".into()) }
}

fn without_length(encoded: &Encoded) -> Bytes {
    let bytes = encoded.to_bytes();
    assert_eq!(bytes[..4], u32::try_from(bytes.len() - 4).unwrap().to_be_bytes());
    bytes.slice(4..)
}

/// Compares as text, so that NaN equals NaN.
fn assert_same(
    left: &impl std::fmt::Debug,
    right: &impl std::fmt::Debug,
    api: ApiKey,
    v: ApiVersion,
) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"), "{api} v{v}");
}

#[test]
fn every_message_of_every_version_comes_back_as_it_went() {
    each_version(|api, version| {
        for seed in 0..40 {
            let request = random_request(api, version, seed);
            let frame = without_length(&encode_request(&header(api, version), &request).unwrap());
            let (back_header, back) = decode_request(frame, ITEMS_MAX).unwrap();
            assert_eq!(back_header, header(api, version));
            assert_same(&back, &request, api, version);

            let response = random_response(api, version, seed);
            let encoded = encode_response(CorrelationId(5), version, &response).unwrap();
            let frame = without_length(&encoded);
            let (id, back) = decode_response(api, version, frame, ITEMS_MAX).unwrap();
            assert_eq!(id, CorrelationId(5));
            assert_same(&back, &response, api, version);
        }
    });
}
