//! Agents that are killed: at any moment, for good, or asked to end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{Ending, Testbed, wait};

use crate::{chance::Chance, common::*};

/// How long agents are killed in all.
const KILLING: Duration = Duration::from_secs(30);

/// Kills and restarts agents while they form or heal, at random, for up to some 1.5 s.
async fn disturb(bed: &Testbed, chance: &mut Chance) -> Result<usize> {
    let mut kills = 0;
    for _ in 0..=chance.below(10) {
        let pause = u64::try_from(chance.below(150))?;
        // Not to wait for anything: a random instant is what this is about.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let pod = bed.pod(chance.below(6))?;
        pod.agent.kill().await?;
        kills += 1;
        if chance.below(2) == 0 {
            pod.start_agent().await?;
        }
    }
    for pod in bed.pods() {
        if !pod.agent.is_running().await {
            pod.start_agent().await?;
        }
    }
    Ok(kills)
}

/// Scenario 61 and S13: whatever an agent was about to do, the next one goes on from there.
#[tokio::test]
async fn agents_killed_at_any_moment_of_forming_still_make_the_planned_cluster() -> Result<()> {
    let mut chance = Chance::new()?;
    let bed = bed("killed").build().await?;
    let (began, mut clusters, mut kills) = (Instant::now(), 0, 0);
    while began.elapsed() < KILLING {
        bed.start_all().await?;
        kills += disturb(&bed, &mut chance).await?;
        formed_as_planned(&bed)
            .await
            .with_context(|| format!("cluster {clusters}, {kills} kills in all"))?;
        for pod in bed.pods() {
            bed.end_pod(pod.ordinal, Ending::Kill).await?;
            pod.wipe_volume().await?;
        }
        clusters += 1;
    }
    println!("{clusters} clusters formed, {kills} agents killed");
    bed.finish().await
}

/// Scenario 61 and S13, while all pods come back with new addresses.
#[tokio::test]
async fn agents_killed_at_any_moment_of_healing_make_the_same_cluster_whole() -> Result<()> {
    let mut chance = Chance::new()?;
    let (bed, before) = formed("killed-healing").await?;
    let canary = bed.write_canary("killed-healing", 300).await?;
    let (began, mut moves, mut kills) = (Instant::now(), 0, 0);
    while began.elapsed() < KILLING {
        bed.move_pods(&[0, 1, 2, 3, 4, 5]).await?;
        kills += disturb(&bed, &mut chance).await?;
        let after = bed.whole(LONG).await;
        let after = after.with_context(|| format!("move {moves}, {kills} kills in all"))?;
        ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
        bed.all_ready(LONG).await?;
        moves += 1;
    }
    bed.falls_silent(QUIET, LONG).await?;
    canary.intact(&bed).await?;
    println!("{moves} times at new addresses, {kills} agents killed");
    bed.finish().await
}

/// Scenario 61: a shortened node timeout that was ever left behind, with the note of it.
#[tokio::test]
async fn a_node_timeout_that_a_killed_agent_left_shortened_is_put_back() -> Result<()> {
    let (bed, _) = formed("shortened").await?;
    let pod = bed.pod(1)?;
    pod.agent.kill().await?;
    let path = pod.data_dir().join("redis-sidecar.json");
    let mut note: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    note["node_timeout_ms"] = 5000.into();
    std::fs::write(&path, note.to_string())?;
    pod.command::<()>(&["CONFIG", "SET", "cluster-node-timeout", "501"])
        .await?;
    ensure!(node_timeout(&pod).await? == "501");
    pod.start_agent().await?;
    node_timeout_is_back(&bed).await?;
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 61: no agent at all after forming, and Redis goes on, elections included.
#[tokio::test]
async fn redis_goes_on_when_every_agent_is_gone_for_good() -> Result<()> {
    let bed = bed("no-agents")
        .node_timeout(Duration::from_secs(2))
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("no-agents", 100).await?;
    for pod in bed.pods() {
        pod.agent.kill().await?;
    }
    bed.silent(QUIET).await?;
    bed.whole(LONG).await?;
    canary.intact(&bed).await?;

    let master = bed.pod(1)?;
    master.redis.kill().await?;
    wait::until(LONG, "pod 4 is elected", async || {
        let truth = bed.truth().await;
        ensure!(truth.snapshot.masters() == [0, 2, 4], "{}", truth.snapshot);
        Ok(())
    })
    .await?;
    master.start_redis().await?;
    let after = bed.whole(LONG).await?;
    ensure!(
        after.ids() == before.ids() && after.replicas_of(4) == [1],
        "{after}"
    );
    canary.intact(&bed).await?;

    for pod in bed.pods() {
        pod.start_agent().await?;
    }
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    ensure!(bed.whole(LONG).await?.masters() == [0, 2, 4]);
    bed.finish().await
}

/// SIGTERM to the agents alone: they end at once and cleanly, and Redis does not notice.
#[tokio::test]
async fn agents_asked_to_end_do_so_at_once_and_leave_redis_alone() -> Result<()> {
    let (bed, before) = formed("sigterm").await?;
    let seen = bed.writes_seen().await?;
    for pod in bed.pods() {
        let status = pod.agent.stop(Duration::from_secs(5)).await?;
        ensure!(
            status.is_some_and(|s| s.success()),
            "{}: {status:?}",
            pod.name
        );
    }
    let news = bed.writes_seen().await?.since(&seen);
    ensure!(news.is_empty(), "{news:?}");
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids() && after.replication() == before.replication());
    bed.finish().await
}

/// A frozen agent: liveness must tell, and Redis and the others do not care.
#[tokio::test]
async fn a_frozen_agent_disturbs_nobody_and_recovers() -> Result<()> {
    let (bed, _) = formed("frozen-agent").await?;
    let pod = bed.pod(2)?;
    pod.agent.freeze().await?;
    wait::throughout(QUIET, "the others are ready", async || {
        for ordinal in [0, 1, 3, 4, 5] {
            bed.pod(ordinal)?.ready().await?;
        }
        Ok(())
    })
    .await?;
    bed.whole(LONG).await?;
    pod.agent.thaw().await?;
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
