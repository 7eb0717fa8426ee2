//! A node of the test's own, and a client that sends whatever it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_engine::Offset;
use ottla_engine::batch::{BatchBuilder, RecordDraft};
use ottla_engine::codec::Codec;
use ottla_kafka_proto::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_kafka_proto::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use ottla_kafka_proto::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use ottla_kafka_proto::{
    ApiKey, ApiVersion, CorrelationId, ErrorCode, Request, RequestHeader, Response, Uuid,
    decode_response, encode_request, take_frame,
};
use ottla_server::Server;
use ottla_server::config::{Config, Listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A broker: our own in this process, or the one that `OTTLA_IT_BROKER` names.
pub(crate) struct Node {
    server: Option<Server>,
    config: Config,
    pub(crate) address: SocketAddr,
}

impl Node {
    /// A node with the defaults; the foreign broker if one is named.
    pub(crate) async fn start() -> Self {
        if let Ok(address) = std::env::var("OTTLA_IT_BROKER") {
            let address = address.parse().unwrap();
            return Self { server: None, config: Config::default(), address };
        }
        Self::own(|_| {}).await
    }

    /// A node of our own in an empty directory, whatever broker is named.
    pub(crate) async fn own(change: impl FnOnce(&mut Config)) -> Self {
        let name = format!("ottla-it-{}-{}", std::process::id(), next_number());
        let mut config = Config {
            data: std::env::temp_dir().join(name),
            kafka: Listen::On(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
            amqp: Listen::Off,
            http: Listen::Off,
            ..Config::default()
        };
        change(&mut config);
        let server = Server::start(config.clone()).await.unwrap();
        let address = server.startup().kafka[0];
        Self { server: Some(server), config, address }
    }

    /// Where the data of a node of ours lies.
    pub(crate) fn data(&self) -> &PathBuf {
        &self.config.data
    }

    /// Every address of a node of ours.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.server.as_ref().map(|server| server.startup().kafka.clone()).unwrap_or_default()
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.server.is_none()
    }

    /// Stops in order and starts again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let server = Server::start(self.config.clone()).await.unwrap();
        self.address = server.startup().kafka[0];
        self.server = Some(server);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            timeout(PATIENCE, server.stop()).await.unwrap().unwrap();
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A topic of this test alone, with one partition.
    pub(crate) async fn topic(&self, name: &str) -> Topic {
        self.topic_with(name, 1, &[]).await
    }

    pub(crate) async fn topic_with(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Topic {
        let name = unique(name);
        let mut client = self.client().await;
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        });
        let topic = CreatableTopic {
            name: name.as_str().into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let Response::CreateTopics(answer) = client.call(7, request).await else { panic!() };
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE, "{:?}", answer.topics[0]);
        client.wait_for_leaders(&name, partitions).await;
        Topic { name, id: answer.topics[0].topic_id }
    }

    /// Someone who does everything right, with a connection opened now.
    pub(crate) async fn innocent(&self) -> Innocent {
        let topic = self.topic("innocent").await;
        Innocent { client: self.client().await, topic, next: 0 }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.config.data.starts_with(std::env::temp_dir()) {
            drop(std::fs::remove_dir_all(&self.config.data));
        }
    }
}

/// A topic by both of its names.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
}

/// Someone who does everything right and must notice nothing.
pub(crate) struct Innocent {
    client: Client,
    topic: Topic,
    next: i64,
}

impl Innocent {
    /// Writes a record and reads it back, on the connection held all along and on a new one.
    pub(crate) async fn is_served(&mut self, node: &Node) {
        let answer = self.client.produce(&self.topic, batch(&["innocent"])).await;
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, self.next));
        let found = self.client.fetch(&self.topic, self.next).await;
        assert_eq!(found.high_watermark, self.next + 1);
        let mut another = node.client().await;
        let found = another.fetch(&self.topic, self.next).await;
        assert!(!found.records.unwrap().is_empty());
        self.next += 1;
    }
}

/// One connection. Answers are taken in the order of the requests; any other order fails the test.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    next: i32,
    sent: VecDeque<(ApiKey, ApiVersion, i32)>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new(), next: 1, sent: VecDeque::new() }
    }

    /// The bytes of a request, which is from now on expected to be answered.
    pub(crate) fn frame(&mut self, version: i16, request: impl Into<Request>) -> Bytes {
        let (request, id, version) = (request.into(), self.next, ApiVersion(version));
        self.next += 1;
        self.sent.push_back((request.api(), version, id));
        frame(id, version, &request)
    }

    pub(crate) async fn send(&mut self, version: i16, request: impl Into<Request>) {
        let bytes = self.frame(version, request);
        self.raw(&bytes).await;
    }

    /// Sends a request that gets no answer if it succeeds.
    pub(crate) async fn tell(&mut self, version: i16, request: impl Into<Request>) {
        self.send(version, request).await;
        self.sent.pop_back();
    }

    /// Sends bytes, as many as the other side takes.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // who closes early may do so while we still write: that is an outcome, not a failure
        drop(timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap());
    }

    pub(crate) async fn receive(&mut self) -> Response {
        let (api, version, id) = self.sent.pop_front().unwrap();
        let frame = self.receive_frame().await;
        let (correlation, response) = decode_response(api, version, frame, usize::MAX).unwrap();
        assert_eq!(correlation, CorrelationId(id), "answers come in the order of the requests");
        response
    }

    /// The next frame without its length.
    pub(crate) async fn receive_frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer, 1 << 30).unwrap() {
                return frame;
            }
            self.buffer.reserve(64 << 10);
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
            let read = read.await.expect("an answer in time").expect("an open connection");
            assert_ne!(read, 0, "the connection was closed where an answer was due");
        }
    }

    pub(crate) async fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        self.send(version, request).await;
        self.receive().await
    }

    /// Waits until the other side closes, which must happen without a single byte of answer.
    pub(crate) async fn must_be_closed_unanswered(mut self) {
        let mut answer = [0; 64];
        let read = timeout(PATIENCE, self.stream.read(&mut answer)).await;
        match read.expect("the connection should have been closed") {
            Ok(0) => {}
            Ok(bytes) => panic!("{bytes} bytes where nothing may be answered: {answer:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// No byte comes for a moment: the other side waits for us.
    pub(crate) async fn hears_nothing(&mut self) {
        let mut byte = [0; 1];
        let read = timeout(Duration::from_millis(100), self.stream.peek(&mut byte)).await;
        assert!(read.is_err(), "the other side should wait, but: {read:?}");
    }

    /// Writes one batch to partition 0 with acks=all.
    pub(crate) async fn produce(
        &mut self,
        topic: &Topic,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        self.produce_as(9, topic, Some(batch)).await
    }

    pub(crate) async fn produce_as(
        &mut self,
        version: i16,
        topic: &Topic,
        records: Option<Bytes>,
    ) -> PartitionProduceResponse {
        let Response::Produce(answer) = self.call(version, producing(topic, -1, records)).await
        else {
            panic!()
        };
        answer.responses[0].partition_responses[0].clone()
    }

    /// Reads partition 0 from an offset on, without a session, without waiting.
    pub(crate) async fn fetch(&mut self, topic: &Topic, from: i64) -> PartitionData {
        let Response::Fetch(answer) = self.call(12, fetching(topic, from)).await else { panic!() };
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.responses[0].partitions[0].clone()
    }

    pub(crate) async fn receive_fetch(&mut self) -> FetchResponse {
        let Response::Fetch(answer) = self.receive().await else { panic!() };
        answer
    }

    /// A cluster needs a moment until a new topic can be used; one node does not.
    async fn wait_for_leaders(&mut self, name: &str, partitions: i32) {
        let topic = Topic { name: name.to_owned(), id: Uuid::ZERO };
        for partition in 0..partitions {
            let mut request = fetching(&topic, 0);
            request.topics[0].partitions[0].partition = partition;
            for attempt in 1.. {
                assert!(attempt < 10_000, "{name}[{partition}] cannot be used");
                let Response::Fetch(answer) = self.call(12, request.clone()).await else {
                    panic!()
                };
                if answer.responses[0].partitions[0].error_code.is_ok() {
                    break;
                }
            }
        }
    }
}

/// The bytes of a request, its length included.
pub(crate) fn frame(correlation_id: i32, version: ApiVersion, request: &Request) -> Bytes {
    let header = RequestHeader {
        api: request.api(),
        version,
        correlation_id: CorrelationId(correlation_id),
        client_id: Some("it".into()),
    };
    encode_request(&header, request).unwrap().to_bytes()
}

/// A produce to partition 0.
pub(crate) fn producing(topic: &Topic, acks: i16, records: Option<Bytes>) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.as_str().into(),
            topic_id: topic.id,
            partition_data: vec![PartitionProduceData { index: 0, records }],
        }],
        ..Default::default()
    }
}

/// A fetch of partition 0 without a session that does not wait.
pub(crate) fn fetching(topic: &Topic, from: i64) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![wanting(topic, from)],
        ..Default::default()
    }
}

/// Partition 0 of a topic in a fetch.
pub(crate) fn wanting(topic: &Topic, from: i64) -> FetchTopic {
    FetchTopic {
        topic: topic.name.as_str().into(),
        topic_id: topic.id,
        partitions: vec![FetchPartition {
            partition: 0,
            current_leader_epoch: -1,
            fetch_offset: from,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        }],
    }
}

/// A batch of text values, as a plain producer sends it.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    filled(BatchBuilder::new(Codec::None), &values)
}

/// `builder` with these values, all at one moment.
pub(crate) fn filled(mut builder: BatchBuilder, values: &[&[u8]]) -> Bytes {
    for value in values {
        builder.push(&RecordDraft {
            timestamp_ms: 1_000,
            value: Some(value),
            ..RecordDraft::default()
        });
    }
    builder.build().to_bytes(Offset::ZERO)
}

/// Makes length and checksum of a changed batch hold again.
pub(crate) fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}-{}", std::process::id(), next_number())
}

fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}
