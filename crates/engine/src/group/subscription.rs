//! What classic consumers write for one another: the subscription in a member's metadata and the
//! assignment that a leader makes of it. The broker reads the topics, and all of it where a group moves
//! between the protocols (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

/// Partitions by the name of their topic.
pub(super) type Named = Vec<(Arc<str>, Vec<i32>)>;

/// Kafka's `ConsumerProtocolSubscription`, of every version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscribed {
    /// An assignment has to be written in this version.
    pub(super) version: i16,
    /// By name.
    pub(super) topics: BTreeSet<Arc<str>>,
    /// What the member has (v1+); a member of an eager protocol has nothing when it joins.
    pub(super) owned: Named,
    /// Where the member stands (v3+).
    pub(super) rack: Option<Arc<str>>,
}

/// Kafka's `ConsumerProtocolAssignment`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    /// What the member is to have.
    pub(super) partitions: Named,
    /// An assignor of the client's own has added something that only it understands.
    pub(super) has_user_data: bool,
}

/// The subscribed topics, if this is a subscription as Kafka's `ConsumerProtocolSubscription`
/// describes it: version, number of topics, each topic with its length; the rest is ignored.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let mut rest = metadata;
    version_and_topics(&mut rest).map(|(_, topics)| topics)
}

/// The whole subscription; `None` if it is none. A newer version is read as the newest known one.
pub(super) fn subscribed(metadata: &[u8]) -> Option<Subscribed> {
    let mut rest = metadata;
    let (version, topics) = version_and_topics(&mut rest)?;
    bytes(&mut rest)?; // the assignor's own
    let mut subscribed = Subscribed { version, topics, ..Subscribed::default() };
    if version >= 1 {
        subscribed.owned = named(&mut rest)?;
    }
    if version >= 2 {
        take::<4>(&mut rest)?; // the generation in which it got them
    }
    if version >= 3 {
        subscribed.rack = text(&mut rest)?;
    }
    Some(subscribed)
}

/// An assignment; nothing at all is one of nothing. `None` if it is none.
pub(super) fn assigned(assignment: &[u8]) -> Option<Assigned> {
    if assignment.is_empty() {
        return Some(Assigned::default());
    }
    let mut rest = assignment;
    (i16::from_be_bytes(take(&mut rest)?) >= 0).then_some(())?;
    let partitions = named(&mut rest)?;
    let has_user_data = bytes(&mut rest)?.is_some_and(|bytes| !bytes.is_empty());
    Some(Assigned { partitions, has_user_data })
}

/// The assignment as a consumer of this version reads it; every version looks the same.
pub(super) fn assignment(version: i16, partitions: &Named) -> Bytes {
    let mut out = Vec::new();
    out.put_i16(version.min(VERSION_MAX));
    put_count(&mut out, partitions.len());
    for (topic, partitions) in partitions {
        out.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX)); // a topic's name is far shorter
        out.put_slice(topic.as_bytes());
        put_count(&mut out, partitions.len());
        for partition in partitions {
            out.put_i32(*partition);
        }
    }
    out.put_i32(-1); // no user data
    out.into()
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn version_and_topics(rest: &mut &[u8]) -> Option<(i16, BTreeSet<Arc<str>>)> {
    let version = i16::from_be_bytes(take(rest)?);
    (version >= 0).then_some(())?;
    let mut topics = BTreeSet::new();
    for _ in 0..count(rest)? {
        topics.insert(text(rest)??); // ends with the bytes, whatever the count
    }
    Some((version, topics))
}

fn named(rest: &mut &[u8]) -> Option<Named> {
    let mut found = Named::new();
    for _ in 0..count(rest)? {
        let topic = text(rest)??;
        let mut partitions = Vec::new();
        for _ in 0..count(rest)? {
            partitions.push(i32::from_be_bytes(take(rest)?));
        }
        found.push((topic, partitions));
    }
    Some(found)
}

fn count(rest: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(rest)?).max(0))
}

/// A text with its length in two bytes; -1 is none.
fn text(rest: &mut &[u8]) -> Option<Option<Arc<str>>> {
    let len = i16::from_be_bytes(take(rest)?);
    if len == -1 {
        return Some(None);
    }
    let (text, tail) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = tail;
    Some(Some(std::str::from_utf8(text).ok()?.into()))
}

/// Bytes with their length in four bytes; -1 is none.
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = i32::from_be_bytes(take(rest)?);
    if len == -1 {
        return Some(None);
    }
    let (bytes, tail) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = tail;
    Some(Some(bytes))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// The newest version that is known of either.
const VERSION_MAX: i16 = 3;

#[cfg(test)]
pub(super) fn metadata(names: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(names.len()).unwrap().to_be_bytes());
    for name in names {
        bytes.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes.extend([0xff, 0xff, 0xff, 0xff]);
    bytes.extend([0, 0, 0, 0]);
    bytes
}

/// Version 3 with partitions that are owned.
#[cfg(test)]
pub(super) fn metadata_owning(names: &[&str], owned: &Named) -> Vec<u8> {
    let mut bytes = metadata(names);
    bytes[1] = 3;
    bytes.truncate(bytes.len() - 4);
    let own = assignment(3, owned);
    bytes.extend(&own[2..own.len() - 4]);
    bytes.extend([0, 0, 0, 7, 0, 1, b'r']);
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
    fn a_subscription_of_each_version_tells_what_the_member_has() {
        let owned = vec![("orders".into(), vec![0, 3])];
        let newest = subscribed(&metadata_owning(&["orders"], &owned)).unwrap();
        assert_eq!((newest.version, &newest.owned, newest.rack.as_deref()), (3, &owned, Some("r")));
        let mut newer = metadata_owning(&["orders"], &owned);
        newer[1] = 9;
        newer.push(0);
        assert_eq!(subscribed(&newer).unwrap().owned, owned, "a version that is not known yet");
        let mut oldest = metadata(&["orders"]);
        oldest[1] = 0;
        oldest.truncate(oldest.len() - 4);
        assert_eq!(subscribed(&oldest).unwrap().topics, BTreeSet::from(["orders".into()]));
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let partitions = vec![("bills".into(), vec![2]), ("orders".into(), vec![0, 3])];
        let written = assignment(1, &partitions);
        assert_eq!(written[..2], [0, 1]);
        assert_eq!(assigned(&written), Some(Assigned { partitions, has_user_data: false }));
        for end in 1..written.len() {
            assert_eq!(assigned(&written[..end]), None, "{end}");
        }
        assert_eq!(assigned(&[]), Some(Assigned::default()));
        let own = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 42];
        assert!(assigned(&own).unwrap().has_user_data);
    }

    #[test]
    fn what_is_no_subscription_tells_nothing() {
        let whole = metadata(&["orders"]);
        for end in 0..whole.len() - 8 {
            assert_eq!(topics(&whole[..end]), None, "{end}");
        }
        for end in 0..whole.len() {
            assert_eq!(subscribed(&whole[..end]), None, "{end}");
        }
        assert_eq!(topics(&[0, 1, 0x7f, 0xff, 0xff, 0xff]), None, "two thousand million topics");
        assert_eq!(topics(&[0xff, 0xff, 0, 0, 0, 0]), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None, "not UTF-8");
    }
}
