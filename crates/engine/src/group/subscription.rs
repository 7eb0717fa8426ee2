//! The topics in a classic consumer's metadata. Everything else in it is the clients' own affair.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The subscribed topics, if this is a subscription as Kafka's `ConsumerProtocolSubscription`
/// describes it: version, number of topics, each topic with its length; the rest is ignored.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut topics = BTreeSet::new();
    for _ in 0..i32::from_be_bytes(*count).max(0) {
        let (len, tail) = rest.split_first_chunk::<2>()?; // ends with the bytes, whatever the count
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, tail) = tail.split_at_checked(len)?;
        topics.insert(std::str::from_utf8(name).ok()?.into());
        rest = tail;
    }
    Some(topics)
}

#[cfg(test)]
pub(super) fn metadata(names: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(names.len()).unwrap().to_be_bytes());
    for name in names {
        bytes.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes.extend([0xff, 0xff, 0xff, 0xff]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_tells_its_topics() {
        let expected = BTreeSet::from(["bills".into(), "orders".into()]);
        assert_eq!(topics(&metadata(&["orders", "bills"])), Some(expected));
        assert_eq!(topics(&metadata(&[])), Some(BTreeSet::new()));
    }

    #[test]
    fn what_is_no_subscription_tells_nothing() {
        let whole = metadata(&["orders"]);
        for end in 0..whole.len() - 4 {
            assert_eq!(topics(&whole[..end]), None, "{end}");
        }
        assert_eq!(topics(&[0, 1, 0x7f, 0xff, 0xff, 0xff]), None, "two thousand million topics");
        assert_eq!(topics(&[0xff, 0xff, 0, 0, 0, 0]), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None, "not UTF-8");
    }
}
