//! The topic of a run.

use std::thread::park_timeout;
use std::time::Duration;

use ottla_client::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_client::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ottla_client::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_client::{Cluster, ErrorCode, Response, Str};

use crate::Failure;
use crate::args::Load;

/// Makes the topic unless it exists, and waits until all its partitions have a leader.
pub(super) fn ensure(load: &Load) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&load.broker)?;
    let topic = CreatableTopic {
        name: Str::from(load.topic.as_str()),
        num_partitions: i32::try_from(load.partitions)?,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let Response::CreateTopics(answer) = cluster.call(request)? else {
        return Err("no answer to CreateTopics".into());
    };
    let outcome = answer.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
    if !outcome.is_ok() && outcome != ErrorCode::TOPIC_ALREADY_EXISTS {
        return Err(format!("creating {}: {outcome:?}", load.topic).into());
    }
    for _ in 0..LOOKS_MAX {
        if is_ready(&mut cluster, load)? {
            return Ok(());
        }
        park_timeout(LOOK_EVERY);
    }
    Err(format!("the partitions of {} have no leaders", load.topic).into())
}

/// Whether metadata names all partitions, and each of them answers: Kafka names a leader before that
/// one knows that it leads.
fn is_ready(cluster: &mut Cluster, load: &Load) -> Result<bool, Failure> {
    let Ok(topic) = cluster.topic(&load.topic, false) else { return Ok(false) };
    let (wanted, has) = (usize::try_from(load.partitions)?, topic.partitions.len());
    if has > wanted {
        return Err(format!("{} exists with {has} partitions", load.topic).into());
    }
    if has < wanted || topic.partitions.iter().any(|leader| leader.node < 0) {
        return Ok(false);
    }
    let partitions = topic.partitions.iter().map(|leader| ListOffsetsPartition {
        partition_index: leader.partition,
        timestamp: LATEST,
        ..Default::default()
    });
    let partitions = partitions.collect();
    let topic = ListOffsetsTopic { name: Str::from(load.topic.as_str()), partitions };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let Response::ListOffsets(answer) = cluster.call(request)? else {
        return Err("no answer to ListOffsets".into());
    };
    let mut found = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(found.all(|partition| partition.error_code.is_ok()))
}

/// Deletes the topic.
pub(super) fn delete(load: &Load) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&load.broker)?;
    let name = Str::from(load.topic.as_str());
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.clone()), ..Default::default() }],
        topic_names: vec![name],
        timeout_ms: 30_000,
    };
    match cluster.call(request)? {
        Response::DeleteTopics(_) => Ok(()),
        _ => Err("no answer to DeleteTopics".into()),
    }
}

/// ListOffsets: after the last record.
const LATEST: i64 = -1;
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 4_000;
