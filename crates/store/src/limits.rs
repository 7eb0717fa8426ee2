//! Every bound of the store.

/// Bytes of a frame with its items. Larger Kafka batches and AMQP messages are refused at the border.
pub const FRAME_BYTES_MAX: usize = 48 << 20;
/// Bytes that groups are aligned and padded to: a synced page is never written again.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a group unless one frame is larger.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
