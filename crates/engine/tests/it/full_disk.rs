//! A full disk: publishers are refused, readers, acknowledgers and deleters are not, and room that is
//! given back is used without a restart (store.md rule 22).

use bytes::Bytes;
use ottla_engine::Refused;
use ottla_engine::broker::{BrokerError, Channel, Peer, Publish, QueueDeclare};
use ottla_engine::queue::Outcome;
use ottla_engine::topic::ProduceError;

use crate::groups::{commit, committed};
use crate::rig::{Rig, batch};

/// Produces until it is refused; how often it was not.
pub(crate) fn fill(rig: &Rig, topic: &str) -> usize {
    let value = "x".repeat(9_000);
    for accepted in 0..2_000 {
        let now = rig.engine.now();
        match rig.engine.produce(&rig.partition(topic), batch(&[&value]), now) {
            Ok(_) => rig.keep(),
            Err(error) => {
                assert_eq!(error, ProduceError::Refused(Refused::DiskFull));
                return accepted;
            }
        }
    }
    panic!("never refused");
}

fn can_produce(rig: &Rig, topic: &str, count: usize) {
    let before = rig.read_all(topic).len();
    let value = "y".repeat(9_000);
    for _ in 0..count {
        let now = rig.engine.now();
        rig.engine.produce(&rig.partition(topic), batch(&[&value]), now).unwrap();
        rig.keep();
    }
    assert_eq!(rig.read_all(topic).len(), before + count);
}

#[test]
fn a_full_disk_refuses_publishers_alone_until_a_topic_is_deleted() {
    let rig = Rig::new();
    rig.topic("big", 1);
    rig.topic("other", 1);
    rig.keep();
    rig.limit_disk(3 << 20);
    let accepted = fill(&rig, "big");
    assert!(accepted > 150, "{accepted} batches on three MiB");
    assert!(rig.engine.store().disk_room().is_full);
    assert_eq!(rig.read_all("big").len(), accepted, "what was acknowledged is read");

    // Offsets are committed for as long as anybody likes.
    for at in 0..500 {
        commit(&rig, "other", at);
        rig.keep();
    }
    assert_eq!(committed(&rig, "other").0, Some(499));

    rig.engine.delete_topic(rig.partition("big").topic()).unwrap();
    rig.keep();
    assert!(!rig.engine.store().disk_room().is_full);
    can_produce(&rig, "other", 100);
    assert_eq!(rig.power_cut().read_all("other").len(), 100);
}

#[test]
fn deleting_records_makes_room_too() {
    let rig = Rig::new();
    rig.topic("big", 1);
    rig.keep();
    rig.limit_disk(3 << 20);
    let accepted = fill(&rig, "big");
    rig.engine.delete_records(&rig.partition("big"), None).unwrap();
    rig.keep();
    assert!(fill(&rig, "big") * 2 > accepted);
}

#[test]
fn a_disk_that_others_fill_lets_go_and_takes_data_again_once_they_leave() {
    let rig = Rig::new();
    rig.topic("big", 1);
    rig.topic("other", 1);
    rig.keep();
    rig.limit_disk(4 << 20);
    for _ in 0..30 {
        can_produce(&rig, "big", 1);
    }
    rig.limit_disk(256 << 10); // less than is there
    rig.keep();
    assert_eq!(fill(&rig, "other"), 0);
    assert_eq!(rig.read_all("big").len(), 30);
    rig.engine.delete_topic(rig.partition("big").topic()).unwrap();
    rig.keep();
    rig.limit_disk(4 << 20);
    rig.keep();
    can_produce(&rig, "other", 30);
}

/// A session with a queue.
fn session(rig: &Rig) -> Channel {
    let login = rig.engine.broker().authenticate("guest", b"guest", Peer::Loopback).unwrap();
    let connection = rig.engine.broker().connect(login, "/").unwrap();
    let mut channel = rig.engine.broker().open_channel(&connection);
    let declare = QueueDeclare {
        name: "q",
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Default::default(),
    };
    rig.engine.broker().declare_queue(&mut channel, declare).unwrap();
    channel
}

fn publish(rig: &Rig, channel: &mut Channel) -> Result<(), BrokerError> {
    let properties = Bytes::from_static(&[0x10, 0, 2]); // delivery-mode 2
    let body = Bytes::from(vec![b'x'; 9_000]);
    let publish = Publish { exchange: "", routing_key: "q", properties, body };
    rig.engine.broker().publish(channel, publish)?;
    rig.keep();
    rig.engine.broker().durable_moved(rig.engine.durable());
    Ok(())
}

#[test]
fn acknowledging_messages_makes_room_for_others() {
    let rig = Rig::new();
    let mut channel = session(&rig);
    rig.keep();
    rig.limit_disk(3 << 20);
    let mut accepted = 0;
    while publish(&rig, &mut channel).is_ok() {
        accepted += 1;
        assert!(accepted < 2_000, "never refused");
    }
    assert!(accepted > 150, "{accepted} messages on three MiB");
    for n in 0..accepted {
        let got = rig.engine.broker().get(&mut channel, "q", false).unwrap().unwrap();
        rig.engine.broker().settle(&channel, &[got.held.unwrap()], Outcome::Ack);
        rig.keep();
        rig.engine.broker().durable_moved(rig.engine.durable());
        assert_eq!(got.body.len(), 9_000, "message {n}");
    }
    rig.keep();
    for n in 0..100 {
        publish(&rig, &mut channel).unwrap_or_else(|error| panic!("message {n}: {error:?}"));
    }
    let rig = rig.power_cut();
    let mut channel = session(&rig);
    let left = rig.engine.broker().check_queue(&mut channel, "q").unwrap().messages;
    assert_eq!(left, 100);
}
