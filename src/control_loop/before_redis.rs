//! `redis-sidecar init`: the same rounds before Redis starts, until nothing in its nodes.conf speaks
//! against a start. Redis is not there to be written to.

use super::ControlLoop;
use crate::model::decision::Start;
use std::time::Duration;

/// How long it waits for what ends by itself. A peer takes up to the node timeout to see that this
/// node is gone; after that the container is started again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long something has to speak for a person before this ends.
const SURE: Duration = Duration::from_secs(3);

impl ControlLoop {
    /// Returns when Redis may start.
    ///
    /// # Errors
    /// It may not before a person has looked, or not within a minute; why, in one line.
    pub async fn before_redis(mut self) -> Result<(), String> {
        self.before_redis = true;
        let mut held = None;
        let mut logged = Start::May;
        loop {
            self.outlets.heartbeat.beat();
            let pause = self.round(false).await;
            let now = self.now();
            let late = now.0 >= u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
            let start = self.last.decision.as_ref().map(|d| &d.start);
            if let Some(Start::Wait(why) | Start::Hold(why)) = start
                && start != Some(&logged)
            {
                tracing::info!(why, "Redis waits");
                logged = start.cloned().unwrap_or_default();
            }
            match start {
                None | Some(Start::May) => return Ok(()),
                Some(Start::Hold(why)) if late || now - *held.get_or_insert(now) >= SURE => {
                    return Err(why.clone());
                }
                Some(Start::Wait(why)) if late => return Err(why.clone()),
                Some(Start::Wait(_)) => held = None,
                Some(Start::Hold(_)) => {}
            }
            tokio::time::sleep(pause).await;
        }
    }
}
