//! The crash proof of the store (store.md section 4): at least 100,000 crash points a run.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a test says what it covered, and fails by panicking"
)]

use std::time::{Duration, Instant};

use ottla_sim::explore::{Effort, Explorer, Tally};
use ottla_sim::world::Rig;

/// Crash points of a run with fixed seeds.
const POINTS_MIN: u64 = 100_000;
/// Crash points of a store that never waits for the disk.
const UNSYNCED_POINTS_MIN: u64 = 10_000;

#[test]
fn nothing_that_was_promised_is_lost_at_any_crash_point() {
    let started = now();
    let mut tally = Tally::default();
    let mut seeds = 0;
    match given_seed() {
        Some(seed) => {
            explore(&Rig::default(), seed, &mut tally);
            seeds += 1;
        }
        None => {
            for seed in ONCE_BROKEN {
                explore(&Rig::default(), seed, &mut tally);
                seeds += 1;
            }
            while tally.points < POINTS_MIN {
                explore(&Rig::default(), FIRST_SEED + seeds, &mut tally);
                seeds += 1;
            }
        }
    }
    report("fixed", seeds, started, &tally);
    assert!(given_seed().is_some() || tally.compactions > 100, "hardly any compaction");
    let extra = fresh_seconds();
    if !extra.is_zero() {
        let (started, mut tally) = (now(), Tally::default());
        let first = fresh_seed();
        println!("fresh seeds from {first:#x}");
        let (mut seeds, mut said) = (0, Duration::ZERO);
        while started.elapsed() < extra {
            explore(&Rig::default(), first.wrapping_add(seeds), &mut tally);
            seeds += 1;
            if started.elapsed() >= said + PROGRESS_EVERY {
                said = started.elapsed();
                println!("... {} points, {seeds} fresh seeds, {} s", tally.points, said.as_secs());
            }
        }
        report("fresh", seeds, started, &tally);
    }
}

#[test]
fn without_syncs_a_power_cut_leaves_some_earlier_state_exactly() {
    let (started, mut tally, mut seeds) = (now(), Tally::default(), 0);
    while tally.points < UNSYNCED_POINTS_MIN {
        explore(&Rig::unsynced(), FIRST_SEED + seeds, &mut tally);
        seeds += 1;
    }
    report("unsynced", seeds, started, &tally);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let effort = Effort { points_max: 1_500, ..Effort::default() };
    let run = |seed| Explorer::explore(&Rig::default(), effort, seed).expect("no finding");
    assert_eq!(run(77), run(77));
    assert_ne!(run(77).trace, run(78).trace);
}

fn explore(rig: &Rig, seed: u64, tally: &mut Tally) {
    match Explorer::explore(rig, Effort::default(), seed) {
        Ok(found) => *tally += found,
        Err(finding) => panic!("{finding}\nagain with OTTLA_SIM_SEED={seed}"),
    }
}

fn report(kind: &str, seeds: u64, started: Instant, tally: &Tally) {
    println!(
        "{} crash points ({kind}): {seeds} seeds, {:.1} s; {} during recovery, {} kills, {} with rot \
         ({} refused), {} lives, {} compactions",
        tally.points,
        started.elapsed().as_secs_f64(),
        tally.in_recovery,
        tally.kills,
        tally.rotten,
        tally.refused,
        tally.lives,
        tally.compactions,
    );
}

/// `OTTLA_SIM_SEED`: the one seed to run, as a finding prints it.
fn given_seed() -> Option<u64> {
    let text = std::env::var("OTTLA_SIM_SEED").ok()?;
    let seed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(seed.expect("OTTLA_SIM_SEED is a number"))
}

/// `OTTLA_SIM_SECONDS`: how long to go on with fresh seeds.
fn fresh_seconds() -> Duration {
    let seconds = std::env::var("OTTLA_SIM_SECONDS")
        .map_or(0, |text| text.parse().expect("OTTLA_SIM_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// A seed that no run had before, from the randomness of the standard library's hasher.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[expect(clippy::disallowed_methods, reason = "a test run says how long it took")]
fn now() -> Instant {
    Instant::now()
}

const FIRST_SEED: u64 = 1;
/// Seeds that fresh runs found: a snapshot amid a stride on a full disk, then a snapshot whose name a killed process had
/// not made durable.
const ONCE_BROKEN: [u64; 2] = [0x410e_b6c7_b41c_c3b1, 0xfebe_9d8e_436f_2668];
/// How often a run of fresh seeds says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);
