//! Whether the cluster is *whole*, by asking every Redis itself, without the product's code.
//!
//! Whole means: every pod's Redis answers; every table holds exactly the pods' node IDs at the
//! pods' present addresses, none flagged, all links connected; the 16384 slots have one owner
//! each and all agree; as many owners as there shall be masters; `cluster_state:ok`; every
//! replica is linked to the right ID at its present address, its first sync done.
//!
//! Does not: ask an agent, change anything, or wait; `Testbed::whole` waits.

mod judge;
mod snapshot;
mod table;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::{Result, bail};

use crate::Pod;
pub use snapshot::{NodeView, Role, Snapshot, ranges};
pub(crate) use table::fields;
pub use table::{Account, Line};

/// Where a pod's Redis really is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The pod's ordinal.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Its Redis.
    pub redis: SocketAddr,
}

impl From<&Pod> for Place {
    fn from(pod: &Pod) -> Self {
        Self {
            ordinal: pod.ordinal,
            name: pod.name.clone(),
            redis: pod.redis_address(),
        }
    }
}

/// What every Redis said at one time, and what is not whole about it.
#[derive(Debug)]
pub struct Truth {
    /// What is not whole, one sentence each, naming the pod that says so. Empty means whole.
    pub problems: Vec<String>,
    /// The accounts of the Redis that answered, by ordinal.
    pub accounts: BTreeMap<usize, Account>,
    /// Roles, slots and links by ordinal.
    pub snapshot: Snapshot,
}

impl Truth {
    /// Asks all `pods` at once. `masters` is how many nodes shall own slots.
    pub async fn of(pods: &[Arc<Pod>], masters: usize) -> Self {
        let asked: Vec<_> = pods
            .iter()
            .map(|pod| {
                let pod = Arc::clone(pod);
                tokio::spawn(async move { Account::ask(&pod).await })
            })
            .collect();
        let mut answers = Vec::new();
        for asked in asked {
            let answer = asked.await.map_err(anyhow::Error::from);
            answers.push(answer.and_then(|account| account));
        }
        let places: Vec<Place> = pods.iter().map(|pod| Place::from(&**pod)).collect();
        Self::from_answers(&places, answers, masters)
    }

    /// From what the Redis of each place answered, in their order.
    #[must_use]
    pub fn from_answers(places: &[Place], answers: Vec<Result<Account>>, masters: usize) -> Self {
        let mut problems = Vec::new();
        let mut accounts = BTreeMap::new();
        for (pod, answer) in places.iter().zip(answers) {
            match answer {
                Ok(account) => {
                    accounts.insert(pod.ordinal, account);
                }
                Err(error) => problems.push(format!("{}: no answer: {error:#}", pod.name)),
            }
        }
        problems.extend(judge::problems(places, &accounts, masters));
        let snapshot = snapshot::snapshot(places, &accounts);
        Self {
            problems,
            accounts,
            snapshot,
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    /// The snapshot, or an error that lists what is not whole.
    ///
    /// # Errors
    /// When something is not whole.
    pub fn whole(self) -> Result<Snapshot> {
        if !self.is_whole() {
            bail!(
                "{} problems:\n  {}",
                self.problems.len(),
                self.problems.join("\n  ")
            );
        }
        Ok(self.snapshot)
    }
}
