//! Whether the own Redis may be started: the start gate. An empty Redis at the address of a node that
//! owned slots is copied by that node's replica, data and all (`hold` keeps it waiting, if it is in
//! time). So where something can hold Redis back (a native sidecar's startup probe on `/startz`, an init
//! container), a pod without its volume waits until the slots of its former node have a new owner.
//!
//! At a first start, and after a restart of all, nobody's Redis runs yet: what the other pods' agents
//! have on their volumes is asked then. What could wait for ever is not waited for.

use super::hold::never_ran;
use super::scene::Scene;
use crate::model::identity::NodeId;
use crate::model::kept_conf::DataOnVolume;
use crate::model::observation::{OwnRedis, Silence};
use crate::model::reason::{Reason, ReasonCode};
use std::collections::BTreeMap;
use std::time::Duration;

mod told;

pub use told::Told;
pub(super) use told::{has_data_of, learn, owners};

/// For how long somebody who is not in DNS, or does not answer, counts as one who may have the data, and who named
/// the former node is believed without a newer word.
const UNHEARD_FOR: Duration = Duration::from_secs(45);

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
    let heard = Heard::of(scene);
    if let Some((by, owner)) = heard.former_owner() {
        let what = what_is_gone(scene);
        let message = format!(
            "{what}, and {} says that this pod's former node {owner} owns slots; Redis is to be started when \
             a replica has taken them over",
            scene.policy.pod(by)
        );
        // Who hears nobody cannot tell whether anybody has the data.
        return (heard.nobody_lately || !is_waited_for(scene))
            .then(|| Reason::blocks(ReasonCode::OldIdentityOwnsSlots, message));
    }
    if heard.somebody(|told| told.up) {
        return None;
    }
    let unheard =
        |ordinal: &u32| !heard.told.contains_key(ordinal) && !scene.waits_for_us(*ordinal);
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

/// Whose words count in this round, by ordinal.
struct Heard<'a> {
    told: BTreeMap<u32, &'a Told>,
    nobody_lately: bool,
}

impl<'a> Heard<'a> {
    /// The fresh words. Silence alone takes no older one back, nor does who answers and has no Redis that knows better.
    fn of(scene: &Scene<'a>) -> Heard<'a> {
        let all = &scene.memory.told;
        let fresh = |told: &&Told| told.is_fresh(scene.policy, scene.seen.now);
        let taken_back = all.values().any(|told| fresh(&told) && told.up);
        let counted = all.iter().filter(|(_, told)| !taken_back || fresh(told));
        Heard {
            told: counted.map(|(ordinal, told)| (*ordinal, told)).collect(),
            nobody_lately: !all.values().any(|told| fresh(&told)),
        }
    }

    fn somebody(&self, is_so: impl Fn(&Told) -> bool) -> bool {
        self.told.values().any(|told| is_so(told))
    }

    /// The former node of this pod that owns slots, and who says so. A Redis that serves knows better than one that
    /// reads its data and has what is on its volume, and that one better than what is left of one that is away.
    fn former_owner(&self) -> Option<(u32, NodeId)> {
        let serves = self.somebody(Told::serves);
        let up = self.somebody(|told| told.up);
        let mut counted = self
            .told
            .iter()
            .filter(|(_, told)| told.serves() || told.up && !serves || !up);
        counted.find_map(|(ordinal, told)| Some((*ordinal, told.owner?)))
    }
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
