//! The topic of a run.

use std::thread::park_timeout;
use std::time::Duration;

use ottla_client::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_client::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
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
    let partitions = usize::try_from(load.partitions)?;
    for _ in 0..LOOKS_MAX {
        if let Ok(topic) = cluster.topic(&load.topic, false)
            && topic.partitions.iter().all(|leader| leader.node >= 0)
        {
            if topic.partitions.len() == partitions {
                return Ok(());
            }
            if topic.partitions.len() > partitions {
                let has = topic.partitions.len();
                return Err(format!("{} exists with {has} partitions", load.topic).into());
            }
        }
        park_timeout(LOOK_EVERY);
    }
    Err(format!("the partitions of {} have no leaders", load.topic).into())
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

const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 400;
