//! Replication dials an address and copies what answers there. Who would be copied by mistake lets its
//! replicas wait, and they keep their data (S5; scenarios 23 and 28).

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Ending, Pod, Testbed, canary::Canary, wait};

use crate::common::*;

/// Redis's own from 7.0 on: however slow the machine, the sidecar has looked by then.
const DELAY: &str = "repl-diskless-sync-delay 5";
/// In which a replica dials several times, and would have begun its copy.
const DIALLED: Duration = Duration::from_secs(9);

async fn with_data(name: &str) -> Result<(Testbed, Canary)> {
    let bed = bed(name).redis_line(DELAY).build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    let canary = bed.write_canary(name, 300).await?;
    replicated(&bed, 1, 4).await?;
    Ok((bed, canary))
}

/// Throughout, this replica has as many keys as before.
async fn keeps(replica: &Pod, keys: usize) -> Result<()> {
    wait::throughout(DIALLED, "the replica keeps its data", async || {
        let held: usize = replica.command(&["DBSIZE"]).await?;
        ensure!(held == keys, "{held} of {keys} keys");
        Ok(())
    })
    .await
}

/// Pod 4 is started long after this one has begun to hold copies back, for that reason.
async fn keeps_although_it_comes_later(
    bed: &Testbed,
    held_by: &Pod,
    code: &str,
    keys: usize,
) -> Result<()> {
    wait::throughout(DIALLED, "copies are held back", async || {
        reason(held_by, code).await.map(drop)
    })
    .await?;
    bed.start_pod(4).await?;
    let replica = bed.pod(4)?;
    replica.redis_answers(LONG).await?;
    keeps(&replica, keys).await
}

async fn healed(bed: Testbed, canary: &Canary) -> Result<()> {
    bed.whole(LONG).await?;
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    for pod in bed.pods() {
        let pair: Vec<String> = pod
            .command(&["CONFIG", "GET", "repl-diskless-sync-delay"])
            .await?;
        ensure!(DELAY.ends_with(&pair[1]), "{}: {pair:?}", pod.name);
    }
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Two masters' pods end, and one of them comes back at the other one's address, whose replica dials it.
#[tokio::test]
async fn a_replica_keeps_its_data_when_another_master_gets_its_masters_address() -> Result<()> {
    let (bed, canary) = with_data("mistaken-address").await?;
    let (gone, other, replica) = (bed.pod(1)?, bed.pod(2)?, bed.pod(4)?);
    let keys: usize = replica.command(&["DBSIZE"]).await?;
    bed.end_pod(1, Ending::Kill).await?;
    bed.end_pod(2, Ending::Kill).await?;
    other.move_to(gone.address()).await?;
    gone.move_to(bed.fresh_address()?).await?;
    bed.start_pod(2).await?;
    says(&other, "copies-held", "redis-app-1").await?;
    keeps(&replica, keys).await?;
    bed.start_pod(1).await?;
    healed(bed, &canary).await
}

/// The same while that replica is not there yet, and copies begin at once: it dials before anybody has seen it.
#[tokio::test]
async fn a_replica_that_finds_another_master_at_the_address_keeps_its_data() -> Result<()> {
    let bed = bed("mistaken-address-later").build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    let canary = bed.write_canary("mistaken-address-later", 300).await?;
    replicated(&bed, 1, 4).await?;
    let (gone, other, replica) = (bed.pod(1)?, bed.pod(2)?, bed.pod(4)?);
    let keys: usize = replica.command(&["DBSIZE"]).await?;
    bed.end_pod(4, Ending::Graceful).await?;
    bed.end_pod(1, Ending::Kill).await?;
    bed.end_pod(2, Ending::Kill).await?;
    other.move_to(gone.address()).await?;
    gone.move_to(bed.fresh_address()?).await?;
    bed.start_pod(2).await?;
    says(&other, "copies-held", "redis-app-1").await?;
    keeps_although_it_comes_later(&bed, &other, "copies-held", keys).await?;
    bed.start_pod(1).await?;
    bed.whole(LONG).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// A master came up without data while its replica is not there yet, as under OrderedReady.
#[tokio::test]
async fn a_replica_that_comes_later_keeps_its_data_too() -> Result<()> {
    let bed = bed("mistaken-later").build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    bed.write_canary("mistaken-later", 300).await?;
    replicated(&bed, 1, 4).await?;
    let (emptied, replica) = (bed.pod(1)?, bed.pod(4)?);
    let keys: usize = replica.command(&["DBSIZE"]).await?;
    bed.end_pod(4, Ending::Graceful).await?;
    emptied.redis.kill().await?;
    lose_data(&emptied)?;
    emptied.start_redis().await?;
    says(&emptied, "data-missing", "redis-app-4 may have its data").await?;
    keeps_although_it_comes_later(&bed, &emptied, "data-missing", keys).await?;
    bed.finish().await
}

/// A master has no data because clients have deleted all while its replica was away: that is in its file, and
/// nobody is asked whether the replica should have it back.
#[tokio::test]
async fn a_master_whose_data_were_deleted_is_copied() -> Result<()> {
    let (bed, _) = with_data("deleted").await?;
    let (master, replica) = (bed.pod(1)?, bed.pod(4)?);
    replica.redis.kill().await?;
    master.command::<()>(&["FLUSHALL"]).await?;
    master.redis.kill().await?;
    master.start_redis().await?;
    master.redis_answers(LONG).await?;
    replica.start_redis().await?;
    bed.whole(LONG).await?;
    bed.all_ready(LONG).await?;
    let held: usize = replica.command(&["DBSIZE"]).await?;
    ensure!(held == 0, "{held} keys");
    ensure!(reason(&master, "data-missing").await.is_err(), "held");
    bed.finish().await
}

/// A master has lost its data and not its nodes.conf, and nothing held its Redis back. Its replica has the
/// data still when a person lets it take over, whatever is written and restarted meanwhile.
#[tokio::test]
async fn a_replica_keeps_its_data_when_its_master_comes_up_without() -> Result<()> {
    let (bed, canary) = with_data("mistaken-empty").await?;
    let (emptied, replica) = (bed.pod(1)?, bed.pod(4)?);
    let keys: usize = replica.command(&["DBSIZE"]).await?;
    emptied.redis.kill().await?;
    lose_data(&emptied)?;
    emptied.start_redis().await?;
    says(&emptied, "data-missing", "may have its data").await?;
    keeps(&replica, keys).await?;
    // In a slot of this master's; what it says is on its volume then.
    emptied.command::<()>(&["SET", "c", "new"]).await?;
    wait::until(LONG, "it is noted who has the data", async || {
        let note = fs::read_to_string(emptied.data_dir().join("redis-sidecar.json"))?;
        ensure!(note.contains("may_have_data"), "{note}");
        Ok(())
    })
    .await?;
    emptied.agent.kill().await?;
    emptied.redis.kill().await?;
    emptied.start().await?;
    says(&emptied, "data-missing", "may have its data").await?;
    keeps(&replica, keys).await?;
    replica
        .command::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"])
        .await?;
    healed(bed, &canary).await
}

/// Takes away what Redis wrote to its volume, but for its nodes.conf.
pub(crate) fn lose_data(pod: &Pod) -> Result<()> {
    for entry in fs::read_dir(pod.data_dir())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("appendonly") || name.ends_with(".rdb") {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}
