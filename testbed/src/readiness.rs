//! The kubelet's and the controllers' part in readiness: `/readyz` becomes the ready flag in DNS,
//! and an OrderedReady StatefulSet creates a pod only when the one before is ready.
//!
//! Does not: restart anything; liveness is the tests' matter.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use crate::{Pod, Testbed, dns::Dns, wait};

impl Testbed {
    /// From now on mirrors every pod's `/readyz` into its ready flag in DNS, each `period` (a
    /// kubelet's is 10 s; tests may want 50 ms), until the testbed ends. Pods added later need
    /// another call.
    pub fn mirror_readiness(&self, period: Duration) {
        for pod in self.pods() {
            self.keep_task(tokio::spawn(mirror(self.dns.clone(), pod, period)));
        }
    }

    /// Starts the pods as an OrderedReady StatefulSet does: each only when `/readyz` of the one
    /// before is 200. Without [`Testbed::mirror_readiness`] the ready flag is set here.
    ///
    /// # Errors
    /// When a pod is not ready `deadline_each` after its start; the error tells its reasons.
    pub async fn ordered_ready_start(&self, deadline_each: Duration) -> Result<()> {
        let pods = self.pods();
        for (created, pod) in pods.iter().enumerate() {
            self.start_pod(pod.ordinal).await?;
            // The controller waits for those before it again, each time.
            for pod in &pods[..=created] {
                self.pod_ready(pod, deadline_each).await?;
            }
            self.dns.set_ready(&pod.name, true);
        }
        Ok(())
    }

    /// Waits until one `/readyz` is 200.
    ///
    /// # Errors
    /// When it is not by the deadline; the error tells its reasons.
    pub async fn pod_ready(&self, pod: &Pod, deadline: Duration) -> Result<()> {
        wait::until(deadline, &format!("{} is ready", pod.name), async || {
            pod.ready().await
        })
        .await
    }
}

async fn mirror(dns: Dns, pod: Arc<Pod>, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        dns.set_ready(&pod.name, pod.ready().await.is_ok());
    }
}
