//! Whether this replica runs where its master does: the end of that machine would be the end of both.
//! New replicas are placed elsewhere where they can be (`placement`); the first shape is placed by
//! number, and Kubernetes moves pods as it likes.
//!
//! In: NODE_NAME and ZONE, the master's own from its `/role`, asked once for each address it has.
//! Out: a warning. Nothing is moved: to become another master's replica is to drop one's data.

use super::plan::Plan;
use super::scene::Scene;
use crate::model::identity::NodeId;
use crate::model::observation::Stage;
use crate::model::reason::ReasonCode;
use std::net::SocketAddr;
use std::time::Duration;

const ASK_GAP: Duration = Duration::from_secs(10);

/// Where the own master runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterPlace {
    /// Its ID.
    pub master: NodeId,
    /// Where it answered then: with another address it may run elsewhere.
    pub socket: SocketAddr,
    /// Its NODE_NAME; empty when not told.
    pub node_name: String,
    /// Its ZONE; empty when not told.
    pub zone: String,
    /// Somebody was seen to run in another zone than this pod.
    pub other_zones: bool,
}

/// Warns of a replica on its master's machine, or in its zone where there are others.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let (node_name, zone) = (&scene.policy.node_name, &scene.policy.zone);
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return;
    };
    if (node_name.is_empty() && zone.is_empty()) || scene.stage != Stage::Member {
        return;
    }
    let master = me.master.and_then(|id| own.table.get(&id));
    let Some((master, socket)) = master.and_then(|it| Some((it, it.socket()?))) else {
        return;
    };
    if let Some(peer) = scene.peer_with_id(&master.id) {
        let mut others = scene.peers.values().map(|other| &other.claim.zone);
        let here = MasterPlace {
            master: master.id,
            socket,
            node_name: peer.claim.node_name.clone(),
            zone: peer.claim.zone.clone(),
            other_zones: others.any(|other| !other.is_empty() && other != zone),
        };
        let memory = plan.memory_mut();
        let before = memory.master_place.take();
        let other_zones = before.is_some_and(|place| place.other_zones);
        memory.master_place = Some(MasterPlace {
            other_zones: here.other_zones || other_zones,
            ..here
        });
    }
    let known = plan.memory_mut().master_place.clone();
    let Some(place) = known.filter(|it| it.master == master.id && it.socket == socket) else {
        plan.ask(socket, ASK_GAP);
        return;
    };
    let name = scene.name_of(&master.id);
    if !node_name.is_empty() && place.node_name == *node_name {
        plan.warn(
            ReasonCode::ReplicaPlacement,
            format!("runs on the node {node_name}, as its master {name} does"),
        );
    } else if !zone.is_empty() && place.zone == *zone && place.other_zones {
        plan.warn(
            ReasonCode::ReplicaPlacement,
            format!("runs in the zone {zone}, as its master {name} does, and there are others"),
        );
    }
}
