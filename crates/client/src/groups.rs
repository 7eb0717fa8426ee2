//! Groups of every kind: which there are, who is in them; and deleting them.

use std::fmt;

use bytes::Bytes;
use ottla_kafka_proto::consumer_protocol::decode_assignment;
use ottla_kafka_proto::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    ShareGroupDescribeRequest, consumer_group_describe as consumer, share_group_describe as share,
};
use ottla_kafka_proto::{ErrorCode, Response};

use crate::cluster::{CoordinatorKind, TopicPartition};
use crate::{ClientError, Cluster};

/// A group as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub id: String,
    /// The protocol its members speak.
    pub kind: GroupKind,
    /// Kafka's word for its state: Empty, Stable, Dead, …
    pub state: String,
    /// What its members are: `consumer`, `connect`, …; empty for offsets without members.
    pub protocol: String,
}

/// The protocol that a group's members speak.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup.
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932.
    Share,
    /// Another one, by the broker's name for it.
    Other(String),
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDetails {
    /// Kafka's word for its state.
    pub state: String,
    /// Who spreads the partitions; empty if nobody does.
    pub assignor: String,
    /// The generation or epoch; `None` where the broker does not say.
    pub epoch: Option<i32>,
    /// By member id.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The id it was given or chose.
    pub id: String,
    /// The name it keeps over restarts, if it has one.
    pub instance: Option<String>,
    /// What its program calls itself.
    pub client: String,
    /// Where it connects from.
    pub host: String,
    /// What it reads, ascending. Empty for members whose assignment is of another make.
    pub assignment: Vec<TopicPartition>,
}

impl GroupKind {
    fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "classic" | "" => Self::Classic, // brokers before KIP-848 know no other
            "consumer" => Self::Consumer,
            "share" => Self::Share,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Other(name) => name,
        })
    }
}

impl Cluster {
    /// Every group of every coordinator, by name.
    pub fn groups(&mut self) -> Result<Vec<Group>, ClientError> {
        let mut groups = Vec::new();
        for answer in self.call_every(ListGroupsRequest::default)? {
            let Response::ListGroups(answer) = answer else {
                return Err(self.unexpected("ListGroups"));
            };
            ClientError::check(|| "listing groups".to_owned(), answer.error_code, None)?;
            groups.extend(answer.groups.into_iter().map(|group| Group {
                id: group.group_id.into(),
                kind: GroupKind::of(&group.group_type),
                state: group.group_state.into(),
                protocol: group.protocol_type.into(),
            }));
        }
        groups.sort_by(|left, right| left.id.cmp(&right.id));
        groups.dedup();
        Ok(groups)
    }

    /// One group of the list; `None` if there is no such group.
    pub fn group(&mut self, id: &str) -> Result<Option<Group>, ClientError> {
        Ok(self.groups()?.into_iter().find(|group| group.id == id))
    }

    /// The members of a group.
    ///
    /// # Errors
    /// [`ClientError::NotServed`] for kinds that this client does not know.
    pub fn describe_group(&mut self, group: &Group) -> Result<GroupDetails, ClientError> {
        match &group.kind {
            GroupKind::Classic => self.describe_classic(&group.id),
            GroupKind::Consumer => self.describe_consumer(&group.id),
            GroupKind::Share => self.describe_share(&group.id),
            GroupKind::Other(kind) => Err(ClientError::NotServed {
                address: "ottla".to_owned(),
                what: format!("members of groups of the kind {kind}"),
            }),
        }
    }

    fn describe_classic(&mut self, id: &str) -> Result<GroupDetails, ClientError> {
        self.retry(|cluster| {
            let request = DescribeGroupsRequest { groups: vec![id.into()], ..Default::default() };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::DescribeGroups(answer) = answer else {
                return Err(cluster.unexpected("DescribeGroups"));
            };
            let found = answer.groups.into_iter().next();
            let found = found.ok_or_else(|| cluster.unexpected("DescribeGroups"))?;
            ClientError::check(
                || format!("group {id}"),
                found.error_code,
                found.error_message.as_deref(),
            )?;
            let is_consumer = found.protocol_type == "consumer";
            let members = found.members.into_iter().map(|member| Member {
                id: member.member_id.into(),
                instance: member.group_instance_id.map(Into::into),
                client: member.client_id.into(),
                host: member.client_host.into(),
                assignment: if is_consumer {
                    classic_assignment(member.member_assignment)
                } else {
                    Vec::new()
                },
            });
            Ok(GroupDetails {
                state: found.group_state.into(),
                assignor: found.protocol_data.into(),
                epoch: None,
                members: by_id(members),
            })
        })
    }

    fn describe_consumer(&mut self, id: &str) -> Result<GroupDetails, ClientError> {
        self.retry(|cluster| {
            let request =
                ConsumerGroupDescribeRequest { group_ids: vec![id.into()], ..Default::default() };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::ConsumerGroupDescribe(answer) = answer else {
                return Err(cluster.unexpected("ConsumerGroupDescribe"));
            };
            let found = answer.groups.into_iter().next();
            let found = found.ok_or_else(|| cluster.unexpected("ConsumerGroupDescribe"))?;
            ClientError::check(
                || format!("group {id}"),
                found.error_code,
                found.error_message.as_deref(),
            )?;
            let members = found.members.into_iter().map(|member| Member {
                id: member.member_id.into(),
                instance: member.instance_id.map(Into::into),
                client: member.client_id.into(),
                host: member.client_host.into(),
                assignment: consumer_assignment(&member.assignment),
            });
            Ok(GroupDetails {
                state: found.group_state.into(),
                assignor: found.assignor_name.into(),
                epoch: Some(found.group_epoch),
                members: by_id(members),
            })
        })
    }

    fn describe_share(&mut self, id: &str) -> Result<GroupDetails, ClientError> {
        self.retry(|cluster| {
            let request =
                ShareGroupDescribeRequest { group_ids: vec![id.into()], ..Default::default() };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::ShareGroupDescribe(answer) = answer else {
                return Err(cluster.unexpected("ShareGroupDescribe"));
            };
            let found = answer.groups.into_iter().next();
            let found = found.ok_or_else(|| cluster.unexpected("ShareGroupDescribe"))?;
            ClientError::check(
                || format!("group {id}"),
                found.error_code,
                found.error_message.as_deref(),
            )?;
            let members = found.members.into_iter().map(|member| Member {
                id: member.member_id.into(),
                instance: None,
                client: member.client_id.into(),
                host: member.client_host.into(),
                assignment: share_assignment(&member.assignment),
            });
            Ok(GroupDetails {
                state: found.group_state.into(),
                assignor: found.assignor_name.into(),
                epoch: Some(found.group_epoch),
                members: by_id(members),
            })
        })
    }

    /// Deletes a group without members, its offsets included.
    pub fn delete_group(&mut self, id: &str) -> Result<(), ClientError> {
        self.retry(|cluster| {
            let request = DeleteGroupsRequest { groups_names: vec![id.into()] };
            let answer = cluster.call_coordinator(CoordinatorKind::Group, id, request)?;
            let Response::DeleteGroups(answer) = answer else {
                return Err(cluster.unexpected("DeleteGroups"));
            };
            let code = answer.results.first().map_or(ErrorCode::NONE, |result| result.error_code);
            ClientError::check(|| format!("deleting group {id}"), code, None)
        })
    }
}

fn by_id(members: impl Iterator<Item = Member>) -> Vec<Member> {
    let mut members: Vec<Member> = members.collect();
    members.sort_by(|left, right| left.id.cmp(&right.id));
    members
}

fn classic_assignment(blob: Bytes) -> Vec<TopicPartition> {
    let Ok(assignment) = decode_assignment(blob, ASSIGNMENT_ITEMS_MAX) else { return Vec::new() };
    let topics = assignment.assigned_partitions.into_iter();
    spread(topics.map(|topic| (topic.topic.to_string(), topic.partitions)))
}

fn consumer_assignment(assignment: &consumer::Assignment) -> Vec<TopicPartition> {
    let topics = assignment.topic_partitions.iter();
    spread(topics.map(|topic| (topic.topic_name.to_string(), topic.partitions.clone())))
}

fn share_assignment(assignment: &share::Assignment) -> Vec<TopicPartition> {
    let topics = assignment.topic_partitions.iter();
    spread(topics.map(|topic| (topic.topic_name.to_string(), topic.partitions.clone())))
}

fn spread(topics: impl Iterator<Item = (String, Vec<i32>)>) -> Vec<TopicPartition> {
    let mut all: Vec<TopicPartition> = topics
        .flat_map(|(topic, partitions)| {
            partitions
                .into_iter()
                .map(move |partition| TopicPartition { topic: topic.clone(), partition })
        })
        .collect();
    all.sort();
    all
}

/// Array items of one member's assignment.
const ASSIGNMENT_ITEMS_MAX: usize = 1_000_000;
