//! Waiting for a condition with a deadline: the only way anything here waits for anything.
//!
//! Does not: sleep for a fixed time and hope.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long between two looks at a condition.
pub const POLL: Duration = Duration::from_millis(15);

/// Looks at `condition` every [`POLL`] until it is `Ok`, and returns its value.
///
/// An `Err` of the condition means "not yet" and says why; the last one is in the error after
/// `deadline`. A look that hangs is cut off at the deadline too.
///
/// # Errors
/// When the condition has not held by the deadline.
pub async fn until<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut last = String::from("never looked to the end");
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(not_yet)) => last = format!("{not_yet:#}"),
            Err(_) => {}
        }
        if started.elapsed() >= deadline {
            return Err(anyhow!(
                "not within {deadline:?}: {what}; last seen: {last}"
            ));
        }
        tokio::time::sleep(POLL.min(deadline.saturating_sub(started.elapsed()))).await;
    }
}

/// The opposite of [`until`]: looks at `condition` for the whole of `window`, and fails as soon as
/// it does not hold. For "stays so", "stays silent".
///
/// # Errors
/// The condition's own error, with `what` and the time at which it stopped to hold.
pub async fn throughout(
    window: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < window {
        condition().await.map_err(|broken| {
            anyhow!(
                "did not hold after {:?}: {what}: {broken:#}",
                started.elapsed()
            )
        })?;
        tokio::time::sleep(POLL.min(window.saturating_sub(started.elapsed()))).await;
    }
    Ok(())
}
