//! A member introduces a virgin pod to the cluster. The newcomer itself never meets a member: it
//! cannot tell one cluster from another, and the virgin side has nothing to lose (S1).

use super::guard::Cleared;
use super::plan::Plan;
use super::scene::{Peer, Scene};
use crate::model::decision::Action;
use crate::model::observation::Stage;
use std::time::Duration;

const GAP: Duration = Duration::from_secs(2);

/// MEETs verified virgin pods that the own table lacks, when this node is a member in touch with
/// a majority of the slot owners.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let Some(table) = scene.table() else { return };
    let in_touch = super::readiness::majority_lacks(table).is_empty();
    if scene.stage != Stage::Member || !table.covers_all_slots() || !in_touch {
        return;
    }
    for (ordinal, peer) in &scene.peers {
        if peer.virgin() && table.get(&peer.facts.id).is_none() {
            let evidence = format!(
                "{} is new: {} is empty and knows nobody",
                peer.claim.pod, peer.facts.id
            );
            plan.act(format!("meet {ordinal}"), GAP, meet(scene, peer), evidence);
        }
    }
}

/// The MEET of a verified peer at the address where it was verified.
pub(super) fn meet(scene: &Scene<'_>, peer: &Peer<'_>) -> Action {
    Action::Meet {
        pod: scene.policy.pod(peer.ordinal),
        ip: peer.socket.ip(),
        port: peer.socket.port(),
        bus_port: peer.facts.bus_port,
    }
}
