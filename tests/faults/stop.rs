//! The scenarios in which the agents must write nothing, and say why.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Builder, Pod, Testbed, server::Server, skip, wait};

use crate::common::*;

/// How long nothing must happen.
const WATCH: Duration = Duration::from_secs(4);

/// Starts all but `missing`, watches that nothing is written and everybody names it, then lets it
/// come.
async fn one_is_missing(bed: &Testbed, missing: usize) -> Result<()> {
    let others = (0..6).filter(|k| *k != missing);
    for ordinal in others.clone() {
        bed.start_pod(ordinal).await?;
    }
    let name = format!("redis-app-{missing}");
    let waiting = format!("waiting for {name} (not in DNS)");
    wait::until(LONG, "all but the missing one are found", async || {
        for ordinal in others.clone() {
            let message = reason(&*bed.pod(ordinal)?, "waiting-for-peers").await?;
            ensure!(message == waiting, "{ordinal}: {message}");
        }
        Ok(())
    })
    .await?;
    wait::throughout(WATCH, "nothing is written", async || {
        topology_untouched(bed).await?;
        for ordinal in others.clone() {
            let pod = bed.pod(ordinal)?;
            let message = reason(&pod, "waiting-for-peers").await?;
            ensure!(message.contains(&name), "{}: {message}", pod.name);
            // Kubernetes may create a higher ordinal only when this pod is ready (OrderedReady).
            let ready = pod.get("/readyz").await?.status;
            let expected = if missing > ordinal { 200 } else { 503 };
            ensure!(ready == expected, "{}: {ready}", pod.name);
            ensure!(unmarked(&pod), "{} is marked as a member", pod.name);
        }
        Ok(())
    })
    .await?;
    bed.start_pod(missing).await?;
    formed_as_planned(bed).await?;
    bed.silent(QUIET).await
}

/// Scenario 10b: the last pod does not come for a long time.
#[tokio::test]
async fn without_the_last_pod_nothing_is_written_and_everybody_names_it() -> Result<()> {
    let bed = bed("without-5").build().await?;
    one_is_missing(&bed, 5).await?;
    bed.finish().await
}

/// Scenario 10b: a master's pod does not come for a long time.
#[tokio::test]
async fn without_a_future_master_nothing_is_written_and_everybody_names_it() -> Result<()> {
    let bed = bed("without-2").build().await?;
    one_is_missing(&bed, 2).await?;
    bed.finish().await
}

/// Scenario 10b: the pod is in DNS, and its Redis never answers.
#[tokio::test]
async fn a_pod_whose_redis_never_answers_holds_everything_back() -> Result<()> {
    let bed = bed("dead-redis").build().await?;
    for ordinal in 0..5 {
        bed.start_pod(ordinal).await?;
    }
    let last = bed.pod(5)?;
    bed.publish(&last);
    last.start_agent().await?;
    for ordinal in 0..5 {
        says(&*bed.pod(ordinal)?, "waiting-for-peers", "redis-app-5 (").await?;
    }
    wait::throughout(WATCH, "nothing is written", async || {
        topology_untouched(&bed).await
    })
    .await?;
    last.start_redis().await?;
    formed_as_planned(&bed).await?;
    bed.finish().await
}

/// One by one, because the commands for ranges came with 7.0.
async fn all_slots(pod: &Pod, command: &str) -> Result<()> {
    let slots = (0..16384).map(|slot| slot.to_string());
    let words: Vec<String> = ["CLUSTER".to_owned(), command.to_owned()]
        .into_iter()
        .chain(slots)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    pod.command::<()>(&words).await
}

/// Data from before, in one Redis that knows nobody: nobody forms over it.
#[tokio::test]
async fn a_single_key_in_one_redis_keeps_all_from_forming() -> Result<()> {
    one_key_in(bed("one-key"), "0").await
}

/// The same in another database, which Valkey has in cluster mode from 9.0.
#[tokio::test]
async fn a_single_key_in_another_database_keeps_all_from_forming() -> Result<()> {
    let server = Server::installed()?;
    if !server.has_cluster_databases() {
        skip::not_on_this_server("it has one database in cluster mode");
        return Ok(());
    }
    let bed = bed("one-key-db").redis_line("cluster-databases 16");
    one_key_in(bed, "5").await
}

async fn one_key_in(bed: Builder, database: &str) -> Result<()> {
    let bed = bed.build().await?;
    let odd = bed.pod(4)?;
    odd.start_redis().await?;
    odd.redis_answers(LONG).await?;
    // Slots are needed to write a key, and taken away again; the key stays.
    let slot: u16 = odd.command(&["CLUSTER", "KEYSLOT", "mine"]).await?;
    all_slots(&odd, "ADDSLOTS").await?;
    wait::until(LONG, "a key is taken", async || {
        odd.command::<()>(&["SELECT", database]).await?;
        odd.command::<()>(&["SET", "mine", "kept"]).await
    })
    .await?;
    all_slots(&odd, "DELSLOTS").await?;
    let keys: Vec<String> = odd
        .command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "9"])
        .await?;
    ensure!(keys == ["mine"], "{keys:?}");
    odd.forget_writes().await?;

    for pod in bed.pods() {
        bed.publish(&pod);
        if pod.ordinal != 4 {
            pod.start_redis().await?;
        }
        pod.start_agent().await?;
    }
    says(&odd, "data-without-identity", "1 keys").await?;
    says(&*bed.pod(0)?, "waiting-for-peers", "redis-app-4").await?;
    wait::throughout(WATCH, "nothing is written", async || {
        topology_untouched(&bed).await
    })
    .await?;
    bed.finish().await
}

/// `DRY_RUN`: everything is decided, published and logged, and nothing at all is written.
#[tokio::test]
async fn a_dry_run_writes_nothing_and_logs_what_it_would_do() -> Result<()> {
    let bed = bed("dry").agent_env("DRY_RUN", "true").build().await?;
    bed.start_all().await?;
    for pod in bed.pods() {
        says(&pod, "dry-run", "nothing is written").await?;
        says(&pod, "forming", "").await?;
    }
    wait::throughout(WATCH, "nothing is written", async || {
        let writes = bed.writes_seen().await?;
        ensure!(writes.total() == 0, "{writes:?}");
        ensure!(writes.by_pod.len() == 6, "not all answered");
        Ok(())
    })
    .await?;
    for pod in bed.pods() {
        let log = log(&pod)?;
        let would = log.lines().find(|line| line.contains("would "));
        would.with_context(|| format!("{} would do nothing", pod.name))?;
        ensure!(unmarked(&pod) && !pod.data_dir().join("redis-sidecar.json").exists());
    }
    ensure!(
        log(&bed.pod(0)?)?.contains("0-5460"),
        "{}",
        log(&bed.pod(0)?)?
    );
    bed.finish().await
}
