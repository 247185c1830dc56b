//! How a snapshot looks on the wire: the fields of each answer, in their order.
//!
//! In: a [`Status`]. Out: values for serde. `/role` and `/cluster` are a contract: a field is added
//! here on purpose or not at all, and a test pins the text.
//!
//! `/role` carries fields for the peers alone: `stage` and `shape` while they form a cluster, `stopping`
//! when one is to take over from another, `owners`, `forgets` and `blank` for lost volumes; these four are
//! left out while there is nothing to say. `last_ordinal` is for who does not know of pods beyond the first
//! shape. Other readers should not rely on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::status::{BusLink, Link, NodeStatus, Role, SlotRange, Stage, Status, VERSION};
use crate::model::identity::{ClusterName, NodeId, PodName, Shape};
use crate::model::reason::{Reason, ReasonCode, Weight};
use crate::model::time::WallTime;

/// The answer of `/role`.
#[derive(Serialize)]
pub(super) struct RoleView<'a> {
    role: Role,
    pod: &'a PodName,
    ordinal: u32,
    node_id: Option<NodeId>,
    address: SocketAddr,
    slots: &'a [SlotRange],
    replica_of: Option<&'a PodName>,
    link: Option<Link>,
    lag_bytes: Option<u64>,
    epoch: Option<u64>,
    ready: bool,
    reasons: Vec<RoleReason<'a>>,
    cluster: &'a ClusterName,
    node_name: &'a str,
    zone: &'a str,
    version: &'static str,
    stage: Stage,
    shape: Shape,
    /// There when it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stopping: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    owners: &'a BTreeMap<NodeId, u32>,
    last_ordinal: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    forgets: &'a BTreeMap<NodeId, u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    blank: bool,
}

#[derive(Serialize)]
struct RoleReason<'a> {
    code: ReasonCode,
    message: &'a str,
}

impl<'a> From<&'a Status> for RoleView<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            role: status.role,
            pod: &status.pod,
            ordinal: status.pod.ordinal,
            node_id: status.node_id,
            address: status.address,
            slots: &status.slots,
            replica_of: status.replica_of.as_ref(),
            link: status.link,
            lag_bytes: status.lag_bytes,
            epoch: status.epoch,
            ready: status.ready(),
            reasons: in_order(status)
                .map(|reason| RoleReason {
                    code: reason.code,
                    message: &reason.message,
                })
                .collect(),
            cluster: &status.cluster,
            node_name: &status.node_name,
            zone: &status.zone,
            version: VERSION,
            stage: status.stage,
            shape: status.shape,
            stopping: status.stopping,
            owners: &status.owners,
            last_ordinal: status.last_ordinal,
            forgets: &status.forgets,
            blank: status.blank,
        }
    }
}

/// The answer of `/readyz?format=json`.
#[derive(Serialize)]
pub(super) struct ReadyView<'a> {
    ready: bool,
    reasons: Vec<ReadyReason<'a>>,
}

#[derive(Serialize)]
struct ReadyReason<'a> {
    code: ReasonCode,
    message: &'a str,
    blocks: bool,
}

impl<'a> From<&'a Status> for ReadyView<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            ready: status.ready(),
            reasons: in_order(status)
                .map(|reason| ReadyReason {
                    code: reason.code,
                    message: &reason.message,
                    blocks: reason.weight == Weight::Blocks,
                })
                .collect(),
        }
    }
}

/// The answer of `/cluster`.
#[derive(Serialize)]
pub(super) struct ClusterView<'a> {
    cluster: &'a ClusterName,
    nodes: Vec<NodeView<'a>>,
}

#[derive(Serialize)]
struct NodeView<'a> {
    node_id: NodeId,
    pod: Option<&'a PodName>,
    address: Option<SocketAddr>,
    role: Role,
    replica_of: Option<NodeId>,
    slots: &'a [SlotRange],
    link: BusLink,
    flags: &'a [String],
    epoch: u64,
    myself: bool,
}

impl<'a> From<&'a Status> for ClusterView<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            cluster: &status.cluster,
            nodes: status.nodes.iter().map(NodeView::from).collect(),
        }
    }
}

impl<'a> From<&'a NodeStatus> for NodeView<'a> {
    fn from(node: &'a NodeStatus) -> Self {
        Self {
            node_id: node.node_id,
            pod: node.pod.as_ref(),
            address: node.address,
            role: node.role,
            replica_of: node.replica_of,
            slots: &node.slots,
            link: node.link,
            flags: &node.flags,
            epoch: node.epoch,
            myself: node.myself,
        }
    }
}

/// The answer of `/history`, the newest event last.
#[derive(Serialize)]
pub(super) struct HistoryView<'a> {
    cluster: &'a ClusterName,
    pod: &'a PodName,
    events: Vec<EventView<'a>>,
}

#[derive(Serialize)]
struct EventView<'a> {
    at: WallTime,
    event: &'a str,
    detail: &'a str,
}

impl<'a> From<&'a Status> for HistoryView<'a> {
    fn from(status: &'a Status) -> Self {
        let events = status.history.events().iter();
        Self {
            cluster: &status.cluster,
            pod: &status.pod,
            events: events
                .map(|event| EventView {
                    at: event.at,
                    event: &event.event,
                    detail: &event.detail,
                })
                .collect(),
        }
    }
}

/// The reasons as people read them: what blocks, then what warns.
pub(super) fn in_order(status: &Status) -> impl Iterator<Item = &Reason> {
    status.blocking().chain(status.warnings())
}
