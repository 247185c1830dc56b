//! One round's outcome as the snapshot that HTTP answers from. A mapping; nothing is judged here.

use super::status::{BusLink, Link, NodeStatus, Role, Status};
use crate::config::Config;
use crate::model::decision::{Decision, NodeView};
use crate::model::observation::Observation;

/// The snapshot of a round.
pub fn status(config: &Config, seen: &Observation, decision: &Decision) -> Status {
    let view = &decision.view;
    let found = seen
        .dns
        .addresses
        .keys()
        .filter(|ordinal| **ordinal != config.pod.ordinal);
    Status {
        stage: decision.stage,
        role: view.role,
        node_id: view.node_id,
        slots: view.slots.ranges().to_vec(),
        replica_of: view.replica_of.as_ref().and_then(|pod| pod.parse().ok()),
        link: view
            .link_up
            .map(|up| if up { Link::Up } else { Link::Down }),
        lag_bytes: view.lag_bytes,
        epoch: view.epoch,
        reasons: decision.reasons.clone(),
        stopping: view.stopping,
        nodes: view.nodes.iter().map(node).collect(),
        peers_known: u32::try_from(found.count()).unwrap_or(u32::MAX),
        owners: view.owners.clone(),
        last_ordinal: view.last_ordinal,
        forgets: view.forgets.clone(),
        blank: view.blank,
        held: view.held.clone(),
        ..Status::starting(config)
    }
}

fn node(node: &NodeView) -> NodeStatus {
    let entry = &node.entry;
    let role = match (entry.flags.replica(), entry.flags.master()) {
        (true, _) => Role::Replica,
        (false, true) => Role::Master,
        (false, false) => Role::None,
    };
    NodeStatus {
        node_id: entry.id,
        pod: node.pod.as_ref().and_then(|pod| pod.parse().ok()),
        address: entry.socket(),
        role,
        replica_of: entry.master,
        slots: entry.slots.ranges().to_vec(),
        link: if entry.connected {
            BusLink::Connected
        } else {
            BusLink::Disconnected
        },
        flags: entry.flags.iter().map(str::to_owned).collect(),
        epoch: entry.epoch,
        myself: entry.flags.myself(),
    }
}
