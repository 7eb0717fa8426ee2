//! Class channel, and what is left of class access.

use ottla_amqp_proto::ReplyCode;
use ottla_amqp_proto::methods::{AccessRequestOk, ChannelFlow, ChannelFlowOk};

use super::{Answer, Call, Handled};

/// `channel.flow`: deliveries cannot be stopped, as in RabbitMQ.
pub(super) fn flow(call: &Call<'_>, flow: &ChannelFlow) -> Handled {
    if flow.active {
        return Ok(Answer::Now(ChannelFlowOk { active: true }.into()));
    }
    Err(call.fault(ReplyCode::NotImplemented, "active=false", ChannelFlow::ID))
}

/// `access.request`: a ticket that nobody looks at.
pub(super) fn access() -> Answer {
    Answer::Now(AccessRequestOk { ticket: 1 }.into())
}
