//! What goes over the socket: one request in, any number of lines back.
//!
//! A newer client may say more: unknown fields are ignored, an unknown request is refused.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest line, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(super) enum Request {
    /// Hand over what this node has: it is about to be stopped.
    PreStop {
        /// How long that may take.
        within_ms: u64,
    },
    /// Have another node of this shard be its master.
    Failover {
        /// How long that may take.
        within_ms: u64,
        /// Which pod.
        #[serde(default)]
        to: Option<String>,
    },
    /// Write nothing to Redis for a while.
    Pause {
        /// For how long.
        for_ms: u64,
    },
    /// Write again.
    Resume,
}

impl Request {
    /// The same, to be over by then at the latest.
    pub(super) fn within(mut self, left: Duration) -> Request {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        match &mut self {
            Request::PreStop { within_ms } | Request::Failover { within_ms, .. } => {
                *within_ms = left.min(*within_ms);
            }
            Request::Pause { .. } | Request::Resume => {}
        }
        self
    }
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) outcome: Outcome,
    pub(super) message: String,
}

/// How far it is; a line that is not under way is the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    UnderWay,
    Done,
    NotDone,
}
