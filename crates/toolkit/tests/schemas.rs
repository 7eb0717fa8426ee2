//! Contracts against a registry that other people wrote, and bodies of Confluent's own client: `cargo xtask compat --only
//! schemas` starts the registry, names it in `SCHEMA_REGISTRY`, and Confluent's serializers in Python write and read
//! in `SCHEMA_BODIES`. Without them nothing is asked and the tests end.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]
#![expect(clippy::print_stderr, reason = "a test may stop here, and say why")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ottla::handler::{Emit, Msg, State};
use ottla::schema::{Contracts, Registry, Schema};
use ottla::{Connection, Envelope, Error, Message, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    cents: i64,
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
    count: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "parcel.sent", key = "order")]
struct Sent {
    order: String,
}

const AVRO: &str = r#"{"type": "record", "name": "Paid", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"}, {"name": "cents", "type": "long"},
    {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
        {"name": "name", "type": "string"}, {"name": "count", "type": "int"}]}}}]}"#;
const JSON: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Paid", "type": "object",
    "properties": {"order": {"type": "string"}, "cents": {"type": "integer"}, "items": {"type": "array", "items":
        {"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}}}}},
    "required": ["order", "cents", "items"]}"#;
const PROTOBUF: &str = r#"syntax = "proto3";
package shop;
message Paid {
  string order = 1;
  int64 cents = 2;
  repeated Item items = 3;
}
message Item {
  string name = 1;
  int32 count = 2;
}
"#;
const SENT: &str =
    r#"{"type": "record", "name": "Sent", "fields": [{"name": "order", "type": "string"}]}"#;

fn registry() -> Option<Registry> {
    let Ok(url) = std::env::var("SCHEMA_REGISTRY") else {
        eprintln!("SCHEMA_REGISTRY names no registry: nothing is shown");
        return None;
    };
    Some(Registry::open(&url).unwrap())
}

fn paid() -> Paid {
    let items = [("cup", 2), ("pot", 1)].map(|(name, count)| Item { name: name.to_owned(), count });
    Paid { order: "o-1".to_owned(), cents: 123_456_789_012, items: items.into() }
}

fn languages() -> [(&'static str, Schema); 3] {
    [
        ("avro", Schema::avro(AVRO)),
        ("json", Schema::json(JSON)),
        ("protobuf", Schema::protobuf(PROTOBUF)),
    ]
}

/// Two services that agree: bodies carry the id, a reader of a newer version reads older ones.
#[tokio::test]
async fn services_write_and_read_as_their_contracts_say() {
    let Some(registry) = registry() else { return };
    for (language, schema) in languages() {
        let subject = |topic: &str| format!("told-{language}-{topic}-value");
        let contracts = Contracts::new(&registry)
            .of::<Paid>(subject("orders"), schema)
            .of::<Sent>(subject("parcels"), Schema::avro(SENT))
            .registering();
        let agreed = contracts.agree().await.unwrap();
        let again = contracts.agree().await.unwrap();
        assert_eq!(agreed.id::<Paid>(), again.id::<Paid>(), "registering again changes nothing");

        let broker = Connection::open("memory:").await.unwrap();
        agreed.publish(&broker, "orders", &paid()).await.unwrap();
        type Seen = (Arc<Mutex<Vec<Sent>>>, Arc<Notify>);
        async fn ship(Msg(paid): Msg<Paid>, emit: Emit) -> Result<(), Error> {
            assert_eq!(paid, self::paid());
            emit.send("parcels", &Sent { order: paid.order })
        }
        async fn seen(message: Envelope, Msg(sent): Msg<Sent>, State((seen, done)): State<Seen>) {
            assert_eq!(message.body.first(), Some(&0), "with the id of its schema in front");
            seen.lock().unwrap().push(sent);
            done.notify_one();
        }
        let state: Seen = (Arc::default(), Arc::default());
        let (parcels, done) = state.clone();
        let service = Service::new("shipping", &broker)
            .contracts(contracts)
            .state(state)
            .on("orders", ship)
            .on("parcels", seen);
        service.run(async move { done.notified().await }).await.unwrap();
        assert_eq!(*parcels.lock().unwrap(), [Sent { order: "o-1".to_owned() }]);
    }
}

/// The service does not start, and the error names the field and says what to do.
#[tokio::test]
async fn a_change_that_readers_cannot_live_with_stops_the_service_before_it_publishes() {
    let Some(registry) = registry() else { return };
    let changes = [
        (
            "avro",
            AVRO.to_owned(),
            AVRO.replace("\"long\"", "\"string\""),
            "field \"cents\" was long in version 1 and is string",
        ),
        (
            "avro-new",
            AVRO.to_owned(),
            AVRO.replace(
                "{\"name\": \"cents\"",
                "{\"name\": \"currency\", \"type\": \"string\"}, {\"name\": \"cents\"",
            ),
            "field \"currency\" is new and has no default",
        ),
        (
            "json",
            JSON.to_owned(),
            JSON.replace("\"cents\": {\"type\": \"integer\"}", "\"cents\": {\"type\": \"string\"}"),
            "field \"cents\" was integer",
        ),
        (
            "protobuf",
            PROTOBUF.to_owned(),
            PROTOBUF.replace("int64 cents", "string cents"),
            "field \"cents\" was int64",
        ),
    ];
    for (name, old, new, expected) in changes {
        let schema = |text: String| match name {
            "json" => Schema::json(text),
            "protobuf" => Schema::protobuf(text),
            _ => Schema::avro(text),
        };
        let subject = format!("changed-{name}-value");
        let contracts = |text: String| {
            Contracts::new(&registry).of::<Paid>(&subject, schema(text)).registering()
        };
        contracts(old).agree().await.unwrap();
        let broker = Connection::open("memory:").await.unwrap();
        async fn handle(_: Msg<Paid>) {}
        let service =
            Service::new("shipping", &broker).contracts(contracts(new)).on("orders", handle);
        let error = service.run(std::future::pending()).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Schema { .. }), "{text}");
        assert!(text.contains(expected) && text.contains(&subject), "{text}");
        assert!(text.contains("Nothing was registered or published"), "{text}");
        assert_eq!(registry.versions(&subject).await.unwrap(), [1], "nothing was registered");
    }
}

#[tokio::test]
async fn what_is_not_registered_is_not_agreed_upon_unless_the_service_may_register_it() {
    let Some(registry) = registry() else { return };
    let contracts = Contracts::new(&registry).of::<Paid>("never-value", Schema::avro(AVRO));
    let error = contracts.agree().await.unwrap_err().to_string();
    assert!(error.contains("it is not registered") && error.contains("registering()"), "{error}");
    assert!(registry.latest("never-value").await.unwrap().is_none());
    let agreed = contracts.registering().agree().await.unwrap();
    let latest = registry.latest("never-value").await.unwrap().unwrap();
    assert_eq!((Some(latest.id), latest.version), (agreed.id::<Paid>(), 1));
    assert!(registry.subjects().await.unwrap().contains(&"never-value".to_owned()));
    let wider = AVRO.replace("]}", r#", {"name": "note", "type": "string", "default": ""}]}"#);
    let wider = wider.replacen(
        r#""count", "type": "int"}, {"name": "note", "type": "string", "default": ""}]}"#,
        r#""count", "type": "int"}]}"#,
        1,
    );
    let contracts = Contracts::new(&registry).of::<Paid>("never-value", Schema::avro(wider));
    contracts.registering().agree().await.unwrap();
    assert_eq!(registry.versions("never-value").await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_named() {
    let registry = Registry::open("http://127.0.0.1:1").unwrap();
    let error = Contracts::new(&registry)
        .of::<Paid>("orders-value", Schema::avro(AVRO))
        .agree()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
    assert!(Registry::open("127.0.0.1:8081").unwrap_err().to_string().contains("http://HOST:PORT"));
}

/// First our bodies for Confluent's deserializers, then, in another run, those of its serializers for us.
#[tokio::test]
async fn bodies_go_to_confluents_client_and_come_from_it() {
    let (Some(registry), Ok(bodies)) = (registry(), std::env::var("SCHEMA_BODIES")) else { return };
    let bodies = PathBuf::from(bodies);
    for (language, schema) in languages() {
        let contracts = Contracts::new(&registry).of::<Paid>(format!("{language}-value"), schema);
        let agreed = contracts.registering().agree().await.unwrap();
        let ours = agreed.envelope(&paid(), &ottla::Mint::virtual_from(1)).unwrap();
        std::fs::write(bodies.join(format!("{language}.ottla")), &ours.body).unwrap();
        let Ok(theirs) = std::fs::read(bodies.join(format!("{language}.confluent"))) else {
            continue;
        };
        let is_text = language == "json"; // which may have blanks
        assert!(is_text || theirs == ours.body, "{language}: {theirs:?} and {:?}", ours.body);
        let message = Envelope { body: theirs.into(), ..ours };
        assert_eq!(agreed.read::<Paid>(&message).await.unwrap(), paid());
        eprintln!("read from Confluent's client: {language}");
    }
}
