//! What no agent can prevent or cure, each known and told in docs/SAFETY.md: it is counted, and fails no
//! history. Everything else does.

use super::fake::volume::Damage;
use super::world::{Pod, World};
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::reason::ReasonCode;
use std::collections::BTreeMap;

/// An agent that is stopped so soon after its MEET may not have seen yet that its target is gone.
pub(crate) const UNWATCHED_MS: i64 = 500;
/// Of many pods that form a cluster one may be slow: three questions end in vain before it counts as gone.
const UNWATCHED_MANY_MS: i64 = 2000;

/// How often each was found.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Known {
    /// Shards whose nodes replicate each other at the end (S7).
    pub(crate) rings: u64,
    /// Shards whose last data was dropped for an empty master's (S7).
    pub(crate) emptied: u64,
    /// Nodes that hold a lost master for the owner of its slots for ever (S6).
    pub(crate) dead_owners: u64,
    /// Replicas of a replica whose link is down (S5).
    pub(crate) sub_replicas: u64,
    /// Merges after an agent was stopped right after its MEET (S1).
    pub(crate) slipped: u64,
    /// Bus links that are half open, with nothing to be sent: their node waits for a PONG for ever (S2).
    pub(crate) half_open: u64,
    /// Masters without data, waited for by `OrderedReady`, that wait for an election (S8) or a person.
    pub(crate) held_back: u64,
    /// Handoffs that a clock set back had begin again after their end, on the replica alone (S7).
    pub(crate) belated: u64,
    /// Replicas that dropped keys for another node's data, at their master's former address (S5).
    pub(crate) mistaken: u64,
    /// Masters that came up without data, whose replicas keep it from them (S5).
    pub(crate) spared: u64,
}

impl std::ops::AddAssign for Known {
    fn add_assign(&mut self, more: Known) {
        self.rings += more.rings;
        self.emptied += more.emptied;
        self.dead_owners += more.dead_owners;
        self.sub_replicas += more.sub_replicas;
        self.slipped += more.slipped;
        self.half_open += more.half_open;
        self.held_back += more.held_back;
        self.belated += more.belated;
        self.mistaken += more.mistaken;
        self.spared += more.spared;
    }
}

/// Whether what is not whole in any cluster will stay so until a person comes, and says so.
pub(crate) fn needs_a_person(world: &mut World, lacking: &[usize]) -> bool {
    let found: Vec<_> = lacking.iter().map(|of| waiting(world, *of)).collect();
    if found.iter().any(Option::is_none) {
        return false;
    }
    for (known, what) in found.into_iter().flatten() {
        world.judge.known += known;
        world.tell(|_| format!("= {what}"));
    }
    true
}

/// What waits for a person now in this cluster, and is said.
pub(crate) fn waiting(world: &World, cluster: usize) -> Option<(Known, &'static str)> {
    let mut known = Known::default();
    let pods = world.pods.iter().filter(|pod| pod.cluster == cluster);
    let pods: Vec<&Pod> = pods.collect();
    let what = if in_a_ring(&pods) {
        known.rings = 1;
        "the nodes of a shard replicate each other"
    } else if emptied(&pods) {
        known.emptied = 1;
        "a shard was emptied, and its agents say so"
    } else if spared(&pods) {
        known.spared = 1;
        "a master came up without data, its replica has it, and its agent says so"
    } else if a_dead_owner(&pods) {
        known.dead_owners = 1;
        "a node holds a lost master for an owner of slots, and its agent says so"
    } else if a_sub_replica(&pods) {
        known.sub_replicas = 1;
        "a replica's master has become a replica, and the link is down, as its agent says"
    } else if half_open(world, &pods) {
        known.half_open = 1;
        "a node waits for a PONG over a link that is half open, and its agent says so"
    } else if held_back(world, cluster) {
        known.held_back = 1;
        "a lost master waits for a replica, and OrderedReady has not created who would help"
    } else {
        return None;
    };
    Some((known, what))
}

/// Whether two nodes replicate each other, so that nobody owns their slots, and both agents say so.
fn in_a_ring(pods: &[&Pod]) -> bool {
    let master = |p: &Pod| p.node.as_ref().and_then(|node| node.me().master);
    pods.iter().any(|p| {
        let id = p.node.as_ref().map(|node| node.id);
        let mut others = pods.iter();
        let other = others.find(|q| q.node.as_ref().map(|node| node.id) == master(p));
        id.is_some()
            && other.is_some_and(|q| master(q) == id && says_uncovered(p) && says_uncovered(q))
    })
}

fn says_uncovered(p: &Pod) -> bool {
    let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
    let mut reasons = decision.iter().flat_map(|decision| &decision.reasons);
    reasons.any(|reason| reason.code == ReasonCode::SlotsUncovered)
}

/// Whether a replica copied its reborn master's emptiness before anybody could prevent it, or had no
/// data before, and its agent, which was not there, cannot know: it takes nobody's place, and says so.
fn emptied(pods: &[&Pod]) -> bool {
    pods.iter().any(|p| {
        let node = p.node.as_ref();
        let bare = node.is_some_and(|node| node.me().replica && node.keys == 0);
        bare && says(p, "a person must decide")
    })
}

/// Whether a master came up without data, and says that a replica may have it, which does.
fn spared(pods: &[&Pod]) -> bool {
    pods.iter().any(|p| {
        let Some(node) = &p.node else { return false };
        let heirs = pods.iter().filter_map(|q| q.node.as_ref());
        let mut heirs = heirs.filter(|heir| heir.me().master == Some(node.id));
        says(p, "it came up without any") && heirs.any(|heir| heir.keys != 0)
    })
}

fn says(p: &Pod, words: &str) -> bool {
    let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
    let mut reasons = decision.iter().flat_map(|decision| &decision.reasons);
    reasons.any(|reason| reason.message.contains(words))
}

/// Whether a node holds one that does not exist any more for the owner of slots, by an epoch that the
/// true owner has not: an impostor at its address had that one (`clusterProcessPacket` notes the epoch
/// of whoever answers before it looks at the ID).
fn a_dead_owner(pods: &[&Pod]) -> bool {
    let nodes = || pods.iter().filter_map(|p| p.node.as_ref());
    let lives: BTreeMap<NodeId, u64> = nodes().map(|node| (node.id, node.me().epoch)).collect();
    let highest = |segs: u32| {
        let owners = nodes().filter(|node| !node.me().replica && node.me().segs & segs != 0);
        owners.map(|node| node.me().epoch).max()
    };
    let dead = || {
        let recs = nodes().flat_map(|node| node.recs.values());
        recs.filter(|rec| !lives.contains_key(&rec.id) && rec.segs != 0)
    };
    // Then the replica is not elected: who holds a newer epoch refuses it the vote.
    let differ = dead().any(|rec| dead().any(|same| same.id == rec.id && same.epoch != rec.epoch));
    pods.iter().any(|p| {
        let mut recs = p.node.iter().flat_map(|node| node.recs.values());
        recs.any(|rec| {
            let dead = !lives.contains_key(&rec.id) && rec.segs != 0;
            dead && highest(rec.segs).is_some_and(|epoch| rec.epoch >= epoch)
        }) && says_uncovered(p)
    }) || (differ && pods.iter().any(|p| says(p, "in vain to be elected")))
}

/// Whether a replica replicates a replica over a link that is down, and its agent says so much.
fn a_sub_replica(pods: &[&Pod]) -> bool {
    pods.iter().any(|p| {
        let node = p.node.as_ref();
        let master = node.and_then(|node| node.recs.get(&node.me().master?));
        let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
        let mut reasons = decision.iter().flat_map(|decision| &decision.reasons);
        master.is_some_and(|master| master.replica)
            && reasons.any(|reason| reason.code == ReasonCode::ReplicaLinkDown)
    })
}

/// Whether a node has sent its PING to a Redis that was stopped, whose pod then went without a word and
/// came back at the same address. It pings again after the PONG alone, and what it is sent by that node
/// keeps it from dialling anew (`clusterCron`: `data_delay`).
fn half_open(world: &World, pods: &[&Pod]) -> bool {
    pods.iter().any(|p| {
        let mut recs = p.node.iter().flat_map(|node| node.recs.values());
        recs.any(|rec| {
            let unheard = rec.link.is_some_and(|l| world.unheard.contains_key(&l.id));
            unheard && rec.ping_sent != 0 && rec.ping_sent < rec.data_received
        }) && says_uncovered(p)
    })
}

/// Whether a master without its data waits for a replica of it to be elected, and pods are not created that would
/// vote, or that have the data while this replica has none (a person must decide); its nodes.conf may be gone, too.
fn held_back(world: &World, cluster: usize) -> bool {
    let pods = || world.pods.iter().filter(|p| p.cluster == cluster);
    let runs = |id: NodeId| pods().any(|p| p.node.as_ref().is_some_and(|node| node.id == id));
    let orphan = |p: &&Pod| {
        let master = p.node.as_ref().and_then(|node| node.me().master);
        master.is_some_and(|master| !runs(master))
    };
    let empty = |p: &Pod| p.node.as_ref().is_some_and(|node| node.keys == 0);
    let mut held = pods().filter(|p| p.node.is_none() && p.ip.is_some());
    let held = held.any(|p| p.disk.data_gone || p.disk.conf.is_none());
    // Of a master that never held a key nothing else is on the volume.
    let no_data = |p: &Pod| p.disk.data_gone || p.disk.keys == 0;
    let no_conf = |p: &Pod| p.disk.conf.is_none() || p.disk.damage == Damage::Torn;
    let mut of_both = pods().filter(|p| no_data(p) && no_conf(p));
    let waits = pods()
        .filter(orphan)
        .any(|p| if empty(p) { says_uncovered(p) } else { held })
        || of_both.any(|p| p.node.is_none() && says(p, "its data is gone too"));
    world.in_order == Some(cluster) && pods().any(|p| p.ip.is_none()) && waits
}

/// Whether a person is waited for now, though those that `OrderedReady` has not created would end it.
pub(crate) fn ordered_or_not(world: &World, cluster: usize) -> bool {
    let pods = world.pods.iter().filter(|pod| pod.cluster == cluster);
    let pods: Vec<&Pod> = pods.collect();
    held_back(world, cluster) || a_dead_owner(&pods)
}

/// An agent stops, for ever or for so long that nobody watches a MEET meanwhile.
pub(crate) fn agent_stops(world: &mut World, pod: usize) {
    let now = world.now;
    world.judge.agent_stops.push((pod, now));
}

/// Whether a foreign node came into this pod's table by a MEET of its agent that was armed for another
/// one, and nobody watched.
pub(crate) fn slipped_in(world: &World, pod: usize, id: &NodeId) -> bool {
    let rec = world.pods[pod].node.as_ref();
    let Some(ip) = rec.and_then(|node| node.recs.get(id)?.ip) else {
        return false;
    };
    let judge = &world.judge;
    let mut stops = judge.agent_stops.iter().filter(|(of, _)| *of == pod);
    stops.any(|(_, stopped)| {
        let few = world.layout.shape.expected_pods() <= world.layout.few;
        let unwatched = if few { UNWATCHED_MS } else { UNWATCHED_MANY_MS };
        let before = *stopped - unwatched..=*stopped;
        judge.met_lately(pod, ip).any(|at| before.contains(&at))
    })
}
