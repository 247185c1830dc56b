//! The simulator: many pods and the real judgement under a virtual clock, with faults from a seed.
//!
//! `fixed_seeds` is part of `make test`; `fresh_seeds` is `make simulate`, and `make mutants` plays it
//! with a safety rule removed; `SEED=n` with `replay` tells one history. What must hold is in `invariants.rs` and, at the end, in `whole.rs`, what goes wrong in `faults.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "how long to simulate is real time"
)]

mod agent;
mod contract;
mod data;
mod dns;
mod fake;
mod faults;
mod files;
mod gate;
mod ghosts;
mod history;
mod honest;
mod in_order;
mod invariants;
mod known;
mod layout;
mod long_faults;
mod network;
mod owners;
mod people;
mod process_faults;
mod queue;
mod restored;
mod stops;
mod volumes;
mod whole;
mod world;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn fail(seed: u64) -> ! {
    let again = history::run(seed, true);
    let mut lines = again.told;
    let left_out = lines.len().saturating_sub(250);
    lines.drain(..left_out);
    eprintln!(
        "seed {seed} ({left_out} lines before these):\n{}",
        lines.join("\n")
    );
    panic!(
        "seed {seed}: {}; again: SEED={seed} make simulate",
        again
            .result
            .err()
            .unwrap_or_else(|| "passed the second time".to_owned())
    );
}

/// Does so on every core.
fn on_all_cores(play: impl Fn() + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(&play);
        }
    });
}

/// From here on faults last for long (`history.rs`).
const LONG_ONES: u64 = (1 << 32) + 256;

#[test]
fn fixed_seeds() {
    let (next, bad) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    let seeds: Vec<u64> = (0..150).chain(LONG_ONES..LONG_ONES + 50).collect();
    on_all_cores(|| {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if history::run(seed, false).result.is_err() {
                bad.lock().unwrap().insert(seed);
            }
        }
    });
    if let Some(seed) = bad.into_inner().unwrap().first() {
        fail(*seed);
    }
}

/// What many histories came to.
#[derive(Default)]
struct Totals {
    histories: u64,
    faults: u64,
    ms: i64,
    steps: u64,
    writes: u64,
    lost: u64,
    handoffs: u64,
    rolled: u64,
    known: known::Known,
    bad: BTreeSet<u64>,
}

#[test]
#[ignore = "make simulate"]
fn fresh_seeds() {
    let number = |name| std::env::var(name).ok().map(|s| s.parse::<u64>().unwrap());
    let seconds = number("SIMULATE_SECONDS").unwrap_or(60);
    let first = number("FIRST").unwrap_or_else(|| fastrand::u64(..1 << 40));
    // What a seed's lowest bits choose (`history.rs`) stays the same with a step of 512.
    let step = number("STEP").unwrap_or(1);
    let (histories_max, failures_max) = (number("HISTORIES"), number("FAILURES").unwrap_or(20));
    let until = Instant::now() + Duration::from_secs(seconds);
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    let play = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let failures = totals.lock().unwrap().bad.len() as u64;
        let enough = histories_max.is_some_and(|max| index >= max);
        if Instant::now() > until || enough || failures >= failures_max {
            break;
        }
        let seed = first + index * step;
        let outcome = history::run(seed, false);
        let mut totals = totals.lock().unwrap();
        totals.histories += 1;
        totals.faults += outcome.faults;
        totals.ms += outcome.simulated_ms;
        totals.steps += outcome.steps;
        totals.writes += outcome.writes;
        totals.lost += u64::from(outcome.lost_by_redis);
        totals.handoffs += outcome.handoffs;
        totals.rolled += outcome.rolled;
        totals.known += outcome.known;
        if let Err(what) = outcome.result {
            println!("seed {seed}: {what}");
            totals.bad.insert(seed);
        }
    };
    on_all_cores(play);
    let totals = totals.into_inner().unwrap();
    let known = totals.known;
    println!(
        "{} histories from seed {first}, {} faults, {} simulated hours, {} steps, {} writes, {} handoffs, {} rolling updates; Redis by itself lost {} keys, and left {} shards whose nodes replicate each other, {} without data, {} whose master came up without, {} lost masters that own slots and {} replicas of a replica; {} merges as an agent was stopped right after its MEET, {} half-open links, {} empty masters held back for voters that are not created, {} handoffs that ended late by a clock set back and lost keys, {} replicas that dropped keys for another node's data; {} histories failed",
        totals.histories,
        totals.faults,
        totals.ms / 3_600_000,
        totals.steps,
        totals.writes,
        totals.handoffs,
        totals.rolled,
        totals.lost,
        known.rings,
        known.emptied,
        known.spared,
        known.dead_owners,
        known.sub_replicas,
        known.slipped,
        known.half_open,
        known.held_back,
        known.belated,
        known.mistaken,
        totals.bad.len()
    );
    if let Some(seed) = totals.bad.first() {
        fail(*seed);
    }
}

#[test]
#[ignore = "SEED=n make simulate"]
fn replay() {
    let seed = std::env::var("SEED")
        .expect("SEED=n")
        .parse()
        .expect("a number");
    let outcome = history::run(seed, true);
    println!("{}", outcome.told.join("\n"));
    if let Err(what) = outcome.result {
        panic!("seed {seed}: {what}");
    }
}
