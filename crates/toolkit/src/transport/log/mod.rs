//! Groups over a partitioned log inside one process: what the memory and the embedded transport share.

mod group;
mod murmur;
mod pump;
mod tracker;

use std::fmt::Debug;

use tokio::sync::watch;

use crate::envelope::Envelope;
use crate::error::Result;

pub(crate) use self::group::Group;
pub(crate) use self::murmur::partition_of;
pub(crate) use self::pump::{Reading, subscribe};
#[cfg(feature = "kafka")]
pub(crate) use self::tracker::Tracker;

/// Partitions of one topic, as a reader needs them.
pub(crate) trait PartitionLog: Debug + Send + Sync + 'static {
    /// How many there are.
    fn partitions(&self) -> u32;

    /// The first offset that exists, and the one behind the last that can be read.
    fn bounds(&self, partition: u32) -> Result<(u64, u64)>;

    /// At most about `max` records from an offset on.
    fn read(&self, partition: u32, from: u64, max: usize) -> Result<Piece>;

    /// Where a group goes on.
    fn committed(&self, group: &str, partition: u32) -> Option<u64>;

    /// Where a group will go on.
    fn commit(&self, group: &str, positions: &[(u32, u64)]) -> Result<()>;

    /// Changes when there is more to read.
    fn arrivals(&self) -> watch::Receiver<u64>;
}

/// Records of a partition.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// With their offsets, ascending.
    pub(crate) records: Vec<(u64, Envelope)>,
    /// Where to read next.
    pub(crate) next: u64,
}
