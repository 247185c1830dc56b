//! Volumes of an older cluster: no second cluster, no wipe.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use testbed::{Role, Snapshot, Testbed};

use crate::common::*;

/// Another release: other names, another namespace, its pods at the addresses of the old ones, and
/// the old volumes of these ordinals.
async fn new_release(name: &str, old: &Testbed, volumes: &[usize]) -> Result<Testbed> {
    let new = bed(name)
        .names("store", "store-headless")
        .namespace("prod")
        .build()
        .await?;
    for pod in new.pods() {
        let before = old.pod(pod.ordinal)?;
        pod.move_to(before.address()).await?;
        if volumes.contains(&pod.ordinal) {
            copy(&before.data_dir(), &pod.data_dir())?;
        }
    }
    Ok(new)
}

/// Copies a volume, its Redis running or not; the sidecar's socket is no part of it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), &target).with_context(|| format!("{}", target.display()))?;
        }
    }
    Ok(())
}

async fn stop_all(bed: &Testbed) -> Result<()> {
    for pod in bed.pods() {
        pod.agent.kill().await?;
    }
    for pod in bed.pods() {
        bed.end_pod(pod.ordinal, testbed::Ending::Kill).await?;
    }
    Ok(())
}

/// Every Redis of these ordinals has its old ID.
fn kept(before: &Snapshot, after: &Snapshot, ordinals: &[usize]) -> Result<()> {
    for ordinal in ordinals {
        let (old, new) = (&before.nodes[ordinal], &after.nodes[ordinal]);
        ensure!(old.node_id == new.node_id, "{ordinal} was reborn");
    }
    Ok(())
}

/// Scenario 10: all volumes of an old cluster under a new release.
#[tokio::test]
async fn all_old_volumes_under_a_new_release_are_the_old_cluster() -> Result<()> {
    let (old, before) = formed("old").await?;
    old.write_canary("kept", 300).await?.intact(&old).await?;
    stop_all(&old).await?;

    let new = new_release("new-release", &old, &[0, 1, 2, 3, 4, 5]).await?;
    new.start_all().await?;
    let after = new.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn");
    ensure!(after.replication() == before.replication(), "{after}");
    new.all_ready(LONG).await?;
    topology_untouched(&new).await?;
    canary_of(&new).await?;
    new.silent(QUIET).await?;
    new.finish().await?;
    old.finish().await
}

/// The keys that `write_canary("kept", 300)` wrote, read through another testbed.
async fn canary_of(bed: &Testbed) -> Result<()> {
    let mut client = bed.cluster_client();
    for n in 0..300 {
        let found = client.command(&["GET", &format!("kept:{n}")]).await?;
        let found: Option<String> = redis::from_redis_value(found)?;
        ensure!(
            found == Some(format!("value of kept {n}")),
            "{n}: {found:?}"
        );
    }
    Ok(())
}

/// Scenario 10: the masters' volumes are old, the replicas' blank. The blank ones form nothing
/// among themselves: they join.
#[tokio::test]
async fn blank_volumes_beside_old_ones_join_as_replicas_and_form_nothing() -> Result<()> {
    let (old, before) = formed("old-half").await?;
    old.write_canary("kept", 300).await?.intact(&old).await?;
    stop_all(&old).await?;

    let masters = [0, 1, 2];
    let new = new_release("half-blank", &old, &masters).await?;
    new.start_all().await?;
    new.all_ready(LONG).await?;
    let after = new.truth().await.snapshot;
    kept(&before, &after, &masters)?;
    for ordinal in masters {
        let (then, now) = (&before.nodes[&ordinal], &after.nodes[&ordinal]);
        ensure!(now.slots == then.slots, "{after}");
        // Each has one of the new ones.
        ensure!(after.replicas_of(ordinal).len() == 1, "{after}");
    }
    for ordinal in [3, 4, 5] {
        let node = &after.nodes[&ordinal];
        ensure!(node.role == Role::Replica && node.link_up, "{after}");
    }
    let writes = new.writes_seen().await?;
    ensure!(writes.of("cluster|addslotsrange") == 0, "{writes:?}");
    canary_of(&new).await?;
    new.finish().await?;
    old.finish().await
}

/// Scenario 10: the blank pods are there first, and must wait for nobody but form nothing either
/// while the old ones are away.
#[tokio::test]
async fn blank_pods_wait_for_the_old_ones_and_never_form_without_them() -> Result<()> {
    let (old, before) = formed("old-late").await?;
    old.write_canary("kept", 300).await?.intact(&old).await?;
    stop_all(&old).await?;

    let new = new_release("late", &old, &[0, 1, 2]).await?;
    for ordinal in [3, 4, 5] {
        new.start_pod(ordinal).await?;
    }
    for ordinal in [3, 4, 5] {
        let pod = new.pod(ordinal)?;
        says(&pod, "waiting-for-peers", "store-0 (not in DNS)").await?;
        rounds_pass(&pod, 10).await?;
    }
    topology_untouched(&new).await?;
    for ordinal in [0, 1, 2] {
        new.start_pod(ordinal).await?;
    }
    new.all_ready(LONG).await?;
    let after = new.truth().await.snapshot;
    kept(&before, &after, &[0, 1, 2])?;
    ensure!(after.replication().len() == 3, "{after}");
    canary_of(&new).await?;
    new.finish().await?;
    old.finish().await
}
