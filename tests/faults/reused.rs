//! Scenarios 16 and 18: an address that was one cluster's is another's a moment later.

use anyhow::{Result, ensure};
use testbed::{Ending, wait};

use crate::{common::*, foreign::Pair};

/// Scenario 16: red's master 0 dies, and blue's master 1 comes back at its address before anybody
/// calls red's dead.
async fn address_of_a_dead_master_goes_to_blue(pair: &Pair) -> Result<()> {
    let dead = pair.red.pod(0)?;
    let address = dead.address();
    pair.blue.end_pod(1, Ending::Kill).await?;
    pair.red.end_pod(0, Ending::Kill).await?;
    pair.blue.pod(1)?.move_to(address).await?;
    pair.blue.start_pod(1).await?;
    dead.move_to(pair.red.fresh_address()?).await
}

/// Scenario 16 with passwords of their own: Redis itself copies nothing from the other cluster.
#[tokio::test]
async fn a_dead_masters_address_at_another_cluster_leaves_the_replica_its_data() -> Result<()> {
    let pair = Pair::formed("reused-own", Some(["reds-secret", "blues-secret"])).await?;
    let replica = pair.red.pod(3)?;
    let keys: usize = replica.command(&["DBSIZE"]).await?;
    address_of_a_dead_master_goes_to_blue(&pair).await?;
    says(&replica, "replica-link-down", "").await?;
    let seen = pair.red.writes_seen().await?;
    wait::throughout(LONG / 4, "nothing is written or copied", async || {
        pair.unmixed().await?;
        let held: usize = replica.command(&["DBSIZE"]).await?;
        ensure!(held == keys, "{held} of {keys} keys");
        ensure!(replica.ready().await.is_err(), "ready without its master");
        let news = pair.red.writes_seen().await?.since(&seen);
        ensure!(news.is_empty(), "{news:?}");
        Ok(())
    })
    .await?;
    pair.red.start_pod(0).await?;
    pair.healed().await?;
    pair.finish().await
}

/// Scenario 16 without passwords: Redis replaces the replica's data with the other cluster's within
/// a second (replication checks no node ID). The agent says so, and heals it from the master.
#[tokio::test]
async fn a_replica_that_copies_another_cluster_is_not_ready_and_healed_by_its_master() -> Result<()>
{
    let pair = Pair::formed("reused-open", None).await?;
    let replica = pair.red.pod(3)?;
    address_of_a_dead_master_goes_to_blue(&pair).await?;
    wait::until(
        LONG,
        "the replica dials the address of its dead master",
        async || {
            let info: String = replica.command(&["INFO", "replication"]).await?;
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        },
    )
    .await?;
    says(&replica, "replica-link-down", "").await?;
    wait::throughout(LONG / 4, "it is not ready, nobody is met", async || {
        pair.unmixed().await?;
        ensure!(
            replica.ready().await.is_err(),
            "ready with the data of others"
        );
        Ok(())
    })
    .await?;
    pair.red.start_pod(0).await?;
    pair.healed().await?;
    pair.finish().await
}
