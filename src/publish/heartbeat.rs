//! The sign of life of the control loop, for `/livez`.
//!
//! In: a beat per round. Out: how long ago the last one was.
//!
//! Not here: whether Redis or the cluster is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared by the loop, which beats, and the HTTP side, which looks. Clones are one heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    start: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A loop that silent for longer counts as stuck.
    pub const SILENCE_MAX: Duration = Duration::from_secs(10);

    /// Starts with a first beat.
    #[must_use]
    pub fn new() -> Self {
        Self::started_at(Instant::now())
    }

    fn started_at(start: Instant) -> Self {
        Self {
            start,
            last_ms: Arc::default(),
        }
    }

    /// The loop is alive now.
    pub fn beat(&self) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Time since the last beat.
    #[must_use]
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }

    /// Whether the loop has beaten lately.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.age() < Self::SILENCE_MAX
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
impl Heartbeat {
    /// One whose loop has never beaten for so long.
    pub(crate) fn silent_for(age: Duration) -> Self {
        Self::started_at(Instant::now().checked_sub(age).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_counts_as_stuck_until_it_beats() {
        assert!(Heartbeat::new().is_alive());
        let heartbeat = Heartbeat::silent_for(Heartbeat::SILENCE_MAX);
        assert!(!heartbeat.is_alive());
        heartbeat.clone().beat();
        assert!(heartbeat.is_alive());
    }
}
