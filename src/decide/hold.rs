//! A blank Redis must not hand its emptiness on. Replication checks no node ID: the replica of this
//! pod's former node dials the address that it knows, and drops its data for what answers there. A
//! master that is told to begin whole copies later only lets it wait, with its data, until it has been
//! elected or points elsewhere. `tests/faults/lost_volumes.rs` measures it.
//!
//! What is left: Redis has begun a copy before this agent has asked it for the first time. Redis's own
//! default, a delay of 5 s, is longer than that; with none it is a race. Redis alone must not run then:
//! see the start gate (`start`).

use super::guard;
use super::plan::Plan;
use super::repair;
use super::scene::Scene;
use super::start;
use crate::model::decision::Action;
use crate::model::observation::{CopyConfig, NodesFile, PeerAgent, Stage, Volume};
use std::time::Duration;

const GAP: Duration = Duration::from_millis(500);
/// A day less a second: nobody configures this, so it is told from what a person wants.
pub const HELD_S: u64 = 86_399;
/// Where what was configured is not known any more: Redis's default.
const DEFAULT: CopyConfig = CopyConfig {
    diskless: true,
    delay_s: 5,
    max_replicas: Some(0),
};

/// Holds whole copies back while this node is blank and others are members, and lets them go again.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    // From its first moment on a Redis that is about to start would serve copies.
    if start::blank(scene) {
        plan.hurry();
    }
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return;
    };
    let Some(copies) = own.copies else { return };
    if guard::foreign_in_table(scene).is_some() {
        return;
    }
    let may_join = matches!(scene.stage, Stage::Virgin | Stage::Forming);
    let blank = may_join && me.slots.is_empty() && !me.flags.replica() && own.server.keys == 0;
    let held = copies.delay_s == HELD_S;
    if blank && !held && member_about(scene) {
        plan.memory_mut().copies = Some(copies);
        let to = CopyConfig {
            diskless: true,
            delay_s: HELD_S,
            max_replicas: copies.max_replicas.map(|_| 0),
        };
        let action = Action::Copies { from: copies, to };
        let evidence = "this node is empty and others are members: who copies it drops its data";
        plan.act("hold copies".to_owned(), GAP, action, evidence);
    }
    if !blank && held {
        let before = scene.memory.copies.unwrap_or(CopyConfig {
            max_replicas: copies.max_replicas.map(|_| 0),
            ..DEFAULT
        });
        let action = Action::Copies {
            from: copies,
            to: before,
        };
        let evidence = "this node is not an empty newcomer any more";
        plan.act("release copies".to_owned(), GAP, action, evidence);
    }
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
