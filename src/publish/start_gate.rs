//! Whether anything has asked the start gate, and so may hold an empty Redis back.
//!
//! In: each question to `/startz`. Out: whether there was one.
//!
//! Not here: what the gate answers; that is in the snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by the HTTP side, which is asked, and the control loop, which tells. Clones are one gate.
#[derive(Debug, Clone, Default)]
pub struct StartGate(Arc<AtomicBool>);

impl StartGate {
    /// Somebody asks now.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked since the start of this process.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
