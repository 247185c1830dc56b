//! A replica whose master's volume was lost takes its place. Redis alone does so while the old ID is
//! known to have failed; once another node answers at its address the old ID has none (`noaddr`), and
//! such a node never fails (S7: the one use of FORCE).
//!
//! FORCE asks a majority of the masters for their votes, and only not the one that is gone. TAKEOVER
//! asks nobody, and there is no such command here.

use super::guard::Cleared;
use super::heal::heard_now;
use super::plan::Plan;
use super::scene::{Peer, Scene, answered_id};
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{OwnFacts, PeerAgent, PeerRedis, Silence, Stage};
use crate::model::reason::ReasonCode;
use crate::model::time::Moment;
use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

/// An election by force is over after 5 s (`CLUSTER_MF_TIMEOUT`), won or not.
const GAP: Duration = Duration::from_secs(6);
/// The proof must hold for so long without a break.
const PROVED_FOR: Duration = Duration::from_millis(500);
/// Where the old ID has failed, Redis elects by itself; not if the link had been down for too long.
const REDIS_ELECTS: Duration = Duration::from_secs(10);
/// A sibling that does not answer is waited for.
const SIBLINGS: Duration = Duration::from_secs(5);
/// After so long without being elected a person is told. The masters refuse their votes for ever if they
/// note a newer epoch for the lost node than this replica does (SAFETY.md, S6).
const IN_VAIN: Duration = Duration::from_secs(30);
/// Between two looks at the proof.
const UNBROKEN: Duration = Duration::from_secs(3);
/// A replica that held no keys for so long before the loss has lost nothing since.
const EMPTY_BEFORE: Duration = Duration::from_secs(10);

/// That the master's pod has lost it for another ID.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    /// The old ID.
    pub master: NodeId,
    /// When it was first proved.
    pub first: Moment,
    /// Since when that is proved without a break.
    pub since: Moment,
    /// When it was last proved.
    pub seen: Moment,
}

/// Orders the failover by force when the master's identity is provably replaced, a majority answers
/// and this replica has the most of the data.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    note_emptiness(scene, plan);
    let (own, master) = match lost_master(scene, plan) {
        Loss::Proved(own, master) => (own, master),
        Loss::Asked => return,
        Loss::Refuted => return plan.memory_mut().lost = None,
        Loss::None => {
            // A proof that breaks for a while leaves the loss as old as it is.
            if out_of_sight(scene).is_none() {
                plan.memory_mut().lost = None;
            }
            return;
        }
    };
    plan.hurry();
    let now = scene.seen.now;
    let before = scene.memory.lost.as_ref();
    let before = before.filter(|lost| lost.master == master.id);
    let first = before.map_or(now, |lost| lost.first);
    let unbroken = before.filter(|lost| now - lost.seen <= UNBROKEN);
    let since = unbroken.map_or(now, |lost| lost.since);
    plan.memory_mut().lost = Some(Lost {
        master: master.id,
        first,
        since,
        seen: now,
    });
    let name = scene.name_of(&master.id);
    if own.server.keys == 0 && !was_empty(scene, first) {
        plan.warn(
            ReasonCode::SlotsUncovered,
            format!(
                "{name} lost its volume, and this replica holds no keys, so it may have copied the \
                 empty one: a person must decide what becomes of slots {}",
                master.slots
            ),
        );
        return;
    }
    let timeout = own.node_timeout();
    let wait = if master.flags.noaddr() {
        PROVED_FOR
    } else {
        REDIS_ELECTS.max(timeout * 4)
    };
    let majority = majority_answers(scene, plan, &own.table);
    let better = better_sibling(scene, plan, own, now - since >= SIBLINGS);
    let in_vain = now - since >= wait + IN_VAIN;
    if let Some(better) = better.as_ref().filter(|_| in_vain) {
        plan.warn(
            ReasonCode::SlotsUncovered,
            format!(
                "{name} lost its volume, and {better}, which has as much of the data as this replica or \
                 more, has not been elected in its place for {} s",
                (now - since).as_secs()
            ),
        );
    }
    if now - since < wait || !majority || better.is_some() {
        return;
    }
    if in_vain {
        plan.warn(
            ReasonCode::SlotsUncovered,
            format!(
                "{name} lost its volume, and this replica, which has the most of the data, has asked the \
                 masters for {} s in vain to be elected in its place: a person may order CLUSTER FAILOVER \
                 TAKEOVER here",
                (now - since).as_secs()
            ),
        );
    }
    let evidence = format!(
        "{name} has lost its volume, {} answers nowhere, a majority of the \
         masters answers, and this replica has {} keys up to offset {}",
        master.id,
        own.server.keys,
        offset(own)
    );
    let action = Action::ForceFailover {
        master: master.id,
        pod: name,
    };
    if plan.act("succeed".to_owned(), GAP, action, evidence.clone()) {
        plan.happened("failover-forced", evidence);
    }
}

/// Whether the own master is lost.
enum Loss<'a> {
    None,
    /// It answers somewhere.
    Refuted,
    /// Who knows is being asked.
    Asked,
    Proved(&'a OwnFacts, &'a NodeEntry),
}

/// The own master owns slots, is out of everybody's sight, and its pod has proved in this very round
/// to be another, blank node.
fn lost_master<'a>(scene: &Scene<'a>, plan: &mut Plan) -> Loss<'a> {
    let Some(own) = scene.own.filter(|_| scene.stage == Stage::Member) else {
        return Loss::None;
    };
    let Some(master) = out_of_sight(scene) else {
        return Loss::None;
    };
    let heir = scene.ordinal_of(&master.id).and_then(|ordinal| {
        let socket = blank_heir(scene, ordinal, &master.id)?;
        Some((ordinal, socket))
    });
    let Some((ordinal, heir)) = heir else {
        return Loss::None;
    };
    // One that was started after its master had lost its address replicates nobody.
    let dials = own.server.replica.as_ref().and_then(|replica| {
        let ip = replica.master_host.parse().ok()?;
        Some(SocketAddr::new(ip, replica.master_port))
    });
    let mut places = vec![Some(heir), master.socket(), dials];
    places.extend(scene.sockets_of(ordinal).into_iter().map(Some));
    // A node without an address has no port either.
    places.retain(|place| place.is_some_and(|place| place.port() != 0));
    let heard = heard_now(scene, plan, &places);
    for place in places.into_iter().flatten() {
        plan.ask(place, Duration::ZERO);
    }
    if !heard {
        return Loss::Asked;
    }
    let lives = scene.memory.places.contains_key(&master.id)
        || scene.memory.answers.values().any(|answer| {
            let claimed = match &answer.agent {
                // Its node ID is left, and nothing else.
                PeerAgent::Says(claim) if claim.blank => None,
                PeerAgent::Says(claim) => claim.node_id,
                PeerAgent::Silent(_) => None,
            };
            answered_id(answer) == Some(master.id) || claimed == Some(master.id)
        });
    if lives {
        return Loss::Refuted;
    }
    Loss::Proved(own, master)
}

/// The own master, where it owns slots and is not seen any more.
fn out_of_sight<'a>(scene: &Scene<'a>) -> Option<&'a NodeEntry> {
    let master = scene.table()?.get(scene.me?.master.as_ref()?)?;
    // Where the others have it without an address, they do not say that it fails.
    let flags = &master.flags;
    let unseen = flags.noaddr() || flags.fail() || flags.pfail();
    (unseen && !master.slots.is_empty()).then_some(master)
}

/// Where the pod that had this ID has proved to be another, blank node, or to have no data: its agent
/// says that there is none on its volume, and its Redis does not run. Or it follows a replica of the lost ID,
/// which had been elected, and which that ID with an epoch that was never its own has made a replica again (Redis
/// from 7.0 on takes what comes over a link for its node's, epoch first and ID afterwards).
fn blank_heir(scene: &Scene<'_>, ordinal: u32, old: &NodeId) -> Option<SocketAddr> {
    if let Some(heir) = scene.peers.get(&ordinal) {
        let table = scene.table();
        let node = heir.facts.master.and_then(|id| table?.get(&id));
        let follows_one = node.is_some_and(|node| node.master == Some(*old) && !node.flags.fail());
        let lost = heir.blank() || heir.facts.slots.is_empty() && follows_one;
        let proved = heir.facts.id != *old && lost;
        return proved.then_some(heir.socket);
    }
    let pod = scene.policy.pod(ordinal);
    let sockets = scene.sockets_of(ordinal).into_iter();
    let mut bare = sockets.filter(|socket| {
        let answer = scene.memory.answers.get(socket);
        let says = answer.and_then(|answer| match (&answer.agent, &answer.redis) {
            (
                PeerAgent::Says(claim),
                PeerRedis::Silent(Silence::Refused(_) | Silence::Unreachable(_)),
            ) => Some(claim),
            _ => None,
        });
        says.is_some_and(|claim| {
            claim.blank && claim.cluster == scene.policy.cluster && claim.pod == pod
        })
    });
    bare.next()
}

/// A majority of the slot owners, the lost one counted, are in touch and verified.
fn majority_answers(scene: &Scene<'_>, plan: &mut Plan, table: &NodeTable) -> bool {
    let owners: Vec<&NodeEntry> = table.slot_owners().collect();
    let answers = |node: &&&NodeEntry| {
        let peer = scene.peer_with_id(&node.id);
        scene.in_reach(node) && peer.is_some_and(|peer| !peer.facts.slots.is_empty())
    };
    for socket in owners.iter().filter_map(|node| node.socket()) {
        plan.ask(socket, Duration::ZERO);
    }
    owners.iter().filter(answers).count() * 2 > owners.len()
}

/// Keys at all, then the offset, then the lower ordinal.
type Rank = (bool, u64, Reverse<u32>);

/// Another live replica of the lost master that has more of the data, or may have.
fn better_sibling(
    scene: &Scene<'_>,
    plan: &mut Plan,
    own: &OwnFacts,
    waited: bool,
) -> Option<String> {
    let master = scene.me?.master;
    let mine: Rank = (
        own.server.keys > 0,
        offset(own),
        Reverse(scene.policy.me.ordinal),
    );
    let mut better = None;
    let live = |node: &&NodeEntry| !node.flags.fail() && !node.flags.noaddr();
    let siblings = own.table.others().filter(|node| node.master == master);
    for node in siblings.filter(live) {
        if let Some(socket) = node.socket() {
            plan.ask(socket, Duration::ZERO);
        }
        let less = match scene.peer_with_id(&node.id) {
            Some(peer) => rank(peer) < mine,
            None => waited,
        };
        if !less {
            better = Some(scene.name_of(&node.id));
        }
    }
    better
}

fn offset(own: &OwnFacts) -> u64 {
    let replica = own.server.replica.as_ref();
    replica.map_or(own.server.offset, |replica| replica.applied_offset)
}

fn rank(peer: &Peer<'_>) -> Rank {
    (
        peer.facts.keys > 0,
        peer.facts.offset,
        Reverse(peer.ordinal),
    )
}

/// Since when this replica has held no keys.
fn note_emptiness(scene: &Scene<'_>, plan: &mut Plan) {
    let Some(own) = scene.own else { return };
    let since = scene.memory.empty_since.unwrap_or(scene.seen.now);
    plan.memory_mut().empty_since = (own.server.keys == 0).then_some(since);
}

fn was_empty(scene: &Scene<'_>, lost_since: Moment) -> bool {
    let since = scene.memory.empty_since;
    since.is_some_and(|since| lost_since - since >= EMPTY_BEFORE)
}
