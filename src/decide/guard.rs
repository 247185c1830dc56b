//! What must hold before any rule may change the topology.

use super::adopt;
use super::plan::Plan;
use super::scene::{Scene, verify};
use crate::model::identity::NodeId;
use crate::model::observation::{PeerRedis, Stage, Volume};
use crate::model::reason::ReasonCode;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Proof that the guard let this round pass. Only [`rule`] makes one.
pub struct Cleared(());

/// Holds everything back while an ID that was seen to be foreign is in the own table (S9), while
/// two pods have one node ID (S10), while what the volume says cannot be read or is another
/// cluster's, or while the own Redis is not in full service.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) -> Option<Cleared> {
    scene.table()?;
    if let Some((id, (cluster, socket))) = foreign_in_table(scene) {
        plan.block(
            ReasonCode::ForeignNode,
            format!(
                "node {id} at {socket} belongs to the cluster {cluster} and stands in this node's \
                 table; nothing is written until it is gone"
            ),
        );
        return None;
    }
    if let Some((id, pods, sockets)) = doubled_id(scene) {
        // Asked in every round, so that it is reported without a break until one is gone.
        let others = sockets.into_iter();
        others.for_each(|socket| plan.ask(socket, Duration::ZERO));
        let message = format!(
            "{} answer with one node ID, {id}: a volume was cloned; nothing is changed until a \
             person has replaced all but one",
            pods.join(" and ")
        );
        let mine = scene.me.is_some_and(|me| me.id == id);
        if mine || scene.stage != Stage::Member {
            plan.block(ReasonCode::DuplicateNodeId, message);
        } else {
            plan.warn(ReasonCode::DuplicateNodeId, message);
        }
        return None;
    }
    if let Volume::Unreadable(why) = &scene.seen.volume {
        plan.warn(
            ReasonCode::VolumeUnwritable,
            format!("the note on the volume cannot be read, so nothing is changed: {why}"),
        );
        return None;
    }
    if let Some(other) = adopt::marker_in_doubt(scene) {
        plan.block(
            ReasonCode::VolumeOfAnotherCluster,
            format!(
                "the volume is marked as a member of {other}, and this pod belongs to {}; nothing is \
                 changed until all nodes of that cluster answer as pods of this one, or a person \
                 has put the right volume here",
                scene.policy.cluster
            ),
        );
        return None;
    }
    Some(Cleared(()))
}

/// A node of another cluster in the own table: then Redis is told nothing, but for the node timeout
/// that a cut-off hastening left short (S9).
pub fn foreign_in_table<'a>(scene: &Scene<'a>) -> Option<(&'a NodeId, &'a (String, SocketAddr))> {
    let table = scene.table()?;
    let mut foreign = scene.memory.foreign.iter();
    foreign.find(|(id, _)| table.get(id).is_some())
}

/// Where one node ID was seen.
#[derive(Default)]
struct Places {
    ordinals: BTreeSet<u32>,
    runs: BTreeSet<String>,
    names: Vec<String>,
    sockets: Vec<SocketAddr>,
}

/// A node ID that answers for more than one ordinal, or from more than one process, this pod's own
/// included: the names of the places, and where the others were asked.
fn doubled_id(scene: &Scene<'_>) -> Option<(NodeId, Vec<String>, Vec<SocketAddr>)> {
    let mut places: BTreeMap<NodeId, Places> = BTreeMap::new();
    if let (Some(own), Some(me)) = (scene.own, scene.me) {
        let here = places.entry(me.id).or_default();
        here.ordinals.insert(scene.policy.me.ordinal);
        here.runs.insert(own.server.run_id.clone());
        here.names.push(scene.policy.me.to_string());
    }
    for (socket, answer) in &scene.memory.answers {
        let PeerRedis::Up(facts) = &answer.redis else {
            continue;
        };
        let there = places.entry(facts.id).or_default();
        let verified = verify(scene.policy, *socket, answer);
        let ordinal = verified.as_ref().map(|peer| peer.ordinal).ok();
        there.ordinals.extend(ordinal);
        there.runs.insert(facts.run_id.clone());
        let pod = ordinal.map_or_else(|| "a Redis".to_owned(), |k| scene.policy.pod(k));
        there.names.push(format!("{pod} at {socket}"));
        there.sockets.push(*socket);
    }
    let mut doubled = places.into_iter();
    let (id, places) =
        doubled.find(|(_, places)| places.ordinals.len() > 1 || places.runs.len() > 1)?;
    Some((id, places.names, places.sockets))
}
