//! Whom to ask in the next round. A steady cluster gives no doubt, so nobody is asked.

use super::plan::Plan;
use super::scene::{Peer, Scene};
use crate::model::node_table::NodeEntry;
use crate::model::observation::Stage;
use crate::model::peers::DnsAnswer;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A verified peer is asked again before its answer gets too old to act on (S1: one second).
const REFRESH: Duration = Duration::from_millis(900);

/// This pod's name at another address may be its own second address, for ever.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Asks about expected pods while there is no cluster; later about pods whose address in DNS and
/// healthy line in the own table do not agree, about all while the marker on the volume is another
/// cluster's, about IDs that belong to no known pod, and about this pod's own name where it leads
/// elsewhere.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let Some(table) = scene.table() else { return };
    let by_ordinal: BTreeMap<u32, &NodeEntry> = table
        .others()
        .filter_map(|node| Some((scene.ordinal_of(&node.id)?, node)))
        .collect();
    let me = scene.policy.me.ordinal;

    if scene.stage != Stage::Member {
        for ordinal in scene.policy.expected_peers() {
            wonder(scene, plan, scene.sockets_of(ordinal));
        }
    }
    // Without the Service's own name, the names of those that are out of reach may still answer.
    let lost = |k: u32| !by_ordinal.get(&k).is_some_and(|node| node.healthy());
    let unlisted = scene.seen.dns.answer != DnsAnswer::Answered;
    if unlisted && scene.policy.expected_peers().any(lost) {
        plan.ask_missing();
    }
    let in_dns = scene
        .seen
        .dns
        .addresses
        .keys()
        .filter(|ordinal| **ordinal != me);
    for ordinal in in_dns {
        let sockets = scene.sockets_of(*ordinal);
        let agrees = by_ordinal.get(ordinal).is_some_and(|node| {
            node.healthy()
                && node
                    .socket()
                    .is_some_and(|socket| sockets.contains(&socket))
        });
        if !agrees || scene.marker_of_another().is_some() {
            wonder(scene, plan, sockets);
        }
    }
    // A successor of this pod, started while this one was taken for dead, may have its ID (S10).
    for socket in scene.seen.dns.addresses.get(&me).into_iter().flatten() {
        let socket = SocketAddr::new(*socket, scene.policy.redis_port);
        if socket.ip() != scene.policy.pod_ip {
            plan.ask(socket, ELSEWHERE);
        }
    }
    let strangers = table
        .others()
        .filter(|node| !scene.memory.pods.contains_key(&node.id));
    wonder(
        scene,
        plan,
        strangers.filter_map(NodeEntry::socket).collect(),
    );
}

fn wonder(scene: &Scene<'_>, plan: &mut Plan, sockets: Vec<SocketAddr>) {
    let own = SocketAddr::new(scene.policy.pod_ip, scene.policy.redis_port);
    for socket in sockets.into_iter().filter(|socket| *socket != own) {
        let known = |peer: &Peer<'_>| peer.socket == socket && peer.knows_its_stage();
        let gap = if scene.peers.values().any(known) {
            REFRESH.saturating_sub(plan.pace(scene))
        } else {
            Duration::ZERO
        };
        plan.ask(socket, gap);
    }
}
