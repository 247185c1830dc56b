//! Addresses that change, or are shown wrongly.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Builder, Ending, Pod, Snapshot, Testbed, Truth, wait};

use crate::common::*;

/// Moves one pod of a formed cluster with its volume.
async fn moves(name: &str, ordinal: usize) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 200).await?;
    let old = bed.pod(ordinal)?.address();
    bed.move_pod(ordinal).await?;

    let after = bed.whole(LONG).await?;
    let pod = bed.pod(ordinal)?;
    ensure!(pod.address() != old, "it has not moved");
    ensure!(after.ids() == before.ids(), "somebody was reborn");
    shows_itself_at_its_address(&bed.truth().await, &pod)?;
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    let address = role(&pod).await?["address"].clone();
    ensure!(address == pod.redis_address().to_string(), "{address}");
    bed.silent(QUIET).await?;
    bed.finish().await
}

fn shows_itself_at_its_address(truth: &Truth, pod: &Pod) -> Result<()> {
    let account = truth.accounts.get(&pod.ordinal).context("no account")?;
    let myself = account.myself().context("no line of its own")?;
    ensure!(myself.address == Some(pod.redis_address()), "{myself:?}");
    Ok(())
}

/// Scenario 13: one replica's pod moves.
#[tokio::test]
async fn a_replica_that_moves_is_found_at_its_new_address() -> Result<()> {
    moves("move-replica", 4).await
}

/// Scenario 13: one master's pod moves.
#[tokio::test]
async fn a_master_that_moves_is_found_at_its_new_address() -> Result<()> {
    moves("move-master", 1).await
}

/// Scenario 19: a node announces an address that is not its own.
#[tokio::test]
async fn a_wrong_announced_address_is_put_right() -> Result<()> {
    let (bed, before) = formed("announce").await?;
    let canary = bed.write_canary("announce", 100).await?;
    for ordinal in [2, 5] {
        let pod = bed.pod(ordinal)?;
        let wrong = bed.fresh_address()?.to_string();
        pod.command::<()>(&["CONFIG", "SET", "cluster-announce-ip", &wrong])
            .await?;
        wait::until(LONG, "the own table is right again", async || {
            let set: Vec<String> = pod
                .command(&["CONFIG", "GET", "cluster-announce-ip"])
                .await?;
            ensure!(set.get(1) == Some(&pod.address().to_string()), "{set:?}");
            shows_itself_at_its_address(&bed.truth().await, &pod)
        })
        .await?;
    }
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn");
    ensure!(after.replication() == before.replication(), "{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 19: without an agent at that moment, the next one puts it right.
#[tokio::test]
async fn a_wrong_address_set_while_the_agent_was_away_is_put_right() -> Result<()> {
    let (bed, _) = formed("announce-away").await?;
    let pod = bed.pod(4)?;
    pod.agent.kill().await?;
    let wrong = bed.fresh_address()?.to_string();
    pod.command::<()>(&["CONFIG", "SET", "cluster-announce-ip", &wrong])
        .await?;
    wait::until(LONG, "the wrong address is in the own table", async || {
        ensure!(shows_itself_at_its_address(&bed.truth().await, &pod).is_err());
        Ok(())
    })
    .await?;
    pod.start_agent().await?;
    bed.whole(LONG).await?;
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// Redis alone restarts, and has forgotten what it was told: the first attempt must do.
#[tokio::test]
async fn a_restarted_redis_is_told_its_names_at_the_first_attempt() -> Result<()> {
    let (bed, _) = formed("announce-restart").await?;
    let pod = bed.pod(4)?;
    pod.redis.kill().await?;
    says(&pod, "redis-unreachable", "").await?;
    pod.start_redis().await?;
    wait::until(LONG, "it announces its address again", async || {
        let set: Vec<String> = pod
            .command(&["CONFIG", "GET", "cluster-announce-ip"])
            .await?;
        ensure!(set.get(1) == Some(&pod.address().to_string()), "{set:?}");
        Ok(())
    })
    .await?;
    let log = log(&pod)?;
    ensure!(!log.contains("no answer to"), "{log}");
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// What a machine lacks that cannot be given such addresses.
pub(crate) const ON_IPV6: &str = "IPv6 alone (takes root and ip)";

/// A formed cluster on IPv6 alone; `None`, with a line that says why, where this machine has none.
async fn formed_on_ipv6(name: &str) -> Result<Option<(Testbed, Snapshot)>> {
    let timeout = Duration::from_secs(2);
    let plain = bed(name).node_timeout(timeout);
    let Some(bed) = if_possible(ON_IPV6, plain, Builder::ipv6).await? else {
        return Ok(None);
    };
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    Ok(Some((bed, before)))
}

/// Scenario 20: IPv6 only; one pod moves, then all.
#[tokio::test]
async fn a_cluster_of_ipv6_pods_forms_and_moves_like_any_other() -> Result<()> {
    let Some((bed, before)) = formed_on_ipv6("ipv6").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("ipv6", 100).await?;
    for moved in [&[3][..], &[0, 1, 2, 3, 4, 5]] {
        bed.move_pods(moved).await?;
        let after = bed.whole(LONG).await?;
        ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
        ensure!(after.replication() == before.replication(), "{after}");
        bed.all_ready(LONG).await?;
        canary.intact(&bed).await?;
        bed.silent(QUIET).await?;
        for pod in bed.pods() {
            shows_itself_at_its_address(&bed.truth().await, &pod)?;
        }
    }
    bed.finish().await
}

/// Scenario 20: IPv6 only; a master dies, and comes back elsewhere as a replica of its successor.
#[tokio::test]
async fn a_master_on_ipv6_is_replaced_and_comes_back_elsewhere() -> Result<()> {
    let Some((bed, before)) = formed_on_ipv6("ipv6-failover").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("ipv6-failover", 100).await?;
    crate::lost_volumes::copied(&bed, &before).await?;
    bed.end_pod(1, Ending::Kill).await?;
    wait::until(LONG, "pod 4 is elected", async || {
        let role = role(&*bed.pod(4)?).await?;
        ensure!(role["role"] == "master" && role["ready"] == true, "{role}");
        Ok(())
    })
    .await?;
    bed.pod(1)?.move_to(bed.fresh_address()?).await?;
    bed.start_pod(1).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    ensure!(after.replicas_of(4) == [1], "{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
