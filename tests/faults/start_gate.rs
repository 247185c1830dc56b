//! The start gate: with the agent started before Redis, as a native sidecar is, `/startz` says whether
//! Redis may be started. It never keeps a first start, or a restart of all, from coming about.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Ending, Pod, Testbed, canary::Canary, wait};

use crate::{
    common::*,
    lost_volumes::{copied, impatient, with_data},
};

/// The agent alone, and in DNS.
pub(crate) async fn agent_first(bed: &Testbed, ordinal: usize) -> Result<Arc<Pod>> {
    let pod = bed.pod(ordinal)?;
    pod.start_agent().await?;
    bed.publish(&pod);
    Ok(pod)
}

pub(crate) async fn gate(pod: &Pod) -> Result<(u16, String)> {
    let answer = pod.get("/startz").await?;
    Ok((answer.status, answer.body))
}

/// What the kubelet does: Redis is started when the gate opens.
pub(crate) async fn redis_when_open(pod: &Pod) -> Result<()> {
    wait::until(LONG, "the start gate opens", async || {
        let (status, body) = gate(pod).await?;
        ensure!(status == 200, "{}: {status} {body}", pod.name);
        Ok(())
    })
    .await?;
    pod.start_redis().await
}

async fn all_gated(bed: &Testbed) -> Result<()> {
    for pod in bed.pods() {
        agent_first(bed, pod.ordinal).await?;
    }
    for pod in bed.pods() {
        redis_when_open(&pod).await?;
    }
    Ok(())
}

/// All pods at once, all blank, and later all at once with their volumes but one, a master's, which has
/// its old address: nobody's Redis runs when the gates are asked.
#[tokio::test]
async fn a_first_start_and_a_restart_of_all_come_through() -> Result<()> {
    let bed = impatient("gated").build().await?;
    all_gated(&bed).await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("kept", 300).await?;
    copied(&bed, &before).await?;
    for ordinal in 0..6 {
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    bed.pod(1)?.wipe_volume().await?;
    for ordinal in 0..6 {
        agent_first(&bed, ordinal).await?;
    }
    let blank = bed.pod(1)?;
    held(&blank).await?;
    for ordinal in [0, 2, 3, 4, 5] {
        redis_when_open(&*bed.pod(ordinal)?).await?;
    }
    redis_when_open(&blank).await?;
    let after = bed.whole(2 * LONG).await?;
    ensure!(after.nodes[&1].replica_of == Some(4), "{after}");
    for pod in bed.pods() {
        let idle = log(&pod)?.contains("nothing has asked this sidecar's /startz");
        ensure!(!idle, "{} says that nothing asks it", pod.name);
    }
    canary.intact(&bed).await?;
    bed.all_ready(LONG).await?;
    bed.finish().await
}

pub(crate) async fn held(pod: &Pod) -> Result<()> {
    wait::until(LONG, "its Redis is held back", async || {
        let (status, body) = gate(pod).await?;
        ensure!(status == 503, "{status}");
        ensure!(body.starts_with("old-identity-owns-slots: "), "{body}");
        Ok(())
    })
    .await
}

/// A master that lost its volume, before Redis noticed: its Redis is not started before its replica has
/// been elected.
#[tokio::test]
async fn an_empty_master_is_held_back_until_its_replica_is_elected() -> Result<()> {
    is_held_back("held-back", None).await
}

/// The same while a later pod is not in DNS: it is just away, and not one that is created when this pod is
/// ready, as far as the replica with the data is concerned, which is there.
#[tokio::test]
async fn an_empty_master_is_held_back_though_another_pod_is_just_away() -> Result<()> {
    is_held_back("held-though-away", Some(5)).await
}

async fn is_held_back(name: &str, away: Option<usize>) -> Result<()> {
    let (bed, _, canary) = with_data(name).await?;
    for ordinal in away.into_iter().chain([1]) {
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    bed.pod(1)?.wipe_volume().await?;
    let pod = agent_first(&bed, 1).await?;
    opens_when_elected(&bed, &pod).await?;
    if let Some(ordinal) = away {
        bed.start_pod(ordinal).await?;
    }
    ends_whole(bed, &canary).await
}

/// Pod 4 has the data.
async fn opens_when_elected(bed: &Testbed, pod: &Pod) -> Result<()> {
    redis_when_open(pod).await?;
    let four = role(&*bed.pod(4)?).await?;
    ensure!(four["role"] == "master", "opened too early: {four}");
    Ok(())
}

async fn ends_whole(bed: Testbed, canary: &Canary) -> Result<()> {
    bed.whole(2 * LONG).await?;
    canary.intact(&bed).await?;
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// The same while that replica moves, and is in DNS nowhere.
#[tokio::test]
async fn an_empty_master_is_held_back_while_its_replica_moves() -> Result<()> {
    let (bed, _, canary) = with_data("held-for-a-move").await?;
    for ordinal in [4, 1] {
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    bed.pod(1)?.wipe_volume().await?;
    let pod = agent_first(&bed, 1).await?;
    held(&pod).await?;
    rounds_pass(&pod, 20).await?;
    let (status, body) = gate(&pod).await?;
    ensure!(status == 503, "{status} {body}");
    bed.pod(4)?.move_to(bed.fresh_address()?).await?;
    bed.start_pod(4).await?;
    opens_when_elected(&bed, &pod).await?;
    ends_whole(bed, &canary).await
}

/// The same while that replica's sidecar is away, and so many pods that nobody can be elected: its Redis answers,
/// and says whose data it has. Without it the gate opens after 45 s, for the sake of pods to be created.
#[tokio::test]
async fn an_empty_master_is_held_back_for_a_replica_without_its_sidecar() -> Result<()> {
    let (bed, _, canary) = with_data("held-for-redis-alone").await?;
    let away = [2, 3, 5];
    for ordinal in away.into_iter().chain([1]) {
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    bed.pod(4)?.agent.kill().await?;
    bed.pod(1)?.wipe_volume().await?;
    let pod = agent_first(&bed, 1).await?;
    held(&pod).await?;
    let past_45_s = Duration::from_secs(50);
    wait::throughout(past_45_s, "its Redis is held back", async || {
        let (status, body) = gate(&pod).await?;
        ensure!(status == 503, "{status} {body}");
        Ok(())
    })
    .await?;
    bed.pod(4)?.start_agent().await?;
    for ordinal in away {
        bed.start_pod(ordinal).await?;
    }
    opens_when_elected(&bed, &pod).await?;
    ends_whole(bed, &canary).await
}

/// With the init container alone it is that one which says that the volume is blank, and waits.
#[tokio::test]
async fn init_tells_the_others_what_it_waits_for() -> Result<()> {
    let (bed, _, canary) = with_data("init-tells").await?;
    bed.end_pod(1, Ending::Kill).await?;
    let pod = bed.pod(1)?;
    pod.wipe_volume().await?;
    let init = pod.start_init().await?;
    bed.publish(&pod);
    wait::until(LONG, "init says that the volume is blank", async || {
        let said = role(&pod).await?;
        ensure!(said["blank"] == true && said["role"] == "none", "{said}");
        Ok(())
    })
    .await?;
    let status = init.ended(LONG * 2).await?;
    ensure!(status.success(), "{status}: {:?}", init.tail(5));
    let four = role(&*bed.pod(4)?).await?;
    ensure!(four["role"] == "master", "it ended too early: {four}");
    pod.start().await?;
    ends_whole(bed, &canary).await
}

/// OrderedReady: a pod is created when the one before is ready.
#[tokio::test]
async fn one_pod_after_another_comes_through() -> Result<()> {
    let bed = impatient("gated-ordered").build().await?;
    for ordinal in 0..6 {
        let pod = agent_first(&bed, ordinal).await?;
        redis_when_open(&pod).await?;
        wait::until(LONG, "the pod is ready", async || pod.ready().await).await?;
    }
    formed_as_planned(&bed).await?;
    bed.finish().await
}
