//! Scenario 45: replica migration is switched on, as Redis has it by default. Redis itself moves a
//! replica to a master that has none left; the sidecars' plan is not for ever, and nobody moves it back.

use anyhow::{Result, ensure};
use testbed::{Ending, wait};

use crate::common::*;

#[tokio::test]
async fn a_replica_that_redis_moves_to_another_master_stays_there() -> Result<()> {
    let bed = bed("migration")
        .shape(3, 2)
        .redis_line("cluster-migration-barrier 1")
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("migration", 300).await?;
    let orphan = bed.pod(0)?;
    for ordinal in [3, 6] {
        replicated(&bed, 0, ordinal).await?;
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    let seen = bed.writes_seen().await?;
    let is_orphans = async |ordinal: usize| -> Result<()> {
        let said = role(&*bed.pod(ordinal)?).await?;
        ensure!(said["replica_of"] == "redis-app-0", "{said}");
        ensure!(said["ready"] == true, "{said}");
        Ok(())
    };
    wait::until(LONG, "Redis gives it a replica of another", async || {
        for ordinal in [4, 5, 7, 8] {
            if is_orphans(ordinal).await.is_ok() {
                return Ok(());
            }
        }
        is_orphans(4).await
    })
    .await?;
    orphan.ready().await?;
    let news = bed.writes_seen().await?.since(&seen);
    ensure!(
        !news.iter().any(|write| write.contains("replicate")),
        "an agent moved it: {news:?}"
    );

    for ordinal in [3, 6] {
        bed.move_pod(ordinal).await?;
    }
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    let of_orphan = after.replication().into_values().filter(|k| *k == 0);
    ensure!(of_orphan.count() == 3, "{after}");
    bed.all_ready(LONG).await?;
    bed.falls_silent(QUIET, LONG).await?;

    bed.move_pods(&[0, 1, 2, 3, 4, 5, 6, 7, 8]).await?;
    let moved = bed.whole(LONG).await?;
    ensure!(moved.ids() == before.ids(), "somebody was reborn:\n{moved}");
    as_before(bed, &before, &canary).await
}
