//! Time as the core sees it: a number that the control loop hands in. Nothing here reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, in milliseconds since this agent started. Never runs backwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Sub for Moment {
    type Output = Duration;

    /// The time from `earlier` to this moment; zero where `earlier` is later.
    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, span: Duration) -> Moment {
        Moment(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}
