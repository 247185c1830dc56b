//! Scenario 44: the network falls apart between running pods, and heals. The side without a
//! majority of the masters is not ready and writes nothing; afterwards Redis comes together by
//! itself, and no agent has anything to do.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::{Builder, Cut, Ending, Snapshot, Testbed, wait};

use crate::common::*;

/// What a machine lacks on which it cannot be split.
pub(crate) const DIVISIBLE: &str = "a network that falls apart (takes root and nft)";

/// A formed cluster that can be split; `None`, with a line that says why, where this machine does
/// not allow it.
pub(crate) async fn divisible(name: &str) -> Result<Option<(Testbed, Snapshot)>> {
    let timeout = Duration::from_secs(2);
    let plain = bed(name).node_timeout(timeout);
    let Some(bed) = if_possible(DIVISIBLE, plain, Builder::divisible).await? else {
        return Ok(None);
    };
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    Ok(Some((bed, before)))
}

async fn these_are_ready(bed: &Testbed, ordinals: &[usize]) -> Result<()> {
    wait::until(LONG, "one side is ready", async || {
        for ordinal in ordinals {
            bed.pod(*ordinal)?.ready().await?;
        }
        Ok(())
    })
    .await
}

/// Nobody writes; these pods stay unready and say so, those stay ready.
async fn stays_so(bed: &Testbed, unready: &[usize], ready: &[usize]) -> Result<()> {
    let seen = bed.writes_seen().await?;
    wait::throughout(QUIET, "each side stays as it is", async || {
        for ordinal in unready {
            reason(&*bed.pod(*ordinal)?, "minority").await?;
        }
        for ordinal in ready {
            bed.pod(*ordinal)?.ready().await?;
        }
        let news = bed.writes_seen().await?.since(&seen);
        ensure!(news.is_empty(), "{news:?}");
        Ok(())
    })
    .await
}

/// After the mending: the same nodes, these masters (if it is certain which), and not one write by
/// an agent.
async fn comes_together(bed: &Testbed, before: &Snapshot, masters: &[usize]) -> Result<Snapshot> {
    let seen = bed.writes_seen().await?;
    bed.mend()?;
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    ensure!(masters.is_empty() || after.masters() == masters, "{after}");
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    let news = bed.writes_seen().await?.since(&seen);
    ensure!(news.is_empty(), "useless: {news:?}");
    Ok(after)
}

/// A master and another one's replica on the small side.
#[tokio::test]
async fn a_minority_that_is_cut_off_is_not_ready_and_comes_back_as_replicas() -> Result<()> {
    let Some((bed, before)) = divisible("split").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("split", 200).await?;
    let (few, many) = ([0, 4], [1, 2, 3, 5]);
    bed.cut(&few, &many, Cut::Both)?;
    for ordinal in few {
        says(&*bed.pod(ordinal)?, "minority", "").await?;
    }
    wait::until(LONG, "pod 3 is elected", async || {
        let role = role(&*bed.pod(3)?).await?;
        ensure!(role["role"] == "master" && role["ready"] == true, "{role}");
        Ok(())
    })
    .await?;
    these_are_ready(&bed, &many).await?;
    stays_so(&bed, &few, &many).await?;
    let meanwhile = bed.write_canary("split-meanwhile", 200).await?;

    let after = comes_together(&bed, &before, &[1, 2, 3]).await?;
    ensure!(
        after.replicas_of(3) == [0] && after.replicas_of(1) == [4],
        "{after}"
    );
    canary.intact(&bed).await?;
    meanwhile.intact(&bed).await?;
    bed.finish().await
}

/// Three sides, none with a majority. When they can talk again, each believes the others dead for a
/// moment, so Redis may elect replicas then.
#[tokio::test]
async fn no_side_of_three_is_ready_and_none_elects_anybody() -> Result<()> {
    let Some((bed, before)) = divisible("split-three").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("split-three", 200).await?;
    bed.cut(&[0, 3], &[1, 4, 2, 5], Cut::Both)?;
    bed.cut(&[1, 4], &[2, 5], Cut::Both)?;
    for pod in bed.pods() {
        says(&pod, "minority", "").await?;
    }
    stays_so(&bed, &[0, 1, 2, 3, 4, 5], &[]).await?;
    let after = comes_together(&bed, &before, &[]).await?;
    ensure!(after.masters().len() == 3, "{after}");
    canary.intact(&bed).await?;
    bed.finish().await
}

/// One way: nothing that a master sends arrives. Each side's TCP is dead, but the others' agents hear
/// from it, and must not take that for a doubt that a MEET would help.
#[tokio::test]
async fn a_master_whose_packets_get_lost_is_replaced_and_comes_back_as_a_replica() -> Result<()> {
    let Some((bed, before)) = divisible("split-mute").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("split-mute", 200).await?;
    let rest = [1, 2, 3, 4, 5];
    bed.cut(&[0], &rest, Cut::Sends)?;
    says(&*bed.pod(0)?, "minority", "").await?;
    wait::until(LONG, "pod 3 is elected", async || {
        let role = role(&*bed.pod(3)?).await?;
        ensure!(role["role"] == "master" && role["ready"] == true, "{role}");
        Ok(())
    })
    .await?;
    these_are_ready(&bed, &rest).await?;
    stays_so(&bed, &[0], &rest).await?;
    let after = comes_together(&bed, &before, &[1, 2, 3]).await?;
    ensure!(after.replicas_of(3) == [0], "{after}");
    canary.intact(&bed).await?;
    bed.finish().await
}

/// One way: a master can call nobody, and everybody can call it. Redis takes a call for a sign of
/// life, so nobody is missed, elected or met.
#[tokio::test]
async fn calls_that_fail_one_way_change_nothing() -> Result<()> {
    let Some((bed, before)) = divisible("split-calls").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("split-calls", 200).await?;
    let rest = [1, 2, 3, 4, 5];
    bed.cut(&[0], &rest, Cut::Calls)?;
    wait::throughout(QUIET * 2, "everybody reaches everybody", async || {
        for pod in bed.pods() {
            pod.ready().await?;
        }
        Ok(())
    })
    .await?;
    bed.silent(QUIET).await?;
    let after = comes_together(&bed, &before, &[0, 1, 2]).await?;
    ensure!(after.replication() == before.replication(), "{after}");
    canary.intact(&bed).await?;
    bed.finish().await
}

/// A NetworkPolicy that forgets the cluster bus: a pod that moved answers every question, and no
/// MEET of it gets anywhere. It alone is not ready, and the others do not hammer at it.
#[tokio::test]
async fn a_pod_whose_bus_cannot_be_called_disturbs_nobody_and_heals_when_it_can() -> Result<()> {
    let Some((bed, before)) = divisible("split-bus").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("split-bus", 200).await?;
    let (pod, rest) = (bed.pod(5)?, [0, 1, 2, 3, 4]);
    bed.end_pod(5, Ending::Kill).await?;
    pod.move_to(bed.fresh_address()?).await?;
    bed.cut(&rest, &[5], Cut::BusCalls)?;
    bed.cut(&[5], &rest, Cut::BusCalls)?;
    bed.start_pod(5).await?;
    says(&pod, "minority", "").await?;
    these_are_ready(&bed, &rest).await?;
    let seen = bed.writes_seen().await?;
    let watched = QUIET * 4;
    wait::throughout(watched, "only the one is not ready", async || {
        ensure!(pod.ready().await.is_err(), "ready without a cluster");
        for ordinal in rest {
            bed.pod(ordinal)?.ready().await?;
        }
        Ok(())
    })
    .await?;
    // Each is told at most every 1.2 s, and the more in vain, the less often.
    let met = bed.writes_seen().await?.of("cluster|meet") - seen.of("cluster|meet");
    let most = (watched.as_millis() / 1200 + 1) * 10;
    ensure!(u128::from(met) <= most, "{met} MEETs in {watched:?}");
    bed.mend()?;
    as_before(bed, &before, &canary).await
}

/// Scenario 11 as on a real network: the old addresses refuse nothing, they swallow everything, so
/// that every question there waits for its deadline.
#[tokio::test]
async fn all_pods_move_away_from_addresses_that_swallow_everything() -> Result<()> {
    let Some((bed, before)) = divisible("split-swallow").await? else {
        return Ok(());
    };
    let canary = bed.write_canary("split-swallow", 200).await?;
    let all = [0, 1, 2, 3, 4, 5];
    bed.cut(&all, &all, Cut::Both)?;
    bed.move_pods(&all).await?;
    let since = Instant::now();
    let after = bed.whole(LONG).await?;
    println!("whole {:?} after the last start", since.elapsed());
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
