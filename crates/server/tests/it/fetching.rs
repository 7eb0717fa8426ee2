//! Reading: waiting for records, sessions that name only what changed, and batches larger than asked for.

use std::time::Duration;

use ottla_kafka_proto::messages::fetch::{FetchRequest, FetchResponse, ForgottenTopic};
use ottla_kafka_proto::{ErrorCode, Uuid};
use tokio::time::{Instant, timeout};

use crate::rig::{Client, Node, Topic, batch, fetching, wanting};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_woken_by_a_produce() {
    let node = Node::start().await;
    let topic = node.topic("woken").await;
    let mut reader = node.client().await;
    let mut request = fetching(&topic, 0);
    request.max_wait_ms = 60_000;
    reader.send(12, request).await;
    reader.hears_nothing().await;
    let written = node.client().await.produce(&topic, batch(&["news"])).await;
    assert_eq!(written.error_code, ErrorCode::NONE);
    let answer = timeout(Duration::from_secs(10), reader.receive_fetch()).await;
    let answer = answer.expect("the produce ends the wait");
    let found = &answer.responses[0].partitions[0];
    assert_eq!(found.high_watermark, 1);
    assert!(!found.records.as_ref().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_min_bytes_and_takes_what_is_there_when_time_is_up() {
    let node = Node::start().await;
    let topic = node.topic("patient").await;
    let mut reader = node.client().await;
    let mut writer = node.client().await;
    let mut request = fetching(&topic, 0);
    request.max_wait_ms = 700;
    request.min_bytes = 1 << 20;
    let begun = Instant::now();
    reader.send(12, request).await;
    writer.produce(&topic, batch(&["not enough"])).await;
    let answer = reader.receive_fetch().await;
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(690), "answered after {waited:?}");
    let found = answer.responses[0].partitions[0].records.as_ref().unwrap().len();
    assert!(found > 0, "what is there when time is up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_asks_for_no_bytes_or_meets_an_error_does_not_wait() {
    let node = Node::start().await;
    let topic = node.topic("impatient").await;
    let mut reader = node.client().await;
    let mut nothing = fetching(&topic, 0);
    nothing.max_wait_ms = 60_000;
    nothing.min_bytes = 0;
    reader.send(12, nothing).await;
    let answer = reader.receive_fetch().await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::NONE);
    let mut beyond = fetching(&topic, 17);
    beyond.max_wait_ms = 60_000;
    reader.send(12, beyond).await;
    let answer = reader.receive_fetch().await;
    let found = &answer.responses[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    let mut nowhere = fetching(&topic, 0);
    nowhere.max_wait_ms = 60_000;
    nowhere.topics[0].partitions[0].partition = 99;
    reader.send(12, nowhere).await;
    let answer = reader.receive_fetch().await;
    let found = &answer.responses[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_ids_that_were_never_given_and_epochs_from_the_future_are_unknown() {
    let node = Node::start().await;
    let topic = node.topic("ids").await;
    let mut reader = node.client().await;
    let mut strange = fetching(&topic, 0);
    strange.topics[0].topic_id = Uuid([9; 16]);
    reader.send(13, strange).await;
    let answer = reader.receive_fetch().await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let mut future = fetching(&topic, 0);
    future.topics[0].partitions[0].current_leader_epoch = 1_000;
    reader.send(13, future).await;
    let answer = reader.receive_fetch().await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
}

/// KIP-74: a reader gets on even if a batch is larger than everything it asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_first_batch_of_an_answer_may_exceed_the_limits() {
    let node = Node::start().await;
    let first = node.topic("first").await;
    let second = node.topic("second").await;
    let mut client = node.client().await;
    let large = "x".repeat(10_000);
    client.produce(&first, batch(&[&large])).await;
    client.produce(&first, batch(&[&large])).await;
    client.produce(&second, batch(&[&large])).await;
    let mut request = fetching(&first, 0);
    request.max_bytes = 100;
    request.topics[0].partitions[0].partition_max_bytes = 100;
    let mut other = wanting(&second, 0);
    other.partitions[0].partition_max_bytes = 100;
    request.topics.push(other);
    client.send(12, request).await;
    let answer = client.receive_fetch().await;
    let bytes: Vec<usize> = answer
        .responses
        .iter()
        .map(|topic| topic.partitions[0].records.as_ref().map_or(0, |records| records.len()))
        .collect();
    let whole = bytes.iter().filter(|bytes| **bytes > 10_000 && **bytes < 20_000).count();
    let empty = bytes.iter().filter(|bytes| **bytes == 0).count();
    assert_eq!((whole, empty), (1, 1), "one whole batch, and nothing beside it: {bytes:?}");
}

/// A reader that keeps a session.
struct Reader {
    client: Client,
    id: i32,
    epoch: i32,
}

impl Reader {
    async fn open(node: &Node, topics: &[&Topic]) -> (Self, FetchResponse) {
        let mut reader = Self { client: node.client().await, id: 0, epoch: 0 };
        let topics = topics.iter().map(|topic| wanting(topic, 0)).collect();
        let answer = reader.ask(FetchRequest { topics, ..Default::default() }).await;
        reader.id = answer.session_id;
        assert_ne!(reader.id, 0, "a session was opened");
        (reader, answer)
    }

    async fn ask(&mut self, request: FetchRequest) -> FetchResponse {
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: 50 << 20,
            session_id: self.id,
            session_epoch: self.epoch,
            ..request
        };
        self.epoch += 1;
        self.client.send(12, request).await;
        self.client.receive_fetch().await
    }

    async fn ask_what_changed(&mut self) -> FetchResponse {
        self.ask(FetchRequest::default()).await
    }
}

fn names(answer: &FetchResponse) -> Vec<&str> {
    answer.responses.iter().map(|topic| topic.topic.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_repeats_nothing_and_tells_what_changed() {
    let node = Node::start().await;
    let (quiet, busy) = (node.topic("quiet").await, node.topic("busy").await);
    let (mut reader, opened) = Reader::open(&node, &[&quiet, &busy]).await;
    assert_eq!(opened.responses.len(), 2, "the first answer is in full");
    let answer = reader.ask_what_changed().await;
    assert_eq!((answer.session_id, names(&answer).len()), (reader.id, 0), "nothing changed");
    node.client().await.produce(&busy, batch(&["news"])).await;
    let answer = reader.ask_what_changed().await;
    assert_eq!(names(&answer), [busy.name.as_str()]);
    let moved_on = FetchRequest { topics: vec![wanting(&busy, 1)], ..Default::default() };
    let answer = reader.ask(moved_on).await;
    assert_eq!(names(&answer).len(), 0, "read to the end, and nothing new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_takes_partitions_in_and_forgets_them() {
    let node = Node::start().await;
    let (first, second) = (node.topic("kept").await, node.topic("added").await);
    let (mut reader, _) = Reader::open(&node, &[&first]).await;
    let more = FetchRequest { topics: vec![wanting(&second, 0)], ..Default::default() };
    let answer = reader.ask(more).await;
    assert_eq!(names(&answer), [second.name.as_str()], "what is new is told in full");
    let forgotten = ForgottenTopic {
        topic: first.name.as_str().into(),
        topic_id: first.id,
        partitions: vec![0],
    };
    let less = FetchRequest { forgotten_topics_data: vec![forgotten], ..Default::default() };
    assert_eq!(names(&reader.ask(less).await).len(), 0);
    let mut writer = node.client().await;
    writer.produce(&first, batch(&["unseen"])).await;
    writer.produce(&second, batch(&["seen"])).await;
    assert_eq!(names(&reader.ask_what_changed().await), [second.name.as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_has_forgotten_everything_ends() {
    let node = Node::start().await;
    let topic = node.topic("last").await;
    let (mut reader, _) = Reader::open(&node, &[&topic]).await;
    let name = topic.name.as_str().into();
    let forgotten = ForgottenTopic { topic: name, topic_id: topic.id, partitions: vec![0] };
    let less = FetchRequest { forgotten_topics_data: vec![forgotten], ..Default::default() };
    let answer = reader.ask(less).await;
    assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, 0));
    let answer = reader.ask_what_changed().await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_epochs_and_unknown_sessions_are_refused_with_nothing_else() {
    let node = Node::start().await;
    let topic = node.topic("sessions").await;
    let (mut reader, _) = Reader::open(&node, &[&topic]).await;
    reader.epoch = 7;
    let answer = reader.ask_what_changed().await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!((answer.session_id, answer.responses.len()), (0, 0));
    reader.epoch = 1;
    let answer = reader.ask_what_changed().await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "the session itself is unharmed");
    let id = reader.id;
    reader.id = id + 1;
    let answer = reader.ask_what_changed().await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    (reader.id, reader.epoch) = (id, -1);
    let closing = FetchRequest { topics: vec![wanting(&topic, 0)], ..Default::default() };
    let answer = reader.ask(closing).await;
    assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, 0), "closed");
    reader.epoch = 2;
    let answer = reader.ask_what_changed().await;
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

/// Sessions are a favour: who opens too many is answered in full all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sessions_than_there_are_slots_are_answered_without_one() {
    let node = Node::own(|_| {}).await;
    let topic = node.topic("slots").await;
    let mut client = node.client().await;
    let open = |client: &mut Client| {
        let mut request = fetching(&topic, 0);
        request.session_epoch = 0;
        client.frame(12, request)
    };
    let mut ids = std::collections::HashSet::new();
    for _ in 0..11 {
        let requests: Vec<_> = (0..100).map(|_| open(&mut client)).collect();
        client.raw(&requests.concat()).await;
        for _ in 0..100 {
            let answer = client.receive_fetch().await;
            assert_eq!((answer.error_code, answer.responses.len()), (ErrorCode::NONE, 1));
            ids.insert(answer.session_id);
        }
    }
    assert!(ids.contains(&0), "the last ones have no session");
    assert!(ids.len() <= 1_001, "{} sessions", ids.len());
}
