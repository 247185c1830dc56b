//! What is told about this node: its role, its slots, whom it follows and every node it knows.
//! Only what was observed this round; a Redis that does not answer has no role.

use super::handoff;
use super::readiness::lag_bytes;
use super::scene::Scene;
use crate::model::decision::{NodeView, Role, View};
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{NodesFile, OwnRedis, Stage};
use std::collections::BTreeMap;

/// What this round's facts say of this node.
pub fn view(scene: &Scene<'_>) -> View {
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return View {
            stopping: handoff::stop_asked(scene).is_some(),
            node_id: id_on_volume(scene),
            role: loading_role(scene),
            owners: owners(scene),
            last_ordinal: last_ordinal(scene),
            blank: super::start::bare(scene) || super::repair::data_is_gone(scene),
            held: super::start::held(scene),
            ..View::default()
        };
    };
    let replica = own.server.replica.as_ref();
    let member = own.table.others().next().is_some() || !me.slots.is_empty();
    // A replica whose master has no address replicates nobody, and INFO calls it a master.
    let is_replica = replica.is_some() || me.flags.replica();
    let role = match () {
        () if is_replica => Role::Replica,
        () if member && scene.stage != Stage::Virgin => Role::Master,
        () => Role::None,
    };
    let pod = |id: &NodeId| {
        scene
            .ordinal_of(id)
            .map(|ordinal| scene.policy.pod(ordinal))
    };
    let nodes = own.table.nodes.iter().map(|entry| NodeView {
        pod: pod(&entry.id),
        entry: entry.clone(),
    });
    View {
        role,
        node_id: Some(me.id),
        slots: me.slots.clone(),
        replica_of: me.master.as_ref().map(|id| scene.name_of(id)),
        link_up: is_replica.then(|| replica.is_some_and(|replica| replica.link_up)),
        lag_bytes: replica.map(|replica| lag_bytes(own, me.master.as_ref(), replica)),
        epoch: Some(me.epoch),
        stopping: handoff::stop_asked(scene).is_some(),
        nodes: nodes.collect(),
        owners: owners(scene),
        last_ordinal: last_ordinal(scene),
        forgets: BTreeMap::new(),
        blank: false,
        held: None,
    }
}

/// From the volume while Redis is away.
fn table<'a>(scene: &Scene<'a>) -> Option<&'a NodeTable> {
    match (&scene.seen.file, scene.table()) {
        (_, Some(table)) => Some(table),
        (NodesFile::Read(conf), None) => Some(&conf.table),
        _ => None,
    }
}

fn last_ordinal(scene: &Scene<'_>) -> u32 {
    let others = table(scene).into_iter().flat_map(NodeTable::others);
    let known = others.filter_map(|node| scene.ordinal_of(&node.id));
    known
        .chain([scene.policy.me.ordinal])
        .max()
        .unwrap_or_default()
}

/// Owners of slots whose pods are known.
fn owners(scene: &Scene<'_>) -> BTreeMap<NodeId, u32> {
    let Some(table) = table(scene) else {
        return BTreeMap::new();
    };
    let ordinal = |node: &NodeEntry| match node.flags.myself() {
        true => Some(scene.policy.me.ordinal),
        false => scene.ordinal_of(&node.id),
    };
    table
        .slot_owners()
        .filter_map(|node| Some((node.id, ordinal(node)?)))
        .collect()
}

/// While loading, INFO still tells the role of a node that has one.
fn loading_role(scene: &Scene<'_>) -> Role {
    match &scene.seen.own {
        OwnRedis::Loading(server, ..) if server.replica.is_some() => Role::Replica,
        OwnRedis::Loading(..) if scene.stage == Stage::Member => Role::Master,
        _ => Role::None,
    }
}

fn id_on_volume(scene: &Scene<'_>) -> Option<NodeId> {
    match &scene.seen.file {
        NodesFile::Read(conf) => conf.table.myself().map(|me| me.id),
        _ => None,
    }
}
