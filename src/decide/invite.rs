//! A member introduces a blank pod to the cluster: a virgin one, or one that was interrupted while a
//! first cluster was being formed and knows nobody but others like it. The newcomer itself never meets a member: it
//! cannot tell one cluster from another, and the virgin side has nothing to lose (S1).

use super::guard::Cleared;
use super::plan::Plan;
use super::scene::{Peer, Scene};
use crate::model::decision::Action;
use crate::model::node_table::NodeTable;
use crate::model::observation::Stage;
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two invitations of one pod.
pub(super) const GAP: Duration = Duration::from_secs(2);

/// MEETs verified blank pods that the own table lacks, when this node is a member in touch with
/// a majority of the slot owners.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let Some(table) = scene.table() else { return };
    let in_touch = super::readiness::majority_lacks(scene, table).is_empty();
    if scene.stage != Stage::Member || !table.covers_all_slots() || !in_touch {
        return;
    }
    for (ordinal, peer) in &scene.peers {
        // A pod that says that its ID answers twice may know a twin that nobody here has met (S10).
        if table.get(&peer.facts.id).is_some() || peer.claim.doubled {
            continue;
        }
        let knows = if peer.virgin() {
            "nobody"
        } else {
            "only members and others like it"
        };
        if peer.virgin() || (peer.blank() && knows_but_blank(peer, &scene.peers, table)) {
            let (pod, id) = (&peer.claim.pod, peer.facts.id);
            let evidence = format!("{pod} is new: {id} is empty and knows {knows}");
            plan.act(format!("meet {ordinal}"), GAP, meet(scene, peer), evidence);
        }
    }
}

/// Whether everybody that this pod knows is in the own table, or is a verified blank pod of this
/// cluster itself: whoever comes along with it has nothing either.
fn knows_but_blank(peer: &Peer<'_>, others: &BTreeMap<u32, Peer<'_>>, table: &NodeTable) -> bool {
    peer.facts.knows.iter().all(|id| {
        let mut others = others.values();
        let known = others.find(|other| other.facts.id == *id);
        table.get(id).is_some() || known.is_some_and(Peer::blank)
    })
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
