//! Identities that are wrong: a foreign node in the table (S9), one ID twice (S10), and data whose
//! nodes.conf was lost (S11). The agents write nothing, say why, and go on when it is cured.

use std::fs;

use anyhow::{Result, ensure};
use testbed::{Ending, Pod, Testbed, server::Server, wait};

use crate::{common::*, history, volumes};

/// Nobody writes, although there is something to put right that every agent would at once.
async fn holds_still(bed: &Testbed) -> Result<()> {
    let pod = bed.pod(4)?;
    let wrong = bed.fresh_address()?.to_string();
    pod.command::<()>(&["CONFIG", "SET", "cluster-announce-ip", &wrong])
        .await?;
    bed.silent(QUIET).await
}

async fn knows(pod: &Pod, id: &str) -> Result<bool> {
    let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
    Ok(nodes.contains(id))
}

/// S9: somebody met a node of another cluster by hand.
#[tokio::test]
async fn a_foreign_node_in_the_table_stops_all_writes_until_it_is_forgotten() -> Result<()> {
    let (bed, before) = formed("stranger").await?;
    let canary = bed.write_canary("stranger", 100).await?;
    // Its pods wait for more of their own, so it stays blank: there is nothing it could take away.
    let other = crate::common::bed("stranger-other")
        .names("other", "other-headless")
        .namespace("bank")
        .build()
        .await?;
    let stranger = other.pod(0)?;
    other.start_pod(0).await?;
    says(&stranger, "waiting-for-peers", "").await?;
    let id: String = stranger.command(&["CLUSTER", "MYID"]).await?;

    let ip = stranger.address().to_string();
    bed.pod(0)?
        .command::<()>(&["CLUSTER", "MEET", &ip, "6379"])
        .await?;
    for pod in bed.pods() {
        let message = says(&pod, "foreign-node", &id).await?;
        let evidence = format!(
            "at {} belongs to the cluster bank/other",
            stranger.redis_address()
        );
        ensure!(message.contains(&evidence), "{message}");
        ensure!(pod.ready().await.is_err(), "{} is ready", pod.name);
    }
    holds_still(&bed).await?;

    for pod in bed.pods() {
        history::tells(&pod, &["alarm: foreign-node: "]).await?;
    }

    // Its agent and Redis are gone: what was seen is not forgotten, not even over a restart.
    other.end_pod(0, Ending::Kill).await?;
    for pod in bed.pods() {
        pod.agent.kill().await?;
        pod.start_agent().await?;
        says(&pod, "foreign-node", &id).await?;
    }
    bed.silent(QUIET).await?;
    canary.intact(&bed).await?;

    for pod in bed.pods() {
        pod.command::<()>(&["CLUSTER", "FORGET", &id]).await?;
    }
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    ensure!(after.replication() == before.replication(), "{after}");
    bed.all_ready(LONG).await?;
    for pod in bed.pods() {
        let (begun, over) = ("alarm: foreign-node: ", "alarm-over: foreign-node");
        let life = history::tells(&pod, &[begun, over]).await?;
        let times = life.iter().filter(|event| event.starts_with(begun)).count();
        ensure!(times == 1, "told anew by the next agent: {life:#?}");
    }
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await?;
    other.finish().await
}

/// S10: a copy of pod `original`'s volume runs in a further pod.
async fn cloned(name: &str, original: usize) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 100).await?;
    let clone = bed.pod(bed.add_pod().await?)?;
    volumes::copy(&bed.pod(original)?.data_dir(), &clone.data_dir())?;
    let id = &before.nodes[&original].node_id;

    bed.start_pod(clone.ordinal).await?;
    let mut reporters = Vec::new();
    for pod in bed.pods() {
        let message = says(&pod, "duplicate-node-id", id).await?;
        ensure!(message.contains("a volume was cloned"), "{message}");
        reporters.push(pod.name.clone());
    }
    println!("{name}: reported by {}", reporters.join(" "));
    for ordinal in [original, clone.ordinal] {
        let pod = bed.pod(ordinal)?;
        ensure!(pod.ready().await.is_err(), "{} is ready", pod.name);
    }
    left_alone(&bed).await?;

    bed.remove_last_pod(Ending::Kill).await?;
    as_before(bed, &before, &canary).await
}

/// S10, with a replica's volume.
#[tokio::test]
async fn a_cloned_replica_is_reported_and_nothing_is_touched() -> Result<()> {
    cloned("clone-replica", 5).await
}

/// S10, with a master's volume.
#[tokio::test]
async fn a_cloned_master_is_reported_and_nothing_is_touched() -> Result<()> {
    cloned("clone-master", 1).await
}

/// S11: nodes.conf and its copies are lost, the data is not; `note_too` tells whether the agent's own
/// file is lost too.
async fn lost_nodes_conf(name: &str, ordinal: usize, note_too: bool) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 300).await?;
    let pod = bed.pod(ordinal)?;
    let kept = fs::read(pod.nodes_conf())?;
    bed.end_pod(ordinal, Ending::Graceful).await?;
    let kept_after = fs::read(pod.nodes_conf()).unwrap_or(kept);
    fs::remove_file(pod.nodes_conf())?;
    for number in 1..=3 {
        let copy = format!("redis-sidecar.nodes.conf.{number}");
        let _ = fs::remove_file(pod.data_dir().join(copy));
    }
    if note_too {
        fs::remove_file(pod.data_dir().join("redis-sidecar.json"))?;
    }
    bed.start_pod(ordinal).await?;
    says(&pod, "data-without-identity", "nodes.conf was lost").await?;
    let born: String = pod.command(&["CLUSTER", "MYID"]).await?;
    ensure!(born != before.nodes[&ordinal].node_id, "it has its old ID");
    // Its own address and names are still announced.
    rounds_pass(&pod, 2).await?;
    let seen = bed.writes_seen().await?;
    wait::throughout(
        LONG / 5,
        "nobody meets it, and it stays as it is",
        async || {
            ensure!(pod.ready().await.is_err(), "{} is ready", pod.name);
            for other in bed.pods() {
                let met = other.ordinal != ordinal && knows(&other, &born).await?;
                ensure!(!met, "{} knows {born}", other.name);
            }
            let news = bed.writes_seen().await?.since(&seen);
            ensure!(news.is_empty(), "{news:?}");
            Ok(())
        },
    )
    .await?;

    // What a person does: the file comes back.
    bed.end_pod(ordinal, Ending::Kill).await?;
    fs::write(pod.nodes_conf(), kept_after)?;
    bed.start_pod(ordinal).await?;
    as_before(bed, &before, &canary).await
}

/// S11, a replica.
#[tokio::test]
async fn a_replica_whose_nodes_conf_was_lost_is_met_by_nobody() -> Result<()> {
    lost_nodes_conf("lost-conf-replica", 4, false).await
}

/// S11, a master.
#[tokio::test]
async fn a_master_whose_nodes_conf_was_lost_is_met_by_nobody() -> Result<()> {
    lost_nodes_conf("lost-conf-master", 1, false).await
}

/// S11, with the agent's note gone too: nothing but the keys tells that it is not new.
#[tokio::test]
async fn a_master_without_nodes_conf_and_note_is_met_by_nobody() -> Result<()> {
    lost_nodes_conf("lost-conf-note", 2, true).await
}

/// Scenario 63: a pod is deleted by force while its processes go on at the lost node, and its
/// successor starts from a copy of its volume. Alarm, no write; whole once the old one is dead.
async fn deleted_by_force(name: &str, ordinal: usize) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 200).await?;
    let old = bed.replace_pod(ordinal).await?;
    let new = bed.pod(ordinal)?;
    volumes::copy(&old.data_dir(), &new.data_dir())?;
    let id = &before.nodes[&ordinal].node_id;
    bed.start_pod(ordinal).await?;
    for pod in bed.pods().iter().filter(|pod| pod.ordinal != ordinal) {
        says(pod, "duplicate-node-id", id).await?;
    }
    // DNS leads the old one's agent to its successor.
    says(&old, "duplicate-node-id", id).await?;
    ensure!(old.ready().await.is_err(), "the old one is ready");
    left_alone(&bed).await?;

    old.kill().await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 63, a replica.
#[tokio::test]
async fn a_replica_deleted_by_force_is_reported_until_it_is_dead() -> Result<()> {
    deleted_by_force("forced-replica", 4).await
}

/// Scenario 63, a master.
#[tokio::test]
async fn a_master_deleted_by_force_is_reported_until_it_is_dead() -> Result<()> {
    deleted_by_force("forced-master", 1).await
}

/// Scenario 63 on a volume that both have: Redis's lock on nodes.conf keeps the successor out.
#[tokio::test]
async fn a_successor_on_the_same_volume_waits_until_the_old_one_is_dead() -> Result<()> {
    let (bed, before) = formed("forced-shared").await?;
    let canary = bed.write_canary("forced-shared", 200).await?;
    let old = bed.replace_pod(1).await?;
    let new = bed.pod(1)?;
    fs::remove_dir(new.data_dir())?;
    std::os::unix::fs::symlink(old.data_dir(), new.data_dir())?;
    bed.start_pod(1).await?;
    if Server::installed()?.version >= (7, 2, 0) {
        // These rename nodes.conf into place, and what was locked is the file before: both run. One
        // volume for two is for Kubernetes to prevent; here it must only be told.
        let id = &before.nodes[&1].node_id;
        for ordinal in [0, 2, 3, 4, 5] {
            says(&*bed.pod(ordinal)?, "duplicate-node-id", id).await?;
        }
        left_alone(&bed).await?;
        old.kill().await?;
        return as_before(bed, &before, &canary).await;
    }
    let status = new.redis.ended(LONG).await?;
    ensure!(!status.success(), "it ended well: {status}");
    says(&new, "redis-unreachable", "").await?;
    let seen = bed.writes_seen().await?;
    wait::throughout(QUIET, "the others go on as before", async || {
        for ordinal in [0, 2, 3, 4, 5] {
            bed.pod(ordinal)?.ready().await?;
        }
        old.ready().await?;
        let news = bed.writes_seen().await?.since(&seen);
        ensure!(news.is_empty(), "{news:?}");
        Ok(())
    })
    .await?;

    // The kubelet's part: the container is started again.
    old.kill().await?;
    new.start_redis().await?;
    as_before(bed, &before, &canary).await
}
