//! Groups and transactions that somebody treats badly: names and numbers that are not theirs, metadata that is none, far too
//! much of anything. The error is Kafka's, and nobody else notices.

use bytes::Bytes;
use ottla_engine::batch::BatchBuilder;
use ottla_engine::codec::Codec;
use ottla_kafka_proto::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use ottla_kafka_proto::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use ottla_kafka_proto::messages::end_txn::EndTxnRequest;
use ottla_kafka_proto::messages::find_coordinator::FindCoordinatorRequest;
use ottla_kafka_proto::messages::heartbeat::HeartbeatRequest;
use ottla_kafka_proto::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use ottla_kafka_proto::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use ottla_kafka_proto::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use ottla_kafka_proto::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_kafka_proto::messages::produce::ProduceRequest;
use ottla_kafka_proto::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_kafka_proto::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use ottla_kafka_proto::{ErrorCode, Response};

use crate::rig::{Client, Node, Topic, filled, producing, unique};

fn joining(group: &str, member: &str, metadata: &[u8]) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::copy_from_slice(metadata),
        }],
        ..Default::default()
    }
}

async fn join(client: &mut Client, request: JoinGroupRequest) -> JoinGroupResponse {
    let Response::JoinGroup(answer) = client.call(5, request).await else { panic!() };
    answer
}

/// What a cluster says of a coordinator that is named already and still takes over: clients ask again.
const LOADING: [ErrorCode; 2] =
    [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
const LOADING_TRIES_MAX: u32 = 2_000;

/// A group of one that has its assignment: its name, its member, its generation.
struct Settled {
    group: String,
    member: String,
    generation: i32,
}

async fn settled(client: &mut Client, metadata: &[u8]) -> Settled {
    let group = unique("treated");
    find_coordinator(client, &group, 0).await;
    let mut promised = join(client, joining(&group, "", metadata)).await;
    for _ in 0..LOADING_TRIES_MAX {
        if !LOADING.contains(&promised.error_code) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        promised = join(client, joining(&group, "", metadata)).await;
    }
    assert_eq!(promised.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let joined = join(client, joining(&group, &promised.member_id, metadata)).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let member = joined.member_id.to_string();
    let assignments = vec![SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(b"yours"),
    }];
    let generation = joined.generation_id;
    let settled = Settled { group, member, generation };
    assert_eq!(sync(client, &settled, assignments).await, (ErrorCode::NONE, "yours".into()));
    settled
}

/// A cluster makes its own topics first; one node is ready.
async fn find_coordinator(client: &mut Client, key: &str, key_type: i8) {
    for attempt in 1.. {
        let request = FindCoordinatorRequest { key: key.into(), key_type, ..Default::default() };
        let Response::FindCoordinator(answer) = client.call(2, request).await else { panic!() };
        if answer.error_code.is_ok() {
            return;
        }
        assert!(attempt < 5_000, "no coordinator: {:?}", answer.error_code);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn sync(
    client: &mut Client,
    who: &Settled,
    assignments: Vec<SyncGroupRequestAssignment>,
) -> (ErrorCode, Bytes) {
    let request = SyncGroupRequest {
        group_id: who.group.as_str().into(),
        generation_id: who.generation,
        member_id: who.member.as_str().into(),
        assignments,
        ..Default::default()
    };
    let Response::SyncGroup(answer) = client.call(3, request).await else { panic!() };
    (answer.error_code, answer.assignment)
}

async fn beat(client: &mut Client, who: &Settled) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: who.group.as_str().into(),
        generation_id: who.generation,
        member_id: who.member.as_str().into(),
        ..Default::default()
    };
    let Response::Heartbeat(answer) = client.call(3, request).await else { panic!() };
    answer.error_code
}

async fn leave(client: &mut Client, who: &Settled) -> ErrorCode {
    let member = MemberIdentity { member_id: who.member.as_str().into(), ..Default::default() };
    let (group_id, members) = (who.group.as_str().into(), vec![member]);
    let request = LeaveGroupRequest { group_id, members, ..Default::default() };
    let Response::LeaveGroup(answer) = client.call(3, request).await else { panic!() };
    answer.members[0].error_code
}

async fn commit(client: &mut Client, who: &Settled, topic: &Topic) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        committed_offset: 1,
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: topic.name.as_str().into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: who.group.as_str().into(),
        generation_id_or_member_epoch: who.generation,
        member_id: who.member.as_str().into(),
        topics: vec![topic],
        ..Default::default()
    };
    let Response::OffsetCommit(answer) = client.call(7, request).await else { panic!() };
    answer.topics[0].partitions[0].error_code
}

/// Every request that names a member of a group.
async fn all_say(client: &mut Client, who: &Settled, topic: &Topic, code: ErrorCode) {
    assert_eq!(beat(client, who).await, code, "heartbeat");
    assert_eq!(sync(client, who, vec![]).await.0, code, "sync");
    assert_eq!(commit(client, who, topic).await, code, "commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_one_group_is_unknown_in_every_other() {
    let node = Node::start().await;
    let topic = node.topic("foreign").await;
    let mut client = node.client().await;
    let (one, two) = (settled(&mut client, b"").await, settled(&mut client, b"").await);
    let stranger = Settled { group: one.group.clone(), ..two };
    all_say(&mut client, &stranger, &topic, ErrorCode::UNKNOWN_MEMBER_ID).await;
    assert_eq!(leave(&mut client, &stranger).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let answer = join(&mut client, joining(&one.group, &stranger.member, b"")).await;
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    all_say(&mut client, &one, &topic, ErrorCode::NONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_of_the_past_and_of_the_future_are_illegal() {
    let node = Node::start().await;
    let topic = node.topic("generations").await;
    let mut client = node.client().await;
    let settled = settled(&mut client, b"").await;
    for generation in [i32::MIN, -2, 0, settled.generation + 1, i32::MAX] {
        let (group, member) = (settled.group.clone(), settled.member.clone());
        let late = Settled { group, member, generation };
        all_say(&mut client, &late, &topic, ErrorCode::ILLEGAL_GENERATION).await;
    }
    all_say(&mut client, &settled, &topic, ErrorCode::NONE).await;
}

fn consumer_join(group: &str, member: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![topic.into()]),
        topic_partitions: Some(vec![]),
        ..Default::default()
    }
}

async fn consumer(
    client: &mut Client,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let Response::ConsumerGroupHeartbeat(answer) = client.call(1, request).await else { panic!() };
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_is_none_stays_its_groups_own_affair() {
    let node = Node::own(|_| {}).await; // Kafka 4.3.1 falls over the last two, and their groups hang
    let topic = node.topic("garbage").await;
    let mut client = node.client().await;
    let garbage: [&[u8]; 4] =
        [b"", &[0xff; 40], &[0, 3, 0x7f, 0xff, 0xff, 0xff], &[0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'x']];
    for metadata in garbage {
        let settled = settled(&mut client, metadata).await;
        // the group cannot move to the other protocol, and goes on in its own
        let asked = consumer_join(&settled.group, "newcomer", &topic.name);
        let answer = consumer(&mut client, asked).await;
        assert_eq!(answer.error_code, ErrorCode::GROUP_ID_NOT_FOUND, "{metadata:?}");
        all_say(&mut client, &settled, &topic, ErrorCode::NONE).await;
        assert_eq!(leave(&mut client, &settled).await, ErrorCode::NONE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_is_none_is_no_way_into_a_consumer_group() {
    let node = Node::start().await;
    let topic = node.topic("wrong-way").await;
    let mut client = node.client().await;
    let group = unique("modern");
    find_coordinator(&mut client, &group, 0).await;
    let answer = consumer(&mut client, consumer_join(&group, "m", &topic.name)).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let epoch = answer.member_epoch;
    let answer = join(&mut client, joining(&group, "x", &[0, 3, 0x7f, 0xff, 0xff, 0xff])).await;
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_SERVER_ERROR);
    let other = JoinGroupRequest { protocol_type: "connect".into(), ..joining(&group, "x", b"") };
    let answer = join(&mut client, other).await;
    assert_eq!(answer.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let alive = ConsumerGroupHeartbeatRequest {
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        topic_partitions: None,
        ..consumer_join(&group, "m", &topic.name)
    };
    let answer = consumer(&mut client, alive).await;
    assert_eq!((answer.error_code, answer.member_epoch), (ErrorCode::NONE, epoch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regexes_that_explode_cost_no_time_and_hit_nobody_else() {
    let node = Node::start().await;
    let mut innocent = node.innocent().await;
    let topic = node.topic(&"a".repeat(60)).await;
    let mut client = node.client().await;
    find_coordinator(&mut client, "regexes", 0).await;
    let invalid = ["(((", "a{2000}{2000}{2000}", "(?=a)b", "[z-a]", "\\"];
    let exponential = ["(a+)+$", "(a|a)*b", "(.*a){20}", "(x+x+)+y"];
    for (regex, code) in invalid
        .map(|regex| (regex, ErrorCode::INVALID_REGULAR_EXPRESSION))
        .into_iter()
        .chain(exponential.map(|regex| (regex, ErrorCode::NONE)))
    {
        let group = unique("regex");
        let request = ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: None,
            subscribed_topic_regex: Some(regex.into()),
            ..consumer_join(&group, "m", &topic.name)
        };
        assert_eq!(consumer(&mut client, request).await.error_code, code, "{regex}");
    }
    innocent.is_served(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giant_metadata_is_refused_and_nothing_of_it_kept() {
    let node = Node::own(|_| {}).await;
    let mut innocent = node.innocent().await;
    let mut client = node.client().await;
    let giant = vec![7; 20 << 20];
    for _ in 0..3 {
        let group = unique("giant");
        let promised = join(&mut client, joining(&group, "", b"")).await;
        let refused = join(&mut client, joining(&group, &promised.member_id, &giant)).await;
        assert_eq!(refused.error_code, ErrorCode::UNKNOWN_SERVER_ERROR, "as from Kafka's log");
    }
    let settled = settled(&mut client, b"small").await;
    assert_eq!(beat(&mut client, &settled).await, ErrorCode::NONE);
    innocent.is_served(&node).await;
}

/// Newcomers of either protocol that never come back, over one connection, many at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_members_that_come_and_vanish_hold_up_nobody() {
    let node = Node::own(|_| {}).await;
    let mut innocent = node.innocent().await;
    let mut client = node.client().await;
    let settled = settled(&mut client, b"").await;
    let crowd = unique("crowd");
    for _ in 0..100 {
        for _ in 0..100 {
            client.send(5, joining(&crowd, "", &[1; 100])).await;
        }
        for _ in 0..100 {
            let Response::JoinGroup(answer) = client.receive().await else { panic!() };
            assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        }
    }
    let topic = node.topic("crowded").await;
    for number in 0..1_000 {
        let (group, member) = (unique("modern"), format!("m{number}"));
        let answer = consumer(&mut client, consumer_join(&group, &member, &topic.name)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
    assert_eq!(beat(&mut client, &settled).await, ErrorCode::NONE);
    innocent.is_served(&node).await;
}

async fn init(client: &mut Client, id: &str) -> InitProducerIdResponse {
    for attempt in 1.. {
        let request = InitProducerIdRequest {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let Response::InitProducerId(answer) = client.call(4, request).await else { panic!() };
        let concurrent = answer.error_code == ErrorCode::CONCURRENT_TRANSACTIONS;
        if !concurrent && !LOADING.contains(&answer.error_code) {
            assert_eq!(answer.error_code, ErrorCode::NONE);
            return answer;
        }
        assert!(attempt < LOADING_TRIES_MAX, "{:?}", answer.error_code);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    unreachable!()
}

async fn add(
    client: &mut Client,
    version: i16,
    id: &str,
    who: (i64, i16),
    topic: &Topic,
) -> ErrorCode {
    let topics =
        vec![AddPartitionsToTxnTopic { name: topic.name.as_str().into(), partitions: vec![0] }];
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: id.into(),
        producer_id: who.0,
        producer_epoch: who.1,
        topics: topics.clone(),
        ..Default::default()
    };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.into(),
        v3_and_below_producer_id: who.0,
        v3_and_below_producer_epoch: who.1,
        v3_and_below_topics: topics,
        transactions: vec![transaction],
    };
    let Response::AddPartitionsToTxn(answer) = client.call(version, request).await else {
        panic!()
    };
    answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

async fn end(client: &mut Client, version: i16, id: &str, who: (i64, i16)) -> ErrorCode {
    let request = EndTxnRequest {
        transactional_id: id.into(),
        producer_id: who.0,
        producer_epoch: who.1,
        committed: true,
    };
    let Response::EndTxn(answer) = client.call(version, request).await else { panic!() };
    answer.error_code
}

async fn write(client: &mut Client, id: &str, who: (i64, i16), topic: &Topic) -> ErrorCode {
    write_as(client, 9, id, who, 0, topic).await
}

/// From version 12 on what is written joins the transaction by itself.
async fn write_as(
    client: &mut Client,
    version: i16,
    id: &str,
    who: (i64, i16),
    sequence: i32,
    topic: &Topic,
) -> ErrorCode {
    let builder = BatchBuilder::new(Codec::None).producer(who.0, who.1, sequence).transactional();
    let records = filled(builder, &[b"x"]);
    let request =
        ProduceRequest { transactional_id: Some(id.into()), ..producing(topic, -1, Some(records)) };
    let Response::Produce(answer) = client.call(version, request).await else { panic!() };
    answer.responses[0].partition_responses[0].error_code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_partitions_join_by_themselves_begins_at_number_zero() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let (gap, fine) = (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::NONE);
    for (version, first) in [(9, fine), (12, gap)] {
        let (id, topic) = (unique("transaction"), node.topic("middle").await);
        find_coordinator(&mut client, &id, 1).await;
        let who = init(&mut client, &id).await;
        let who = (who.producer_id, who.producer_epoch);
        if version == 9 {
            assert_eq!(add(&mut client, 3, &id, who, &topic).await, fine);
        }
        assert_eq!(write_as(&mut client, version, &id, who, 5, &topic).await, first);
        let zero = if first == fine { gap } else { fine };
        assert_eq!(write_as(&mut client, version, &id, who, 0, &topic).await, zero);
    }
}

async fn commit_offset(client: &mut Client, id: &str, who: (i64, i16), topic: &Topic) -> ErrorCode {
    let partition = TxnOffsetCommitRequestPartition {
        committed_offset: 1,
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let topic = TxnOffsetCommitRequestTopic {
        name: topic.name.as_str().into(),
        partitions: vec![partition],
    };
    let request = TxnOffsetCommitRequest {
        transactional_id: id.into(),
        group_id: format!("{id}-group").into(),
        producer_id: who.0,
        producer_epoch: who.1,
        generation_id: -1,
        topics: vec![topic],
        ..Default::default()
    };
    for _ in 0..LOADING_TRIES_MAX {
        let Response::TxnOffsetCommit(answer) = client.call(3, request.clone()).await else {
            panic!()
        };
        let code = answer.topics[0].partitions[0].error_code;
        if !LOADING.contains(&code) {
            return code;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the coordinator of groups never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_producer_can_neither_write_nor_end_its_transaction() {
    let node = Node::start().await;
    let topic = node.topic("fenced").await;
    let mut client = node.client().await;
    let id = unique("transaction");
    find_coordinator(&mut client, &id, 1).await;
    let old = init(&mut client, &id).await;
    let old = (old.producer_id, old.producer_epoch);
    assert_eq!(add(&mut client, 3, &id, old, &topic).await, ErrorCode::NONE);
    assert_eq!(write(&mut client, &id, old, &topic).await, ErrorCode::NONE);
    let new = init(&mut client, &id).await;
    let new = (new.producer_id, new.producer_epoch);
    assert!(new > old);

    let (fenced, old_words) = (ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(add(&mut client, 3, &id, old, &topic).await, fenced);
    assert_eq!(add(&mut client, 1, &id, old, &topic).await, old_words);
    assert_eq!(end(&mut client, 3, &id, old).await, fenced);
    assert_eq!(end(&mut client, 1, &id, old).await, old_words);
    assert_eq!(write(&mut client, &id, old, &topic).await, old_words);
    find_coordinator(&mut client, &format!("{id}-group"), 0).await;
    assert_eq!(commit_offset(&mut client, &id, old, &topic).await, old_words);
    let stranger = (new.0 + 1_000_000, 0);
    let unknown = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    assert_eq!(add(&mut client, 3, &id, stranger, &topic).await, unknown);
    assert_eq!(end(&mut client, 3, &id, stranger).await, unknown);

    assert_eq!(add(&mut client, 3, &id, new, &topic).await, ErrorCode::NONE);
    assert_eq!(write(&mut client, &id, new, &topic).await, ErrorCode::NONE);
    assert_eq!(end(&mut client, 3, &id, new).await, ErrorCode::NONE);
}
