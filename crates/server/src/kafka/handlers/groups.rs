//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the classic group protocol.

use std::sync::Arc;

use bytes::Bytes;
use ottla_engine::Lsn;
use ottla_engine::group::classic::{
    self, Command, Join, JoinError, Joined, Leave, LeaveError, Leaver, Synced,
};
use ottla_engine::group::{Generation, GroupId, InstanceId, MemberId, Ticket};
use ottla_kafka_proto::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_kafka_proto::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use ottla_kafka_proto::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};
use ottla_kafka_proto::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use ottla_kafka_proto::{ApiVersion, ErrorCode, Str};
use tokio::sync::oneshot;

use super::Answer;
use crate::kafka::{Peer, codes};

/// Waits until the join phase is complete.
pub(super) async fn join(
    peer: &Peer,
    client_id: Option<&str>,
    version: ApiVersion,
    request: JoinGroupRequest,
) -> Answer {
    let asked_as = request.member_id.clone();
    let group = request.group_id.clone();
    let uuid = peer.context.engine.draw_uuid();
    let command = |ticket| {
        Command::Join(Join {
            ticket,
            member: named(&request.member_id),
            instance: request.group_instance_id.as_deref().map(InstanceId::from),
            client_id: client_id.unwrap_or_default().into(),
            client_host: host(peer),
            protocol_type: request.protocol_type.as_str().into(),
            protocols: request
                .protocols
                .iter()
                .map(|protocol| (protocol.name.as_str().into(), kept(&protocol.metadata)))
                .collect(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: match version.0 {
                0 => request.session_timeout_ms,
                _ => request.rebalance_timeout_ms,
            },
            id_required: version.0 >= 4,
            can_skip_assignment: version.0 >= 9,
            uuid,
        })
    };
    match ask(peer, &group, command).await {
        Ok((classic::Answer::Join(Ok(joined)), lsn)) => Answer::at(lsn, told(joined)),
        Ok((classic::Answer::Join(Err(error)), lsn)) => {
            let member_id = match &error {
                JoinError::MemberIdRequired(member) => member.as_str().into(),
                _ => asked_as,
            };
            Answer::at(lsn, not_joined(version, member_id, codes::join(&error)))
        }
        Ok(_) => Answer::now(not_joined(version, asked_as, ErrorCode::UNKNOWN_SERVER_ERROR)),
        Err(code) => Answer::now(not_joined(version, asked_as, code)),
    }
}

fn told(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member.as_str().into(),
        group_instance_id: member.instance.map(|instance| instance.as_str().into()),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        generation_id: joined.generation.0,
        protocol_type: Some(joined.protocol_type.as_ref().into()),
        protocol_name: Some(joined.protocol.as_ref().into()),
        leader: joined.leader.as_str().into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member.as_str().into(),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

fn not_joined(version: ApiVersion, member_id: Str, error_code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        generation_id: -1,
        protocol_name: (version.0 < 7).then(|| "".into()),
        member_id,
        ..JoinGroupResponse::default()
    }
}

/// Waits until the leader has brought the assignment.
pub(super) async fn sync(peer: &Peer, request: SyncGroupRequest) -> Answer {
    let command = |ticket| {
        Command::Sync(classic::Sync {
            ticket,
            member: request.member_id.as_str().into(),
            instance: request.group_instance_id.as_deref().map(InstanceId::from),
            generation: Generation(request.generation_id),
            protocol_type: request.protocol_type.as_deref().map(Arc::from),
            protocol: request.protocol_name.as_deref().map(Arc::from),
            assignments: request
                .assignments
                .iter()
                .map(|share| (share.member_id.as_str().into(), kept(&share.assignment)))
                .collect(),
        })
    };
    let (outcome, lsn) = match ask(peer, &request.group_id, command).await {
        Ok((classic::Answer::Sync(outcome), lsn)) => {
            (outcome.map_err(|error| codes::sync(&error)), lsn)
        }
        Ok(_) => (Err(ErrorCode::UNKNOWN_SERVER_ERROR), Lsn::ZERO),
        Err(code) => (Err(code), Lsn::ZERO),
    };
    let response = match outcome {
        Ok(Synced { protocol_type, protocol, assignment }) => SyncGroupResponse {
            protocol_type: Some(protocol_type.as_ref().into()),
            protocol_name: Some(protocol.as_ref().into()),
            assignment,
            ..SyncGroupResponse::default()
        },
        Err(error_code) => SyncGroupResponse { error_code, ..SyncGroupResponse::default() },
    };
    Answer::at(lsn, response)
}

/// I am still here.
pub(super) async fn heartbeat(peer: &Peer, request: HeartbeatRequest) -> Answer {
    let command = |ticket| {
        Command::Heartbeat(classic::Heartbeat {
            ticket,
            member: request.member_id.as_str().into(),
            instance: request.group_instance_id.as_deref().map(InstanceId::from),
            generation: Generation(request.generation_id),
        })
    };
    let (error_code, lsn) = match ask(peer, &request.group_id, command).await {
        Ok((classic::Answer::Heartbeat(outcome), lsn)) => {
            (outcome.map_or_else(|error| codes::heartbeat(&error), |()| ErrorCode::NONE), lsn)
        }
        Ok(_) => (ErrorCode::UNKNOWN_SERVER_ERROR, Lsn::ZERO),
        Err(code) => (code, Lsn::ZERO),
    };
    Answer::at(lsn, HeartbeatResponse { error_code, ..HeartbeatResponse::default() })
}

/// Members leave; from version 3 on several, each answered on its own.
pub(super) async fn leave(peer: &Peer, version: ApiVersion, request: LeaveGroupRequest) -> Answer {
    let single = version.0 < 3;
    let members: Vec<Leaver> = if single {
        vec![Leaver { member: named(&request.member_id), instance: None }]
    } else {
        let leaver = |member: &ottla_kafka_proto::messages::leave_group::MemberIdentity| Leaver {
            member: named(&member.member_id),
            instance: member.group_instance_id.as_deref().map(InstanceId::from),
        };
        request.members.iter().map(leaver).collect()
    };
    let command = |ticket| Command::Leave(Leave { ticket, members });
    let code = |outcome: Result<(), LeaveError>| {
        outcome.map_or_else(|error| codes::leave(&error), |()| ErrorCode::NONE)
    };
    let (results, lsn) = match ask(peer, &request.group_id, command).await {
        Ok((classic::Answer::Leave(results), lsn)) => (results, lsn),
        Ok(_) => return Answer::now(not_left(ErrorCode::UNKNOWN_SERVER_ERROR)),
        Err(error_code) => return Answer::now(not_left(error_code)),
    };
    if single {
        let error_code = results.into_iter().next().map_or(ErrorCode::NONE, code);
        return Answer::at(lsn, not_left(error_code));
    }
    let members = request.members.into_iter().zip(results).map(|(member, outcome)| {
        let (member_id, group_instance_id) = (member.member_id, member.group_instance_id);
        MemberResponse { member_id, group_instance_id, error_code: code(outcome) }
    });
    let members = members.collect();
    Answer::at(lsn, LeaveGroupResponse { members, ..LeaveGroupResponse::default() })
}

fn not_left(error_code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
}

/// Brings a command to its group and waits for the answer. If the connection closes meanwhile the
/// answer goes nowhere.
async fn ask(
    peer: &Peer,
    group: &str,
    command: impl FnOnce(Ticket) -> Command,
) -> Result<(classic::Answer, Lsn), ErrorCode> {
    if group.is_empty() {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let engine = &peer.context.engine;
    let (sender, receiver) = oneshot::channel();
    let reply = Box::new(move |answer, lsn| drop(sender.send((answer, lsn))));
    engine
        .classic(&GroupId::from(group), command(engine.ticket()), reply)
        .map_err(|refused| codes::group_refused(&refused))?;
    receiver.await.map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)
}

fn named(member: &str) -> Option<MemberId> {
    (!member.is_empty()).then(|| member.into())
}

/// As Kafka prints it.
pub(super) fn host(peer: &Peer) -> Arc<str> {
    format!("/{}", peer.remote.ip().to_canonical()).into()
}

/// A copy that does not keep the whole request in memory.
fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
