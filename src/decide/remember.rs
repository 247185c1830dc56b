//! What has to be on the volume: the marker that this Redis has been a member, who is who, the
//! start gate that was passed, and the node timeout while it is shortened.

use super::plan::Plan;
use super::scene::Scene;
use super::{adopt, form, hasten, hold, pause};
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::observation::{Stage, Volume, VolumeNote};
use crate::model::reason::ReasonCode;
use std::collections::BTreeMap;
use std::time::Duration;

/// After this long with every slot owned, a cluster counts as made, whoever made it.
const ADOPT_AFTER: Duration = Duration::from_secs(10);
/// The volume may be read-only or full.
const GAP: Duration = Duration::from_secs(1);
const CHANGED: &str = "what is known has changed";
const PAUSE_CHANGED: &str = "a pause has begun or ended";

/// Orders the note to be written when it is not what it should be.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    if let Some(why) = &scene.seen.volume_error {
        plan.warn(
            ReasonCode::VolumeUnwritable,
            format!("the note beside the data cannot be written: {why}"),
        );
    }
    // The marker of another cluster is what a person has to see.
    let not_ours = matches!(scene.seen.volume, Volume::Unreadable(_))
        || adopt::marker_in_doubt(scene).is_some();
    if not_ours {
        return;
    }
    let present = scene.note().cloned().unwrap_or_default();
    let paused = pause::wants_note(scene, plan, present.paused);
    let copies = hold::wants_note_of_copies(scene, plan.memory());
    let were_here = hold::wants_note_of_who_was_here(scene, plan.memory());
    if scene.own.is_none() {
        // A pause may begin and end while Redis is away, and copies are held back while it reads its data;
        // nothing else is known then.
        let wanted = VolumeNote {
            paused,
            were_here,
            copies,
            ..present.clone()
        };
        if wanted != present {
            let why = match paused == present.paused {
                true => CHANGED,
                false => PAUSE_CHANGED,
            };
            let key = format!("remember {paused:?} {copies:?} {:?}", wanted.were_here);
            plan.act(key, GAP, Action::Remember(wanted), why);
        }
        return;
    }
    let member = present.member || is_member(scene);
    let wanted = VolumeNote {
        member,
        cluster: if member {
            scene.policy.cluster.clone()
        } else {
            String::new()
        },
        pods: known_pods(scene, member).unwrap_or_else(|| present.pods.clone()),
        foreign: plan.memory().foreign.clone(),
        gate_run_id: plan.memory().gate_run_id.clone(),
        node_timeout_ms: hasten::wants_note(scene),
        paused,
        may_have_data: hold::wants_note(scene, plan.memory()),
        were_here,
        copies,
    };
    if wanted != present {
        // Each content has its own limit: the note that hastening needs must not wait for the
        // limit of the one before.
        let key = format!(
            "remember {member} {:?} {:?} {:?} {:?} {:?} {:?}",
            wanted.gate_run_id,
            wanted.node_timeout_ms,
            wanted.paused,
            wanted.may_have_data,
            wanted.were_here,
            wanted.copies
        );
        plan.act(key, GAP, Action::Remember(wanted), CHANGED);
    }
}

/// Who is who in a member's table. A pod that is still to be introduced comes and goes; a table
/// that knows nobody has been lost, and what was known stays.
fn known_pods(scene: &Scene<'_>, member: bool) -> Option<BTreeMap<NodeId, u32>> {
    let table = scene.table().filter(|_| member)?;
    table.others().next()?;
    let pods = scene.memory.pods.iter();
    let in_table = pods.filter(|(id, _)| table.get(id).is_some());
    Some(in_table.map(|(id, ordinal)| (*id, *ordinal)).collect())
}

fn is_member(scene: &Scene<'_>) -> bool {
    let (Some(table), Some(me)) = (scene.table(), scene.me) else {
        return false;
    };
    let since = scene.memory.covered_since;
    let long = since.is_some_and(|since| scene.seen.now - since >= ADOPT_AFTER);
    let part = !me.slots.is_empty() || me.flags.replica();
    let others = table.others().next().is_some() || scene.policy.expected() == 1;
    let covered = table.covers_all_slots() && part && others;
    covered && scene.stage != Stage::Unknown && (long || form::complete(scene))
}
