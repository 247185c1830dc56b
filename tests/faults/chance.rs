//! Chance that can be repeated: `FAULTS_SEED` of a failed run gives the same draws again.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Small and seeded (xorshift64*).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new() -> Result<Self> {
        let seed = match std::env::var("FAULTS_SEED") {
            Ok(text) => text.parse().context("FAULTS_SEED")?,
            Err(_) => u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?,
        };
        println!("FAULTS_SEED={seed}");
        Ok(Self(seed | 1))
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap_or(0) % limit
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
