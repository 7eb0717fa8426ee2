use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::frame::{FrameKind, split_frame, write_method_frame};
use crate::ids::ChannelId;
use crate::sample::{Seed, through_amq_protocol};

fn framed(channel: u16, method: &Method) -> BytesMut {
    let mut bytes = BytesMut::new();
    write_method_frame(ChannelId(channel), method, &mut bytes);
    bytes
}

fn unframed(mut bytes: BytesMut) -> (ChannelId, Method) {
    let frame = split_frame(&mut bytes, u32::MAX).unwrap().expect("a whole frame");
    assert!(bytes.is_empty());
    assert_eq!(frame.kind, FrameKind::Method);
    (frame.channel, crate::channel::decode_method(frame.payload).unwrap())
}

/// The oracle reads over two fields and writes what they always are.
fn known_to_the_oracle(mut method: Method) -> Method {
    match &mut method {
        Method::AccessRequestOk(ok) => ok.ticket = 1,
        Method::BasicQos(qos) => qos.prefetch_size = 0,
        _ => {}
    }
    method
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_method_survives_the_wire(seed: u64, channel: u16) {
        let mut seed = Seed::new(seed);
        for (id, name) in Method::ALL {
            let method = Method::sample(*id, &mut seed);
            prop_assert_eq!(method.name(), *name);
            let (on, decoded) = unframed(framed(channel, &method));
            prop_assert_eq!(on, ChannelId(channel));
            prop_assert_eq!(decoded, method);
        }
    }

    #[test]
    fn amq_protocol_reads_and_writes_every_method_as_we_do(seed: u64, channel: u16) {
        let mut seed = Seed::new(seed);
        for (id, name) in Method::ALL {
            let method = known_to_the_oracle(Method::sample(*id, &mut seed));
            let ours = framed(channel, &method);
            let theirs = through_amq_protocol(&ours);
            prop_assert_eq!(&ours[..], &theirs[..], "{}", name);
            prop_assert_eq!(unframed(BytesMut::from(&theirs[..])).1, method);
        }
    }

    #[test]
    fn arguments_cut_short_or_followed_by_more_are_no_method(seed: u64) {
        let mut seed = Seed::new(seed);
        for (id, _) in Method::ALL {
            let mut out = BytesMut::new();
            Method::sample(*id, &mut seed).encode(&mut out);
            let arguments = out.freeze().slice(4..);
            if !arguments.is_empty() {
                let cut = arguments.slice(..usize::try_from(seed.next()).unwrap() % arguments.len());
                prop_assert!(Method::decode(*id, cut).is_err());
            }
            let more = [&arguments[..], &[0]].concat();
            let trailing = MethodError::Malformed(*id, Malformed::Trailing(1));
            prop_assert_eq!(Method::decode(*id, Bytes::from(more)), Err(trailing));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>, pick: prop::sample::Index) {
        let (id, _) = pick.get(Method::ALL);
        if let Ok(method) = Method::decode(*id, Bytes::from(bytes)) {
            prop_assert_eq!(unframed(framed(1, &method)).1, method);
        }
    }
}

#[test]
fn sixty_six_methods_each_with_its_own_number() {
    let mut ids: Vec<MethodId> = Method::ALL.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), Method::ALL.len()), (66, 66));
    assert_eq!(Method::name_of(MethodId::new(60, 40)), "basic.publish");
}

// §4.2.5.2: bits share an octet, the first in the lowest place.
#[test]
fn the_five_bits_of_a_queue_declare_are_one_octet() {
    let declare = QueueDeclare {
        queue: ShortStr::from_static("q"),
        durable: true,
        no_wait: true,
        ..Default::default()
    };
    let bytes = framed(1, &declare.into());
    let golden =
        b"\x01\x00\x01\x00\x00\x00\x0D\x00\x32\x00\x0A\x00\x00\x01q\x12\x00\x00\x00\x00\xCE";
    assert_eq!(bytes, &golden[..]);
}
