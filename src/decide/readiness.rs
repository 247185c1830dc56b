//! Whether this node does its part, and if not why, in words a person can act on. It is about
//! this node; the start gate alone is about the whole cluster, once per start of Redis.

use super::memory::Place;
use super::plan::Plan;
use super::scene::Scene;
use super::start;
use crate::model::identity::NodeId;
use crate::model::info::ReplicaFacts;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{
    OwnFacts, OwnRedis, PeerAgent, PeerAnswer, PeerRedis, Silence, Stage,
};
use crate::model::peers::DnsAnswer;
use crate::model::reason::ReasonCode;
use std::fmt::Write as _;
use std::time::Duration;

/// How long a master's word counts that it holds whole copies back; without its link a replica asks it more often.
const HOLDS: Duration = Duration::from_secs(3);

/// Adds the findings that no earlier rule has made.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    environment(scene, plan);
    let own = match &scene.seen.own {
        OwnRedis::Silent(why) => {
            plan.block(silent_code(why), format!("Redis {why}"));
            if let Some(held) = start::held(scene) {
                plan.block(held.code, held.message);
            }
            return;
        }
        OwnRedis::Loading(..) => {
            return plan.block(
                ReasonCode::RedisLoading,
                "Redis is reading its data from disk",
            );
        }
        OwnRedis::Up(own) => own,
    };
    let Some(me) = scene.me else {
        return plan.block(
            ReasonCode::NotAMember,
            "the node table does not show this node",
        );
    };
    own_address(scene, me, plan);
    let alone = own.table.others().next().is_none();
    // Redis takes the slots of keys that it finds; in a cluster of one pod that is no sign of a loss.
    let forming = scene.stage == Stage::Forming;
    let no_identity = (me.slots.is_empty() || scene.policy.expected() > 1) && !forming;
    if alone && own.server.keys > 0 && no_identity {
        plan.block(
            ReasonCode::DataWithoutIdentity,
            format!(
                "Redis holds {} keys but knows no cluster: its nodes.conf was lost. A person must \
                 bring nodes.conf back or decide what becomes of the data",
                own.server.keys
            ),
        );
    }
    if alone && scene.policy.expected() > 1 {
        if !plan.blocked() {
            plan.block(ReasonCode::NotAMember, "this node knows no other node");
        }
        return;
    }
    part(scene, own, me, plan);
    majority(scene, &own.table, plan);
    start_gate(scene, own, plan);
    too_few_masters(&own.table, plan);
}

fn silent_code(why: &Silence) -> ReasonCode {
    match why {
        Silence::NotAsked => ReasonCode::Starting,
        Silence::Refused(_) | Silence::Unreachable(_) | Silence::TimedOut | Silence::Garbled(_) => {
            ReasonCode::RedisUnreachable
        }
        Silence::Auth(_) => ReasonCode::RedisAuth,
        Silence::Denied(_) => ReasonCode::RedisNoPermission,
        Silence::NoCluster => ReasonCode::ClusterDisabled,
    }
}

fn environment(scene: &Scene<'_>, plan: &mut Plan) {
    if let DnsAnswer::Failed(why) = &scene.seen.dns.answer {
        plan.warn(
            ReasonCode::DnsFailing,
            format!("the headless Service cannot be looked up: {why}"),
        );
    }
    if let Some(why) = &scene.seen.asked.socket_error {
        plan.warn(
            ReasonCode::SocketUnavailable,
            format!("no command can reach this sidecar, so none can hand its slots over: {why}"),
        );
    }
    if scene.policy.dry_run {
        plan.warn(
            ReasonCode::DryRun,
            "DRY_RUN is set: decisions are logged, nothing is written",
        );
    }
    if scene.own.is_some_and(|own| own.config.is_none()) {
        plan.warn(
            ReasonCode::RedisNoPermission,
            "Redis does not let this user read its configuration (config|get), so it is not known \
             whether the right address is announced",
        );
    }
    for refusal in &scene.seen.refusals {
        let denied = refusal.error.contains("NOPERM");
        let code = if denied {
            ReasonCode::RedisNoPermission
        } else {
            ReasonCode::CommandRefused
        };
        plan.warn(
            code,
            format!("Redis refuses to {}: {}", refusal.action, refusal.error),
        );
    }
}

fn own_address(scene: &Scene<'_>, me: &NodeEntry, plan: &mut Plan) {
    let pod_ip = scene.policy.pod_ip;
    if me.address.ip() != Some(pod_ip) {
        let shown = if me.address.host.is_empty() {
            "no address"
        } else {
            &me.address.host
        };
        plan.block(
            ReasonCode::OwnAddress,
            format!("this node's table shows {shown} for itself, and its address is {pod_ip}"),
        );
    }
}

/// A master owns slots; a replica has its link up, its first copy done and its lag in bounds.
fn part(scene: &Scene<'_>, own: &OwnFacts, me: &NodeEntry, plan: &mut Plan) {
    let Some(replica) = &own.server.replica else {
        if let Some(master) = me.master.filter(|_| me.flags.replica()) {
            let name = scene.name_of(&master);
            let address = own.table.get(&master).and_then(NodeEntry::socket);
            let message = match address {
                Some(_) => format!("replication of {name} has not begun"),
                None => format!("this node replicates nobody: its master {name} has no address"),
            };
            let blames = whom_a_link_waits_for(scene, &own.table, Some(&master), None);
            plan.block_on(ReasonCode::ReplicaLinkDown, message, &blames);
            return;
        }
        if me.slots.is_empty() && !plan.blocked() {
            let what = "this master owns no slots; move slots to it or make it a replica";
            plan.block(ReasonCode::NoSlots, what);
        }
        return;
    };
    let master = me.master.as_ref();
    let above = master.and_then(|id| own.table.get(id)?.master);
    let name = master.map_or_else(|| "its master".to_owned(), |id| scene.name_of(id));
    if replica.syncing {
        let left = match replica.sync_left_bytes {
            Some(bytes) if bytes > 0 => format!(", {bytes} bytes to go"),
            _ => String::new(),
        };
        let message = format!("copying the data of {name}{left}");
        let from = who_exists(master.and_then(|id| scene.ordinal_of(id)));
        plan.block_on(ReasonCode::ReplicaSyncing, message, &from);
    } else if !replica.link_up {
        let (host, port) = (&replica.master_host, replica.master_port);
        let mut message = format!("the replication link to {name} ({host} port {port}) is down");
        // Redis mends that when it next hears of a change of slots ("I'm a sub-replica!", not in 6.0).
        if let Some(above) = above {
            let _ = write!(
                message,
                ", and {name} is itself a replica, of {}; CLUSTER REPLICATE {above} here makes it right",
                scene.name_of(&above)
            );
        }
        let blames = match master.is_some_and(|id| holds_copies(scene, own, id)) {
            true => vec![None],
            false => whom_a_link_waits_for(scene, &own.table, master, above.as_ref()),
        };
        plan.block_on(ReasonCode::ReplicaLinkDown, message, &blames);
    }
    let lag = lag_bytes(own, master, replica);
    let allowed = scene.policy.lag_bytes_max;
    if replica.link_up && lag > allowed {
        let message = format!("{lag} bytes behind {name}, and MAX_LAG_BYTES is {allowed}");
        plan.block(ReasonCode::ReplicaLag, message);
    }
}

/// Whether the master's agent says that whole copies of its data wait (S5), until others are back or elected. Not
/// where this node has the data that its master has lost: a person ends that.
fn holds_copies(scene: &Scene<'_>, own: &OwnFacts, master: &NodeId) -> bool {
    let lately = |answer: &PeerAnswer| scene.seen.now - answer.at <= HOLDS;
    let mut known = scene.memory.verified.values();
    known.any(|(_, answer)| match (&answer.redis, &answer.agent) {
        (PeerRedis::Up(facts), PeerAgent::Says(claim)) => {
            let heir = claim.data_missing && facts.keys == 0 && own.server.keys > 0;
            facts.id == *master && claim.holds_copies && lately(answer) && !heir
        }
        _ => false,
    })
}

/// Who can end it that the link is down: the master, when it is there and owns slots. Else, under OrderedReady,
/// those without whom nobody is elected, or the master, or that one's own master (a replica takes no replicas
/// while it is not linked itself), whoever of them is still to be created.
pub(super) fn whom_a_link_waits_for(
    scene: &Scene<'_>,
    table: &NodeTable,
    master: Option<&NodeId>,
    above: Option<&NodeId>,
) -> Vec<Option<u32>> {
    let ordinal = |id: Option<&NodeId>| id.and_then(|id| scene.ordinal_of(id));
    if let Some(node) = master.and_then(|id| table.get(id)) {
        let reached = scene.in_reach(node);
        let away = !reached && !is_lost(scene, node);
        if reached && !node.slots.is_empty() || away && !scene.may_wait_for_us(ordinal(master)) {
            return who_exists(ordinal(master));
        }
    }
    let needed = needed_for_majority(scene, table);
    if !needed.is_empty() {
        return needed;
    }
    let above = ordinal(above).filter(|above| scene.waits_for_us(*above));
    match above {
        Some(above) if !scene.may_wait_for_us(ordinal(master)) => vec![Some(above)],
        // Or those of its replicas that may take its place.
        _ => match master.and_then(|id| table.get(id)) {
            Some(node) => who_can_end_it(scene, node),
            None => vec![None],
        },
    }
}

/// How far this replica is behind, in bytes: what it has read and not applied, or what its master
/// last gossiped and it has not applied, whichever is more.
pub fn lag_bytes(own: &OwnFacts, master: Option<&NodeId>, replica: &ReplicaFacts) -> u64 {
    let gossiped = master
        .and_then(|id| own.offsets.get(id))
        .copied()
        .unwrap_or_default();
    gossiped
        .max(replica.read_offset)
        .saturating_sub(replica.applied_offset)
}

/// The slot owners out of reach, if those in reach are no majority; else nothing.
pub fn majority_lacks<'t>(scene: &Scene<'_>, table: &'t NodeTable) -> Vec<&'t NodeEntry> {
    let (reached, lost): (Vec<_>, Vec<_>) =
        table.slot_owners().partition(|node| scene.in_reach(node));
    if reached.len() > lost.len() {
        Vec::new()
    } else {
        lost
    }
}

/// To blame somebody who is there: never one who is still to be created, even if nobody knows the ordinal.
fn who_exists(ordinal: Option<u32>) -> Vec<Option<u32>> {
    ordinal.map(Some).into_iter().collect()
}

/// Of the slot owners out of reach those that are still to be created, if that is all that lacks for a majority:
/// each other one is another node now, whose slots wait for an election. Empty if somebody is just away.
fn needed_for_majority(scene: &Scene<'_>, table: &NodeTable) -> Vec<Option<u32>> {
    let mut owners = table.slot_owners().count();
    let lost = majority_lacks(scene, table);
    let mut votes = owners - lost.len();
    let mut needed = Vec::new();
    // Who has taken slots over unheard has a vote, too; how many they are is not known, but how many there were.
    if !lost.is_empty() && !table.covers_all_slots() && scene.may_wait_for_us(None) {
        let masters = usize::from(scene.policy.shape.masters);
        let unheard = masters.saturating_sub(owners).max(1);
        owners += unheard;
        votes += unheard;
        needed.push(None);
    }
    for node in lost.iter().filter(|node| !is_lost(scene, node)) {
        let ordinal = scene.ordinal_of(&node.id);
        if !scene.may_wait_for_us(ordinal) {
            return Vec::new();
        }
        votes += 1;
        needed.push(ordinal);
    }
    if votes > owners / 2 {
        needed
    } else {
        Vec::new()
    }
}

/// Who can end it that these slot owners are out of reach.
fn who_brings_back(scene: &Scene<'_>, table: &NodeTable, lost: &[&NodeEntry]) -> Vec<Option<u32>> {
    let mut needed = needed_for_majority(scene, table);
    if needed.is_empty() {
        return ordinals(scene, lost.iter().copied());
    }
    // Who shows as connected, and has not been heard yet, may be there.
    let unheard = lost.iter().copied().filter(|node| scene.in_reach(node));
    needed.extend(ordinals(scene, unheard));
    needed
}

fn majority(scene: &Scene<'_>, table: &NodeTable, plan: &mut Plan) {
    let lost = majority_lacks(scene, table);
    if !lost.is_empty() {
        let message = format!(
            "cut off from a majority of the masters: {} out of reach",
            names(scene, lost.iter().copied())
        );
        let blames = who_brings_back(scene, table, &lost);
        plan.block_on(ReasonCode::Minority, message, &blames);
    }
}

/// Passed once per start of Redis: every slot has an owner that is connected, not suspected and
/// heard of since that start, and the state is ok. `ok` alone is not enough: a Redis restarted
/// among dead peers says it for some seconds, and with an owner at `noaddr` for ever.
fn start_gate(scene: &Scene<'_>, own: &OwnFacts, plan: &mut Plan) {
    let run_id = &own.server.run_id;
    let latched = plan.memory().gate_run_id.as_ref() == Some(run_id);
    let lost: Vec<&NodeEntry> = own
        .table
        .slot_owners()
        .filter(|node| !scene.hears(node))
        .collect();
    let unowned = crate::model::slots::SlotSet::all().minus(&own.table.covered());
    let mut open = true;
    let mut hold = |plan: &mut Plan, code, message: String, blames: &[Option<u32>]| {
        open = false;
        if latched && !scene.policy.gate_always {
            plan.warn(code, message);
        } else {
            plan.block_on(code, message, blames);
        }
    };
    // Whoever took them over was stopped before this node heard of it, and is nobody that it can name.
    let somebody: &[Option<u32>] = if unowned.is_empty() { &[] } else { &[None] };
    if !unowned.is_empty() {
        let message = format!("slots {unowned} have no owner");
        hold(plan, ReasonCode::SlotsUncovered, message, somebody);
    }
    let lost_by = who_brings_back(scene, &own.table, &lost);
    let blames = [&lost_by[..], somebody].concat();
    if !lost.is_empty() {
        let message = format!("slots of {} are out of reach", names(scene, lost));
        hold(plan, ReasonCode::SlotsUncovered, message, &lost_by);
    }
    if !own.state_ok {
        hold(
            plan,
            ReasonCode::ClusterDown,
            "Redis says cluster_state:fail".to_owned(),
            &blames,
        );
    }
    if open && scene.stage != Stage::Virgin {
        plan.memory_mut().gate_run_id = Some(run_id.clone());
    }
}

/// Without a third master there is no majority left to elect a replica when a master dies.
fn too_few_masters(table: &NodeTable, plan: &mut Plan) {
    let masters = table.slot_owners().count();
    let replicas = table.settled().filter(|node| node.flags.replica()).count();
    if (1..3).contains(&masters) && replicas > 0 {
        plan.warn(
            ReasonCode::TooFewMasters,
            format!("with {masters} master(s) Redis cannot elect a replica when a master dies; three or more can"),
        );
    }
}

fn names<'t>(scene: &Scene<'_>, nodes: impl IntoIterator<Item = &'t NodeEntry>) -> String {
    let names: Vec<String> = nodes
        .into_iter()
        .map(|node| scene.name_of(&node.id))
        .collect();
    names.join(", ")
}

fn ordinals<'t>(
    scene: &Scene<'_>,
    nodes: impl IntoIterator<Item = &'t NodeEntry>,
) -> Vec<Option<u32>> {
    nodes
        .into_iter()
        .flat_map(|node| who_can_end_it(scene, node))
        .collect()
}

/// The pod of a node out of reach; or the pods of its replicas, when its own is another node now: this one, too,
/// if it has data.
fn who_can_end_it(scene: &Scene<'_>, node: &NodeEntry) -> Vec<Option<u32>> {
    let table = scene.table().into_iter().flat_map(NodeTable::settled);
    let no_data = scene.own.is_none_or(|own| own.server.keys == 0);
    let heirs = table.filter(|other| match other.flags.myself() {
        true => !no_data,
        false => !is_lost(scene, other),
    });
    let heirs: Vec<Option<u32>> = heirs
        .filter(|other| other.master == Some(node.id))
        .map(|other| match other.flags.myself() {
            true => Some(scene.policy.me.ordinal),
            false => scene.ordinal_of(&other.id),
        })
        .collect();
    if is_lost(scene, node) && !heirs.is_empty() {
        heirs
    } else {
        vec![scene.ordinal_of(&node.id)]
    }
}

/// Whether the pod of this node, which is out of reach, is another node now: as it answers, or, since nobody is
/// asked all the time, as the own table has it.
pub(super) fn replaced(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let Some(ordinal) = scene.ordinal_of(&node.id) else {
        return false;
    };
    let heir = scene.peers.get(&ordinal);
    let mut others = scene.table().into_iter().flat_map(NodeTable::others);
    heir.is_some_and(|heir| heir.facts.id != node.id)
        || others.any(|other| {
            let heard = scene.hears(other);
            other.id != node.id && heard && scene.ordinal_of(&other.id) == Some(ordinal)
        })
}

/// The same as it last answered: a ready pod asks less often than its answers are fresh, and would turn unready for
/// that and ask again.
pub(super) fn was_replaced(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let ordinal = scene.ordinal_of(&node.id);
    let mut places = scene.memory.places.iter();
    let another = places.any(|(id, places)| {
        let as_it = |place: &Place| ordinal.is_some() && place.ordinal == ordinal;
        *id != node.id && places.values().any(as_it)
    });
    let there = scene.in_reach(node) || scene.memory.places.contains_key(&node.id);
    replaced(scene, node) || another && !there
}

/// The same, or the pod's volume is blank: its Redis is held back until somebody else has its slots. Not one whose
/// pod is still to be created, anew: nobody takes its place before it has said again that it is blank.
fn is_lost(scene: &Scene<'_>, node: &NodeEntry) -> bool {
    let there = scene.in_reach(node) || scene.memory.places.contains_key(&node.id);
    let blank = scene.ordinal_of(&node.id).is_some_and(|ordinal| {
        scene.memory.blanks.contains_key(&ordinal) && !scene.waits_for_us(ordinal)
    });
    was_replaced(scene, node) || blank && !there
}
