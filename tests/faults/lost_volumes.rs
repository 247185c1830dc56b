//! Lost volumes: a master's, a replica's (scenarios 24-26), at the same and at a new address, before and
//! after Redis noticed; and how often a replica copies the emptiness. A whole shard's: `lost_shard.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Builder, Ending, Pod, Snapshot, Testbed, canary::Canary, wait};

use crate::{common::*, history};

/// Ghosts are forgotten after four node timeouts here, and not after two minutes.
pub(crate) fn impatient(name: &str) -> Builder {
    bed(name)
        .node_timeout(Duration::from_secs(1))
        .agent_env("TEST_GHOSTS_GONE_FOR_MS", "4000")
}

pub(crate) async fn with_data(name: &str) -> Result<(Testbed, Snapshot, Canary)> {
    filled(impatient(name).build().await?).await
}

async fn filled(bed: Testbed) -> Result<(Testbed, Snapshot, Canary)> {
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("kept", 300).await?;
    copied(&bed, &before).await?;
    Ok((bed, before, canary))
}

/// Replication is asynchronous: what was written a moment ago may be the master's alone.
pub(crate) async fn copied(bed: &Testbed, before: &Snapshot) -> Result<()> {
    wait::until(LONG, "the replicas have every key", async || {
        for (replica, master) in before.replication() {
            let there: usize = bed.pod(master)?.command(&["DBSIZE"]).await?;
            let here: usize = bed.pod(replica)?.command(&["DBSIZE"]).await?;
            ensure!(here == there && here > 0, "{replica}: {here} of {there}");
        }
        Ok(())
    })
    .await
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Address {
    Same,
    New,
}

/// Ends a pod and takes its volume away.
pub(crate) async fn lose(bed: &Testbed, ordinal: usize, address: Address) -> Result<()> {
    let pod = bed.pod(ordinal)?;
    bed.end_pod(ordinal, Ending::Kill).await?;
    pod.wipe_volume().await?;
    if address == Address::New {
        pod.move_to(bed.fresh_address()?).await?;
    }
    Ok(())
}

/// Starts a pod's agent, as a native sidecar is before Redis.
async fn agent_runs(pod: &Pod) -> Result<()> {
    pod.start_agent().await?;
    wait::until(LONG, "the agent answers", async || role(pod).await).await?;
    rounds_pass(pod, 10).await
}

async fn elected(bed: &Testbed, ordinal: usize) -> Result<()> {
    let pod = bed.pod(ordinal)?;
    wait::until(LONG, "its replica is elected", async || {
        let role = role(&pod).await?;
        ensure!(role["role"] == "master", "{role}");
        Ok(())
    })
    .await
}

/// Waits until the others have this pod's former node for failed.
pub(crate) async fn failed(bed: &Testbed, before: &Snapshot, gone: usize) -> Result<()> {
    let pod = bed.pod(0)?;
    wait::until(LONG, "it is noticed", async || {
        let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
        let id = &before.nodes[&gone].node_id;
        let line = nodes.lines().find(|line| line.starts_with(id));
        ensure!(line.is_some_and(|line| line.contains("fail ")), "{nodes}");
        Ok(())
    })
    .await
}

/// The lost master is its former replica's replica, all else is as before, and the old ID is gone
/// from every table and stays so.
async fn healed(bed: Testbed, before: &Snapshot, canary: &Canary, lost: usize) -> Result<()> {
    came_back(bed, before, canary, lost, "0").await
}

/// As [`healed`], where copies are configured to begin after this many seconds.
async fn came_back(
    bed: Testbed,
    before: &Snapshot,
    canary: &Canary,
    lost: usize,
    delay: &str,
) -> Result<()> {
    let heir = before.replicas_of(lost)[0];
    let after = bed.whole(LONG * 2).await?;
    for (ordinal, node) in &after.nodes {
        let same = node.node_id == before.nodes[ordinal].node_id;
        ensure!(same == (*ordinal != lost), "{ordinal}'s ID:\n{after}");
    }
    ensure!(
        after.nodes[&heir].slots == before.nodes[&lost].slots,
        "{after}"
    );
    ensure!(after.nodes[&lost].replica_of == Some(heir), "{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    copies_begin_as_configured(&bed, delay).await?;
    let joined = format!("joined: as replica of redis-app-{heir}");
    history::tells(&*bed.pod(lost)?, &[&joined]).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

async fn copies_begin_as_configured(bed: &Testbed, delay: &str) -> Result<()> {
    for pod in bed.pods() {
        let pair: Vec<String> = pod
            .command(&["CONFIG", "GET", "repl-diskless-sync-delay"])
            .await?;
        ensure!(pair[1] == delay, "{}: {pair:?}", pod.name);
    }
    Ok(())
}

/// Scenario 24: the volume lost, and back before Redis noticed. Its address answers with another ID, so
/// the old one never fails, and Redis alone elects nobody.
#[tokio::test]
async fn a_masters_volume_lost_at_the_same_address() -> Result<()> {
    let (bed, before, canary) = with_data("lost-same").await?;
    lose(&bed, 1, Address::Same).await?;
    // Not yet its Redis: how often that copies too soon is measured below.
    let pod = bed.pod(1)?;
    agent_runs(&pod).await?;
    pod.start_redis().await?;
    bed.publish(&pod);
    healed(bed, &before, &canary, 1).await
}

/// Scenario 25.
#[tokio::test]
async fn a_masters_volume_lost_at_a_new_address() -> Result<()> {
    let (bed, before, canary) = with_data("lost-new").await?;
    lose(&bed, 1, Address::New).await?;
    bed.start_pod(1).await?;
    healed(bed, &before, &canary, 1).await
}

/// Scenarios 24 and 25, after Redis has noticed and elected.
#[tokio::test]
async fn a_masters_volume_lost_and_noticed() -> Result<()> {
    for (name, address) in [
        ("noticed-same", Address::Same),
        ("noticed-new", Address::New),
    ] {
        let (bed, before, canary) = with_data(name).await?;
        lose(&bed, 1, address).await?;
        elected(&bed, 4).await?;
        bed.start_pod(1).await?;
        healed(bed, &before, &canary, 1).await?;
    }
    Ok(())
}

/// Scenario 24 beside a plain second container: both start at once, and nothing holds Redis back. Copies begin
/// after Redis's own delay, in which the sidecar has looked.
#[tokio::test]
async fn a_masters_volume_lost_beside_a_plain_second_container() -> Result<()> {
    const DELAY: &str = "5";
    let builder = impatient("lost-plain").redis_line("repl-diskless-sync-delay 5");
    let bed = builder.build().await?;
    let (bed, before, canary) = filled(bed).await?;
    lose(&bed, 1, Address::Same).await?;
    bed.start_pod(1).await?;
    let pod = bed.pod(1)?;
    wait::until(LONG, "it says that it holds nothing back", async || {
        let log = log(&pod)?;
        ensure!(log.contains("nothing has asked this sidecar's /startz"));
        Ok(())
    })
    .await?;
    came_back(bed, &before, &canary, 1, DELAY).await
}

/// Scenario 26, before and after Redis has noticed.
#[tokio::test]
async fn a_replicas_volume_lost() -> Result<()> {
    for (name, address, noticed) in [
        ("replica-same", Address::Same, false),
        ("replica-new", Address::New, false),
        ("replica-same-late", Address::Same, true),
        ("replica-new-late", Address::New, true),
    ] {
        let (bed, before, canary) = with_data(name).await?;
        lose(&bed, 4, address).await?;
        if noticed {
            failed(&bed, &before, 4).await?;
        }
        bed.start_pod(4).await?;
        let after = bed.whole(LONG * 2).await?;
        ensure!(after.replication() == before.replication(), "{after}");
        ensure!(
            after.nodes[&4].node_id != before.nodes[&4].node_id,
            "{after}"
        );
        bed.all_ready(LONG).await?;
        canary.intact(&bed).await?;
        bed.silent(QUIET).await?;
        bed.finish().await?;
    }
    Ok(())
}

/// How often a replica copies the emptiness of its master's pod when that comes back without its volume
/// at the same address, at once. Prints a table; asserts nothing.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_often_a_replica_is_wiped() -> Result<()> {
    let times: usize = std::env::var("TIMES").map_or(10, |n| n.parse().unwrap_or(10));
    println!("| copies begin | who starts | replica wiped | healed with the data |");
    println!("| --- | --- | --- | --- |");
    for (conf, lines) in [
        (
            "after 5 s (Redis's default from 7.0)",
            &["repl-diskless-sync-delay 5"][..],
        ),
        ("after 1 s", &["repl-diskless-sync-delay 1"][..]),
        ("at once, diskless", &[][..]),
        ("at once, from disk", &["repl-diskless-sync no"][..]),
    ] {
        for starts in ["Redis alone", "both at once", "the agent first"] {
            let (mut wiped, mut whole) = (0, 0);
            for _ in 0..times {
                let (lost, kept) = once(lines, starts).await?;
                wiped += usize::from(lost);
                whole += usize::from(kept);
            }
            println!("| {conf} | {starts} | {wiped} of {times} | {whole} of {times} |");
        }
    }
    Ok(())
}

/// Whether the replica lost its keys, and whether it is master with all of them in the end.
async fn once(lines: &[&str], starts: &str) -> Result<(bool, bool)> {
    let mut builder = impatient("wiped").shape(3, 1);
    for line in lines {
        builder = builder.redis_line(line);
    }
    let bed = builder.build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    bed.write_canary("kept", 300).await?;
    copied(&bed, &before).await?;
    let (pod, replica) = (bed.pod(1)?, bed.pod(4)?);
    let keys = async || replica.command::<usize>(&["DBSIZE"]).await;
    let all = keys().await?;
    lose(&bed, 1, Address::Same).await?;
    match starts {
        "Redis alone" => pod.start_redis().await?,
        "both at once" => pod.start().await?,
        _ => {
            agent_runs(&pod).await?;
            pod.start_redis().await?;
        }
    }
    bed.publish(&pod);
    let mut wiped = false;
    let deadline = std::time::Instant::now() + Duration::from_secs(9);
    let mut master = false;
    while std::time::Instant::now() < deadline && !wiped && !master {
        wiped = keys().await? < all;
        master = role(&replica).await?["role"] == "master";
        tokio::task::yield_now().await;
    }
    let kept = master && keys().await? == all;
    bed.finish().await?;
    Ok((wiped, kept))
}
