//! The snapshot that every answer is made from.
//!
//! In: what the control loop observed and decided in its last round. Out: one immutable value,
//! shared through `tokio::sync::watch::Receiver<Arc<Status>>`.
//!
//! Not here: how it looks on the wire (`views`), so that a field added here shows nowhere by
//! accident.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::Config;
pub use crate::model::decision::Role;
use crate::model::history::History;
use crate::model::identity::{ClusterName, NodeId, PodName, Shape};
pub use crate::model::observation::Stage;
use crate::model::reason::{Reason, ReasonCode, Weight};

/// The version of this program, as `/role` and the metrics show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// First and last slot of a range, both included.
pub type SlotRange = (u16, u16);

/// Whether a replica is connected to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Connected.
    Up,
    /// Not connected.
    Down,
}

/// Whether the cluster bus has a connection to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BusLink {
    /// Connected.
    Connected,
    /// Not connected.
    Disconnected,
}

/// One node as this one sees it, for `/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its identity in Redis.
    pub node_id: NodeId,
    /// Its pod, where known.
    pub pod: Option<PodName>,
    /// Its address in the table; none for `noaddr`.
    pub address: Option<SocketAddr>,
    /// What it does.
    pub role: Role,
    /// The master it copies.
    pub replica_of: Option<NodeId>,
    /// The slots it owns.
    pub slots: Vec<SlotRange>,
    /// The bus connection to it.
    pub link: BusLink,
    /// The table's flags, such as `fail?`.
    pub flags: Vec<String>,
    /// Its config epoch.
    pub epoch: u64,
    /// Whether it is the own node.
    pub myself: bool,
}

/// Everything that is published, as of one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The cluster this pod belongs to.
    pub cluster: ClusterName,
    /// This pod.
    pub pod: PodName,
    /// The Kubernetes node, or empty.
    pub node_name: String,
    /// Its zone, or empty.
    pub zone: String,
    /// The shape this pod was configured with.
    pub shape: Shape,
    /// How far the node is in its life.
    pub stage: Stage,
    /// What the node does.
    pub role: Role,
    /// Its identity, where known.
    pub node_id: Option<NodeId>,
    /// Where peers and clients reach it.
    pub address: SocketAddr,
    /// The slots it owns.
    pub slots: Vec<SlotRange>,
    /// For a replica: its master's pod, where known.
    pub replica_of: Option<PodName>,
    /// For a replica: the state of its link.
    pub link: Option<Link>,
    /// For a replica: how far it is behind.
    pub lag_bytes: Option<u64>,
    /// Its config epoch.
    pub epoch: Option<u64>,
    /// Everything there is to say about readiness; it is ready when none of them blocks.
    pub reasons: Vec<Reason>,
    /// Its Redis is about to be stopped.
    pub stopping: bool,
    /// Every node in the own table.
    pub nodes: Vec<NodeStatus>,
    /// How many pods other than this one were found.
    pub peers_known: u32,
    /// For the peers: owners of slots, with their ordinals.
    pub owners: BTreeMap<NodeId, u32>,
    /// For the peers: the highest ordinal that this node knows of.
    pub last_ordinal: u32,
    /// For the peers: nodes about to be forgotten, and those that were lately.
    pub forgets: BTreeMap<NodeId, u32>,
    /// For the peers: the volume is blank, or holds a nodes.conf and no data, and Redis does not run.
    pub blank: bool,
    /// Why the own Redis is not to be started yet.
    pub held: Option<Reason>,
    /// What this node went through.
    pub history: History,
}

impl Status {
    /// What is published before the first round has ended: not ready, and nothing known.
    #[must_use]
    pub fn starting(config: &Config) -> Self {
        Self {
            cluster: config.cluster(),
            pod: config.pod.clone(),
            node_name: config.node_name.clone(),
            zone: config.zone.clone(),
            shape: config.shape,
            stage: Stage::Unknown,
            role: Role::None,
            node_id: None,
            address: config.announced_address(),
            slots: Vec::new(),
            replica_of: None,
            link: None,
            lag_bytes: None,
            epoch: None,
            reasons: vec![Reason::blocks(
                ReasonCode::Starting,
                "the agent has just started and has not yet looked at Redis",
            )],
            stopping: false,
            nodes: Vec::new(),
            peers_known: 0,
            owners: BTreeMap::new(),
            last_ordinal: 0,
            forgets: BTreeMap::new(),
            blank: false,
            held: Some(Reason::blocks(
                ReasonCode::Starting,
                "the agent has just started and has not yet looked around",
            )),
            history: History::default(),
        }
    }

    /// Whether this node does its part: nothing blocks.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.blocking().next().is_none()
    }

    /// The reasons that unready this node.
    pub fn blocking(&self) -> impl Iterator<Item = &Reason> {
        self.of_weight(Weight::Blocks)
    }

    /// The reasons that are only shown.
    pub fn warnings(&self) -> impl Iterator<Item = &Reason> {
        self.of_weight(Weight::Warns)
    }

    fn of_weight(&self, weight: Weight) -> impl Iterator<Item = &Reason> {
        self.reasons
            .iter()
            .filter(move |reason| reason.weight == weight)
    }
}
