use proptest::prelude::*;

use super::*;
use crate::frame::write_content;
use crate::ids::ChannelId;
use crate::output::Output;
use crate::sample::{Sample, Seed, through_amq_protocol};
use bytes::Buf;

/// Properties of which any may be missing.
fn sample(seed: u64) -> BasicProperties {
    fn maybe<T: Sample>(seed: &mut Seed) -> Option<T> {
        bool::sample(seed).then(|| T::sample(seed))
    }
    let seed = &mut Seed::new(seed);
    BasicProperties {
        content_type: maybe(seed),
        content_encoding: maybe(seed),
        headers: maybe(seed),
        delivery_mode: maybe(seed),
        priority: maybe(seed),
        correlation_id: maybe(seed),
        reply_to: maybe(seed),
        expiration: maybe(seed),
        message_id: maybe(seed),
        timestamp: maybe(seed),
        kind: maybe(seed),
        user_id: maybe(seed),
        app_id: maybe(seed),
        cluster_id: maybe(seed),
    }
}

proptest! {
    #[test]
    fn properties_survive_the_wire_and_each_is_found_without_the_others(seed: u64) {
        let basic = sample(seed);
        let raw = Properties::new(basic.encode().as_bytes().clone()).unwrap();
        prop_assert_eq!(&raw.to_basic(), &basic);
        let text = |field: &Option<ShortStr>| field.as_ref().map(|text| text.as_bytes().to_vec());
        prop_assert_eq!(raw.content_type().map(<[u8]>::to_vec), text(&basic.content_type));
        prop_assert_eq!(raw.expiration().map(<[u8]>::to_vec), text(&basic.expiration));
        prop_assert_eq!(raw.reply_to().map(<[u8]>::to_vec), text(&basic.reply_to));
        prop_assert_eq!(raw.user_id().map(<[u8]>::to_vec), text(&basic.user_id));
        prop_assert_eq!(raw.app_id().map(<[u8]>::to_vec), text(&basic.app_id));
        prop_assert_eq!(raw.timestamp(), basic.timestamp);
        prop_assert_eq!(raw.priority(), basic.priority);
        prop_assert_eq!(raw.delivery_mode() == DeliveryMode::Persistent, basic.delivery_mode == Some(2));
        prop_assert_eq!(
            raw.headers().map(TableRef::to_table),
            basic.headers.map(|headers| headers.view().to_table())
        );
    }

    #[test]
    fn amq_protocol_reads_and_writes_properties_as_we_do(seed: u64) {
        let properties = sample(seed).encode();
        let mut out = Output::new();
        write_content(ChannelId(1), properties.as_bytes(), &Bytes::new(), 131_072, &mut out);
        let ours = out.copy_to_bytes(out.remaining());
        prop_assert_eq!(&ours[..], &through_amq_protocol(&ours)[..]);
    }

    #[test]
    fn no_bytes_make_the_check_panic(bytes: Vec<u8>) {
        if let Ok(properties) = Properties::new(Bytes::from(bytes)) {
            let again = properties.to_basic().encode();
            prop_assert_eq!(again.to_basic(), properties.to_basic());
        }
    }

    #[test]
    fn a_property_list_cut_short_is_refused(seed: u64, cut: prop::sample::Index) {
        let bytes = sample(seed).encode().as_bytes().clone();
        prop_assert!(Properties::new(bytes.slice(..cut.index(bytes.len()))).is_err());
    }
}

#[test]
fn a_fifteenth_property_and_octets_left_over_are_refused() {
    let check = |bytes: &'static [u8]| Properties::new(Bytes::from_static(bytes));
    assert_eq!(check(&[0, 1, 0, 0]), Err(Malformed::PropertyFlags(1)));
    assert_eq!(check(&[0, 0, 7]), Err(Malformed::Trailing(1)));
    assert_eq!(check(&[0]), Err(Malformed::Truncated));
    assert_eq!(check(&[0x20, 0, 0, 0, 0, 3, 1, b'k', b'Z']), Err(Malformed::FieldType(b'Z')));
}
