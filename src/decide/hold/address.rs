//! Who may dial this pod's address for a node that had it before.

use super::{ASK_GAP, patience, up_for};
use crate::decide::plan::Plan;
use crate::decide::readiness;
use crate::decide::scene::{Scene, answered_id};
use crate::model::identity::NodeId;
use crate::model::node_table::NodeEntry;
use crate::model::observation::{OwnFacts, PeerAnswer, PeerRedis};
use crate::model::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The nodes that had this pod's address and whose replicas may dial it: somebody follows them, and they are not
/// connected at another one. Who is still to be created dials before anybody has seen it.
pub(super) fn dialled_here(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) -> Vec<NodeId> {
    // Any replica may dial this address, whomever this table has it follow: each that may be alive is asked, `fail`
    // or not, before anybody is let go.
    let young = scene.seen.now - scene.memory.up_seen_since <= patience(own);
    let replicas = own.table.others().filter(|node| node.slots.is_empty());
    let unasked = replicas.filter(|node| young && unasked(scene, node));
    let unasked: Vec<NodeId> = unasked.map(|node| node.id).collect();
    let mut owners = own.table.slot_owners().filter(|node| !node.flags.myself());
    let known = Known {
        scene,
        own,
        waiting: who_waits(scene, own),
        all_asked: unasked.is_empty(),
        owners_heard: owners.all(|node| scene.hears(node)),
    };
    let mut were_here = scene.memory.were_here.clone();
    let mut dialled = Vec::new();
    were_here.retain(|id| match own.table.get(id) {
        Some(node) => {
            let tenant = known.of(node);
            if tenant == FormerTenant::MayBeDialled {
                dialled.push(*id);
            }
            tenant != FormerTenant::LetGo
        }
        None => false,
    });
    if !were_here.is_empty() {
        ask_who_may_dial(scene, own, &were_here, unasked, plan);
    }
    plan.memory_mut().were_here = were_here;
    plan.memory_mut().waiting = known.waiting;
    dialled
}

/// What is thought of a node that had this address.
#[derive(PartialEq, Eq)]
enum FormerTenant {
    /// Nobody dials this address for it.
    LetGo,
    /// Nobody is seen to, and what is in the own table may be from before.
    Watched,
    /// Somebody may.
    MayBeDialled,
}

/// What it is judged by.
struct Known<'a> {
    scene: &'a Scene<'a>,
    own: &'a OwnFacts,
    /// Who waits here, for which node.
    waiting: BTreeMap<NodeId, (NodeId, Moment)>,
    /// Every replica that may be alive has been asked whom it follows and where.
    all_asked: bool,
    /// Every other owner of slots has answered, so that the own table is not from before.
    owners_heard: bool,
}

impl Known<'_> {
    fn of(&self, node: &NodeEntry) -> FormerTenant {
        let Known { scene, own, .. } = *self;
        let waits_here = self.waiting.values().any(|(master, _)| *master == node.id);
        let elsewhere = scene.hears(node) && node.address.ip() != Some(scene.policy.pod_ip);
        // Then somebody who has the data has been elected.
        let succeeded = node.slots.is_empty() && own.table.covers_all_slots();
        // Whose pod is another node by now dials nobody, but for that one.
        let others = own.table.others();
        let mut followers = others.filter(|other| other.master == Some(node.id));
        let followed = waits_here
            || !follow(scene, &node.id).is_empty()
            || followers.any(|other| !readiness::was_replaced(scene, other));
        let harmless = !followed || succeeded;
        if self.all_asked && (elsewhere && !waits_here || harmless && self.owners_heard) {
            return FormerTenant::LetGo;
        }
        let may_yet_be_told = up_for(scene, own) <= patience(own) || scene.may_wait_for_us(None);
        match !harmless || may_yet_be_told || !self.all_asked {
            true => FormerTenant::MayBeDialled,
            false => FormerTenant::Watched,
        }
    }
}

/// Who has not found its master yet waits until it has. Whose pod is another node by now has nothing to drop, and not
/// again when its ID is forgotten.
fn who_waits(scene: &Scene<'_>, own: &OwnFacts) -> BTreeMap<NodeId, (NodeId, Moment)> {
    let mut waiting = scene.memory.waiting.clone();
    waiting.retain(|id, _| {
        let node = own.table.get(id);
        !node.is_some_and(|node| readiness::was_replaced(scene, node))
    });
    waiting
}

/// Those who have not answered yet, and those who follow one of these nodes: as the own table has it, and as it was
/// said last, which may be as old.
fn ask_who_may_dial(
    scene: &Scene<'_>,
    own: &OwnFacts,
    were_here: &BTreeSet<NodeId>,
    unasked: Vec<NodeId>,
    plan: &mut Plan,
) {
    let followers = own.table.others().filter(|node| {
        let master = node.master.as_ref();
        master.is_some_and(|master| were_here.contains(master))
    });
    let followers = followers.map(|node| node.id);
    let waiting = scene.memory.waiting.iter();
    let waiting = waiting.filter(|(_, (master, _))| were_here.contains(master));
    let followers = followers.chain(waiting.map(|(id, _)| *id));
    let followers = followers.chain(unasked);
    let followers = followers.filter_map(|id| scene.ordinal_of(&id));
    let ordinals = followers.chain(were_here.iter().flat_map(|id| follow(scene, id)));
    let sockets: BTreeSet<SocketAddr> = ordinals.flat_map(|k| scene.sockets_of(k)).collect();
    for socket in sockets {
        plan.ask(socket, ASK_GAP);
    }
}

/// The pods that have said last that they follow this node.
fn follow(scene: &Scene<'_>, id: &NodeId) -> Vec<u32> {
    let last = scene.memory.verified.iter();
    let follow = last.filter(|(_, (_, answer))| {
        matches!(&answer.redis, PeerRedis::Up(facts) if facts.master == Some(*id))
    });
    follow.map(|(ordinal, _)| *ordinal).collect()
}

/// Whether this node has not answered lately, and may.
fn unasked(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let memory = scene.memory;
    let mut verified = memory.verified.values();
    let it = |(_, answer): &(SocketAddr, PeerAnswer)| answered_id(answer) == Some(node.id);
    let answered = memory.places.contains_key(&node.id) || verified.any(it);
    !answered && !readiness::was_replaced(scene, node)
}
