//! A MEET stays armed in Redis for the node timeout, at least 1 s (`clusterStartHandshake`): until its
//! handshake is done, Redis would take whoever answers at that address for the node that was meant.
//! So an agent that had somebody met keeps asking that address, and has Redis drop the handshake as
//! soon as another node answers there, or nobody does (S1).
//!
//! Dropping is FORGET of the handshake's own random ID, which is no node's and is gone with it.

use super::guard;
use super::plan::Plan;
use super::scene::{Scene, Unverified, answered_id, verify};
use crate::model::decision::Action;
use std::net::SocketAddr;
use std::time::Duration;

/// A handshake with a node that is there takes some 0.2 s; one with a node that is gone is dropped
/// before anybody else could have come to its address.
const PATIENCE: Duration = Duration::from_millis(500);
const GAP: Duration = Duration::from_millis(200);
/// Handshakes that somebody else began are looked at for foreign nodes.
const OTHERS_ASKED_EVERY: Duration = Duration::from_millis(900);

/// Drops handshakes whose address is not, or not any more, that of the node to be met.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let Some(table) = scene.table() else { return };
    if guard::foreign_in_table(scene).is_some() {
        return;
    }
    for node in table.nodes.iter().filter(|node| node.flags.handshake()) {
        let Some(socket) = node.socket() else {
            continue;
        };
        if let Some(evidence) = wrong(scene, plan, socket) {
            let (id, ip) = (node.id, socket.ip());
            let action = Action::DropHandshake { id, ip };
            plan.act(format!("drop {id}"), GAP, action, evidence);
            plan.hurry();
        }
    }
}

/// Why what is at this address is not to be shaken hands with.
fn wrong(scene: &Scene<'_>, plan: &mut Plan, socket: SocketAddr) -> Option<String> {
    let answer = scene.memory.answers.get(&socket);
    if let Some(answer) = answer
        && let Err(Unverified::Foreign { cluster, .. }) = verify(scene.policy, socket, answer)
    {
        return Some(format!("{socket} belongs to the cluster {cluster} now"));
    }
    let Some(met) = scene.memory.met.get(&socket) else {
        // By another agent, or by a person, who may meet a node that has no agent.
        plan.ask(socket, OTHERS_ASKED_EVERY);
        return None;
    };
    plan.ask(socket, Duration::ZERO);
    plan.hurry();
    if let Some(found) = answer.and_then(answered_id)
        && found != met.id
    {
        return Some(format!("{} was met there, and {found} answers now", met.id));
    }
    let silent_for = scene.seen.now - met.seen_at;
    (silent_for > PATIENCE).then(|| format!("{} was met there, and answers no more", met.id))
}
