//! Queues that belong to a connection, end by themselves, or are deleted.

use std::sync::Arc;

use super::rig::*;
use crate::broker::{Channel, DeleteIf, ErrorKind, ExchangeDeclare, Parcel, QueueDeclare};
use crate::value::{Arguments, Value};

fn transient_queue(name: &str) -> QueueDeclare<'_> {
    QueueDeclare { durable: false, ..durable(name, &[]) }
}

fn exists(rig: &Rig, channel: &mut Channel, name: &str) -> bool {
    rig.broker().check_queue(channel, name).is_ok()
}

#[test]
fn an_exclusive_queue_is_its_connections_alone_and_goes_with_it() {
    let rig = Rig::new();
    let (mut owner, mut other) = (rig.channel(), rig.channel());
    let before = rig.engine.store().end();
    let exclusive = QueueDeclare { exclusive: true, ..durable("mine", &[]) };
    let declared = rig.broker().declare_queue(&mut owner, exclusive).unwrap();
    assert!(
        declared.lsn.is_durable(rig.engine.durable()) || declared.lsn == ottla_store::Lsn::ZERO
    );
    assert_eq!(rig.engine.store().end(), before, "nothing is logged");
    let locked = rig.broker().check_queue(&mut other, "mine").unwrap_err();
    assert_eq!(locked.kind(), ErrorKind::ResourceLocked);
    assert!(locked.text().starts_with(
        "cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally \
         declared on another connection"
    ));
    rig.publish(&mut other, "mine", "anybody may write");
    rig.sync();
    assert_eq!(rig.body(&mut owner, "mine"), "anybody may write");
    let connection = Arc::clone(owner.connection());
    rig.broker().close_channel(owner);
    rig.broker().disconnect(&connection);
    assert!(!exists(&rig, &mut other, "mine"));
}

#[test]
fn a_name_is_made_up_and_remembered_for_the_channel() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let nothing = rig.broker().check_queue(&mut channel, "").unwrap_err();
    assert_eq!(nothing.text(), "no previously declared queue");
    let first = rig.broker().declare_queue(&mut channel, transient_queue("")).unwrap().name;
    let second = rig.broker().declare_queue(&mut channel, transient_queue("")).unwrap().name;
    assert!(first.starts_with("amq.gen-") && first != second && first.len() == 8 + 22);
    assert_eq!(rig.broker().check_queue(&mut channel, "").unwrap().name, second);
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    for durable_queue in [false, true] {
        let auto =
            QueueDeclare { auto_delete: true, durable: durable_queue, ..durable("auto", &[]) };
        rig.broker().declare_queue(&mut channel, auto).unwrap();
        let mut other = rig.channel();
        let tag = rig.consume(&mut channel, "auto", false);
        rig.consume(&mut other, "auto", false);
        rig.broker().cancel(&mut channel, &tag);
        assert!(exists(&rig, &mut channel, "auto"));
        rig.broker().close_channel(other);
        assert!(!exists(&rig, &mut channel, "auto"));
    }
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert!(!exists(&rig, &mut channel, "auto"));
}

#[test]
fn consumers_of_a_deleted_queue_are_told() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[]);
    let tag = rig.consume(&mut channel, "q", false);
    let in_use = DeleteIf { unused: true, empty: false };
    let refused = rig.broker().delete_queue(&mut channel, "q", in_use).unwrap_err();
    assert_eq!(refused.text(), "queue 'q' in vhost '/' in use");
    rig.broker().delete_queue(&mut channel, "q", DeleteIf::default()).unwrap();
    let parcels = rig.broker().take(channel.connection(), 10);
    assert!(matches!(&parcels[..], [Parcel::Cancelled { tag: gone, .. }] if *gone == tag));
    let gone = rig.broker().delete_queue(&mut channel, "q", DeleteIf::default()).unwrap();
    assert_eq!(gone.messages, 0, "a missing queue is no error");
    assert!(!rig.publish(&mut channel, "q", "nowhere").routed);
}

#[test]
fn an_unused_queue_expires() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.pass(10_000);
    rig.queue(&mut channel, "q", &[("x-expires", Value::I32(1000))]);
    rig.pass(999);
    rig.queue(&mut channel, "q", &[("x-expires", Value::I32(1000))]);
    rig.pass(999);
    assert_eq!(rig.broker().queues("/").len(), 1, "it was declared again");
    rig.pass(1);
    assert!(rig.broker().queues("/").is_empty());
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    let exchange = ExchangeDeclare {
        name: "auto",
        kind: "fanout",
        durable: true,
        auto_delete: true,
        internal: false,
        arguments: Arguments::new(),
    };
    rig.broker().declare_exchange(&mut channel, exchange).unwrap();
    rig.broker().declare_queue(&mut channel, transient_queue("t")).unwrap();
    rig.bind(&mut channel, "t", "auto", "");
    rig.broker().delete_queue(&mut channel, "t", DeleteIf::default()).unwrap();
    assert!(rig.broker().check_exchange(&mut channel, "auto").is_err());
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert!(rig.broker().check_exchange(&mut channel, "auto").is_err());
}

#[test]
fn purging_removes_what_is_ready_for_good() {
    let rig = Rig::new();
    let mut channel = rig.channel();
    rig.queue(&mut channel, "q", &[]);
    for body in ["a", "b", "c"] {
        rig.publish(&mut channel, "q", body);
    }
    rig.sync();
    rig.get(&mut channel, "q").unwrap();
    assert_eq!(rig.broker().purge_queue(&mut channel, "q").unwrap().messages, 2);
    rig.sync();
    let rig = rig.restarted();
    let mut channel = rig.channel();
    assert_eq!([rig.body(&mut channel, "q"), rig.body(&mut channel, "q")], ["a", "-"]);
}
