//! DescribeGroups, ListGroups, DeleteGroups: what administrators see of groups.

use ottla_engine::group::classic::ClassicGroup;
use ottla_engine::group::{Group, GroupId};
use ottla_engine::{GroupSummary, Lsn};
use ottla_kafka_proto::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use ottla_kafka_proto::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use ottla_kafka_proto::messages::list_groups::{
    ListGroupsRequest, ListGroupsResponse, ListedGroup,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode, Str};

use super::Answer;
use crate::kafka::{Peer, codes};

/// Each group with its members.
pub(super) fn describe(peer: &Peer, version: ApiVersion, request: DescribeGroupsRequest) -> Answer {
    let mut newest = Lsn::ZERO;
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let groups = request.groups.into_iter().map(|name| {
        let read = |group: &Group| {
            group.as_classic().map(|members| described(name.clone(), group, members))
        };
        let (found, lsn) = peer.context.engine.read_group(&GroupId::from(name.as_str()), read);
        newest = newest.max(lsn);
        let mut group = match found {
            Some(Some(group)) => group,
            Some(None) => absent(version, &name, "is not a classic group."),
            None => absent(version, &name, "not found."),
        };
        group.authorized_operations = operations;
        group
    });
    let groups = groups.collect();
    Answer::at(newest, DescribeGroupsResponse { groups, ..Default::default() })
}

fn described(name: Str, group: &Group, classic: &ClassicGroup) -> DescribedGroup {
    let members = classic.members().into_iter().map(|member| DescribedGroupMember {
        member_id: member.member.as_str().into(),
        group_instance_id: member.instance.map(|instance| instance.as_str().into()),
        client_id: member.client_id.as_ref().into(),
        client_host: member.client_host.as_ref().into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id: name,
        group_state: classic.phase().to_string().into(),
        protocol_type: group.protocol_type().into(),
        protocol_data: classic.protocol().map(AsRef::as_ref).unwrap_or_default().into(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

fn absent(version: ApiVersion, name: &Str, why: &str) -> DescribedGroup {
    let (error_code, error_message) = if version.0 >= 6 {
        let message = format!("Group {name} {why}");
        (ErrorCode::GROUP_ID_NOT_FOUND, Some(message.into()))
    } else {
        (ErrorCode::NONE, None)
    };
    DescribedGroup {
        error_code,
        error_message,
        group_id: name.clone(),
        group_state: "Dead".into(),
        ..DescribedGroup::default()
    }
}

/// Every group, by state and type where asked so.
pub(super) fn list(peer: &Peer, request: ListGroupsRequest) -> Answer {
    let (groups, lsn) = peer.context.engine.list_groups();
    let wanted = |group: &GroupSummary| {
        is_among(&request.states_filter, &group.state)
            && is_among(&request.types_filter, group.kind)
    };
    let listed = groups.into_iter().filter(wanted).map(|group| ListedGroup {
        group_id: group.id.as_str().into(),
        protocol_type: group.protocol_type.as_ref().into(),
        group_state: group.state.into(),
        group_type: group.kind.into(),
    });
    let groups = listed.collect();
    Answer::at(lsn, ListGroupsResponse { groups, ..Default::default() })
}

fn is_among(filter: &[Str], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
}

/// Empty groups go with their offsets.
pub(super) fn delete(peer: &Peer, request: DeleteGroupsRequest) -> Answer {
    let mut newest = Lsn::ZERO;
    let results = request.groups_names.into_iter().map(|name| {
        let error_code = match peer.context.engine.delete_group(&GroupId::from(name.as_str())) {
            Ok(lsn) => {
                newest = newest.max(lsn);
                ErrorCode::NONE
            }
            Err(error) => codes::delete_group(&error),
        };
        DeletableGroupResult { group_id: name, error_code }
    });
    let results = results.collect();
    Answer::at(newest, DeleteGroupsResponse { results, ..Default::default() })
}

/// READ, DELETE, DESCRIBE, `DESCRIBE_CONFIGS`, `ALTER_CONFIGS` (KIP-430), as bits of their codes.
pub(super) const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
