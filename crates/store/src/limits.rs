//! Every bound of the store.

/// Bytes of a frame with its items. Larger Kafka batches and AMQP messages are refused at the border.
pub const FRAME_BYTES_MAX: usize = 48 << 20;
/// Bytes that groups are aligned and padded to: a synced page is never written again.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a group unless one frame is larger.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
/// Items in a frame; a frame with more is refused by [`Store::reserve`](crate::Store::reserve).
pub const FRAME_ITEMS_MAX: usize = 1 << 20;
/// Queues one message may be routed to.
pub const MESSAGE_QUEUES_MAX: usize = 100_000;
/// Bytes of the first WAL segment and of the one each recovery starts.
pub const FIRST_SEGMENT_BYTES: u64 = 4 << 20;
/// Bodies below this are copied into the group's buffer, larger ones are gathered by the write.
pub const COPY_BYTES_MAX: usize = 4096;
/// Frames up to this size may use all of the unsynced bytes, larger ones half of them.
pub const SMALL_FRAME_BYTES_MAX: usize = 64 << 10;
/// Parts of one gathered write; groups with more are written in several calls.
pub const WRITE_PARTS_MAX: usize = 512;

const _: () = assert!(GROUP_BYTES_MAX < FRAME_BYTES_MAX && FRAME_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(FIRST_SEGMENT_BYTES.is_multiple_of(PAGE_BYTES as u64));
