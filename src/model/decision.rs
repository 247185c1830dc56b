//! What a round decided: actions as data, reasons in words, and what to look at next.

use crate::model::asked::Answers;
use crate::model::history::Event;
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodesConf};
use crate::model::observation::{CopyConfig, NodesFile, Stage, VolumeNote};
use crate::model::reason::Reason;
use crate::model::slots::SlotSet;
use crate::model::time::Moment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The outcome of one round.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// To be carried out in order, each once; the next round sees what came of it.
    pub actions: Vec<Planned>,
    /// Why this node is not ready, and what else a person should know.
    pub reasons: Vec<Reason>,
    /// Whether this node does its part.
    pub ready: bool,
    /// How far this pod has come.
    pub stage: Stage,
    /// Addresses about which there is a doubt: to be asked in the next round.
    pub ask: BTreeSet<SocketAddr>,
    /// Whether the next round should look for ordinals that the Service's own name lacks.
    pub ask_missing: bool,
    /// Whether a Redis that is down may start, as far as nodes.conf goes; `init` waits for it.
    pub start: Start,
    /// What is told about this node.
    pub view: View,
    /// What has become of what was asked over the socket.
    pub answers: Answers,
    /// What has happened to this node, as far as this round saw it first.
    pub events: Vec<Event>,
    /// When to look again if nothing wakes the agent earlier.
    pub next_round_in: Duration,
}

/// Whether a Redis that is down may start on its volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing speaks against it.
    #[default]
    May,
    /// Not yet: this is still to be done or found out.
    Wait(String),
    /// Not before a person has looked.
    Hold(String),
}

/// The part a node plays now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not a member, or not to be asked.
    #[default]
    None,
    /// A master that is a member.
    Master,
    /// A replica.
    Replica,
}

impl Role {
    /// The one word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::None => "none",
            Role::Master => "master",
            Role::Replica => "replica",
        }
    }
}

/// This node as it is told to others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Its role.
    pub role: Role,
    /// Its node ID, from nodes.conf while Redis cannot be asked.
    pub node_id: Option<NodeId>,
    /// The slots it owns.
    pub slots: SlotSet,
    /// The pod it replicates, or that node's ID where the pod is not known.
    pub replica_of: Option<String>,
    /// Whether the replication link is up; absent on a master.
    pub link_up: Option<bool>,
    /// How many bytes it is behind; absent on a master.
    pub lag_bytes: Option<u64>,
    /// Its configuration epoch.
    pub epoch: Option<u64>,
    /// It is about to be stopped.
    pub stopping: bool,
    /// Every node in its table.
    pub nodes: Vec<NodeView>,
    /// Owners of slots, and whose they are: for a pod whose volume was lost.
    pub owners: BTreeMap<NodeId, u32>,
    /// The highest ordinal of a pod that this one knows of, its own included: others may know of fewer.
    pub last_ordinal: u32,
    /// Nodes that are to be forgotten as soon as all members are about to, or were lately, and whose they were (S6).
    pub forgets: BTreeMap<NodeId, u32>,
    /// The volume has neither nodes.conf nor note, or a nodes.conf and no data; and Redis does not run.
    pub blank: bool,
    /// Why the own Redis is not to be started yet.
    pub held: Option<Reason>,
}

/// One line of the own table, with the pod's name where it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// The line.
    pub entry: NodeEntry,
    /// The pod.
    pub pod: Option<String>,
}

/// An action with the evidence that it is right, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub action: Action,
    /// Why, in words.
    pub evidence: String,
    /// When the answers that it rests on get too old for it (S1); `None` where it rests on none.
    pub not_after: Option<Moment>,
}

/// Something the agent does to its own Redis or its own volume. There is one action on another pod's
/// Redis, [`Action::HandOver`], and none that deletes data (S4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set one of the `cluster-announce-*` names.
    Announce {
        /// The configuration's name.
        name: &'static str,
        /// What to announce.
        value: String,
    },
    /// Take a configuration epoch; works only on a node that knows nobody.
    SetConfigEpoch(u64),
    /// Take slots that nobody owns.
    AddSlots {
        /// Which.
        slots: SlotSet,
        /// Whether the server has ADDSLOTSRANGE (7.0 and later).
        by_range: bool,
    },
    /// Introduce a verified node (S1).
    Meet {
        /// Whose address it is.
        pod: String,
        /// Its address.
        ip: IpAddr,
        /// Its port for clients.
        port: u16,
        /// Its cluster bus port.
        bus_port: u16,
    },
    /// Drop a handshake that is still under way, by the random ID it has until it is done (S1).
    DropHandshake {
        /// That ID; no node has it.
        id: NodeId,
        /// The address that was to be met.
        ip: IpAddr,
    },
    /// Become a replica of this master (S5).
    Replicate {
        /// The master's ID.
        master: NodeId,
        /// The master's pod.
        pod: String,
    },
    /// Have a replica of this node take over its slots: the one command to another pod's Redis (S7).
    HandOver {
        /// The replica's ID; whoever else answers there is not told.
        replica: NodeId,
        /// Its pod.
        pod: String,
        /// Where it answers.
        socket: SocketAddr,
    },
    /// Take over the slots of the own master, which is well (S7).
    TakeOver {
        /// The master's ID.
        master: NodeId,
        /// Its pod.
        pod: String,
    },
    /// Take the place of the master whose volume was lost: `CLUSTER FAILOVER FORCE`, which asks a
    /// majority of the masters and not the one that is gone (S7).
    ForceFailover {
        /// The lost master's ID.
        master: NodeId,
        /// Its pod.
        pod: String,
    },
    /// Have the own Redis begin whole copies to replicas when `to` says, and not when `from` does.
    Copies {
        /// The present configuration.
        from: CopyConfig,
        /// The wanted one.
        to: CopyConfig,
    },
    /// Take an identity that is gone for good out of the own table (S6).
    Forget {
        /// Its ID.
        id: NodeId,
        /// The pod that had it.
        pod: String,
    },
    /// Let a new master leave its rejoin delay: `cluster-node-timeout` to `short_ms`, have the state
    /// judged, and back to `restore_ms`, in one write, so that nothing can come between.
    Hasten {
        /// Milliseconds to set.
        short_ms: u64,
        /// What has the state judged.
        nudge: Nudge,
        /// Milliseconds to set afterwards.
        restore_ms: u64,
    },
    /// Put back the configured `cluster-node-timeout` after a [`Action::Hasten`] that was cut off.
    RestoreNodeTimeout(u64),
    /// Write the agent's file on the volume.
    Remember(VolumeNote),
    /// Keep this as the newest copy of nodes.conf.
    KeepConf(NodesConf),
    /// Put this in the place of nodes.conf, if that is still what it was and nobody holds it (S8).
    RestoreConf {
        /// What nodes.conf is to say.
        conf: NodesConf,
        /// What it was found to be.
        over: NodesFile,
    },
    /// Write these events to the history on the volume.
    Record(Vec<Event>),
}

/// What has a Redis judge the cluster's state at once, and otherwise changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// Call this slot stable, an own one while none is being moved.
    StableSlot(u16),
    /// Turn `cluster-replica-no-failover`, which means nothing on a master, over and back to this,
    /// the configured value.
    NoFailover(bool),
}

impl Action {
    /// A short name, for the log and the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Announce { .. } => "announce",
            Action::SetConfigEpoch(_) => "set-config-epoch",
            Action::AddSlots { .. } => "add-slots",
            Action::Meet { .. } => "meet",
            Action::DropHandshake { .. } => "drop-handshake",
            Action::Replicate { .. } => "replicate",
            Action::ForceFailover { .. } => "force-failover",
            Action::Copies { .. } => "copies",
            Action::Forget { .. } => "forget",
            Action::HandOver { .. } => "hand-over",
            Action::TakeOver { .. } => "take-over",
            Action::Hasten { .. } => "hasten",
            Action::RestoreNodeTimeout(_) => "restore-node-timeout",
            Action::Remember(_) => "remember",
            Action::KeepConf(_) => "keep-nodes-conf",
            Action::RestoreConf { .. } => "restore-nodes-conf",
            Action::Record(_) => "record",
        }
    }

    /// Whether it writes to Redis, and not only to a file.
    pub fn writes_to_redis(&self) -> bool {
        !matches!(
            self,
            Action::Remember(_)
                | Action::KeepConf(_)
                | Action::RestoreConf { .. }
                | Action::Record(_)
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Announce { name, value } => write!(f, "set {name} to {value}"),
            Action::SetConfigEpoch(epoch) => write!(f, "take config epoch {epoch}"),
            Action::AddSlots { slots, .. } => write!(f, "take slots {slots}"),
            Action::Meet { pod, ip, port, .. } => write!(f, "meet {pod} at {ip} port {port}"),
            Action::DropHandshake { id, ip } => write!(f, "drop the handshake {id} with {ip}"),
            Action::Replicate { master, pod } => write!(f, "replicate {pod} ({master})"),
            Action::ForceFailover { master, pod } => {
                write!(f, "take the place of {pod} ({master}) by force")
            }
            Action::Copies { from, to } => write!(
                f,
                "begin whole copies after {} s, not {} s",
                if to.diskless { to.delay_s } else { 0 },
                if from.diskless { from.delay_s } else { 0 }
            ),
            Action::Forget { id, pod } => write!(f, "forget {id}, once {pod}"),
            Action::HandOver {
                replica,
                pod,
                socket,
            } => write!(f, "have {pod} ({replica}) at {socket} take over"),
            Action::TakeOver { master, pod } => write!(f, "take over from {pod} ({master})"),
            Action::Hasten {
                short_ms,
                nudge,
                restore_ms,
            } => write!(
                f,
                "set cluster-node-timeout to {short_ms} ms for a moment{}, then to {restore_ms} ms",
                match nudge {
                    Nudge::StableSlot(_) => "",
                    Nudge::NoFailover(_) => " and cluster-replica-no-failover over and back",
                }
            ),
            Action::RestoreNodeTimeout(ms) => write!(f, "set cluster-node-timeout back to {ms} ms"),
            Action::KeepConf(conf) => {
                let (nodes, epoch) = (conf.table.nodes.len(), conf.current_epoch);
                write!(f, "keep a copy of nodes.conf: {nodes} nodes, epoch {epoch}")
            }
            Action::RestoreConf { conf, .. } => {
                f.write_str("restore nodes.conf")?;
                let me = conf.table.myself();
                me.map_or(Ok(()), |me| write!(f, " of node {}", me.id))
            }
            Action::Record(events) => {
                let names: Vec<&str> = events.iter().map(|e| e.event.as_str()).collect();
                write!(f, "record {}", names.join(", "))
            }
            Action::Remember(note) => write!(
                f,
                "note on the volume: member {}, {} known pods, gate {}, node timeout {}{}",
                note.member,
                note.pods.len(),
                if note.gate_run_id.is_some() {
                    "passed"
                } else {
                    "not passed"
                },
                note.node_timeout_ms
                    .map_or("untouched".to_owned(), |ms| format!("{ms} ms")),
                if note.paused.is_some() {
                    ", paused"
                } else {
                    ""
                },
            ),
        }
    }
}
