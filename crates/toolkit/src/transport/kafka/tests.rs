//! What becomes of a broker's errors, told by librdkafka's own mock of one.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::transport::feed::Event;

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A cluster with a topic "orders" of one partition, and a connection that knows it.
async fn cluster() -> (Cluster, Arc<Kafka>) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    let kafka = Kafka::open(&cluster.bootstrap_servers(), 1).await.unwrap();
    kafka.known().insert("orders".to_owned());
    (cluster, Arc::new(kafka))
}

async fn publish(kafka: &Kafka, number: u32) -> Result<()> {
    let envelope = Envelope::raw("order.paid", number.to_string(), &Mint::system());
    kafka.publish_all(&Address::topic("orders"), vec![envelope.into()]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_never_takes_is_refused_and_the_next_message_goes_on() {
    let (cluster, kafka) = cluster().await;
    for (error, of_topic) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, false),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD, false),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, true),
    ] {
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        let told = publish(&kafka, 1).await.unwrap_err();
        assert!(matches!(told, Error::Refused { .. }), "{error:?}: {told}");
        if !of_topic {
            publish(&kafka, 2).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_broken_for_good_is_replaced() {
    let (cluster, kafka) = cluster().await;
    publish(&kafka, 0).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
    );
    *kafka.producer() = producer(&kafka.brokers).unwrap(); // asks for an identity, and is refused
    publish(&kafka, 1).await.unwrap_err();
    publish(&kafka, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_was_not_committed_is_committed_again() {
    let (cluster, kafka) = cluster().await;
    for number in 0..3 {
        publish(&kafka, number).await.unwrap();
    }
    let mut feed = kafka.begin(&Subscription::new("orders", "audit")).await.unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; // not one that librdkafka tries again by itself
    let mut count = 0;
    while count < 3 {
        if let Event::Delivery(handed) = next(&mut feed).await.unwrap() {
            count += 1;
            if count == 3 {
                cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[refused; 2]);
            }
            handed.settlement.ack();
        }
    }
    let orders = Address::topic("orders");
    for _ in 0..300 {
        if kafka.depth(&orders, "audit").await.unwrap() == 0 {
            return; // while it reads on: nobody has left
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never committed: {:?}", kafka.depth(&orders, "audit").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_read_is_told_so() {
    let (cluster, kafka) = cluster().await;
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &[denied; 20]);
    let mut feed = kafka.begin(&Subscription::new("orders", "audit")).await.unwrap();
    let told = next(&mut feed).await.unwrap_err();
    assert!(matches!(told, Error::Refused { .. }), "{told}");
}

async fn next(feed: &mut RawFeed) -> Result<Event> {
    let waited = tokio::time::timeout(Duration::from_secs(60), feed.next()).await;
    waited.expect("something within a minute").expect("a feed that goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_takes_nothing_and_ends_where_the_log_ended() {
    let (_cluster, kafka) = cluster().await;
    for number in 0..5 {
        publish(&kafka, number).await.unwrap();
    }
    let orders = Address::topic("orders");
    for (max, wanted) in [(3, 3), (100, 5)] {
        let found = kafka.look(&orders, "audit", max).await.unwrap().unwrap();
        let bodies: Vec<String> =
            found.iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()).collect();
        assert_eq!(bodies, (0..wanted).map(|number| number.to_string()).collect::<Vec<_>>());
    }
    let nowhere = kafka.look(&Address::queue("nowhere"), "audit", 100).await.unwrap().unwrap();
    assert!(nowhere.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_everything_waits_for_a_topic_that_its_broker_does_not_know_yet() {
    let (cluster, kafka) = cluster().await;
    publish(&kafka, 7).await.unwrap();
    cluster.topic_error("orders", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let mut feed = kafka.begin(&Subscription::all("orders")).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(500), feed.next()).await;
    assert!(early.is_err(), "nobody knows yet what there is: {early:?}");
    let moving = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[moving; 3]);
    cluster.topic_error("orders", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    let event = next(&mut feed).await.unwrap();
    assert!(matches!(event, Event::Delivery(_)), "{event:?}");
}
