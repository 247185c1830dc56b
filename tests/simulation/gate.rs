//! What may hold Redis back while a pod starts: `redis-sidecar init`, which is an agent until Redis may
//! start, and after it the startup probe of a native sidecar, on `/startz`.
//! Once Redis has been let start in a pod, nothing holds it back there any more.

use super::world::{Event, World};
use redis_sidecar::model::decision::Start;

/// So long after anything has changed somebody may not have seen it.
const FOUND_OUT_MS: i64 = 10_000;
/// As in `control_loop/before_redis.rs`: for what ends by itself, and for what wants a person.
const PATIENCE_MS: i64 = 60_000;
const SURE_MS: i64 = 3000;

/// What holds Redis back in every pod of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Redis and agent come up in any order.
    None,
    /// An init container.
    Init,
    /// The same, and then a native sidecar, started before Redis.
    Sidecar,
}

/// What a pod's Redis waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing, or nothing any more.
    No,
    /// For `init`; and since when that has seen what a person must look at.
    ByInit(Option<i64>),
    /// For `/startz`.
    ByProbe,
}

/// A pod starts: Redis after `redis_ms`, unless it is held back, and its agent.
pub(crate) fn start_containers(world: &mut World, pod: usize, redis_ms: i64) {
    let p = &mut world.pods[pod];
    let (start, agent_start) = (p.starts, p.agent_starts);
    if world.layout.gate == Gate::None {
        world.after(redis_ms, Event::Redis(pod, start));
    } else {
        p.held = Held::ByInit(None);
    }
    let ms = world.rng.i64(10..1500);
    world.after(ms, Event::AgentStart(pod, agent_start));
}

/// After a round of the agent: whether Redis may start now, or `init` gives up and is started again.
pub(crate) fn look(world: &mut World, pod: usize) {
    let (now, p) = (world.now, &mut world.pods[pod]);
    let Some(agent) = &p.agent else { return };
    let Some(decision) = &agent.decision else {
        return;
    };
    match p.held {
        Held::No => {}
        Held::ByProbe if decision.view.held.is_none() => {
            p.held = Held::No;
            start_redis(world, pod);
        }
        Held::ByProbe => {}
        Held::ByInit(doubted) => {
            let late = now - agent.started >= PATIENCE_MS;
            let doubted = match &decision.start {
                Start::Hold(_) => Some(doubted.unwrap_or(now)),
                Start::Wait(_) | Start::May => None,
            };
            let sure = doubted.is_some_and(|since| now - since >= SURE_MS);
            if decision.start == Start::May {
                init_ends(world, pod);
            } else if late || sure {
                p.agent = None;
                p.held = Held::ByInit(None);
                let agent_start = p.agent_starts;
                let ms = world.rng.i64(1000..10_000);
                world.tell(|world| format!("{} init gives up", world.pod_name(pod)));
                world.after(ms, Event::AgentStart(pod, agent_start));
            } else {
                p.held = Held::ByInit(doubted);
            }
        }
    }
}

/// Another pod, whose Redis has had the node of this one's volume, and which DNS has named, for so long that `init`
/// finds it, as long as no questions are lost (S10).
fn original(world: &World, pod: usize) -> Option<usize> {
    let conf = world.pods[pod].disk.conf.as_ref()?;
    let there = |other: &usize| {
        let q = &world.pods[*other];
        let has_it = q.node.as_ref().is_some_and(|node| node.id == conf.id);
        let named = world.zones[q.cluster].records().get(&q.ordinal).copied();
        let found = q.ip.is_some()
            && named == q.ip
            && world.zones[q.cluster].named_for(q.ordinal, FOUND_OUT_MS, world.now);
        let answers = q.redis_frozen_until + FOUND_OUT_MS < world.now;
        let same = q.cluster == world.pods[pod].cluster;
        has_it && found && answers && same && world.has_reached(pod, *other)
    };
    let lately = world.now - FOUND_OUT_MS;
    let young = world.questions_lost || world.judge.started_within(&conf.id, lately);
    let mut others = (0..world.pods.len()).filter(|other| *other != pod);
    others.find(there).filter(|_| !young)
}

fn init_ends(world: &mut World, pod: usize) {
    if let Some(original) = original(world, pod) {
        let (clone, original) = (world.pod_name(pod), world.pod_name(original));
        let what = format!("S10: init starts {clone}, whose node {original} has");
        world.judge.fail(what);
    }
    world.tell(|world| format!("{} init ends well", world.pod_name(pod)));
    let p = &mut world.pods[pod];
    p.agent = None;
    let agent_start = p.agent_starts;
    let ms = world.rng.i64(10..1500);
    world.after(ms, Event::AgentStart(pod, agent_start));
    if world.layout.gate == Gate::Sidecar {
        world.pods[pod].held = Held::ByProbe;
    } else {
        world.pods[pod].held = Held::No;
        start_redis(world, pod);
    }
}

fn start_redis(world: &mut World, pod: usize) {
    world.tell(|world| format!("{} lets Redis start", world.pod_name(pod)));
    let start = world.pods[pod].starts;
    let ms = world.rng.i64(10..1500);
    world.after(ms, Event::Redis(pod, start));
}

impl World {
    /// Whether what runs in this pod, beside no Redis, is `init`.
    pub(crate) fn is_init(&self, pod: usize) -> bool {
        matches!(self.pods[pod].held, Held::ByInit(_))
    }
}
