//! What must hold at the end of a history that leaves something for a person: it is said, and nothing is
//! written any more.

use super::fake::{LinkState, Node};
use super::faults::start_pod;
use super::history::{WHOLE_WITHIN_MS, tell_tables};
use super::whole::not_whole;
use super::world::{Pod, World};
use redis_sidecar::model::decision::Decision;

fn decision(p: &Pod) -> Option<&Decision> {
    p.agent.as_ref()?.decision.as_ref()
}

/// Whether pods that `OrderedReady` has not created yet are all that this cluster lacks: then those before
/// them, which it waits for, wait for them.
pub(crate) fn waits_for_itself(world: &mut World) -> Result<(), String> {
    let Some(cluster) = world.in_order.take() else {
        return Ok(());
    };
    tell_tables(world);
    world.tell(|_| "= those that nobody was ready for are created".to_owned());
    for pod in 0..world.pods.len() {
        if world.pods[pod].cluster == cluster && world.pods[pod].ip.is_none() {
            let ip = world.fresh_address();
            start_pod(world, pod, ip);
        }
    }
    let until = world.now + WHOLE_WITHIN_MS;
    world.run(until)?;
    match not_whole(world, cluster) {
        None => Err("only OrderedReady has kept a cluster from being whole".to_owned()),
        Some(_) => Ok(()),
    }
}

/// What nobody says, or somebody says wrongly.
pub(crate) fn dishonest(world: &World) -> Option<String> {
    (0..world.layout.clusters).find_map(|cluster| {
        let lacks = not_whole(world, cluster);
        let pods = (0..world.pods.len()).filter(|pod| world.pods[*pod].cluster == cluster);
        let pods: Vec<usize> = pods.collect();
        // Of a cluster of one pod nobody can tell that it has lost its nodes.conf.
        let lacks = lacks.filter(|_| world.layout.shape.expected_pods() > 1);
        pods.iter()
            .find_map(|pod| wrongly_ready(world, *pod))
            .or_else(|| unsaid(world, &pods, lacks?))
    })
}

/// A pod is ready only if its Redis does its part: as a master in its own right, or as a linked replica.
/// (What other shards lack is said, and takes nobody's readiness.)
fn wrongly_ready(world: &World, pod: usize) -> Option<String> {
    let p = &world.pods[pod];
    // Where links come and go all the time, what was seen last is no longer so.
    let judged = !world.judge.clone_planted;
    decision(p).filter(|decision| decision.ready && judged)?;
    let serves = p.node.as_ref().is_some_and(|node| {
        let linked = node
            .replication
            .is_some_and(|link| matches!(link.state, LinkState::Up { .. }));
        !node.loading(world.wall(pod)) && (linked || !node.me().replica)
    });
    (!serves).then(|| format!("{} says that it is ready, and is not", world.pod_name(pod)))
}

/// Somebody says that something is wrong; who lacks slots, everybody.
fn unsaid(world: &World, pods: &[usize], lacks: String) -> Option<String> {
    let nodes = || pods.iter().filter_map(|pod| world.pods[*pod].node.as_ref());
    let says_nothing = |pod: &&usize| {
        let p = &world.pods[**pod];
        decision(p).is_some_and(|decision| decision.reasons.is_empty())
    };
    let owned = |node: &Node| if node.me().replica { 0 } else { node.me().segs };
    let owned = nodes().fold(0, |all, node| all | owned(node));
    let all = (1 << world.layout.shape.masters) - 1;
    let lost = all & !owned;
    let silent: Vec<&usize> = pods.iter().filter(says_nothing).collect();
    if lost != 0
        && let Some(pod) = silent.first()
    {
        let name = world.pod_name(**pod);
        return Some(format!("slots are lost, and {name} says nothing of it"));
    }
    (silent.len() == pods.len()).then(|| format!("nobody says that it is not whole: {lacks}"))
}
