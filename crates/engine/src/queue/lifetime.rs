//! Consumers that come and go, the one active among them, and the end of a queue.

use super::command::{
    CancelReason, ChannelKey, Consume, ConsumerId, DeleteReason, Effect, Refusal,
};
use super::consumers::Consumers;
use super::delivery::Delayed;
use super::machine::Machine;
use super::settings::Order;
use crate::clock::Now;

impl Machine {
    pub(super) fn consume(&mut self, wish: Consume, now: Now, effects: &mut Vec<Effect>) {
        let busy = self.consumers.has_exclusive()
            || (wish.exclusive && (self.consumers.len() > 0 || self.settings.single_active));
        if busy {
            effects.push(Effect::Refused(Refusal::ExclusiveUse));
            return;
        }
        if self.consumers.len() >= CONSUMERS_MAX || self.consumers.get(wish.consumer).is_some() {
            effects.push(Effect::Refused(Refusal::TooManyConsumers));
            return;
        }
        self.consumers.insert(wish);
        self.had_consumer = true;
        self.last_used = now.monotonic;
        effects.push(Effect::Consuming { consumer: wish.consumer });
        self.replace_active();
    }

    pub(super) fn cancel(&mut self, consumer: ConsumerId, now: Now, effects: &mut Vec<Effect>) {
        if self.remove_consumer(consumer) {
            self.after_leaving(now, effects);
        }
    }

    /// The channel is gone: its consumers first, so that nothing comes back to them.
    pub(super) fn release(&mut self, channel: ChannelKey, now: Now, effects: &mut Vec<Effect>) {
        let consumers = self.consumers.of_channel(channel);
        for consumer in &consumers {
            self.remove_consumer(*consumer);
        }
        self.lose(channel, now, effects);
        self.consumers.forget_channel(channel);
        if consumers.is_empty() {
            return;
        }
        self.after_leaving(now, effects);
    }

    pub(super) fn remove_consumer(&mut self, consumer: ConsumerId) -> bool {
        if self.active == Some(consumer) {
            self.active = None;
        }
        self.consumers.remove(consumer).is_some()
    }

    /// Consumers have left: the next becomes active, or the queue is unused.
    pub(super) fn after_leaving(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.replace_active();
        if self.consumers.len() > 0 || !self.had_consumer {
            return;
        }
        self.last_used = now.monotonic;
        if self.settings.auto_delete {
            self.end(DeleteReason::Unused, effects);
        }
    }

    /// Chooses the active consumer if there is none, or if a more important one waits (quorum
    /// queues) and the active one has settled everything.
    pub(super) fn replace_active(&mut self) {
        self.draining = false;
        if !self.settings.single_active {
            self.active = None;
            return;
        }
        let by_priority = self.settings.order == Order::ReturnedFirst;
        let priority = |id| self.consumers.get(id).map_or(0, |consumer| consumer.wish.priority);
        let best = self.consumers.first(by_priority);
        match self.active.and_then(|id| self.consumers.get(id)) {
            Some(active) if !by_priority || best.map(priority) <= Some(active.wish.priority) => {}
            Some(active) if active.in_flight > 0 => self.draining = true,
            _ => self.active = best,
        }
    }

    pub(super) fn delete(&mut self, if_unused: bool, if_empty: bool, effects: &mut Vec<Effect>) {
        if if_unused && self.consumers.len() > 0 {
            effects.push(Effect::Refused(Refusal::InUse));
        } else if if_empty && self.ready.count() > 0 {
            effects.push(Effect::Refused(Refusal::NotEmpty));
        } else {
            self.end(DeleteReason::Asked, effects);
        }
    }

    pub(super) fn end(&mut self, reason: DeleteReason, effects: &mut Vec<Effect>) {
        for consumer in self.consumers.ids() {
            effects.push(Effect::CancelConsumer { consumer, reason: CancelReason::Deleted });
        }
        effects.push(Effect::Deleted { reason, ready: self.ready.count() });
        self.ready.clear();
        self.delayed = Delayed::default();
        self.consumers = Consumers::default();
        self.active = None;
        self.gone = true;
    }
}

/// Consumers of one queue; one more is refused.
const CONSUMERS_MAX: usize = 100_000;
