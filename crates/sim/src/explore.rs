//! The crash explorer: runs a workload, cuts the power at its disk calls, recovers, judges, goes on,
//! and cuts again, also while recovering.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ottla_store::Store;

use crate::disk::{Faults, Moment};
use crate::history::{Bounds, History};
use crate::model::Engine;
use crate::world::{Promise, Rig, World, judge};
use crate::{Chance, SimDisk, check};

/// How hard to look. All counts are bounds on one run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Commands of the first life of the store.
    pub commands: usize,
    /// Commands of each later life.
    pub commands_later: usize,
    /// Power cuts after each disk call of the first life.
    pub cuts_per_call: u64,
    /// Of a hundred recoveries, how many are themselves cut.
    pub cut_recoveries_percent: u64,
    /// Of a hundred recoveries, how many go on and are cut later.
    pub go_on_percent: u64,
    /// Of a hundred crash points, how many have a rotten byte on top.
    pub rotten_percent: u64,
    /// Lives of one store, counted from 1.
    pub lives_max: u32,
    /// Crash points after which the run ends.
    pub points_max: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            commands: 120,
            commands_later: 40,
            cuts_per_call: 3,
            cut_recoveries_percent: 20,
            go_on_percent: 8,
            rotten_percent: 4,
            lives_max: 4,
            points_max: u64::MAX,
        }
    }
}

/// What a run covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts and kills after which the store was opened and judged.
    pub points: u64,
    /// Of them, those during a recovery.
    pub in_recovery: u64,
    /// Of them, kills without a power cut.
    pub kills: u64,
    /// Of them, with a rotten byte on top.
    pub rotten: u64,
    /// Of those, where the store refused to open.
    pub refused: u64,
    /// Starts that failed for the disk's fault and were repeated.
    pub repaired: u64,
    /// Compactions that took place.
    pub compactions: u64,
    /// Lives of stores.
    pub lives: u64,
    /// A digest of everything that was found, in order.
    pub trace: u64,
}

/// A state that no legal outcome of a power cut may lead to.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of the run.
    pub seed: u64,
    /// Crash points before it.
    pub points: u64,
    /// How to get there: one line for each life.
    pub path: Vec<String>,
    /// What was wrong.
    pub what: String,
    /// The disk that was opened last, as the store left it.
    pub disk: SimDisk,
}

/// One run from one seed.
#[derive(Debug)]
pub struct Explorer {
    rig: Rig,
    effort: Effort,
    chance: Chance,
    tally: Tally,
    path: Vec<String>,
    /// The disk of the newest life.
    disk: SimDisk,
}

/// Where a life of the store ended: the moment, and what may be found after it.
#[derive(Clone, Copy)]
struct Scene<'a> {
    moment: &'a Moment,
    /// All moments of the life, for the report.
    life: &'a [Moment],
    history: &'a History,
    bounds: Bounds,
}

impl Explorer {
    /// Explores the run of `seed`.
    pub fn explore(rig: &Rig, effort: Effort, seed: u64) -> Result<Tally, Box<Finding>> {
        let mut explorer = Self {
            rig: rig.clone(),
            effort,
            chance: Chance::new(seed),
            tally: Tally::default(),
            path: Vec::new(),
            disk: SimDisk::new(),
        };
        match explorer.first_life(seed) {
            Ok(()) => Ok(explorer.tally),
            Err(what) => Err(Box::new(Finding {
                seed,
                points: explorer.tally.points,
                path: explorer.path,
                what,
                disk: explorer.disk,
            })),
        }
    }

    fn first_life(&mut self, seed: u64) -> Result<(), String> {
        let disk = if seed & SETS_ROOM_ASIDE == 0 {
            SimDisk::new()
        } else {
            SimDisk::that_sets_room_aside()
        };
        disk.record();
        let faults = self.faults();
        self.path.push("first life".to_owned());
        let (rig, commands) = (self.rig.clone(), self.effort.commands);
        let world = caught(|| {
            let mut world = World::begin(&rig, &disk, seed)?;
            let is_small = faults.capacity_bytes.is_some();
            disk.set_faults(faults);
            world.run(commands)?;
            if is_small {
                world.with_room()?;
            }
            Ok(world)
        });
        let world = world.map_err(|what| format!("after {} disk calls: {what}", disk.calls()))?;
        self.tally.lives += 1;
        self.tally.compactions += world.compactions();
        self.mix(disk.trace());
        let moments = disk.take_moments();
        for moment in &moments {
            let Some(bounds) = world.history().bounds(moment.call) else { continue };
            let scene = Scene { moment, life: &moments, history: world.history(), bounds };
            for _ in 0..self.effort.cuts_per_call {
                if self.is_done() {
                    return Ok(());
                }
                self.cut(&scene, 1)?;
            }
        }
        self.path.pop();
        Ok(())
    }

    /// Ends the life at `scene` in one of the ways that there are, and judges the next one.
    fn cut(&mut self, scene: &Scene<'_>, life: u32) -> Result<(), String> {
        let seed = self.chance.next();
        self.tally.points += 1;
        let mut scene = *scene;
        let (disk, how) = match self.chance.below(100) {
            0..5 => {
                self.tally.kills += 1;
                (scene.moment.restart(), "killed".to_owned())
            }
            _ => {
                if self.rig.promise == Promise::Kills {
                    scene.bounds = Bounds { least: 0, proven: 0, ..scene.bounds };
                }
                (scene.moment.crash(seed), format!("power cut {seed:#x}"))
            }
        };
        let scene = &scene;
        let Moment { call, what, .. } = scene.moment;
        self.path.push(format!("life {life} {how} after call {call} ({what})"));
        let at = self.path.len();
        self.disk = disk.clone();
        let judged = match self.chance.percent(self.effort.rotten_percent) {
            true => self.rotten(scene, &disk, seed),
            false => self.recover(scene, &disk, life, seed),
        };
        if let Err(what) = judged {
            self.path.insert(at, scene.last_calls());
            return Err(what);
        }
        self.path.pop();
        Ok(())
    }

    fn recover(
        &mut self,
        scene: &Scene<'_>,
        disk: &SimDisk,
        life: u32,
        seed: u64,
    ) -> Result<(), String> {
        let again = life < self.effort.lives_max;
        let cut_again = again && self.chance.percent(self.effort.cut_recoveries_percent);
        let go_on = again && self.chance.percent(self.effort.go_on_percent);
        if cut_again || go_on {
            disk.record();
        }
        if self.chance.percent(3) {
            let sync_errors = [1 + self.chance.below(5)].into();
            disk.set_faults(Faults { sync_errors, ..Faults::default() });
        }
        let rig = self.rig.clone();
        let opened = caught(|| {
            let recovered = World::open(&rig, disk, seed)?;
            let found = judge(&recovered, scene.history, scene.bounds)?;
            Ok((recovered, found))
        });
        let (recovered, found) = match opened {
            Err(what) if is_the_disks_fault(&what) => return self.try_again(scene, disk, seed),
            opened => opened?,
        };
        self.tally.lives += 1;
        self.mix(disk.trace() ^ u64::try_from(found).unwrap_or(0));
        if cut_again {
            self.cut_recovery(scene, disk, life)?;
        }
        if go_on {
            self.go_on(scene.history, disk, recovered, (found, life, seed))?;
        }
        Ok(())
    }

    /// The disk refused: someone frees space or replaces a cable, and starts it again.
    fn try_again(&mut self, scene: &Scene<'_>, disk: &SimDisk, seed: u64) -> Result<(), String> {
        let mut bounds = scene.bounds;
        let disk = match self.chance.percent(50) {
            true => disk.restart(),
            false => {
                if self.rig.promise == Promise::Kills {
                    bounds = Bounds { least: 0, proven: 0, ..bounds };
                }
                disk.crash(seed)
            }
        };
        disk.set_faults(Faults::default());
        self.path.push("the disk refused and was repaired".to_owned());
        self.disk = disk.clone();
        let rig = self.rig.clone();
        caught(|| judge(&World::open(&rig, &disk, seed)?, scene.history, bounds))?;
        self.tally.repaired += 1;
        self.path.pop();
        Ok(())
    }

    /// Cuts the power while recovering: what was promised before stays promised.
    fn cut_recovery(&mut self, scene: &Scene<'_>, disk: &SimDisk, life: u32) -> Result<(), String> {
        let opened = disk.calls();
        let moments = disk.take_moments();
        disk.record();
        let cuts = 2.min(moments.len());
        for _ in 0..cuts {
            let Some(moment) = self.chance.pick(&moments) else { break };
            if moment.call < opened && !self.is_done() {
                self.tally.in_recovery += 1;
                self.path.push(format!("life {} recovers", life + 1));
                self.cut(&Scene { moment, life: &moments, ..*scene }, life + 1)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Goes on with the recovered store and cuts that life as well.
    fn go_on(
        &mut self,
        history: &History,
        disk: &SimDisk,
        recovered: (Store, Engine),
        (found, life, seed): (usize, u32, u64),
    ) -> Result<(), String> {
        let truth = history.truth(found);
        let history = History::from(truth, recovered.1.newest(), disk.calls());
        if self.chance.percent(10) {
            disk.set_faults(self.faults());
        }
        let (rig, commands) = (self.rig.clone(), self.effort.commands_later);
        self.path.push(format!("life {} goes on from state {found} with seed {seed:#x}", life + 1));
        let world = caught(|| {
            let mut world = World::go_on(&rig, disk, recovered, history, seed);
            world.run(commands)?;
            world.check_now()?;
            Ok(world)
        })?;
        self.tally.compactions += world.compactions();
        let moments = disk.take_moments();
        for _ in 0..6 {
            let Some(moment) = self.chance.pick(&moments) else { break };
            let Some(bounds) = world.history().bounds(moment.call) else { continue };
            if !self.is_done() {
                self.cut(
                    &Scene { moment, life: &moments, history: world.history(), bounds },
                    life + 1,
                )?;
            }
        }
        self.path.pop();
        Ok(())
    }

    /// Flips a byte as well: the store may refuse, or refuse a stream, but must not show other bytes
    /// and must not lose silently what later bytes prove.
    fn rotten(&mut self, scene: &Scene<'_>, disk: &SimDisk, seed: u64) -> Result<(), String> {
        let mut files = disk.files();
        let snapshots = files.iter().filter(|(path, _)| path.starts_with(SNAPSHOTS)).cloned();
        let snapshots = snapshots.filter(|(path, _)| !path.ends_with(".tmp")).collect::<Vec<_>>();
        if self.chance.percent(25) && snapshots.len() > 1 {
            files = snapshots.last().cloned().into_iter().collect();
        }
        let Some((path, len)) = self.chance.pick(&files) else { return Ok(()) };
        let position = self.chance.below(*len);
        if !disk.rot(path, position, 1 << self.chance.below(8)) {
            return Ok(());
        }
        disk.set_faults(Faults::default()); // a full disk is another story
        self.tally.rotten += 1;
        self.path.push(format!("a bit rots in {path} at {position}"));
        let rig = self.rig.clone();
        let bounds = scene.bounds;
        if snapshots.len() > 1 && snapshots.last().is_some_and(|(newest, _)| newest == path) {
            // The older generation and the log since it are there: nothing may be missing (rule 5).
            caught(|| judge(&World::open(&rig, disk, seed)?, scene.history, bounds))?;
            self.path.pop();
            return Ok(());
        }
        let opened = caught(|| {
            let (store, engine) = match World::open(&rig, disk, seed) {
                Ok(opened) => opened,
                Err(what) if what.contains("panic") => return Err(what),
                Err(_) => return Ok(false),
            };
            let found = scene.history.state_at(engine.newest());
            if found < bounds.proven.min(bounds.least) || found > bounds.most {
                let Bounds { proven, most, .. } = bounds;
                return Err(format!("state {found} after rot, not in {proven}..={most}"));
            }
            check::reads_of_rotten(&store, &scene.history.truth(found))?;
            Ok(true)
        })?;
        self.tally.refused += u64::from(!opened);
        self.path.pop();
        Ok(())
    }

    /// Faults of one life: mostly none.
    fn faults(&mut self) -> Faults {
        let mut faults = Faults { forgets_on_close: true, ..Faults::default() };
        match self.chance.below(100) {
            0..12 => {
                faults.sync_errors.insert(1 + self.chance.below(60));
            }
            12..24 => {
                faults.capacity_bytes = Some((64 + self.chance.below(128)) * 4096);
            }
            _ => {}
        }
        faults
    }

    fn is_done(&self) -> bool {
        self.tally.points >= self.effort.points_max
    }

    fn mix(&mut self, value: u64) {
        self.tally.trace = self.tally.trace.rotate_left(7) ^ Chance::new(value).next();
    }
}

impl Scene<'_> {
    /// The calls that led to the moment.
    fn last_calls(&self) -> String {
        let until = self.life.iter().rposition(|moment| moment.call <= self.moment.call);
        let until = until.map_or(0, |at| at + 1);
        let calls = self.life.get(until.saturating_sub(LAST_CALLS)..until).unwrap_or_default();
        let calls = calls.iter().map(|moment| format!("{} {}", moment.call, moment.what));
        format!("  calls: {}", calls.collect::<Vec<_>>().join(", "))
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.in_recovery += other.in_recovery;
        self.kills += other.kills;
        self.rotten += other.rotten;
        self.refused += other.refused;
        self.repaired += other.repaired;
        self.compactions += other.compactions;
        self.lives += other.lives;
        self.trace = self.trace.rotate_left(7) ^ other.trace;
    }
}

impl fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").field("call", &self.moment.call).finish_non_exhaustive()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "  seed {:#x}, after {} crash points", self.seed, self.points)?;
        self.path.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Whether a start failed for what the simulated disk did and not for what it holds.
fn is_the_disks_fault(what: &str) -> bool {
    what.starts_with("does not open") && (what.contains("EIO") || what.contains("storage space"))
}

/// A panic of the store is a finding like any other.
fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("without words")))
        }
    }
}

/// Where the store keeps its snapshots.
const SNAPSHOTS: &str = "snapshots/";
/// Calls of a life that a finding lists.
const LAST_CALLS: usize = 12;
/// The bit of a seed that says whether its disk extends files without writing them.
const SETS_ROOM_ASIDE: u64 = 1 << 1;
