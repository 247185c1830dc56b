//! A writer in the background, to count what a roll or a failover costs: writes refused, and
//! writes acknowledged and then lost.
//!
//! One write at a time, each with a key of its own, each tried once. Does not: read while it
//! writes, or measure latency beyond the longest gap.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use redis::{FromRedisValue, Value};
use tokio::task::JoinHandle;

use crate::{Pod, Testbed, canary::ClusterClient};

/// A running writer.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Loaded>,
}

/// What it did.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Numbers of the writes that Redis acknowledged.
    pub acknowledged: Vec<u64>,
    /// Errors of the writes that were not, in order.
    pub refused: Vec<String>,
    /// The longest time between two acknowledged writes.
    pub longest_gap: Duration,
}

impl Testbed {
    /// Starts a writer that pauses this long between writes. It asks the pods that exist now,
    /// wherever they are then.
    #[must_use]
    pub fn load(&self, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(self.pods(), pause, Arc::clone(&stop)));
        Load { stop, task }
    }
}

impl Load {
    /// Ends the writer after the write it is at.
    ///
    /// # Errors
    /// When the writer broke.
    pub async fn stop(self) -> Result<Loaded> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?)
    }
}

impl Loaded {
    /// Reads every acknowledged write back.
    ///
    /// # Errors
    /// When some are lost; names how many and the first.
    pub async fn none_lost(&self, testbed: &Testbed) -> Result<()> {
        let mut client = testbed.cluster_client();
        let mut lost = Vec::new();
        for number in &self.acknowledged {
            let found = client.command(&["GET", &key(*number)]).await?;
            if Option::<u64>::from_redis_value(found)? != Some(*number) {
                lost.push(*number);
            }
        }
        match lost.first() {
            None => Ok(()),
            Some(first) => bail!(
                "{} of {} acknowledged writes lost, the first is number {first}",
                lost.len(),
                self.acknowledged.len()
            ),
        }
    }
}

async fn write(pods: Vec<Arc<Pod>>, pause: Duration, stop: Arc<AtomicBool>) -> Loaded {
    let mut loaded = Loaded::default();
    let password = pods.first().and_then(|pod| pod.settings().password);
    let mut client = ClusterClient::new(Vec::new(), password);
    let mut last = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        client.set_seeds(pods.iter().map(|pod| pod.redis_address()).collect());
        match client
            .command(&["SET", &key(number), &number.to_string()])
            .await
        {
            Ok(Value::Okay) => {
                loaded.longest_gap = loaded.longest_gap.max(last.elapsed());
                last = Instant::now();
                loaded.acknowledged.push(number);
            }
            Ok(other) => loaded.refused.push(format!("{number}: {other:?}")),
            Err(error) => loaded.refused.push(format!("{number}: {error:#}")),
        }
        tokio::time::sleep(pause).await;
    }
    loaded.longest_gap = loaded.longest_gap.max(last.elapsed());
    loaded
}

fn key(number: u64) -> String {
    format!("load:{number}")
}
