//! Class confirm: every publish is answered once it is safe.

use ottla_amqp_proto::methods::{ConfirmSelect, ConfirmSelectOk};
use ottla_amqp_proto::{Confirms, ReplyCode};
use ottla_engine::broker::ChannelMode;

use super::{Answer, Call, Handled};
use crate::amqp::channel::Mode;

/// `confirm.select`
pub(super) fn select(call: &mut Call<'_>, select: &ConfirmSelect) -> Handled {
    match call.channel.mode {
        Mode::Plain => {
            call.channel.mode = Mode::Confirm(Confirms::new());
            call.channel.link.show_mode(ChannelMode::Confirm);
        }
        Mode::Confirm(_) => {}
        Mode::Transaction(_) => {
            let text = "cannot switch from tx to confirm mode";
            return Err(call.fault(ReplyCode::PreconditionFailed, text, ConfirmSelect::ID));
        }
    }
    if select.no_wait {
        return Ok(Answer::Nothing);
    }
    Ok(Answer::Now(ConfirmSelectOk {}.into()))
}
