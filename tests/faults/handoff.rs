//! A master that is about to be stopped: its slots go to a replica first, under load, and nothing
//! that was acknowledged is lost. Scenarios 39, 40, 41 and 42; which of several replicas: `handoff_choice.rs`;
//! the rolling restart: `rolling.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Builder, Ending, Pod, Role, Testbed, wait};

use crate::{addresses::ON_IPV6, common::*};

/// Every node that owns slots, by ordinal.
async fn masters(bed: &Testbed) -> Result<Vec<usize>> {
    let truth = bed.whole(LONG).await?;
    let masters = truth.nodes.iter().filter(|(_, n)| n.role == Role::Master);
    Ok(masters.map(|(ordinal, _)| *ordinal).collect())
}

/// How often each Redis was told `CLUSTER FAILOVER`.
pub(crate) async fn told(bed: &Testbed) -> Result<u64> {
    Ok(bed.writes_seen().await?.of("cluster|failover"))
}

/// The planned stop of a master, as the kubelet does it: the hook first, then the signal.
#[tokio::test]
async fn a_master_hands_its_slots_over_before_it_stops() -> Result<()> {
    let (bed, before) = formed("handoff").await?;
    let canary = bed.write_canary("handoff", 300).await?;
    let load = bed.load(Duration::from_millis(1));
    let pod = bed.pod(0)?;

    let began = Instant::now();
    let hook = command(&pod, &["pre-stop", "--grace", "30"]).await?;
    let took = began.elapsed();
    ensure!(hook.code == 0, "{hook:?}");
    ensure!(
        hook.text
            .contains("slots 0-5460 handed over to redis-app-3"),
        "{hook:?}"
    );
    ensure!(masters(&bed).await? == [1, 2, 3], "not handed over");
    // It says so, and is not sent any more clients.
    ensure!(role(&pod).await?["stopping"] == true);
    ensure!(role(&pod).await?["role"] == "replica");
    ensure!(pod.get("/readyz").await?.status == 503);
    reason(&pod, "stopping").await?;
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    bed.whole(LONG).await?;
    bed.all_ready(LONG).await?;
    let history = pod.get("/history").await?.body;
    ensure!(
        history.contains("slots 0-5460 handed over to redis-app-3"),
        "the next agent does not tell of it: {history}"
    );

    let written = load.stop().await?;
    println!(
        "handoff within {took:?}; {} writes acknowledged, longest gap {:?}, {} refused",
        written.acknowledged.len(),
        written.longest_gap,
        written.refused.len()
    );
    written.none_lost(&bed).await?;
    ensure!(told(&bed).await? == 1, "{:?}", bed.writes_seen().await?);
    ensure!(
        role(&pod).await?.get("stopping").is_none(),
        "a new agent knows of no stop"
    );
    as_before(bed, &before, &canary).await
}

/// The order to the replica goes with the same password as all else, over IPv6 as well.
#[tokio::test]
async fn a_cluster_with_a_password_hands_over_on_ipv6() -> Result<()> {
    let plain = bed("handoff-password").password("a-secret-of-the-test");
    let Some(bed) = if_possible(ON_IPV6, plain, Builder::ipv6).await? else {
        return Ok(());
    };
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("handoff-password", 100).await?;
    let hook = command(&*bed.pod(1)?, &["pre-stop"]).await?;
    ensure!(hook.code == 0, "{hook:?}");
    ensure!(masters(&bed).await? == [0, 2, 4], "{hook:?}");
    for pod in bed.pods() {
        ensure!(!log(&pod)?.contains("a-secret-of-the-test"), "S14");
    }
    bed.end_pod(1, Ending::Graceful).await?;
    bed.start_pod(1).await?;
    as_before(bed, &before, &canary).await
}

/// Whoever has nothing to hand over says so at once, and nobody is told anything.
#[tokio::test]
async fn a_replica_has_nothing_to_hand_over() -> Result<()> {
    let (bed, before) = formed("handoff-replica").await?;
    let canary = bed.write_canary("handoff-replica", 100).await?;
    let pod = bed.pod(4)?;
    let began = Instant::now();
    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(
        hook.code == 0 && began.elapsed() < Duration::from_secs(3),
        "{hook:?}"
    );
    ensure!(
        hook.text
            .contains("a replica of redis-app-1 has nothing to hand over"),
        "{hook:?}"
    );
    says(&pod, "stopping", "").await?;
    bed.end_pod(4, Ending::Graceful).await?;
    // Without its agent there is nobody to ask; the hook does not wait for one.
    let began = Instant::now();
    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(
        hook.code == 69 && began.elapsed() < Duration::from_secs(8),
        "{hook:?}"
    );
    bed.start_pod(4).await?;
    bed.whole(LONG).await?;
    ensure!(told(&bed).await? == 0);
    as_before(bed, &before, &canary).await
}

/// Scenario 40: no replica. The data are on the disk when the hook ends, and it tells what follows.
#[tokio::test]
async fn without_a_replica_the_data_are_on_disk_first() -> Result<()> {
    let bed = bed("handoff-alone").shape(3, 0).build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("handoff-alone", 300).await?;
    let pod = bed.pod(1)?;
    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(hook.code == 1, "{hook:?}");
    for part in [
        "no replica",
        "the append-only file is on disk",
        "without a master until",
    ] {
        ensure!(hook.text.contains(part), "{part}: {hook:?}");
    }
    // It still serves.
    pod.ready().await?;
    bed.end_pod(1, Ending::Kill).await?;
    bed.start_pod(1).await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 40 without an append-only file: it tells what would be lost, and of what nothing would.
#[tokio::test]
async fn without_a_replica_and_an_append_only_file_it_tells_what_is_at_risk() -> Result<()> {
    let bed = bed("handoff-no-aof")
        .shape(3, 0)
        .appendonly(false)
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("handoff-no-aof", 300).await?;
    let pod = bed.pod(1)?;
    let unsaved = changes_since_the_last_snapshot(&pod).await?;
    ensure!(unsaved >= 90, "a third of the keys: {unsaved}");
    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(hook.code == 1, "{hook:?}");
    let risk = format!(
        "there is no append-only file, and {unsaved} changes since the last snapshot are lost unless Redis saves one"
    );
    for part in ["no replica", &risk, "without a master until"] {
        ensure!(hook.text.contains(part), "{part}: {hook:?}");
    }

    pod.command::<()>(&["SAVE"]).await?;
    let hook = command(&pod, &["pre-stop"]).await?;
    ensure!(hook.code == 1, "{hook:?}");
    let said = hook.text.contains("the last snapshot has all data");
    ensure!(said && !hook.text.contains("are lost"), "{hook:?}");
    // It is true.
    bed.end_pod(1, Ending::Kill).await?;
    bed.start_pod(1).await?;
    as_before(bed, &before, &canary).await
}

async fn changes_since_the_last_snapshot(pod: &Pod) -> Result<u64> {
    let info: String = pod.command(&["INFO", "persistence"]).await?;
    let field = "rdb_changes_since_last_save:";
    let value = info.lines().find_map(|line| line.strip_prefix(field));
    Ok(value.context("no such field")?.trim().parse()?)
}

/// Scenario 42: both pods of a shard are told to stop. Nobody hands to one that stops itself, and the
/// slots do not go to and fro.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_stop_do_not_hand_to_each_other() -> Result<()> {
    let (bed, before) = formed("handoff-both").await?;
    let canary = bed.write_canary("handoff-both", 300).await?;
    let ledger = bed.ledger().await?;
    let (master, replica) = (bed.pod(0)?, bed.pod(3)?);
    let hook = command(&replica, &["pre-stop"]).await?;
    ensure!(hook.code == 0, "{hook:?}");
    let hook = command(&master, &["pre-stop"]).await?;
    ensure!(hook.code == 1, "{hook:?}");
    ensure!(
        hook.text
            .contains("redis-app-3 is about to be stopped itself"),
        "{hook:?}"
    );
    ensure!(told(&bed).await? == 0);
    for ordinal in [3, 0] {
        bed.end_pod(ordinal, Ending::Graceful).await?;
    }
    for ordinal in [0, 3] {
        bed.start_pod(ordinal).await?;
    }
    bed.whole(LONG).await?;
    kept(ledger, &bed, "both pods of a shard stop, the replica first").await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 42, at the same moment: whatever comes of it, at most one handoff.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_stop_at_once_lose_nothing() -> Result<()> {
    let (bed, before) = formed("handoff-at-once").await?;
    let canary = bed.write_canary("handoff-at-once", 300).await?;
    let ledger = bed.ledger().await?;
    let (master, replica) = (bed.pod(0)?, bed.pod(3)?);
    let (one, other) = tokio::join!(
        command(&master, &["pre-stop", "--grace", "16"]),
        command(&replica, &["pre-stop", "--grace", "16"]),
    );
    let (one, other) = (one?, other?);
    println!("master: {one:?}\nreplica: {other:?}");
    ensure!([0, 1].contains(&one.code), "{one:?}");
    ensure!([0, 1].contains(&other.code), "{other:?}");
    ensure!(told(&bed).await? <= 1, "{:?}", bed.writes_seen().await?);
    for ordinal in [0, 3] {
        bed.end_pod(ordinal, Ending::Graceful).await?;
    }
    for ordinal in [0, 3] {
        bed.start_pod(ordinal).await?;
    }
    bed.whole(LONG).await?;
    kept(ledger, &bed, "both pods of a shard stop at once").await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 41: the agent is killed while the replica takes over. Redis finishes by itself, and the
/// hook asks the agent that comes after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_the_middle_is_asked_again() -> Result<()> {
    let (bed, before) = formed("handoff-agent-killed").await?;
    let canary = bed.write_canary("handoff-agent-killed", 300).await?;
    let ledger = bed.ledger().await?;
    let (pod, replica) = (bed.pod(0)?, bed.pod(3)?);
    // Nobody votes for the replica yet, so that the handoff is under way for a while.
    let voters = [bed.pod(1)?, bed.pod(2)?];
    for voter in &voters {
        voter.redis.freeze().await?;
    }
    let hook = tokio::spawn({
        let pod = pod.clone();
        async move { command(&pod, &["pre-stop"]).await }
    });
    wait::until(LONG, "the replica is told", async || {
        ensure!(log(&pod)?.contains("take over"), "not yet");
        Ok(())
    })
    .await?;
    pod.agent.kill().await?;
    pod.start_agent().await?;
    for voter in &voters {
        voter.redis.thaw().await?;
    }
    let hook = hook.await??;
    ensure!(hook.code == 0, "{hook:?}");
    ensure!(masters(&bed).await? == [1, 2, 3], "{hook:?}");
    ensure!(role(&replica).await?["role"] == "master");
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    bed.whole(LONG).await?;
    kept(
        ledger,
        &bed,
        "the agent is killed in the middle of a handoff",
    )
    .await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 41: the replica dies when it is told; with no other, the master stays one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_in_the_middle_takes_nothing_with_it() -> Result<()> {
    let (bed, before) = formed("handoff-replica-killed").await?;
    let canary = bed.write_canary("handoff-replica-killed", 300).await?;
    let ledger = bed.ledger().await?;
    let (pod, replica) = (bed.pod(0)?, bed.pod(3)?);
    // Nobody votes for it yet, so that it is in the middle for a while.
    let voters = [bed.pod(1)?, bed.pod(2)?];
    for voter in &voters {
        voter.redis.freeze().await?;
    }
    let began = Instant::now();
    let hook = tokio::spawn({
        let pod = pod.clone();
        // As the manifests' containers have it.
        let grace = [("TERMINATION_GRACE_SECONDS", "16")];
        async move { command_with(&pod, &["pre-stop"], &grace).await }
    });
    wait::until(LONG, "the replica is told", async || {
        ensure!(log(&pod)?.contains("take over"), "not yet");
        Ok(())
    })
    .await?;
    replica.redis.kill().await?;
    for voter in &voters {
        voter.redis.thaw().await?;
    }
    let hook = hook.await??;
    let took = began.elapsed();
    ensure!(hook.code == 1, "{hook:?}");
    // Redis gives the replica 5 s, and nobody else may be told meanwhile; the rest of the 16 s is Redis's.
    let (least, bound) = (Duration::from_secs(5), Duration::from_secs(6));
    let late = bound + Duration::from_secs(3);
    ensure!((least..=late).contains(&took), "{took:?}: {hook:?}");
    replica.start_redis().await?;
    bed.whole(LONG).await?;
    ensure!(masters(&bed).await? == [0, 1, 2], "{hook:?}");
    kept(
        ledger,
        &bed,
        "the replica is killed in the middle of a handoff",
    )
    .await?;
    // The stop never came: after a while this is a pod like any other.
    pod.agent.kill().await?;
    pod.start_agent().await?;
    as_before(bed, &before, &canary).await
}

/// Waits until this replica, which has been told, has everything, and its master holds its clients back
/// (`clusterHandleManualFailover`).
async fn has_everything(replica: &Pod) -> Result<()> {
    let said = "replication stream processed, manual failover can start";
    wait::until(LONG, "the replica has everything", async || {
        let log = std::fs::read_to_string(replica.redis.log())?;
        ensure!(log.contains(said), "not yet");
        Ok(())
    })
    .await
}

/// Scenario 41: the master itself dies while its replica takes over. There is nothing left to hand
/// over, the hook says so at once, and Redis elects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_in_the_middle_is_replaced_all_the_same() -> Result<()> {
    let (bed, before) = formed("handoff-master-killed").await?;
    let canary = bed.write_canary("handoff-master-killed", 300).await?;
    let ledger = bed.ledger().await?;
    // It is over soon.
    wait::until(LONG, "there is something to be lost", async || {
        ensure!(ledger.fewest() > 200, "{}", ledger.fewest());
        Ok(())
    })
    .await?;
    let pod = bed.pod(0)?;
    let voters = [bed.pod(1)?, bed.pod(2)?];
    for voter in &voters {
        voter.redis.freeze().await?;
    }
    let hook = tokio::spawn({
        let pod = pod.clone();
        async move { command(&pod, &["pre-stop"]).await }
    });
    wait::until(LONG, "the replica is told", async || {
        ensure!(log(&pod)?.contains("take over"), "not yet");
        Ok(())
    })
    .await?;
    // What Redis has acknowledged before is lost with its process.
    has_everything(&*bed.pod(3)?).await?;
    pod.redis.kill().await?;
    for voter in &voters {
        voter.redis.thaw().await?;
    }
    let hook = hook.await??;
    ensure!(
        hook.code == 0 && hook.text.contains("Redis does not run"),
        "{hook:?}"
    );
    bed.end_pod(0, Ending::Graceful).await?;
    wait::until(LONG, "the replica has taken over", async || {
        ensure!(role(&*bed.pod(3)?).await?["role"] == "master");
        Ok(())
    })
    .await?;
    bed.start_pod(0).await?;
    bed.whole(LONG).await?;
    kept(
        ledger,
        &bed,
        "the master is killed in the middle of a handoff",
    )
    .await?;
    as_before(bed, &before, &canary).await
}
