//! The judges of what is done about lost volumes: who is forgotten (S6), and who is replaced by force
//! (S7). They see what is really there.

use super::fake::Node;
use super::world::World;
use redis_sidecar::model::identity::NodeId;
use std::time::Duration;

/// Looks are so far apart, and orders come a moment after what they rest on.
const SLACK_MS: i64 = 1200;

/// Until DNS names a pod that has started.
const DNS_MS: i64 = 4000;

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// For how long a table has, or had until a moment ago, a node as gone.
#[derive(Clone, Copy)]
pub(crate) struct Gone {
    since: i64,
    /// When it was no more: an agent that has not looked since goes by what was.
    until: Option<i64>,
}

/// What each table has of who is gone.
pub(crate) fn note_gone(world: &mut World) {
    let now = world.now;
    let mut gone = std::mem::take(&mut world.judge.gone);
    gone.retain(|(pod, id), gone| {
        let node = world.pods[*pod].node.as_ref();
        let rec = node.and_then(|node| node.recs.get(id));
        if !rec.is_some_and(|rec| rec.fail || rec.pfail || rec.noaddr) {
            gone.until.get_or_insert(now);
        }
        gone.until.is_none_or(|until| now - until <= SLACK_MS)
    });
    for (pod, p) in world.pods.iter().enumerate() {
        let recs = p.node.iter().flat_map(|node| node.knows());
        for rec in recs.filter(|rec| rec.fail || rec.pfail || rec.noaddr) {
            let new = Gone {
                since: now,
                until: None,
            };
            let noted = gone.entry((pod, rec.id)).or_insert(new);
            if noted.until.is_some() {
                *noted = new;
            }
        }
    }
    world.judge.gone = gone;
}

/// It runs nowhere, owns no slots, is nobody's master, has been gone for the time that the agent was
/// given, and no MEET was ordered meanwhile.
pub(crate) fn s6_forget(world: &World, pod: usize, node: &Node, id: &NodeId) -> Option<String> {
    let rec = node.recs.get(id)?;
    let nodes = || world.pods.iter().filter_map(|p| p.node.as_ref());
    // One that was taken for scaled in may have come back, at an address that nobody can know yet; it
    // introduces itself.
    let back = world.judge.started_within(id, world.now - DNS_MS);
    if nodes().any(|node| node.id == *id) && !back {
        return Some("S6: it lives".to_owned());
    }
    if rec.segs != 0 {
        return Some("S6: it owns slots".to_owned());
    }
    let now = world.now;
    let changed_now = |node: &Node| {
        let former = node.former_master;
        former.is_some_and(|(_, at)| world.wall(pod) - at <= SLACK_MS)
    };
    let mut followers = nodes().filter(|node| node.me().master == Some(*id));
    if followers.any(|node| !changed_now(node)) {
        return Some("S6: a live replica names it".to_owned());
    }
    let p = &world.pods[pod];
    let times = p.agent.as_ref()?.policy.ghosts;
    let gone = world.judge.gone.get(&(pod, *id));
    let gone_for = gone.map_or(0, |gone| gone.until.unwrap_or(now) - gone.since);
    let wanted = ms(times.gone_for).max(4 * node.node_timeout);
    if gone_for + SLACK_MS < wanted {
        return Some(format!("S6: it has been gone for {gone_for} ms"));
    }
    let met = world.judge.met_at.get(&(pod, p.agent_starts));
    let met_for = met.map_or(i64::MAX, |at| now - at);
    (met_for.saturating_add(SLACK_MS) < ms(times.no_meet_for))
        .then(|| format!("S6: a MEET {met_for} ms ago"))
}

/// The master that is to be replaced runs nowhere and cannot come back, a majority is there, and this replica
/// has not lost what another live one still has.
pub(crate) fn s7_force(world: &World, pod: usize, node: &Node, master: &NodeId) -> Option<String> {
    let cluster = world.pods[pod].cluster;
    let nodes = || {
        let pods = world.pods.iter().filter(|p| p.cluster == cluster);
        pods.filter_map(|p| p.node.as_ref())
    };
    if nodes().any(|node| node.id == *master) {
        return Some("S7: the master lives".to_owned());
    }
    // A copy, or a snapshot, is no master that is away.
    let away = world.pods.iter().filter(|p| p.node.is_none()).any(|p| {
        let conf = p.disk.conf.as_ref();
        conf.is_some_and(|conf| conf.id == *master) && !p.disk.data_gone
    });
    if away && !world.judge.clone_planted && world.snapshots.is_empty() {
        return Some("S7: the master is away, and has its volume".to_owned());
    }
    if super::owners::cut_off(world, pod, node) {
        return Some("S7: this node sees no majority".to_owned());
    }
    let mut siblings = nodes().filter(|other| other.me().master == Some(*master));
    let better = siblings.any(|other| other.keys != 0);
    (node.keys == 0 && better).then(|| "S7: another replica has the data".to_owned())
}
