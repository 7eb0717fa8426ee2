//! rdkafka. Run by the suite in tests/clients; README.md there has the command line.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["create", topic, partitions] => create(topic, partitions.parse()?),
        ["delete", topic] => delete(topic),
        ["produce", topic, codec, acks] => produce(topic, codec, acks),
        ["transact", topic, id] => transact(topic, id),
        ["read", topic, from, count] => read(topic, from, count.parse()?),
        ["group", topic, group, count] => group_read(topic, group, count.parse()?),
        ["member", topic, group] => member(topic, group),
        other => Err(format!("no such command: {other:?}").into()),
    }
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("KAFKA").unwrap_or_default());
    config
}

fn create(topic: &str, partitions: i32) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = config().create()?;
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for result in wait(admin.create_topics([&topic], &AdminOptions::new()))? {
        result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(())
}

fn delete(topic: &str) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = config().create()?;
    for result in wait(admin.delete_topics(&[topic], &AdminOptions::new()))? {
        result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(())
}

/// Notes what became of each record.
#[derive(Clone, Default)]
struct Deliveries {
    delivered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => *self.failed.lock().unwrap() = Some(error.to_string()),
        }
    }
}

fn produce(topic: &str, codec: &str, acks: &str) -> Outcome {
    let mut config = config();
    config.set("compression.codec", codec).set("linger.ms", "5");
    match acks {
        "idempotent" => config.set("enable.idempotence", "true"),
        other => config.set("acks", other),
    };
    let deliveries = Deliveries::default();
    let producer: BaseProducer<Deliveries> = config.create_with_context(deliveries.clone())?;
    let lines = lines()?;
    for (key, value) in &lines {
        send(&producer, topic, key, value)?;
    }
    producer.flush(Duration::from_secs(30))?;
    if let Some(why) = deliveries.failed.lock().unwrap().take() {
        return Err(why.into());
    }
    match deliveries.delivered.load(Ordering::Relaxed) {
        all if all == lines.len() => Ok(()),
        some => Err(format!("{some} of {} records were delivered", lines.len()).into()),
    }
}

fn send<C: ProducerContext<DeliveryOpaque = ()>>(
    producer: &BaseProducer<C>,
    topic: &str,
    key: &str,
    value: &str,
) -> Result<(), KafkaError> {
    producer
        .send(BaseRecord::to(topic).key(key).payload(value).partition(0))
        .map_err(|(error, _)| error)
}

/// `key=value` of each line of the input.
fn lines() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut pairs = Vec::new();
    for line in stdin().lock().lines() {
        let line = line?;
        let (key, value) = line.split_once('=').ok_or("a line without `=`")?;
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

fn transact(topic: &str, id: &str) -> Outcome {
    let producer: BaseProducer = config().set("transactional.id", id).create()?;
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience)?;
    for (key, value) in lines()? {
        producer.begin_transaction()?;
        send(&producer, topic, &key, &value)?;
        producer.flush(patience)?; // an abort would drop what was not sent
        if value.starts_with('!') {
            producer.abort_transaction(patience)?;
        } else {
            producer.commit_transaction(patience)?;
        }
    }
    Ok(())
}

fn read(topic: &str, from: &str, count: usize) -> Outcome {
    let consumer: BaseConsumer = config().set("group.id", "nobody").create()?;
    let mut assignment = TopicPartitionList::new();
    let offset = match from.strip_prefix('@') {
        Some(ms) => {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(topic, 0, Offset::Offset(ms.parse()?))?;
            let found = consumer.offsets_for_times(asked, Duration::from_secs(20))?;
            found.find_partition(topic, 0).ok_or("no offset for that time")?.offset()
        }
        None if from == "beginning" => Offset::Beginning,
        None => Offset::Offset(from.parse()?),
    };
    assignment.add_partition_offset(topic, 0, offset)?;
    consumer.assign(&assignment)?;
    show(&consumer, count)
}

fn group_read(topic: &str, group: &str, count: usize) -> Outcome {
    let consumer: BaseConsumer = config()
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[topic])?;
    show(&consumer, count)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    Ok(()) // it leaves as it is dropped
}

fn member(topic: &str, group: &str) -> Outcome {
    let consumer: BaseConsumer = config()
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "300")
        .create()?;
    consumer.subscribe(&[topic])?;
    let ended = Arc::new(AtomicUsize::new(0));
    let end = Arc::clone(&ended);
    std::thread::spawn(move || {
        stdin().lock().lines().for_each(drop);
        end.store(1, Ordering::Release);
    });
    let mut had = None;
    while ended.load(Ordering::Acquire) == 0 {
        let found = consumer.poll(Duration::from_millis(100));
        let assignment = consumer.assignment()?;
        let mut has: Vec<i32> = assignment.elements().iter().map(|place| place.partition()).collect();
        has.sort_unstable();
        if had.as_ref() != Some(&has) {
            let names: Vec<String> = has.iter().map(ToString::to_string).collect();
            println!("has {}", names.join(","));
            had = Some(has);
        }
        match found {
            None => {}
            Some(Ok(message)) => {
                consumer.commit_message(&message, CommitMode::Sync)?;
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                println!("got {} {value}", message.partition());
            }
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(()) // it leaves as it is dropped
}

fn show(consumer: &BaseConsumer, count: usize) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut shown = 0;
    while shown < count {
        if Instant::now() > deadline {
            return Err(format!("{shown} of {count} records").into());
        }
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => {
                print(&message);
                shown += 1;
            }
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A topic that was just made may not be known to every thread of a broker.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable
    )
}

fn print(message: &BorrowedMessage<'_>) {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    println!("{}\t{}\t{}", message.offset(), text(message.key()), text(message.payload()));
}

/// Runs a future of the admin client, which librdkafka's own threads complete.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
