//! A rolling upgrade from one server to another, pod by pod as a StatefulSet does it. Runs where
//! `SERVERS` names both, see `testbed::server::Server::all`. A way back is not promised: an older
//! server may not read a newer one's files.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{Ending, Snapshot, Testbed, server::Server, skip, wait};

use crate::common::*;

/// Both servers; `None`, and a line that says so, when one is not to be tested against.
fn pair(old: &str, new: &str) -> Result<Option<(Server, Server)>> {
    let servers = Server::all()?;
    let find = |label| servers.iter().find(|server| server.label() == label);
    let (Some(from), Some(to)) = (find(old), find(new)) else {
        skip::not_on_this_server(&format!("{old} to {new} takes SERVERS=\"{old} {new}\""));
        return Ok(None);
    };
    Ok(Some((from.clone(), to.clone())))
}

/// Scenario 60: from the highest ordinal down, each pod at a new address, the next one when the
/// Service's pods are ready again.
async fn rolls(old: &str, new: &str) -> Result<()> {
    let Some((from, to)) = pair(old, new)? else {
        return Ok(());
    };
    let name = format!("roll-{old}-{new}");
    let bed = bed(&name)
        .server(&from.program)
        .node_timeout(Duration::from_secs(2))
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("roll", 300).await?;
    for pod in bed.pods().iter().rev() {
        bed.end_pod(pod.ordinal, Ending::Graceful).await?;
        pod.move_to(bed.fresh_address()?).await?;
        pod.change(|settings| settings.server = to.clone());
        bed.start_pod(pod.ordinal).await?;
        bed.all_ready(LONG)
            .await
            .with_context(|| format!("{} on {new}", pod.name))?;
    }
    let after = same_nodes(&bed, &before).await?;
    canary.intact(&bed).await?;
    for pod in bed.pods() {
        let role = role(&pod).await?;
        let node = &after.nodes[&pod.ordinal];
        ensure!(role["node_id"] == node.node_id.as_str(), "{role}");
        runs(&bed, pod.ordinal, &to).await?;
    }
    if to.has_slot_ranges() {
        names_are_told(&bed).await?;
    }
    // What was written by the old one and handed on by the new one is on the volume too.
    bed.move_pods(&[0, 1, 2, 3, 4, 5]).await?;
    same_nodes(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

async fn same_nodes(bed: &Testbed, before: &Snapshot) -> Result<Snapshot> {
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    Ok(after)
}

/// Every table shows every pod's hostname, also where they had to be held back for a while.
async fn names_are_told(bed: &Testbed) -> Result<()> {
    wait::until(LONG, "every table shows every hostname", async || {
        for pod in bed.pods() {
            let table: String = pod.command(&["CLUSTER", "NODES"]).await?;
            for other in bed.pods() {
                let hostname = format!(",{}.{}.", other.name, bed.set().service);
                ensure!(table.contains(&hostname), "{}: {table}", pod.name);
            }
        }
        Ok(())
    })
    .await
}

/// Whether this pod's Redis is the one it should be by now.
async fn runs(bed: &Testbed, ordinal: usize, server: &Server) -> Result<()> {
    let pod = bed.pod(ordinal)?;
    let (major, minor, patch) = server.version;
    let field = format!(
        "{}_version:{major}.{minor}.{patch}",
        server.name.to_lowercase()
    );
    wait::until(LONG, &field, async || {
        let info: String = pod.command(&["INFO", "server"]).await?;
        ensure!(info.contains(&field), "{}: {info}", pod.name);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn redis_6_0_rolls_to_redis_7_0() -> Result<()> {
    rolls("redis-6.0", "redis-7.0").await
}

#[tokio::test]
async fn redis_7_0_rolls_to_redis_8_0() -> Result<()> {
    rolls("redis-7.0", "redis-8.0").await
}

#[tokio::test]
async fn redis_7_0_rolls_to_valkey_8_0() -> Result<()> {
    rolls("redis-7.0", "valkey-8.0").await
}

#[tokio::test]
async fn valkey_8_0_rolls_to_valkey_9_1() -> Result<()> {
    rolls("valkey-8.0", "valkey-9.1").await
}
