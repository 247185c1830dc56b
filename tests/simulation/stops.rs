//! Planned stops: announced to a pod's agent, so that a master may hand its slots over, and then done.

use super::faults::{Undo, end_pod, some_pods, start_pod};
use super::world::{Event, World};

/// The kubelet runs the hook, and some time later stops the pod, whatever has come of it.
pub(crate) fn announce(world: &mut World) {
    for pod in some_pods(world) {
        if world.pods[pod].ip.is_none() {
            continue;
        }
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
}

/// It ends, and comes back.
pub(crate) fn stop(world: &mut World, pod: usize) {
    world.tell(|world| format!("* {} ends, as announced", world.pod_name(pod)));
    let ip = world.pods[pod].ip.filter(|_| world.rng.u8(0..4) == 0);
    end_pod(world, pod);
    let ip = ip.unwrap_or_else(|| world.fresh_address());
    start_pod(world, pod, ip);
}

/// Nobody fails over but who was asked to (S7).
pub(crate) fn s7_failover(world: &World, pod: usize) -> Option<String> {
    let asked = world.judge.to_be_stopped.contains_key(&pod);
    (!asked).then(|| "S7: nobody has asked for it".to_owned())
}
