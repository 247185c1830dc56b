//! nodes.conf lost or damaged (scenarios 30 and 33): copies are kept, and `redis-sidecar init` or the
//! running agent puts one back while Redis is down, unless the node lives elsewhere (S8).

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use testbed::{
    Ending, Pod, Testbed,
    dns::{Fault, Scope},
    skip, wait,
};

use crate::{common::*, history, mistaken_copies, volumes};

const COPY: &str = "redis-sidecar.nodes.conf.1";

/// Whether a text says `id` is myself, whole to its last line.
fn is_of(text: &str, id: &str) -> bool {
    let myself = |line: &str| line.starts_with(id) && line.contains("myself");
    text.lines().any(myself) && text.contains("\nvars currentEpoch") && text.ends_with('\n')
}

/// Waits until the newest copy of every pod is of its own ID and of six nodes.
async fn copied(bed: &Testbed, ids: &[String]) -> Result<()> {
    wait::until(LONG, "every nodes.conf is copied", async || {
        for (pod, id) in bed.pods().iter().zip(ids) {
            let text = fs::read_to_string(pod.data_dir().join(COPY))?;
            let nodes = text.lines().count() - 1;
            ensure!(is_of(&text, id) && nodes == 6, "{}: {text}", pod.name);
        }
        Ok(())
    })
    .await
}

async fn ids(bed: &Testbed) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for pod in bed.pods() {
        ids.push(pod.command(&["CLUSTER", "MYID"]).await?);
    }
    Ok(ids)
}

/// The states of scenario 30.
const DAMAGES: [&str; 7] = [
    "empty",
    "missing",
    "cut",
    "no-vars",
    "zeros",
    "no-myself",
    "garbage",
];

fn damage(path: &Path, how: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    match how {
        "empty" => fs::write(path, "")?,
        "missing" => fs::remove_file(path)?,
        "cut" => fs::write(path, &text[..text.len() / 2])?,
        "no-vars" => fs::write(path, &text[..text.rfind("vars").context("no vars")?])?,
        "zeros" => fs::write(path, vec![0; text.len()])?,
        "no-myself" => fs::write(path, text.replace("myself,", ""))?,
        _ => fs::write(path, "what is this\n")?,
    }
    Ok(())
}

/// The pod as Kubernetes starts it: first the init container, then Redis and the agent.
async fn start_after_init(bed: &Testbed, pod: &Pod) -> Result<()> {
    bed.publish(pod);
    let (code, log) = pod.init(LONG * 2).await?;
    ensure!(code == 0, "{}: init ended with {code}: {log}", pod.name);
    pod.start().await
}

/// Waits until the history tells of so many repairs, over all restarts.
async fn repaired(pod: &Pod, times: usize) -> Result<()> {
    wait::until(LONG, "each repair is told once", async || {
        let told = history::told(pod).await?;
        let of_it = told.iter().filter(|t| t.starts_with("nodes-conf-repaired"));
        let count = of_it.count();
        ensure!(count == times, "{count} and not {times}: {told:?}");
        Ok(())
    })
    .await
}

/// Scenario 30: whatever is left of it, the node comes back as who it was.
async fn damaged(name: &str, ordinal: usize, damages: &[&'static str]) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 300).await?;
    copied(&bed, &ids(&bed).await?).await?;
    let pod = bed.pod(ordinal)?;
    for (before_this, how) in damages.iter().enumerate() {
        bed.end_pod(ordinal, Ending::Kill).await?;
        damage(&pod.nodes_conf(), how)?;
        start_after_init(&bed, &pod).await.context(*how)?;
        let after = bed.whole(LONG).await.context(*how)?;
        ensure!(after.ids() == before.ids(), "{how}: reborn:\n{after}");
        bed.all_ready(LONG).await.context(*how)?;
        repaired(&pod, before_this + 1).await.context(*how)?;
        println!("{name}: {how}: back");
    }
    as_before(bed, &before, &canary).await
}

#[tokio::test]
async fn a_replica_with_a_damaged_nodes_conf_comes_back_as_itself() -> Result<()> {
    damaged("conf-replica", 4, &DAMAGES).await
}

#[tokio::test]
async fn a_master_with_a_damaged_nodes_conf_comes_back_as_itself() -> Result<()> {
    damaged("conf-master", 1, &["missing", "cut"]).await
}

/// All at once: nobody is there to be asked, as all of them are down.
#[tokio::test]
async fn a_whole_cluster_with_damaged_nodes_confs_comes_back() -> Result<()> {
    let (bed, before) = formed("conf-all").await?;
    let canary = bed.write_canary("conf-all", 300).await?;
    copied(&bed, &ids(&bed).await?).await?;
    for pod in bed.pods() {
        pod.agent.kill().await?;
    }
    for (pod, how) in bed.pods().iter().zip(DAMAGES) {
        bed.end_pod(pod.ordinal, Ending::Kill).await?;
        damage(&pod.nodes_conf(), how)?;
        bed.publish(pod);
    }
    let all = bed.pods();
    let starts = all.iter().map(|pod| start_after_init(&bed, pod));
    for started in futures_join(starts).await {
        started?;
    }
    as_before(bed, &before, &canary).await
}

/// All of them at the same time, on this task.
async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (one, done) in &mut running {
            if done.is_none() {
                match one.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

/// Without an init container: Redis exits for its file, and the agent beside it puts it right.
#[tokio::test]
async fn the_running_agent_repairs_beside_a_redis_that_is_down() -> Result<()> {
    let (bed, before) = formed("conf-agent").await?;
    let canary = bed.write_canary("conf-agent", 300).await?;
    let ids = ids(&bed).await?;
    let pod = bed.pod(5)?;
    let damages = ["empty", "cut", "zeros", "no-myself", "garbage"];
    for (before_this, how) in damages.iter().enumerate() {
        copied(&bed, &ids).await?;
        pod.redis.kill().await?;
        damage(&pod.nodes_conf(), how)?;
        repaired(&pod, before_this + 1).await.context(*how)?;
        let text = fs::read_to_string(pod.nodes_conf())?;
        ensure!(is_of(&text, &ids[5]), "{how}: {text}");
        pod.start_redis().await?;
        let after = bed.whole(LONG).await.context(*how)?;
        ensure!(after.ids() == before.ids(), "{how}: reborn:\n{after}");
        bed.all_ready(LONG).await.context(*how)?;
    }
    // The last one's is kept, for a person to look at.
    let kept = fs::read_to_string(pod.data_dir().join("redis-sidecar.nodes.conf.damaged"))?;
    ensure!(kept == "what is this\n", "{kept}");
    as_before(bed, &before, &canary).await
}

/// S11: Redis has started without its file, under a new ID. It says so; a restart of its pod brings
/// the old one back.
#[tokio::test]
async fn a_restart_brings_back_who_was_born_again() -> Result<()> {
    let (bed, before) = formed("conf-born").await?;
    let canary = bed.write_canary("conf-born", 300).await?;
    copied(&bed, &ids(&bed).await?).await?;
    let pod = bed.pod(1)?;
    bed.end_pod(1, Ending::Kill).await?;
    fs::remove_file(pod.nodes_conf())?;
    pod.start_redis().await?;
    pod.redis_answers(LONG).await?;
    bed.publish(&pod);
    pod.start_agent().await?;
    let message = says(&pod, "identity-lost", "restart the pod").await?;
    ensure!(message.contains(&before.nodes[&1].node_id), "{message}");
    left_alone(&bed).await?;

    bed.end_pod(1, Ending::Graceful).await?;
    start_after_init(&bed, &pod).await?;
    history::tells(&pod, &["identity-changed", "identity-changed"]).await?;
    as_before(bed, &before, &canary).await
}

/// S8, S10: the same volume twice, its nodes.conf damaged or not. The second is not let start.
#[tokio::test]
async fn a_copy_whose_node_lives_is_not_put_back() -> Result<()> {
    let (bed, before) = formed("conf-clone").await?;
    let canary = bed.write_canary("conf-clone", 100).await?;
    copied(&bed, &ids(&bed).await?).await?;
    let original = bed.pod(5)?;
    let clone = bed.pod(bed.add_pod().await?)?;
    volumes::copy(&original.data_dir(), &clone.data_dir())?;
    bed.publish(&clone);
    for how in ["whole", "empty"] {
        if how == "empty" {
            fs::write(clone.nodes_conf(), "")?;
        }
        let (code, log) = clone.init(LONG).await?;
        ensure!(code == 75, "{how}: {code}: {log}");
        let where_it_is = format!("answers at {}", original.redis_address());
        ensure!(log.contains(&where_it_is), "{how}: {log}");
    }
    ensure!(fs::read(clone.nodes_conf())?.is_empty(), "it was written");
    bed.remove_last_pod(Ending::Kill).await?;
    as_before(bed, &before, &canary).await
}

/// S10: the same while DNS gives no answer. The original is found at the address that nodes.conf has of it, and when
/// it has moved since, by who is connected to it.
#[tokio::test]
async fn init_starts_no_clone_while_dns_fails() -> Result<()> {
    let (bed, before) = formed("conf-clone-no-dns").await?;
    let canary = bed.write_canary("conf-clone-no-dns", 100).await?;
    copied(&bed, &ids(&bed).await?).await?;
    let original = bed.pod(5)?;
    let clone = bed.pod(bed.add_pod().await?)?;
    volumes::copy(&original.data_dir(), &clone.data_dir())?;
    bed.dns.fault(Scope::All, Fault::ServFail);
    let (code, log) = clone.init(LONG).await?;
    ensure!(code == 75, "{code}: {log}");
    let where_it_is = format!("answers at {}", original.redis_address());
    ensure!(log.contains(&where_it_is), "{log}");
    bed.dns.heal();

    bed.end_pod(5, Ending::Graceful).await?;
    original.move_to(bed.fresh_address()?).await?;
    bed.start_pod(5).await?;
    let there = original.redis_address().to_string();
    wait::until(LONG, "all have it at its new address", async || {
        for ordinal in 0..6 {
            let pod = bed.pod(ordinal)?;
            pod.ready().await?;
            let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
            ensure!(nodes.contains(&there), "{}: {nodes}", pod.name);
        }
        Ok(())
    })
    .await?;
    bed.dns.fault(Scope::All, Fault::ServFail);
    let init = clone.start_init().await?;
    wait::until(LONG, "init says who is connected to it", async || {
        let log = fs::read_to_string(init.log())?;
        ensure!(log.contains("is still connected to it"), "{log}");
        Ok(())
    })
    .await?;
    ensure!(init.is_running().await, "it has ended");
    init.kill().await?;
    bed.dns.heal();
    bed.remove_last_pod(Ending::Kill).await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 33: while somebody holds nodes.conf, Redis would exit; it is waited for.
#[tokio::test]
async fn init_waits_while_somebody_holds_nodes_conf() -> Result<()> {
    let (bed, before) = formed("conf-held").await?;
    let canary = bed.write_canary("conf-held", 100).await?;
    copied(&bed, &ids(&bed).await?).await?;
    let pod = bed.pod(3)?;
    bed.end_pod(3, Ending::Graceful).await?;
    damage(&pod.nodes_conf(), "no-vars")?;
    let holder = fs::File::open(pod.nodes_conf())?;
    holder.lock()?;
    bed.publish(&pod);
    let init = pod.start_init().await?;
    wait::until(LONG, "it says what it waits for", async || {
        let log = fs::read_to_string(init.log())?;
        ensure!(log.contains("another process holds"), "{log}");
        Ok(())
    })
    .await?;
    ensure!(init.is_running().await, "it has ended");
    drop(holder);
    let status = init.ended(LONG).await?;
    ensure!(status.success(), "{status}: {:?}", init.tail(5));
    pod.start().await?;
    as_before(bed, &before, &canary).await
}

/// The first start of all costs nothing: there is no file, and none is made.
#[tokio::test]
async fn init_lets_a_blank_pod_start_at_once() -> Result<()> {
    let bed = bed("conf-blank").build().await?;
    for pod in bed.pods() {
        let began = std::time::Instant::now();
        start_after_init(&bed, &pod).await?;
        println!("{}: started after {:?}", pod.name, began.elapsed());
    }
    formed_as_planned(&bed).await?;
    bed.finish().await
}

/// A replica's line under another shard ID than its master's, as servers from 7.2 on write it for a
/// moment. Valkey 8.0 does not start from it where that line comes first.
#[tokio::test]
async fn a_replica_under_its_old_shard_is_put_right_and_starts() -> Result<()> {
    let (bed, before) = formed("conf-shard").await?;
    let canary = bed.write_canary("conf-shard", 100).await?;
    let pod = bed.pod(4)?;
    bed.end_pod(4, Ending::Kill).await?;
    let text = fs::read_to_string(pod.nodes_conf())?;
    let key = "shard-id=";
    let Some(own) = text
        .lines()
        .find(|line| line.contains("myself") && line.contains(key))
    else {
        skip::not_on_this_server("it has no shard IDs");
        bed.start_pod(4).await?;
        return as_before(bed, &before, &canary).await;
    };
    let at = own.find(key).context("no shard")? + key.len();
    let wrong = format!("{}{}{}", &own[..at], "ab".repeat(20), &own[at + 40..]);
    let rest: Vec<&str> = text.lines().filter(|line| *line != own).collect();
    fs::write(pod.nodes_conf(), format!("{wrong}\n{}\n", rest.join("\n")))?;
    if bed.pod(4)?.settings().server.label() == "valkey-8.0" {
        pod.start_redis().await?;
        let status = pod.redis.ended(LONG).await?;
        ensure!(!status.success(), "it starts from it");
    }
    start_after_init(&bed, &pod).await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 28: a master's data is gone and its nodes.conf is not. Started at once, it would have its
/// replica drop the data; `init` has it wait until that one has been elected.
#[tokio::test]
async fn a_master_without_its_data_starts_after_its_replica_was_elected() -> Result<()> {
    let bed = bed("conf-no-data").appendonly(false).build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("conf-no-data", 300).await?;
    replicated(&bed, 1, 4).await?;
    let pod = bed.pod(1)?;
    pod.kill().await?;
    let began = std::time::Instant::now();
    start_after_init(&bed, &pod).await?;
    println!("started after {:?}", began.elapsed());
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&4].role == testbed::Role::Master, "{after}");
    as_before(bed, &before, &canary).await
}

/// Scenario 28, and the replica that has the data was restarted meanwhile, so that Redis takes its data for
/// too old to elect it: its sidecar orders it, and nobody copies nothing.
#[tokio::test]
async fn a_master_without_its_data_never_empties_its_replica() -> Result<()> {
    let timeout = std::time::Duration::from_secs(1);
    let bed = bed("conf-data-gone").node_timeout(timeout).build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("conf-data-gone", 300).await?;
    replicated(&bed, 1, 4).await?;
    let (pod, replica) = (bed.pod(1)?, bed.pod(4)?);
    replica.redis.kill().await?;
    bed.end_pod(1, Ending::Kill).await?;
    mistaken_copies::lose_data(&pod)?;
    replica.start_redis().await?;
    start_after_init(&bed, &pod).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&4].role == testbed::Role::Master, "{after}");
    as_before(bed, &before, &canary).await
}

/// Scenario 24, with the init container alone: a master's volume is lost, and what starts in its place
/// waits for the replica that has the data.
#[tokio::test]
async fn a_master_without_its_volume_starts_after_its_replica_was_elected() -> Result<()> {
    let bed = bed("init-no-volume")
        .agent_env("TEST_GHOSTS_GONE_FOR_MS", "4000")
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("init-no-volume", 300).await?;
    replicated(&bed, 1, 4).await?;
    let pod = bed.pod(1)?;
    pod.kill().await?;
    pod.wipe_volume().await?;
    start_after_init(&bed, &pod).await?;
    let four: Vec<redis::Value> = bed.pod(4)?.command(&["ROLE"]).await?;
    let role: String = redis::from_redis_value(four[0].clone())?;
    ensure!(role == "master", "started too early: {role}");
    let after = bed.whole(LONG * 2).await?;
    ensure!(after.nodes[&1].replica_of == Some(4), "{after}");
    ensure!(
        after.nodes[&1].node_id != before.nodes[&1].node_id,
        "{after}"
    );
    canary.intact(&bed).await?;
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// Scenario 35, the other way round: the snapshot is of a replica that has been elected since. Started
/// from it, it would give up the slots that it owns; `init` waits until another owns them.
#[tokio::test]
async fn a_snapshot_from_before_its_election_waits_for_another_one() -> Result<()> {
    let (bed, before) = formed("conf-elected").await?;
    let pod = bed.pod(4)?;
    let snapshot = tempfile::tempdir()?;
    volumes::copy(&pod.data_dir(), snapshot.path())?;
    bed.end_pod(1, Ending::Kill).await?;
    elected(&*bed.pod(4)?).await?;
    bed.start_pod(1).await?;
    bed.whole(LONG).await?;
    let canary = bed.write_canary("elected", 300).await?;
    replicated(&bed, 4, 1).await?;

    bed.end_pod(4, Ending::Kill).await?;
    pod.wipe_volume().await?;
    volumes::copy(snapshot.path(), &pod.data_dir())?;
    start_after_init(&bed, &pod).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&1].role == testbed::Role::Master, "{after}");
    as_before(bed, &before, &canary).await
}

async fn elected(pod: &Pod) -> Result<()> {
    wait::until(LONG, "its replica is elected", async || {
        let role: Vec<redis::Value> = pod.command(&["ROLE"]).await?;
        let role: String = redis::from_redis_value(role[0].clone())?;
        ensure!(role == "master", "{role}");
        Ok(())
    })
    .await
}

/// Scenario 35: an old snapshot in the place of a volume, from before a failover. Its node is the old
/// master with old epochs; what was written since is kept.
#[tokio::test]
async fn an_older_snapshot_in_place_of_the_volume_takes_nothing_back() -> Result<()> {
    let (bed, before) = formed("conf-snapshot").await?;
    bed.write_canary("old", 200).await?;
    let pod = bed.pod(1)?;
    let snapshot = tempfile::tempdir()?;
    volumes::copy(&pod.data_dir(), snapshot.path())?;
    bed.end_pod(1, Ending::Kill).await?;
    elected(&*bed.pod(4)?).await?;
    bed.start_pod(1).await?;
    bed.whole(LONG).await?;
    let canary = bed.write_canary("new", 300).await?;

    bed.end_pod(1, Ending::Kill).await?;
    pod.wipe_volume().await?;
    volumes::copy(snapshot.path(), &pod.data_dir())?;
    start_after_init(&bed, &pod).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&4].role == testbed::Role::Master, "{after}");
    as_before(bed, &before, &canary).await
}
