//! The frames of a run, encoded before it begins.

use bytes::{BufMut, BytesMut};
use ottla_amqp_proto::ShortStr;
use ottla_amqp_proto::methods::BasicPublish;
use ottla_amqp_proto::write_method_frame;

use super::args::Load;
use super::wire::{CHANNEL, FRAME_MAX};
use crate::Failure;
use crate::noise::noise;

/// Messages to all queues of a run in turn, one behind the other.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Of one message: all are as long.
    len: usize,
    queues: usize,
    /// The queue whose turn it is.
    turn: usize,
    /// Most messages in one slice.
    run: usize,
}

impl Frames {
    pub(super) fn new(load: &Load) -> Result<Self, Failure> {
        let queues = usize::try_from(load.queues.max(1))?;
        let first = message(load, 0)?;
        let run = (SLICE_BYTES / first.len()).clamp(1, SLICE_MAX);
        let mut bytes = Vec::with_capacity(first.len() * (queues + run));
        for (_, queue) in (0..queues + run).zip((0..load.queues.max(1)).cycle()) {
            bytes.extend_from_slice(&message(load, queue)?);
        }
        Ok(Self { bytes, len: first.len(), queues, turn: 0, run })
    }

    /// The next messages, at most `count` of them, and how many they are.
    pub(super) fn take(&mut self, count: usize) -> (&[u8], usize) {
        let count = count.min(self.run);
        let from = self.turn * self.len;
        self.turn = (self.turn + count) % self.queues;
        (self.bytes.get(from..from + count * self.len).unwrap_or_default(), count)
    }
}

/// A publish through the default exchange with its header and its body.
fn message(load: &Load, queue: u32) -> Result<BytesMut, Failure> {
    let size = u32::try_from(load.body_bytes)?;
    if size == 0 || size > FRAME_MAX - 8 {
        return Err(format!("a body of 1 to {} bytes", FRAME_MAX - 8).into());
    }
    let mut out = BytesMut::new();
    let routing_key = ShortStr::try_from(load.queue_name(queue))?;
    let publish = BasicPublish { routing_key, ..Default::default() };
    write_method_frame(CHANNEL, &publish.into(), &mut out);
    out.put_slice(&[2, 0, 1, 0, 0, 0, 15, 0, 60, 0, 0]); // header frame, class basic, no weight
    out.put_u64(u64::from(size));
    let delivery_mode = if load.persistent { 2 } else { 1 };
    out.put_slice(&[0x10, 0, delivery_mode, FRAME_END]); // the one property there is
    out.put_slice(&[3, 0, 1]);
    out.put_u32(size);
    out.put_slice(&noise(load.body_bytes));
    out.put_u8(FRAME_END);
    Ok(out)
}

/// A `basic.ack` of a client.
pub(super) fn ack(tag: u64, multiple: bool) -> [u8; 21] {
    let mut frame = [0; 21];
    let [start @ .., _, _, _, _, _, _, _, _, bits, end] = &mut frame;
    *start = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80];
    (*bits, *end) = (u8::from(multiple), FRAME_END);
    if let Some(place) = frame.get_mut(11..19) {
        place.copy_from_slice(&tag.to_be_bytes());
    }
    frame
}

const FRAME_END: u8 = 0xCE;
/// Messages sent by one write.
const SLICE_MAX: usize = 1024;
const SLICE_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ottla_amqp_proto::methods::BasicAck;
    use ottla_amqp_proto::{Assembler, DeliveryTag, Method, split_frame};

    use super::*;
    use crate::amqp::Amqp;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        amqp: Amqp,
    }

    fn load(line: &[&str]) -> Load {
        Line::parse_from(["b", "flow"].iter().chain(line)).amqp.load
    }

    #[test]
    fn a_slice_holds_whole_publishes_to_the_queues_in_turn() {
        let load = load(&["--queues", "3", "--body-bytes", "16", "--persistent"]);
        let mut frames = Frames::new(&load).unwrap();
        frames.take(2);
        let (bytes, count) = frames.take(2);
        assert_eq!(count, 2);
        let mut input = BytesMut::from(bytes);
        let (mut assembler, mut keys) = (Assembler::default(), Vec::new());
        while let Some(frame) = split_frame(&mut input, FRAME_MAX).unwrap() {
            let Some(command) = assembler.push(frame, 1 << 20).unwrap() else { continue };
            let (Method::BasicPublish(publish), Some(content)) = (command.method, command.content)
            else {
                panic!("not a publish")
            };
            assert_eq!(content.body.len(), 16);
            assert_eq!(
                content.properties.delivery_mode(),
                ottla_amqp_proto::DeliveryMode::Persistent
            );
            keys.push(publish.routing_key.to_string());
        }
        assert_eq!(keys, ["ottla-bench-000002", "ottla-bench-000000"]);
        assert!(input.is_empty());
    }

    #[test]
    fn an_acknowledgement_is_the_one_of_the_codec() {
        let mut encoded = BytesMut::new();
        let method = BasicAck { delivery_tag: DeliveryTag(300), multiple: true };
        write_method_frame(CHANNEL, &method.into(), &mut encoded);
        assert_eq!(encoded[..], ack(300, true));
    }
}
