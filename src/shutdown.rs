//! When to stop, and that stopping takes no longer than it may.

use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long the round that is under way may take to end after the signal.
const GRACE: Duration = Duration::from_secs(5);

/// Turns true at SIGTERM or SIGINT. Clones hear it too.
#[derive(Clone)]
pub struct Stopping(watch::Receiver<bool>);

/// Takes the signals of this process. Redis hears nothing of them.
///
/// # Errors
/// The process may not take signals.
pub fn on_signal() -> std::io::Result<Stopping> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, hears) = watch::channel(false);
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping; Redis goes on");
        tell.send_replace(true);
    });
    Ok(Stopping(hears))
}

impl Stopping {
    /// Returns once the process should stop.
    pub async fn asked(mut self) {
        // The sender is gone only after it has sent.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Returns when stopping has taken too long, once it should have begun.
pub async fn overdue(begins: impl Future<Output = ()>) {
    begins.await;
    tokio::time::sleep(GRACE).await;
}
