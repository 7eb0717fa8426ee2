//! Stories of connections to a whole server, told by a client that sends what it likes.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::{Buf, Bytes, BytesMut};
use ottla_amqp_proto::methods::{
    BasicAck, BasicConsume, BasicGet, BasicPublish, ChannelOpen, ConfirmSelect, ConnectionOpen,
    ConnectionStartOk, ConnectionTuneOk, QueueDeclare,
};
use ottla_amqp_proto::{
    Assembler, BasicProperties, ChannelId, Command, Content, FrameKind, Method, Output,
    PROTOCOL_HEADER, ShortStr, split_frame, write_command, write_method,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;
use crate::config::{Config, Listen};

/// A server with a data directory of its own.
async fn serve(story: &str) -> (Server, PathBuf) {
    let data = std::env::temp_dir().join(format!("ottla-amqp-{}-{story}", std::process::id()));
    let config = Config {
        data: data.clone(),
        kafka: Listen::Off,
        http: Listen::Off,
        amqp: Listen::On(vec!["127.0.0.1:0".parse().unwrap()]),
        ..Config::default()
    };
    (Server::start(config).await.unwrap(), data)
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
        let socket = TcpStream::connect(server.startup().amqp[0]).await.unwrap();
        let (input, output) = (BytesMut::new(), Output::new());
        let mut client = Self { socket, input, output, assemblers: HashMap::new() };
        client.socket.write_all(&PROTOCOL_HEADER).await.unwrap();
        assert!(matches!(client.hear().await, Method::ConnectionStart(_)));
        client.say(
            0,
            ConnectionStartOk {
                mechanism: ShortStr::from_static("PLAIN"),
                response: Bytes::from_static(b"\0guest\0guest"),
                locale: ShortStr::from_static("en_US"),
                ..ConnectionStartOk::default()
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
        let routing_key = ShortStr::from_static(key);
        let publish = BasicPublish { routing_key, ..BasicPublish::default() };
        let properties = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
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
