//! Class basic: publish, deliver, settle.

use ottla_amqp_proto::methods::{
    BasicAck, BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicGet, BasicGetEmpty,
    BasicNack, BasicPublish, BasicQos, BasicQosOk, BasicRecover, BasicRecoverAsync, BasicRecoverOk,
    BasicReject,
};
use ottla_amqp_proto::{
    DeliveryTag, GetOk, MethodId, Publish, ReplyCode, Returned, ShortStr, UnknownTag,
};
use ottla_engine::broker::{self, ConsumeRequest, Gathering, Got, PrefetchScope, Published};
use ottla_engine::queue::Outcome;

use super::{Answer, Call, Handled, count, reply, text};
use crate::amqp::arguments::arguments;
use crate::amqp::channel::{Channel, Mode};
use crate::amqp::codes::{self, Trouble};
use crate::amqp::session::Wire;

/// `basic.publish`
pub(super) fn publish(call: &mut Call<'_>, publish: &Publish) -> Handled {
    if publish.immediate {
        return Err(call.fault(ReplyCode::NotImplemented, "immediate=true", BasicPublish::ID));
    }
    if let Mode::Transaction(_) = call.channel.mode {
        return super::tx::gather(call, publish);
    }
    let (exchange, routing_key) = (text(&publish.exchange), text(&publish.routing_key));
    let request = request(publish, &exchange, &routing_key);
    let published = loop {
        let gathering = call.broker.gather(&mut call.channel.link, request.clone());
        match gathering {
            Ok(Gathering::Done(published)) => break published,
            Ok(Gathering::Gathered) => return Ok(Answer::Nothing),
            Ok(Gathering::Full) => append_gathered(call)?,
            Err(error) => {
                return Err(codes::publish_refused(call.number(), &error, BasicPublish::ID));
            }
        }
    };
    return_unrouted(call, publish, published);
    note(call, published);
    Ok(Answer::Nothing)
}

/// Appends what was published to streams since the last time.
pub(in crate::amqp) fn append_gathered(call: &mut Call<'_>) -> Result<(), Trouble> {
    let appended = call.broker.append_gathered(&mut call.channel.link);
    let appended = appended
        .map_err(|error| codes::publish_refused(call.number(), &error, BasicPublish::ID))?;
    appended.into_iter().for_each(|published| note(call, published));
    Ok(())
}

/// Remembers what is to be confirmed, and when.
fn note(call: &mut Call<'_>, published: Published) {
    if let Mode::Confirm(confirms) = &mut call.channel.mode {
        match published {
            Published { rejected: true, .. } => confirms.refuse(),
            Published { lsn: Some(lsn), .. } => confirms.wait(lsn.0),
            Published { lsn: None, .. } => confirms.accept(),
        };
    }
}

/// A publish in the broker's words.
pub(super) fn request<'a>(
    publish: &Publish,
    exchange: &'a str,
    routing_key: &'a str,
) -> broker::Publish<'a> {
    broker::Publish {
        exchange,
        routing_key,
        properties: publish.content.properties.as_bytes().clone(),
        body: publish.content.body.clone(),
    }
}

/// Gives a mandatory message back that reached no queue, before it is confirmed.
pub(super) fn return_unrouted(call: &mut Call<'_>, publish: &Publish, published: Published) {
    if !publish.mandatory || published.routed {
        return;
    }
    let returned = Returned {
        code: ReplyCode::NoRoute,
        exchange: &publish.exchange,
        routing_key: &publish.routing_key,
        properties: publish.content.properties.as_bytes(),
        body: &publish.content.body,
    };
    let number = call.number();
    call.wire.machine.return_message(number, &returned, &mut call.wire.out);
}

/// `basic.ack`
pub(super) fn ack(call: &mut Call<'_>, ack: &BasicAck) -> Handled {
    if !ack.multiple && !matches!(call.channel.mode, Mode::Transaction(_)) {
        let settled = call.channel.acknowledge(ack.delivery_tag, call.broker);
        settled.map_err(|unknown| unknown_tag(call, unknown, BasicAck::ID))?;
        return Ok(Answer::Nothing);
    }
    settle(call, ack.delivery_tag, ack.multiple, Outcome::Ack, BasicAck::ID)
}

/// `basic.nack`
pub(super) fn nack(call: &mut Call<'_>, nack: &BasicNack) -> Handled {
    let outcome = if nack.requeue { Outcome::Nack } else { Outcome::Dead };
    settle(call, nack.delivery_tag, nack.multiple, outcome, BasicNack::ID)
}

/// `basic.reject`
pub(super) fn reject(call: &mut Call<'_>, reject: &BasicReject) -> Handled {
    let outcome = if reject.requeue { Outcome::Reject } else { Outcome::Dead };
    settle(call, reject.delivery_tag, false, outcome, BasicReject::ID)
}

fn settle(
    call: &mut Call<'_>,
    tag: DeliveryTag,
    multiple: bool,
    outcome: Outcome,
    culprit: MethodId,
) -> Handled {
    let taken = call.channel.take(tag, multiple);
    let taken = taken.map_err(|unknown| unknown_tag(call, unknown, culprit))?;
    if let Mode::Transaction(gathered) = &mut call.channel.mode {
        gathered.size += taken.len();
        gathered.settlements.push((taken, outcome));
    } else {
        let messages = taken.into_iter().map(|(_, held)| held);
        call.channel.settle(messages, outcome, call.broker);
    }
    Ok(Answer::Nothing)
}

fn unknown_tag(call: &Call<'_>, unknown: UnknownTag, culprit: MethodId) -> Trouble {
    call.fault(ReplyCode::PreconditionFailed, unknown, culprit)
}

/// `basic.get`
pub(super) fn get(call: &mut Call<'_>, get: &BasicGet) -> Handled {
    let got = call.broker.get(&mut call.channel.link, &text(&get.queue), get.no_ack);
    match got.map_err(|error| call.refused(&error, BasicGet::ID))? {
        Some(got) => Ok(Answer::Got(Box::new(got))),
        None => Ok(Answer::Now(BasicGetEmpty::default().into())),
    }
}

/// `basic.get-ok`
pub(in crate::amqp) fn write_got(wire: &mut Wire, channel: &mut Channel, got: &Got) {
    let delivery_tag = match got.held {
        Some(held) => channel.tags.push(held),
        None => channel.tags.skip(),
    };
    let written = GetOk {
        delivery_tag,
        redelivered: got.redelivered,
        exchange: channel.names.exchange.of(&got.exchange),
        routing_key: channel.names.key.of(&got.routing_key),
        message_count: count(got.remaining),
        properties: &got.properties,
        body: &got.body,
    };
    wire.machine.get_ok(channel.number, &written, &mut wire.out);
}

/// `basic.consume`
pub(super) fn consume(call: &mut Call<'_>, consume: &BasicConsume) -> Handled {
    let tag = text(&consume.consumer_tag);
    if call.channel.link.has_consumer(&tag) {
        let text = format!("attempt to reuse consumer tag '{tag}'");
        return Err(call.fault(ReplyCode::NotAllowed, text, BasicConsume::ID));
    }
    let request = ConsumeRequest {
        queue: &text(&consume.queue),
        tag: &tag,
        no_ack: consume.no_ack,
        exclusive: consume.exclusive,
        arguments: &arguments(&consume.arguments),
    };
    let consuming = call.broker.consume(&mut call.channel.link, request);
    let (tag, lsn) = consuming.map_err(|error| call.refused(&error, BasicConsume::ID))?;
    let done = BasicConsumeOk { consumer_tag: ShortStr::cut(&tag) };
    Ok(reply(consume.no_wait, lsn, done))
}

/// `basic.cancel`: what is in the mailbox already is delivered before the reply.
pub(super) fn cancel(call: &mut Call<'_>, cancel: &BasicCancel) -> Handled {
    call.broker.cancel(&mut call.channel.link, &text(&cancel.consumer_tag));
    if cancel.no_wait {
        return Ok(Answer::Nothing);
    }
    let done = BasicCancelOk { consumer_tag: cancel.consumer_tag.clone() };
    Ok(Answer::Drained(done.into()))
}

/// `basic.qos`
pub(super) fn qos(call: &mut Call<'_>, qos: &BasicQos) -> Handled {
    if qos.prefetch_size != 0 {
        let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
        return Err(call.fault(ReplyCode::NotImplemented, text, BasicQos::ID));
    }
    let scope = if qos.global { PrefetchScope::Channel } else { PrefetchScope::Consumer };
    call.broker.qos(&mut call.channel.link, qos.prefetch_count, scope);
    Ok(Answer::Now(BasicQosOk {}.into()))
}

/// `basic.recover`
pub(super) fn recover(call: &mut Call<'_>, recover: &BasicRecover) -> Handled {
    requeue_all(call, recover.requeue, BasicRecover::ID)?;
    Ok(Answer::Now(BasicRecoverOk {}.into()))
}

/// `basic.recover-async`
pub(super) fn recover_async(call: &mut Call<'_>, recover: &BasicRecoverAsync) -> Handled {
    requeue_all(call, recover.requeue, BasicRecoverAsync::ID)?;
    Ok(Answer::Nothing)
}

fn requeue_all(call: &mut Call<'_>, requeue: bool, culprit: MethodId) -> Result<(), Trouble> {
    if !requeue {
        return Err(call.fault(ReplyCode::NotImplemented, "requeue=false", culprit));
    }
    call.broker.recover(&call.channel.link);
    drop(call.channel.tags.drain());
    Ok(())
}
