//! What a power cut keeps: the choice among all legal outcomes.

use std::fmt::Debug;

use super::file::{PAGE, SECTOR};
use crate::Chance;

/// Sectors of a page.
pub const SECTORS: usize = PAGE / SECTOR;

/// What became of a page that was written and not synced. Versions count from 0, what the disk had
/// before, to the newest write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageFate {
    /// The whole page as one version had it.
    Version(usize),
    /// Each sector from a version of its own.
    Torn([usize; SECTORS]),
}

/// Decides what a power cut keeps. Asked in a fixed order, so that a seeded cutter is deterministic.
pub trait Cutter: Debug {
    /// Which version of page `index` of the file at `path` survives; `versions` writes are unsynced.
    fn page(&mut self, path: &str, index: usize, versions: usize) -> PageFate;
    /// Which of the `changes` unsynced lengths survives, counted from 1; 0 keeps the synced one.
    fn length(&mut self, path: &str, changes: usize) -> usize;
    /// Whether an unsynced create, rename (to) or remove of `name` survives.
    fn name(&mut self, name: &str) -> bool;
}

/// Keeps nothing that was not synced.
#[derive(Clone, Copy, Debug)]
pub struct KeepNothing;

/// Keeps everything, synced or not.
#[derive(Clone, Copy, Debug)]
pub struct KeepAll;

/// A cut drawn from a seed. A mood for the whole cut makes the rare shapes common: everything kept
/// but one page, one page alone, later pages without earlier ones, torn pages everywhere.
#[derive(Clone, Debug)]
pub struct SeededCut {
    chance: Chance,
    pages: Mood,
    names: Mood,
    asked_pages: usize,
    asked_names: usize,
    pivot: usize,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    All,
    Nothing,
    Half,
    Most,
    Few,
    /// The first ones, up to a pivot.
    Earlier,
    /// Those from a pivot on: later page kept, earlier lost.
    Later,
    Torn,
}

impl SeededCut {
    /// The cut of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let moods = [
            Mood::All,
            Mood::Nothing,
            Mood::Half,
            Mood::Most,
            Mood::Few,
            Mood::Earlier,
            Mood::Later,
            Mood::Torn,
        ];
        let pages = chance.pick(&moods).copied().unwrap_or(Mood::Half);
        let names = chance.pick(&moods).copied().unwrap_or(Mood::Half);
        let pivot = chance.index(6);
        Self { chance, pages, names, asked_pages: 0, asked_names: 0, pivot }
    }

    fn keeps(&mut self, mood: Mood, nth: usize) -> bool {
        match mood {
            Mood::All => true,
            Mood::Nothing => false,
            Mood::Half | Mood::Torn => self.chance.percent(50),
            Mood::Most => self.chance.percent(85),
            Mood::Few => self.chance.percent(15),
            Mood::Earlier => nth <= self.pivot,
            Mood::Later => nth > self.pivot,
        }
    }
}

impl Cutter for SeededCut {
    fn page(&mut self, _path: &str, _index: usize, versions: usize) -> PageFate {
        self.asked_pages += 1;
        if matches!(self.pages, Mood::Torn) && self.chance.percent(60) {
            let mut sectors = [0; SECTORS];
            for sector in &mut sectors {
                *sector = self.chance.index(versions + 1);
            }
            return PageFate::Torn(sectors);
        }
        let kept = self.keeps(self.pages, self.asked_pages);
        // Writeback may have happened between two writes of the page: then an older version is there.
        let version =
            if self.chance.percent(80) { versions } else { self.chance.between(1, versions) };
        PageFate::Version(if kept { version } else { 0 })
    }

    fn length(&mut self, _path: &str, changes: usize) -> usize {
        match self.pages {
            Mood::All => changes,
            Mood::Nothing => 0,
            Mood::Half | Mood::Torn | Mood::Earlier | Mood::Later => self.chance.index(changes + 1),
            Mood::Most if self.chance.percent(85) => changes,
            Mood::Few if self.chance.percent(85) => 0,
            Mood::Most | Mood::Few => self.chance.index(changes + 1),
        }
    }

    fn name(&mut self, _name: &str) -> bool {
        self.asked_names += 1;
        self.keeps(self.names, self.asked_names)
    }
}

impl Cutter for KeepNothing {
    fn page(&mut self, _path: &str, _index: usize, _versions: usize) -> PageFate {
        PageFate::Version(0)
    }

    fn length(&mut self, _path: &str, _changes: usize) -> usize {
        0
    }

    fn name(&mut self, _name: &str) -> bool {
        false
    }
}

impl Cutter for KeepAll {
    fn page(&mut self, _path: &str, _index: usize, versions: usize) -> PageFate {
        PageFate::Version(versions)
    }

    fn length(&mut self, _path: &str, changes: usize) -> usize {
        changes
    }

    fn name(&mut self, _name: &str) -> bool {
        true
    }
}
