//! Who owns what: no slot has two owners at one epoch; and who sees no majority of the owners.

use super::fake::Node;
use super::invariants::RECENTLY_MS;
use super::world::World;
use redis_sidecar::model::identity::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Two live masters of one cluster never own a slot at one epoch.
pub(crate) fn one_owner_a_slot(world: &mut World) {
    if world.judge.clone_planted || world.judge.merge_planted {
        return;
    }
    let mut owners: BTreeMap<(usize, u32, u64), usize> = BTreeMap::new();
    let mut found = None;
    for (pod, p) in world.pods.iter().enumerate() {
        let Some(node) = &p.node else { continue };
        let me = node.me();
        if me.replica || me.epoch == 0 {
            continue;
        }
        for seg in node.segs().filter(|seg| me.segs & seg != 0) {
            if let Some(other) = owners.insert((p.cluster, seg, me.epoch), pod) {
                found = Some((other, pod, me.epoch));
            }
        }
    }
    // Redis itself gives two masters one epoch, where one was away while the other was elected; they make
    // them differ when they next hear of each other (`clusterHandleConfigEpochCollision`).
    let apart = |&(a, b, _): &(usize, usize, u64)| !world.reaches(a, b);
    let found = found.filter(|pair| !apart(pair));
    let since = world
        .judge
        .one_epoch
        .filter(|(pair, _)| Some(*pair) == found);
    let since = since.map_or(world.now, |(_, since)| since);
    world.judge.one_epoch = found.map(|pair| (pair, since));
    let differ_within = 2 * world.layout.node_timeout + 2000;
    if let Some((a, b, epoch)) = found.filter(|_| world.now - since > differ_within) {
        let (a, b) = (world.pod_name(a), world.pod_name(b));
        world
            .judge
            .blame(format!("{a} and {b} own the same slots at epoch {epoch}"));
    }
}

/// Who owns slots now, and who no longer does.
pub(crate) fn note_owners(world: &mut World) {
    let masters = world.pods.iter().filter_map(|p| p.node.as_ref());
    let masters = masters.filter(|node| !node.me().replica && node.me().segs != 0);
    let now: BTreeSet<NodeId> = masters.map(|node| node.id).collect();
    let before = std::mem::replace(&mut world.judge.owners, now);
    for id in before.difference(&world.judge.owners) {
        world.judge.slots_lost_at.insert(*id, world.now);
    }
}

/// Since when each node has seen no majority of the slot owners.
pub(crate) fn note_minorities(world: &mut World) {
    let now = world.now;
    world.judge.minority_looked = now;
    for (pod, p) in world.pods.iter().enumerate() {
        if p.node.as_ref().is_some_and(sees_no_majority) {
            world.judge.minority_since.entry(pod).or_insert(now);
        } else {
            world.judge.minority_since.remove(&pod);
        }
    }
}

/// What an agent sees may be there for less than the judge's gap (seed 2700015888).
pub(crate) fn note_majority(world: &mut World, pod: usize) {
    let node = world.pods[pod].node.as_ref();
    if node.is_some_and(|node| !sees_no_majority(node)) {
        world.judge.minority_since.remove(&pod);
    }
}

fn sees_no_majority(node: &Node) -> bool {
    let owners = node.recs.values().filter(|rec| rec.segs != 0);
    let lost = owners.filter(|rec| rec.fail || rec.pfail).count();
    lost > 0 && lost * 2 >= node.size()
}

/// Whether this pod's node sees no majority, and has not for longer than its agent may not have noticed.
pub(crate) fn cut_off(world: &World, pod: usize, node: &Node) -> bool {
    let since = world.judge.minority_since.get(&pod);
    since.is_some_and(|since| world.now - since > RECENTLY_MS) && sees_no_majority(node)
}
