//! What must hold, one function a property: after every step, and for every command an agent sends.
//! The judges see what is really there, which no agent does.

use super::agent::Agent;
use super::fake::volume::Disk;
use super::fake::{Keys, NEVER, Node};
use super::ghosts::Gone;
use super::known::{self, Known};
use super::owners::{cut_off, note_minorities, note_owners, one_owner_a_slot};
use super::stops;
use super::world::{Pod, World};
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::identity::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// S1 allows a second; the rest is what a command and the question before it take on their way.
pub(crate) const RECENTLY_MS: i64 = 1100;
/// And so much more for each pod beyond a few, where one rests on all of them (`ACQUAINTED_EACH`).
const EACH_MS: i64 = 100;
/// After so long with everything in reach an agent must have found out.
const FOUND_OUT_MS: i64 = 5000;
/// A name that DNS has had for so long is known to who acts: answers hold for a second.
const SEEN_AFTER_MS: i64 = 2500;
/// No rule writes the same thing more often, and no two rules share more than one time.
const SAME_WRITE_GAP_MS: i64 = 190;
/// So often within so long the same address is met by one agent, whatever comes of it.
const MEETS: usize = 11;
const MEETS_WITHIN_MS: i64 = 20_000;
/// How often it is looked who sees no majority.
const MINORITY_LOOK_MS: i64 = 100;
/// No agent writes more than this in a minute, whatever happens.
const WRITES_A_MINUTE: usize = 150;

/// What the judges remember.
#[derive(Default)]
pub(crate) struct Judge {
    /// The cluster that each ID was born in.
    pub(crate) births: BTreeMap<NodeId, usize>,
    /// Something changed in a table.
    pub(crate) look: bool,
    /// Keys that Redis dropped by itself and nobody else had: asynchronous replication.
    pub(crate) lost_by_redis: u32,
    /// A person merged two clusters in this history, or cloned a volume.
    pub(crate) merge_planted: bool,
    /// Two masters with the same slots and the same epoch, and since when.
    pub(crate) one_epoch: Option<((usize, usize, u64), i64)>,
    pub(crate) clone_planted: bool,
    /// Pods that the kubelet has announced a stop to, since when.
    pub(crate) to_be_stopped: BTreeMap<usize, i64>,
    pub(crate) handoffs: u64,
    /// Ready replicas without a link to a master that is there, since when.
    pub(crate) unlinked: BTreeMap<usize, i64>,
    /// When a pod's wall clock was last set back, and by how many milliseconds.
    pub(crate) set_back: BTreeMap<usize, (i64, i64)>,
    pub(crate) known: Known,
    /// When agents crashed or were stopped.
    pub(crate) agent_stops: Vec<(usize, i64)>,
    pub(crate) writes: u64,
    /// How many of them are forced elections.
    pub(crate) forced: u64,
    /// How often a pod became ready, or was so no more.
    pub(crate) turns: u64,
    pub(crate) last_write: String,
    tenancies: Vec<Tenancy>,
    violation: Option<String>,
    written: BTreeMap<(usize, u64, String), (i64, i64)>,
    pace: BTreeMap<usize, Vec<i64>>,
    /// Since when each pod has each node of another cluster in its table.
    foreign_since: BTreeMap<usize, BTreeMap<NodeId, i64>>,
    pub(crate) minority_since: BTreeMap<usize, i64>,
    pub(crate) minority_looked: i64,
    met: BTreeMap<(usize, u64, IpAddr), Vec<i64>>,
    /// Whom each node has in its table as gone.
    pub(crate) gone: BTreeMap<(usize, NodeId), Gone>,
    /// Who owns slots, and when each of the others last did.
    pub(crate) owners: BTreeSet<NodeId>,
    pub(crate) slots_lost_at: BTreeMap<NodeId, i64>,
    /// Since when each pod's volume has been marked.
    pub(crate) member_since: BTreeMap<usize, i64>,
    /// When each agent last ordered a MEET.
    pub(crate) met_at: BTreeMap<(usize, u64), i64>,
}

/// Which node answered at an address, and when.
struct Tenancy {
    ip: IpAddr,
    pod: usize,
    id: NodeId,
    from: i64,
    until: Option<i64>,
    /// The keys that it had at its end, and whether the volume was marked then.
    keys: Keys,
    member: bool,
}

impl Judge {
    /// When this pod's agents ordered the latest MEETs with this address.
    pub(crate) fn met_lately(&self, pod: usize, ip: IpAddr) -> impl Iterator<Item = i64> {
        let met = self.met.iter();
        let met = met.filter(move |((of, _, there), _)| (*of, *there) == (pod, ip));
        met.flat_map(|(_, times)| times.iter().copied())
    }

    pub(crate) fn booted(&mut self, now: i64, pod: usize, p: &Pod) {
        let (Some(node), Some(ip)) = (&p.node, p.ip) else {
            return;
        };
        self.births.entry(node.id).or_insert(p.cluster);
        self.look = true;
        self.tenancies
            .retain(|old| old.until.is_none_or(|until| now - until < 10_000));
        self.tenancies.push(Tenancy {
            ip,
            pod,
            id: node.id,
            from: now,
            until: None,
            keys: 0,
            member: false,
        });
    }

    pub(crate) fn ended(&mut self, now: i64, pod: usize, left: &Disk) {
        for tenancy in &mut self.tenancies {
            if tenancy.pod == pod && tenancy.until.is_none() {
                tenancy.until = Some(now);
                tenancy.keys = left.keys;
                tenancy.member = left.note.as_ref().is_some_and(|note| note.member);
            }
        }
    }

    /// A violation found elsewhere, to be told at the next check.
    pub(crate) fn fail(&mut self, what: String) {
        self.blame(what);
    }

    pub(crate) fn blame(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Whether this node runs, and did not at that time.
    pub(crate) fn started_within(&self, id: &NodeId, since: i64) -> bool {
        let mut tenancies = self.tenancies.iter();
        tenancies.any(|t| t.id == *id && t.until.is_none() && t.from >= since)
    }

    /// Who answered there within the last second.
    fn recently_at(&self, ip: IpAddr, now: i64) -> impl Iterator<Item = &Tenancy> {
        self.tenancies.iter().filter(move |old| {
            old.ip == ip && old.until.is_none_or(|until| now - until <= RECENTLY_MS)
        })
    }
}

/// After every step.
pub(crate) fn check(world: &mut World) -> Result<(), String> {
    if std::mem::take(&mut world.judge.look) {
        invariant_no_merge(world);
        one_owner_a_slot(world);
        note_owners(world);
        stops::invariant_a_handoff_keeps_all(world);
    }
    if world.now - world.judge.minority_looked >= MINORITY_LOOK_MS {
        note_minorities(world);
        super::ghosts::note_gone(world);
    }
    match world.judge.violation.take() {
        Some(what) => Err(what),
        None => Ok(()),
    }
}

/// No table has a settled node of another cluster.
fn invariant_no_merge(world: &mut World) {
    let mut found = None;
    for pod in 0..world.pods.len() {
        // A restart does not end it.
        if world.pods[pod].node.is_none() {
            continue;
        }
        let node = world.pods[pod].node.as_ref();
        let own = world.pods[pod].cluster;
        let strange = |id: &NodeId| world.cluster_of_id(id) != Some(own);
        let ids = node.into_iter().flat_map(Node::knows).map(|rec| rec.id);
        let foreign: BTreeSet<NodeId> = ids.filter(strange).collect();
        let now = world.now;
        let since = world.judge.foreign_since.entry(pod).or_default();
        since.retain(|id, _| foreign.contains(id));
        let planted = world.judge.merge_planted;
        for id in &foreign {
            since.entry(*id).or_insert(now);
        }
        if let Some(id) = foreign.first() {
            if !planted && known::slipped_in(world, pod, id) {
                world.judge.known.slipped = 1;
            }
            let name = world.pod_name(pod);
            found = Some(format!(
                "a merge: {id} of another cluster is in the table of {name}"
            ));
        }
    }
    if let Some(what) = found.filter(|_| !world.judge.merge_planted) {
        world.judge.blame(what);
    }
}

/// For every action, before it is carried out.
pub(crate) fn ordered(world: &mut World, pod: usize, action: &Action) {
    if let Action::RestoreConf { conf, .. } = action
        && let Some(what) = super::restored::s8_restore(world, pod, conf)
    {
        let name = world.pod_name(pod);
        let blame = format!("{name} orders: {action}: {what}");
        world.judge.blame(blame);
    }
    if !action.writes_to_redis() {
        return;
    }
    s12_rate(world, pod, action);
    let Some(node) = &world.pods[pod].node else {
        return;
    };
    let found = match action {
        Action::Meet { ip, .. } => s1_meet(world, pod, node, *ip),
        Action::Replicate { master, .. } => s5_replicate(world, pod, node, master),
        Action::AddSlots { .. } => s3_slots(world, pod),
        Action::SetConfigEpoch(_) => s3_epoch(world, pod, node),
        Action::DropHandshake { id, .. } => s6_forget(node, id),
        Action::Forget { id, .. } => super::ghosts::s6_forget(world, pod, node, id),
        Action::ForceFailover { master, .. } => super::ghosts::s7_force(world, pod, node, master),
        Action::HandOver { .. } | Action::TakeOver { .. } => stops::s7_failover(world, pod),
        Action::Announce { .. }
        | Action::Copies { .. }
        | Action::Hasten { .. }
        | Action::RestoreNodeTimeout(_)
        | Action::Remember(_)
        | Action::KeepConf(_)
        | Action::RestoreConf { .. }
        | Action::Record(_) => None,
    };
    let found = found
        .or_else(|| s9_foreign(world, pod, action))
        .or_else(|| s11_lost(world, pod, action))
        .or_else(|| s10_doubled(world, pod, action))
        .or_else(|| super::people::paused(world, pod, action));
    if let Some(what) = found {
        let name = world.pod_name(pod);
        world
            .judge
            .blame(format!("{name} orders: {action}: {what}"));
    }
}

/// Within the last second a node answered there whose ID is in the own table, or an empty one of the
/// same cluster (S1, S11).
fn s1_meet(world: &World, pod: usize, node: &Node, ip: IpAddr) -> Option<String> {
    let cluster = world.pods[pod].cluster;
    let mut there = world.judge.recently_at(ip, world.now).peekable();
    if there.peek().is_none() {
        return Some("S1: nobody has answered there within a second".to_owned());
    }
    let cut_off = cut_off(world, pod, node);
    let right = there.any(|tenancy| {
        let known = node.knows().any(|rec| rec.id == tenancy.id);
        let p = &world.pods[tenancy.pod];
        let running = p.node.as_ref().filter(|_| tenancy.until.is_none());
        let keys = running.map_or(tenancy.keys, |node| node.keys);
        let ours = p.cluster == cluster && tenancy.pod != pod;
        // Two that are forming may both have come so far that there is a cluster to write to.
        let member = |p: &Pod| p.disk.note.as_ref().is_some_and(|note| note.member);
        let lately = world.judge.member_since.get(&tenancy.pod);
        let lately = lately.is_some_and(|since| world.now - since <= RECENTLY_MS);
        let forming = (!member(p) || lately) && !member(&world.pods[pod]);
        // Introduced by another member meanwhile, it has begun to copy one of ours.
        let master = p.node.as_ref().and_then(|node| node.me().master);
        let ours_too = |id: NodeId| id == node.id || node.knows().any(|rec| rec.id == id);
        let joined = master.is_some_and(ours_too);
        known || (ours && ((keys == 0 && !cut_off) || forming || joined))
    });
    let why = match cut_off {
        true => "S1: who answered there is not known, and this node sees no majority",
        false => "S1: who answered there is neither known nor an empty pod of ours",
    };
    (!right).then(|| why.to_owned())
}

/// An empty node, or the link to the present master; the target is that node and owns slots (S5).
fn s5_replicate(world: &World, pod: usize, node: &Node, master: &NodeId) -> Option<String> {
    let me = node.me();
    // Redis may have followed another one since the agent looked, or been elected, and then it
    // refuses; no command says "if it is still so".
    let just_now = node
        .former_master
        .is_some_and(|(id, at)| id == *master && world.wall(pod) - at <= RECENTLY_MS);
    if just_now && !me.replica {
        return None;
    }
    let repair = me.replica && (me.master == Some(*master) || just_now);
    if !repair && (node.keys != 0 || me.segs != 0) {
        return Some("S5: it has keys or slots, and another master".to_owned());
    }
    let rec = node.recs.get(master)?;
    // The command names the ID; Redis may have taken a stale address for it since the agent looked.
    if world.wall(pod) - rec.moved <= RECENTLY_MS {
        return None;
    }
    let ip = rec.ip?;
    if world.cluster_of_id(master) != Some(world.pods[pod].cluster) {
        return Some("S5: the master is of another cluster".to_owned());
    }
    let mut there = world.judge.recently_at(ip, world.now);
    let owner = there.any(|tenancy| {
        let p = &world.pods[tenancy.pod];
        let segs = p.node.as_ref().map_or(1, |node| node.me().segs);
        let lost = world.judge.slots_lost_at.get(master);
        // Redis refuses it, as the master has become a replica.
        let lately = lost.is_some_and(|at| world.now - at <= recently(world));
        tenancy.id == *master && (segs != 0 || lately || tenancy.until.is_some())
    });
    (!owner).then(|| format!("S5: at {ip} no {master} with slots has answered within a second"))
}

/// No node is forgotten; an ID that is in no table at all may be a handshake's that is over (S6).
fn s6_forget(node: &Node, id: &NodeId) -> Option<String> {
    let settled = node.knows().any(|rec| rec.id == *id);
    settled.then(|| "S6: it is no handshake".to_owned())
}

/// Of many pods, all together may have answered a little longer ago.
fn recently(world: &World) -> i64 {
    let expected = world.layout.shape.expected_pods();
    let beyond_a_few = expected.saturating_sub(world.layout.few);
    RECENTLY_MS + EACH_MS * i64::from(beyond_a_few)
}

/// Every pod of the first shape is there and has nothing, nor has one beyond it that DNS names (S3).
fn s3_slots(world: &World, pod: usize) -> Option<String> {
    let cluster = world.pods[pod].cluster;
    let expected = world.layout.shape.expected_pods();
    let recently = recently(world);
    for (other, p) in world.pods.iter().enumerate() {
        if p.cluster != cluster {
            continue;
        }
        let in_shape = p.ordinal < expected;
        if !in_shape && !world.zones[cluster].named_for(p.ordinal, SEEN_AFTER_MS, world.now) {
            continue;
        }
        let name = world.pod_name(other);
        let keys = p.node.as_ref().map_or(p.disk.keys, |node| node.keys);
        // Replaced a moment ago, with another volume.
        let was_blank = world.judge.tenancies.iter().any(|t| {
            let ended = t.until.is_some_and(|until| world.now - until <= recently);
            t.pod == other && ended && t.keys == 0 && !t.member
        });
        let marked = p.disk.note.as_ref().is_some_and(|note| note.member);
        // A replica of the plan may have copied whoever has its master's old address.
        let follows = p.node.as_ref().is_some_and(|node| node.me().replica);
        // Of those that form a cluster one has gone back to before it had its part; the others go on.
        let has_part = p.node.as_ref().is_some_and(|node| node.me().segs != 0);
        let forms = has_part && !world.snapshots.is_empty();
        if ((keys != 0 && !follows && !forms) || marked) && !was_blank {
            return Some(format!("S3: {name} has keys or the marker"));
        }
        let strangers = world.judge.foreign_since.get(&other);
        let mut since = strangers.into_iter().flat_map(BTreeMap::values);
        if since.any(|since| world.now - since > recently) {
            return Some(format!("S3: {name} knows a node of another cluster"));
        }
        let there = world.judge.tenancies.iter().any(|tenancy| {
            let recent = tenancy
                .until
                .is_none_or(|until| world.now - until <= recently);
            tenancy.pod == other && recent
        });
        if !there && in_shape {
            return Some(format!("S3: {name} has not been there within a second"));
        }
    }
    None
}

fn s3_epoch(world: &World, pod: usize, node: &Node) -> Option<String> {
    let member = world.pods[pod].disk.note.as_ref().is_some_and(|n| n.member);
    (member || node.keys != 0).then(|| "S3: it has keys or the marker".to_owned())
}

/// With a node of another cluster in the table for long, and its agent in reach, nothing is written
/// (S9); the node timeout alone comes back.
fn s9_foreign(world: &World, pod: usize, action: &Action) -> Option<String> {
    let since = world.judge.foreign_since.get(&pod)?;
    let node = world.pods[pod].node.as_ref()?;
    let quiet = |p: &Pod| {
        let started = p
            .agent
            .as_ref()
            .is_some_and(|agent: &Agent| agent.rounds > 20);
        started && p.agent_frozen_until + FOUND_OUT_MS < world.now
    };
    let own = world.pods[pod].cluster;
    let found = world.pods.iter().enumerate().find_map(|(other, p)| {
        let there = p.node.as_ref().filter(|n| {
            let rec = node.recs.get(&n.id);
            rec.is_some_and(|rec| rec.ip == p.ip && rec.link.is_some())
        })?;
        let reached = p.cluster != own && quiet(p) && world.has_reached(pod, other);
        let ms = world.now - since.get(&there.id).filter(|_| reached)?;
        (ms > FOUND_OUT_MS).then_some(ms)
    })?;
    let restores = matches!(action, Action::RestoreNodeTimeout(_));
    // Nobody knows who is in the table of a Redis that has not answered yet.
    let knows_its_table = !node.loading(world.wall(pod) - FOUND_OUT_MS);
    (quiet(&world.pods[pod]) && knows_its_table && !restores)
        .then(|| format!("S9: a node of another cluster is in its table since {found} ms"))
}

/// Nobody is met whose ID answers at two addresses for long (S10).
fn s10_doubled(world: &World, pod: usize, action: &Action) -> Option<String> {
    let Action::Meet { ip, .. } = action else {
        return None;
    };
    let judge = &world.judge;
    let here = judge
        .tenancies
        .iter()
        .find(|t| t.ip == *ip && t.until.is_none())?;
    let twin = judge
        .tenancies
        .iter()
        .find(|t| t.id == here.id && t.until.is_none() && t.pod != here.pod)?;
    let since = here.from.max(twin.from);
    let asked = [here.pod, twin.pod].iter().all(|other| {
        let p = &world.pods[*other];
        let answers = p.agent.as_ref().is_some_and(|agent| agent.rounds > 20);
        answers && world.has_reached(pod, *other) && p.redis_frozen_until + RECENTLY_MS < world.now
    });
    let agent = world.pods[pod].agent.as_ref();
    let own = judge.tenancies.iter();
    let own = own.filter(|t| t.pod == pod && t.until.is_none());
    // Before its own Redis is there its agent asks for other reasons (seed 2780008362).
    let mine = agent.map(|agent| agent.started).into_iter();
    let mine = mine.chain(own.map(|t| t.from)).max().unwrap_or(since);
    let long = world.now - since.max(mine) > FOUND_OUT_MS;
    (asked && long).then(|| format!("S10: {} answers twice", here.id))
}

/// A former member that knows nobody has lost its nodes.conf: it introduces nobody and begins nothing
/// (S11).
fn s11_lost(world: &World, pod: usize, action: &Action) -> Option<String> {
    let changes = matches!(
        action,
        Action::Meet { .. } | Action::Replicate { .. } | Action::AddSlots { .. }
    );
    let p = &world.pods[pod];
    let alone = p.node.as_ref().is_some_and(|node| node.recs.len() == 1);
    let member = p.disk.note.as_ref().is_some_and(|note| note.member);
    let lost = changes && alone && member && world.layout.shape.expected_pods() > 1;
    lost.then(|| "S11: it was a member, and knows nobody".to_owned())
}

/// Nothing is written in a loop (S12).
fn s12_rate(world: &mut World, pod: usize, action: &Action) {
    let (now, name) = (world.now, world.pod_name(pod));
    let starts = world.pods[pod].agent_starts;
    let judge = &mut world.judge;
    judge.writes += 1;
    judge.forced += u64::from(matches!(action, Action::ForceFailover { .. }));
    judge.last_write = format!("{name}: {action}");
    let text = action.to_string();
    let key = (pod, starts, text.clone());
    let (last, before) = judge.written.get(&key).copied().unwrap_or((NEVER, NEVER));
    judge.written.insert(key, (now, last));
    // Two rules may have the same peer met.
    if now - before < SAME_WRITE_GAP_MS {
        judge.blame(format!("S12: {name} orders again at once: {text}"));
    }
    if let Action::Meet { ip, .. } = action {
        judge.met_at.insert((pod, starts), now);
        let met = judge.met.entry((pod, starts, *ip)).or_default();
        met.retain(|at| now - at < MEETS_WITHIN_MS);
        met.push(now);
        let count = met.len();
        if count > MEETS {
            judge.blame(format!("S12: {name} meets {ip} {count} times in 20 s"));
        }
    }
    let pace = judge.pace.entry(pod).or_default();
    pace.retain(|at| now - at < 60_000);
    pace.push(now);
    let count = pace.len();
    if count > WRITES_A_MINUTE {
        judge.blame(format!("S12: {name} writes {count} times a minute"));
    }
}
