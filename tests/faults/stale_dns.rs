//! DNS that lags behind pods that move, or knows only a part of them: nothing wrong is done
//! meanwhile, and it heals when DNS catches up, or without that.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{
    Ending, Snapshot, Testbed,
    dns::{Fault, Scope},
    wait,
};

use crate::{common::*, foreign::Pair};

/// How long DNS lags: as long as CoreDNS keeps an answer unless told otherwise, and longer than every
/// gap after which agents try again.
const LAG: Duration = Duration::from_secs(30);

async fn healed(bed: &Testbed, before: &Snapshot) -> Result<()> {
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await
}

/// Everything moves, and DNS has the old addresses for a while.
#[tokio::test]
async fn all_pods_move_and_a_stale_dns_delays_the_healing_alone() -> Result<()> {
    let (bed, before) = formed("stale-all").await?;
    let canary = bed.write_canary("stale-all", 200).await?;
    bed.dns.freeze();
    bed.move_pods(&[0, 1, 2, 3, 4, 5]).await?;
    for pod in bed.pods() {
        pod.redis_answers(LONG).await?;
    }
    wait::throughout(LAG, "nobody is met at an old address", async || {
        topology_untouched(&bed).await
    })
    .await?;
    bed.dns.release();
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Some pods move: Redis's gossip tells where to, and a DNS that says otherwise confuses nobody.
#[tokio::test]
async fn some_pods_move_and_a_stale_dns_confuses_nobody() -> Result<()> {
    let (bed, before) = formed("stale-some").await?;
    let canary = bed.write_canary("stale-some", 200).await?;
    bed.dns.freeze();
    bed.move_pods(&[1, 5]).await?;
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.dns.release();
    healed(&bed, &before).await?;
    bed.finish().await
}

/// Scenario 16 in its worst form: all of red moves, DNS still leads to the old addresses, and there
/// is blue. Nobody of blue is taken for one of red.
#[tokio::test]
async fn a_stale_dns_that_leads_to_another_cluster_joins_nobody() -> Result<()> {
    let pair = Pair::formed("stale-foreign", None).await?;
    pair.red.dns.freeze();
    for bed in [&pair.red, &pair.blue] {
        for pod in bed.pods() {
            bed.end_pod(pod.ordinal, Ending::Kill).await?;
        }
    }
    for (red, blue) in pair.red.pods().iter().zip(pair.blue.pods()) {
        blue.move_to(red.address()).await?;
        red.move_to(pair.red.fresh_address()?).await?;
    }
    pair.red.start_all().await?;
    pair.blue.start_all().await?;
    for pod in pair.red.pods() {
        pod.redis_answers(LONG).await?;
    }
    wait::throughout(LAG, "nobody of blue is met", async || {
        pair.unmixed().await?;
        topology_untouched(&pair.red).await
    })
    .await?;
    pair.red.dns.release();
    pair.healed().await?;
    pair.finish().await
}

/// Some names fail, and the Service's own does: those that are found are enough.
#[tokio::test]
async fn a_dns_that_fails_for_some_names_does_not_stop_the_healing() -> Result<()> {
    let (bed, before) = formed("dns-part").await?;
    let canary = bed.write_canary("dns-part", 200).await?;
    bed.dns.fault(Scope::Service, Fault::ServFail);
    for name in ["redis-app-1", "redis-app-4"] {
        bed.dns.fault(Scope::Pod(name.to_owned()), Fault::ServFail);
    }
    bed.move_pods(&[0, 1, 2, 3, 4, 5]).await?;
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.dns.heal();
    healed(&bed, &before).await?;
    bed.finish().await
}

/// Pods that DNS does not list at all find the others, and so are found.
#[tokio::test]
async fn pods_that_dns_does_not_list_come_back_all_the_same() -> Result<()> {
    let (bed, before) = formed("dns-unlisted").await?;
    let canary = bed.write_canary("dns-unlisted", 200).await?;
    for pod in bed.pods() {
        bed.end_pod(pod.ordinal, Ending::Kill).await?;
        pod.move_to(bed.fresh_address()?).await?;
    }
    for pod in bed.pods() {
        if ![2, 4].contains(&pod.ordinal) {
            bed.publish(&pod);
        }
        pod.start().await?;
    }
    healed(&bed, &before).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}
