//! Stories of connections to a whole server, told by a client that sends what it likes.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::{Buf, Bytes, BytesMut};
use ottla_amqp_proto::methods::{
    BasicAck, BasicConsume, BasicGet, BasicPublish, ChannelOpen, ConfirmSelect, ConnectionOpen,
    ConnectionStartOk, ConnectionTuneOk, QueueDeclare, QueuePurge,
};
use ottla_amqp_proto::{
    Assembler, BasicProperties, ChannelId, Command, Content, FrameKind, Method, Output,
    PROTOCOL_HEADER, RawTable, ShortStr, Table, Value, split_frame, write_command, write_method,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;
use crate::config::{Config, Listen};

/// A server with a data directory of its own.
async fn serve(story: &str) -> (Server, PathBuf) {
    serve_with(story, |_| {}).await
}

async fn serve_with(story: &str, change: impl FnOnce(&mut Config)) -> (Server, PathBuf) {
    let data = std::env::temp_dir().join(format!("ottla-amqp-{}-{story}", std::process::id()));
    let mut config = Config {
        data: data.clone(),
        kafka: Listen::Off,
        http: Listen::Off,
        amqp: Listen::On(vec!["127.0.0.1:0".parse().unwrap()]),
        ..Config::default()
    };
    change(&mut config);
    (Server::start(config).await.unwrap(), data)
}

/// What a client says of itself that knows one thing.
fn able_to(capability: &'static str) -> RawTable {
    let able = Table::new().with(capability, Value::Bool(true));
    Table::new().with("capabilities", able).encode().unwrap()
}

/// A client that knows its codec and no manners.
struct Client {
    socket: TcpStream,
    input: BytesMut,
    output: Output,
    assemblers: HashMap<ChannelId, Assembler>,
}

impl Client {
    /// Logged in, with channel 1 open.
    async fn connect(server: &Server) -> Self {
        Self::log_in(server, "PLAIN", Bytes::from_static(b"\0guest\0guest")).await
    }

    async fn log_in(server: &Server, mechanism: &'static str, response: Bytes) -> Self {
        let socket = TcpStream::connect(server.startup().amqp[0]).await.unwrap();
        let (input, output) = (BytesMut::new(), Output::new());
        let mut client = Self { socket, input, output, assemblers: HashMap::new() };
        client.socket.write_all(&PROTOCOL_HEADER).await.unwrap();
        assert!(matches!(client.hear().await, Method::ConnectionStart(_)));
        client.say(
            0,
            ConnectionStartOk {
                mechanism: ShortStr::from_static(mechanism),
                response,
                locale: ShortStr::from_static("en_US"),
                client_properties: able_to("connection.blocked"),
            },
        );
        let Method::ConnectionTune(tune) = client.hear().await else { panic!("no tune") };
        let heartbeat = 0;
        client.say(
            0,
            ConnectionTuneOk {
                channel_max: tune.channel_max,
                frame_max: tune.frame_max,
                heartbeat,
            },
        );
        let virtual_host = ShortStr::from_static("/");
        client.say(0, ConnectionOpen { virtual_host, ..ConnectionOpen::default() });
        assert!(matches!(client.hear().await, Method::ConnectionOpenOk(_)));
        client.say(1, ChannelOpen::default());
        assert!(matches!(client.hear().await, Method::ChannelOpenOk(_)));
        client
    }

    /// Says something with the next [`flush`](Self::flush).
    fn say(&mut self, channel: u16, method: impl Into<Method>) {
        write_method(ChannelId(channel), &method.into(), &mut self.output);
    }

    fn publish(&mut self, key: &'static str, body: impl Into<Bytes>) {
        self.publish_in_mode(2, key, body);
    }

    fn publish_in_mode(&mut self, mode: u8, key: &'static str, body: impl Into<Bytes>) {
        let routing_key = ShortStr::from_static(key);
        let publish = BasicPublish { routing_key, ..BasicPublish::default() };
        let properties =
            BasicProperties { delivery_mode: Some(mode), ..BasicProperties::default() };
        let content = Content { properties: properties.encode(), body: body.into() };
        write_command(ChannelId(1), &publish.into(), &content, 131_072, &mut self.output);
    }

    fn declare(&mut self, queue: &'static str, passive: bool) {
        let queue = ShortStr::from_static(queue);
        self.say(1, QueueDeclare { queue, passive, durable: true, ..QueueDeclare::default() });
    }

    async fn flush(&mut self) {
        let bytes = self.output.copy_to_bytes(self.output.remaining());
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn command(&mut self) -> Command {
        self.flush().await;
        loop {
            while let Some(frame) = split_frame(&mut self.input, 131_072).unwrap() {
                if frame.kind == FrameKind::Heartbeat {
                    continue;
                }
                let assembler = self.assemblers.entry(frame.channel).or_default();
                if let Some(command) = assembler.push(frame, u64::MAX).unwrap() {
                    return command;
                }
            }
            let read = self.socket.read_buf(&mut self.input).await.unwrap();
            assert!(read > 0, "the server closed the socket");
        }
    }

    async fn hear(&mut self) -> Method {
        self.command().await.method
    }

    /// How many messages a queue has ready.
    async fn ready(&mut self, queue: &'static str) -> u32 {
        self.declare(queue, true);
        let Method::QueueDeclareOk(ok) = self.hear().await else { panic!("no declare-ok") };
        ok.message_count
    }
}

#[tokio::test]
async fn replies_of_a_channel_come_in_order_and_its_fault_last() {
    let (server, data) = serve("order").await;
    let mut client = Client::connect(&server).await;
    client.say(2, ChannelOpen::default());
    client.say(1, ConfirmSelect::default());
    client.declare("orders", false);
    client.publish("orders", "one");
    client.publish("orders", "two");
    let queue = ShortStr::from_static("orders");
    client.say(1, BasicGet { queue, no_ack: true, ..BasicGet::default() });
    client.declare("missing", true); // 404
    client.publish("orders", "after the fault"); // nobody listens any more
    assert!(matches!(client.hear().await, Method::ChannelOpenOk(_)));
    assert!(matches!(client.hear().await, Method::ConfirmSelectOk(_)));
    assert!(matches!(client.hear().await, Method::QueueDeclareOk(ok) if ok.message_count == 0));
    let (mut confirmed, mut got) = (0, None);
    let close = loop {
        match client.command().await {
            Command { method: Method::BasicAck(ack), .. } => confirmed = ack.delivery_tag.0,
            Command { method: Method::BasicGetOk(_), content } => got = content,
            Command { method: Method::ChannelClose(close), .. } => break close,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!((confirmed, close.reply_code), (2, 404));
    assert_eq!(got.unwrap().body, "one");
    server.stop().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn a_stop_confirms_what_it_took_and_says_why_it_goes() {
    let (server, data) = serve("stop").await;
    let mut client = Client::connect(&server).await;
    client.say(1, ConfirmSelect::default());
    client.declare("orders", false);
    assert!(matches!(client.hear().await, Method::ConfirmSelectOk(_)));
    assert!(matches!(client.hear().await, Method::QueueDeclareOk(_)));
    client.publish("orders", "kept");
    client.flush().await;
    let Method::BasicAck(BasicAck { delivery_tag, .. }) = client.hear().await else {
        panic!("no confirm");
    };
    assert_eq!(delivery_tag.0, 1);
    let hears = tokio::spawn(async move { client.hear().await });
    server.stop().await.unwrap();
    let Method::ConnectionClose(close) = hears.await.unwrap() else { panic!("no close") };
    assert_eq!(close.reply_code, 320);
    assert_eq!(
        close.reply_text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn who_hangs_up_without_a_word_has_published_all_the_same() {
    let (server, data) = serve("hang-up").await;
    let mut watcher = Client::connect(&server).await;
    watcher.declare("orders", false);
    assert!(matches!(watcher.hear().await, Method::QueueDeclareOk(_)));
    let mut client = Client::connect(&server).await;
    for _ in 0..100 {
        client.publish("orders", "kept");
    }
    client.flush().await;
    drop(client);
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while watcher.ready("orders").await < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all of them arrive");
    server.stop().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn a_consumer_that_never_reads_leaves_the_messages_in_the_queue() {
    let (server, data) = serve("slow").await;
    let mut slow = Client::connect(&server).await;
    slow.declare("orders", false);
    assert!(matches!(slow.hear().await, Method::QueueDeclareOk(_)));
    let queue = ShortStr::from_static("orders");
    slow.say(1, BasicConsume { queue, no_ack: true, ..BasicConsume::default() });
    assert!(matches!(slow.hear().await, Method::BasicConsumeOk(_)));
    let mut publisher = Client::connect(&server).await;
    let body = Bytes::from(vec![7; 64 << 10]);
    for _ in 0..900 {
        publisher.publish("orders", body.clone());
        publisher.flush().await;
    }
    // the mailbox, 256 KiB of output and what the system buffers; the rest stays where it is
    assert!(publisher.ready("orders").await > 100, "a slow consumer was sent everything");
    server.stop().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn publishers_wait_while_transient_messages_fill_the_memory() {
    let (server, data) = serve_with("memory", |config| config.message_memory = Some(100_000)).await;
    let mut worker = Client::connect(&server).await;
    worker.declare("orders", false);
    assert!(matches!(worker.hear().await, Method::QueueDeclareOk(_)));
    let mut publisher = Client::connect(&server).await;
    for _ in 0..120 {
        publisher.publish_in_mode(1, "orders", vec![7; 1024]);
    }
    let Method::ConnectionBlocked(blocked) = publisher.hear().await else { panic!("not blocked") };
    assert_eq!(blocked.reason, "low on memory");
    let taken = worker.ready("orders").await;
    assert!((70..100).contains(&taken), "{taken} of 120 in 100 kB");
    worker.say(1, ConfirmSelect::default());
    assert!(matches!(worker.hear().await, Method::ConfirmSelectOk(_)));
    worker.publish("orders", "what goes to the disk is not held back");
    assert!(matches!(worker.hear().await, Method::BasicAck(_)));
    let queue = ShortStr::from_static("orders");
    worker.say(1, QueuePurge { queue, ..QueuePurge::default() });
    assert!(
        matches!(worker.hear().await, Method::QueuePurgeOk(ok) if ok.message_count == taken + 1)
    );
    assert!(matches!(publisher.hear().await, Method::ConnectionUnblocked(_)));
    assert_eq!(publisher.ready("orders").await, 120 - taken, "those that waited, none lost");
    server.stop().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test]
async fn a_client_without_a_name_is_whom_the_operator_says() {
    let (server, data) =
        serve_with("anonymous", |config| config.anonymous = Some("guest".to_owned())).await;
    let mut client = Client::log_in(&server, "ANONYMOUS", Bytes::from_static(b"anyone")).await;
    client.declare("orders", false);
    assert!(matches!(client.hear().await, Method::QueueDeclareOk(_)));
    server.stop().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

/// What a client at that address hears to start-ok.
async fn answer_at(remote: &str, mechanism: &'static str, enough: &str) -> String {
    let data = std::env::temp_dir().join(format!(
        "ottla-amqp-{}-{mechanism}-{}",
        std::process::id(),
        remote.replace([':', '.', '[', ']'], "-")
    ));
    let config = Config { data: data.clone(), ..Config::default() };
    let release = std::sync::Arc::new(crate::release::Release::default());
    let engine = crate::open_engine(&config, &release, &Default::default()).unwrap();
    let context = std::sync::Arc::new(super::Context::new(&config, engine, release));
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let shutdown = crate::shutdown::Shutdown::default();
    let ends = (remote.parse().unwrap(), None);
    let driving = tokio::spawn(super::driver::drive(server, context, ends, shutdown.subscribe()));
    let mut output = Output::new();
    let start = ConnectionStartOk {
        mechanism: ShortStr::from_static(mechanism),
        response: Bytes::from_static(b"\0guest\0guest"),
        locale: ShortStr::from_static("en_US"),
        client_properties: able_to("authentication_failure_close"),
    };
    write_method(ChannelId(0), &start.into(), &mut output);
    client.write_all(&PROTOCOL_HEADER).await.unwrap();
    client.write_all(&output.copy_to_bytes(output.remaining())).await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(enough) {
        assert!(client.read_buf(&mut heard).await.unwrap() > 0, "closed without a word");
    }
    driving.abort();
    drop(driving.await);
    std::fs::remove_dir_all(data).unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn guest_is_refused_from_elsewhere_in_rabbitmqs_words() {
    let words = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see \
                 the broker logfile.";
    for remote in ["203.0.113.7:40000", "[2001:db8::7]:40000"] {
        answer_at(remote, "PLAIN", words).await;
    }
    let tune = "\0\u{a}\0\u{1e}"; // connection.tune
    for remote in ["127.0.0.1:40000", "127.8.9.10:40000", "[::1]:40000", "[::ffff:127.0.0.1]:40000"]
    {
        answer_at(remote, "PLAIN", tune).await;
    }
}

#[tokio::test]
async fn nobody_comes_without_a_name_unless_told() {
    let heard = answer_at("127.0.0.1:40001", "ANONYMOUS", "unknown authentication mechanism").await;
    assert!(heard.contains("PLAIN AMQPLAIN") && !heard.contains("AMQPLAIN ANONYMOUS"));
}

/// Publishes on many channels, so that confirms are not joined, and reads none of them.
#[tokio::test]
async fn a_publisher_that_never_reads_its_confirms_is_heard_no_further() {
    let (server, data) = serve("deaf").await;
    let mut deaf = Client::connect(&server).await;
    let channels = 1..=1000;
    for channel in channels.clone() {
        if channel > 1 {
            deaf.say(channel, ChannelOpen::default());
            assert!(matches!(deaf.hear().await, Method::ChannelOpenOk(_)));
        }
        deaf.say(channel, ConfirmSelect::default());
        assert!(matches!(deaf.hear().await, Method::ConfirmSelectOk(_)));
    }
    let mut round = Output::new();
    for channel in channels.clone() {
        let nowhere = BasicPublish::default();
        let content =
            Content { properties: BasicProperties::default().encode(), body: Bytes::new() };
        write_command(ChannelId(channel), &nowhere.into(), &content, 131_072, &mut round);
    }
    let round = round.copy_to_bytes(round.remaining());
    let mut sent = 0;
    while sent < HEARD_MAX {
        let left = round.slice(sent % round.len()..);
        let writing = deaf.socket.write(&left);
        match tokio::time::timeout(std::time::Duration::from_secs(3), writing).await {
            Ok(written) => sent += written.unwrap(),
            Err(_) => break, // nobody reads at the other end
        }
    }
    assert!(sent < HEARD_MAX, "the server goes on reading where nobody reads its answers");

    let mut other = Client::connect(&server).await;
    other.declare("orders", false);
    assert!(matches!(other.hear().await, Method::QueueDeclareOk(_)));
    other.say(1, ConfirmSelect::default());
    assert!(matches!(other.hear().await, Method::ConfirmSelectOk(_)));
    other.publish("orders", "others go on");
    assert!(matches!(other.hear().await, Method::BasicAck(_)));

    let (mut reader, mut writer) = deaf.socket.into_split();
    let rest = round.slice(sent % round.len()..);
    let saying = tokio::spawn(async move {
        writer.write_all(&rest).await.unwrap();
        writer // the connection stays open
    });
    let rounds = u64::try_from(sent / round.len() + 1).unwrap();
    let mut behind: std::collections::BTreeSet<u16> = channels.collect();
    while !behind.is_empty() {
        while let Some(frame) = split_frame(&mut deaf.input, 131_072).unwrap() {
            let channel = frame.channel.0;
            let heard = Assembler::default().push(frame, u64::MAX).unwrap().unwrap().method;
            let Method::BasicAck(ack) = heard else { panic!("unexpected {heard:?}") };
            if ack.delivery_tag.0 == rounds {
                assert!(behind.remove(&channel), "channel {channel} was answered twice");
            }
        }
        if !behind.is_empty() {
            assert!(reader.read_buf(&mut deaf.input).await.unwrap() > 0, "closed");
        }
    }
    drop(saying.await.unwrap());
    server.stop().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

/// More than fits the 4 MiB of answers that a connection may leave unread, and what the system buffers on both ways.
const HEARD_MAX: usize = 128 << 20;

/// Connections to a door of which the test knows the bounds.
struct Door {
    context: std::sync::Arc<super::Context>,
    shutdown: crate::shutdown::Shutdown,
    driving: Vec<tokio::task::JoinHandle<()>>,
    data: PathBuf,
}

impl Door {
    fn open(story: &str, waiting_max: usize, handshake: std::time::Duration) -> Self {
        let data = std::env::temp_dir().join(format!("ottla-amqp-{}-{story}", std::process::id()));
        let config = Config { data: data.clone(), ..Config::default() };
        let release = std::sync::Arc::new(crate::release::Release::default());
        let engine = crate::open_engine(&config, &release, &Default::default()).unwrap();
        let mut context = super::Context::new(&config, engine, release);
        context.lobby = std::sync::Arc::new(super::Lobby::new(waiting_max));
        let mut settings = (*context.settings).clone();
        settings.handshake_timeout = handshake;
        context.settings = std::sync::Arc::new(settings);
        let (context, shutdown) =
            (std::sync::Arc::new(context), crate::shutdown::Shutdown::default());
        Self { context, shutdown, driving: Vec::new(), data }
    }

    /// A client that has said that it speaks AMQP, and was answered.
    async fn knock(&mut self) -> tokio::io::DuplexStream {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let context = std::sync::Arc::clone(&self.context);
        let ends = ("127.0.0.1:40000".parse().unwrap(), None);
        let drive = super::driver::drive(server, context, ends, self.shutdown.subscribe());
        self.driving.push(tokio::spawn(drive));
        client.write_all(&PROTOCOL_HEADER).await.unwrap();
        let mut heard = BytesMut::new();
        while split_frame(&mut heard, 8192).unwrap().is_none() {
            assert!(client.read_buf(&mut heard).await.unwrap() > 0, "closed without a word");
        }
        client
    }

    async fn close(self) {
        for driving in self.driving {
            driving.abort();
            drop(driving.await);
        }
        std::fs::remove_dir_all(self.data).unwrap();
    }
}

#[tokio::test]
async fn who_does_not_log_in_makes_room_for_the_next() {
    let mut door = Door::open("lobby", 2, std::time::Duration::from_secs(3600));
    let mut first = door.knock().await;
    let mut second = door.knock().await;
    let mut third = door.knock().await;
    assert_eq!(first.read(&mut [0; 64]).await.unwrap(), 0, "the oldest was let go");
    for client in [&mut second, &mut third] {
        client.write_all(b"not a frame at all").await.unwrap();
        assert!(client.read(&mut [0; 64]).await.unwrap() > 0, "the others are still heard");
    }
    door.close().await;
}

#[tokio::test]
async fn a_handshake_said_one_byte_at_a_time_has_an_end() {
    let mut door = Door::open("drip", 2, std::time::Duration::from_secs(1));
    let mut client = door.knock().await;
    let frame = [1, 0, 0, 0, 0, 31, 0]; // the head of a method of 7936 bytes, most of them never said
    let drip = async {
        for byte in frame.into_iter().chain(std::iter::repeat(0)).take(7900) {
            if client.write_all(&[byte]).await.is_err() {
                return;
            }
            let mut heard = [0; 64];
            let reading = client.read(&mut heard);
            let patience = std::time::Duration::from_millis(10);
            if let Ok(read) = tokio::time::timeout(patience, reading).await {
                return assert_eq!(read.unwrap(), 0, "an answer to half a frame");
            }
        }
        panic!("nobody lost patience");
    };
    drip.await;
    door.close().await;
}
