//! Groups in the engine: each a pure machine and its offsets behind one lock, their facts in the log.
//!
//! A command is applied under the group's lock; what it wants remembered is one fact, and every answer
//! about the group waits for its newest fact (store.md rules 3, 10 and 19).

mod consumers;
mod dead_letters;
mod offsets;
mod share_config;
mod shares;
mod sweep;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose, Refused};

pub use self::consumers::ConsumerRefused;
use self::consumers::Known;
use self::dead_letters::Burials;
pub use self::dead_letters::{
    AUTO_CREATE as DEAD_LETTERS_AUTO_CREATE, NAME_PREFIX as DEAD_LETTERS_PREFIX,
};
pub(super) use self::offsets::forget_topic;
pub use self::offsets::{CommitFailure, CommitRefused, Commits};
pub use self::share_config::{
    GROUP_SETTINGS, GroupSetting, GroupValues, ShareConfig, ShareReset, check_group_setting,
};
pub use self::shares::{ShareAcks, ShareFetchError, ShareWant, Shared, part_of};
use self::sweep::Sweep;
pub use self::view::{DeleteGroupError, GroupSummary};
use super::Engine;
use crate::clock::{Monotonic, Now};
use crate::fact::{Fact, encode};
use crate::group::classic::{
    Answer, ClassicGroup, ClassicRecord, Command, HeartbeatError, Join, JoinError, LeaveError,
    Sync, SyncError,
};
use crate::group::{
    Effect, Group as Machine, GroupEffect, GroupId, GroupRecord, GroupSettings, RememberedGroup,
    Ticket,
};
use crate::waiters::Waiters;

/// Takes the answer to a request that may have waited, and the place that the reply waits for.
pub type Reply = Box<dyn FnOnce(Answer, Lsn) + Send>;

/// Every group.
pub(super) struct Groups {
    table: RwLock<BTreeMap<GroupId, Arc<GroupCell>>>,
    /// When which group has something to do.
    due: Mutex<BTreeSet<(Monotonic, GroupId)>>,
    tickets: AtomicU64,
    /// The place of the newest deletion of a group: whoever is told that there is none waits for it.
    removed: AtomicU64,
    sweep: Mutex<Sweep>,
    burials: Burials,
    settings: GroupSettings,
}

/// A group and its lock. Several are locked in ascending order of their names.
pub(super) struct GroupCell {
    group: Mutex<Group>,
    /// Members of a share group that wait for records.
    waiters: Waiters,
    /// It was said that its dead letters cannot be written.
    without_letters: AtomicBool,
}

/// What the engine knows of a group.
pub(super) struct Group {
    id: GroupId,
    pub(super) machine: Machine,
    /// The place of its newest fact.
    pub(super) changed: Lsn,
    /// Taken out of the table: look again.
    gone: bool,
    waiting: HashMap<Ticket, Reply>,
    /// Its place in `due`; never later than the machine's deadline.
    scheduled: Option<Monotonic>,
    /// About the bytes of the largest fact that the machine may ask for next.
    footprint: usize,
}

/// Why a request to a group was not even tried. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupRefused {
    /// There is no room for another group. Kafka: `COORDINATOR_NOT_AVAILABLE` (15).
    #[error("there are too many groups")]
    TooMany,
    /// The log takes nothing now. Kafka: `COORDINATOR_LOAD_IN_PROGRESS` (14), so that clients retry.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// An answer whose time has come; told outside the group's lock.
pub(super) struct Ready {
    reply: Reply,
    answer: Answer,
    lsn: Lsn,
}

impl Engine {
    /// How a request to a group is known until it is answered.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.groups.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Chance for a new member's id.
    pub fn draw_uuid(&self) -> [u8; 16] {
        self.chance().uuid()
    }

    /// Carries out a command of the classic protocol. `reply` is called exactly once, now or when the
    /// group has come so far, unless the command was refused.
    pub fn classic(
        &self,
        id: &GroupId,
        command: Command,
        reply: Reply,
    ) -> Result<(), GroupRefused> {
        let now = self.now();
        let catalog = self.catalog();
        let create = matches!(&command, Command::Join(join) if join.member.is_none());
        let reply = Mutex::new(Some(reply)); // goes one of two ways
        let take = || reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ready = self.with_group(id, create, |group| {
            let (bytes, before) = (command_bytes(&command), group.footprint);
            if matches!(command, Command::Join(_)) {
                group.footprint += bytes;
            }
            let reservation = match &command {
                Command::Heartbeat(_) => None, // nothing of it is remembered
                _ => match self.reserve_group(group, bytes) {
                    Ok(reservation) => Some(reservation),
                    Err(refused) => {
                        group.footprint = before;
                        return Err(refused.into());
                    }
                },
            };
            if let Some(reply) = take() {
                group.waiting.insert(command.ticket(), reply);
            }
            let effects = match group.machine.classic(command.clone(), &Known(&catalog), now) {
                Ok(effects) => effects,
                Err(_) => {
                    vec![Effect::Reply { ticket: command.ticket(), answer: foreign(&command) }]
                }
            };
            if effects.iter().any(|effect| refuses(effect, command.ticket())) {
                group.footprint = before; // else refused members would fill the group up
            }
            Ok::<_, GroupRefused>(self.carry_out(group, effects, reservation))
        })?;
        drop(catalog);
        match ready {
            Some(ready) => tell(ready?),
            None => self.answer_absent(command, take(), now),
        }
        Ok(())
    }

    /// Nobody has such a group: the words of an empty one.
    fn answer_absent(&self, command: Command, reply: Option<Reply>, now: Now) {
        let effects = ClassicGroup::new(self.groups.settings.classic).apply(command, now);
        let answers = effects.into_iter().filter_map(|effect| match effect {
            Effect::Reply { answer, .. } => Some(answer),
            Effect::Persist(_) => None,
        });
        if let (Some(reply), Some(answer)) = (reply, answers.last()) {
            reply(answer, self.groups.removed());
        }
    }

    fn reserve_group(
        &self,
        group: &Group,
        bytes: usize,
    ) -> Result<ottla_store::Reservation, Refused> {
        self.store.reserve(Purpose::Shrink, 1, group.footprint + bytes + FACT_BYTES)
    }

    /// Does what the machine asks for.
    fn carry_out(
        &self,
        group: &mut Group,
        effects: Vec<GroupEffect>,
        reservation: Option<ottla_store::Reservation>,
    ) -> Vec<Ready> {
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Persist(record) => records.push(record),
                Effect::Reply { ticket, answer } => answers.push((ticket, answer)),
            }
        }
        if let Some(reservation) = reservation {
            self.log_group(group, reservation, records);
        }
        let lsn = group.changed;
        let ready = answers.into_iter().filter_map(|(ticket, answer)| {
            let reply = group.waiting.remove(&ticket)?;
            Some(Ready { reply, answer, lsn })
        });
        ready.collect()
    }

    /// Appends facts of a group as one.
    pub(super) fn log_group(
        &self,
        group: &mut Group,
        reservation: ottla_store::Reservation,
        records: Vec<GroupRecord>,
    ) {
        if records.is_empty() {
            return;
        }
        let complete = |record: &GroupRecord| {
            matches!(record, GroupRecord::Classic(ClassicRecord::Generation { .. }))
        };
        let joined = records.iter().any(complete);
        let gives_up =
            |record: &GroupRecord| matches!(record, GroupRecord::Share(share) if share.gives_up());
        if records.iter().any(gives_up) {
            self.groups.burials.note(&group.id);
        }
        let fact = Fact::Group { group: group.id.clone(), records };
        let payload = Bytes::from(encode(&fact));
        if joined {
            group.footprint = payload.len();
        }
        group.changed = self.store.append(reservation, Frame::of(Item::State { payload })).lsn;
    }

    /// Calls `act` with the group under its lock; `None` if there is none and it is not to be made.
    fn with_group<T>(
        &self,
        id: &GroupId,
        create: bool,
        act: impl FnOnce(&mut Group) -> T,
    ) -> Result<Option<T>, GroupRefused> {
        loop {
            let cell = match self.groups.find(id) {
                Some(cell) => cell,
                None if create => self.groups.make(id)?,
                None => return Ok(None),
            };
            let mut group = cell.lock();
            if group.gone {
                continue;
            }
            let done = act(&mut group);
            self.groups.settle(&mut group);
            return Ok(Some(done));
        }
    }

    /// Lets groups run whose time has come.
    pub(super) fn tick_groups(&self, now: Now) {
        for id in self.groups.take_due(now.monotonic) {
            let settings = self.share_config(&id).settings;
            let catalog = self.catalog();
            let ready = self.with_group(&id, false, |group| {
                group.scheduled = None;
                let Ok(reservation) = self.reserve_group(group, 0) else {
                    return Vec::new(); // the log is busy: still due at the next tick
                };
                if let Some(share) = group.machine.as_share_mut() {
                    share.configure(settings);
                }
                let effects = group.machine.tick(&Known(&catalog), now);
                self.carry_out(group, effects, Some(reservation))
            });
            drop(catalog);
            tell(ready.ok().flatten().unwrap_or_default());
            self.wake_share(&id); // locks may have ended
        }
    }

    /// Calls `sink` with every group, for a snapshot.
    pub(super) fn each_group(&self, sink: &mut dyn FnMut(&GroupId, Lsn, &RememberedGroup)) {
        for cell in self.groups.all() {
            let group = cell.lock();
            if group.gone || group.changed == Lsn::ZERO {
                continue;
            }
            let image = group.machine.remembered();
            let (id, changed) = (group.id.clone(), group.changed);
            drop(group);
            sink(&id, changed, &image);
        }
    }
}

impl Groups {
    /// The groups after a start: generations and offsets go on, sessions begin anew.
    pub(super) fn restore(
        images: impl Iterator<Item = (GroupId, RememberedGroup, Lsn)>,
        settings: GroupSettings,
        now: Now,
    ) -> Self {
        let groups = Self {
            table: RwLock::default(),
            due: Mutex::default(),
            tickets: AtomicU64::new(1),
            removed: AtomicU64::new(0),
            sweep: Mutex::default(),
            burials: Burials::default(),
            settings,
        };
        for (id, image, changed) in images {
            let footprint = encode(&image).len();
            let machine = Machine::restore(id.clone(), settings, image, now);
            if machine.as_share().is_some_and(|share| share.dying().is_some()) {
                groups.burials.note(&id);
            }
            let mut group =
                Group { machine, changed, footprint, ..Group::new(id.clone(), settings) };
            groups.schedule(&mut group);
            let cell = Arc::new(GroupCell::new(group));
            groups.table.write().unwrap_or_else(PoisonError::into_inner).insert(id, cell);
        }
        groups
    }

    pub(super) fn find(&self, id: &GroupId) -> Option<Arc<GroupCell>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Every group, by name.
    pub(super) fn all(&self) -> Vec<Arc<GroupCell>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn make(&self, id: &GroupId) -> Result<Arc<GroupCell>, GroupRefused> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= GROUPS_MAX && !table.contains_key(id) {
            return Err(GroupRefused::TooMany);
        }
        let cell = table
            .entry(id.clone())
            .or_insert_with(|| Arc::new(GroupCell::new(Group::new(id.clone(), self.settings))));
        Ok(Arc::clone(cell))
    }

    fn removed(&self) -> Lsn {
        Lsn(self.removed.load(Ordering::Acquire))
    }

    /// After every change: the group's timer, and whether it is worth keeping.
    fn settle(&self, group: &mut Group) {
        if group.changed == Lsn::ZERO && group.is_deserted() {
            self.take_out(group); // nothing was ever remembered of it
            return;
        }
        self.schedule(group);
    }

    fn schedule(&self, group: &mut Group) {
        let Some(deadline) = group.machine.deadline() else { return };
        if group.scheduled.is_some_and(|scheduled| scheduled <= deadline) {
            return; // the tick looks again
        }
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(later) = group.scheduled.take() {
            due.remove(&(later, group.id.clone()));
        }
        due.insert((deadline, group.id.clone()));
        group.scheduled = Some(deadline);
    }

    fn take_out(&self, group: &mut Group) {
        group.gone = true;
        self.removed.fetch_max(group.changed.0, Ordering::AcqRel);
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(&group.id);
    }

    fn take_due(&self, now: Monotonic) -> Vec<GroupId> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        while let Some((at, id)) = due.pop_first() {
            if at > now {
                due.insert((at, id));
                break;
            }
            taken.push(id);
        }
        taken
    }
}

impl GroupCell {
    fn new(group: Group) -> Self {
        let (waiters, without_letters) = (Waiters::default(), AtomicBool::new(false));
        Self { group: Mutex::new(group), waiters, without_letters }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn new(id: GroupId, settings: GroupSettings) -> Self {
        Self {
            machine: Machine::new(id.clone(), settings),
            id,
            changed: Lsn::ZERO,
            gone: false,
            waiting: HashMap::new(),
            scheduled: None,
            footprint: 0,
        }
    }

    /// Whether there is neither a member, nor one announced, nor an offset.
    fn is_deserted(&self) -> bool {
        self.machine.is_empty()
            && self.machine.deadline().is_none()
            && self.machine.offsets().is_empty()
    }
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups").finish_non_exhaustive()
    }
}

fn tell(ready: Vec<Ready>) {
    for Ready { reply, answer, lsn } in ready {
        reply(answer, lsn);
    }
}

/// What a member of the classic protocol is told by a group that speaks the other.
fn foreign(command: &Command) -> Answer {
    match command {
        Command::Join(_) => Answer::Join(Err(JoinError::InconsistentProtocol)),
        Command::Sync(_) => Answer::Sync(Err(SyncError::UnknownMember)),
        Command::Heartbeat(_) => Answer::Heartbeat(Err(HeartbeatError::UnknownMember)),
        Command::Leave(leave) => {
            Answer::Leave(leave.members.iter().map(|_| Err(LeaveError::UnknownMember)).collect())
        }
    }
}

/// Whether a join was turned away.
fn refuses(effect: &GroupEffect, join: Ticket) -> bool {
    matches!(effect, Effect::Reply { ticket, answer: Answer::Join(Err(_)) } if *ticket == join)
}

/// What a command may add to a fact.
fn command_bytes(command: &Command) -> usize {
    match command {
        Command::Join(join) => join_bytes(join),
        Command::Sync(sync) => sync_bytes(sync),
        Command::Heartbeat(_) => 0,
        Command::Leave(leave) => leave.members.len() * FACT_BYTES,
    }
}

fn join_bytes(join: &Join) -> usize {
    let protocols: usize =
        join.protocols.iter().map(|(name, metadata)| name.len() + metadata.len() + 16).sum();
    let instance = join.instance.as_ref().map_or(0, |instance| instance.as_str().len());
    protocols + 2 * join.client_id.len() + 2 * instance + join.client_host.len() + FACT_BYTES
}

fn sync_bytes(sync: &Sync) -> usize {
    let share = |(member, share): &(crate::group::MemberId, Bytes)| {
        member.as_str().len() + share.len() + 16
    };
    sync.assignments.iter().map(share).sum::<usize>() + FACT_BYTES
}

/// Groups; a new one beyond is refused.
pub const GROUPS_MAX: usize = 100_000;
/// Room for the fixed parts of a fact and a group's name.
const FACT_BYTES: usize = 512;
