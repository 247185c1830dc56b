//! Whether the own Redis may be started: the start gate. An empty Redis at the address of a node that
//! owned slots is copied by that node's replica, data and all (`hold` keeps it waiting, if it is in
//! time). So where something can hold Redis back (a native sidecar's startup probe on `/startz`, an init
//! container), a pod without its volume waits until the slots of its former node have a new owner.
//!
//! At a first start, and after a restart of all, nobody's Redis runs yet: what the other pods' agents
//! have on their volumes is asked then. What could wait for ever is not waited for.

use super::hold::never_ran;
use super::memory::Memory;
use super::policy::Policy;
use super::scene::{self, Scene};
use crate::model::identity::NodeId;
use crate::model::kept_conf::DataOnVolume;
use crate::model::observation::{Observation, OwnRedis, PeerAgent, PeerFacts, PeerRedis, Silence};
use crate::model::reason::{Reason, ReasonCode};
use crate::model::time::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a pod's agent said counts for so long; many pods are not asked all at once (`lately`).
const TOLD: Duration = Duration::from_secs(10);
const TOLD_EACH: Duration = Duration::from_millis(100);

/// For how long somebody who is not in DNS, or does not answer, counts as one who may have the data, and who named
/// the former node is believed without a newer word.
const UNHEARD_FOR: Duration = Duration::from_secs(45);

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

/// What this round's answers tell, while the own Redis is away.
pub(super) fn learn(memory: &mut Memory, policy: &Policy, seen: &Observation) {
    memory.told.retain(|_, told| {
        let counts = match told.owner {
            Some(_) => UNHEARD_FOR,
            None => lately(policy),
        };
        seen.now - told.at <= counts
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
        let Some(ordinal) = ordinal.filter(|ordinal| *ordinal != policy.me.ordinal) else {
            continue;
        };
        let mut mine = claim.owners.iter();
        let owner = mine.find(|(_, ordinal)| **ordinal == policy.me.ordinal);
        let told = Told {
            at: answer.at,
            up: scene::verify(policy, *socket, answer)
                .is_ok_and(|peer| !peer.facts.knows.is_empty() || !peer.facts.slots.is_empty())
                || matches!(&answer.redis, PeerRedis::Silent(Silence::Garbled(_))),
            owner: owner.map(|(id, _)| *id),
            data: match &answer.redis {
                PeerRedis::Up(facts) if facts.keys == 0 => DataOf::Nobody,
                PeerRedis::Up(facts) => facts.master.map_or(DataOf::Nobody, DataOf::Master),
                PeerRedis::Silent(_) if claim.blank => DataOf::Nobody,
                PeerRedis::Silent(Silence::Garbled(_)) => DataOf::Loading,
                PeerRedis::Silent(_) => DataOf::Unknown,
            },
        };
        memory.told.insert(ordinal, told);
    }
    let owners: Vec<NodeId> = memory.told.values().filter_map(|told| told.owner).collect();
    let heard = memory.told.values().filter(|told| match told.data {
        DataOf::Nobody | DataOf::Unknown => false,
        DataOf::Master(master) => owners.contains(&master),
        DataOf::Loading => true,
    });
    // The node ID is proof enough: its agent may be away.
    let alone = seen.answers.values().filter(|answer| match &answer.redis {
        PeerRedis::Up(facts) => has_data_of(facts, &owners),
        PeerRedis::Silent(_) => false,
    });
    let heard = heard
        .map(|told| told.at)
        .chain(alone.map(|answer| answer.at));
    memory.data_heard_at = memory.data_heard_at.max(heard.max());
    memory.named_since = (!owners.is_empty()).then(|| memory.named_since.unwrap_or(seen.now));
}

/// Whether this is a replica of one of these nodes, and not an empty one.
pub(super) fn has_data_of(facts: &PeerFacts, owners: &[NodeId]) -> bool {
    let follows = facts.master.is_some_and(|master| owners.contains(&master));
    follows && facts.keys > 0
}

/// What a pod's agent said counts for so long.
fn lately(policy: &Policy) -> Duration {
    TOLD + TOLD_EACH * policy.beyond_a_few()
}

/// Whether nothing has ever run on this volume, and nothing does: this pod has no node.
pub fn blank(scene: &Scene<'_>) -> bool {
    let away = matches!(
        scene.seen.own,
        OwnRedis::Silent(Silence::Refused(_) | Silence::Unreachable(_) | Silence::NotAsked)
    );
    away && never_ran(scene)
}

/// Whether nothing at all is on the volume, so that others need not wait for what may come back (S7).
pub fn bare(scene: &Scene<'_>) -> bool {
    blank(scene) && scene.seen.kept.data == DataOnVolume::None
}

/// Why the own Redis is to be held back; `None` when it may be started, or runs.
pub fn held(scene: &Scene<'_>) -> Option<Reason> {
    if !blank(scene) {
        return None;
    }
    let all = &scene.memory.told;
    let fresh = |told: &Told| scene.seen.now - told.at <= lately(scene.policy);
    // Silence alone takes nothing back, nor does one whose own Redis is away; and who hears nobody cannot tell whether
    // anybody has the data.
    let silence = !all.values().any(|told| fresh(told) && told.up);
    let deaf = !all.values().any(fresh);
    let told: BTreeMap<u32, &Told> = all
        .iter()
        .filter(|(_, told)| silence || fresh(told))
        .map(|(ordinal, told)| (*ordinal, told))
        .collect();
    let ups = told.values().any(|told| told.up);
    // Who runs knows better than what was left on a volume, as one has it that reads its data.
    let serves = |told: &Told| told.up && told.data != DataOf::Loading;
    let served = told.values().any(|told| serves(told));
    let mut counted = told
        .iter()
        .filter(|(_, told)| serves(told) || told.up && !served || !ups);
    let named = counted.find_map(|(ordinal, told)| Some((*ordinal, told.owner?)));
    let unborn = |ordinal: u32| scene.waits_for_us(ordinal);
    if let Some((by, owner)) = named {
        let what = what_is_gone(scene);
        let message = format!(
            "{what}, and {} says that this pod's former node {owner} owns slots; Redis is to be started when \
             a replica has taken them over",
            scene.policy.pod(by)
        );
        return (deaf || !is_waited_for(scene))
            .then(|| Reason::blocks(ReasonCode::OldIdentityOwnsSlots, message));
    }
    if ups {
        return None;
    }
    let unheard = |ordinal: &u32| !told.contains_key(ordinal) && !unborn(*ordinal);
    let missing: Vec<String> = scene
        .policy
        .expected_peers()
        .filter(unheard)
        .map(|ordinal| scene.policy.pod(ordinal))
        .collect();
    let message = format!(
        "the volume is blank, and whether this pod had another one is not known before the sidecars of \
         {} have answered",
        missing.join(", ")
    );
    (!missing.is_empty()).then(|| Reason::blocks(ReasonCode::WaitingForPeers, message))
}

/// In words, what a volume on which nothing has ever run may have lost.
pub(super) fn what_is_gone(scene: &Scene<'_>) -> &'static str {
    match scene.seen.kept.data {
        DataOnVolume::Some => "nodes.conf and the sidecar's files are gone, and there is data here",
        DataOnVolume::None | DataOnVolume::Unknown => "the volume is blank",
    }
}

/// Whether somebody may wait for this pod, as OrderedReady has it: its replica is perhaps created only when
/// this pod is ready. Not for a while after its former node was first named, as a pod that moves is in DNS
/// nowhere, and one that is there may not be heard; nor after the data was heard of last.
fn is_waited_for(scene: &Scene<'_>) -> bool {
    let since = scene.memory.named_since.unwrap_or(scene.seen.now);
    let in_sight = scene.seen.now - since < UNHEARD_FOR || data_was_heard_of(scene);
    !in_sight && scene.may_wait_for_us(None)
}

/// Whether a replica of this pod's former node that has its data was there a while ago, or one that may be it and
/// reads its data: it may be silent for a moment.
pub(super) fn data_was_heard_of(scene: &Scene<'_>) -> bool {
    let at = scene.memory.data_heard_at;
    at.is_some_and(|at| scene.seen.now - at < UNHEARD_FOR)
}
