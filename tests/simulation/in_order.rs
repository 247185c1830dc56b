//! All pods of a cluster are deleted under `OrderedReady`: the StatefulSet's controller creates each when those
//! before it are ready, and not sooner, whatever the sidecars wait for.

use super::faults::{Undo, start_pod};
use super::world::{Event, World};

/// The controller's look.
const LOOK_MS: i64 = 300;
/// A start after the other takes its time; who waits for one that waits for it takes longer than this.
pub(crate) const WITHIN_MS: i64 = 400_000;

/// All are told to stop; masters hand over while they can.
pub(crate) fn delete_all(world: &mut World) {
    if world.in_order.is_some() {
        return;
    }
    let cluster = world.rng.usize(0..world.layout.clusters);
    world.tell(|_| "* all pods of a cluster are deleted, under OrderedReady".to_owned());
    world.in_order = Some(cluster);
    for pod in 0..world.pods.len() {
        let p = &world.pods[pod];
        if p.cluster != cluster || p.ip.is_none() {
            continue;
        }
        let (now, start) = (world.now, p.starts);
        world.judge.to_be_stopped.insert(pod, now);
        super::agent::wake(world, pod);
        let ms = world.rng.i64(5..6000);
        world.after(ms, Event::Undo(Undo::Stopped(pod, start)));
    }
    world.after(LOOK_MS, Event::InOrder);
}

/// Whether nobody but the controller starts this pod.
pub(crate) fn starts_in_order(world: &World, pod: usize) -> bool {
    world.in_order == Some(world.pods[pod].cluster)
}

/// The first that is not ready is waited for; the first that does not exist is created.
pub(crate) fn look(world: &mut World) {
    let Some(cluster) = world.in_order else {
        return;
    };
    let pods = (0..world.pods.len()).filter(|pod| world.pods[*pod].cluster == cluster);
    let mut pods: Vec<usize> = pods.collect();
    pods.sort_by_key(|pod| world.pods[*pod].ordinal);
    let waits = pods.into_iter().find(|pod| {
        let p = &world.pods[*pod];
        let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
        let ready = p.node.is_some() && decision.is_some_and(|decision| decision.ready);
        world.judge.to_be_stopped.contains_key(pod) || p.ip.is_none() || !ready
    });
    world.first_unready = waits;
    match waits {
        None => {
            world.tell(|_| "= all have been created and are ready".to_owned());
            world.in_order = None;
            return;
        }
        Some(pod) if world.pods[pod].ip.is_none() => {
            let ip = world.fresh_address();
            start_pod(world, pod, ip);
        }
        Some(_) => {}
    }
    world.after(LOOK_MS, Event::InOrder);
}
