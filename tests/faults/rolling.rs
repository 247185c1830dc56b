//! Scenario 37: a rolling restart under writes, as a StatefulSet does it: from the last pod to the
//! first, each at a new address, the next only when the one before is ready. And scenarios 38 and 39:
//! the same with a replica that is not ready to take over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use testbed::{Ending, Pod, Snapshot, Testbed, wait};

use crate::common::*;

/// Restarts every pod, the last one first. With the hook, or as if there were none.
async fn roll(bed: &Testbed, with_hook: bool) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for ordinal in (0..bed.pods().len()).rev() {
        let pod = bed.pod(ordinal)?;
        if with_hook {
            // Both containers have it, and the kubelet runs both at one time.
            let hook = ["pre-stop", "--grace", "60"];
            let (one, other) = tokio::join!(command(&pod, &hook), command(&pod, &hook));
            let (one, other) = (one?, other?);
            ensure!(
                one.code == 0 && other.code == 0,
                "{ordinal}: {one:?} {other:?}"
            );
            said.extend(
                one.text
                    .lines()
                    .last()
                    .map(|line| format!("{ordinal}: {line}")),
            );
        }
        file_is_begun(&pod).await?;
        bed.end_pod(ordinal, Ending::Graceful).await?;
        pod.move_to(bed.fresh_address()?).await?;
        bed.start_pod(ordinal).await?;
        bed.pod_ready(&pod, LONG).await?;
    }
    Ok(said)
}

async fn whole_again(bed: &Testbed, before: &Snapshot) -> Result<()> {
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_acknowledged_write() -> Result<()> {
    let (bed, before) = formed("roll").await?;
    let ledger = bed.ledger().await?;
    let began = Instant::now();
    let said = roll(&bed, true).await?;
    let took = began.elapsed();
    whole_again(&bed, &before).await?;
    let shards = ledger.close(&bed).await?;
    println!("{}", said.join("\n"));
    tell(
        &format!("a rolling restart with the handoff, all pods within {took:.1?}"),
        &shards,
    );
    nothing_lost(&shards)?;
    // An election takes the node timeout, 5 s here; a handoff takes no part of it.
    for shard in &shards {
        ensure!(
            shard.longest_gap < Duration::from_secs(2),
            "{:?}",
            shard.longest_gap
        );
    }
    bed.finish().await
}

/// What the handoff is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_hook_each_master_is_missed_until_redis_finds_out() -> Result<()> {
    let (bed, before) = formed("roll-without").await?;
    let ledger = bed.ledger().await?;
    let began = Instant::now();
    roll(&bed, false).await?;
    let took = began.elapsed();
    whole_again(&bed, &before).await?;
    let shards = ledger.close(&bed).await?;
    tell(
        &format!("a rolling restart without the handoff, all pods within {took:.1?}"),
        &shards,
    );
    let longest = shards.iter().map(|shard| shard.longest_gap).max();
    ensure!(
        longest > Some(Duration::from_secs(1)),
        "{longest:?}: the test shows nothing"
    );
    bed.finish().await
}

/// Fills a master with this many megabytes in values of 100 kB.
async fn fill(pod: &Pod, megabytes: usize) -> Result<()> {
    let value = "x".repeat(100_000);
    let slots = role(pod).await?["slots"][0].clone();
    let (first, last) = (slots[0].as_u64(), slots[1].as_u64());
    let mut written = 0;
    for n in 0.. {
        let key = format!("fill:{n}");
        let slot: u64 = pod.command(&["CLUSTER", "KEYSLOT", &key]).await?;
        if first <= Some(slot) && Some(slot) <= last {
            pod.command::<()>(&["SET", &key, &value]).await?;
            written += 1;
        }
        if written >= megabytes * 10 {
            break;
        }
    }
    Ok(())
}

/// Scenario 38: the only replica is in the middle of a full copy of 100 MB. It is waited for, and takes over when
/// it has all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_in_the_middle_of_its_first_copy_is_waited_for() -> Result<()> {
    let bed = bed("roll-copy")
        .redis_line("repl-backlog-size 16kb")
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let (pod, replica) = (bed.pod(0)?, bed.pod(3)?);
    replica.redis.kill().await?;
    fill(&pod, 100).await?;
    // Slow enough to be met in the middle of it.
    pod.command::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "3000"])
        .await?;
    replica.start_redis().await?;
    wait::until(LONG, "the copy is under way", async || {
        let message = reason(&replica, "replica-syncing").await?;
        ensure!(!message.is_empty());
        Ok(())
    })
    .await?;
    let ledger = bed.ledger().await?;
    let hook = command(&pod, &["pre-stop", "--grace", "60"]).await?;
    ensure!(hook.code == 0, "{hook:?}");
    println!("{}", hook.text);
    ensure!(hook.text.contains("is still copying the data"), "{hook:?}");
    ensure!(hook.text.contains("handed over to redis-app-3"), "{hook:?}");
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    whole_again(&bed, &before).await?;
    kept(ledger, &bed, "a handoff to a replica in its first copy").await?;
    bed.finish().await
}

/// What this Redis has written, or applied.
async fn offset(pod: &Pod) -> Result<u64> {
    let info: String = pod.command(&["INFO", "replication"]).await?;
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let found = value("slave_repl_offset:").or(value("master_repl_offset:"));
    Ok(found.context("no offset")?.trim().parse()?)
}

/// Scenario 39: the only replica cannot keep up. It is told when it has come near, so that the master
/// holds its clients back for no longer than it must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_may_catch_up_first() -> Result<()> {
    let bed = bed("roll-behind")
        .agent_env("MAX_LAG_BYTES", "300000")
        .redis_line("client-output-buffer-limit replica 0 0 0")
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let (pod, replica) = (bed.pod(0)?, bed.pod(3)?);
    let busy = Arc::new(AtomicBool::new(true));
    // It runs for a moment now and then: enough to answer, not enough to read all that comes.
    let slowed = tokio::spawn({
        let (replica, busy) = (Arc::clone(&replica), Arc::clone(&busy));
        async move {
            while busy.load(Ordering::Relaxed) {
                replica.redis.freeze().await?;
                tokio::time::sleep(Duration::from_millis(120)).await;
                replica.redis.thaw().await?;
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            anyhow::Ok(())
        }
    });
    let filling = tokio::spawn({
        let (pod, busy) = (Arc::clone(&pod), Arc::clone(&busy));
        async move {
            while busy.load(Ordering::Relaxed) {
                fill(&pod, 2).await?;
            }
            anyhow::Ok(())
        }
    });
    wait::until(LONG, "the replica is behind", async || {
        let (ahead, behind) = (offset(&pod).await?, offset(&replica).await?);
        ensure!(ahead > behind + 5_000_000, "{behind} of {ahead}");
        Ok(())
    })
    .await?;
    let ledger = bed.ledger().await?;
    let hook = tokio::spawn({
        let pod = Arc::clone(&pod);
        async move { command(&pod, &["pre-stop", "--grace", "60"]).await }
    });
    says(&pod, "stopping", "").await?;
    rounds_pass(&pod, 20).await?;
    busy.store(false, Ordering::Relaxed);
    slowed.await??;
    // Its master may become a replica while it writes.
    let _ = filling.await?;
    let hook = hook.await??;
    ensure!(hook.text.contains("bytes behind"), "{hook:?}");
    ensure!(
        hook.code == 0 && hook.text.contains("handed over to redis-app-3"),
        "{hook:?}"
    );
    bed.end_pod(0, Ending::Graceful).await?;
    bed.start_pod(0).await?;
    whole_again(&bed, &before).await?;
    kept(ledger, &bed, "a handoff to a replica that is behind").await?;
    bed.finish().await
}
