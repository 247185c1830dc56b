//! Pods that go and come back with other addresses.

use crate::kubectl::{kubectl, nodes};
use crate::stage::{LONG, Stage};
use crate::table::row;
use anyhow::{Result, ensure};
use std::time::Instant;
use testbed::wait;

/// Under writes: one replica, one master, then its new master.
#[tokio::test]
#[ignore = "make e2e"]
async fn one_pod_is_deleted() -> Result<()> {
    let stage = Stage::open("one").await?;
    stage.apply(&[], "")?;
    let ids = stage.up(6).await?;
    stage.user().await?;
    for (ordinal, what) in [
        (3, "a replica's pod deleted"),
        (0, "a master's pod deleted"),
    ] {
        let before = [stage.pod(ordinal)?];
        stage.kubectl(&["delete", "pod", &before[0].name, "--wait=false"])?;
        let (snapshot, took) = stage.replaced(&before, 6).await?;
        ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
        row(what, took, "");
    }
    let book = stage.book().await?;
    book.keeps_all()?;
    println!("one pod after the other: {book}");
    stage.close().await
}

/// The failure that brings people here.
#[tokio::test]
#[ignore = "make e2e"]
async fn all_pods_are_deleted() -> Result<()> {
    all_go("all", &[], "all pods deleted").await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn all_pods_are_deleted_under_ordered_ready() -> Result<()> {
    all_go(
        "all-ordered",
        &["ordered-ready"],
        "all pods deleted, `OrderedReady`",
    )
    .await
}

async fn all_go(case: &str, components: &[&str], what: &str) -> Result<()> {
    let stage = Stage::open(case).await?;
    stage.apply(components, "")?;
    let ids = stage.up(6).await?;
    // Slot 15891, the third master's.
    let said = stage.redis("redis-app-2", "SET {t}kept 1\n")?;
    ensure!(said.trim() == "OK", "the key is not written: {said}");
    let before = stage.pods()?;
    stage.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    let (snapshot, took) = stage.replaced(&before, 6).await?;
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let now = stage.pods()?;
    let moved = before
        .iter()
        .zip(&now)
        .filter(|(b, n)| b.ip != n.ip)
        .count();
    row(what, took, &format!("{moved} of 6 with another address"));
    let owner = snapshot.owner(15891).unwrap_or(0);
    let said = stage.redis(&format!("redis-app-{owner}"), "GET {t}kept\n")?;
    ensure!(said.trim() == "1", "the key is {said:?}");
    stage.close().await
}

/// Evictions, one at a time by the PodDisruptionBudget; needs two nodes.
#[tokio::test]
#[ignore = "make e2e"]
async fn a_node_is_drained() -> Result<()> {
    if nodes()?.len() < 2 {
        println!("not played: a drained pod needs a second node to go to");
        return Ok(());
    }
    let stage = Stage::open("drain").await?;
    stage.apply(&[], "")?;
    let ids = stage.up(6).await?;
    stage.user().await?;
    let pods = stage.pods()?;
    let node = pods[0].node.clone();
    let there: Vec<_> = pods.into_iter().filter(|pod| pod.node == node).collect();
    ensure!(there.len() < 6, "all pods are on {node}");
    let begin = Instant::now();
    let drained = kubectl(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--pod-selector=app.kubernetes.io/instance=redis-app",
        "--timeout=300s",
    ]);
    let whole = match drained {
        Ok(_) => stage.replaced(&there, 6).await,
        Err(error) => Err(error),
    };
    kubectl(&["uncordon", &node])?;
    let (snapshot, _) = whole?;
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        "a node drained, with the PodDisruptionBudget",
        begin.elapsed(),
        &format!("{} pods; {book}", there.len()),
    );
    stage.close().await
}

/// The sidecar's process ends; Redis does not notice.
#[tokio::test]
#[ignore = "make e2e"]
async fn a_sidecar_is_killed() -> Result<()> {
    let stage = Stage::open("killed").await?;
    stage.apply(&[], "")?;
    stage.up(6).await?;
    stage.user().await?;
    let before = stage.pod(0)?;
    let begin = Instant::now();
    // Who shares the container's processes, and may signal its first.
    stage.kubectl(&[
        "debug",
        &before.name,
        &format!("--image={}", crate::stage::ledger_image()),
        "--target=sidecar",
        "--profile=restricted",
        "--quiet",
        "--",
        "/ledger",
        "stop",
    ])?;
    wait::until(LONG, "its container is started again", async || {
        let now = stage.pod(0)?;
        ensure!(now.restarts > before.restarts && now.ready, "{now:?}");
        Ok(())
    })
    .await?;
    let took = begin.elapsed();
    let (snapshot, _) = stage.whole(6).await?;
    ensure!(snapshot.masters() == [0, 1, 2], "{snapshot}");
    let book = stage.book().await?;
    book.keeps_all()?;
    row("a sidecar's process killed", took, &book.to_string());
    stage.close().await
}
