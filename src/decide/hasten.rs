//! A new master stays in `cluster_state:fail` for its rejoin delay, `cluster-node-timeout` within
//! 0.5 to 5 s, since it last saw no slot owner at all (`clusterUpdateState` in cluster.c). For a
//! cluster that is just being formed there is nothing to rejoin, so the timeout is shortened, and
//! only at the very end of the shortest delay, for the one moment in which the state is judged: one
//! write shortens it, has the state judged, and restores it. Redis carries all of it out even if
//! the agent is killed meanwhile (`src/redis_link/tests/hastening.rs`). Should it ever be left behind
//! all the same, the note on the volume brings the value back.

use super::guard;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::decision::{Action, Nudge};
use crate::model::observation::OwnFacts;
use std::time::Duration;

/// Recognisable, so that nothing but our own shortening is ever undone.
pub const SHORT_MS: u64 = 501;
/// The shortest rejoin delay there is (`CLUSTER_MIN_REJOIN_DELAY`), plus a tick.
const DELAY: Duration = Duration::from_millis(SHORT_MS + 9);
/// A master just started stays at fail for 2 s whatever it is told (`CLUSTER_WRITABLE_DELAY`), and
/// has no rejoin delay if it takes its slots within them.
const WRITABLE_AFTER_S: u64 = 2;
/// After this, whatever keeps the state at fail is not the rejoin delay.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Shortens the delay of a master that this agent saw take its first slots; puts the configured
/// value back wherever a shortened one is found.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let Some(own) = scene.own else { return };
    let Some(timeout) = own
        .config
        .as_ref()
        .and_then(|config| config.node_timeout_ms)
    else {
        return;
    };
    if pending(scene, own) {
        plan.hurry();
    }
    let noted = scene.note().and_then(|note| note.node_timeout_ms);
    match noted {
        Some(configured) if timeout == SHORT_MS && configured != SHORT_MS => {
            let action = Action::RestoreNodeTimeout(configured);
            let evidence = "a shortened value was left behind";
            plan.act(
                "restore".to_owned(),
                Duration::from_millis(200),
                action,
                evidence,
            );
        }
        Some(configured) if timeout == configured => {
            let Some(nudge) = due(scene, own) else {
                return;
            };
            let action = Action::Hasten {
                short_ms: SHORT_MS,
                nudge,
                restore_ms: configured,
            };
            let evidence =
                "every slot has an owner and every node is connected, for the first time";
            plan.act(
                "hasten".to_owned(),
                Duration::from_millis(300),
                action,
                evidence,
            );
        }
        Some(_) | None => {}
    }
}

/// Whether the value to go back to must be on the volume now.
pub fn wants_note(scene: &Scene<'_>) -> Option<u64> {
    let own = scene.own?;
    let timeout = own.config.as_ref()?.node_timeout_ms?;
    let noted = scene.note().and_then(|note| note.node_timeout_ms);
    if timeout == SHORT_MS {
        return noted;
    }
    (pending(scene, own) && timeout > SHORT_MS).then_some(timeout)
}

/// This agent had its Redis take the slots of a first cluster a moment ago, and the state is not
/// ok yet. A master that got its slots in any other way is none of this rule's business.
fn pending(scene: &Scene<'_>, own: &OwnFacts) -> bool {
    let took = scene.memory.took_slots_at;
    let young = took.is_some_and(|at| scene.seen.now - at < GIVE_UP);
    young && !own.state_ok && own.server.uptime_s >= WRITABLE_AFTER_S
}

/// What to nudge Redis with, when the shortest delay is over.
fn due(scene: &Scene<'_>, own: &OwnFacts) -> Option<Nudge> {
    let took = scene.memory.took_slots_at;
    let waited = took.is_some_and(|at| scene.seen.now - at >= DELAY);
    let whole = own.table.covers_all_slots() && own.table.settled().all(|node| node.healthy());
    let foreign = guard::foreign_in_table(scene).is_some();
    let me = scene.me.filter(|me| me.open_slots.is_empty())?;
    let nudge = if own.server.version.setslot_waits() {
        Nudge::NoFailover(own.config.as_ref()?.replica_no_failover?)
    } else {
        Nudge::StableSlot(me.slots.first()?)
    };
    (pending(scene, own) && waited && whole && !foreign).then_some(nudge)
}
