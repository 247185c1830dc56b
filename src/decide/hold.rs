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
use super::readiness;
use super::repair;
use super::scene::Scene;
use super::start;
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::node_table::NodeEntry;
use crate::model::observation::{
    CopyConfig, NodesFile, OwnFacts, OwnRedis, PeerAgent, PeerFacts, PeerRedis, Silence, Stage,
    Volume,
};
use crate::model::reason::ReasonCode;
use crate::model::time::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

mod address;
mod learn;

pub(super) use learn::{learn, learn_who_waits};

const GAP: Duration = Duration::from_millis(500);
/// Thirty days less a second: a person has time, and nobody configures this, so it is told from what one wants.
pub const HELD_S: u64 = 2_591_999;
/// Where what was configured is not known any more: Redis's default.
const DEFAULT: CopyConfig = CopyConfig {
    diskless: true,
    delay_s: 5,
    max_replicas: Some(0),
};

/// For how long a replica that needs a copy waits for the sake of another one that is not heard.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_NODE_TIMEOUTS: u32 = 3;

/// Who has not been heard for so long is noted on the volume.
const NOTED_AFTER: Duration = Duration::from_secs(5);

/// How often replicas are asked whether they have data.
const ASK_GAP: Duration = Duration::from_millis(900);

/// Holds whole copies back while they would be made by mistake, and lets them go again.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    // From its first moment on a Redis that is about to start would serve copies.
    if start::blank(scene) || scene.own.is_none() && !scene.memory.were_here.is_empty() {
        plan.hurry();
    }
    if let OwnRedis::Loading(server, _, Some(copies)) = &scene.seen.own
        && server.version.takes_config_while_loading()
        && !scene.memory.were_here.is_empty()
        && scene.memory.foreign.is_empty()
    {
        // Nobody is served yet, so that nobody is too quick.
        let ids: Vec<NodeId> = scene.memory.were_here.iter().copied().collect();
        hold(plan, *copies, &was_here(scene, &ids));
    }
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return;
    };
    let Some(copies) = own.copies else { return };
    let may_join = matches!(scene.stage, Stage::Virgin | Stage::Forming);
    // A former member that has lost its nodes.conf and its data, and not its note, is as empty.
    let may_join = may_join || !own.table.others().any(|node| node.master == Some(me.id));
    let blank = may_join && me.slots.is_empty() && !me.flags.replica() && own.server.keys == 0;
    let why = match blank && member_about(scene) {
        true => Some(
            "this node is empty and others are members: who copies it drops its data".to_owned(),
        ),
        false => by_mistake(scene, own, me, plan),
    };
    if guard::foreign_in_table(scene).is_some() {
        if is_held(copies) && why.is_none() {
            let message =
                "whole copies of this node's data are to wait until the foreign node is gone (S9)";
            plan.warn(ReasonCode::CopiesHeld, message);
        }
        return;
    }
    if let Some(why) = why {
        hold(plan, copies, &why);
    } else if copies.delay_s != HELD_S {
        plan.memory_mut().copies = None;
    } else if !blank {
        let before = scene.memory.copies.filter(|copies| !is_held(*copies));
        let action = Action::Copies {
            from: copies,
            to: before.unwrap_or(default(copies)),
        };
        let evidence = "nobody is kept from copying this node any more";
        plan.act("release copies".to_owned(), GAP, action, evidence);
    }
}

/// Whether no whole copy begins under this configuration.
pub fn is_held(copies: CopyConfig) -> bool {
    copies == held(copies)
}

fn default(from: CopyConfig) -> CopyConfig {
    CopyConfig {
        max_replicas: from.max_replicas.map(|_| 0),
        ..DEFAULT
    }
}

fn held(from: CopyConfig) -> CopyConfig {
    CopyConfig {
        diskless: true,
        delay_s: HELD_S,
        max_replicas: from.max_replicas.map(|_| 0),
    }
}

fn hold(plan: &mut Plan, from: CopyConfig, why: &str) {
    if is_held(from) {
        return;
    }
    let to = held(from);
    let copies = &mut plan.memory_mut().copies;
    // What is as an agent has left it is not what a person has changed meanwhile.
    let before = copies.unwrap_or(match from.delay_s {
        HELD_S => default(from),
        _ => from,
    });
    *copies = Some(CopyConfig {
        diskless: before.diskless && from.diskless,
        delay_s: match from.delay_s {
            HELD_S => before.delay_s,
            delay_s => delay_s,
        },
        max_replicas: match from.max_replicas {
            Some(0) => before.max_replicas,
            max_replicas => max_replicas,
        },
    });
    let action = Action::Copies { from, to };
    plan.act("hold copies".to_owned(), GAP, action, why);
}

fn names(scene: &Scene<'_>, ids: &[NodeId]) -> String {
    let names: Vec<String> = ids.iter().map(|id| scene.name_of(id)).collect();
    names.join(", ")
}

fn was_here(scene: &Scene<'_>, ids: &[NodeId]) -> String {
    let names = names(scene, ids);
    format!("this address was that of {names}: whose replica copies this node drops its data")
}

/// Why whole copies of this node that is not blank are to wait, which is said.
fn by_mistake(
    scene: &Scene<'_>,
    own: &OwnFacts,
    me: &NodeEntry,
    plan: &mut Plan,
) -> Option<String> {
    let may_have_data = may_have_data(scene, own, me, plan);
    let dialled = address::dialled_here(scene, own, plan);
    let heirs = names(scene, &may_have_data);
    if !may_have_data.is_empty() {
        let message = format!(
            "whole copies of this node's data are to wait: it came up without any, and {heirs} may have its \
             data. If so, a person must order CLUSTER FAILOVER TAKEOVER there"
        );
        plan.warn(ReasonCode::DataMissing, message);
    }
    if !dialled.is_empty() {
        let names = names(scene, &dialled);
        let message = format!(
            "whole copies of this node's data are to wait, those of its own replicas too: its address was that \
             of {names}, whose replicas may dial it still and would drop their data"
        );
        plan.warn(ReasonCode::CopiesHeld, message);
    }
    match (may_have_data.is_empty(), dialled.is_empty()) {
        (false, _) => Some(format!(
            "this master came up without data, which {heirs} may have, and would drop for a copy"
        )),
        (true, false) => Some(was_here(scene, &dialled)),
        (true, true) => None,
    }
}

/// Who must not be forgotten when this agent or its Redis is restarted, and whether it has said that it has data.
/// Who is there and has not is noted after a while: of a cluster that has just been made, all come up without data.
pub(super) fn wants_note(scene: &Scene<'_>, memory: &Memory) -> BTreeMap<NodeId, bool> {
    let long = |since: Moment| scene.seen.now - since >= NOTED_AFTER;
    let absent = |id: &NodeId| {
        let node = scene.table().and_then(|table| table.get(id));
        node.is_some_and(|node| !may_be_there(scene, node) || loads(scene, node))
    };
    let waited_for = memory.came_up_empty.iter();
    // Who has been noted is until it has said better.
    let noted = |id: &NodeId| {
        let note = scene.note();
        note.is_some_and(|note| note.may_have_data.contains_key(id))
    };
    let noted =
        waited_for.filter(|(id, unheard)| unheard.is_none_or(long) || absent(id) || noted(id));
    noted
        .map(|(id, unheard)| (*id, unheard.is_none()))
        .collect()
}

/// What was configured must not be forgotten when this agent is restarted while copies wait.
pub(super) fn wants_note_of_copies(scene: &Scene<'_>, memory: &Memory) -> Option<CopyConfig> {
    let copies = match &scene.seen.own {
        OwnRedis::Up(own) => own.copies,
        OwnRedis::Loading(_, _, Some(copies)) => Some(*copies),
        OwnRedis::Loading(..) | OwnRedis::Silent(_) => {
            return scene.note().and_then(|note| note.copies);
        }
    };
    let waits = !(memory.were_here.is_empty() && wants_note(scene, memory).is_empty());
    let held = copies.is_some_and(is_held);
    memory.copies.filter(|_| waits || held)
}

/// Who was here must not be forgotten when this agent or its Redis is restarted, and tables have it elsewhere.
pub(super) fn wants_note_of_who_was_here(
    scene: &Scene<'_>,
    memory: &Memory,
) -> BTreeMap<NodeId, SocketAddr> {
    if matches!(scene.seen.own, OwnRedis::Silent(_)) {
        let note = scene.note();
        return note.map_or_else(BTreeMap::new, |note| note.were_here.clone());
    }
    let here = SocketAddr::new(scene.policy.pod_ip, scene.policy.redis_port);
    memory.were_here.iter().map(|id| (*id, here)).collect()
}

/// The replicas of this master that may have the data with which it has not come up: that have it, or have not
/// answered since. Who is linked has what this master has. Who is there and has not answered is not waited for for
/// ever where another one waits for its copy meanwhile.
fn may_have_data(
    scene: &Scene<'_>,
    own: &OwnFacts,
    me: &NodeEntry,
    plan: &mut Plan,
) -> Vec<NodeId> {
    let mut known = scene.memory.came_up_empty.clone();
    let followers = own.table.others().filter(|node| node.master == Some(me.id));
    let followers: Vec<&NodeEntry> = followers.filter(|_| !me.slots.is_empty()).collect();
    let facts = |id: &NodeId| scene.peer_with_id(id).map(|peer| peer.facts);
    let here = scene.policy.pod_ip.to_string();
    // Who has not noticed yet that its master is gone has a link to where that was.
    let linked = |facts: &PeerFacts| {
        let link = facts.replica.as_ref();
        link.is_some_and(|link| link.link_up && link.master_host == here)
    };
    let empty = |facts: &PeerFacts| facts.keys == 0 && !linked(facts);
    let waits = |node: &&NodeEntry| match facts(&node.id) {
        Some(facts) => empty(facts),
        None => !known.contains_key(&node.id) && !readiness::was_replaced(scene, node),
    };
    let another_waits = followers.iter().any(waits);
    let mut may_have = Vec::new();
    known.retain(|id, unheard| {
        let Some(node) = followers.iter().find(|node| node.id == *id) else {
            return false;
        };
        let answer = facts(id);
        if answer.is_some_and(|facts| empty(facts) || linked(facts)) {
            return false;
        }
        if answer.is_some() {
            *unheard = None;
        }
        // Who is still to be created dials before anybody has seen it, and has had no time to answer; nor has who
        // reads its data.
        if let Some(since) = unheard
            && (!may_be_there(scene, node) || loads(scene, node))
        {
            *since = scene.seen.now;
        }
        let long = unheard.is_some_and(|since| scene.seen.now - since > patience(own));
        if readiness::replaced(scene, node) || long && another_waits {
            return false;
        }
        may_have.push(*id);
        true
    });
    plan.memory_mut().came_up_empty = known;
    let ordinals = may_have.iter().filter_map(|id| scene.ordinal_of(id));
    for socket in ordinals.flat_map(|ordinal| scene.sockets_of(ordinal)) {
        plan.ask(socket, ASK_GAP);
    }
    may_have
}

/// Whether this node may have the last data of its shard, and would drop them for a copy of this one as soon as
/// nobody expects it any more.
pub(super) fn waits_for(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let memory = scene.memory;
    let were_here = |master: &NodeId| memory.were_here.contains(master);
    // Who cannot hold copies back holds none.
    let holds = scene.own.is_some_and(|own| own.copies.is_some());
    let waits =
        memory.came_up_empty.contains_key(&node.id) || node.master.as_ref().is_some_and(were_here);
    holds && waits && !readiness::was_replaced(scene, node)
}

/// How long the own Redis has answered, as far as this agent knows.
fn up_for(scene: &Scene<'_>, own: &OwnFacts) -> Duration {
    match scene.memory.loaded_at {
        Some(at) => scene.seen.now - at,
        None => Duration::from_secs(own.server.uptime_s),
    }
}

/// Whether its pod has answered that its Redis reads its data.
fn loads(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let ordinal = scene.ordinal_of(&node.id);
    let sockets = ordinal.map_or_else(Default::default, |ordinal| scene.sockets_of(ordinal));
    let mut answers = sockets
        .into_iter()
        .filter_map(|socket| scene.memory.answers.get(&socket));
    answers.any(|answer| matches!(answer.redis, PeerRedis::Silent(Silence::Garbled(_))))
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
