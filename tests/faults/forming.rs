//! Bring-up: nothing exists yet, and the pods come in every order.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use testbed::{Testbed, truth::ranges, wait};

use crate::common::*;

/// Scenario 1: all pods at once.
#[tokio::test]
async fn six_pods_at_once_become_the_planned_cluster_and_fall_silent() -> Result<()> {
    let (bed, snapshot) = formed("at-once").await?;
    let slots: Vec<String> = (0..3).map(|k| ranges(&snapshot.nodes[&k].slots)).collect();
    ensure!(
        slots == ["0-5460", "5461-10922", "10923-16383"],
        "{slots:?}"
    );
    ensure!(snapshot.replication() == BTreeMap::from([(3, 0), (4, 1), (5, 2)]));
    // On a very busy machine an agent may be too late to give its Redis one.
    let epochs: Vec<u64> = (0..3).map(|k| snapshot.nodes[&k].epoch).collect();
    let mut odd = epochs
        .iter()
        .zip([6, 5, 4])
        .filter(|(is, plan)| *is != plan);
    ensure!(odd.all(|(is, _)| *is == 0 || *is > 6), "epochs {epochs:?}");
    ensure!(
        epochs.iter().filter(|epoch| **epoch == 0).count() <= 1,
        "epochs {epochs:?}"
    );

    let canary = bed.write_canary("at-once", 300).await?;
    bed.silent(Duration::from_secs(5)).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == snapshot.ids(), "somebody was reborn");
    canary.intact(&bed).await?;
    for pod in bed.pods() {
        let role = role(&pod).await?;
        ensure!(
            role["ready"] == true && role["ordinal"] == pod.ordinal,
            "{role}"
        );
        let node = &after.nodes[&pod.ordinal];
        ensure!(role["node_id"] == node.node_id.as_str(), "{role}");
        let master = node.replica_of.map(|k| format!("redis-app-{k}"));
        ensure!(role["replica_of"].as_str() == master.as_deref(), "{role}");
    }
    bed.finish().await
}

/// Scenario 4: pods far apart in time: each comes when the earlier ones have long been waiting.
#[tokio::test]
async fn pods_far_apart_in_time_wait_for_the_last_one() -> Result<()> {
    let bed = bed("far-apart").build().await?;
    for ordinal in [5, 0, 3, 1, 4] {
        bed.start_pod(ordinal).await?;
        let pod = bed.pod(ordinal)?;
        says(&pod, "waiting-for-peers", "redis-app-2 (not in DNS)").await?;
        rounds_pass(&pod, 5).await?;
        topology_untouched(&bed).await?;
    }
    bed.start_pod(2).await?;
    formed_as_planned(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 7: every agent racing, several times, against servers that have been up for a while.
#[tokio::test]
async fn racing_agents_always_agree_on_one_cluster() -> Result<()> {
    let bed = bed("race").build().await?;
    for _ in 0..4 {
        redis_first(&bed).await?;
        for pod in bed.pods() {
            pod.start_agent().await?;
        }
        formed_as_planned(&bed).await?;
        for pod in bed.pods() {
            bed.end_pod(pod.ordinal, testbed::Ending::Kill).await?;
            pod.wipe_volume().await?;
        }
    }
    bed.finish().await
}

async fn redis_first(bed: &Testbed) -> Result<()> {
    for pod in bed.pods() {
        bed.publish(&pod);
        pod.start_redis().await?;
    }
    for pod in bed.pods() {
        pod.redis_answers(LONG).await?;
    }
    Ok(())
}

/// Scenario 9: the agents are there before Redis.
#[tokio::test]
async fn agents_that_come_before_their_redis_say_so_and_form_when_it_comes() -> Result<()> {
    let bed = bed("agent-first").build().await?;
    for pod in bed.pods() {
        bed.publish(&pod);
        pod.start_agent().await?;
    }
    for pod in bed.pods() {
        says(&pod, "redis-unreachable", "").await?;
    }
    for pod in bed.pods() {
        pod.start_redis().await?;
    }
    formed_as_planned(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 9: Redis is there long before the agents.
#[tokio::test]
async fn agents_that_come_after_redis_one_by_one_form_with_the_last() -> Result<()> {
    let bed = bed("redis-first").build().await?;
    redis_first(&bed).await?;
    for ordinal in (1..6).rev() {
        let pod = bed.pod(ordinal)?;
        pod.start_agent().await?;
        says(
            &pod,
            "waiting-for-peers",
            "redis-app-0 (its sidecar does not answer",
        )
        .await?;
        topology_untouched(&bed).await?;
    }
    bed.pod(0)?.start_agent().await?;
    formed_as_planned(&bed).await?;
    bed.finish().await
}

/// Forming shortens the node timeout for a moment; a much longer one is met and put back too.
#[tokio::test]
async fn any_configured_node_timeout_is_back_after_forming() -> Result<()> {
    let bed = bed("node-timeout")
        .node_timeout(Duration::from_secs(15))
        .build()
        .await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    wait::throughout(QUIET, "the node timeout stays", async || {
        node_timeout_is_back(&bed).await
    })
    .await?;
    bed.finish().await
}
