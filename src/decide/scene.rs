//! The facts of one round, put together once so that every rule reads the same ones: who is
//! verified to be whom, how far this pod has come, what is missing.

use super::memory::{FRESH, Memory, PLACE_KEPT};
use super::policy::Policy;
use crate::model::identity::{NodeId, PodName};
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{
    Observation, OwnFacts, OwnRedis, PeerAgent, PeerAnswer, PeerClaim, PeerFacts, PeerRedis, Stage,
    Volume, VolumeNote,
};
use crate::model::peers::DnsAnswer;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How much longer for each pod beyond a few an answer counts towards all of them together.
const ACQUAINTED_EACH: Duration = Duration::from_millis(100);

/// A pod of this cluster whose Redis and whose agent agree on who it is, within the last second.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its ordinal.
    pub ordinal: u32,
    /// Where it answered.
    pub socket: SocketAddr,
    /// What its Redis says.
    pub facts: &'a PeerFacts,
    /// What its agent says.
    pub claim: &'a PeerClaim,
}

/// Why an answer is no proof of identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unverified {
    /// Somebody is silent: unknown.
    Silent(String),
    /// Redis and agent do not agree yet on the node ID.
    Disagree,
    /// The agent is of another cluster.
    Foreign {
        /// Which.
        cluster: String,
        /// The ID of the Redis there, as that agent says: it has a password for it.
        id: Option<NodeId>,
    },
}

/// One round's facts.
pub struct Scene<'a> {
    /// The configuration.
    pub policy: &'a Policy,
    /// What earlier rounds and this one taught.
    pub memory: &'a Memory,
    /// What this round saw.
    pub seen: &'a Observation,
    /// The own Redis, when it is in full service.
    pub own: Option<&'a OwnFacts>,
    /// The own line in the own table.
    pub me: Option<&'a NodeEntry>,
    /// Verified pods, by ordinal. An ordinal that two nodes claim is not in here.
    pub peers: BTreeMap<u32, Peer<'a>>,
    /// The same, and those of many pods that were verified a little longer ago: for what rests on all
    /// of them at once, and on no single one (S3).
    pub acquainted: BTreeMap<u32, Peer<'a>>,
    /// How far this pod has come.
    pub stage: Stage,
}

/// Whether an answer proves that a pod of this cluster is there: its Redis answers, its agent
/// answers, and both name the same node ID (S1).
pub fn verify<'a>(
    policy: &Policy,
    socket: SocketAddr,
    answer: &'a PeerAnswer,
) -> Result<Peer<'a>, Unverified> {
    if let PeerAgent::Says(claim) = &answer.agent
        && claim.cluster != policy.cluster
    {
        return Err(Unverified::Foreign {
            cluster: claim.cluster.clone(),
            id: claim.node_id,
        });
    }
    let facts = match &answer.redis {
        PeerRedis::Up(facts) => facts,
        PeerRedis::Silent(why) => return Err(Unverified::Silent(format!("its Redis {why}"))),
    };
    let claim = match &answer.agent {
        PeerAgent::Says(claim) => claim,
        PeerAgent::Silent(why) => {
            return Err(Unverified::Silent(format!(
                "its sidecar does not answer: {why}"
            )));
        }
    };
    let pod: PodName = claim
        .pod
        .parse()
        .map_err(|_| Unverified::Silent(format!("its sidecar says it is {:?}", claim.pod)))?;
    if pod.set != policy.me.set || claim.node_id.as_ref() != Some(&facts.id) {
        return Err(Unverified::Disagree);
    }
    Ok(Peer {
        ordinal: pod.ordinal,
        socket,
        facts,
        claim,
    })
}

/// The ordinal of this cluster's pod as which an agent answers.
pub(super) fn claimed_ordinal(policy: &Policy, claim: &PeerClaim) -> Option<u32> {
    let pod: PodName = claim.pod.parse().ok()?;
    let ours = pod.set == policy.me.set && claim.cluster == policy.cluster;
    ours.then_some(pod.ordinal)
}

/// The ID of the Redis that answered.
pub fn answered_id(answer: &PeerAnswer) -> Option<NodeId> {
    match &answer.redis {
        PeerRedis::Up(facts) => Some(facts.id),
        PeerRedis::Silent(_) => None,
    }
}

impl Peer<'_> {
    /// Its agent has seen enough to say how far its pod has come.
    pub fn knows_its_stage(&self) -> bool {
        !matches!(self.claim.stage, None | Some(Stage::Unknown))
    }

    /// Knows nobody, owns nothing, holds nothing and has never been a member (S3).
    pub fn virgin(&self) -> bool {
        self.claim.stage == Some(Stage::Virgin) && self.facts.knows.is_empty() && self.blank()
    }

    /// Owns nothing, holds nothing and has never been a member, whomever it knows.
    pub fn blank(&self) -> bool {
        let facts = self.facts;
        matches!(self.claim.stage, Some(Stage::Virgin | Stage::Forming))
            && facts.slots.is_empty()
            && facts.master.is_none()
            && facts.keys == 0
    }
}

impl<'a> Scene<'a> {
    /// Puts the facts together.
    pub fn new(policy: &'a Policy, memory: &'a Memory, seen: &'a Observation) -> Scene<'a> {
        let own = match &seen.own {
            OwnRedis::Up(own) => Some(&**own),
            OwnRedis::Silent(_) | OwnRedis::Loading(..) => None,
        };
        let me = own.and_then(|own| own.table.myself());
        let peers = verified_peers(policy, memory, me);
        Scene {
            policy,
            memory,
            seen,
            own,
            me,
            acquainted: acquainted(policy, memory, seen, &peers),
            peers,
            stage: stage(own, me, memory, &seen.volume),
        }
    }

    /// The own table, when the own Redis is in full service.
    pub fn table(&self) -> Option<&'a NodeTable> {
        self.own.map(|own| &own.table)
    }

    /// Connected, not suspected, and heard of since its link was last seen down.
    pub fn in_reach(&self, node: &NodeEntry) -> bool {
        node.healthy() && !self.memory.hung_up.contains_key(&node.id)
    }

    /// In reach, and heard since the own Redis was started: a link that is still dialled shows as connected, too.
    pub fn hears(&self, node: &NodeEntry) -> bool {
        self.in_reach(node) && !self.memory.unheard.contains_key(&node.id)
    }

    /// The note on the volume, when there is one.
    pub fn note(&self) -> Option<&'a VolumeNote> {
        match &self.seen.volume {
            Volume::Says(note) => Some(note),
            Volume::Blank | Volume::Unreadable(_) => None,
        }
    }

    /// The cluster whose marker is on the volume, when it is not this pod's.
    pub fn marker_of_another(&self) -> Option<&'a str> {
        let note = self.note()?;
        let foreign = note.member && note.cluster != self.policy.cluster;
        foreign.then_some(note.cluster.as_str())
    }

    /// The verified pod that has this node ID.
    pub fn peer_with_id(&self, id: &NodeId) -> Option<&Peer<'a>> {
        self.peers.values().find(|peer| peer.facts.id == *id)
    }

    /// Whether this node answers there and owns slots: what a replica may copy from (S5).
    pub fn slot_owner_answers(&self, socket: SocketAddr, id: &NodeId) -> bool {
        let answer = self.memory.answers.get(&socket);
        answer.is_some_and(|answer| {
            matches!(&answer.redis, PeerRedis::Up(facts) if facts.id == *id && !facts.slots.is_empty())
        })
    }

    /// The name of the pod that has this node ID, or else the ID.
    pub fn name_of(&self, id: &NodeId) -> String {
        match self.ordinal_of(id) {
            Some(ordinal) => self.policy.pod(ordinal),
            None => id.to_string(),
        }
    }

    /// The ordinal that has this node ID: verified, remembered, or by the hostname it announced.
    pub fn ordinal_of(&self, id: &NodeId) -> Option<u32> {
        if let Some(ordinal) = self.memory.pods.get(id) {
            return Some(*ordinal);
        }
        self.ordinal_named(self.table()?.get(id)?.address.hostname()?)
    }

    /// The ordinal of another pod of this set by the hostname that it announces.
    pub fn ordinal_named(&self, hostname: &str) -> Option<u32> {
        let (own_pod, rest) = self.policy.hostname.split_once('.')?;
        let (pod, their_rest) = hostname.split_once('.')?;
        let pod: PodName = pod.parse().ok()?;
        (their_rest == rest && pod.set == self.policy.me.set && pod.to_string() != own_pod)
            .then_some(pod.ordinal)
    }

    /// The ordinal that has, or had, this node ID: this pod's own included.
    pub fn former_ordinal_of(&self, id: &NodeId) -> Option<u32> {
        let announced = self.table()?.get(id)?.address.hostname();
        let mine = announced == Some(self.policy.hostname.as_str());
        self.ordinal_of(id)
            .or_else(|| mine.then_some(self.policy.me.ordinal))
    }

    /// Whether DNS has no address for this ordinal, and said so. A failed question is not an
    /// answer (S2).
    pub fn absent_from_dns(&self, ordinal: u32) -> bool {
        let answered = !matches!(self.seen.dns.answer, DnsAnswer::Failed(_));
        answered
            && !self.seen.dns.addresses.contains_key(&ordinal)
            && !self.seen.dns.unknown.contains(&ordinal)
    }

    /// Whether waiting for this ordinal could wait for ever: with OrderedReady, Kubernetes creates
    /// a higher ordinal only when this pod is ready. Whoever is in reach exists, whatever DNS says.
    pub fn waits_for_us(&self, ordinal: u32) -> bool {
        ordinal > self.policy.me.ordinal
            && self.absent_from_dns(ordinal)
            && !self.reaches_ordinal(ordinal)
    }

    fn reaches_ordinal(&self, ordinal: u32) -> bool {
        let mut others = self.table().into_iter().flat_map(NodeTable::others);
        others.any(|node| self.hears(node) && self.ordinal_of(&node.id) == Some(ordinal))
    }

    /// The same for one whose ordinal may not be known: it counts as one that is waiting while any higher
    /// ordinal is absent that is expected, that the own table has, or that is another pod's slot owner or
    /// the last one it knows: of a set that was scaled in, until those are forgotten.
    pub fn may_wait_for_us(&self, ordinal: Option<u32>) -> bool {
        let waits = |ordinal: u32| self.waits_for_us(ordinal);
        let nodes = || self.table().into_iter().flat_map(NodeTable::others);
        match ordinal {
            Some(ordinal) => waits(ordinal),
            None => {
                let mut known = nodes().filter_map(|node| self.ordinal_of(&node.id));
                // As they last answered: a ready pod asks less often than answers are fresh.
                let mut answers = self.memory.verified.values();
                let told = answers.any(|(_, answer)| match &answer.agent {
                    PeerAgent::Says(claim) if self.seen.now - answer.at <= PLACE_KEPT => {
                        let mut owners = claim.owners.values();
                        owners.any(|ordinal| waits(*ordinal)) || waits(claim.last_ordinal)
                    }
                    PeerAgent::Says(_) | PeerAgent::Silent(_) => false,
                });
                let expected = self.policy.expected_peers().any(waits);
                expected || known.any(waits) || told
            }
        }
    }

    /// Where this ordinal's Redis can be asked: DNS first, else the own table.
    pub fn sockets_of(&self, ordinal: u32) -> Vec<SocketAddr> {
        let port = self.policy.redis_port;
        if let Some(ips) = self.seen.dns.addresses.get(&ordinal) {
            return ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        }
        let Some(table) = self.table() else {
            return Vec::new();
        };
        let in_table = table
            .others()
            .filter(|node| self.ordinal_of(&node.id) == Some(ordinal));
        in_table.filter_map(NodeEntry::socket).collect()
    }

    /// Why the pod with this ordinal is not verified, in words.
    pub fn why_unverified(&self, ordinal: u32) -> String {
        let sockets = self.sockets_of(ordinal);
        let pod = self.policy.pod(ordinal);
        if sockets.is_empty() {
            return match &self.seen.dns.answer {
                DnsAnswer::Failed(why) => format!("{pod} (DNS fails: {why})"),
                _ if self.seen.dns.unknown.contains(&ordinal) => {
                    format!("{pod} (DNS gave no answer about it)")
                }
                DnsAnswer::Answered | DnsAnswer::NoSuchName => format!("{pod} (not in DNS)"),
            };
        }
        let mut answers = sockets.iter().filter_map(|socket| {
            let answer = self.memory.answers.get(socket)?;
            match verify(self.policy, *socket, answer) {
                Ok(peer) if peer.ordinal == ordinal => {
                    let told = self.peers.contains_key(&ordinal);
                    let why = if told {
                        "it cannot say yet whether it has been in a cluster"
                    } else {
                        "two nodes say that they are it"
                    };
                    Some(why.to_owned())
                }
                Ok(peer) => Some(format!("it says it is {}", self.policy.pod(peer.ordinal))),
                Err(Unverified::Silent(why)) => Some(why),
                Err(Unverified::Disagree) => {
                    Some("its sidecar and its Redis name different node IDs".to_owned())
                }
                Err(Unverified::Foreign { cluster, .. }) => {
                    Some(format!("it belongs to the cluster {cluster}"))
                }
            }
        });
        let why = answers
            .next_back()
            .unwrap_or_else(|| "not asked yet".to_owned());
        format!("{pod} ({why})")
    }
}

/// How long an answer counts towards all: to ask a hundred pods takes a hundred agents some seconds.
pub fn acquaintance(policy: &Policy) -> Duration {
    FRESH + ACQUAINTED_EACH * policy.beyond_a_few()
}

fn acquainted<'a>(
    policy: &Policy,
    memory: &'a Memory,
    seen: &Observation,
    peers: &BTreeMap<u32, Peer<'a>>,
) -> BTreeMap<u32, Peer<'a>> {
    let mut all = peers.clone();
    if !policy.many() {
        return all;
    }
    // Who claims an ordinal now goes before who did.
    let claimed = memory.answers.iter().filter_map(|(socket, answer)| {
        let peer = verify(policy, *socket, answer).ok()?;
        Some(peer.ordinal)
    });
    let claimed: BTreeSet<u32> = claimed.collect();
    for (ordinal, (socket, answer)) in &memory.verified {
        let recent = seen.now - answer.at <= acquaintance(policy);
        if recent
            && !claimed.contains(ordinal)
            && *ordinal != policy.me.ordinal
            && let Ok(peer) = verify(policy, *socket, answer)
        {
            all.insert(*ordinal, peer);
        }
    }
    all
}

fn verified_peers<'a>(
    policy: &Policy,
    memory: &'a Memory,
    me: Option<&NodeEntry>,
) -> BTreeMap<u32, Peer<'a>> {
    let mut peers: BTreeMap<u32, Option<Peer<'a>>> = BTreeMap::new();
    for (socket, answer) in &memory.answers {
        let Ok(peer) = verify(policy, *socket, answer) else {
            continue;
        };
        let is_me =
            me.is_some_and(|me| me.id == peer.facts.id) || peer.ordinal == policy.me.ordinal;
        if is_me {
            continue;
        }
        peers
            .entry(peer.ordinal)
            .and_modify(|known| {
                if known.is_some_and(|known| known.facts.id != peer.facts.id) {
                    *known = None;
                }
            })
            .or_insert(Some(peer));
    }
    let sure = peers
        .into_iter()
        .filter_map(|(ordinal, peer)| Some((ordinal, peer?)));
    sure.collect()
}

fn stage(
    own: Option<&OwnFacts>,
    me: Option<&NodeEntry>,
    memory: &Memory,
    volume: &Volume,
) -> Stage {
    match volume {
        Volume::Unreadable(_) => return Stage::Unknown,
        Volume::Says(note) if note.member => return Stage::Member,
        Volume::Says(_) | Volume::Blank => {}
    }
    let (Some(own), Some(me)) = (own, me) else {
        return Stage::Unknown;
    };
    let alone = own.table.others().next().is_none();
    if alone && me.slots.is_empty() && !me.flags.replica() {
        if own.server.keys == 0 {
            Stage::Virgin
        } else {
            Stage::Unknown
        }
    } else if alone
        && own.server.keys > 0
        && me.epoch == 0
        && own.server.run_id != memory.took_slots_in
    {
        // Redis claims the slots of keys that it finds with epoch 0 (S11). With one that was given, or by this
        // agent's order, they were taken to form a cluster, and of a lone master clients may be using them already.
        Stage::Unknown
    } else {
        Stage::Forming
    }
}

const _: () = assert!(FRESH.as_millis() <= 1000, "S1: within the last second");
