//! Where groups stand in their partitions, and putting them elsewhere.

use std::collections::BTreeMap;

use ottla_kafka_proto::Response;
use ottla_kafka_proto::messages::{
    AlterShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, alter_share_group_offsets as alter, describe_share_group_offsets as shared,
    offset_commit as commit, offset_fetch as committed,
};

use crate::cluster::{CoordinatorKind, TopicPartition};
use crate::offsets::Positions;
use crate::{ClientError, Cluster};

impl Cluster {
    /// The committed offsets of a classic or consumer group.
    pub fn committed(&mut self, id: &str) -> Result<Positions, ClientError> {
        self.retry(|cluster| {
            let request = OffsetFetchRequest {
                group_id: id.into(),
                topics: None,
                groups: vec![committed::OffsetFetchRequestGroup {
                    group_id: id.into(),
                    topics: None,
                    ..Default::default()
                }],
                require_stable: false,
            };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::OffsetFetch(answer) = answer else {
                return Err(cluster.unexpected("OffsetFetch"));
            };
            let what = || format!("offsets of group {id}");
            ClientError::check(what, answer.error_code, None)?;
            let mut positions = Positions::new();
            for topic in &answer.topics {
                for place in &topic.partitions {
                    ClientError::check(what, place.error_code, None)?;
                    add(&mut positions, &topic.name, place.partition_index, place.committed_offset);
                }
            }
            for group in &answer.groups {
                ClientError::check(what, group.error_code, None)?;
                for topic in &group.topics {
                    for place in &topic.partitions {
                        ClientError::check(what, place.error_code, None)?;
                        add(
                            &mut positions,
                            &topic.name,
                            place.partition_index,
                            place.committed_offset,
                        );
                    }
                }
            }
            Ok(positions)
        })
    }

    /// Where a share group begins in its partitions: records before were dealt with.
    pub fn share_starts(&mut self, id: &str) -> Result<Positions, ClientError> {
        self.retry(|cluster| {
            let group =
                shared::DescribeShareGroupOffsetsRequestGroup { group_id: id.into(), topics: None };
            let request = DescribeShareGroupOffsetsRequest { groups: vec![group] };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::DescribeShareGroupOffsets(answer) = answer else {
                return Err(cluster.unexpected("DescribeShareGroupOffsets"));
            };
            let mut positions = Positions::new();
            for group in &answer.groups {
                let what = || format!("offsets of share group {id}");
                ClientError::check(what, group.error_code, group.error_message.as_deref())?;
                for topic in &group.topics {
                    for place in &topic.partitions {
                        ClientError::check(what, place.error_code, place.error_message.as_deref())?;
                        add(
                            &mut positions,
                            &topic.topic_name,
                            place.partition_index,
                            place.start_offset,
                        );
                    }
                }
            }
            Ok(positions)
        })
    }

    /// Puts a classic or consumer group without members at these offsets.
    pub fn commit(&mut self, id: &str, positions: &Positions) -> Result<(), ClientError> {
        let topics: Vec<_> = by_topic(positions)
            .into_iter()
            .map(|(name, places)| commit::OffsetCommitRequestTopic {
                name: name.into(),
                partitions: places
                    .into_iter()
                    .map(|(partition_index, committed_offset)| {
                        commit::OffsetCommitRequestPartition {
                            partition_index,
                            committed_offset,
                            committed_metadata: Some(Default::default()),
                            ..Default::default()
                        }
                    })
                    .collect(),
                ..Default::default()
            })
            .collect();
        self.retry(|cluster| {
            let request = OffsetCommitRequest {
                group_id: id.into(),
                generation_id_or_member_epoch: -1, // an administrator, no member
                topics: topics.clone(),
                ..Default::default()
            };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::OffsetCommit(answer) = answer else {
                return Err(cluster.unexpected("OffsetCommit"));
            };
            for topic in &answer.topics {
                for place in &topic.partitions {
                    let what = || {
                        format!("offset of group {id} in {}[{}]", topic.name, place.partition_index)
                    };
                    ClientError::check(what, place.error_code, None)?;
                }
            }
            Ok(())
        })
    }

    /// Lets a share group without members begin at these offsets.
    pub fn start_share(&mut self, id: &str, positions: &Positions) -> Result<(), ClientError> {
        let topics: Vec<_> = by_topic(positions)
            .into_iter()
            .map(|(name, places)| alter::AlterShareGroupOffsetsRequestTopic {
                topic_name: name.into(),
                partitions: places
                    .into_iter()
                    .map(|(partition_index, start_offset)| {
                        alter::AlterShareGroupOffsetsRequestPartition {
                            partition_index,
                            start_offset,
                        }
                    })
                    .collect(),
            })
            .collect();
        self.retry(|cluster| {
            let request =
                AlterShareGroupOffsetsRequest { group_id: id.into(), topics: topics.clone() };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::AlterShareGroupOffsets(answer) = answer else {
                return Err(cluster.unexpected("AlterShareGroupOffsets"));
            };
            let what = || format!("offsets of share group {id}");
            ClientError::check(what, answer.error_code, answer.error_message.as_deref())?;
            for topic in &answer.responses {
                for place in &topic.partitions {
                    let what = || {
                        format!(
                            "offset of share group {id} in {}[{}]",
                            topic.topic_name, place.partition_index
                        )
                    };
                    ClientError::check(what, place.error_code, place.error_message.as_deref())?;
                }
            }
            Ok(())
        })
    }
}

/// -1 is how a broker says that nothing is committed.
fn add(positions: &mut Positions, topic: &str, partition: i32, offset: i64) {
    if offset >= 0 {
        positions.insert(TopicPartition { topic: topic.to_owned(), partition }, offset);
    }
}

fn by_topic(positions: &Positions) -> BTreeMap<&str, Vec<(i32, i64)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, i64)>> = BTreeMap::new();
    for (place, offset) in positions {
        topics.entry(&place.topic).or_default().push((place.partition, *offset));
    }
    topics
}
