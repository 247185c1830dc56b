//! StatefulSets that create a pod only when the one before is ready, and Services that publish
//! only ready ones.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::common::*;

/// A kubelet's period, shortened.
const MIRROR: Duration = Duration::from_millis(50);

/// Scenario 2: one after another, each created only when the one before is ready.
#[tokio::test]
async fn an_ordered_start_is_never_held_up_and_forms_with_the_last_pod() -> Result<()> {
    let bed = bed("ordered").build().await?;
    bed.ordered_ready_start(LONG).await?;
    formed_as_planned(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenarios 2 and 3: the same, and the Service does not publish unready addresses.
#[tokio::test]
async fn an_ordered_start_works_without_publishing_unready_addresses() -> Result<()> {
    let bed = bed("ordered-ready-only")
        .publish_not_ready(false)
        .build()
        .await?;
    bed.mirror_readiness(MIRROR);
    bed.ordered_ready_start(LONG).await?;
    formed_as_planned(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 3: all pods at once, and the Service does not publish unready addresses.
#[tokio::test]
async fn a_service_that_hides_unready_pods_is_named_and_does_not_stop_the_forming() -> Result<()> {
    let bed = bed("ready-only").publish_not_ready(false).build().await?;
    bed.start_all().await?;
    for pod in bed.pods() {
        says(&pod, "waiting-for-peers", "publish not-ready addresses").await?;
    }
    topology_untouched(&bed).await?;
    let last = bed.pod(5)?.get("/readyz").await?;
    ensure!(last.status == 503, "{last:?}");

    bed.mirror_readiness(MIRROR);
    formed_as_planned(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
