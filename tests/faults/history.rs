//! What a node went through: told by `/history`, kept on the volume over restarts, and told all the
//! same while the volume takes nothing (scenario 32).

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{
    Ending, Pod, Testbed,
    skip::{self, Capability},
    wait,
};

use crate::common::*;

/// `event: detail` of each, the newest last.
pub(crate) async fn told(pod: &Pod) -> Result<Vec<String>> {
    let history: Value = pod.get("/history").await?.json()?;
    ensure!(history["pod"] == pod.name.as_str(), "{history}");
    let events = history["events"].as_array().context("no events")?;
    let mut last = String::new();
    let mut told = Vec::new();
    for event in events {
        let part = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        ensure!(part("at") >= last && part("at").ends_with('Z'), "{event}");
        last = part("at");
        told.push(format!("{}: {}", part("event"), part("detail")));
    }
    Ok(told)
}

/// Waits until somebody's last events are these, in this order, whatever is between them.
pub(crate) async fn tells(pod: &Pod, wanted: &[&str]) -> Result<Vec<String>> {
    let what = format!("{} tells {wanted:?}", pod.name);
    wait::until(LONG, &what, async || {
        let told = told(pod).await?;
        let mut rest = told.iter();
        for want in wanted {
            let found = rest.any(|event| event.starts_with(want));
            ensure!(found, "{}: no {want} in {told:?}", pod.name);
        }
        Ok(told)
    })
    .await
}

/// It forms, moves, is elected, and comes back; its agent is killed in between.
#[tokio::test]
async fn a_life_is_told_and_survives_restarts() -> Result<()> {
    let (bed, before) = formed("history").await?;
    let canary = bed.write_canary("history", 100).await?;
    for pod in bed.pods() {
        let first = tells(&pod, &["formed: as "]).await?;
        let formed = first.iter().filter(|event| event.starts_with("formed: "));
        ensure!(formed.count() == 1, "{}: {first:?}", pod.name);
    }
    let (master, replica) = (bed.pod(1)?, bed.pod(4)?);
    replicated(&bed, 1, 4).await?;
    master.agent.kill().await?;
    bed.end_pod(1, Ending::Kill).await?;
    let elected = "role-changed: from replica of redis-app-1 to master";
    tells(&replica, &["formed: as replica of redis-app-1", elected]).await?;

    replica.agent.kill().await?;
    replica.start_agent().await?;
    let (old, new) = (master.address(), bed.fresh_address()?);
    master.move_to(new).await?;
    bed.start_pod(1).await?;
    bed.whole(LONG).await?;
    let moved = format!("moved: from {old} to {new}");
    let follows = "role-changed: from master to replica of redis-app-4";
    let life = tells(
        &master,
        &["formed: as master", &moved, "redis-started: ", follows],
    )
    .await?;
    println!("{life:#?}");
    tells(&replica, &["formed: as replica of redis-app-1", elected]).await?;
    // Nothing more happens, so nothing more is told or written.
    let file = |pod: &Pod| pod.data_dir().join("redis-sidecar.history.jsonl");
    bed.all_ready(LONG).await?;
    wait::until(LONG, "alarms are over and written", async || {
        for pod in bed.pods() {
            let count = |events: &[String], what: &str| {
                events
                    .iter()
                    .filter(|event| event.starts_with(what))
                    .count()
            };
            let told = told(&pod).await?;
            let (begun, over) = (count(&told, "alarm: "), count(&told, "alarm-over: "));
            ensure!(begun == over, "{}: {told:?}", pod.name);
            let lines = fs::read_to_string(file(&pod))?.lines().count();
            ensure!(lines == told.len(), "{}: {lines} lines, {told:?}", pod.name);
        }
        Ok(())
    })
    .await?;
    as_before(bed, &before, &canary).await
}

/// The agent as a user who may not write to the volume.
fn unprivileged_agent(folder: &std::path::Path) -> Result<PathBuf> {
    let script = folder.join("agent");
    let agent = env!("CARGO_BIN_EXE_redis-sidecar");
    let text = format!("#!/bin/sh\nexec setpriv --reuid 65534 --clear-groups {agent} \"$@\"\n");
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Scenario 32: a volume that the agent may only read. The cluster forms and heals; it says so; the
/// history is told from memory.
#[tokio::test]
async fn a_volume_that_is_read_only_for_the_agent_is_a_reason_and_no_crash() -> Result<()> {
    if let Err(why) = works(Command::new("setpriv").args(["--reuid", "65534", "true"])) {
        let what = "a read-only volume (takes root and setpriv)";
        return skip::not_on_this_machine(what, &why, Some(Capability::SetUid));
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let bed = bed("read-only")
        .agent(unprivileged_agent(folder.path())?)
        .build()
        .await?;
    bed.start_all().await?;
    let before = bed.whole(LONG).await?;
    for pod in bed.pods() {
        says(&pod, "volume-unwritable", "Permission denied").await?;
        ensure!(unmarked(&pod), "{} is marked", pod.name);
    }
    bed.all_ready(LONG).await?;
    let canary = bed.write_canary("read-only", 100).await?;
    bed.move_pod(4).await?;
    bed.whole(LONG).await?;
    bed.all_ready(LONG).await?;
    as_before(bed, &before, &canary).await
}

/// Scenario 32: the volume is full. What is there stays whole, and all is written when there is room.
#[tokio::test]
async fn a_full_volume_is_a_reason_and_no_crash() -> Result<()> {
    let bed = bed("full").appendonly(false).build().await?;
    let pod = bed.pod(4)?;
    let volume = match SmallVolume::mount(&pod) {
        Ok(volume) => volume,
        Err(why) => return no_small_volume(bed, &why).await,
    };
    full(&bed, &pod).await?;
    drop(volume);
    bed.finish().await
}

/// The same for `init`, whose copy of nodes.conf cannot be put back before there is room.
#[tokio::test]
async fn init_on_a_full_volume_says_so_and_waits_for_room() -> Result<()> {
    let bed = bed("full-init").appendonly(false).build().await?;
    let pod = bed.pod(4)?;
    let volume = match SmallVolume::mount(&pod) {
        Ok(volume) => volume,
        Err(why) => return no_small_volume(bed, &why).await,
    };
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("full-init", 50).await?;
    let copy = pod.data_dir().join("redis-sidecar.nodes.conf.1");
    wait::until(LONG, "a copy of all is kept", async || {
        let text = fs::read_to_string(&copy)?;
        ensure!(text.lines().count() == 7, "{text}");
        Ok(())
    })
    .await?;
    bed.end_pod(4, Ending::Graceful).await?;
    fs::remove_file(pod.nodes_conf())?;
    let filler = fill(&pod)?;
    bed.publish(&pod);
    let init = pod.start_init().await?;
    wait::until(LONG, "it says why", async || {
        let log = fs::read_to_string(init.log())?;
        ensure!(log.contains("No space left"), "{log}");
        Ok(())
    })
    .await?;
    ensure!(init.is_running().await, "it has ended: {:?}", init.tail(5));
    let there = fs::read(pod.nodes_conf()).unwrap_or_default();
    ensure!(there.is_empty(), "a part of it is there");
    fs::remove_file(filler)?;
    let status = init.ended(LONG * 2).await?;
    ensure!(status.success(), "{status}: {:?}", init.tail(5));
    pod.start().await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    drop(volume);
    bed.finish().await
}

async fn no_small_volume(bed: Testbed, why: &anyhow::Error) -> Result<()> {
    let what = "a full volume (takes root and mount)";
    skip::not_on_this_machine(what, why, Some(Capability::SysAdmin))?;
    bed.finish().await
}

fn works(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// A volume of 256 kB, until it goes out of scope.
struct SmallVolume(PathBuf);

impl SmallVolume {
    fn mount(pod: &Pod) -> Result<SmallVolume> {
        let data = pod.data_dir();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        works(mount.arg(&data))?;
        Ok(SmallVolume(data))
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// Fills a volume to its last page; the file to be removed.
fn fill(pod: &Pod) -> Result<PathBuf> {
    let filler = pod.data_dir().join("filler");
    let mut file = fs::File::create(&filler)?;
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    Ok(filler)
}

async fn full(bed: &Testbed, pod: &Pod) -> Result<()> {
    bed.start_all().await?;
    let before = formed_as_planned(bed).await?;
    tells(pod, &["formed: "]).await?;
    let copy = pod.data_dir().join("redis-sidecar.nodes.conf.1");
    wait::until(LONG, "a copy is kept", async || Ok(fs::metadata(&copy)?)).await?;
    let note = fs::read(pod.data_dir().join("redis-sidecar.json"))?;
    let filler = fill(pod)?;

    // A server that cannot write its own nodes.conf may end (Redis from 7.2 and Valkey do).
    bed.end_pod(1, Ending::Kill).await?;
    let written = "role-changed: from replica of redis-app-1 to master";
    wait::until(
        LONG,
        "it is told from memory, or Redis has ended",
        async || {
            if pod.redis.is_running().await {
                let told = told(pod).await?;
                ensure!(told.iter().any(|event| event == written), "{told:?}");
                let why = reason(pod, "volume-unwritable").await?;
                ensure!(why.contains("No space left"), "{why}");
            }
            Ok(())
        },
    )
    .await?;
    ensure!(pod.get("/livez").await?.status == 200);
    let now = fs::read(pod.data_dir().join("redis-sidecar.json"))?;
    let torn = serde_json::from_slice::<Value>(&now).is_err();
    ensure!(now == note || !torn, "a torn note");

    fs::remove_file(filler)?;
    if !pod.redis.is_running().await {
        println!("Redis has ended by itself");
        pod.start_redis().await?;
    }
    bed.start_pod(1).await?;
    let history = pod.data_dir().join("redis-sidecar.history.jsonl");
    wait::until(LONG * 2, "it is written after all", async || {
        let (text, told) = (fs::read_to_string(&history)?, told(pod).await?);
        ensure!(text.lines().count() == told.len(), "{text}: {told:?}");
        ensure!(reason(pod, "volume-unwritable").await.is_err(), "still");
        Ok(())
    })
    .await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    Ok(())
}
