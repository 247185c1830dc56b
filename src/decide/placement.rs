//! Which part each ordinal plays in the first cluster, and which shard a newcomer joins.

use super::scene::{Scene, answered_id};
use crate::model::identity::{NodeId, Shape};
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{PeerAgent, PeerClaim, PeerRedis};
use crate::model::slots::SlotSet;
use std::collections::BTreeMap;

/// The part that the plan gives to one ordinal of the first shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A master with these slots.
    Master(SlotSet),
    /// A replica of this ordinal.
    ReplicaOf(u32),
}

/// The plan: ordinals below M are masters, the others replicate 0, 1, .. M-1, 0, 1, .. in turn.
pub fn part(ordinal: u32, shape: &Shape) -> Part {
    let masters = u32::from(shape.masters);
    match u16::try_from(ordinal) {
        Ok(index) if ordinal < masters => Part::Master(SlotSet::planned(index, shape.masters)),
        _ => Part::ReplicaOf(shard(ordinal, shape)),
    }
}

/// The shard that the plan gives an ordinal to: the ordinal of its first master.
pub fn shard(ordinal: u32, shape: &Shape) -> u32 {
    ordinal % u32::from(shape.masters)
}

/// The slots of a shard.
pub fn shard_slots(shard: u32, shape: &Shape) -> SlotSet {
    let index = u16::try_from(shard).unwrap_or(u16::MAX);
    SlotSet::planned(index, shape.masters)
}

/// The master that this blank pod should replicate: the one with the fewest live replicas; among equals one on
/// another machine, then one in another zone, so that not both are lost with it; then the one whose shard the plan
/// gives to this ordinal, then the lowest slot. Where a master runs is known when it has been asked.
pub fn neediest_master<'t>(scene: &Scene<'_>, table: &'t NodeTable) -> Option<&'t NodeEntry> {
    let shape = &scene.policy.shape;
    let own_slots = shard_slots(shard(scene.policy.me.ordinal, shape), shape);
    let own_slot = own_slots.first();
    let is_beside = |master: &NodeEntry, place: fn(&PeerClaim) -> &str, mine: &str| {
        let mut known = scene.memory.verified.values();
        let known = known.find(|(_, answer)| answered_id(answer) == Some(master.id));
        known.is_some_and(|(_, answer)| {
            matches!(&answer.agent, PeerAgent::Says(claim) if !mine.is_empty() && place(claim) == mine)
        })
    };
    table
        .slot_owners()
        .filter(|node| !node.flags.myself() && node.flags.master() && node.healthy())
        .min_by_key(|master| {
            (
                live_replicas(scene, table, &master.id),
                is_beside(master, |claim| &claim.node_name, &scene.policy.node_name),
                is_beside(master, |claim| &claim.zone, &scene.policy.zone),
                !own_slot.is_some_and(|slot| master.slots.contains(slot)),
                master.slots.first(),
            )
        })
}

/// The table of a newcomer learns late who replicates whom, so what a node itself answered goes
/// before what the table says of it.
fn live_replicas(scene: &Scene<'_>, table: &NodeTable, master: &NodeId) -> usize {
    let answered: BTreeMap<&NodeId, Option<&NodeId>> = scene
        .memory
        .answers
        .values()
        .filter_map(|answer| match &answer.redis {
            PeerRedis::Up(facts) => Some((&facts.id, facts.master.as_ref())),
            PeerRedis::Silent(_) => None,
        })
        .collect();
    let failed = |id: &NodeId| {
        let node = table.get(id);
        node.is_some_and(|node| node.flags.fail() || node.flags.noaddr())
    };
    let by_table = table
        .others()
        .filter(|node| !answered.contains_key(&node.id) && !failed(&node.id))
        .filter(|node| node.master.as_ref() == Some(master));
    let by_answer = answered
        .iter()
        .filter(|(id, of)| !failed(id) && **of == Some(master));
    by_table.count() + by_answer.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_and_four_and_five_replicate_zero_one_and_two() {
        let shape = Shape {
            masters: 3,
            replicas_per_master: 1,
        };
        let parts: Vec<Part> = (3..6).map(|ordinal| part(ordinal, &shape)).collect();
        assert_eq!(
            parts,
            [Part::ReplicaOf(0), Part::ReplicaOf(1), Part::ReplicaOf(2)]
        );
    }

    #[test]
    fn second_replicas_start_again_at_the_first_master() {
        let shape = Shape {
            masters: 5,
            replicas_per_master: 2,
        };
        assert_eq!(part(9, &shape), Part::ReplicaOf(4));
        assert_eq!(part(10, &shape), Part::ReplicaOf(0));
        assert_eq!(part(14, &shape), Part::ReplicaOf(4));
    }
}
