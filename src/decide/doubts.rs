//! Whom to ask in the next round. A steady cluster gives no doubt, so nobody is asked.

use super::form;
use super::hold;
use super::memory::Asking;
use super::plan::Plan;
use super::scene::{self, Peer, Scene};
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{PeerAnswer, Stage};
use crate::model::peers::DnsAnswer;
use crate::model::time::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A verified peer is asked again before its answer gets too old to act on (S1: one second).
const REFRESH: Duration = Duration::from_millis(900);
/// How long all may be asked again and again before this pod gives way to others now and then.
const UNDISTURBED: Duration = Duration::from_secs(3);
/// The first rest; each is twice as long as the one before, and they differ from pod to pod.
const REST: Duration = Duration::from_millis(500);
/// The first wait for who gave no answer in time, doubled with each further answer that is missed.
const IN_VAIN: Duration = Duration::from_millis(100);

/// What grows with the number of pods, so that a small cluster is as quick as it can be: for each
/// expected pod, and for each beyond a few.
mod each {
    use std::time::Duration;

    /// While one is missing, until the others are asked again; not so rarely that they are forgotten.
    pub(super) const WAITING: Duration = Duration::from_millis(200);
    pub(super) const WAITING_MAX: Duration = Duration::from_secs(20);
    /// The longest rest.
    pub(super) const REST_MAX: Duration = Duration::from_millis(100);
    /// The longest wait for who gives no answer in time.
    pub(super) const IN_VAIN_MAX: Duration = Duration::from_millis(100);
    /// Between two questions to somebody who answers and is not verified yet.
    pub(super) const POLITE: Duration = Duration::from_millis(2);
}

/// Of many pods, how many are asked in one round: more would time out waiting for each other.
const AT_ONCE: usize = 16;

/// For so long after its start a pod that may have been forgotten asks, and so often. Valkey 9 refuses a
/// forgotten node for the 60 s of its ban.
const YOUNG_S: u64 = 180;
const FORGOTTEN: Duration = Duration::from_secs(2);

/// This pod's name at another address may be its own second address, for ever.
const ELSEWHERE: Duration = Duration::from_secs(5);
/// How often a replica without its link asks its master.
const MASTER: Duration = Duration::from_secs(1);

/// Asks about expected pods while there is no cluster; later about pods whose address in DNS and
/// healthy line in the own table do not agree, about all while the marker on the volume is another
/// cluster's, about IDs that belong to no known pod, and about this pod's own name where it leads
/// elsewhere.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let Some(table) = scene.table() else {
        // Whether there are members must be known before a blank Redis begins to serve (`hold`).
        if hold::never_ran(scene) {
            acquaint(scene, plan);
            let in_dns = scene.seen.dns.addresses.keys().copied();
            for ordinal in in_dns.filter(|ordinal| *ordinal >= scene.policy.expected()) {
                wonder(scene, plan, scene.sockets_of(ordinal));
            }
        }
        return;
    };
    // A former identity of the same pod says nothing of the present one.
    let mut of_pods: Vec<(u32, &NodeEntry)> = table
        .others()
        .filter_map(|node| Some((scene.ordinal_of(&node.id)?, node)))
        .collect();
    of_pods.sort_by_key(|(_, node)| node.healthy());
    let by_ordinal: BTreeMap<u32, &NodeEntry> = of_pods.into_iter().collect();
    let me = scene.policy.me.ordinal;

    if scene.stage != Stage::Member {
        plan.memory_mut().was_no_member = true;
        acquaint(scene, plan);
    }
    // Without the Service's own name, the names of those that are out of reach may still answer.
    let lost = |k: u32| !by_ordinal.get(&k).is_some_and(|node| node.healthy());
    let unlisted = scene.seen.dns.answer != DnsAnswer::Answered;
    if unlisted && scene.policy.expected_peers().any(lost) {
        plan.ask_missing();
    }
    let in_dns = scene.seen.dns.addresses.keys().filter(|ordinal| {
        let acquainted = scene.stage != Stage::Member && **ordinal < scene.policy.expected();
        **ordinal != me && !acquainted
    });
    let member = scene.stage == Stage::Member;
    for ordinal in in_dns {
        let sockets = scene.sockets_of(*ordinal);
        // Who is still to be waited for is asked all the time, wherever the table has it.
        let settled = by_ordinal.get(ordinal).filter(|_| member);
        let agrees = settled.is_some_and(|node| {
            node.healthy()
                && node
                    .socket()
                    .is_some_and(|socket| sockets.contains(&socket))
        });
        if !agrees || scene.marker_of_another().is_some() {
            wonder(scene, plan, sockets);
        }
    }
    wonder_whether_forgotten(scene, plan, table);
    // A successor of this pod, started while this one was taken for dead, may have its ID (S10).
    for socket in scene.seen.dns.addresses.get(&me).into_iter().flatten() {
        let socket = SocketAddr::new(*socket, scene.policy.redis_port);
        if socket.ip() != scene.policy.pod_ip {
            plan.ask(socket, ELSEWHERE);
        }
    }
    if scene.stage == Stage::Member {
        wonder_who_knows_nobody(scene, plan, table);
    }
    // A master that is there may hold its copies back (S5).
    let linked = scene.own.is_none_or(|own| {
        let replica = own.server.replica.as_ref();
        replica.is_none_or(|replica| replica.link_up || replica.syncing)
    });
    let master = scene.me.and_then(|me| table.get(&me.master?));
    if let Some(socket) = master.filter(|_| !linked).and_then(NodeEntry::socket) {
        plan.ask(socket, MASTER);
    }
    // Who was taken for another cluster's may have been misnamed, and be a pod of this one again.
    let memory = scene.memory;
    let strangers = table.others().filter(|node| {
        !memory.pods.contains_key(&node.id) || memory.foreign.contains_key(&node.id)
    });
    wonder(
        scene,
        plan,
        strangers.filter_map(NodeEntry::socket).collect(),
    );
}

/// A master may know nobody itself (`heal::introduce_again`), and nothing in a table that has it shows
/// that. One without slots is asked as long as it has none. An agent that has seen its own node become a
/// member asks those with slots, too, until each has once proved to be one. Of many each asks two, as
/// gossip does the rest.
fn wonder_who_knows_nobody(scene: &Scene<'_>, plan: &mut Plan, table: &NodeTable) {
    let members = scene.peers.values().filter(|peer| {
        peer.claim.stage == Some(Stage::Member) && table.get(&peer.facts.id).is_some()
    });
    let members: Vec<NodeId> = members.map(|peer| peer.facts.id).collect();
    plan.memory_mut().confirmed.extend(members);
    let masters = table
        .others()
        .filter(|node| node.flags.master() && node.healthy());
    let (empty, owners): (Vec<&NodeEntry>, Vec<&NodeEntry>) =
        masters.partition(|node| node.slots.is_empty());
    let me = scene.me.map(|me| me.id);
    let (before, after): (Vec<&NodeEntry>, Vec<&NodeEntry>) =
        owners.into_iter().partition(|node| Some(node.id) < me);
    let next = after.into_iter().chain(before);
    let next = next.take(if scene.policy.many() { 2 } else { usize::MAX });
    let memory = plan.memory();
    let unsure = next.filter(|node| memory.was_no_member && !memory.confirmed.contains(&node.id));
    let asked: Vec<SocketAddr> = unsure
        .chain(empty)
        .filter_map(|node| node.socket())
        .collect();
    for socket in asked {
        plan.ask(socket, ELSEWHERE);
    }
}

/// A pod beyond the first shape that was away may have been taken for scaled in and forgotten (S6):
/// nothing in its own table shows that, so the others are asked after its start.
fn wonder_whether_forgotten(scene: &Scene<'_>, plan: &mut Plan, table: &NodeTable) {
    let uptime_s = scene.own.map_or(u64::MAX, |own| own.server.uptime_s);
    // It may have read its data for long.
    let loaded = scene.memory.loaded_at;
    let young =
        uptime_s <= YOUNG_S || loaded.is_some_and(|at| (scene.seen.now - at).as_secs() <= YOUNG_S);
    let beyond = scene.policy.me.ordinal >= scene.policy.expected();
    if scene.stage != Stage::Member || !beyond || !young {
        return;
    }
    for socket in table.others().filter_map(NodeEntry::socket) {
        plan.ask(socket, FORGOTTEN);
    }
}

/// All expected pods, of which none may be left out before anything is formed, asked by each of them:
/// for a hundred pods on a few cores that is more than can be answered. So nobody asks again those
/// who are there while others are missing; who gives no answer in time is asked less and less often;
/// and when all are there, who cannot have them all answer within a second gives way to others.
fn acquaint(scene: &Scene<'_>, plan: &mut Plan) {
    let now = scene.seen.now;
    let many = scene.policy.many();
    let mut expected: Vec<u32> = scene.policy.expected_peers().collect();
    if many {
        // Each begins with those that come after it, so that not all ask the same ones first.
        let after = expected.partition_point(|ordinal| *ordinal < scene.policy.me.ordinal);
        expected.rotate_left(after);
    }
    // Nothing waits for all of them any more: this pod joins.
    let joins = form::somebody_is_member(scene);
    let verified = &scene.memory.verified;
    let (there, missing): (Vec<u32>, Vec<u32>) = expected
        .iter()
        .partition(|ordinal| verified.contains_key(ordinal));
    let wanted = missing.iter().chain(there.iter().filter(|_| joins));
    let due = wanted.filter(|ordinal| !many || is_due(scene, **ordinal));
    wonder_in_turn(scene, plan, due.copied().collect());
    if joins || !missing.is_empty() {
        plan.memory_mut().asking = Asking::default();
        let many = scene.policy.beyond_a_few();
        let gap = (each::WAITING * many).min(each::WAITING_MAX);
        for socket in there.iter().flat_map(|ordinal| scene.sockets_of(*ordinal)) {
            plan.ask(socket, gap + REFRESH.saturating_sub(plan.pace(scene)));
        }
        return;
    }
    let Asking {
        since,
        rest_until,
        rests,
    } = plan.memory().asking;
    if rest_until.is_some_and(|until| now < until) {
        return;
    }
    let since = since.unwrap_or(now);
    // A dead stranger in the own table says nothing of how busy the expected pods are.
    let strained = expected.iter().any(|ordinal| {
        let sockets = scene.sockets_of(*ordinal);
        let asked = sockets.iter().filter_map(|at| scene.seen.answers.get(at));
        let mut asked = asked.peekable();
        asked.peek().is_some() && asked.all(PeerAnswer::gave_no_answer_in_time)
    });
    let answered = expected.iter().all(|ordinal| {
        let peer = scene.acquainted.get(ordinal);
        peer.is_some_and(Peer::knows_its_stage)
    });
    plan.memory_mut().asking = Asking {
        since: Some(since),
        rest_until: None,
        rests,
    };
    if strained || (answered && now - since > UNDISTURBED) {
        let rest = (REST * 2_u32.pow(rests.min(10))).min(each::REST_MAX * scene.policy.expected());
        let rest = rest / 2 + rest * (scene.policy.me.ordinal * 7919 % 64) / 64;
        plan.memory_mut().asking.rest_until = Some(now + rest);
        plan.memory_mut().asking.rests = rests.saturating_add(1);
        return;
    }
    let half = scene::acquaintance(scene.policy) / 2;
    let lately = |ordinal: &u32| {
        let known = scene.memory.verified.get(ordinal);
        many && known.is_some_and(|(_, answer)| now - answer.at < half)
    };
    let due = there.into_iter().filter(|ordinal| !lately(ordinal));
    wonder_in_turn(scene, plan, due.collect());
}

/// All of them; of many those who have waited the longest, or the last ones would never have their turn.
fn wonder_in_turn(scene: &Scene<'_>, plan: &mut Plan, mut due: Vec<u32>) {
    if scene.policy.many() {
        due.sort_by_key(|ordinal| last_asked(scene, *ordinal));
        due.truncate(AT_ONCE);
    }
    for ordinal in due {
        wonder(scene, plan, scene.sockets_of(ordinal));
    }
}

fn last_asked(scene: &Scene<'_>, ordinal: u32) -> Option<Moment> {
    let sockets = scene.sockets_of(ordinal);
    let asked = sockets.iter().filter_map(|at| scene.memory.asked.get(at));
    asked.max().copied()
}

/// Whether some address of it would be asked now.
fn is_due(scene: &Scene<'_>, ordinal: u32) -> bool {
    scene.sockets_of(ordinal).iter().any(|socket| {
        let asked = scene.memory.asked.get(socket);
        asked.is_none_or(|at| scene.seen.now - *at >= patience(scene, *socket))
    })
}

fn wonder(scene: &Scene<'_>, plan: &mut Plan, sockets: Vec<SocketAddr>) {
    let own = SocketAddr::new(scene.policy.pod_ip, scene.policy.redis_port);
    for socket in sockets.into_iter().filter(|socket| *socket != own) {
        let known = |peer: &Peer<'_>| peer.socket == socket && peer.knows_its_stage();
        let gap = if scene.peers.values().any(known) {
            REFRESH.saturating_sub(plan.pace(scene))
        } else {
            patience(scene, socket)
        };
        plan.ask(socket, gap);
    }
}

/// Hardly anything for who answers, however little; more and more for who gives no answer in time.
fn patience(scene: &Scene<'_>, socket: SocketAddr) -> Duration {
    match scene.memory.in_vain.get(&socket) {
        Some(times) => {
            let longest = each::IN_VAIN_MAX * scene.policy.expected();
            (IN_VAIN * 2_u32.pow((*times).min(10))).min(longest)
        }
        None => each::POLITE * scene.policy.beyond_a_few(),
    }
}
