//! What the scenarios share: the testbed with the shipped binary, and what "formed" means.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::{
    Builder, Pod, Role, Snapshot, Testbed,
    canary::Canary,
    ledger::{Ledger, Shard},
    skip, wait,
};

/// For anything that takes a moment on an idle machine: it may be a busy one.
pub(crate) const LONG: Duration = Duration::from_secs(40);
/// How long silence is watched: longer than the gaps after which rules write again.
pub(crate) const QUIET: Duration = Duration::from_millis(2500);
/// Everything that changes the topology.
const TOPOLOGY: [&str; 7] = [
    "cluster|failover",
    "cluster|meet",
    "cluster|addslots",
    "cluster|addslotsrange",
    "cluster|replicate",
    "cluster|set-config-epoch",
    "cluster|forget",
];

/// A testbed whose pods have the shipped agent.
pub(crate) fn bed(name: &str) -> Builder {
    Testbed::builder(name).agent(env!("CARGO_BIN_EXE_redis-sidecar"))
}

/// A testbed that not every machine can have; `None`, with a line that says why, where it cannot be built
/// and a plain one can.
pub(crate) async fn if_possible(
    what: &str,
    plain: Builder,
    special: fn(Builder) -> Builder,
) -> Result<Option<Testbed>> {
    let error = match special(plain.clone()).build().await {
        Ok(bed) => return Ok(Some(bed)),
        Err(error) => error,
    };
    plain.build().await?.finish().await?;
    // Root or not: not every kernel or container has IPv6, or what `nft` takes.
    skip::not_on_this_machine(what, &error, None)?;
    Ok(None)
}

/// A formed cluster of three masters and three replicas.
pub(crate) async fn formed(name: &str) -> Result<(Testbed, Snapshot)> {
    let bed = bed(name).build().await?;
    bed.start_all().await?;
    let snapshot = formed_as_planned(&bed).await?;
    Ok((bed, snapshot))
}

/// Waits until the cluster is whole, every pod ready and marked as a member, and the node timeout
/// is the configured one everywhere; the roles must be those of the ordinals.
pub(crate) async fn formed_as_planned(bed: &Testbed) -> Result<Snapshot> {
    let snapshot = bed.whole(LONG).await?;
    as_planned(bed, &snapshot)?;
    bed.all_ready(LONG).await?;
    wait::until(LONG, "every volume is marked", async || {
        bed.pods().iter().try_for_each(|pod| marked(pod))
    })
    .await?;
    node_timeout_is_back(bed).await?;
    files_can_be_loaded(bed).await?;
    Ok(snapshot)
}

/// Redis from 7.2 and Valkey write a replica under its old shard ID for a moment, and refuse to start
/// from a nodes.conf in which a replica's is not its master's. Killed in that moment, Redis stays
/// down whatever an agent does; no scenario here is about that.
async fn files_can_be_loaded(bed: &Testbed) -> Result<()> {
    wait::until(LONG, "every nodes.conf can be loaded", async || {
        bed.pods().iter().try_for_each(|pod| {
            let text = std::fs::read_to_string(pod.nodes_conf())?;
            let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(' ').collect()).collect();
            let shard = |line: &[&str]| Some(line.get(1)?.split_once("shard-id=")?.1.to_owned());
            for line in &lines {
                let master = lines.iter().find(|other| line.get(3) == other.first());
                let theirs = master.and_then(|master| shard(master));
                ensure!(
                    master.is_none() || theirs == shard(line),
                    "{}: {line:?}",
                    pod.name
                );
            }
            Ok(())
        })
    })
    .await
}

/// Masters own contiguous, even shares in the order of their ordinals; the others replicate them
/// in turn.
pub(crate) fn as_planned(bed: &Testbed, snapshot: &Snapshot) -> Result<()> {
    let masters = bed.set().masters;
    let mut next = 0_u32;
    for (ordinal, node) in &snapshot.nodes {
        if *ordinal >= masters {
            ensure!(
                node.role == Role::Replica,
                "{ordinal} is a master:\n{snapshot}"
            );
            ensure!(
                node.replica_of == Some(ordinal % masters),
                "another master for {ordinal}:\n{snapshot}"
            );
            continue;
        }
        let [(first, last)] = node.slots.as_slice() else {
            bail!("{ordinal} has not one range:\n{snapshot}");
        };
        let (first, last) = (u32::from(*first), u32::from(*last));
        let share = 16384 / u32::try_from(masters)?;
        ensure!(first == next, "not in order:\n{snapshot}");
        ensure!(
            (share..=share + 1).contains(&(last + 1 - first)),
            "not even:\n{snapshot}"
        );
        next = last + 1;
    }
    ensure!(next == 16384, "not all slots:\n{snapshot}");
    Ok(())
}

fn marked(pod: &Pod) -> Result<()> {
    let path = pod.data_dir().join("redis-sidecar.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let note: Value = serde_json::from_str(&text)?;
    ensure!(note["member"] == true, "{}: {text}", pod.name);
    Ok(())
}

/// Whether the agent has left nothing on the volume that says "member".
pub(crate) fn unmarked(pod: &Pod) -> bool {
    marked(pod).is_err()
}

/// Forming may shorten the node timeout for a moment only.
pub(crate) async fn node_timeout_is_back(bed: &Testbed) -> Result<()> {
    wait::until(LONG, "the node timeout is back", async || {
        for pod in bed.pods() {
            let present = node_timeout(&pod).await?;
            let configured = pod.settings().node_timeout.as_millis();
            ensure!(
                present.parse::<u128>()? == configured,
                "{}: {present} ms",
                pod.name
            );
        }
        Ok(())
    })
    .await
}

/// `cluster-node-timeout` as this Redis has it now.
pub(crate) async fn node_timeout(pod: &Pod) -> Result<String> {
    let pair: Vec<String> = pod
        .command(&["CONFIG", "GET", "cluster-node-timeout"])
        .await?;
    pair.into_iter().nth(1).context("no value")
}

/// `/role` as JSON.
pub(crate) async fn role(pod: &Pod) -> Result<Value> {
    pod.get("/role").await?.json()
}

/// The sentence of a reason in `/role`, blocking or not; an error when it is not there.
pub(crate) async fn reason(pod: &Pod, code: &str) -> Result<String> {
    let role = role(pod).await?;
    let reasons = role["reasons"].as_array().context("no reasons")?;
    let found = reasons.iter().find(|reason| reason["code"] == code);
    let found = found.with_context(|| format!("{}: no {code} in {reasons:?}", pod.name))?;
    Ok(found["message"].as_str().unwrap_or_default().to_owned())
}

/// Waits until a reason is there whose sentence holds `part`.
pub(crate) async fn says(pod: &Pod, code: &str, part: &str) -> Result<String> {
    let what = format!("{} says {code} with {part:?}", pod.name);
    wait::until(LONG, &what, async || {
        let message = reason(pod, code).await?;
        ensure!(message.contains(part), "{}: {message}", pod.name);
        Ok(message)
    })
    .await
}

/// Waits until this agent has done `more` further rounds.
pub(crate) async fn rounds_pass(pod: &Pod, more: u64) -> Result<()> {
    let target = rounds(pod).await? + more;
    wait::until(LONG, "rounds go by", async || {
        let done = rounds(pod).await?;
        ensure!(done >= target, "{}: {done} of {target}", pod.name);
        Ok(())
    })
    .await
}

async fn rounds(pod: &Pod) -> Result<u64> {
    let metrics = pod.get("/metrics").await?.body;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix("redis_sidecar_rounds_total "))
        .with_context(|| format!("{}: no count of rounds", pod.name))?;
    Ok(value.parse()?)
}

/// No Redis has received anything that changes the topology since it started.
pub(crate) async fn topology_untouched(bed: &Testbed) -> Result<()> {
    let writes = bed.writes_seen().await?;
    for command in TOPOLOGY {
        ensure!(writes.of(command) == 0, "{command}: {writes:?}");
    }
    Ok(())
}

/// From now on and for a while no Redis receives anything that changes the topology.
pub(crate) async fn left_alone(bed: &Testbed) -> Result<()> {
    let seen = bed.writes_seen().await?;
    wait::throughout(QUIET, "the topology is left alone", async || {
        let news = bed.writes_seen().await?.since(&seen);
        let topology = news.iter().find(|write| write.contains("cluster|"));
        ensure!(topology.is_none(), "{news:?}");
        Ok(())
    })
    .await
}

/// The cluster is whole with the nodes and the keys that it had, ready and silent. Ends it.
pub(crate) async fn as_before(bed: Testbed, before: &Snapshot, canary: &Canary) -> Result<()> {
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    bed.falls_silent(QUIET, LONG).await?;
    bed.finish().await
}

/// The whole log of an agent, over all its starts.
pub(crate) fn log(pod: &Arc<Pod>) -> Result<String> {
    let path = pod.agent.log();
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// How a command of the binary ended: its exit code, and all it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// Runs one of the binary's commands in a pod, as `kubectl exec` or a hook would.
pub(crate) async fn command(pod: &Pod, words: &[&str]) -> Result<Ended> {
    command_with(pod, words, &[]).await
}

/// The same with more variables.
pub(crate) async fn command_with(
    pod: &Pod,
    words: &[&str],
    variables: &[(&str, &str)],
) -> Result<Ended> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_redis-sidecar"));
    let variables = variables.iter().copied();
    command.env_clear().envs(variables).args(words);
    command.env("DATA_DIR", pod.data_dir());
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(90), output).await??;
    let text = [output.stdout, output.stderr].concat();
    Ok(Ended {
        code: output.status.code().context("ended by a signal")?,
        text: String::from_utf8(text)?,
    })
}

/// Waits until a replica has as many keys as its master. Until then a master's death costs what it has
/// acknowledged: replication is asynchronous, and 6.0 streams nothing for up to a second after a copy.
pub(crate) async fn replicated(bed: &Testbed, master: usize, replica: usize) -> Result<()> {
    let (master, replica) = (bed.pod(master)?, bed.pod(replica)?);
    wait::until(LONG, "the replica has all keys", async || {
        let keys: u64 = master.command(&["DBSIZE"]).await?;
        let copied: u64 = replica.command(&["DBSIZE"]).await?;
        ensure!(keys == copied, "{copied} of {keys}");
        Ok(())
    })
    .await?;
    file_is_begun(&replica).await
}

/// Redis 6.0 takes no SIGTERM while it writes its first append-only file after a full copy.
pub(crate) async fn file_is_begun(pod: &Pod) -> Result<()> {
    wait::until(LONG, "the first append-only file is there", async || {
        let info: String = pod.command(&["INFO", "persistence"]).await?;
        for idle in ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"] {
            ensure!(info.contains(idle), "{}: not {idle}", pod.name);
        }
        Ok(())
    })
    .await
}

/// Prints what the users of each share of the slots have seen.
pub(crate) fn tell(what: &str, shards: &[Shard]) {
    println!("{what}:");
    println!("share | acknowledged | lost | refused | longest refusal | read | misread");
    for (share, shard) in shards.iter().enumerate() {
        println!(
            "{share} | {} | {} | {} | {:?} | {} | {}",
            shard.acknowledged.len(),
            shard.lost.len(),
            shard.refused,
            shard.longest_gap,
            shard.read,
            shard.misread.len()
        );
    }
}

pub(crate) fn nothing_lost(shards: &[Shard]) -> Result<()> {
    for shard in shards {
        let (lost, misread) = (&shard.lost, &shard.misread);
        ensure!(
            lost.is_empty(),
            "{} lost, such as {:?}",
            lost.len(),
            lost.first()
        );
        ensure!(misread.is_empty(), "misread: {misread:?}");
        ensure!(shard.acknowledged.len() > 100, "hardly any writes");
    }
    Ok(())
}

/// Ends the users of the cluster: every write that was acknowledged to them is there.
pub(crate) async fn kept(ledger: Ledger, bed: &Testbed, what: &str) -> Result<()> {
    // A slow machine has few by now.
    wait::until(LONG, "every share has its writes", async || {
        let fewest = ledger.fewest();
        ensure!(fewest > 100, "{fewest}");
        Ok(())
    })
    .await?;
    let shards = ledger.close(bed).await?;
    tell(what, &shards);
    nothing_lost(&shards)
}
