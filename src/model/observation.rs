//! What one round saw. Values only: what is not known is said to be unknown, with the reason, and
//! nothing here says what it means.

use crate::model::asked::Asked;
use crate::model::history::HistorySeen;
use crate::model::identity::NodeId;
use crate::model::info::{ReplicaFacts, ServerFacts, Version};
use crate::model::kept_conf::KeptConf;
use crate::model::node_table::{NodeTable, NodesConf};
use crate::model::peers::PeersSeen;
use crate::model::slots::SlotSet;
use crate::model::time::{Moment, WallTime};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Everything that a round's decision may rest on, besides the memory of earlier rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// When the round began.
    pub now: Moment,
    /// The same as the time of day. It may jump.
    pub wall: WallTime,
    /// This pod's Redis.
    pub own: OwnRedis,
    /// nodes.conf on the volume.
    pub file: NodesFile,
    /// The copies of it, and what its repair rests on.
    pub kept: KeptConf,
    /// The pods that DNS names.
    pub dns: PeersSeen,
    /// What the addresses that the last decision wanted asked have answered, and when.
    pub answers: BTreeMap<SocketAddr, PeerAnswer>,
    /// What this agent left on the volume earlier.
    pub volume: Volume,
    /// Why the last attempt to write to the volume failed.
    pub volume_error: Option<String>,
    /// What this node is known to have gone through.
    pub history: HistorySeen,
    /// What Redis answered to the last round's commands where it refused them.
    pub refusals: Vec<Refusal>,
    /// What is asked of this agent over its socket.
    pub asked: Asked,
}

/// The own Redis, as far as it answers.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one in a round")]
pub enum OwnRedis {
    /// No usable answer. Never evidence of anything but that.
    Silent(Silence),
    /// Reading its data from disk: only INFO and CONFIG answer.
    Loading(ServerFacts, Option<ClusterConfig>, Option<CopyConfig>),
    /// In full service.
    Up(Box<OwnFacts>),
}

/// Why a Redis gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Not asked yet.
    NotAsked,
    /// Nothing listens there.
    Refused(String),
    /// No connection for another reason, or it broke.
    Unreachable(String),
    /// No connection or no answer in time: frozen, swapping or cut off.
    TimedOut,
    /// It wants another password.
    Auth(String),
    /// The user may not run a command that the agent needs.
    Denied(String),
    /// It runs without cluster mode.
    NoCluster,
    /// It answered something that cannot be read.
    Garbled(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::NotAsked => f.write_str("has not been asked yet"),
            Silence::Refused(why) | Silence::Unreachable(why) => {
                write!(f, "cannot be reached: {why}")
            }
            Silence::TimedOut => f.write_str("does not answer in time"),
            Silence::Auth(why) => write!(f, "refuses the password: {why}"),
            Silence::Denied(why) => write!(f, "denies a command that is needed: {why}"),
            Silence::NoCluster => f.write_str("runs without cluster-enabled yes"),
            Silence::Garbled(why) => write!(f, "answers something unreadable: {why}"),
        }
    }
}

/// What the own Redis says of itself and of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnFacts {
    /// From INFO.
    pub server: ServerFacts,
    /// From CONFIG GET; absent where the user may not read it.
    pub config: Option<ClusterConfig>,
    /// From CLUSTER NODES.
    pub table: NodeTable,
    /// `cluster_state:ok`. Not the whole truth: it also says ok for some seconds after a restart
    /// with every peer gone, and with a slot owner at `noaddr`.
    pub state_ok: bool,
    /// `cluster_current_epoch`.
    pub current_epoch: u64,
    /// The replication offset each node last gossiped, in bytes (CLUSTER SHARDS, 7.0 and later;
    /// read on replicas only).
    pub offsets: BTreeMap<NodeId, u64>,
    /// `repl-diskless-sync*`; absent where it cannot be read.
    pub copies: Option<CopyConfig>,
}

impl OwnFacts {
    /// `cluster-node-timeout`; Redis's own default where its configuration cannot be read.
    #[must_use]
    pub fn node_timeout(&self) -> Duration {
        let config = self.config.as_ref();
        let ms = config.and_then(|config| config.node_timeout_ms);
        Duration::from_millis(ms.unwrap_or(15_000))
    }
}

/// The own Redis's `cluster-*` configuration. A name the server does not know is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `cluster-announce-ip`; empty when unset.
    pub announce_ip: Option<String>,
    /// `cluster-announce-hostname` (7.0 and later); empty when unset.
    pub announce_hostname: Option<String>,
    /// `cluster-announce-human-nodename` (7.2 and later); empty when unset.
    pub announce_nodename: Option<String>,
    /// `cluster-node-timeout`, in milliseconds.
    pub node_timeout_ms: Option<u64>,
    /// `cluster-replica-no-failover`.
    pub replica_no_failover: Option<bool>,
}

/// When the own Redis, as a master, begins to send a whole copy to a replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyConfig {
    /// `repl-diskless-sync`: without it there is no delay.
    pub diskless: bool,
    /// `repl-diskless-sync-delay`, in seconds.
    pub delay_s: u64,
    /// `repl-diskless-sync-max-replicas` (7.0 and later): so many waiting ones end the delay.
    pub max_replicas: Option<u64>,
}

/// nodes.conf on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodesFile {
    /// There is none.
    Missing,
    /// It is there and cannot be read.
    Unreadable(String),
    /// Nothing is in it: Redis takes that for a file that is missing.
    Empty,
    /// Its text is not whole.
    Torn(String),
    /// Whole.
    Read(NodesConf),
}

/// What answered at one address.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerAnswer {
    /// When both questions had been answered or given up.
    pub at: Moment,
    /// The Redis there.
    pub redis: PeerRedis,
    /// The agent there.
    pub agent: PeerAgent,
}

impl PeerAnswer {
    /// Whether the Redis there was slower than the deadline, and not only unwilling or away.
    pub fn gave_no_answer_in_time(&self) -> bool {
        matches!(self.redis, PeerRedis::Silent(Silence::TimedOut))
    }
}

/// The Redis at an asked address.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a few hundred bytes for each peer in doubt"
)]
pub enum PeerRedis {
    /// No usable answer: unknown.
    Silent(Silence),
    /// It answered.
    Up(PeerFacts),
}

/// What a peer's Redis says of itself, boiled down from its own table and INFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its node ID.
    pub id: NodeId,
    /// Which server it is.
    pub version: Version,
    /// Which start of which process it is: two at once with one node ID are a clone (S10).
    pub run_id: String,
    /// Its cluster bus port.
    pub bus_port: u16,
    /// The master that it replicates.
    pub master: Option<NodeId>,
    /// The slots that it owns.
    pub slots: SlotSet,
    /// Its config epoch; 0 until it has been given one.
    pub epoch: u64,
    /// The other nodes in its table, those in handshake left out.
    pub knows: BTreeSet<NodeId>,
    /// Those of them that it is connected to and does not suspect.
    pub hears: BTreeSet<NodeId>,
    /// The nodes that own slots in its table, with the config epoch that each has there.
    pub owners: BTreeMap<NodeId, u64>,
    /// Keys in all its databases.
    pub keys: u64,
    /// How much of its shard's data it has, in bytes of the replication stream.
    pub offset: u64,
    /// How it copies its master's data; set on a replica only.
    pub replica: Option<ReplicaFacts>,
}

/// The agent at an asked address.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerAgent {
    /// No usable answer: unknown.
    Silent(String),
    /// Its `/role`.
    Says(PeerClaim),
}

/// What a peer's agent says of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerClaim {
    /// `<namespace>/<statefulset>`.
    pub cluster: String,
    /// The pod's name.
    pub pod: String,
    /// The node ID that its agent last saw.
    pub node_id: Option<NodeId>,
    /// How far its pod has come; absent from agents that do not say.
    pub stage: Option<Stage>,
    /// `<masters>x<replicas>`; absent from agents that do not say.
    pub shape: Option<String>,
    /// The node it runs on; empty when not told.
    pub node_name: String,
    /// The zone it runs in; empty when not told.
    pub zone: String,
    /// The owners of slots, and whose they are, as its Redis has them, or its volume while that is away.
    pub owners: BTreeMap<NodeId, u32>,
    /// The highest ordinal of a pod that it knows of; 0 from agents that do not say.
    pub last_ordinal: u32,
    /// Nodes that it is about to have its Redis forget, or has lately, and whose they were (S6).
    pub forgets: BTreeMap<NodeId, u32>,
    /// Its volume has neither nodes.conf nor note, or a nodes.conf and no data, and its Redis does not run.
    pub blank: bool,
    /// Its Redis is about to be stopped.
    pub stopping: bool,
    /// It says that two nodes answer with one node ID (S10).
    pub doubled: bool,
    /// It says that whole copies of its data wait (S5).
    pub holds_copies: bool,
    /// The reason for that: it has come up without data that others may have.
    pub data_missing: bool,
}

/// How far a pod has come into a cluster.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Cannot be said now.
    #[default]
    Unknown,
    /// Its Redis knows only itself, owns no slot, holds no key, and the volume has no marker.
    Virgin,
    /// Part of a first cluster that is being made.
    Forming,
    /// Has been part of a cluster; its volume carries the marker.
    Member,
}

/// This agent's file on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volume {
    /// There is no such file.
    Blank,
    /// It cannot be read or understood: unknown.
    Unreadable(String),
    /// What it says.
    Says(VolumeNote),
}

/// What this agent keeps beside the data, so that a restart of it loses nothing that matters.
///
/// A note that does not name the marker is damaged and not a note without it (S3). The other fields
/// may be absent in the note of an older version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeNote {
    /// The marker: this volume's Redis has been a member of `cluster`, so it never forms another.
    pub member: bool,
    /// `<namespace>/<statefulset>` that wrote it.
    pub cluster: String,
    /// The ordinal last verified for each node ID.
    #[serde(default)]
    pub pods: BTreeMap<NodeId, u32>,
    /// Nodes of other clusters in the own table: whose, and where they answered (S9).
    #[serde(default)]
    pub foreign: BTreeMap<NodeId, (String, SocketAddr)>,
    /// The `run_id` of the Redis that passed the start gate.
    #[serde(default)]
    pub gate_run_id: Option<String>,
    /// The configured `cluster-node-timeout` in milliseconds, kept while it is shortened.
    #[serde(default)]
    pub node_timeout_ms: Option<u64>,
    /// The pause that is on.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// Replicas that may have the data without which this master came up, and would drop it for a copy; and
    /// whether they have said that they have it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub may_have_data: BTreeMap<NodeId, bool>,
    /// Nodes that had this pod's address, with it, and whose replicas may dial it still.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub were_here: BTreeMap<NodeId, SocketAddr>,
    /// What was configured before whole copies were held back, kept meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<CopyConfig>,
}

/// A pause as noted, by the wall clock: from when until when, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Its beginning, or the last time when the clock was seen to have jumped.
    pub from_ms: u64,
    /// Its end.
    pub until_ms: u64,
}

/// A command that Redis refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The action, as logged.
    pub action: String,
    /// Redis's words.
    pub error: String,
}
