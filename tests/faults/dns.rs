//! DNS that is late, wrong or silent.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{
    Testbed,
    dns::{Fault, Scope},
    wait,
};

use crate::common::*;

/// Scenario 5: "no such name" is cached by the DNS server for a while.
#[tokio::test]
async fn a_cached_nxdomain_delays_the_forming_and_no_more() -> Result<()> {
    const CACHED: Duration = Duration::from_secs(3);
    let bed = bed("cached").build().await?;
    bed.dns.remember(Some(CACHED));
    for pod in bed.pods() {
        pod.start().await?;
    }
    for pod in bed.pods() {
        // Every name has been asked for, and every answer is "not there", remembered.
        says(&pod, "waiting-for-peers", "(not in DNS)").await?;
        rounds_pass(&pod, 3).await?;
    }
    topology_untouched(&bed).await?;
    for pod in bed.pods() {
        bed.publish(&pod);
    }
    formed_as_planned(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Scenario 5: the Service's name alone fails; the pods' own names answer.
#[tokio::test]
async fn pods_are_found_by_their_own_names_when_the_service_lists_none() -> Result<()> {
    let bed = bed("no-srv").build().await?;
    bed.dns.fault(Scope::Service, Fault::Nxdomain);
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    bed.finish().await
}

/// S2: a DNS failure while the pods wait for each other is no answer at all.
#[tokio::test]
async fn a_dns_that_fails_during_bring_up_is_waited_out() -> Result<()> {
    let bed = bed("dns-down").build().await?;
    bed.dns.fault(Scope::All, Fault::ServFail);
    bed.start_all().await?;
    for pod in bed.pods() {
        says(&pod, "dns-failing", "").await?;
        let ready = pod.get("/readyz").await?;
        ensure!(ready.status == 503, "{ready:?}");
    }
    topology_untouched(&bed).await?;
    bed.dns.heal();
    formed_as_planned(&bed).await?;
    bed.finish().await
}

async fn stays_ready_and_true(name: &str, fault: Fault) -> Result<()> {
    let (bed, before) = formed(name).await?;
    let canary = bed.write_canary(name, 50).await?;
    bed.dns.fault(Scope::All, fault);
    for pod in bed.pods() {
        says(&pod, "dns-failing", "").await?;
    }
    let seen = bed.writes_seen().await?;
    wait::throughout(Duration::from_secs(3), "everybody is ready", async || {
        for pod in bed.pods() {
            pod.ready().await?;
        }
        let news = bed.writes_seen().await?.since(&seen);
        ensure!(news.is_empty(), "{news:?}");
        Ok(())
    })
    .await?;
    roles_change_and_are_published(&bed).await?;

    bed.dns.heal();
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids(), "somebody was reborn");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    for pod in bed.pods() {
        wait::until(LONG, "DNS is no concern any more", async || {
            ensure!(reason(&pod, "dns-failing").await.is_err());
            Ok(())
        })
        .await?;
    }
    bed.finish().await
}

/// A handover by hand while DNS is down shows on both sides.
async fn roles_change_and_are_published(bed: &Testbed) -> Result<()> {
    let (old, new) = (bed.pod(0)?, bed.pod(3)?);
    new.command::<()>(&["CLUSTER", "FAILOVER"]).await?;
    wait::until(LONG, "the roles are published", async || {
        let (old, new) = (role(&old).await?, role(&new).await?);
        ensure!(new["role"] == "master", "{new}");
        ensure!(
            old["role"] == "replica" && old["replica_of"] == "redis-app-3",
            "{old}"
        );
        Ok(())
    })
    .await
}

/// S2: DNS fails after forming.
#[tokio::test]
async fn a_failing_dns_leaves_a_formed_cluster_ready_and_its_roles_true() -> Result<()> {
    stays_ready_and_true("servfail", Fault::ServFail).await
}

/// S2: DNS falls silent after forming.
#[tokio::test]
async fn a_silent_dns_leaves_a_formed_cluster_ready_and_its_roles_true() -> Result<()> {
    stays_ready_and_true("dns-timeout", Fault::Timeout).await
}
