//! Pods that return with other addresses, several or all at once: the cluster is whole again, with
//! the same nodes, keys and roles as Redis's own elections left them, and then silent.

use std::sync::Arc;

use anyhow::{Result, ensure};
use testbed::{Ending, Pod, Role, Snapshot, Testbed, wait};

use crate::common::*;

/// Whole with the same nodes and keys, ready, and nobody writes any more.
async fn healed(bed: &Testbed, before: &Snapshot) -> Result<Snapshot> {
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    bed.falls_silent(QUIET, LONG).await?;
    Ok(after)
}

/// Kills every pod and gives each a fresh address; nothing is started.
async fn all_gone_and_readdressed(bed: &Testbed) -> Result<()> {
    for pod in bed.pods() {
        bed.end_pod(pod.ordinal, Ending::Kill).await?;
    }
    for pod in bed.pods() {
        pod.move_to(bed.fresh_address()?).await?;
    }
    Ok(())
}

async fn several_move(name: &str, ordinals: &[usize]) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 300).await?;
    bed.move_pods(ordinals).await?;
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Scenario 11: all pods come back with new addresses.
#[tokio::test]
async fn all_pods_at_new_addresses_become_the_same_cluster() -> Result<()> {
    several_move("move-all", &[0, 1, 2, 3, 4, 5]).await
}

/// Scenario 12: all masters move; no majority is left to elect anybody.
#[tokio::test]
async fn all_masters_at_new_addresses_are_found() -> Result<()> {
    several_move("move-masters", &[0, 1, 2]).await
}

/// Both pods of a shard.
#[tokio::test]
async fn a_whole_shard_at_new_addresses_is_found() -> Result<()> {
    several_move("move-shard", &[1, 4]).await
}

/// Everything moves, again and again, and always while the last healing may still be under way.
#[tokio::test]
async fn moving_again_before_it_is_healed_changes_nothing() -> Result<()> {
    let (bed, before) = formed("move-again").await?;
    let canary = bed.write_canary("move-again", 300).await?;
    for _ in 0..3 {
        bed.move_pods(&[0, 1, 2, 3, 4, 5]).await?;
        for pod in bed.pods() {
            wait::until(LONG, "the agent is up", async || {
                ensure!(pod.get("/livez").await?.status == 200);
                Ok(())
            })
            .await?;
        }
    }
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Scenario 11 where the pods come one after another, as with OrderedReady.
#[tokio::test]
async fn a_full_restart_in_order_does_not_lock_up() -> Result<()> {
    let (bed, before) = formed("move-ordered").await?;
    let canary = bed.write_canary("move-ordered", 300).await?;
    all_gone_and_readdressed(&bed).await?;
    bed.ordered_ready_start(LONG).await?;
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// The same, after pod 2 has handed its slots to pod 5 and pods 0 and 1 were gone before they heard of it:
/// nobody who is there can name the owner, which is not created before they are ready.
#[tokio::test]
async fn a_full_restart_in_order_after_a_handoff_does_not_lock_up() -> Result<()> {
    let (bed, before) = formed("move-ordered-handoff").await?;
    let canary = bed.write_canary("move-ordered-handoff", 300).await?;
    let ignorant = [bed.pod(0)?, bed.pod(1)?];
    let mut knew = Vec::new();
    for pod in &ignorant {
        knew.push(std::fs::read(pod.nodes_conf())?);
    }
    let asked = command(&*bed.pod(2)?, &["failover"]).await?;
    ensure!(asked.code == 0, "{asked:?}");
    let after = bed.whole(LONG).await?;
    ensure!(after.masters() == [0, 1, 5], "{after}");
    all_gone_and_readdressed(&bed).await?;
    for (pod, conf) in ignorant.iter().zip(knew) {
        std::fs::write(pod.nodes_conf(), conf)?;
    }
    bed.ordered_ready_start(LONG).await?;
    let healed = bed.whole(LONG).await?;
    ensure!(healed.ids() == before.ids(), "{healed}");
    ensure!(healed.masters() == [0, 1, 5], "{healed}");
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// A full restart in order in which pod 0's volume is lost and pod 4 is the master of its shard: pod 3, which has the
/// data of pod 0, is not elected without pod 4, which is created when pod 3 is ready.
#[tokio::test]
async fn a_full_restart_in_order_with_a_lost_volume_does_not_lock_up() -> Result<()> {
    let bed = super::lost_volumes::impatient("move-ordered-lost")
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("move-ordered-lost", 300).await?;
    let asked = command(&*bed.pod(1)?, &["failover"]).await?;
    ensure!(asked.code == 0, "{asked:?}");
    let handed = bed.whole(LONG).await?;
    ensure!(handed.masters() == [0, 2, 4], "{handed}");
    all_gone_and_readdressed(&bed).await?;
    bed.pod(0)?.wipe_volume().await?;
    bed.ordered_ready_start(LONG).await?;
    wait::until(LONG, "pod 3 takes over and pod 0 joins", async || {
        let now = bed.whole(LONG).await?;
        ensure!(now.masters() == [2, 3, 4], "{now}");
        let (ids, old) = (now.ids(), before.ids());
        ensure!(ids.len() == old.len() && ids != old, "{now}");
        Ok(())
    })
    .await?;
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Two pods come back at each other's addresses.
#[tokio::test]
async fn two_pods_with_swapped_addresses_are_told_apart() -> Result<()> {
    let (bed, before) = formed("swap").await?;
    let canary = bed.write_canary("swap", 300).await?;
    for (one, other) in [(0, 1), (2, 4)] {
        swap(&bed, one, other).await?;
        healed(&bed, &before).await?;
        canary.intact(&bed).await?;
    }
    bed.finish().await
}

async fn swap(bed: &Testbed, one: usize, other: usize) -> Result<()> {
    let pods: [Arc<Pod>; 2] = [bed.pod(one)?, bed.pod(other)?];
    let addresses = [pods[0].address(), pods[1].address()];
    for pod in &pods {
        bed.end_pod(pod.ordinal, Ending::Kill).await?;
    }
    pods[0].move_to(addresses[1]).await?;
    pods[1].move_to(addresses[0]).await?;
    for pod in &pods {
        bed.start_pod(pod.ordinal).await?;
    }
    Ok(())
}

/// All pods deal their addresses round.
#[tokio::test]
async fn addresses_dealt_round_are_told_apart() -> Result<()> {
    let (bed, before) = formed("deal").await?;
    let canary = bed.write_canary("deal", 300).await?;
    let pods = bed.pods();
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address()).collect();
    for pod in &pods {
        bed.end_pod(pod.ordinal, Ending::Kill).await?;
    }
    for pod in &pods {
        let next = addresses[(pod.ordinal + 1) % addresses.len()];
        pod.move_to(next).await?;
    }
    for pod in &pods {
        bed.start_pod(pod.ordinal).await?;
    }
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Scenario 23: a replica's link still dials its master's old address after the table is right.
#[tokio::test]
async fn a_stale_replication_address_is_repaired() -> Result<()> {
    let (bed, before) = formed("stale-link").await?;
    let canary = bed.write_canary("stale-link", 300).await?;
    // The whole shard goes, so that nobody is elected; the replica comes first, and dials in vain.
    for ordinal in [0, 3] {
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    for ordinal in [3, 0] {
        bed.pod(ordinal)?.move_to(bed.fresh_address()?).await?;
    }
    bed.start_pod(3).await?;
    says(&*bed.pod(3)?, "replica-link-down", "").await?;
    bed.start_pod(0).await?;
    let after = healed(&bed, &before).await?;
    let roles = (after.nodes[&0].role, after.nodes[&3].role);
    ensure!(roles == (Role::Master, Role::Replica), "{after}");
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Part of the peers is missing: those that are there find each other, and the rest later.
#[tokio::test]
async fn those_that_are_there_heal_without_the_rest() -> Result<()> {
    let (bed, before) = formed("part").await?;
    let canary = bed.write_canary("part", 300).await?;
    all_gone_and_readdressed(&bed).await?;
    for ordinal in [0, 1, 2, 4] {
        bed.start_pod(ordinal).await?;
    }
    for ordinal in [0, 1, 2, 4] {
        let pod = bed.pod(ordinal)?;
        wait::until(LONG, "those that are there are ready", async || {
            let answer = pod.get("/readyz").await?;
            ensure!(answer.status == 200, "{}: {}", pod.name, answer.body);
            Ok(())
        })
        .await?;
    }
    canary.intact(&bed).await?;
    for ordinal in [3, 5] {
        bed.start_pod(ordinal).await?;
    }
    healed(&bed, &before).await?;
    bed.finish().await
}
