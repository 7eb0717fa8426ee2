//! Groups of the consumer protocol (KIP-848): a heartbeat is answered at once.

use ottla_store::{Lsn, Refused};

use super::share_config::consumer_settings;
use super::{GroupRefused, tell};
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::group::assignor::TopicId;
use crate::group::consumer::{Beat, BeatError, Beaten, Topics};
use crate::group::{GroupId, OtherProtocol};

/// Why a heartbeat was not even tried. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerRefused {
    /// Only a join makes a group. Kafka: `GROUP_ID_NOT_FOUND` (69).
    #[error("there is no such group")]
    NotFound,
    /// Kafka: `GROUP_ID_NOT_FOUND` (69).
    #[error(transparent)]
    OtherProtocol(#[from] OtherProtocol),
    /// By the engine.
    #[error(transparent)]
    Group(#[from] GroupRefused),
}

impl From<Refused> for ConsumerRefused {
    fn from(refused: Refused) -> Self {
        Self::Group(refused.into())
    }
}

impl Engine {
    /// ConsumerGroupHeartbeat. The reply waits for the returned place, also when it is an error.
    pub fn consumer(
        &self,
        id: &GroupId,
        beat: Beat,
    ) -> Result<(Result<Beaten, BeatError>, Lsn), ConsumerRefused> {
        let now = self.now();
        let catalog = self.catalog();
        let settings =
            consumer_settings(self.options.groups.consumer, catalog.group_settings(id.as_str()));
        let bytes = beat_bytes(&beat);
        let done = self.with_group(id, beat.epoch == 0, |group| {
            group.machine.configure_consumer(settings);
            let reservation = self.reserve_group(group, bytes)?;
            let (answer, effects) = group.machine.consumer(beat, &Known(&catalog), now)?;
            let ready = self.carry_out(group, effects, Some(reservation));
            Ok((answer, group.changed, ready))
        })?;
        drop(catalog);
        let (answer, lsn, ready) = done.unwrap_or(Err(ConsumerRefused::NotFound))?;
        tell(ready); // classic members that waited, of a group that has moved
        Ok((answer, lsn))
    }
}

/// The topics that exist, as a group has to know them.
pub(super) struct Known<'a>(pub(super) &'a Catalog);

impl Topics for Known<'_> {
    fn version(&self) -> u64 {
        self.0.changed().0
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        self.0.topic(name).map(|topic| (TopicId(topic.id().0), count(topic)))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, TopicId, u32)) {
        for topic in self.0.topics() {
            visit(topic.name(), TopicId(topic.id().0), count(topic));
        }
    }
}

fn count(topic: &crate::topic::Topic) -> u32 {
    u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX)
}

/// What a heartbeat may add to a fact.
fn beat_bytes(beat: &Beat) -> usize {
    let topics: usize = beat.topics.iter().flatten().map(|topic| topic.len() + 64).sum();
    let texts = [&beat.rack, &beat.regex, &beat.assignor];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    let names = beat.member.as_str().len() + beat.client_id.len() + beat.client_host.len();
    topics + texts + 2 * names + super::FACT_BYTES
}
