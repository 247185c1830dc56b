//! When nodes.conf is copied: when a settled member's has changed in what matters, is whole, and says
//! what its running Redis says.

use super::guard::Cleared;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::decision::Action;
use crate::model::node_table::NodesConf;
use crate::model::observation::{NodesFile, Stage};
use crate::model::reason::ReasonCode;
use std::time::Duration;

/// A table that changes again and again is copied when it rests; a new epoch at once, as a copy from
/// before this node's election must not come back.
const GAP: Duration = Duration::from_secs(2);

/// Orders a copy where the newest one is not of what nodes.conf says now.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    // As Redis writes it a moment later, in case that this node has just become a replica.
    let Some(conf) = worth_keeping(scene).map(NodesConf::with_shards_mended) else {
        return;
    };
    let newest = scene.seen.kept.copies.first();
    let kept = matches!(newest, Some(NodesFile::Read(copy)) if copy.matter() == conf.matter());
    if kept {
        return;
    }
    if let Some(why) = &scene.seen.kept.error
        && scene.seen.volume_error.is_none()
    {
        plan.warn(
            ReasonCode::VolumeUnwritable,
            format!("a copy of nodes.conf cannot be kept beside the data: {why}"),
        );
    }
    plan.act(
        format!("keep nodes.conf of epoch {}", conf.current_epoch),
        GAP,
        Action::KeepConf(conf),
        "nodes.conf has changed",
    );
}

fn worth_keeping<'a>(scene: &Scene<'a>) -> Option<&'a NodesConf> {
    let (table, me) = (scene.table()?, scene.me?);
    let NodesFile::Read(conf) = &scene.seen.file else {
        return None;
    };
    let part = !me.slots.is_empty() || me.flags.replica();
    let settled = scene.stage == Stage::Member && part && !conf.newborn();
    (settled && conf.agrees_with(table)).then_some(conf)
}
