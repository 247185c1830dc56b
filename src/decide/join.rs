//! A blank pod that the cluster knows becomes a replica of the shard that needs it most (S5).

use super::form;
use super::guard::Cleared;
use super::placement;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{OwnFacts, Stage};
use crate::model::reason::ReasonCode;
use std::time::Duration;

const GAP: Duration = Duration::from_secs(1);
/// How long a newcomer gives its table to show every master well.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);
/// Who introduces this pod, or takes its former slots over, may be a pod that is still to be
/// created: members in a minority introduce nobody.
const SOMEBODY: [Option<u32>; 1] = [None];

/// Waits for an introduction, then picks a master, has it asked, and replicates it.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return;
    };
    let blank = me.slots.is_empty() && !me.flags.replica() && own.server.keys == 0;
    let members_about = form::somebody_is_member(scene);
    let beyond = scene.policy.me.ordinal >= scene.policy.expected();
    if !blank || !may_join(scene) || !(members_about || beyond) {
        return;
    }
    plan.hurry();
    if let Some(old) = old_identity(scene, &own.table) {
        let message =
            format!("this pod's former node {old}; waiting until a replica has taken them over");
        plan.block_on(ReasonCode::OldIdentityOwnsSlots, message, &SOMEBODY);
        return;
    }
    if let Some(ordinal) = lost_shard(scene, &own.table) {
        let message = format!(
            "{} lost its volume, and no replica of it is left: a person must decide what becomes of \
             its slots",
            scene.policy.pod(ordinal)
        );
        plan.block_on(ReasonCode::SlotsUncovered, message, &SOMEBODY);
        return;
    }
    if own.table.others().next().is_none() {
        let message = "waiting for a member to introduce this new node".to_owned();
        plan.block_on(ReasonCode::WaitingForCluster, message, &SOMEBODY);
        return;
    }
    let joining = "this new node is becoming a replica";
    // It waits for a table of all owners, and of one that has failed nobody tells it the slots; and for one of
    // them to join.
    let somebody = own.table.slot_owners().any(|node| scene.in_reach(node));
    if own.table.covers_all_slots() && somebody {
        plan.block(ReasonCode::Joining, joining);
    } else {
        plan.block_on(ReasonCode::Joining, joining, &SOMEBODY);
    }
    if members_about && has_settled(scene, own) {
        replicate_neediest(scene, own, plan);
    }
}

/// A former member without slots stays as it is: a person may have moved its slots away.
fn may_join(scene: &Scene<'_>) -> bool {
    matches!(scene.stage, Stage::Virgin | Stage::Forming)
}

/// A young table shows masters as out of reach that are only not dialled yet. One that stays so is
/// not waited for.
fn has_settled(scene: &Scene<'_>, own: &OwnFacts) -> bool {
    let since = scene.memory.covered_since;
    let long = since.is_some_and(|since| scene.seen.now - since >= SETTLES_WITHIN);
    own.table.covers_all_slots() && (long || own.table.slot_owners().all(NodeEntry::healthy))
}

fn replicate_neediest(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) {
    let Some(master) = placement::neediest_master(scene, &own.table) else {
        return;
    };
    let Some(socket) = master.socket() else {
        return;
    };
    let verified = scene.slot_owner_answers(socket, &master.id);
    // A cluster without agents may have met this pod; what is not one of its pods is not its master.
    let ours = scene.ordinal_of(&master.id).is_some();
    if !verified || !ours {
        plan.ask(socket, Duration::ZERO);
        return;
    }
    let pod = scene.name_of(&master.id);
    let evidence = format!(
        "it owns slots {} and has the fewest replicas; this node is empty",
        master.slots
    );
    let action = Action::Replicate {
        master: master.id,
        pod,
    };
    plan.act("replicate".to_owned(), GAP, action, evidence);
}

/// The node that was this pod's before its volume was lost, and still owns slots: by the name or the
/// address in the table, or by what other pods' agents know. Who comes later hears only its ID, and of
/// a failed one not even the slots. In words.
fn old_identity(scene: &Scene<'_>, table: &NodeTable) -> Option<String> {
    let own_host = scene.policy.hostname.as_str();
    let in_table = table.others().find(|node| {
        let by_name = node.address.hostname() == Some(own_host);
        let by_address = node.address.ip() == Some(scene.policy.pod_ip);
        !node.slots.is_empty() && (by_name || by_address)
    });
    if let Some(node) = in_table {
        return Some(format!("{} still owns slots {}", node.id, node.slots));
    }
    let me = scene.policy.me.ordinal;
    let (id, _) = owners(scene).find(|(_, ordinal)| *ordinal == me)?;
    Some(format!("{id} still owns slots, as other pods say"))
}

/// The owners of slots, as verified pods' agents have them.
fn owners(scene: &Scene<'_>) -> impl Iterator<Item = (NodeId, u32)> {
    let claims = scene.peers.values().map(|peer| &peer.claim.owners);
    claims.flatten().map(|(id, ordinal)| (*id, *ordinal))
}

/// The ordinal of an owner of slots whose pod is another, blank node now, and of which no replica is
/// left: a whole shard's volumes were lost. Nobody takes what a person may bring back.
fn lost_shard(scene: &Scene<'_>, table: &NodeTable) -> Option<u32> {
    let lost = owners(scene).find(|(id, ordinal)| {
        let heir = scene.peers.get(ordinal);
        let replaced = heir.is_some_and(|heir| heir.facts.id != *id && heir.blank());
        let by_table = table
            .others()
            .any(|node| node.master == Some(*id) && !node.flags.fail() && !node.flags.noaddr());
        let mut peers = scene.peers.values();
        let followed = by_table || peers.any(|peer| peer.facts.master == Some(*id));
        replaced && !followed
    });
    lost.map(|(_, ordinal)| ordinal)
}
