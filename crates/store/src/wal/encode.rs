//! A planned group as the bytes to be written: small bodies copied, large ones gathered.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::layout::{GROUP_HEADER_BYTES, GroupHeader, Kind, padded};
use super::stage::{GroupPlan, StagedFrame};
use crate::StreamId;
use crate::limits::COPY_BYTES_MAX;

/// A group ready for one gathered write.
#[derive(Debug)]
pub(crate) struct EncodedGroup {
    pub(crate) base: u64,
    pub(crate) end: u64,
    /// To be written one after another from `base` on.
    pub(crate) parts: Vec<Bytes>,
    pub(crate) chain: u32,
    /// Partitions with batches in the group, ascending.
    pub(crate) partitions: Vec<StreamId>,
    pub(crate) staged_bytes: u64,
}

enum Part {
    Copied(Range<usize>),
    Gathered(Bytes),
}

/// Builds the bytes of `plan`.
pub(crate) fn encode(
    plan: &GroupPlan,
    generation: u64,
    durable_upto: u64,
    prev_chain: u32,
) -> EncodedGroup {
    let mut builder = Builder::new(plan);
    for frame in &plan.frames {
        builder.frame(frame);
    }
    let body = plan.bytes - GROUP_HEADER_BYTES as u64;
    let padding = padded(plan.bytes) - plan.bytes;
    builder.pad(usize::try_from(padding).unwrap_or(0));
    let header = GroupHeader {
        generation,
        lsn: plan.base,
        body_bytes: u32::try_from(body).unwrap_or(u32::MAX),
        frames: u32::try_from(plan.frames.len()).unwrap_or(u32::MAX),
        durable_upto,
        prev_chain,
        headers_crc: builder.headers_crc,
    };
    let (bytes, chain) = header.encode();
    let mut partitions = std::mem::take(&mut builder.partitions);
    partitions.sort_unstable();
    partitions.dedup();
    let parts = builder.finish(&bytes);
    let staged_bytes = plan.frames.iter().map(|frame| frame.bytes).sum();
    EncodedGroup { base: plan.base, end: plan.end(), parts, chain, partitions, staged_bytes }
}

struct Builder {
    copied: BytesMut,
    /// Where the current run of copied bytes began.
    run: usize,
    parts: Vec<Part>,
    headers_crc: u32,
    partitions: Vec<StreamId>,
}

impl Builder {
    fn new(plan: &GroupPlan) -> Self {
        let gathered: usize = plan
            .frames
            .iter()
            .flat_map(|frame| &frame.items)
            .map(|item| item.body.len())
            .filter(|bytes| *bytes >= COPY_BYTES_MAX)
            .sum();
        let bytes = usize::try_from(padded(plan.bytes)).unwrap_or(0).saturating_sub(gathered);
        let mut copied = BytesMut::with_capacity(bytes);
        copied.resize(GROUP_HEADER_BYTES, 0);
        Self { copied, run: 0, parts: Vec::new(), headers_crc: 0, partitions: Vec::new() }
    }

    fn frame(&mut self, frame: &StagedFrame) {
        let length = u32::try_from(frame.bytes).unwrap_or(u32::MAX).to_le_bytes();
        let items = u32::try_from(frame.items.len()).unwrap_or(u32::MAX).to_le_bytes();
        for bytes in [length, items] {
            self.header(&bytes);
        }
        for item in &frame.items {
            self.header(&item.header.encode());
            self.copied.extend_from_slice(&item.head);
            if item.header.kind == Kind::Batch {
                self.partitions.push(StreamId(item.header.stream));
            }
            if item.body.len() < COPY_BYTES_MAX {
                self.copied.extend_from_slice(&item.body);
            } else {
                self.close_run();
                self.parts.push(Part::Gathered(item.body.clone()));
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) {
        self.headers_crc = crc32c::crc32c_append(self.headers_crc, bytes);
        self.copied.extend_from_slice(bytes);
    }

    fn pad(&mut self, bytes: usize) {
        self.copied.resize(self.copied.len() + bytes, 0);
    }

    fn close_run(&mut self) {
        if self.run < self.copied.len() {
            self.parts.push(Part::Copied(self.run..self.copied.len()));
            self.run = self.copied.len();
        }
    }

    fn finish(mut self, header: &[u8; GROUP_HEADER_BYTES]) -> Vec<Bytes> {
        self.close_run();
        if let Some(front) = self.copied.get_mut(..GROUP_HEADER_BYTES) {
            front.copy_from_slice(header);
        }
        let copied = self.copied.freeze();
        let whole = |part| match part {
            Part::Copied(range) => copied.slice(range),
            Part::Gathered(body) => body,
        };
        self.parts.into_iter().map(whole).collect()
    }
}
