//! A MEET stays armed in Redis for the node timeout, at least 1 s (`clusterStartHandshake`): until its
//! handshake is done, Redis would take whoever answers at that address for the node that was meant.
//! So the address of every handshake is asked until it is over, and Redis drops the handshake as soon
//! as another node answers there, or nobody can be reached (S1, `tests/faults/reused.rs`).
//!
//! Dropping is FORGET of the handshake's own random ID, which is no node's and is gone with it.

use super::guard;
use super::plan::Plan;
use super::scene::{Scene, Unverified, answered_id, verify};
use crate::model::decision::Action;
use crate::model::observation::{PeerAgent, PeerRedis, Silence};
use std::net::SocketAddr;
use std::time::Duration;

const GAP: Duration = Duration::from_millis(200);
/// While many pods form a cluster, most of their handshakes are short.
const WATCH: Duration = Duration::from_millis(100);

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
        }
    }
}

/// Why the silence of this Redis ends the handshake.
fn not_to_be_met(scene: &Scene<'_>, socket: SocketAddr, why: &Silence) -> bool {
    // A connection that does not come about looks like one to a Redis that is slow, and while many pods
    // form a cluster on little hardware most are slow.
    let forming = scene.memory.has_formed && scene.memory.gate_run_id.is_none();
    let in_vain = scene.memory.in_vain.get(&socket).copied();
    let allowed = if scene.policy.many() && forming { 2 } else { 0 };
    match why {
        Silence::NotAsked => false,
        Silence::Refused(_) | Silence::Unreachable(_) => true,
        Silence::TimedOut => in_vain.unwrap_or(0) > allowed,
        // It runs and does not say who it is: perhaps another one that has just started there.
        Silence::Auth(_) | Silence::Denied(_) | Silence::NoCluster | Silence::Garbled(_) => {
            !its_agent_says_who(scene, socket)
        }
    }
}

/// Whether the agent there says that it is the node that was met, or one of this cluster where a
/// person, or this agent before its restart, met it.
fn its_agent_says_who(scene: &Scene<'_>, socket: SocketAddr) -> bool {
    let answer = scene.memory.answers.get(&socket);
    let Some(PeerAgent::Says(claim)) = answer.map(|answer| &answer.agent) else {
        return false;
    };
    let met = scene.memory.met.get(&socket).map(|met| met.id);
    claim.cluster == scene.policy.cluster && (met.is_none() || claim.node_id == met)
}

/// Why what is at this address is not to be shaken hands with.
fn wrong(scene: &Scene<'_>, plan: &mut Plan, socket: SocketAddr) -> Option<String> {
    plan.hurry();
    // Rounds may be slow themselves, and the next one is to bring an answer.
    plan.ask(socket, WATCH.saturating_sub(scene.memory.round_took));
    let answer = scene.memory.answers.get(&socket)?;
    if let Err(Unverified::Foreign { cluster, .. }) = verify(scene.policy, socket, answer) {
        return Some(format!("{socket} belongs to the cluster {cluster} now"));
    }
    if let PeerRedis::Silent(why) = &answer.redis
        && answer.at == scene.seen.now
        && not_to_be_met(scene, socket, why)
    {
        return Some(format!("the Redis at {socket} {why}"));
    }
    // A person may have it meet a node that no agent knows; what this agent meant it knows.
    let met = scene.memory.met.get(&socket)?;
    let found = answered_id(answer).filter(|found| *found != met.id)?;
    Some(format!(
        "{} was met at {socket}, and {found} answers now",
        met.id
    ))
}
