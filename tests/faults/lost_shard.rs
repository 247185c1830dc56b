//! A whole shard's volumes are lost (scenario 27): nobody has the data. A person decides; nothing is
//! taken, replaced or forgotten, everybody says what is lost, and who holds a Redis back says why.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Pod, Snapshot, Testbed, process::Process, wait, writes::Writes};

use crate::{
    common::*,
    lost_volumes::{Address, failed, lose, with_data},
    start_gate::{agent_first, gate, held, redis_when_open},
};

/// Pod 1's; pod 4 is its only replica.
const SLOTS: std::ops::RangeInclusive<u16> = 5461..=10922;
/// The code of a former node that still owns slots.
const HELD: &str = "old-identity-owns-slots: ";
/// Longer than a lost master's replica takes to be elected, or to be ordered to.
const HELD_FOR: Duration = Duration::from_secs(12);

/// What holds Redis back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Starts {
    /// The init container.
    AfterInit,
    /// A native sidecar, whose `/startz` the kubelet asks.
    AgentFirst,
}

#[tokio::test]
async fn a_whole_shards_volumes_lost() -> Result<()> {
    at_once("lost-shard", [Address::New, Address::Same], false).await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_at_the_same_addresses() -> Result<()> {
    at_once("lost-shard-same", [Address::Same; 2], false).await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_and_noticed() -> Result<()> {
    at_once("lost-shard-late", [Address::New; 2], true).await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_and_noticed_at_the_same_addresses() -> Result<()> {
    at_once("lost-shard-late-same", [Address::Same; 2], true).await
}

async fn at_once(name: &str, addresses: [Address; 2], noticed: bool) -> Result<()> {
    let (bed, before) = shard_lost(name, addresses, noticed).await?;
    for ordinal in [1, 4] {
        bed.start_pod(ordinal).await?;
    }
    says(&*bed.pod(1)?, "old-identity-owns-slots", "owns slots").await?;
    others_say_so(&bed, "a person must decide").await?;
    nothing_is_taken(&bed, &before).await?;
    bed.finish().await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_before_init() -> Result<()> {
    held_back("lost-shard-init", Address::Same, false, Starts::AfterInit).await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_and_noticed_before_init() -> Result<()> {
    held_back("lost-init-late", Address::New, true, Starts::AfterInit).await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_behind_a_start_gate() -> Result<()> {
    held_back("lost-shard-gate", Address::Same, false, Starts::AgentFirst).await
}

#[tokio::test]
async fn a_whole_shards_volumes_lost_and_noticed_behind_a_start_gate() -> Result<()> {
    held_back("lost-gate-late", Address::New, true, Starts::AgentFirst).await
}

/// The master's Redis is held back for as long as nobody decides, with a reason; when a person has given
/// the slots away, it is started and joins.
async fn held_back(name: &str, address: Address, noticed: bool, starts: Starts) -> Result<()> {
    let (bed, before) = shard_lost(name, [address; 2], noticed).await?;
    let (one, four) = (bed.pod(1)?, bed.pod(4)?);
    let init = if starts == Starts::AfterInit {
        bed.publish(&one);
        bed.publish(&four);
        let init = one.start_init().await?;
        let (code, log) = four.init(LONG * 2).await?;
        ensure!(code == 0, "{log}");
        four.start().await?;
        Some(init)
    } else {
        agent_first(&bed, 1).await?;
        agent_first(&bed, 4).await?;
        redis_when_open(&four).await?;
        None
    };
    // Init answers as the sidecar does.
    held(&one).await?;
    says(&one, "old-identity-owns-slots", "owns slots").await?;
    // Nobody tells a new node the slots of one that has failed.
    others_say_so(&bed, "slots 5461-10922 have no owner").await?;
    wait::throughout(HELD_FOR, "it is held back, and says why", async || {
        let (status, why) = gate(&one).await?;
        ensure!(status == 503 && why.starts_with(HELD), "{status} {why}");
        if let Some(init) = &init {
            ensure!(init.is_running().await, "{:?}", init.tail(3));
        }
        Ok(())
    })
    .await?;
    nothing_is_taken(&bed, &before).await?;

    given_away(&bed).await?;
    match init {
        Some(init) => {
            let log = init.log().to_owned();
            starts_after(&one, init).await?;
            let log = std::fs::read_to_string(log)?;
            ensure!(log.contains("owns slots"), "init said no reason: {log}");
        }
        None => redis_when_open(&one).await?,
    }
    for pod in [&one, &four] {
        wait::until(LONG * 2, "it joins", async || {
            let role = role(pod).await?;
            ensure!(role["role"] == "replica", "{role}");
            Ok(())
        })
        .await?;
    }
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// Pods 1 and 4 have ended, and their volumes are empty.
async fn shard_lost(
    name: &str,
    [one, four]: [Address; 2],
    noticed: bool,
) -> Result<(Testbed, Snapshot)> {
    let (bed, before, _) = with_data(name).await?;
    lose(&bed, 1, one).await?;
    lose(&bed, 4, four).await?;
    if noticed {
        failed(&bed, &before, 1).await?;
    }
    Ok((bed, before))
}

async fn others_say_so(bed: &Testbed, replica: &str) -> Result<()> {
    says(&*bed.pod(4)?, "slots-uncovered", replica).await?;
    for ordinal in [0, 2, 3, 5] {
        let pod = bed.pod(ordinal)?;
        says(&pod, "slots-uncovered", "redis-app-1").await?;
    }
    Ok(())
}

async fn nothing_is_taken(bed: &Testbed, before: &Snapshot) -> Result<()> {
    // Introduced, and the replica's old ID forgotten; then nothing more.
    wait::until(LONG, "all is left alone", async || left_alone(bed).await).await?;
    let writes = bed.writes_seen().await?.since(&Writes::default());
    let taken = writes.iter().find(|write| {
        let of_blank = write.starts_with("pod 1:") || write.starts_with("pod 4:");
        of_blank
            && ["replicate", "addslots", "failover"]
                .iter()
                .any(|w| write.contains(w))
    });
    ensure!(taken.is_none(), "{writes:?}");
    for pod in [bed.pod(0)?, bed.pod(2)?] {
        let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
        let range = format!(" {}-{}", SLOTS.start(), SLOTS.end());
        let owner = nodes.lines().find(|line| line.contains(&range));
        let owner = owner.context("nobody owns the slots")?;
        ensure!(owner.starts_with(&before.nodes[&1].node_id), "{nodes}");
    }
    Ok(())
}

/// What a person does who goes on without the data, as `redis-cli --cluster fix` would.
async fn given_away(bed: &Testbed) -> Result<()> {
    let heir = bed.pod(0)?;
    let slots: Vec<String> = SLOTS.map(|slot| slot.to_string()).collect();
    for command in ["DELSLOTS", "ADDSLOTS"] {
        let words = ["CLUSTER", command].into_iter();
        let words: Vec<&str> = words.chain(slots.iter().map(String::as_str)).collect();
        heir.command::<()>(&words).await?;
    }
    heir.command::<redis::Value>(&["CLUSTER", "BUMPEPOCH"])
        .await?;
    Ok(())
}

/// As the kubelet: an init container that has failed is started again.
async fn starts_after(pod: &Pod, init: Process) -> Result<()> {
    let status = init.ended(LONG * 2).await?;
    if !status.success() {
        println!("again: {:?}", init.tail(1));
        let (code, log) = pod.init(LONG * 2).await?;
        ensure!(code == 0, "{log}");
    }
    pod.start().await
}
