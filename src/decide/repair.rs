//! A nodes.conf that is missing, damaged or made anew by a Redis that found none: whether the newest
//! good copy may take its place, while Redis is down (S8, S11). `init` has Redis wait for this rule;
//! beside a Redis that exits for its nodes.conf the running agent does the same.
//!
//! Not here: writing the file, and the lock on it (`volume/conf_copies`).

mod emptiness;
mod first_start;
mod next_start;

use super::plan::Plan;
use super::scene::{Scene, answered_id, verify};
use crate::model::decision::{Action, Start};
use crate::model::identity::NodeId;
use crate::model::kept_conf::{DataOnVolume, KeptConf};
use crate::model::node_table::{NodeEntry, NodeTable, NodesConf};
use crate::model::observation::{
    NodesFile, OwnRedis, PeerAgent, PeerAnswer, PeerFacts, PeerRedis, Silence, Stage, Volume,
};
use crate::model::reason::ReasonCode;
use crate::model::slots::SlotSet;
pub(super) use emptiness::data_is_gone;
use next_start::before_a_start;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const GAP: Duration = Duration::from_secs(1);
/// How often those are asked who would know this node.
const ASK_GAP: Duration = Duration::from_millis(300);
/// A Redis that is only starting or stopping refuses connections for less than this.
const DOWN_FOR: Duration = Duration::from_millis(500);
/// How long a replica may take to be elected in the place of a master whose data is gone. Without a
/// majority of masters none ever is, and then waiting helps nobody.
const ELECTED_WITHIN: Duration = Duration::from_secs(45);
/// How long DNS must have named nobody before this pod counts as the first of all to start.
const ALONE_FOR: Duration = Duration::from_secs(10);

/// What is wrong with nodes.conf.
enum Damage<'a> {
    /// It can be put right from itself.
    Mends(NodesConf, String),
    /// Only a copy can help.
    Lost(String, Option<&'a NodesConf>),
}

/// Orders the repair when all of it is proved, and otherwise says what it waits for.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let refused = match &scene.seen.own {
        OwnRedis::Up(_) => {
            plan.memory_mut().conf_lost_since = None;
            return born_again(scene, plan);
        }
        OwnRedis::Loading(..) => return plan.memory_mut().conf_lost_since = None,
        OwnRedis::Silent(why) => matches!(why, Silence::Refused(_)),
    };
    let Some(damage) = damage(scene) else {
        if plan.memory_mut().conf_lost_since.take().is_some()
            && let NodesFile::Read(conf) = &scene.seen.file
            && let Some(me) = conf.table.myself()
        {
            let told = format!("nodes.conf of node {} is whole again", me.id);
            plan.happened("nodes-conf-repaired", told);
        }
        return before_a_start(scene, plan);
    };
    if !refused {
        plan.memory_mut().conf_lost_since = None;
        return plan.start(Start::Wait("it is not known whether Redis runs".to_owned()));
    }
    let now = scene.seen.now;
    let since = *plan.memory_mut().conf_lost_since.get_or_insert(now);
    let (what, verdict) = match damage {
        Damage::Mends(conf, what) => (what, Ok((conf, "a moment later Redis writes this itself"))),
        Damage::Lost(what, None) => {
            let why = "there is no good copy of it on the volume; a person must bring one back";
            (what, Err(Start::Hold(why.to_owned())))
        }
        Damage::Lost(what, Some(copy)) => {
            ask_around(scene, copy, plan);
            let fit = may_return(scene, copy, now - since);
            (what, fit.map(|()| (copy.clone(), "its newest good copy")))
        }
    };
    let failed = scene.seen.kept.error.as_ref();
    let (told, start) = match verdict {
        Ok((conf, from)) => {
            let id = conf
                .table
                .myself()
                .map_or(String::new(), |me| me.id.to_string());
            if now - since >= DOWN_FOR {
                let over = scene.seen.file.clone();
                let evidence = format!("{what}; Redis is down, and node {id} answers nowhere else");
                let action = Action::RestoreConf { conf, over };
                plan.act("restore nodes.conf".to_owned(), GAP, action, evidence);
            }
            let told = match failed {
                Some(why) => format!("{from} cannot be put there: {why}"),
                None if plan.is_paused() => {
                    format!("{from} is put there when the pause is over")
                }
                None if scene.policy.dry_run => {
                    format!("{from} would be put there without DRY_RUN")
                }
                None => format!("{from} is being put there"),
            };
            (told.clone(), Start::Wait(told))
        }
        Err(Start::Hold(why)) => (why.clone(), Start::Hold(why)),
        Err(Start::Wait(why)) => (why.clone(), Start::Wait(why)),
        Err(Start::May) => return,
    };
    let told = format!("{what}: {told}");
    plan.block(ReasonCode::NodesConfDamaged, told.clone());
    plan.start(match start {
        Start::Hold(_) => Start::Hold(told),
        Start::Wait(_) | Start::May => Start::Wait(told),
    });
}

/// What is wrong, if it is known that something is.
fn damage<'a>(scene: &Scene<'a>) -> Option<Damage<'a>> {
    let copy = newest_good_copy(scene);
    let member = scene.note().is_some_and(|note| note.member);
    let gone = |what: &str| {
        // Without data and copy the volume was lost as a whole, and with it what there was to repair.
        let kept = scene.seen.kept.data == DataOnVolume::Some;
        let former = copy.is_some() || (member && kept);
        former.then(|| Damage::Lost(format!("nodes.conf is {what}"), copy))
    };
    match &scene.seen.file {
        NodesFile::Unreadable(_) => None,
        NodesFile::Missing => gone("missing"),
        NodesFile::Empty => gone("empty"),
        NodesFile::Torn(why) => Some(Damage::Lost(format!("nodes.conf is damaged ({why})"), copy)),
        NodesFile::Read(conf) => match conf.fault() {
            Some(fault) => {
                let what = format!("Redis does not start from its nodes.conf ({fault})");
                let mended = conf.with_shards_mended();
                match mended.fault() {
                    None => Some(Damage::Mends(mended, what)),
                    Some(_) => Some(Damage::Lost(what, copy)),
                }
            }
            None => {
                let alone = conf.newborn() && unlike_a_cluster_of_one(scene, conf);
                let former = copy.filter(|_| alone)?;
                let what = "nodes.conf was lost, and Redis made a new one".to_owned();
                Some(Damage::Lost(what, Some(former)))
            }
        },
    }
}

fn unlike_a_cluster_of_one(scene: &Scene<'_>, conf: &NodesConf) -> bool {
    let slots = conf.table.myself().is_some_and(|me| !me.slots.is_empty());
    scene.policy.expected() > 1 || !slots
}

pub(super) fn newest_good_copy<'a>(scene: &Scene<'a>) -> Option<&'a NodesConf> {
    newest_good(&scene.seen.kept)
}

pub(super) fn newest_good(kept: &KeptConf) -> Option<&NodesConf> {
    kept.copies.iter().find_map(|copy| match copy {
        NodesFile::Read(conf) if conf.fault().is_none() && !conf.newborn() => Some(conf),
        _ => None,
    })
}

/// Whether the node of this copy may come back; otherwise why not, or not yet.
fn may_return(scene: &Scene<'_>, copy: &NodesConf, lost_for: Duration) -> Result<(), Start> {
    let Some(me) = copy.table.myself() else {
        return Err(Start::Hold("the copy names no node".to_owned()));
    };
    let id = &me.id;
    if let Volume::Unreadable(why) = &scene.seen.volume {
        let why = format!("it is not known whose volume this is ({why})");
        return Err(Start::Hold(why));
    }
    if let Some(other) = scene.marker_of_another() {
        return Err(Start::Hold(format!("the volume is of the cluster {other}")));
    }
    if let Some(twin) = twin(scene, id) {
        let why = format!("its node {id} answers {twin}; a person must stop one of the two");
        return Err(Start::Hold(why));
    }
    // Whoever hears it proves that it lives, of this cluster or not.
    let mut all = fresh(scene).filter_map(|(_, answer)| facts(answer));
    if all.any(|facts| facts.hears.contains(id)) {
        let why = format!("another node is still connected to its node {id}");
        return Err(Start::Wait(why));
    }
    whereabouts(scene, copy, lost_for).map_err(Start::Wait)?;
    // Who knows nobody has forgotten nobody.
    let up = || of_ours(scene, &copy.table).filter(|facts| !facts.knows.is_empty());
    if up().next().is_some() && !up().any(|facts| facts.knows.contains(id)) {
        let why = format!("the cluster has forgotten its node {id}; a person must decide");
        return Err(Start::Hold(why));
    }
    if is_outdated(scene, copy, me) {
        let why = format!(
            "the others have its node {id} as a master, and the copy is from before that; waiting \
             until another has been elected in its place"
        );
        return Err(Start::Wait(why));
    }
    let left = slots_left(scene, &copy.table, me);
    if scene.seen.kept.data != DataOnVolume::Some && !left.is_empty() {
        let why = format!("its data is gone too, and no other node has taken over slots {left}");
        return Err(Start::Wait(why));
    }
    Ok(())
}

/// Where this node ID answers, if it does.
fn twin(scene: &Scene<'_>, id: &NodeId) -> Option<String> {
    fresh(scene).find_map(|(socket, answer)| {
        let claims = match &answer.agent {
            PeerAgent::Says(claim) => {
                claim.node_id == Some(*id) && claim.pod != scene.policy.me.to_string()
            }
            PeerAgent::Silent(_) => false,
        };
        let answers = facts(answer).is_some_and(|facts| facts.id == *id);
        (answers || claims).then(|| format!("at {socket}"))
    })
}

/// Whether enough is known of where the others are: a majority of them answers, or nobody is where
/// any of the rest should be. Silence alone is no such knowledge (S2).
fn whereabouts(scene: &Scene<'_>, copy: &NodesConf, lost_for: Duration) -> Result<(), String> {
    let (mut nodes, mut heard, mut unknown) = (0, 0, Vec::new());
    // Who has no name is one of those that are still to be created, when all others are known.
    let dns = &scene.seen.dns;
    let whole = dns.unknown.is_empty() && dns.addresses.contains_key(&scene.policy.me.ordinal);
    let mut others = in_dns(scene).filter(|socket| *socket != own_socket(scene));
    let answered = |socket: SocketAddr| {
        let answer = scene.memory.answers.get(&socket);
        answer.is_some_and(|a| facts(a).is_some() || is_refused(a))
    };
    let rest_to_come = whole && others.all(answered) && scene.may_wait_for_us(None);
    for node in copy.table.others() {
        nodes += 1;
        let sockets = sockets_of(scene, node);
        let answers: Vec<Option<&PeerAnswer>> = sockets
            .iter()
            .map(|socket| scene.memory.answers.get(socket))
            .collect();
        let up = |answer: &Option<&PeerAnswer>| answer.is_some_and(|a| facts(a).is_some());
        let refused = |answer: &Option<&PeerAnswer>| answer.is_some_and(is_refused);
        // The note may be lost, too.
        let named = || scene.ordinal_named(node.address.hostname()?);
        let ordinal = scene.ordinal_of(&node.id).or_else(named);
        let listed = ordinal.is_some_and(|ordinal| scene.seen.dns.addresses.contains_key(&ordinal));
        let absent = ordinal.is_some_and(|ordinal| scene.absent_from_dns(ordinal));
        let mut ids = fresh(scene).filter_map(|(_, answer)| answered_id(answer));
        if answers.iter().any(up) || ids.any(|id| id == node.id) {
            heard += 1;
        } else if !(absent
            || ordinal.is_none() && rest_to_come
            || listed && answers.iter().all(refused))
        {
            unknown.push(scene.name_of(&node.id));
        }
    }
    let enough = heard * 2 > nodes;
    let nobody_else = unknown.is_empty() && (heard > 0 || lost_for >= ALONE_FOR);
    match (enough || nobody_else || nodes == 0, unknown.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err("waiting whether somebody else appears".to_owned()),
        (false, false) => Err(format!("waiting to hear from {}", unknown.join(", "))),
    }
}

/// Asks every pod in DNS and every node of the copy, this pod's own name elsewhere included.
fn ask_around(scene: &Scene<'_>, copy: &NodesConf, plan: &mut Plan) {
    let nodes = copy.table.others();
    let sockets: BTreeSet<SocketAddr> = nodes
        .flat_map(|node| sockets_of(scene, node))
        .chain(in_dns(scene))
        .collect();
    for socket in sockets.into_iter().filter(|s| *s != own_socket(scene)) {
        plan.ask(socket, ASK_GAP);
    }
}

/// Where DNS has the pod of this node, or else where the copy has the node.
fn sockets_of(scene: &Scene<'_>, node: &NodeEntry) -> Vec<SocketAddr> {
    let ordinal = scene.ordinal_of(&node.id);
    let listed = ordinal.and_then(|ordinal| scene.seen.dns.addresses.get(&ordinal));
    match listed {
        Some(ips) => {
            let port = scene.policy.redis_port;
            ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
        }
        None => node.socket().into_iter().collect(),
    }
}

fn in_dns<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = SocketAddr> + 'a {
    let all = scene.seen.dns.addresses.values().flatten();
    all.map(|ip| SocketAddr::new(*ip, scene.policy.redis_port))
}

fn own_socket(scene: &Scene<'_>) -> SocketAddr {
    SocketAddr::new(scene.policy.pod_ip, scene.policy.redis_port)
}

/// The answers of the last second, this pod's own address left out: its Redis is down.
fn fresh<'a>(scene: &Scene<'a>) -> impl Iterator<Item = (&'a SocketAddr, &'a PeerAnswer)> {
    let own = own_socket(scene);
    let answers = scene.memory.answers.iter();
    answers.filter(move |(socket, _)| **socket != own)
}

/// What the nodes of this cluster answer. DNS may be wrong, and lead to another one's, which own slots, too.
fn of_ours<'a>(
    scene: &'a Scene<'a>,
    table: &'a NodeTable,
) -> impl Iterator<Item = &'a PeerFacts> + 'a {
    let ours = fresh(scene).filter(|(socket, answer)| {
        let known = answered_id(answer).is_some_and(|id| table.get(&id).is_some());
        known || verify(scene.policy, **socket, answer).is_ok()
    });
    ours.filter_map(|(_, answer)| facts(answer))
}

fn is_refused(answer: &PeerAnswer) -> bool {
    matches!(&answer.redis, PeerRedis::Silent(Silence::Refused(_)))
}

fn facts(answer: &PeerAnswer) -> Option<&PeerFacts> {
    match &answer.redis {
        PeerRedis::Up(facts) => Some(facts),
        PeerRedis::Silent(_) => None,
    }
}

/// Whether a majority of those who answer have this node as a master with slots, while its nodes.conf
/// gives it none: an older one, from before its election. Started from that it would give the slots up.
/// A nodes.conf that knows a newer epoch is from after that: this node has handed its slots over since, and
/// they have not heard of it.
fn is_outdated(scene: &Scene<'_>, conf: &NodesConf, me: &NodeEntry) -> bool {
    let elected = |epoch: &u64| *epoch >= conf.current_epoch;
    let up: Vec<bool> = of_ours(scene, &conf.table)
        .filter(|facts| !facts.knows.is_empty())
        .map(|facts| facts.owners.get(&me.id).is_some_and(elected))
        .collect();
    let owner = up.iter().filter(|owner| **owner).count();
    me.slots.is_empty() && owner * 2 > up.len()
}

/// The slots of a node that nobody else who has answered owns.
fn slots_left(scene: &Scene<'_>, table: &NodeTable, node: &NodeEntry) -> SlotSet {
    let up = of_ours(scene, table);
    let taken: SlotSet = up.flat_map(|facts| facts.slots.ranges()).copied().collect();
    node.slots.minus(&taken)
}

/// A former member that runs under a new ID and knows nobody: it stays as it is until its Redis ends,
/// as nodes.conf is not written while Redis runs (S8).
fn born_again(scene: &Scene<'_>, plan: &mut Plan) {
    let (Some(table), Some(me)) = (scene.table(), scene.me) else {
        return;
    };
    let alone = table.others().next().is_none() && scene.policy.expected() > 1;
    if scene.stage != Stage::Member || !alone || scene.marker_of_another().is_some() {
        return;
    }
    let copy = newest_good_copy(scene).and_then(|copy| copy.table.myself());
    let what = match copy {
        Some(was) if was.id != me.id => format!(
            "its copy, of node {}, takes its place when Redis is next stopped: restart the pod",
            was.id
        ),
        _ => "there is no copy of it; a person must bring it back, or empty the volume".to_owned(),
    };
    plan.block(
        ReasonCode::IdentityLost,
        format!("this volume's Redis was a member, and its nodes.conf was lost; {what}"),
    );
}
