//! What the other pods' agents say of this ordinal while the own Redis is away, and who has the data of its former
//! node.

use super::UNHEARD_FOR;
use crate::decide::memory::Memory;
use crate::decide::policy::Policy;
use crate::decide::scene;
use crate::model::identity::NodeId;
use crate::model::observation::{
    Observation, OwnRedis, PeerAgent, PeerAnswer, PeerClaim, PeerFacts, PeerRedis, Silence,
};
use crate::model::time::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// What a pod's agent said counts for so long; many pods are not asked all at once (`lately`).
const TOLD: Duration = Duration::from_secs(10);
const TOLD_EACH: Duration = Duration::from_millis(100);

/// What another pod's agent said of this pod's ordinal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Moment,
    /// Whether its Redis answered, and is of a cluster or reads its data, so that it is not about what the last one
    /// left on the volume.
    pub up: bool,
    /// Whose data it may have: of this master, or, as its Redis does not answer, of anybody.
    pub data: DataOf,
    /// The node of this ordinal that owns slots.
    pub owner: Option<NodeId>,
}

/// Whose data a pod may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataOf {
    /// No other node's: it is no replica, or an empty one, or nothing is on its volume.
    Nobody,
    /// Its master's.
    Master(NodeId),
    /// Its Redis reads its data.
    Loading,
    /// Its Redis does not answer, and something is on its volume.
    Unknown,
}

impl Told {
    fn by(policy: &Policy, socket: SocketAddr, answer: &PeerAnswer, claim: &PeerClaim) -> Told {
        let loads = matches!(&answer.redis, PeerRedis::Silent(Silence::Garbled(_)));
        let of_a_cluster = scene::verify(policy, socket, answer)
            .is_ok_and(|peer| !peer.facts.knows.is_empty() || !peer.facts.slots.is_empty());
        let mut mine = claim.owners.iter();
        let owner = mine.find(|(_, ordinal)| **ordinal == policy.me.ordinal);
        Told {
            at: answer.at,
            up: of_a_cluster || loads,
            owner: owner.map(|(id, _)| *id),
            data: match &answer.redis {
                PeerRedis::Up(facts) if facts.keys == 0 => DataOf::Nobody,
                PeerRedis::Up(facts) => facts.master.map_or(DataOf::Nobody, DataOf::Master),
                PeerRedis::Silent(_) if claim.blank => DataOf::Nobody,
                PeerRedis::Silent(_) if loads => DataOf::Loading,
                PeerRedis::Silent(_) => DataOf::Unknown,
            },
        }
    }

    /// Whether it was said so lately that it needs no further word.
    pub fn is_fresh(&self, policy: &Policy, now: Moment) -> bool {
        now - self.at <= lately(policy)
    }

    /// Whether its Redis answers from a table that it has read.
    pub fn serves(&self) -> bool {
        self.up && self.data != DataOf::Loading
    }
}

fn lately(policy: &Policy) -> Duration {
    TOLD + TOLD_EACH * policy.beyond_a_few()
}

/// What this round's answers tell, while the own Redis is away.
pub(in crate::decide) fn learn(memory: &mut Memory, policy: &Policy, seen: &Observation) {
    memory.told.retain(|_, told| match told.owner {
        Some(_) => seen.now - told.at <= UNHEARD_FOR,
        None => told.is_fresh(policy, seen.now),
    });
    if !matches!(seen.own, OwnRedis::Silent(_)) {
        memory.told.clear();
        memory.named_since = None;
        memory.data_heard_at = None;
        return;
    }
    for (socket, answer) in &seen.answers {
        let PeerAgent::Says(claim) = &answer.agent else {
            continue;
        };
        let ordinal = scene::claimed_ordinal(policy, claim);
        if let Some(ordinal) = ordinal.filter(|ordinal| *ordinal != policy.me.ordinal) {
            let told = Told::by(policy, *socket, answer, claim);
            memory.told.insert(ordinal, told);
        }
    }
    let owners = owners(memory);
    memory.data_heard_at = memory
        .data_heard_at
        .max(data_heard_at(memory, seen, &owners));
    memory.named_since = (!owners.is_empty()).then(|| memory.named_since.unwrap_or(seen.now));
}

/// The nodes of this ordinal of which the others say that they own slots.
pub(in crate::decide) fn owners(memory: &Memory) -> Vec<NodeId> {
    memory.told.values().filter_map(|told| told.owner).collect()
}

/// When a replica of one of these nodes with its data was last heard, or one that may be it and reads its data.
fn data_heard_at(memory: &Memory, seen: &Observation, owners: &[NodeId]) -> Option<Moment> {
    let told = memory.told.values().filter(|told| match told.data {
        DataOf::Nobody | DataOf::Unknown => false,
        DataOf::Master(master) => owners.contains(&master),
        DataOf::Loading => true,
    });
    // The node ID is proof enough: its agent may be away.
    let alone = seen.answers.values().filter(|answer| match &answer.redis {
        PeerRedis::Up(facts) => has_data_of(facts, owners),
        PeerRedis::Silent(_) => false,
    });
    let heard = told.map(|told| told.at);
    heard.chain(alone.map(|answer| answer.at)).max()
}

/// Whether this is a replica of one of these nodes, and not an empty one.
pub(in crate::decide) fn has_data_of(facts: &PeerFacts, owners: &[NodeId]) -> bool {
    let follows = facts.master.is_some_and(|master| owners.contains(&master));
    follows && facts.keys > 0
}
