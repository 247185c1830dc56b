//! The simulator: many pods and the real judgement under a virtual clock, with faults from a seed.
//!
//! `fixed_seeds` is part of `make test`; `fresh_seeds` is `make simulate`; `SEED=n` with `replay`
//! tells one history. What must hold is in `invariants.rs`, what goes wrong in `faults.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(
    clippy::disallowed_methods,
    reason = "how long to simulate is real time"
)]

mod agent;
mod contract;
mod dns;
mod fake;
mod faults;
mod history;
mod invariants;
mod network;
mod world;

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

#[test]
fn fixed_seeds() {
    for seed in 0..200 {
        if history::run(seed, false).result.is_err() {
            fail(seed);
        }
    }
}

#[test]
#[ignore = "make simulate"]
fn fresh_seeds() {
    let seconds: u64 = std::env::var("SECONDS").map_or(60, |s| s.parse().unwrap());
    let first: u64 =
        std::env::var("FIRST").map_or_else(|_| fastrand::u64(..1 << 40), |s| s.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut histories, mut faults, mut ms, mut steps, mut writes, mut lost) = (0, 0, 0, 0, 0, 0);
    let mut bad = Vec::new();
    for seed in first.. {
        if Instant::now() > until || bad.len() >= 20 {
            break;
        }
        let outcome = history::run(seed, false);
        histories += 1;
        faults += outcome.faults;
        ms += outcome.simulated_ms;
        steps += outcome.steps;
        writes += outcome.writes;
        lost += u64::from(outcome.lost_by_redis);
        if let Err(what) = outcome.result {
            println!("seed {seed}: {what}");
            bad.push(seed);
        }
    }
    println!(
        "{histories} histories from seed {first}, {faults} faults, {} simulated hours, {steps} steps, {writes} writes; Redis by itself lost {lost} keys; {} histories failed",
        ms / 3_600_000,
        bad.len()
    );
    if let Some(seed) = bad.first() {
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
