//! A pod that loses its volume.

use crate::stage::{LONG, Stage};
use crate::table::row;
use anyhow::{Result, ensure};

/// How the pod goes.
#[derive(PartialEq)]
enum Goes {
    /// With its hooks: a master hands over first.
    InPeace,
    /// Kubernetes forgets it at once, as after the loss of a machine; its processes may live on for a while.
    ByForce,
}

async fn loses(
    case: &str,
    components: &[&str],
    ordinal: usize,
    goes: Goes,
    what: &str,
) -> Result<()> {
    let stage = Stage::open(case).await?;
    stage.apply(components, "")?;
    let ids = stage.up(6).await?;
    stage.user().await?;
    let before = [stage.pod(ordinal)?];
    let claim = format!("redis-data-{}", before[0].name);
    stage.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
    let mut delete = vec!["delete", "pod", &before[0].name, "--wait=false"];
    if goes == Goes::ByForce {
        delete.extend(["--force", "--grace-period=0"]);
    }
    stage.kubectl(&delete)?;
    // The lost node's ID is forgotten in minutes (S6).
    let begin = std::time::Instant::now();
    let (snapshot, _) = stage.whole_within(6, LONG * 3).await?;
    let took = begin.elapsed();
    let reborn = snapshot.ids();
    ensure!(reborn[&ordinal] != ids[&ordinal], "the volume was not lost");
    let others = |(k, id): (&usize, &String)| *k == ordinal || ids[k] == *id;
    ensure!(reborn.iter().all(others), "others were reborn:\n{snapshot}");
    let book = stage.book().await?;
    // What its replica had not copied in that moment is Redis's to lose.
    if goes == Goes::InPeace {
        book.keeps_all()?;
    }
    let more = format!("until the lost ID is forgotten, too; {book}");
    row(what, took, &more);
    stage.close().await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_master_loses_its_volume() -> Result<()> {
    let what = "a master's pod deleted with its volume";
    loses("lost", &[], 1, Goes::InPeace, what).await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_replica_loses_its_volume() -> Result<()> {
    let what = "a replica's pod deleted with its volume";
    loses("lost-replica", &[], 4, Goes::InPeace, what).await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_master_with_a_native_sidecar_loses_its_volume() -> Result<()> {
    let what = "a master's pod deleted with its volume, native sidecars";
    loses("lost-native", &["native-sidecar"], 1, Goes::InPeace, what).await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_master_is_lost_by_force_with_its_volume() -> Result<()> {
    let what = "a master's pod deleted by force with its volume";
    loses("lost-by-force", &[], 1, Goes::ByForce, what).await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_master_with_a_native_sidecar_is_lost_by_force_with_its_volume() -> Result<()> {
    let what = "a master's pod deleted by force with its volume, native sidecars";
    let components = ["native-sidecar"];
    loses("lost-by-force-native", &components, 1, Goes::ByForce, what).await
}
