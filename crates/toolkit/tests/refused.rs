//! What a broker of AMQP refuses for good is told so, once; it is not asked again and again. `CONFORMANCE_AT` names the
//! broker, as for the conformance suite.
#![cfg(feature = "amqp")]

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use ottla::transport::{Parcel, Subscription};
use ottla::{Address, Connection, Envelope, Error};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_named_by_the_environment_refuses_for_good_what_it_never_will_do() {
    let Ok(line) = std::env::var("CONFORMANCE_AT") else { return };
    if !line.starts_with("amqp") {
        return;
    }
    let connection = Connection::open(&line).await.unwrap();
    let name = format!("refused.{}", connection.mint().id().simple());
    let uri = line.strip_suffix('/').unwrap_or(&line);
    let other = lapin::Connection::connect(uri, lapin::ConnectionProperties::default());
    let channel = other.await.unwrap().create_channel().await.unwrap();
    let classic = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), classic, FieldTable::default()).await.unwrap();

    let queue = Address::queue(&name); // declared by somebody else, and otherwise
    let envelope = || Envelope::raw("order.paid", "{}", connection.mint());
    let told = connection.send(&queue, [envelope()]).await.unwrap_err();
    assert!(matches!(told, Error::Refused { .. }) && !told.is_transient(), "{told}");
    let told = connection.subscribe(Subscription::new(&queue, "audit")).await.unwrap_err();
    assert!(matches!(told, Error::Refused { .. }), "{told}");

    let free = Address::queue(format!("{name}.free"));
    let delayed = |days: u64| Parcel {
        envelope: envelope(),
        delay: Some(Duration::from_secs(days * 86_400)),
    };
    let told = connection.transport().publish(&free, vec![delayed(50)]).await.unwrap_err();
    assert!(matches!(told, Error::Unsupported { .. }), "{told}");
    connection.transport().publish(&free, vec![delayed(49)]).await.unwrap();
    connection.send(&free, [envelope()]).await.unwrap();
}
