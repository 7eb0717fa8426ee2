//! Messages from one queue to another, by hand: each leaves and arrives in one frame (store.md rule 9).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_store::{Lsn, Purpose};

use super::peek::PEEK_MAX;
use crate::broker::Broker;
use crate::broker::arrive::{Arriving, Leaving};
use crate::broker::connection::Channel;
use crate::broker::effects::Work;
use crate::broker::error::BrokerError;
use crate::broker::message::{Head, Message};
use crate::broker::properties::Properties;
use crate::broker::queue::Queue;
use crate::broker::request::Seq;
use crate::clock::Now;
use crate::queue::{Command, Deaths, Entry};
use crate::value::Arguments;
use crate::vhost::{Access, Resource};

/// Where messages go.
#[derive(Clone, Copy, Debug)]
pub enum MoveTarget<'a> {
    /// To this queue; they keep exchange, routing key and properties.
    Queue(&'a str),
    /// To the queue where each died last, under the exchange and routing keys it had there (`x-death`).
    /// What has never died stays.
    WhereItDied,
}

/// Which messages; all of what is said must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The queue where it died last.
    pub died_in: Option<String>,
    /// Why it died last.
    pub reason: Option<String>,
    /// Its routing key.
    pub routing_key: Option<String>,
    /// A header with this text or number.
    pub header: Option<(String, String)>,
    /// A part of its body.
    pub contains: Option<Bytes>,
    /// Ready messages to pass over: those looked at before, which stayed.
    pub skip: usize,
    /// Messages to look at, at most.
    pub look_at: usize,
    /// Messages to move, at most.
    pub most: usize,
}

/// What was moved, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Messages, by queue they went to.
    pub targets: BTreeMap<String, u64>,
    /// Messages that were looked at.
    pub examined: u64,
    /// Messages among them that stayed: not asked for, never died, target gone or full.
    pub stayed: u64,
    /// Those that stayed although the filter asked for them, by what kept them.
    pub kept: BTreeMap<String, u64>,
    /// The answer waits for this place.
    pub lsn: Option<Lsn>,
}

/// A message that is asked for, and where it would go.
struct Plan {
    entry: Entry,
    message: Message,
    target: Arc<Queue>,
}

impl Broker {
    /// Moves ready messages to other queues, one frame each. Messages that consumers hold are not ready.
    ///
    /// # Errors
    /// 404, 403, 405; 406 for a stream, or a move to where the messages are.
    pub fn move_messages(
        &self,
        channel: &Channel,
        from: &str,
        to: MoveTarget<'_>,
        filter: &Filter,
    ) -> Result<Moved, BrokerError> {
        let (source, mut moved, plans) = self.plan_moves(channel, from, to, filter)?;
        let now = self.clock.now();
        let mut work = Work::default();
        for plan in plans {
            let name = plan.target.name.to_string();
            match self.move_one(&source, plan, now, &mut work)? {
                Ok(lsn) => {
                    moved.lsn = moved.lsn.max(lsn);
                    *moved.targets.entry(name).or_default() += 1;
                }
                Err(why) => moved.keep(why),
            }
        }
        self.finish(work, now);
        Ok(moved)
    }

    /// What [`move_messages`](Self::move_messages) would do.
    ///
    /// # Errors
    /// The same.
    pub fn preview_moves(
        &self,
        channel: &Channel,
        from: &str,
        to: MoveTarget<'_>,
        filter: &Filter,
    ) -> Result<Moved, BrokerError> {
        let (_, mut moved, plans) = self.plan_moves(channel, from, to, filter)?;
        for plan in plans {
            *moved.targets.entry(plan.target.name.to_string()).or_default() += 1;
        }
        Ok(moved)
    }

    fn plan_moves(
        &self,
        channel: &Channel,
        from: &str,
        to: MoveTarget<'_>,
        filter: &Filter,
    ) -> Result<(Arc<Queue>, Moved, Vec<Plan>), BrokerError> {
        let source = self.readable(channel, from)?;
        self.permit(&self.state(), channel, Access::Write, Resource::Exchange(""))?;
        let target = match to {
            MoveTarget::WhereItDied => None,
            MoveTarget::Queue(name) => Some(self.find_queue(&self.state(), channel, name)?),
        };
        let streams = [Some(&source), target.as_ref()].into_iter().flatten();
        for queue in streams {
            if queue.is_stream() {
                let text =
                    format!("'{}' is a stream: its messages stay where they are", queue.name);
                return Err(BrokerError::precondition(text));
            }
        }
        if target.as_ref().is_some_and(|target| target.id == source.id) {
            return Err(BrokerError::precondition("the messages are in that queue already"));
        }
        let upto = filter.skip.saturating_add(filter.look_at).min(PEEK_MAX);
        let entries = source.lock().machine.browse(upto);
        let mut moved = Moved::default();
        let mut plans = Vec::new();
        for entry in entries.into_iter().skip(filter.skip) {
            if plans.len() >= filter.most {
                break;
            }
            moved.examined += 1;
            match self.plan(channel, &source, entry, target.as_ref(), filter) {
                Some(Ok(plan)) => plans.push(plan),
                Some(Err(why)) => moved.keep(why),
                None => moved.stayed += 1,
            }
        }
        Ok((source, moved, plans))
    }

    /// `None` if the filter does not ask for it; an error says what keeps it.
    fn plan(
        &self,
        channel: &Channel,
        source: &Arc<Queue>,
        entry: Entry,
        target: Option<&Arc<Queue>>,
        filter: &Filter,
    ) -> Option<Result<Plan, String>> {
        let place = source.lock().slots.get(Seq(entry.seq.0))?.source();
        let message = self.load(&place)?;
        let headers = Properties::parse(&message.properties)?.headers();
        let deaths = Deaths::read(&headers);
        if !filter.asks_for(&message, &headers, &deaths) {
            return None;
        }
        let now = self.clock.now();
        let head = Head { arrived: now.wall, ..message.head };
        if let Some(target) = target {
            let target = Arc::clone(target);
            let message = Message { head, ..(*message).clone() };
            return Some(Ok(Plan { entry, message, target }));
        }
        let Some(death) = deaths.last() else { return Some(Err("it has never died".to_owned())) };
        let Some(target) = self.state().find(channel.vhost(), death.queue) else {
            return Some(Err(format!("there is no queue '{}'", death.queue)));
        };
        if target.id == source.id || target.is_stream() {
            return Some(Err(format!("it died in '{}'", death.queue)));
        }
        let message = Message {
            head: Head { expiration: None, ..head },
            exchange: death.exchange.into(),
            keys: death.routing_keys.into_iter().map(Arc::from).collect(),
            ..(*message).clone()
        };
        Some(Ok(Plan { entry, message, target }))
    }

    /// Moves one message. An error inside says what kept it where it was.
    fn move_one(
        &self,
        source: &Arc<Queue>,
        plan: Plan,
        now: Now,
        work: &mut Work,
    ) -> Result<Result<Option<Lsn>, String>, BrokerError> {
        let Plan { entry, message, target } = plan;
        if !source.lock().machine.withdraw(&entry) {
            return Ok(Err("a consumer was faster".to_owned()));
        }
        let name = Arc::clone(&target.name);
        let message = Arc::new(message);
        let arriving = [Arriving { message, targets: [target].into(), after: None }];
        let seqs = vec![Seq(entry.seq.0)];
        let leaving = [Leaving { queue: Arc::clone(source), seqs, with: Some(0) }];
        let outcome = self.arrive(Purpose::Shrink, &arriving, &leaving, now, work);
        let arrived = outcome.as_ref().ok().and_then(|(arrived, _)| arrived.first().copied());
        if arrived.is_some_and(|arrived| arrived.taken && !arrived.rejected) {
            return Ok(Ok(outcome.ok().and_then(|(_, lsn)| lsn)));
        }
        let mut state = source.lock();
        state.machine.put_back(entry);
        self.apply(source, &mut state, Command::Tick, now, work);
        drop(state);
        outcome?;
        Ok(Err(format!("'{name}' is full or gone")))
    }
}

impl Moved {
    fn keep(&mut self, why: String) {
        self.stayed += 1;
        if self.kept.len() < REASONS_MAX || self.kept.contains_key(&why) {
            *self.kept.entry(why).or_default() += 1;
        }
    }
}

impl Filter {
    fn asks_for(&self, message: &Message, headers: &Arguments, deaths: &Deaths) -> bool {
        let last = deaths.last();
        let same = |wanted: &Option<String>, got: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| got == Some(wanted))
        };
        let header = self.header.as_ref().is_none_or(|(name, value)| {
            headers.get(name).is_some_and(|found| found.to_string() == *value)
        });
        let contains = self.contains.as_ref().is_none_or(|part| {
            part.is_empty() || message.body.windows(part.len()).any(|window| window == &part[..])
        });
        same(&self.died_in, last.as_ref().map(|death| death.queue))
            && same(&self.reason, last.as_ref().map(|death| death.reason))
            && same(&self.routing_key, Some(&*message.routing_key()))
            && header
            && contains
    }
}

/// What keeps messages is told in at most this many words.
const REASONS_MAX: usize = 16;
