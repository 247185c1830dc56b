//! A node that moved is met at the address where it answers now, and a replica that still dials
//! its master's old address is pointed at the present one. Every agent does so for its own table:
//! Redis spreads new addresses by gossip, but replication links do not follow that.

use super::guard::Cleared;
use super::plan::Plan;
use super::scene::{Scene, answered_id};
use crate::model::decision::Action;
use crate::model::node_table::NodeEntry;
use crate::model::observation::{OwnFacts, PeerRedis};
use crate::model::reason::ReasonCode;
use std::net::SocketAddr;
use std::time::Duration;

/// A MEET stays armed for `cluster-node-timeout`, at least 1 s, and its handshake takes some 0.2 s.
const MEET_GAP: Duration = Duration::from_millis(1200);
const REPLICATE_GAP: Duration = Duration::from_secs(2);

/// Meets known nodes at their present addresses (S1: an ID that is in the own table already) and
/// repairs the own replication link (S5: the present master's own ID).
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let Some(own) = scene.own else { return };
    for (socket, answer) in &scene.memory.answers {
        let PeerRedis::Up(facts) = &answer.redis else {
            continue;
        };
        let known = own.table.others().find(|node| node.id == facts.id);
        let Some(node) = known else { continue };
        if node.socket() != Some(*socket) && lost_sight_of(scene, plan, node) {
            plan.hurry();
            let pod = scene.name_of(&node.id);
            let evidence = format!(
                "{} answers there, and the table has it at {}",
                node.id,
                where_it_was(node)
            );
            let key = format!("heal {} {socket}", node.id);
            let action = Action::Meet {
                pod,
                ip: socket.ip(),
                port: socket.port(),
                bus_port: facts.bus_port,
            };
            plan.act(key, MEET_GAP, action, evidence);
        }
    }
    repair_link(scene, own, plan);
}

/// Whether the address in the table leads to the node no more. A link that Redis still dials looks
/// connected, so where it looks healthy the address itself is asked first.
fn lost_sight_of(scene: &Scene<'_>, plan: &mut Plan, node: &NodeEntry) -> bool {
    let Some(old) = node.socket().filter(|_| node.healthy()) else {
        return true;
    };
    match scene.memory.answers.get(&old) {
        Some(answer) => answered_id(answer) != Some(node.id),
        None => {
            plan.ask(old, Duration::ZERO);
            false
        }
    }
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
    if replica.link_up && leads_to(scene, plan, dials, master) {
        return;
    }
    let Some(present) = present.filter(|present| *present != dials) else {
        return;
    };
    plan.hurry();
    let verified = scene.slot_owner_answers(present, &master.id);
    if !verified {
        plan.ask(present, Duration::ZERO);
    } else {
        let evidence =
            format!("it is this node's master, at {present}, and replication dials {dials}");
        let action = Action::Replicate {
            master: master.id,
            pod: scene.name_of(&master.id),
        };
        plan.act("repair link".to_owned(), REPLICATE_GAP, action, evidence);
    }
}

/// Whether a link that is up may be taken to lead to the master. While nobody knows who answers
/// there, a ready node stays ready (S2), and another one does not become it.
fn leads_to(scene: &Scene<'_>, plan: &mut Plan, dials: SocketAddr, master: &NodeEntry) -> bool {
    let answer = scene.memory.answers.get(&dials);
    if answer.is_none() {
        plan.ask(dials, Duration::ZERO);
    }
    let name = scene.name_of(&master.id);
    match answer.and_then(answered_id) {
        Some(id) if id == master.id => true,
        Some(_) => {
            let message = format!("the replication link is to {dials}, where {name} is no more");
            plan.block(ReasonCode::ReplicaLinkDown, message);
            false
        }
        None => {
            if scene.memory.restless_since.is_some() {
                let message = format!(
                    "the replication link is to {dials}, and nobody there has proved to be {name}"
                );
                plan.block(ReasonCode::ReplicaLinkDown, message);
            }
            true
        }
    }
}
