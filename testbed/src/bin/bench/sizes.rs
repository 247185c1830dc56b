//! The sizes that are measured, how often, and when a cluster of any size is whole.
//!
//! Does not: measure anything itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testbed::truth::Account;
use testbed::{Pod, Testbed, wait};

use super::Bench;

/// Masters with one replica each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// How many masters.
    pub(super) masters: usize,
    /// At most so many rounds: the large ones take long.
    rounds_max: usize,
}

/// 6, 30 and 100 pods.
pub(super) const SIZES: [Size; 3] = [
    Size {
        masters: 3,
        rounds_max: usize::MAX,
    },
    Size {
        masters: 15,
        rounds_max: 3,
    },
    Size {
        masters: 50,
        rounds_max: 2,
    },
];

impl Size {
    /// How many pods.
    pub(super) fn pods(self) -> usize {
        self.masters * 2
    }

    /// How often it is measured.
    pub(super) fn rounds(self, bench: &Bench) -> usize {
        bench.rounds.min(self.rounds_max)
    }
}

/// Waits until the cluster is whole by the testbed's truth, and says when that was.
///
/// One pod at a time is asked until it has nothing to complain about, and all of them only then:
/// asking a hundred tables every few milliseconds would take the time that is being measured.
pub(super) async fn whole(bed: &Testbed, deadline: Duration) -> Result<Instant> {
    let mut left = bed.pods();
    let present: BTreeSet<SocketAddr> = left.iter().map(|pod| pod.redis_address()).collect();
    wait::until(deadline, "the cluster is whole", async || {
        while let Some(pod) = left.last() {
            content(pod, &present).await?;
            left.pop();
        }
        bed.truth().await.whole()?;
        Ok(Instant::now())
    })
    .await
}

/// Nothing in this pod's own account speaks against the cluster.
async fn content(pod: &Pod, present: &BTreeSet<SocketAddr>) -> Result<()> {
    let account = Account::ask(pod).await?;
    let name = &pod.name;
    if account.nodes.len() != present.len() {
        bail!("{name} knows {} of {}", account.nodes.len(), present.len());
    }
    for line in &account.nodes {
        let flagged = ["handshake", "fail", "fail?", "noaddr"]
            .iter()
            .any(|flag| line.has(flag));
        let there = line
            .address
            .is_some_and(|address| present.contains(&address));
        if flagged || !line.connected || !there {
            bail!("{name} shows {line:?}");
        }
    }
    if account.cluster.get("cluster_state").map(String::as_str) != Some("ok") {
        bail!("{name} is not ok");
    }
    if account.info("role") == "slave" {
        let host = account.info("master_host").parse::<IpAddr>();
        let dialled = host.is_ok_and(|ip| present.iter().any(|address| address.ip() == ip));
        if account.info("master_link_status") != "up" || !dialled {
            bail!("{name} is not linked");
        }
    }
    Ok(())
}
