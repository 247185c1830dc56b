//! Planned stops: announced to a pod's agent, so that a master may hand its slots over, and then done.

use super::faults::{Undo, end_pod, some_pods, start_pod};
use super::world::{Event, Pod, World};

/// For so long a handoff may be under way (`CLUSTER_MF_TIMEOUT`).
const HANDOFF_MS: i64 = 5000;

pub(crate) fn announce(world: &mut World) {
    for pod in some_pods(world) {
        if world.pods[pod].ip.is_some() {
            announce_to(world, pod);
        }
    }
}

/// The kubelet runs the hook, and some time later stops the pod, whatever has come of it.
pub(crate) fn announce_to(world: &mut World, pod: usize) {
    let ms = match world.rng.u8(0..4) {
        0 => world.rng.i64(5..300),
        _ => world.rng.i64(300..9000),
    };
    world.tell(|world| format!("* {} will be stopped in {ms} ms", world.pod_name(pod)));
    let now = world.now;
    world.judge.to_be_stopped.insert(pod, now);
    super::agent::wake(world, pod);
    let start = world.pods[pod].starts;
    world.after(ms, Event::Undo(Undo::Stopped(pod, start)));
}

/// It ends, and comes back.
pub(crate) fn stop(world: &mut World, pod: usize) {
    world.tell(|world| format!("* {} ends, as announced", world.pod_name(pod)));
    let ip = world.pods[pod].ip.filter(|_| world.rng.u8(0..4) == 0);
    end_pod(world, pod);
    if super::in_order::starts_in_order(world, pod) {
        return;
    }
    let ip = ip.unwrap_or_else(|| world.fresh_address());
    start_pod(world, pod, ip);
}

/// Nobody fails over but who was asked to (S7).
pub(crate) fn s7_failover(world: &World, pod: usize) -> Option<String> {
    let asked = world.judge.to_be_stopped.contains_key(&pod);
    (!asked).then(|| "S7: nobody has asked for it".to_owned())
}

/// Who took over from a master that was well has all that this one had acknowledged.
pub(crate) fn invariant_a_handoff_keeps_all(world: &mut World) {
    for pod in 0..world.pods.len() {
        let node = world.pods[pod].node.as_mut();
        let Some(from) = node.and_then(|node| node.manual.taken_from.take()) else {
            continue;
        };
        world.judge.handoffs += 1;
        let running = |pod: &Pod| pod.node.as_ref().is_some_and(|node| node.id == from);
        // Of two that have one ID it cannot be said which one was meant.
        let mut same = world.pods.iter().filter(|pod| running(pod));
        let old = same.next().filter(|_| same.next().is_none());
        let old = old.and_then(|old| old.node.as_ref());
        let (Some(old), Some(new)) = (old, &world.pods[pod].node) else {
            continue;
        };
        // Started again meanwhile it holds no clients back, and Redis goes on with what was begun.
        let anew = world.judge.started_within(&from, world.now - HANDOFF_MS);
        let lost = old.keys_in(new.me().segs) & !new.keys;
        // A handoff ends by the wall clock: the master's has ended, and it writes again.
        let set_back = world.judge.set_back.get(&pod);
        if set_back.is_some_and(|(at, by)| world.now - at < HANDOFF_MS + by) && lost != 0 {
            world.judge.known.belated += 1;
        } else if lost != 0 && !anew {
            let (name, lost) = (world.pod_name(pod), lost.count_ones());
            let what = format!("S7: {lost} keys lost when {name} took over from {from}");
            world.judge.blame(what);
        }
    }
}
