//! Pods that go and come back with other addresses.

use crate::kubectl::{complaints, kubectl, nodes};
use crate::stage::{LONG, Stage};
use crate::table::row;
use anyhow::{Result, ensure};
use std::time::Instant;
use testbed::wait;

/// Under writes: one replica, then one master, which hands over first.
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
        let masters = if ordinal == 0 { [1, 2, 3] } else { [0, 1, 2] };
        ensure!(snapshot.masters() == masters, "{snapshot}");
        row(what, took, "");
    }
    let book = stage.book().await?;
    book.keeps_all()?;
    println!("one pod after the other: {book}");
    let handed = stage.role("redis-app-3")?;
    ensure!(handed["role"] == "master", "{handed}");
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
    stage.user().await?;
    let before = stage.pods()?;
    let mut gone: Vec<&str> = before.iter().map(|pod| pod.name.as_str()).collect();
    gone.splice(..0, ["delete", "pod", "--wait=false"]);
    stage.kubectl(&gone)?;
    let (snapshot, took) = stage.replaced(&before, 6).await?;
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let now = stage.pods()?;
    let moved = before
        .iter()
        .zip(&now)
        .filter(|(b, n)| b.ip != n.ip)
        .count();
    ensure!(moved > 0, "nobody has moved");
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        what,
        took,
        &format!("{moved} of 6 with another address; {book}"),
    );
    let owner = snapshot.owner(15891).unwrap_or(0);
    let said = stage.redis(&format!("redis-app-{owner}"), "GET {t}kept\n")?;
    ensure!(said.trim() == "1", "the key is {said:?}");
    stage.close().await
}

/// Evictions, one at a time by the PodDisruptionBudget; needs two nodes, and volumes that follow a pod.
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
    let volumes = kubectl(&["get", "pv", "-o", "json"])?;
    if volumes.contains("nodeAffinity") {
        println!("not played: the volumes are bound to a node, and a drained pod could go nowhere");
        return stage.close().await;
    }
    stage.user().await?;
    let pods = stage.pods()?;
    let budget = stage.json(&["get", "pdb", "redis-app"])?;
    let allowed = budget["status"]["disruptionsAllowed"].as_u64();
    ensure!(allowed == Some(1), "{allowed:?} pods may go: {budget}");
    let node = pods[0].node.clone();
    let there: Vec<_> = pods.into_iter().filter(|pod| pod.node == node).collect();
    ensure!(there.len() < 6, "all pods are on {node}");
    let begin = Instant::now();
    let drained = complaints(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--pod-selector=app.kubernetes.io/instance=redis-app",
        "--timeout=300s",
    ]);
    let whole = match drained {
        Ok(said) => stage.replaced(&there, 6).await.map(|whole| (said, whole)),
        Err(error) => Err(error),
    };
    kubectl(&["uncordon", &node])?;
    let (said, (snapshot, _)) = whole?;
    // Without the budget it would have evicted all at once.
    let held = said.matches("would violate the pod's disruption budget");
    ensure!(held.count() > 0, "nobody had to wait: {said}");
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

/// The sidecar's process is told to end, past its hook; Redis does not notice. (Without a word, by
/// SIGKILL: `tests/faults/killed.rs`.)
#[tokio::test]
#[ignore = "make e2e"]
async fn a_sidecar_is_ended() -> Result<()> {
    let stage = Stage::open("ended").await?;
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
    row("a sidecar's process ended", took, &book.to_string());
    stage.close().await
}
