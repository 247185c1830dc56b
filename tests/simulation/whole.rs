//! What must have come of a history when all faults are over. What must hold at every step is in
//! `invariants.rs`.

use super::fake::{LinkState, Node};
use super::layout::cluster_name;
use super::world::{Pod, World};
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::reason::ReasonCode;
use std::collections::BTreeMap;

/// Why this cluster is not whole, if it is not.
pub(crate) fn not_whole(world: &World, cluster: usize) -> Option<String> {
    let pods: Vec<usize> = (0..world.pods.len())
        .filter(|pod| world.pods[*pod].cluster == cluster)
        .collect();
    let mut owners: BTreeMap<u32, NodeId> = BTreeMap::new();
    let ids = ids_of(world, cluster);
    for pod in &pods {
        let name = world.pod_name(*pod);
        let p = &world.pods[*pod];
        let Some(node) = &p.node else {
            return Some(format!("{name} does not run"));
        };
        if !node.state_ok {
            return Some(format!("{name} says cluster_state:fail"));
        }
        for rec in node.recs.values().filter(|rec| rec.id != node.id) {
            let Some(other) = ids.get(&rec.id).map(|other| &world.pods[*other]) else {
                return Some(format!("{name} knows {}, which is nobody", rec.id));
            };
            let healthy = !(rec.fail || rec.pfail || rec.noaddr || rec.handshake);
            if rec.ip != other.ip || !healthy || !rec.link.is_some_and(|link| link.up) {
                return Some(format!("{name} does not see {} as it is", rec.id));
            }
        }
        if node.recs.len() != pods.len() {
            return Some(format!("{name} knows {} nodes", node.recs.len()));
        }
        for seg in node.segs() {
            let Some(owner) = node.owner(seg) else {
                return Some(format!("{name} knows no owner of segment {seg}"));
            };
            if *owners.entry(seg).or_insert(owner.id) != owner.id {
                return Some(format!("{name} sees another owner of segment {seg}"));
            }
        }
        if let Some(why) = wrong_part(*pod, node, &ids) {
            return Some(format!("{name} {why}"));
        }
        let agent = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
        if !agent.is_some_and(|decision| decision.ready) {
            let why = agent.map(|d| super::history::list(&d.reasons));
            return Some(format!("{name} is not ready: {}", why.unwrap_or_default()));
        }
        if p.disk.note.as_ref().is_none_or(|note| !note.member) {
            let cluster = cluster_name(cluster);
            return Some(format!("{name} has no marker of {cluster}"));
        }
    }
    None
}

/// Which pod each node of this cluster runs in.
pub(crate) fn ids_of(world: &World, cluster: usize) -> BTreeMap<NodeId, usize> {
    let pods = world.pods.iter().enumerate();
    let ours = pods.filter(|(_, p)| p.cluster == cluster);
    ours.filter_map(|(pod, p)| Some((p.node.as_ref()?.id, pod)))
        .collect()
}

/// A replica is linked to the very process of its master.
pub(crate) fn wrong_part(pod: usize, node: &Node, ids: &BTreeMap<NodeId, usize>) -> Option<String> {
    let me = node.me();
    if !me.replica {
        return (me.segs == 0).then(|| "is a master without slots".to_owned());
    }
    let master = me.master.and_then(|id| ids.get(&id));
    let linked = node.replication.map(|link| link.state);
    match (linked, master) {
        (Some(LinkState::Up { from }), Some(master)) if from.pod == *master && pod != *master => {
            None
        }
        _ => Some("is not linked to its master".to_owned()),
    }
}

/// When all faults are over, each of two nodes with one ID says so (S10).
pub(crate) fn unreported(world: &World) -> Option<String> {
    let id_of = |p: &Pod| p.node.as_ref().map(|node| node.id);
    for (pod, p) in world.pods.iter().enumerate() {
        let mut others = world.pods.iter().enumerate();
        let doubled = others.any(|(other, q)| other != pod && id_of(p) == id_of(q));
        let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
        let Some(decision) = decision.filter(|_| doubled && p.node.is_some()) else {
            continue;
        };
        let mut codes = decision.reasons.iter().map(|reason| reason.code);
        if !world.judge.merge_planted && !codes.any(|code| code == ReasonCode::DuplicateNodeId) {
            let name = world.pod_name(pod);
            return Some(format!(
                "S10: {name} does not say that its ID answers twice"
            ));
        }
    }
    None
}
