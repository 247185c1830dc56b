//! Two whole clusters side by side: addresses go from one to the other, and neither ever has a
//! node of the other in its table.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use testbed::canary::Canary;
use testbed::{Ending, Pod, Snapshot, Testbed, Truth, wait};

use crate::{chance::Chance, common::*};

/// How many keys each cluster has.
const KEYS: usize = 300;

/// Two formed clusters with keys.
pub(crate) struct Pair {
    pub(crate) red: Testbed,
    pub(crate) blue: Testbed,
    before: [Snapshot; 2],
    canaries: [Canary; 2],
}

impl Pair {
    /// Both formed; `passwords` are red's and blue's.
    pub(crate) async fn formed(name: &str, passwords: Option<[&str; 2]>) -> Result<Self> {
        let mut red = bed(&format!("{name}-red"))
            .names("red", "red-headless")
            .namespace("shop");
        let mut blue = bed(&format!("{name}-blue"))
            .names("blue", "blue-headless")
            .namespace("bank");
        if let Some([reds, blues]) = passwords {
            (red, blue) = (red.password(reds), blue.password(blues));
        }
        let (red, blue) = (red.build().await?, blue.build().await?);
        red.start_all().await?;
        blue.start_all().await?;
        let before = [
            formed_as_planned(&red).await?,
            formed_as_planned(&blue).await?,
        ];
        let canaries = [
            red.write_canary("red", KEYS).await?,
            blue.write_canary("blue", KEYS).await?,
        ];
        Ok(Self {
            red,
            blue,
            before,
            canaries,
        })
    }

    fn beds(&self) -> [&Testbed; 2] {
        [&self.red, &self.blue]
    }

    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.beds().iter().flat_map(|bed| bed.pods()).collect()
    }

    /// No ID of one cluster is in any table of the other.
    pub(crate) async fn unmixed(&self) -> Result<[Truth; 2]> {
        let truths = [self.red.truth().await, self.blue.truth().await];
        for (mine, theirs) in [(0, 1), (1, 0)] {
            let ids: BTreeSet<String> = self.before[theirs].ids().into_values().collect();
            for (ordinal, account) in &truths[mine].accounts {
                let found = account.nodes.iter().find(|line| ids.contains(&line.id));
                let name = ["red", "blue"][mine];
                ensure!(found.is_none(), "MERGED: {name}-{ordinal} knows {found:?}");
            }
        }
        Ok(truths)
    }

    /// Both whole again with the same nodes and exactly their own keys, ready and silent; the
    /// tables were never mixed on the way.
    pub(crate) async fn healed(&self) -> Result<()> {
        wait::until(LONG, "both clusters are whole", async || {
            let truths = match self.unmixed().await {
                Ok(truths) => truths,
                Err(mixed) => return Ok(Err(mixed)),
            };
            for truth in truths {
                truth.whole()?;
            }
            Ok(Ok(()))
        })
        .await??;
        for (bed, before) in self.beds().into_iter().zip(&self.before) {
            let after = bed.whole(LONG).await?;
            ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
            bed.all_ready(LONG).await?;
        }
        for (bed, canary) in self.beds().into_iter().zip(&self.canaries) {
            bed.falls_silent(QUIET, LONG).await?;
            canary.intact(bed).await?;
            has_only_its_keys(bed).await?;
        }
        self.unmixed().await?;
        Ok(())
    }

    pub(crate) async fn finish(self) -> Result<()> {
        self.red.finish().await?;
        self.blue.finish().await
    }
}

/// Every master has its share of the keys, and every replica what its master has.
async fn has_only_its_keys(bed: &Testbed) -> Result<()> {
    wait::until(LONG, "each cluster has its own keys alone", async || {
        let snapshot = bed.whole(LONG).await?;
        let mut all = 0;
        for master in snapshot.masters() {
            let held: usize = bed.pod(master)?.command(&["DBSIZE"]).await?;
            all += held;
            for replica in snapshot.replicas_of(master) {
                let copied: usize = bed.pod(replica)?.command(&["DBSIZE"]).await?;
                ensure!(copied == held, "{replica} has {copied} keys, not {held}");
            }
        }
        ensure!(all == KEYS, "{all} keys, not {KEYS}");
        Ok(())
    })
    .await
}

/// All pods of both stop; every address is dealt anew among all of them; all start.
async fn deal(pair: &Pair, chance: &mut Chance) -> Result<()> {
    let mut addresses: Vec<_> = pair.pods().iter().map(|pod| pod.address()).collect();
    for bed in pair.beds() {
        for pod in bed.pods() {
            bed.end_pod(pod.ordinal, Ending::Kill).await?;
        }
    }
    chance.shuffle(&mut addresses);
    for (pod, address) in pair.pods().into_iter().zip(addresses) {
        pod.move_to(address).await?;
    }
    for bed in pair.beds() {
        bed.start_all().await?;
    }
    Ok(())
}

async fn dealt_among_each_other(name: &str, passwords: Option<[&str; 2]>) -> Result<()> {
    let mut chance = Chance::new()?;
    let pair = Pair::formed(name, passwords).await?;
    for _ in 0..3 {
        deal(&pair, &mut chance).await?;
        pair.healed().await?;
    }
    pair.finish().await
}

/// S1: without any password, so that everybody answers everybody.
#[tokio::test]
async fn addresses_dealt_among_two_clusters_never_join_them() -> Result<()> {
    dealt_among_each_other("deal-open", None).await
}

/// S1: with one password for both.
#[tokio::test]
async fn addresses_dealt_among_two_clusters_of_one_password_never_join_them() -> Result<()> {
    dealt_among_each_other("deal-same", Some(["same-secret", "same-secret"])).await
}

/// S1: each with its own.
#[tokio::test]
async fn addresses_dealt_among_two_clusters_of_two_passwords_never_join_them() -> Result<()> {
    dealt_among_each_other("deal-own", Some(["reds-secret", "blues-secret"])).await
}

async fn some_dealt_while_the_rest_runs(name: &str, passwords: Option<[&str; 2]>) -> Result<()> {
    let mut chance = Chance::new()?;
    let pair = Pair::formed(name, passwords).await?;
    for _ in 0..5 {
        let mut chosen = Vec::new();
        for bed in pair.beds() {
            let mut ordinals: Vec<usize> = (0..6).collect();
            chance.shuffle(&mut ordinals);
            ordinals.truncate(1 + chance.below(5));
            for ordinal in ordinals {
                bed.end_pod(ordinal, Ending::Kill).await?;
                chosen.push((bed, ordinal, bed.pod(ordinal)?.address()));
            }
        }
        let mut addresses: Vec<_> = chosen.iter().map(|(_, _, address)| *address).collect();
        chance.shuffle(&mut addresses);
        for ((bed, ordinal, _), address) in chosen.iter().zip(addresses) {
            bed.pod(*ordinal)?.move_to(address).await?;
        }
        for (bed, ordinal, _) in chosen {
            bed.start_pod(ordinal).await?;
        }
        pair.healed().await?;
    }
    pair.finish().await
}

/// S1: some pods of both are dealt each other's addresses while the rest of both runs on.
#[tokio::test]
async fn some_addresses_dealt_among_two_running_clusters_never_join_them() -> Result<()> {
    some_dealt_while_the_rest_runs("some-own", Some(["reds-secret", "blues-secret"])).await
}

/// The same without any password.
#[tokio::test]
async fn some_addresses_dealt_among_two_running_open_clusters_never_join_them() -> Result<()> {
    some_dealt_while_the_rest_runs("some-open", None).await
}
