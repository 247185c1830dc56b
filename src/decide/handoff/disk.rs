//! Before a stop that takes a whole shard down: whether what was written is on the disk.

use super::{Task, not_done, under_way};
use crate::decide::scene::Scene;
use crate::model::asked::Answer;
use crate::model::observation::OwnFacts;
use std::time::Duration;

/// `appendfsync everysec`: after this, what was written before has been through an fsync. (With `no` it is when
/// Redis ends, which syncs the file first: `finishShutdown`.)
const FSYNC: Duration = Duration::from_millis(1100);

/// Waits for the append-only file, where there is one; tells what is at risk, where there is none.
pub(super) fn judge(scene: &Scene<'_>, own: &OwnFacts, task: &Task<'_>) -> Answer {
    let down = "its slots are without a master until this pod is back";
    let disk = &own.server.persistence;
    if !disk.aof {
        let risk = match disk.unsaved {
            0 => "the last snapshot has all data".to_owned(),
            changes => format!(
                "there is no append-only file, and {changes} changes since the last snapshot are lost \
                 unless Redis saves one when it stops"
            ),
        };
        return not_done(format!("{risk}; {down}"));
    }
    if disk.aof_written && disk.aof_flushed && scene.seen.now - task.since >= FSYNC {
        return not_done(format!("the append-only file is on disk; {down}"));
    }
    if scene.seen.now < task.until {
        return under_way("waiting for the append-only file to be on disk");
    }
    let why = if disk.aof_written {
        "the append-only file was not seen to be on disk in time"
    } else {
        "the append-only file cannot be written: the last writes are lost"
    };
    not_done(format!("{why}; {down}"))
}
