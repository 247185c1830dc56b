//! How many cases are played: one fixed seed, one given seed, or fresh seeds for a given time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// What `make test` plays.
const FIXED_SEED: u64 = 1;
/// How many targets share the time of `FUZZ_MINUTES`; a few more or less do not matter.
const TARGETS: u32 = 10;

/// Plays `cases` cases for each seed.
pub(crate) fn play<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: S,
    check: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    if let Some(seed) = variable("FUZZ_SEED") {
        return batch(name, seed, cases, &strategy, &check);
    }
    let Some(minutes) = variable("FUZZ_MINUTES") else {
        return batch(name, FIXED_SEED, cases, &strategy, &check);
    };
    let threads =
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap());
    let time = Duration::from_secs(minutes * 60) * threads.min(TARGETS) / TARGETS;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = u64::try_from(since_epoch.as_millis()).unwrap();
    let began = Instant::now();
    let mut seed = first;
    while began.elapsed() < time {
        batch(name, seed, cases, &strategy, &check);
        seed += 1;
    }
    let batches = seed - first;
    println!(
        "{name}: {} cases, seeds {first} to {}, {:.0} s",
        batches * u64::from(cases),
        seed - 1,
        began.elapsed().as_secs_f64()
    );
}

fn batch<S: Strategy>(
    name: &str,
    seed: u64,
    cases: u32,
    strategy: &S,
    check: &impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    if let Err(error) = runner.run(strategy, check) {
        panic!("{error}\nplay it again: FUZZ_SEED={seed} cargo test --test fuzz {name}");
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
    )
}
