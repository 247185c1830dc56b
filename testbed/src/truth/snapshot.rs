//! The cluster by ordinal, as tests want to compare it.
//!
//! Does not: tell whether it is right.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use super::{Account, Place};

/// What a node is, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A master, with or without slots.
    Master,
    /// A replica.
    Replica,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its ID.
    pub node_id: String,
    /// The pod's present address with the Redis port.
    pub address: SocketAddr,
    /// Its role.
    pub role: Role,
    /// Its own slots.
    pub slots: Vec<(u16, u16)>,
    /// The ordinal of its master; `None` for a master, or where the ID is no pod's.
    pub replica_of: Option<usize>,
    /// A replica's `master_link_status` is up.
    pub link_up: bool,
    /// Its config epoch.
    pub epoch: u64,
    /// `run_id` of INFO: another one after each start of Redis.
    pub run_id: String,
    /// Bytes of the replication stream written (master) or applied (replica).
    pub offset: u64,
}

/// The nodes by ordinal; pods whose Redis did not answer are missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The nodes.
    pub nodes: BTreeMap<usize, NodeView>,
}

impl Snapshot {
    /// The ordinals of the masters that own slots.
    #[must_use]
    pub fn masters(&self) -> Vec<usize> {
        self.nodes
            .iter()
            .filter(|(_, n)| !n.slots.is_empty())
            .map(|(k, _)| *k)
            .collect()
    }

    /// The ordinals of the replicas of `master`.
    #[must_use]
    pub fn replicas_of(&self, master: usize) -> Vec<usize> {
        self.nodes
            .iter()
            .filter(|(_, n)| n.replica_of == Some(master))
            .map(|(k, _)| *k)
            .collect()
    }

    /// Each replica with its master: `{3: 0, 4: 1, 5: 2}`.
    #[must_use]
    pub fn replication(&self) -> BTreeMap<usize, usize> {
        self.nodes
            .iter()
            .filter_map(|(k, n)| Some((*k, n.replica_of?)))
            .collect()
    }

    /// The node IDs by ordinal: equal before and after means that nobody was reborn.
    #[must_use]
    pub fn ids(&self) -> BTreeMap<usize, String> {
        self.nodes
            .iter()
            .map(|(k, n)| (*k, n.node_id.clone()))
            .collect()
    }

    /// The owner of `slot`.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let owns = |node: &NodeView| node.slots.iter().any(|(a, z)| (*a..=*z).contains(&slot));
        self.nodes
            .iter()
            .find(|(_, node)| owns(node))
            .map(|(k, _)| *k)
    }
}

/// One line a node, stable, for expected texts: `3 replica of 0`, `0 master 0-5460`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ordinal, node) in &self.nodes {
            match (node.role, node.replica_of) {
                (Role::Master, _) => writeln!(f, "{ordinal} master {}", ranges(&node.slots))?,
                (Role::Replica, Some(master)) => writeln!(f, "{ordinal} replica of {master}")?,
                (Role::Replica, None) => writeln!(f, "{ordinal} replica of an unknown node")?,
            }
        }
        Ok(())
    }
}

/// `0-5460 7000`; `-` for none.
#[must_use]
pub fn ranges(slots: &[(u16, u16)]) -> String {
    if slots.is_empty() {
        return "-".to_owned();
    }
    let words: Vec<String> = slots
        .iter()
        .map(|(a, z)| {
            if a == z {
                a.to_string()
            } else {
                format!("{a}-{z}")
            }
        })
        .collect();
    words.join(" ")
}

pub(super) fn snapshot(pods: &[Place], accounts: &BTreeMap<usize, Account>) -> Snapshot {
    let ordinal_of = |id: &str| {
        accounts
            .iter()
            .find(|(_, account)| account.id == id)
            .map(|(k, _)| *k)
    };
    let mut nodes = BTreeMap::new();
    for pod in pods {
        let Some(account) = accounts.get(&pod.ordinal) else {
            continue;
        };
        let Some(myself) = account.myself() else {
            continue;
        };
        let role = if myself.has("slave") {
            Role::Replica
        } else {
            Role::Master
        };
        let offset = if role == Role::Replica {
            "slave_repl_offset"
        } else {
            "master_repl_offset"
        };
        nodes.insert(
            pod.ordinal,
            NodeView {
                node_id: account.id.clone(),
                address: pod.redis,
                role,
                slots: myself.slots.clone(),
                replica_of: myself.master.as_deref().and_then(ordinal_of),
                link_up: account.info("master_link_status") == "up",
                epoch: myself.epoch,
                run_id: account.info("run_id").to_owned(),
                offset: account.info(offset).parse().unwrap_or(0),
            },
        );
    }
    Snapshot { nodes }
}
