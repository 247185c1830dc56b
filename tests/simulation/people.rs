//! What people do to a cluster that is well: a rolling update, and pauses.

use super::world::{Event, World};
use redis_sidecar::model::asked::PauseAsked;
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::reason::ReasonCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The controller's look.
const LOOK_MS: i64 = 300;
/// A rolling update that something holds up ends with the other faults.
const ROLLED_WITHIN_MS: i64 = 180_000;

#[derive(Default)]
pub(crate) struct People {
    /// The rolling update that is under way.
    rolling: Option<Rolling>,
    /// How many have come to their end.
    pub(crate) rolled: u64,
    /// Until when each pod's agent was last paused.
    pub(crate) paused_until: BTreeMap<usize, i64>,
}

struct Rolling {
    cluster: usize,
    /// Who has been told to stop.
    told: BTreeSet<usize>,
}

/// All pods of a cluster get a new template.
pub(crate) fn begin_roll(world: &mut World) {
    if world.people.rolling.is_some() || world.in_order.is_some() {
        return;
    }
    let cluster = world.rng.usize(0..world.layout.clusters);
    world.tell(|_| "* a rolling update of a cluster begins".to_owned());
    world.people.rolling = Some(Rolling {
        cluster,
        told: BTreeSet::new(),
    });
    roll(world);
}

/// The StatefulSet's controller stops the highest ordinal that is not new yet, when all above it are ready.
pub(crate) fn roll(world: &mut World) {
    let Some(rolling) = &world.people.rolling else {
        return;
    };
    let pods = (0..world.pods.len()).filter(|pod| world.pods[*pod].cluster == rolling.cluster);
    let mut pods: Vec<usize> = pods.collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(world.pods[*pod].ordinal));
    let stopping = |pod: &usize| world.judge.to_be_stopped.contains_key(pod);
    let ready = |pod: &usize| {
        let p = &world.pods[*pod];
        let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
        p.node.is_some() && !stopping(pod) && decision.is_some_and(|decision| decision.ready)
    };
    let next = pods
        .into_iter()
        .find(|pod| !rolling.told.contains(pod) || !ready(pod));
    let Some(pod) = next else {
        world.tell(|_| "= all are new and ready".to_owned());
        world.people.rolling = None;
        world.people.rolled += 1;
        return;
    };
    let can_be_told = !rolling.told.contains(&pod) && !stopping(&pod);
    if can_be_told && world.pods[pod].ip.is_some() {
        if let Some(rolling) = &mut world.people.rolling {
            rolling.told.insert(pod);
        }
        super::stops::announce_to(world, pod);
    }
    world.after(LOOK_MS, Event::Roll);
}

/// It goes on while other things happen, and to its end.
pub(crate) fn finish(world: &mut World) -> Result<(), String> {
    let until = world.now + ROLLED_WITHIN_MS;
    while world.people.rolling.is_some() && world.now < until {
        let next = world.now + 1000;
        world.run(next)?;
    }
    Ok(())
}

/// A few sidecars are paused for a while.
pub(crate) fn pause(world: &mut World) {
    for pod in super::faults::some_pods(world) {
        let ms = world.rng.i64(1000..15_000);
        let now = world.now;
        let Some(agent) = &mut world.pods[pod].agent else {
            continue;
        };
        agent.pause = Some(PauseAsked {
            id: request(now, pod),
            lasts: Some(Duration::from_millis(ms.unsigned_abs())),
        });
        world.people.paused_until.insert(pod, now + ms);
        world.tell(|world| format!("* {} is paused for {ms} ms", world.pod_name(pod)));
        super::agent::wake(world, pod);
    }
}

/// Nobody rolls any more, and who was paused goes on.
pub(crate) fn end(world: &mut World) {
    world.people.rolling = None;
    let now = world.now;
    for pod in world.people.paused_until.keys() {
        if let Some(agent) = &mut world.pods[*pod].agent {
            agent.pause = Some(PauseAsked {
                id: request(now, *pod),
                lasts: None,
            });
        }
    }
}

/// A sidecar that is away when nobody is to be paused any more does not hear of it, and has its pause on the volume.
pub(crate) fn outlast(world: &mut World) -> Result<(), String> {
    let paused = world.people.paused_until.iter();
    let unheard = paused.filter(|(pod, _)| world.pods[**pod].agent.is_none());
    match unheard.map(|(_, until)| *until).max() {
        Some(until) if until > world.now => world.run(until),
        _ => Ok(()),
    }
}

/// No other request has it.
fn request(now: i64, pod: usize) -> u64 {
    (now.unsigned_abs() << 8) + pod as u64 + (1 << 60)
}

/// Who says that it is paused writes nothing, but for what takes back what it has begun itself.
pub(crate) fn paused(world: &World, pod: usize, action: &Action) -> Option<String> {
    let agent = world.pods[pod].agent.as_ref()?;
    let decision = agent.decision.as_ref()?;
    let says_so = decision
        .reasons
        .iter()
        .any(|r| r.code == ReasonCode::Paused);
    let takes_back = matches!(
        action,
        Action::RestoreNodeTimeout(_) | Action::DropHandshake { .. }
    );
    let writes = action.writes_to_redis() && !takes_back;
    (says_so && writes).then(|| "it is paused".to_owned())
}
