//! What goes wrong with a single process: it crashes, is stopped for a while, gets slow, or its clock jumps.

use super::faults::{Undo, any_pod, some_pods};
use super::world::{Event, World};

pub(crate) fn redis_restarts(world: &mut World) {
    for pod in some_pods(world) {
        if world.pods[pod].node.is_none() {
            continue;
        }
        world.tell(|world| format!("* Redis of {} crashes", world.pod_name(pod)));
        world.kill_redis(pod);
        let ms = world.rng.i64(50..4000);
        world.pods[pod].loads_for = world.rng.i64(0..1500);
        let start = world.pods[pod].starts;
        world.after(ms, Event::Redis(pod, start));
    }
}

pub(crate) fn agents_restart(world: &mut World) {
    for pod in some_pods(world) {
        world.tell(|world| format!("* the agent of {} crashes", world.pod_name(pod)));
        world.pods[pod].agent = None;
        super::known::agent_stops(world, pod);
        let ms = world.rng.i64(20..3000);
        let start = world.pods[pod].agent_starts;
        world.after(ms, Event::AgentStart(pod, start));
    }
}

pub(crate) fn freeze_redis(world: &mut World) {
    let pod = any_pod(world);
    let ms = world.rng.i64(200..8000);
    world.tell(|world| format!("* Redis of {} is stopped for {ms} ms", world.pod_name(pod)));
    world.pods[pod].redis_frozen_until = world.now + ms;
}

/// A replica reads what its master sends, and applies nothing of it.
pub(crate) fn replica_lags(world: &mut World) {
    let pod = any_pod(world);
    let ms = world.rng.i64(500..15_000);
    world.tell(|world| format!("* Redis of {} lags for {ms} ms", world.pod_name(pod)));
    world.pods[pod].lags_until = world.now + ms;
}

pub(crate) fn freeze_agent(world: &mut World) {
    let pod = any_pod(world);
    let ms = world.rng.i64(200..8000);
    world.tell(|world| {
        format!(
            "* the agent of {} is stopped for {ms} ms",
            world.pod_name(pod)
        )
    });
    world.pods[pod].agent_frozen_until = world.now + ms;
    super::known::agent_stops(world, pod);
}

pub(crate) fn clock_jumps(world: &mut World) {
    let pod = any_pod(world);
    let ms = world.rng.i64(-20_000..20_000);
    world.tell(|world| {
        format!(
            "* the wall clock of {} jumps by {ms} ms",
            world.pod_name(pod)
        )
    });
    if ms < 0 {
        let now = world.now;
        world.judge.set_back.insert(pod, (now, -ms));
    }
    world.clock_jumps(pod, ms);
}

pub(crate) fn agent_lags(world: &mut World) {
    let pod = any_pod(world);
    let (lag, ms) = (world.rng.i64(100..2500), world.rng.i64(2000..15_000));
    world.tell(|world| {
        format!(
            "* the agent of {} gets slow ({lag} ms)",
            world.pod_name(pod)
        )
    });
    world.pods[pod].agent_lag = lag;
    world.after(ms, Event::Undo(Undo::Lag(pod)));
}
