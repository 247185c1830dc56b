//! A ghost is an ID that its pod has no more: the pod lost its volume and has another one, or the set
//! was scaled in. It is forgotten when it is proved to be gone for good (S6), by all members at once:
//! Redis bans a forgotten ID for 60 s only, and then takes it back from any node that still tells of
//! it. So each agent says whom it would forget, and waits until every member's agent says the same or
//! its Redis knows the ghost no more.
//!
//! Not here: ghosts that own slots. Their shard has lost its data, or waits for an election.

use super::guard::Cleared;
use super::heal::heard_now;
use super::hold;
use super::memory::Memory;
use super::plan::Plan;
use super::policy::Policy;
use super::scene::{Scene, answered_id, verify};
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{Observation, OwnFacts, PeerAgent, PeerRedis, Stage};
use crate::model::peers::DnsAnswer;
use crate::model::reason::ReasonCode;
use crate::model::time::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const GAP: Duration = Duration::from_secs(2);
/// For so long the other members are told whose a node was that is forgotten. One that was restarted meanwhile may have
/// it again from one that was away, and knows only its ID.
const TOLD_FOR: Duration = Duration::from_secs(600);
/// Without a look at the own table for so long, the ghost's time begins anew.
const UNSEEN: Duration = Duration::from_secs(5);
/// For how long a member's word holds that it is about to forget; it is about when all do, and what
/// proves the ghost gone is asked anew in the very round.
const AGREED: Duration = Duration::from_secs(20);
/// So much longer for each pod of the first shape beyond a few: a round asks only some of them.
const AGREED_EACH: Duration = Duration::from_millis(100);
/// Members are asked so often, and so many of them in a round.
const ASK_GAP: Duration = Duration::from_secs(1);
const ASK_EACH: Duration = Duration::from_millis(50);
const AT_ONCE: usize = 16;

/// A node in the own table that may be one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ghost {
    /// Since when it has been failed or without an address, without slots and without replicas.
    pub since: Moment,
    /// When that was last seen.
    pub seen: Moment,
    /// Whose it was, as other pods' agents say: who came later knows only its ID.
    pub was: Option<u32>,
    /// Which members are about to forget it, or know it no more, and when they said so.
    pub agreed: BTreeMap<NodeId, Moment>,
}

/// Why a ghost is not forgotten now.
enum Not {
    /// It is no ghost, or whether it is one is being asked.
    Yet,
    /// It cannot be proved to be one.
    Proved(String),
}

/// What this round tells of ghosts.
pub(super) fn learn(memory: &mut Memory, policy: &Policy, seen: &Observation, own: &OwnFacts) {
    memory
        .forgotten
        .retain(|_, (_, at)| seen.now - *at <= TOLD_FOR);
    let restarted = memory.run_id != own.server.run_id;
    let mut ghosts = std::mem::take(&mut memory.ghosts);
    ghosts.retain(|_, ghost| !restarted && seen.now - ghost.seen <= UNSEEN);
    let like_one = own
        .table
        .others()
        .filter(|node| looks_like_one(&own.table, node));
    for node in like_one {
        let new = Ghost {
            since: seen.now,
            ..Ghost::default()
        };
        let mut ghost = ghosts.remove(&node.id).unwrap_or(new);
        ghost.seen = seen.now;
        let holds = AGREED + AGREED_EACH * policy.beyond_a_few();
        ghost.agreed.retain(|_, at| seen.now - *at <= holds);
        for (socket, answer) in &seen.answers {
            let PeerRedis::Up(facts) = &answer.redis else {
                continue;
            };
            let was = match (verify(policy, *socket, answer), &answer.agent) {
                (Ok(_), PeerAgent::Says(claim)) => claim.forgets.get(&node.id),
                _ => None,
            };
            ghost.was = was.copied().or(ghost.was);
            if was.is_some() || !facts.knows.contains(&node.id) {
                ghost.agreed.insert(facts.id, answer.at);
            } else {
                ghost.agreed.remove(&facts.id);
            }
        }
        memory.ghosts.insert(node.id, ghost);
    }
}

fn looks_like_one(table: &NodeTable, node: &NodeEntry) -> bool {
    // Where the others have it without an address, they do not say that it fails, and to this node it
    // only seems to, for ever.
    let out_of_sight = gone(node) || node.flags.pfail();
    let followed = table
        .settled()
        .any(|other| other.master == Some(node.id) && !gone(other));
    out_of_sight && node.slots.is_empty() && !followed
}

fn gone(node: &NodeEntry) -> bool {
    node.flags.fail() || node.flags.noaddr()
}

/// Has the own Redis forget ghosts, when all members do.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let Some(own) = scene.own else { return };
    let in_touch = super::readiness::majority_lacks(scene, &own.table).is_empty();
    if scene.stage != Stage::Member || !in_touch || !own.table.covers_all_slots() {
        return;
    }
    for (id, (ordinal, _)) in &scene.memory.forgotten {
        if own.table.get(id).is_none() {
            plan.about_to_forget(*id, *ordinal);
        }
    }
    let timeout = own.node_timeout();
    let times = scene.policy.ghosts;
    let gone_for = times.gone_for.max(timeout * 4);
    // One of this round counts as well.
    let met = plan.memory_mut().last_meet;
    for (id, ghost) in &scene.memory.ghosts {
        let lately = met.is_some_and(|met| scene.seen.now - met < times.no_meet_for);
        if lately || scene.seen.now - ghost.since < gone_for {
            continue;
        }
        let Some(node) = own.table.get(id) else {
            continue;
        };
        if hold::waits_for(scene, node) {
            let why =
                "it may have data that are wanted, and would drop them for a copy of this node";
            warn(scene, plan, id, why);
            continue;
        }
        let Some(ordinal) = scene.former_ordinal_of(id).or(ghost.was) else {
            ask_members(scene, plan, &not_agreed(scene, own, ghost, gone_for));
            let why = "it is not known which pod it was";
            warn(scene, plan, id, why);
            continue;
        };
        match proof(scene, plan, node, ordinal) {
            Ok(evidence) => {
                plan.about_to_forget(*id, ordinal);
                let silent = not_agreed(scene, own, ghost, gone_for);
                if silent.is_empty() {
                    let pod = scene.policy.pod(ordinal);
                    let ghost = format!("node {id}, which {pod} was");
                    let action = Action::Forget { id: *id, pod };
                    let now = scene.seen.now;
                    plan.memory_mut().forgotten.insert(*id, (ordinal, now));
                    if plan.act(format!("forget {id}"), GAP, action, evidence) {
                        plan.happened("forgotten", ghost);
                    }
                    continue;
                }
                ask_members(scene, plan, &silent);
                let names = silent.iter().map(|node| scene.name_of(&node.id));
                let names: Vec<String> = names.collect();
                let names = names.join(", ");
                if scene.seen.now - ghost.since > gone_for * 2 {
                    let why = format!("the sidecars of {names} do not say the same yet");
                    warn(scene, plan, id, &why);
                }
            }
            Err(Not::Yet) => {}
            Err(Not::Proved(why)) => warn(scene, plan, id, &why),
        }
    }
}

/// Nobody waits in silence.
fn warn(scene: &Scene<'_>, plan: &mut Plan, id: &NodeId, why: &str) {
    let name = scene.name_of(id);
    let message = format!("the node {id} ({name}) is gone and is not forgotten: {why}");
    plan.warn(ReasonCode::GhostNode, message);
}

/// The members that would still tell of it. Who has looked like a ghost for as long tells nobody.
fn not_agreed<'t>(
    scene: &Scene<'_>,
    own: &'t OwnFacts,
    ghost: &Ghost,
    gone_for: Duration,
) -> Vec<&'t NodeEntry> {
    let ghosts = &scene.memory.ghosts;
    let as_long = |node: &NodeEntry| {
        let ghost = ghosts.get(&node.id);
        ghost.is_some_and(|ghost| scene.seen.now - ghost.since >= gone_for)
    };
    let members = own.table.others();
    let members = members.filter(|node| !gone(node) && !as_long(node));
    members
        .filter(|node| !ghost.agreed.contains_key(&node.id))
        .collect()
}

fn ask_members(scene: &Scene<'_>, plan: &mut Plan, members: &[&NodeEntry]) {
    let many = scene.policy.beyond_a_few();
    let gap = ASK_GAP + ASK_EACH * many;
    let due = |socket: &SocketAddr| {
        let asked = scene.memory.asked.get(socket);
        asked.is_none_or(|at| scene.seen.now - *at >= gap)
    };
    let sockets = members.iter().filter_map(|node| node.socket());
    let sockets = sockets.filter(due).take(AT_ONCE);
    sockets.for_each(|socket| plan.ask(socket, gap));
}

/// That it answers nowhere, and that its pod has another ID or is gone on purpose.
fn proof(
    scene: &Scene<'_>,
    plan: &mut Plan,
    node: &NodeEntry,
    ordinal: u32,
) -> Result<String, Not> {
    let me = scene.policy.me.ordinal;
    let mut places: Vec<Option<SocketAddr>> = vec![node.socket()];
    if ordinal != me {
        places.extend(scene.sockets_of(ordinal).into_iter().map(Some));
    }
    let own = SocketAddr::new(scene.policy.pod_ip, scene.policy.redis_port);
    places.retain(|place| *place != Some(own));
    // In every round, so that what is said to the other members does not change in each.
    let heard = heard_now(scene, plan, &places);
    for place in places.iter().flatten() {
        plan.ask(*place, Duration::ZERO);
    }
    if !heard {
        return Err(Not::Yet);
    }
    let lives = scene.memory.places.contains_key(&node.id)
        || scene.memory.answers.values().any(|answer| {
            let followed =
                matches!(&answer.redis, PeerRedis::Up(facts) if facts.master == Some(node.id));
            let claimed = match &answer.agent {
                PeerAgent::Says(claim) => claim.node_id,
                PeerAgent::Silent(_) => None,
            };
            followed || answered_id(answer) == Some(node.id) || claimed == Some(node.id)
        });
    if lives {
        return Err(Not::Yet);
    }
    let pod = scene.policy.pod(ordinal);
    if ordinal == me {
        let now = scene.me.map(|me| me.id.to_string()).unwrap_or_default();
        return Ok(format!("this pod is {now} now, and it answers nowhere"));
    }
    if let Some(peer) = scene.peers.get(&ordinal) {
        return Ok(format!(
            "{pod} is {} now, and it answers nowhere",
            peer.facts.id
        ));
    }
    if scaled_in(scene, ordinal) {
        let evidence = format!("{pod} is beyond the first shape and not in DNS: scaled in");
        return Ok(evidence);
    }
    Err(Not::Proved(format!(
        "nobody proves to be {pod} under another ID: {}",
        scene.why_unverified(ordinal)
    )))
}

/// A StatefulSet takes the highest ordinals away first. Below the first shape a pod that is not there
/// is one that is to come back.
fn scaled_in(scene: &Scene<'_>, ordinal: u32) -> bool {
    let dns = &scene.seen.dns;
    let higher = dns.addresses.keys().any(|k| *k >= ordinal);
    // An answer that does not even name this pod says nothing of others (S2).
    let whole = dns.answer == DnsAnswer::Answered
        && dns.unknown.is_empty()
        && dns.addresses.contains_key(&scene.policy.me.ordinal);
    ordinal >= scene.policy.expected() && whole && !higher
}
