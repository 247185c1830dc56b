//! What must hold before any rule may change the topology.

use super::adopt;
use super::memory;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::identity::NodeId;
use crate::model::node_table::NodeTable;
use crate::model::observation::{Stage, Volume};
use crate::model::reason::ReasonCode;
use std::net::SocketAddr;
use std::time::Duration;

/// Proof that the guard let this round pass. Only [`rule`] makes one.
pub struct Cleared(());

/// Holds everything back while an ID that was seen to be foreign is in the own table (S9), while
/// two pods have one node ID (S10), while nodes.conf is lost (S11), while what the volume says cannot
/// be read or is another cluster's, while a person has paused the agent, or while the own Redis is
/// not in full service.
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
    if let Some((id, pods)) = doubled_id(scene) {
        // Asked in every round, so that it is reported without a break until one is gone.
        let places = scene.memory.places.get(&id).into_iter().flatten();
        places.for_each(|(socket, _)| plan.ask(*socket, Duration::ZERO));
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
    if identity_lost(scene) {
        return None;
    }
    (!plan.is_paused()).then_some(Cleared(()))
}

/// A former member that knows nobody: its nodes.conf was lost. What it has left, slots claimed by
/// their keys included, is not the cluster (S11); the readiness rule says so.
fn identity_lost(scene: &Scene<'_>) -> bool {
    let alone = |table: &NodeTable| table.others().next().is_none();
    scene.stage == Stage::Member && scene.table().is_some_and(alone) && scene.policy.expected() > 1
}

/// A node of another cluster in the own table: then Redis is told nothing, but for the node timeout
/// that a cut-off hastening left short (S9).
pub fn foreign_in_table<'a>(scene: &Scene<'a>) -> Option<(&'a NodeId, &'a (String, SocketAddr))> {
    let table = scene.table()?;
    let mut foreign = scene.memory.foreign.iter();
    foreign.find(|(id, _)| table.get(id).is_some())
}

/// A node ID that answers twice, and where.
fn doubled_id(scene: &Scene<'_>) -> Option<(NodeId, Vec<String>)> {
    scene.memory.places.iter().find_map(|(id, places)| {
        if !memory::are_two(scene.policy, *id, places.values(), &scene.seen.own) {
            return None;
        }
        let elsewhere = places.iter().map(|(socket, place)| match place.ordinal {
            Some(ordinal) => format!("{} at {socket}", scene.policy.pod(ordinal)),
            None => format!("a Redis at {socket}"),
        });
        let mine = scene.me.is_some_and(|me| me.id == *id);
        let here = mine.then(|| scene.policy.me.to_string());
        Some((*id, here.into_iter().chain(elsewhere).collect()))
    })
}
