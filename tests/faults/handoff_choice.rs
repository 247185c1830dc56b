//! Which of several replicas a master hands its slots to before it is stopped: the one that answers and has
//! the most data, and the next one if that does not take over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Ending, Pod, skip, wait};

use crate::{common::*, handoff::told};

/// Of two replicas the one that does not answer is passed over.
#[tokio::test]
async fn the_replica_that_answers_is_chosen() -> Result<()> {
    let bed = bed("handoff-choice").shape(3, 2).build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("handoff-choice", 300).await?;
    let (pod, behind) = (bed.pod(0)?, bed.pod(3)?);
    behind.redis.freeze().await?;
    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(hook.code == 0, "{hook:?}");
    ensure!(hook.text.contains("handed over to redis-app-6"), "{hook:?}");
    behind.redis.thaw().await?;
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    as_before(bed, &before, &canary).await
}

/// Of two replicas that answer the one with more data is told first, and at once.
#[tokio::test]
async fn the_replica_with_more_data_is_chosen() -> Result<()> {
    let bed = bed("handoff-behind").shape(3, 2).build().await?;
    if !bed.pod(0)?.settings().server.pauses_writes() {
        skip::not_on_this_server("it cannot pause writes alone, so that a replica falls behind");
        return bed.finish().await;
    }
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let pod = bed.pod(0)?;
    // Whoever took just any would take the last one of its table.
    let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
    let place = |ordinal: usize| nodes.find(&before.nodes[&ordinal].node_id);
    let late = if place(3) > place(6) { 3 } else { 6 };
    let (behind, better) = (bed.pod(late)?, bed.pod(9 - late)?);
    replicated(&bed, 0, late).await?;
    // It answers, keeps its link, and applies nothing of it.
    behind
        .command::<()>(&["CLIENT", "PAUSE", "60000", "WRITE"])
        .await?;
    let canary = bed.write_canary("handoff-behind", 300).await?;
    replicated(&bed, 0, better.ordinal).await?;
    let (few, many) = (applied(&behind).await?, applied(&better).await?);
    println!("redis-app-{late} has {few} bytes of {many}");
    ensure!(few < many, "{few} of {many}: it is not behind");

    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(hook.code == 0, "{hook:?}");
    let said = format!("handed over to {}", better.name);
    ensure!(hook.text.contains(&said), "{hook:?}");
    let other = format!("have {} (", behind.name);
    ensure!(!log(&pod)?.contains(&other), "the other one was told, too");
    ensure!(told(&bed).await? == 1, "{:?}", bed.writes_seen().await?);
    behind.command::<()>(&["CLIENT", "UNPAUSE"]).await?;
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    as_before(bed, &before, &canary).await
}

/// What a replica has applied of its master's stream, in bytes.
async fn applied(replica: &Pod) -> Result<u64> {
    let info: String = replica.command(&["INFO", "replication"]).await?;
    let field = "slave_repl_offset:";
    let value = info.lines().find_map(|line| line.strip_prefix(field));
    Ok(value.context("no offset")?.trim().parse()?)
}

/// Scenario 41: the replica that was told dies; the next one takes over, in the same stop.
#[tokio::test]
async fn when_the_replica_that_was_told_dies_the_next_takes_over() -> Result<()> {
    let bed = bed("handoff-next").shape(3, 2).build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("handoff-next", 300).await?;
    let load = bed.load(Duration::from_millis(1));
    let (pod, voters) = (bed.pod(0)?, [bed.pod(1)?, bed.pod(2)?]);
    for voter in &voters {
        voter.redis.freeze().await?;
    }
    let hook = tokio::spawn({
        let pod = pod.clone();
        async move { command(&pod, &["pre-stop", "--grace", "40"]).await }
    });
    // Nobody votes for it yet.
    let told = wait::until(LONG, "a replica is told", async || {
        let log = log(&pod)?;
        let told = [3, 6].map(|ordinal| log.contains(&format!("have redis-app-{ordinal} (")));
        ensure!(told[0] != told[1], "not one: {told:?}");
        Ok(if told[0] { 3 } else { 6 })
    })
    .await?;
    let replica = bed.pod(told)?;
    replica.redis.kill().await?;
    for voter in &voters {
        voter.redis.thaw().await?;
    }
    let hook = hook.await??;
    let next = 9 - told;
    let said = format!("handed over to redis-app-{next}");
    ensure!(hook.code == 0 && hook.text.contains(&said), "{hook:?}");
    replica.start_redis().await?;
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    bed.whole(LONG).await?;
    load.stop().await?.none_lost(&bed).await?;
    as_before(bed, &before, &canary).await
}
