//! One channel of a session: what it owes, what it is owed, and what waits its turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ottla_amqp_proto::{
    ChannelId, Confirms, DeliveryTag, Event, Method, Publish, ShortStr, Tags, UnknownTag,
};
use ottla_engine::Lsn;
use ottla_engine::broker::{self, Broker, Got, Held};
use ottla_engine::queue::Outcome;

/// One open channel.
///
/// A channel does one thing after the other: while `wait` is set, what the client sends stays in
/// `backlog`, so that replies and faults come in order.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) number: ChannelId,
    pub(super) link: broker::Channel,
    /// Delivered and not settled.
    pub(super) tags: Tags<Held>,
    pub(super) mode: Mode,
    pub(super) wait: Option<Wait>,
    pub(super) backlog: VecDeque<Event>,
    pub(super) names: Names,
    settled: Vec<Held>,
    outcome: Outcome,
    /// Whether the session has it in its list of channels that need a look.
    pub(super) listed: bool,
}

/// How publishes are answered.
#[derive(Debug, Default)]
pub(super) enum Mode {
    /// Not at all.
    #[default]
    Plain,
    /// `confirm.select`
    Confirm(Confirms),
    /// `tx.select`
    Transaction(Gathered),
}

/// What a transaction has gathered so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) publishes: Vec<Publish>,
    pub(super) settlements: Vec<(Vec<(DeliveryTag, Held)>, Outcome)>,
    /// Bytes and entries, against the bound.
    pub(super) size: usize,
}

/// What a channel waits for before it goes on.
#[derive(Debug)]
pub(super) enum Wait {
    /// To say this.
    Reply(Lsn, Method),
    /// To hand this out.
    Got(Box<Got>),
    /// To do what stands first in its backlog.
    Log(Lsn),
    /// To try again at this time.
    Until(Duration),
}

/// The names of the last delivery as the wire has them: mostly those of the next one too.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) consumer: Name,
    pub(super) exchange: Name,
    pub(super) key: Name,
}

/// A name in both worlds.
#[derive(Debug, Default)]
pub(super) struct Name {
    known: Option<Arc<str>>,
    wire: ShortStr,
}

impl Channel {
    pub(super) fn new(number: ChannelId, link: broker::Channel) -> Self {
        Self {
            number,
            link,
            tags: Tags::new(),
            mode: Mode::Plain,
            wait: None,
            backlog: VecDeque::new(),
            names: Names::default(),
            settled: Vec::new(),
            outcome: Outcome::Ack,
            listed: false,
        }
    }

    /// Takes what the tags stand for out of the outstanding deliveries: one, or all up to it.
    pub(super) fn take(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
    ) -> Result<Vec<(DeliveryTag, Held)>, UnknownTag> {
        if !multiple {
            return self.tags.settle(tag).map(|held| vec![(tag, held)]);
        }
        let upto = if tag == DeliveryTag(0) { DeliveryTag(u64::MAX) } else { tag };
        let tags: Vec<DeliveryTag> =
            self.tags.iter().map(|(tag, _)| tag).take_while(|tag| *tag <= upto).collect();
        let held = self.tags.settle_through(tag)?;
        Ok(tags.into_iter().zip(held).collect())
    }

    /// Settles messages; those of one outcome in a row become one call, see
    /// [`flush`](Self::flush).
    pub(super) fn settle(
        &mut self,
        messages: impl IntoIterator<Item = Held>,
        outcome: Outcome,
        broker: &Broker,
    ) {
        if self.outcome != outcome {
            self.flush(broker);
            self.outcome = outcome;
        }
        self.settled.extend(messages);
    }

    /// Settles one acknowledged delivery, the frequent case.
    pub(super) fn acknowledge(
        &mut self,
        tag: DeliveryTag,
        broker: &Broker,
    ) -> Result<(), UnknownTag> {
        let held = self.tags.settle(tag)?;
        self.settle([held], Outcome::Ack, broker);
        Ok(())
    }

    /// Hands over what was settled since the last time.
    pub(super) fn flush(&mut self, broker: &Broker) {
        if !self.settled.is_empty() {
            broker.settle(&self.link, &self.settled, self.outcome);
            self.settled.clear();
        }
    }

    /// Whether its `consume-ok` waits, which comes before any delivery.
    pub(super) fn is_consuming(&self) -> bool {
        matches!(self.wait, Some(Wait::Reply(_, Method::BasicConsumeOk(_))))
    }

    /// The place in the log it waits for, if any.
    pub(super) fn waits_for(&self) -> Option<Lsn> {
        let wait = match self.wait {
            Some(Wait::Reply(lsn, _) | Wait::Log(lsn)) => Some(lsn),
            Some(Wait::Got(ref got)) => Some(got.lsn),
            _ => None,
        };
        let confirm = match &self.mode {
            Mode::Confirm(confirms) => confirms.waits_for().map(Lsn),
            _ => None,
        };
        wait.into_iter().chain(confirm).min()
    }

    /// Whether the session has to come back to it by itself.
    pub(super) fn is_busy(&self) -> bool {
        self.wait.is_some() || self.unconfirmed() > 0
    }

    pub(super) fn unconfirmed(&self) -> usize {
        match &self.mode {
            Mode::Confirm(confirms) => confirms.len(),
            _ => 0,
        }
    }
}

impl Name {
    /// `name` as the wire has it.
    pub(super) fn of(&mut self, name: &Arc<str>) -> &ShortStr {
        let same =
            self.known.as_ref().is_some_and(|known| Arc::ptr_eq(known, name) || known == name);
        if !same {
            self.known = Some(Arc::clone(name));
            self.wire = ShortStr::cut(name);
        }
        &self.wire
    }
}
