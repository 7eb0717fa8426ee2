//! Topics that are asked for, made, and may not be made.

use ottla_kafka_proto::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use ottla_kafka_proto::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use ottla_kafka_proto::{ErrorCode, Response, Uuid};
use ottla_server::config::ReplicationFactor;

use crate::rig::{Client, Node, unique};

async fn ask(client: &mut Client, version: i16, names: &[&str], create: bool) -> MetadataResponse {
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() });
    let request = MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    let Response::Metadata(answer) = client.call(version, request).await else { panic!() };
    answer
}

/// A difference to Kafka, which answers UNKNOWN_TOPIC_OR_PARTITION first: docs/differences.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_asked_for_exists_at_once() {
    let node = Node::own(|config| config.partitions = 3).await;
    let mut client = node.client().await;
    let answer = ask(&mut client, 9, &["orders"], true).await;
    let topic = &answer.topics[0];
    assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::NONE, 3));
    assert!(topic.partitions.iter().all(|partition| partition.leader_id == 1));
    assert_eq!(answer.brokers.len(), 1);
    let port = i32::from(node.address.port());
    let broker = &answer.brokers[0];
    assert_eq!((broker.node_id, &*broker.host, broker.port), (1, "127.0.0.1", port));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_not_made_where_client_or_broker_do_not_want_it() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let name = unique("unwanted");
    for _ in 0..2 {
        let answer = ask(&mut client, 9, &[&name], false).await;
        assert_eq!(answer.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let strict = Node::own(|config| config.auto_create_topics = false).await;
    let mut client = strict.client().await;
    for version in [1, 9] {
        let answer = ask(&mut client, version, &["orders"], true).await;
        assert_eq!(answer.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_no_topic_may_have_are_refused_and_not_made() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "über", &long, "a\0b"] {
        for create in [true, false] {
            let answer = ask(&mut client, 9, &[name], create).await;
            let code = answer.topics[0].error_code;
            assert_eq!(code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_topics_none_of_them_or_one_by_its_id() {
    let node = Node::start().await;
    let topic = node.topic("listed").await;
    let mut client = node.client().await;
    let all = MetadataRequest { topics: None, ..Default::default() };
    let Response::Metadata(answer) = client.call(9, all).await else { panic!() };
    let is_listed = |answer: &MetadataResponse| {
        answer.topics.iter().any(|found| found.name.as_deref() == Some(topic.name.as_str()))
    };
    assert!(is_listed(&answer));
    assert_eq!(ask(&mut client, 9, &[], true).await.topics.len(), 0);
    assert!(is_listed(&ask(&mut client, 0, &[], true).await), "version 0 says all with none");
    for (topic_id, code) in
        [(topic.id, ErrorCode::NONE), (Uuid([7; 16]), ErrorCode::UNKNOWN_TOPIC_ID)]
    {
        let by_id = MetadataRequestTopic { topic_id, name: None };
        let request = MetadataRequest { topics: Some(vec![by_id]), ..Default::default() };
        let Response::Metadata(answer) = client.call(12, request).await else { panic!() };
        assert_eq!((answer.topics.len(), answer.topics[0].error_code), (1, code));
    }
}

fn wanted(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

async fn create(client: &mut Client, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let Response::CreateTopics(answer) = client.call(5, request).await else { panic!() };
    answer.topics
}

/// The topic must be refused so, with a text, and not exist afterwards.
async fn is_refused(client: &mut Client, topic: CreatableTopic, code: ErrorCode) {
    let what = format!("{topic:?}");
    let name = topic.name.to_string();
    let answer = create(client, vec![topic]).await;
    assert_eq!(answer[0].error_code, code, "{what}: {answer:?}");
    assert!(answer[0].error_message.is_some(), "{what}: a person wants to know why");
    let found = ask(client, 9, &[&name], false).await;
    assert!(!found.topics[0].error_code.is_ok(), "{what}: it exists");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_exists_or_collides_is_not_made_again() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let name = unique("app.orders");
    assert_eq!(create(&mut client, vec![wanted(&name)]).await[0].error_code, ErrorCode::NONE);
    let again = create(&mut client, vec![wanted(&name)]).await;
    assert_eq!(again[0].error_code, ErrorCode::TOPIC_ALREADY_EXISTS);
    let colliding = name.replace('.', "_");
    is_refused(&mut client, wanted(&colliding), ErrorCode::INVALID_TOPIC_EXCEPTION).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_without_a_legal_name_size_or_setting_are_refused() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let client = &mut client;
    for name in ["", "..", "a b", &"x".repeat(250)] {
        is_refused(client, wanted(name), ErrorCode::INVALID_TOPIC_EXCEPTION).await;
    }
    for num_partitions in [0, -2, i32::MIN] {
        let topic = CreatableTopic { num_partitions, ..wanted(&unique("sizes")) };
        is_refused(client, topic, ErrorCode::INVALID_PARTITIONS).await;
    }
    for replication_factor in [0, -2] {
        let topic = CreatableTopic { replication_factor, ..wanted(&unique("factors")) };
        is_refused(client, topic, ErrorCode::INVALID_REPLICATION_FACTOR).await;
    }
    for (name, value) in [
        ("no.such.setting", Some("1")),
        ("retention.ms", Some("soon")),
        ("segment.bytes", Some("1")),
        ("cleanup.policy", Some("forget")),
        ("cleanup.policy", None),
    ] {
        let config = CreatableTopicConfig { name: name.into(), value: value.map(Into::into) };
        let topic = CreatableTopic { configs: vec![config], ..wanted(&unique("settings")) };
        is_refused(client, topic, ErrorCode::INVALID_CONFIG).await;
    }
    let twice = unique("twice");
    let answer = create(client, vec![wanted(&twice), wanted(&twice)]).await;
    assert!(answer.iter().all(|topic| topic.error_code == ErrorCode::INVALID_REQUEST));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manual_assignments_name_this_node_once_for_each_partition() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let client = &mut client;
    let assigned = |name: &str, replicas: &[(i32, &[i32])]| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: replicas
            .iter()
            .map(|(partition_index, brokers)| CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: brokers.to_vec(),
            })
            .collect(),
        ..wanted(&unique(name))
    };
    let good = assigned("assigned", &[(0, &[1]), (1, &[1])]);
    let answer = create(client, vec![good]).await;
    assert_eq!((answer[0].error_code, answer[0].num_partitions), (ErrorCode::NONE, 2));
    let code = ErrorCode::INVALID_REPLICA_ASSIGNMENT;
    is_refused(client, assigned("stranger", &[(0, &[2])]), code).await;
    is_refused(client, assigned("hole", &[(0, &[1]), (2, &[1])]), code).await;
    is_refused(client, assigned("twice", &[(0, &[1, 1])]), code).await;
    is_refused(client, assigned("nobody", &[(0, &[])]), code).await;
    let both = CreatableTopic { num_partitions: 1, ..assigned("both", &[(0, &[1])]) };
    is_refused(client, both, ErrorCode::INVALID_REQUEST).await;
}

/// A difference to Kafka, which refuses: docs/differences.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_factor_above_one_means_one() {
    let node = Node::own(|_| {}).await;
    let mut client = node.client().await;
    let topic = CreatableTopic { replication_factor: 3, ..wanted("replicated") };
    let answer = create(&mut client, vec![topic]).await;
    assert_eq!((answer[0].error_code, answer[0].replication_factor), (ErrorCode::NONE, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_node_refuses_replicas_as_kafka_does() {
    let node = match Node::start().await {
        kafka if kafka.is_foreign() => kafka,
        _ => Node::own(|config| config.replication_factor = ReplicationFactor::Strict).await,
    };
    let mut client = node.client().await;
    let topic = CreatableTopic { replication_factor: 3, ..wanted(&unique("replicated")) };
    is_refused(&mut client, topic, ErrorCode::INVALID_REPLICATION_FACTOR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_survive_a_restart_with_their_ids() {
    let mut node = Node::own(|_| {}).await;
    let topic = node.topic_with("kept", 4, &[("retention.ms", "5000")]).await;
    node.restart().await;
    let mut client = node.client().await;
    let by_id = MetadataRequestTopic { topic_id: topic.id, name: None };
    let request = MetadataRequest { topics: Some(vec![by_id]), ..Default::default() };
    let Response::Metadata(answer) = client.call(12, request).await else { panic!() };
    let found = &answer.topics[0];
    assert_eq!(found.name.as_deref(), Some(topic.name.as_str()));
    assert_eq!(found.partitions.len(), 4);
    assert!(node.data().exists());
}
