//! What the operator decides about groups, and the bounds.

/// Settings and bounds of classic groups; Kafka's names in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Shortest session in milliseconds (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: u32,
    /// Longest session in milliseconds (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: u32,
    /// How long the first join of an empty group waits for company, in milliseconds
    /// (`group.initial.rebalance.delay.ms`); 0 here, 3 s in Kafka.
    pub initial_delay_ms: u32,
    /// Members of a group, and as many newcomers that have not come again with their id
    /// (`group.max.size`); more are told that the group is full.
    pub members_max: usize,
    /// How long a newcomer waits in its first join, in milliseconds; Kafka has 5 minutes.
    pub newcomer_timeout_ms: u32,
    /// Bytes of protocol names and metadata of all members, and of one generation's assignments:
    /// what fits into one frame of the log with room to spare. More is refused.
    pub metadata_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_delay_ms: 0,
            members_max: 10_000,
            newcomer_timeout_ms: 300_000,
            metadata_bytes_max: 16 << 20,
        }
    }
}
