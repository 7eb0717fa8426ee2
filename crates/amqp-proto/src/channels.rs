//! The channels of one connection, found by number in one step.

use crate::channel::Assembler;
use crate::ids::ChannelId;

/// Where a channel stands.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every channel is open: a box would cost all")]
pub(crate) enum State {
    /// Open; holds what is between the frames of a message.
    Open(Assembler),
    /// We sent `channel.close`: everything but close and close-ok is ignored (§1.5.2.5).
    Closing,
    /// The client sent `channel.close`: the session owes close-ok.
    Leaving,
}

/// The channels that are not closed.
///
/// Invariant: `places[id]` is one more than the index of `id` in `channels`, or 0.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    places: Vec<u32>, // as long as the highest number used, at most 65,536
    channels: Vec<(ChannelId, State)>,
}

impl Channels {
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    pub(crate) fn get(&mut self, id: ChannelId) -> Option<&mut State> {
        let place = self.place(id)?;
        self.channels.get_mut(place).map(|(_, state)| state)
    }

    pub(crate) fn is_open(&self, id: ChannelId) -> bool {
        let channel = self.place(id).and_then(|place| self.channels.get(place));
        matches!(channel, Some((_, State::Open(_))))
    }

    /// Adds a channel that is not there.
    pub(crate) fn open(&mut self, id: ChannelId) {
        assert!(self.place(id).is_none(), "a channel opened twice");
        self.channels.push((id, State::Open(Assembler::default())));
        self.set_place(id, self.channels.len());
    }

    pub(crate) fn remove(&mut self, id: ChannelId) {
        let Some(place) = self.place(id) else { return };
        self.channels.swap_remove(place);
        self.set_place(id, 0);
        if let Some((moved, _)) = self.channels.get(place) {
            self.set_place(*moved, place + 1);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn place(&self, id: ChannelId) -> Option<usize> {
        let place = *self.places.get(usize::from(id.0))?;
        usize::try_from(place).ok()?.checked_sub(1)
    }

    fn set_place(&mut self, id: ChannelId, place: usize) {
        let index = usize::from(id.0);
        if self.places.len() <= index {
            self.places.resize(index + 1, 0);
        }
        if let Some(slot) = self.places.get_mut(index) {
            *slot = u32::try_from(place).unwrap_or(0);
        }
    }
}
