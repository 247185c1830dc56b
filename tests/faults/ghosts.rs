//! Ghosts: the IDs that pods had before (scenarios 48 and 49). They are gone from every table and stay
//! so; a live node is never forgotten.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Builder, Cut, Ending, Pod, Snapshot, Testbed, wait};

use crate::{common::*, lost_volumes::impatient, split::DIVISIBLE};

/// Redis takes a forgotten ID back from gossip after 60 s.
const BAN: Duration = Duration::from_secs(60);
/// Three times as long as a ghost must be gone here.
const WATCH: Duration = Duration::from_secs(12);

/// Whether no running Redis but those left out has this ID in its table.
async fn unknown_to_all(bed: &Testbed, id: &str, but: &[usize]) -> Result<()> {
    for pod in bed.pods().iter().filter(|pod| !but.contains(&pod.ordinal)) {
        let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
        ensure!(!nodes.contains(id), "{}:\n{nodes}", pod.name);
    }
    Ok(())
}

async fn lose_volume(bed: &Testbed, ordinal: usize) -> Result<()> {
    let pod = bed.pod(ordinal)?;
    bed.end_pod(ordinal, Ending::Kill).await?;
    pod.wipe_volume().await?;
    pod.move_to(bed.fresh_address()?).await?;
    bed.start_pod(ordinal).await
}

/// With one member down, whose table tells of the ghost when it is back, and whose sidecar sleeps then
/// until the ban is over: so the ghost comes back to all, and goes again.
#[tokio::test]
async fn a_ghost_that_a_member_brings_back_goes_again() -> Result<()> {
    let bed = impatient("ghost-back").build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let ghost = &before.nodes[&4].node_id;
    bed.end_pod(5, Ending::Kill).await?;
    lose_volume(&bed, 4).await?;
    wait::until(LONG, "five of six have forgotten it", async || {
        unknown_to_all(&bed, ghost, &[5]).await
    })
    .await?;
    bed.start_pod(5).await?;
    let five = bed.pod(5)?;
    wait::until(LONG, "it is back", async || five.redis_answers(LONG).await).await?;
    five.agent.freeze().await?;
    let brought_back = wait::until(BAN + LONG, "others know it again", async || {
        ensure!(unknown_to_all(&bed, ghost, &[5]).await.is_err(), "unknown");
        Ok(())
    })
    .await;
    // A server that drops a failed node by itself, or tells nobody of it, does no harm.
    println!("brought back: {}", brought_back.is_ok());
    five.agent.thaw().await?;
    bed.whole(BAN + LONG).await?;
    wait::throughout(BAN + Duration::from_secs(10), "it stays away", async || {
        unknown_to_all(&bed, ghost, &[]).await
    })
    .await?;
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 49: two more pods, and away with them again.
#[tokio::test]
async fn a_set_is_scaled_out_and_in() -> Result<()> {
    let bed = impatient("scaled").build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    for ordinal in [6, 7] {
        bed.add_pod().await?;
        bed.start_pod(ordinal).await?;
        bed.all_ready(LONG).await?;
    }
    let wide = bed.whole(LONG).await?;
    bed.remove_last_pod(Ending::Kill).await?;
    bed.remove_last_pod(Ending::Kill).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "{after}");
    wait::throughout(
        BAN + Duration::from_secs(10),
        "they stay away",
        async || {
            for ordinal in [6, 7] {
                unknown_to_all(&bed, &wide.nodes[&ordinal].node_id, &[]).await?;
            }
            Ok(())
        },
    )
    .await?;
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// A pod beyond the first shape that was away for longer than a ghost's time, and comes back with its
/// volume: it was forgotten, and is a member again.
#[tokio::test]
async fn a_pod_taken_for_scaled_in_comes_back() -> Result<()> {
    let bed = impatient("scaled-back").build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    bed.add_pod().await?;
    bed.start_pod(6).await?;
    bed.all_ready(LONG).await?;
    let before = bed.whole(LONG).await?;
    bed.end_pod(6, Ending::Kill).await?;
    wait::until(LONG, "it is forgotten", async || {
        unknown_to_all(&bed, &before.nodes[&6].node_id, &[6]).await
    })
    .await?;
    // Killed in the middle of a change it may have a nodes.conf that Redis from 7.2 on exits for, which
    // the init container mends.
    let pod = bed.pod(6)?;
    bed.publish(&pod);
    let (code, log) = pod.init(LONG).await?;
    ensure!(code == 0, "{log}");
    bed.start_pod(6).await?;
    // Valkey 9 refuses it until its ban is over.
    let after = bed.whole(BAN + 2 * LONG).await?;
    ensure!(after.ids() == before.ids(), "{after}");
    ensure!(after.replication() == before.replication(), "{after}");
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Whatever DNS says: no live node is forgotten, nor one whose Redis alone is there, nor a dead one of
/// the first shape.
#[tokio::test]
async fn no_live_node_is_forgotten() -> Result<()> {
    let bed = impatient("alive").build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    bed.add_pod().await?;
    bed.start_pod(6).await?;
    bed.all_ready(LONG).await?;
    let seen = bed.writes_seen().await?;
    for ordinal in [4, 6] {
        bed.dns.unpublish(&bed.pod(ordinal)?.name);
    }
    bed.pod(6)?.agent.kill().await?;
    bed.end_pod(5, Ending::Kill).await?;
    says(&*bed.pod(0)?, "ghost-node", "redis-app-5").await?;
    wait::throughout(WATCH, "nobody is forgotten", async || {
        // What was sent while forming was about handshakes.
        let news = bed.writes_seen().await?.since(&seen);
        ensure!(
            !news.iter().any(|write| write.contains("forget")),
            "{news:?}"
        );
        Ok(())
    })
    .await?;
    bed.finish().await
}

/// A seventh pod, beyond the first shape, that DNS does not name any more, as if the set had been scaled in.
async fn with_one_that_dns_leaves_out(bed: &Testbed) -> Result<Snapshot> {
    bed.start_all().await?;
    formed_as_planned(bed).await?;
    bed.add_pod().await?;
    bed.start_pod(6).await?;
    bed.all_ready(LONG).await?;
    let before = bed.whole(LONG).await?;
    bed.dns.unpublish(&bed.pod(6)?.name);
    Ok(before)
}

/// Its Redis hangs, so that every table has it as failed; its sidecar says that the pod is there.
#[tokio::test]
async fn a_node_that_hangs_is_not_forgotten() -> Result<()> {
    let bed = impatient("hangs").build().await?;
    let before = with_one_that_dns_leaves_out(&bed).await?;
    let (pod, id) = (bed.pod(6)?, &before.nodes[&6].node_id);
    pod.redis.freeze().await?;
    let failed = async || {
        for ordinal in [0, 1, 2, 3, 4, 5] {
            flagged(&*bed.pod(ordinal)?, id, "fail ").await?;
        }
        Ok(())
    };
    wait::until(LONG, "everybody has it as failed", failed).await?;
    wait::throughout(WATCH, "everybody knows it", failed).await?;
    pod.redis.thaw().await?;
    bed.publish(&pod);
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "{after}");
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// One other pod alone cannot reach it, for which it is as gone as one that was scaled in.
#[tokio::test]
async fn a_node_that_one_other_cannot_reach_is_not_forgotten() -> Result<()> {
    let plain = impatient("unreached");
    let Some(bed) = if_possible(DIVISIBLE, plain, Builder::divisible).await? else {
        return Ok(());
    };
    let before = with_one_that_dns_leaves_out(&bed).await?;
    let id = &before.nodes[&6].node_id;
    bed.cut(&[0], &[6], Cut::Both)?;
    // It would forget, and asks the others.
    let cut_off = bed.pod(0)?;
    says(&cut_off, "ghost-node", "do not say the same yet").await?;
    wait::throughout(WATCH, "everybody knows it", async || {
        flagged(&cut_off, id, "fail?").await?;
        for ordinal in [1, 2, 3, 4, 5] {
            flagged(&*bed.pod(ordinal)?, id, "slave").await?;
        }
        Ok(())
    })
    .await?;
    bed.mend()?;
    bed.publish(&*bed.pod(6)?);
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "{after}");
    bed.all_ready(LONG).await?;
    bed.finish().await
}

/// Whether this Redis knows the node, with these flags.
async fn flagged(pod: &Pod, id: &str, flags: &str) -> Result<()> {
    let nodes: String = pod.command(&["CLUSTER", "NODES"]).await?;
    let line = nodes.lines().find(|line| line.starts_with(id));
    ensure!(
        line.is_some_and(|line| line.contains(flags)),
        "{}: {nodes}",
        pod.name
    );
    Ok(())
}

/// Scenario 48: the one who takes the place was met a moment ago, and nobody is forgotten until that is
/// long enough ago, though the ghost has been gone for its time.
#[tokio::test]
async fn nobody_is_forgotten_soon_after_a_meet() -> Result<()> {
    let no_meet_for = Duration::from_secs(15);
    let bed = impatient("after-a-meet")
        .agent_env("TEST_NO_MEET_FOR_MS", "15000")
        .build()
        .await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let ghost = &before.nodes[&4].node_id;
    let seen = bed.writes_seen().await?;
    let began = std::time::Instant::now();
    lose_volume(&bed, 4).await?;
    wait::until(LONG, "it is met under its new ID", async || {
        let met = bed.writes_seen().await?.since(&seen);
        ensure!(met.iter().any(|write| write.contains("meet")), "{met:?}");
        Ok(())
    })
    .await?;
    wait::until(2 * LONG, "the old one is forgotten", async || {
        unknown_to_all(&bed, ghost, &[]).await
    })
    .await?;
    println!("forgotten after {:?}", began.elapsed());
    ensure!(began.elapsed() > no_meet_for, "{:?}", began.elapsed());
    bed.whole(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// The times of S6 as they are shipped.
#[tokio::test]
#[ignore = "takes three minutes"]
async fn a_ghost_is_forgotten_after_two_minutes() -> Result<()> {
    let (bed, before) = formed("two-minutes").await?;
    let ghost = &before.nodes[&4].node_id;
    lose_volume(&bed, 4).await?;
    let began = std::time::Instant::now();
    wait::until(4 * LONG, "it is forgotten", async || {
        unknown_to_all(&bed, ghost, &[]).await
    })
    .await?;
    println!("forgotten after {:?}", began.elapsed());
    ensure!(began.elapsed() > Duration::from_secs(120), "too soon");
    bed.whole(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
