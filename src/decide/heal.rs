//! A node that moved is met at the address where it answers now, and a replica that still dials
//! its master's old address is pointed at the present one. Every agent does so for its own table:
//! Redis spreads new addresses by gossip, but replication links do not follow that.

use super::guard::Cleared;
use super::invite;
use super::memory::LOST_QUESTIONS;
use super::plan::Plan;
use super::readiness;
use super::scene::{Scene, Unverified, answered_id, verify};
use crate::model::decision::Action;
use crate::model::node_table::NodeEntry;
use crate::model::observation::{OwnFacts, PeerAgent, PeerFacts, PeerRedis, Stage};
use crate::model::reason::ReasonCode;
use std::net::SocketAddr;
use std::time::Duration;

/// A MEET stays armed for `cluster-node-timeout`, at least 1 s, and its handshake takes some 0.2 s.
const MEET_GAP: Duration = Duration::from_millis(1200);
const JUST_NOW: Duration = Duration::from_millis(300);
const REPLICATE_GAP: Duration = Duration::from_secs(2);

/// Meets known nodes at their present addresses (S1: an ID that is in the own table already) and
/// repairs the own replication link (S5: the present master's own ID).
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let Some(own) = scene.own else { return };
    for (socket, answer) in &scene.memory.answers {
        let PeerRedis::Up(facts) = &answer.redis else {
            continue;
        };
        // Its agent is the one who knows: an address may change hands between the two questions.
        let foreign = verify(scene.policy, *socket, answer);
        if matches!(foreign, Err(Unverified::Foreign { .. })) {
            continue;
        }
        let known = own.table.others().find(|node| node.id == facts.id);
        let Some(node) = known.filter(|node| node.socket() != Some(*socket)) else {
            continue;
        };
        let key = format!("heal {} {socket}", node.id);
        let places = [Some(*socket), node.socket()];
        let due = plan.due(&key, MEET_GAP);
        if due && !heard_now(scene, plan, &places) {
            plan.hurry();
            continue;
        }
        if is_there(scene, node) {
            continue;
        }
        if may_be_there(scene, node) {
            ask_at_once(plan, &places);
            plan.hurry();
            continue;
        }
        plan.hurry();
        if just_met(scene, socket) {
            continue;
        }
        let evidence = format!(
            "{} answers there, and the table has it at {}",
            node.id,
            where_it_was(node)
        );
        let action = Action::Meet {
            pod: scene.name_of(&node.id),
            ip: socket.ip(),
            port: socket.port(),
            bus_port: facts.bus_port,
        };
        plan.act(key, MEET_GAP, action, evidence);
    }
    become_known(scene, own, plan);
    introduce_again(scene, own, plan);
    repair_link(scene, own, plan);
}

/// A node that was forgotten while it was away (S6) still knows the others. To them it is a stranger,
/// which they answer and do not believe; only a MEET of its own makes it known again.
fn become_known(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) {
    let Some(me) = scene.me.filter(|_| scene.stage == Stage::Member) else {
        return;
    };
    for peer in scene.peers.values() {
        let (id, socket) = (peer.facts.id, peer.socket);
        let known = own.table.others().find(|node| node.id == id);
        let settled = known.is_some_and(|node| node.socket() == Some(socket) && node.connected);
        // A lone master knows nobody once it has forgotten the others.
        let knows = !peer.facts.knows.is_empty() || is_as_told(own, peer.facts);
        let member = peer.claim.stage == Some(Stage::Member) && knows;
        let key = format!("introduce {id}");
        if !settled || !member || peer.facts.knows.contains(&me.id) || !plan.due(&key, MEET_GAP) {
            continue;
        }
        if heard_now(scene, plan, &[Some(socket)]) {
            let action = super::invite::meet(scene, peer);
            let evidence = format!("{id} is in this node's table, and does not know this node");
            plan.act(key, MEET_GAP, action, evidence);
        }
    }
}

/// A new pod whose handshake was cut off may know nobody while this node's table has it: Redis answers
/// the pings of strangers, so that it even seems to be in reach. Where there are more members, another
/// one's gossip makes up for it; a lone master has to meet it once more. The same goes for a pod that
/// was killed while a cluster was being formed, before its nodes.conf had the others: it owns its slots.
fn introduce_again(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) {
    for (socket, answer) in &scene.memory.answers {
        let PeerRedis::Up(facts) = &answer.redis else {
            continue;
        };
        let here = |node: &&NodeEntry| node.id == facts.id && node.socket() == Some(*socket);
        let empty = facts.slots.is_empty() && facts.keys == 0 && facts.master.is_none();
        let lonely = facts.knows.is_empty() && (empty || has_done_its_part(scene, own, facts));
        let foreign = verify(scene.policy, *socket, answer);
        if !lonely
            || scene.stage != Stage::Member
            || matches!(foreign, Err(Unverified::Foreign { .. }))
            || !own.table.others().any(|node| here(&node))
        {
            continue;
        }
        // The invitation's own key: a handshake that is under way gets its time.
        let Some(key) = scene.ordinal_of(&facts.id).map(|k| format!("meet {k}")) else {
            continue;
        };
        if plan.due(&key, invite::GAP) && !heard_now(scene, plan, &[Some(*socket)]) {
            plan.hurry();
            continue;
        }
        let action = Action::Meet {
            pod: scene.name_of(&facts.id),
            ip: socket.ip(),
            port: socket.port(),
            bus_port: facts.bus_port,
        };
        let evidence = format!("{} is in the table, and knows nobody itself", facts.id);
        plan.act(key, invite::GAP, action, evidence);
    }
}

/// Whether it is as the own table has it, and has not been a member yet: a former member that knows
/// nobody has lost its nodes.conf (S11).
fn has_done_its_part(scene: &Scene<'_>, own: &OwnFacts, facts: &PeerFacts) -> bool {
    let peer = scene.peer_with_id(&facts.id);
    let forming = peer.is_some_and(|peer| peer.claim.stage == Some(Stage::Forming));
    forming && is_as_told(own, facts)
}

/// Whether it owns slots, and what the own table says, and not because Redis found keys in them, which it
/// claims with epoch 0: so its nodes.conf was not lost (S11).
fn is_as_told(own: &OwnFacts, facts: &PeerFacts) -> bool {
    let same = |node: &NodeEntry| node.slots == facts.slots && node.epoch == facts.epoch;
    let owner = !facts.slots.is_empty() && (facts.epoch > 0 || facts.keys == 0);
    owner && own.table.get(&facts.id).is_some_and(same)
}

/// Whether all these places have been asked in this very round, silent ones included; otherwise
/// they will be in the next one. An answer of an earlier round may be of a Redis that has been
/// replaced since (S11), and the one place must not be left out when it has the same ID (S10).
pub(super) fn heard_now(scene: &Scene<'_>, plan: &mut Plan, places: &[Option<SocketAddr>]) -> bool {
    let answers = &scene.memory.answers;
    let now = |place: &SocketAddr| answers.get(place).is_some_and(|a| a.at == scene.seen.now);
    let all = places.iter().flatten().all(now);
    if !all {
        ask_at_once(plan, places);
    }
    all
}

fn ask_at_once(plan: &mut Plan, places: &[Option<SocketAddr>]) {
    let places = places.iter().flatten();
    places.for_each(|place| plan.ask(*place, Duration::ZERO));
}

/// Whether the node answers where the table has it, too, or its agent does: a Redis that loads says
/// nothing of who it is, and may be the other one of two with one ID (S10).
fn is_there(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let there = node.socket().and_then(|old| scene.memory.answers.get(&old));
    there.is_some_and(|answer| {
        let claimed = match &answer.agent {
            PeerAgent::Says(claim) => claim.node_id,
            PeerAgent::Silent(_) => None,
        };
        answered_id(answer).or(claimed) == Some(node.id)
    })
}

/// Whether it may be where the table has it, though it has not answered in time: the own Redis has it in reach there,
/// and single questions are lost (S2, S10).
fn may_be_there(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let old = node.socket();
    let silences = old.and_then(|old| scene.memory.silences.get(&old));
    scene.hears(node) && silences.is_some_and(|times| *times < LOST_QUESTIONS)
}

/// Whether another rule had this address met a moment ago, while the first cluster was formed (S12).
fn just_met(scene: &Scene<'_>, socket: &SocketAddr) -> bool {
    let met = scene.memory.met.get(socket);
    met.is_some_and(|met| scene.seen.now - met.at < JUST_NOW)
}

fn where_it_was(node: &NodeEntry) -> String {
    match node.socket() {
        Some(socket) => socket.to_string(),
        None => "no address".to_owned(),
    }
}

/// Replication checks no node ID: a replica dials the address it was given, and copies whatever
/// answers there.
fn repair_link(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) {
    let Some(replica) = &own.server.replica else {
        return;
    };
    let master = scene.me.and_then(|me| own.table.get(me.master.as_ref()?));
    // Unknown where it is no address: Redis sets the link a moment after the role.
    let (Some(master), Ok(host)) = (master, replica.master_host.parse()) else {
        return;
    };
    let dials = SocketAddr::new(host, replica.master_port);
    let present = master.socket();
    if present == Some(dials) && master.healthy() {
        return;
    }
    if replica.link_up && leads_to(scene, own, plan, dials, master) {
        return;
    }
    let Some(present) = present.filter(|present| *present != dials) else {
        return;
    };
    plan.hurry();
    let key = "repair link".to_owned();
    let due = plan.due(&key, REPLICATE_GAP);
    if !due || !heard_now(scene, plan, &[Some(present), Some(dials)]) {
        return;
    }
    let still_there = scene.memory.answers.get(&dials).and_then(answered_id) == Some(master.id);
    if scene.slot_owner_answers(present, &master.id) && !still_there {
        let evidence =
            format!("it is this node's master, at {present}, and replication dials {dials}");
        let pod = scene.name_of(&master.id);
        let repair = format!("replication dialled {dials}, and {pod} is at {present}");
        let action = Action::Replicate {
            master: master.id,
            pod,
        };
        if plan.act(key, REPLICATE_GAP, action, evidence) {
            plan.happened("link-repaired", repair);
        }
    }
}

/// Whether a link that is up may be taken to lead to the master. While nobody knows who answers
/// there, a ready node stays ready (S2), and another one does not become it.
fn leads_to(
    scene: &Scene<'_>,
    own: &OwnFacts,
    plan: &mut Plan,
    dials: SocketAddr,
    master: &NodeEntry,
) -> bool {
    let answer = scene.memory.answers.get(&dials);
    if answer.is_none() {
        plan.ask(dials, Duration::ZERO);
    }
    let name = scene.name_of(&master.id);
    let blames = readiness::whom_a_link_waits_for(
        scene,
        &own.table,
        Some(&master.id),
        master.master.as_ref(),
    );
    match answer.and_then(answered_id) {
        Some(id) if id == master.id => true,
        Some(_) => {
            let message = format!("the replication link is to {dials}, where {name} is no more");
            plan.block_on(ReasonCode::ReplicaLinkDown, message, &blames);
            false
        }
        None => {
            if scene.memory.restless_since.is_some() {
                let message = format!(
                    "the replication link is to {dials}, and nobody there has proved to be {name}"
                );
                plan.block_on(ReasonCode::ReplicaLinkDown, message, &blames);
            }
            true
        }
    }
}
