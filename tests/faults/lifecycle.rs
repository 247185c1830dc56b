//! Redis that loads slowly, freezes, or dies: what the probes and `/role` say meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Pod, Role, Testbed, http::Answer, server::Server, wait};

use crate::common::*;

/// HTTP never waits for Redis: one that did would wait for 1.5 s here, which is when the agent gives an
/// answer up. On a busy machine anything can take some tenths of a second.
const AT_ONCE: Duration = Duration::from_millis(700);

async fn at_once(pod: &Pod, path: &str) -> Result<Answer> {
    let began = Instant::now();
    let answer = pod.get(path).await?;
    let took = began.elapsed();
    ensure!(took < AT_ONCE, "{}: {path} took {took:?}", pod.name);
    Ok(answer)
}

/// `/livez` is 200 and `/readyz` 503 with this reason, all answered at once.
async fn alive_but(pod: &Pod, code: &str) -> Result<()> {
    let ready = at_once(pod, "/readyz").await?;
    ensure!(ready.status == 503, "{ready:?}");
    ensure!(ready.body.starts_with(&format!("{code}: ")), "{ready:?}");
    ensure!(at_once(pod, "/livez").await?.status == 200);
    ensure!(at_once(pod, "/role").await?.status == 200);
    ensure!(at_once(pod, "/master").await?.status == 503);
    ensure!(at_once(pod, "/replica").await?.status == 503);
    Ok(())
}

/// Scenario 54: Redis reads a lot of data from disk.
#[tokio::test]
async fn a_slow_load_is_not_ready_and_never_unalive() -> Result<()> {
    let bed = bed("loading")
        .appendonly(false)
        .redis_line("rdbcompression no")
        .node_timeout(Duration::from_secs(15));
    // Before 7.0 DEBUG is always there, and there is no option for it.
    let bed = match Server::installed()?.version >= (7, 0, 0) {
        true => bed.redis_line("enable-debug-command yes"),
        false => bed,
    };
    let bed = bed.build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let pod = bed.pod(1)?;
    let slot: u16 = pod.command(&["CLUSTER", "KEYSLOT", "tag"]).await?;
    let owner = bed.pod(before.owner(slot).unwrap_or_default())?;
    // Of 10 kB each, as servers look up from their loading every 2 MB.
    let populate = ["DEBUG", "POPULATE", "4000", "{tag}", "10000"];
    owner.command::<()>(&populate).await?;
    owner.command::<()>(&["SAVE"]).await?;
    owner.redis.kill().await?;
    owner.change(|settings| settings.redis_lines.push("key-load-delay 1000".to_owned()));
    owner.start_redis().await?;

    says(&owner, "redis-loading", "").await?;
    wait::throughout(Duration::from_secs(2), "it is loading", async || {
        alive_but(&owner, "redis-loading").await
    })
    .await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids() && after.masters() == [0, 1, 2]);
    bed.all_ready(LONG).await?;
    let keys: usize = owner.command(&["DBSIZE"]).await?;
    ensure!(keys == 4000, "{keys} keys");
    bed.finish().await
}

/// A Redis that is stopped by a signal: connections stay open, nothing answers.
#[tokio::test]
async fn a_frozen_redis_is_not_ready_and_ready_again_when_thawed() -> Result<()> {
    let (bed, before) = formed("frozen").await?;
    let pod = bed.pod(5)?;
    pod.redis.freeze().await?;
    says(&pod, "redis-unreachable", "").await?;
    // Longer than the agent waits for an answer, shorter than the node timeout.
    wait::throughout(Duration::from_secs(2), "it is frozen", async || {
        alive_but(&pod, "redis-unreachable").await
    })
    .await?;
    pod.redis.thaw().await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.replication() == before.replication(), "{after}");
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// A master dies and is replaced by election; it comes back as a replica and is ready again.
#[tokio::test]
async fn a_failover_shows_at_once_and_the_old_master_is_ready_again_as_a_replica() -> Result<()> {
    let bed = bed("failover")
        .node_timeout(Duration::from_secs(2))
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("failover", 200).await?;
    let (old, new) = (bed.pod(0)?, bed.pod(3)?);
    // What was acknowledged a moment ago may not have reached the replica yet.
    wait::until(LONG, "the replica has everything", async || {
        let nodes = bed.truth().await.snapshot.nodes;
        ensure!(nodes[&0].offset == nodes[&3].offset, "{nodes:?}");
        Ok(())
    })
    .await?;

    old.redis.kill().await?;
    let (written, published) = tokio::join!(
        at_what_time("nodes.conf says master", async || {
            let text = std::fs::read_to_string(new.nodes_conf()).unwrap_or_default();
            text.contains("myself,master")
        }),
        at_what_time("/role says master", async || {
            role(&new).await.is_ok_and(|role| role["role"] == "master")
        }),
    );
    let took = published?.saturating_duration_since(written?);
    println!("nodes.conf written -> /role: {} ms", took.as_millis());
    ensure!(took < Duration::from_secs(1), "{took:?}");
    ensure!(role(&new).await?["slots"] == serde_json::json!([[0, 5460]]));

    says(&old, "redis-unreachable", "").await?;
    ensure!(old.get("/livez").await?.status == 200);
    ensure!(role(&old).await?["role"] == "none");
    others_stay_ready(&bed).await?;

    old.start_redis().await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn");
    ensure!(after.nodes[&0].role == Role::Replica, "{after}");
    ensure!(after.nodes[&0].replica_of == Some(3), "{after}");
    bed.all_ready(LONG).await?;
    ensure!(old.get("/replica").await?.status == 200);
    ensure!(new.get("/master").await?.status == 200);
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// When `condition` first holds, to the millisecond: finer than `wait` looks.
async fn at_what_time(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<Instant> {
    let looking = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Instant::now()
    };
    tokio::time::timeout(LONG, looking)
        .await
        .with_context(|| format!("not within {LONG:?}: {what}"))
}

/// Another shard's loss does not unready anybody.
async fn others_stay_ready(bed: &Testbed) -> Result<()> {
    wait::throughout(Duration::from_secs(1), "the others are ready", async || {
        for ordinal in 1..6 {
            bed.pod(ordinal)?.ready().await?;
        }
        Ok(())
    })
    .await
}

/// All Redis processes restart at once at the same addresses; the agents stay.
#[tokio::test]
async fn all_redis_restarting_at_once_come_back_whole_and_ready() -> Result<()> {
    let (bed, before) = formed("restart-all").await?;
    let canary = bed.write_canary("restart-all", 200).await?;
    for pod in bed.pods() {
        pod.redis.kill().await?;
    }
    for pod in bed.pods() {
        says(&pod, "redis-unreachable", "").await?;
    }
    for pod in bed.pods() {
        pod.start_redis().await?;
    }
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn");
    bed.all_ready(LONG).await?;
    for pod in bed.pods() {
        // What a restarted Redis has to be told is not said into a dead connection.
        let lost = log(&pod)?.contains("no answer to");
        ensure!(!lost, "{}: a write was lost", pod.name);
    }
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
