//! Nobody may drop its data for what this node has only because it stands at another node's address.
//! Replication checks no node ID: a replica dials the address that it knows, and drops its data for what
//! answers there. A master that is told to begin whole copies later only lets it wait, with its data,
//! until it has been elected or points elsewhere. Copies wait here
//!
//! - while this node is blank and others are members: the replica of this pod's former node would be
//!   emptied (`tests/faults/lost_volumes.rs` measures it);
//! - while this pod has the address that another node had, and that one's replicas have not heard where it
//!   is: they would have the data of another shard, and the last whole copy of their own could be lost
//!   (`tests/faults/reused.rs`);
//! - while this master has come up without data and its replicas may have it, because it lost what was on its
//!   volume and not its nodes.conf; where it writes an append-only file.
//!
//! What is left: Redis has begun a copy before this agent has asked it for the first time. Redis's own
//! default, a delay of 5 s, is longer than that; with none it is a race. A blank Redis alone must not run
//! then: see the start gate (`start`).

use super::guard;
use super::memory::Memory;
use super::plan::Plan;
use super::policy::Policy;
use super::readiness;
use super::repair;
use super::scene::Scene;
use super::start;
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{
    CopyConfig, NodesFile, Observation, OwnFacts, OwnRedis, PeerAgent, Stage, Volume,
};
use crate::model::reason::ReasonCode;
use crate::model::time::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const GAP: Duration = Duration::from_millis(500);
/// A day less a second: nobody configures this, so it is told from what a person wants.
pub const HELD_S: u64 = 86_399;
/// Where what was configured is not known any more: Redis's default.
const DEFAULT: CopyConfig = CopyConfig {
    diskless: true,
    delay_s: 5,
    max_replicas: Some(0),
};

/// For how long the own replicas that need a copy wait for the sake of others who may never come, as under
/// OrderedReady those may be created only when this pod or one of these is ready.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_NODE_TIMEOUTS: u32 = 3;

/// How often replicas are asked whether they have data.
const ASK_GAP: Duration = Duration::from_millis(900);

/// Whose address this pod has now, as nodes.conf and its newest copy have it before Redis finds out; and who
/// may have this master's data if it came up without. To be called before it is noted that Redis has been
/// restarted.
pub(super) fn learn(memory: &mut Memory, policy: &Policy, seen: &Observation) {
    let up = match &seen.own {
        OwnRedis::Up(own) => Some(&**own),
        OwnRedis::Silent(_) | OwnRedis::Loading(..) => None,
    };
    if up.is_some_and(|own| own.server.run_id == memory.run_id) {
        return;
    }
    // An agent before this one has held copies back, for whomever.
    let copies = up.and_then(|own| own.copies);
    let held = copies.is_some_and(|copies| copies.delay_s == HELD_S);
    let here = SocketAddr::new(policy.pod_ip, policy.redis_port);
    let file = match &seen.file {
        NodesFile::Read(conf) => Some(conf),
        _ => None,
    };
    let confs = file.into_iter().chain(repair::newest_good(&seen.kept));
    let own_table = up.map(|own| &own.table);
    let tables = confs.map(|conf| &conf.table).chain(own_table);
    let others = tables.flat_map(NodeTable::others);
    let before = others.filter(|node| node.socket() == Some(here) || held && node.flags.noaddr());
    let before = before.map(|node| (node.id, seen.now));
    memory.were_here.extend(before);

    memory.came_up_empty.clear();
    let Some((own, me)) = up.and_then(|own| Some((own, own.table.myself()?))) else {
        return;
    };
    // Who keeps nothing on disk comes up like that after every restart, and nobody would have it otherwise.
    let lost = own.server.keys == 0 && own.server.persistence.aof;
    let young = Duration::from_secs(own.server.uptime_s) < own.node_timeout() * 2;
    if lost && young || held {
        let followers = own.table.others().filter(|node| node.master == Some(me.id));
        let followers = followers.map(|node| (node.id, Some(seen.now)));
        memory.came_up_empty.extend(followers);
    }
}

/// Holds whole copies back while they would be made by mistake, and lets them go again.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    // From its first moment on a Redis that is about to start would serve copies.
    if start::blank(scene) || scene.own.is_none() && !scene.memory.were_here.is_empty() {
        plan.hurry();
    }
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return;
    };
    let Some(copies) = own.copies else { return };
    let may_join = matches!(scene.stage, Stage::Virgin | Stage::Forming);
    let blank = may_join && me.slots.is_empty() && !me.flags.replica() && own.server.keys == 0;
    let may_have_data = may_have_data(scene, own, me, plan);
    let dialled = dialled_here(scene, own, plan);
    if guard::foreign_in_table(scene).is_some() {
        return;
    }
    let held = copies.delay_s == HELD_S;
    let names = |ids: &[NodeId]| {
        let names: Vec<String> = ids.iter().map(|id| scene.name_of(id)).collect();
        names.join(", ")
    };
    if !may_have_data.is_empty() {
        let names = names(&may_have_data);
        let message = format!(
            "whole copies of this node's data wait: it came up without any, and {names} may have its data. If \
             so, a person must order CLUSTER FAILOVER TAKEOVER there"
        );
        plan.warn(ReasonCode::CopiesHeld, message);
    }
    if !dialled.is_empty() {
        let names = names(&dialled);
        let message = format!(
            "whole copies of this node's data wait, those of its own replicas too: its address was that of \
             {names}, whose replicas may dial it still and would drop their data"
        );
        plan.warn(ReasonCode::CopiesHeld, message);
    }
    let evidence = if blank && member_about(scene) {
        Some("this node is empty and others are members: who copies it drops its data".to_owned())
    } else if !may_have_data.is_empty() {
        let names = names(&may_have_data);
        Some(format!(
            "this master came up without data, which {names} may have: it would drop it"
        ))
    } else if !dialled.is_empty() {
        let names = names(&dialled);
        Some(format!(
            "this address was that of {names}: whose replica copies this node drops its data"
        ))
    } else {
        None
    };
    match evidence {
        Some(evidence) if !held => {
            plan.memory_mut().copies = Some(copies);
            let to = CopyConfig {
                diskless: true,
                delay_s: HELD_S,
                max_replicas: copies.max_replicas.map(|_| 0),
            };
            let action = Action::Copies { from: copies, to };
            plan.act("hold copies".to_owned(), GAP, action, evidence);
        }
        None if held && !blank => {
            let before = scene.memory.copies.unwrap_or(CopyConfig {
                max_replicas: copies.max_replicas.map(|_| 0),
                ..DEFAULT
            });
            let action = Action::Copies {
                from: copies,
                to: before,
            };
            let evidence = "nobody would copy this node by mistake any more";
            plan.act("release copies".to_owned(), GAP, action, evidence);
        }
        _ => {}
    }
}

/// The replicas of this master that may have the data with which it has not come up: that have it, or have not
/// answered since. Who has not is not waited for for ever where another one waits for its copy meanwhile, and
/// not while it is still to be created.
fn may_have_data(
    scene: &Scene<'_>,
    own: &OwnFacts,
    me: &NodeEntry,
    plan: &mut Plan,
) -> Vec<NodeId> {
    let before = scene.memory.came_up_empty.clone();
    let followers = own.table.others().filter(|node| node.master == Some(me.id));
    let followers: Vec<&NodeEntry> = followers.filter(|_| !me.slots.is_empty()).collect();
    let keys = |node: &NodeEntry| scene.peer_with_id(&node.id).map(|peer| peer.facts.keys);
    let mut empty = followers.iter().filter(|node| keys(node) == Some(0));
    let another_waits =
        empty.next().is_some() || followers.iter().any(|node| !before.contains_key(&node.id));
    let late = |since: &Option<Moment>| {
        let long = since.is_some_and(|since| scene.seen.now - since > patience(own));
        long && another_waits
    };
    let (mut may_have, mut to_come) = (BTreeMap::new(), BTreeMap::new());
    for node in followers {
        let Some(unheard) = before.get(&node.id) else {
            continue;
        };
        let unheard = unheard.filter(|_| keys(node).is_none());
        if keys(node) == Some(0) || readiness::replaced(scene, node) || late(&unheard) {
            continue;
        }
        if !may_be_there(scene, node) {
            let since_now = unheard.map(|_| scene.seen.now);
            to_come.insert(node.id, since_now);
            continue;
        }
        may_have.insert(node.id, unheard);
        let ordinal = scene.ordinal_of(&node.id);
        for socket in ordinal
            .map(|ordinal| scene.sockets_of(ordinal))
            .unwrap_or_default()
        {
            plan.ask(socket, ASK_GAP);
        }
    }
    let names = may_have.keys().copied().collect();
    to_come.extend(may_have);
    plan.memory_mut().came_up_empty = to_come;
    names
}

/// The nodes that had this pod's address and whose replicas may dial it: somebody follows them who is there, or
/// not just still to be created, and they are not connected at another one.
fn dialled_here(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) -> Vec<NodeId> {
    let (now, mut were_here) = (scene.seen.now, scene.memory.were_here.clone());
    let mut dialled = Vec::new();
    were_here.retain(|id, since| {
        let Some(node) = own.table.get(id) else {
            return false;
        };
        let heard = scene.in_reach(node) && !scene.memory.unheard.contains_key(id);
        let elsewhere = heard && node.address.ip() != Some(scene.policy.pod_ip);
        let followers = own.table.others().filter(|other| other.master == Some(*id));
        let followers: Vec<&NodeEntry> = followers.collect();
        if !followers.iter().any(|node| may_be_there(scene, node)) {
            *since = now;
            return !followers.is_empty() && !elsewhere;
        }
        let ordered = scene.may_wait_for_us(scene.ordinal_of(id));
        let late = ordered && now - *since > patience(own);
        let is_dialled = !elsewhere && !late;
        dialled.extend(is_dialled.then_some(*id));
        is_dialled
    });
    plan.memory_mut().were_here = were_here;
    dialled
}

fn may_be_there(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let ordinal = scene.ordinal_of(&node.id);
    ordinal.is_none_or(|ordinal| !scene.waits_for_us(ordinal))
}

/// An election takes no longer.
fn patience(own: &OwnFacts) -> Duration {
    PATIENCE + own.node_timeout() * PATIENCE_NODE_TIMEOUTS
}

/// Neither nodes.conf nor a good copy of it nor a note on the volume.
pub(super) fn never_ran(scene: &Scene<'_>) -> bool {
    let copy = repair::newest_good_copy(scene);
    scene.seen.volume == Volume::Blank && scene.seen.file == NodesFile::Missing && copy.is_none()
}

/// Its agent's word is enough: its Redis may be as empty-handed, or away.
fn member_about(scene: &Scene<'_>) -> bool {
    scene.memory.answers.values().any(|answer| {
        matches!(&answer.agent, PeerAgent::Says(claim)
            if claim.cluster == scene.policy.cluster && claim.stage == Some(Stage::Member))
    })
}
