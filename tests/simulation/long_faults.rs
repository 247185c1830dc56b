//! What lasts for longer than anybody waits for anything: a sidecar that stays away while its Redis runs, a machine
//! that is cut off, alone or with one neighbour; and single questions to other pods that get no answer.

use super::faults::{Undo, any_pod};
use super::world::{Event, World};
use redis_sidecar::model::observation::{PeerAgent, PeerAnswer, PeerRedis, Silence};

/// Of that many questions one gets no answer.
const ONE_IN: u8 = 8;

/// One of these faults.
pub(crate) fn strike(world: &mut World) {
    match world.rng.u8(0..4) {
        0 => agent_stays_away(world),
        1 => lose_questions(world),
        _ => cut_off(world),
    }
}

fn agent_stays_away(world: &mut World) {
    let pod = any_pod(world);
    if world.is_init(pod) || world.pods[pod].agent.is_none() {
        return;
    }
    let ms = world.rng.i64(5000..100_000);
    world.tell(|world| {
        let name = world.pod_name(pod);
        format!("* the agent of {name} crashes, and stays away for {ms} ms")
    });
    world.pods[pod].agent = None;
    super::known::agent_stops(world, pod);
    let start = world.pods[pod].agent_starts;
    world.after(ms, Event::AgentStart(pod, start));
}

fn lose_questions(world: &mut World) {
    let ms = world.rng.i64(1000..60_000);
    world.tell(|_| format!("* one in {ONE_IN} questions to other pods gets no answer for {ms} ms"));
    world.questions_lost = true;
    world.after(ms, Event::Undo(Undo::QuestionsLost));
}

/// Redis and sidecar are asked each on its own.
pub(crate) fn loses(world: &mut World, answer: &mut PeerAnswer) -> bool {
    if !world.questions_lost {
        return false;
    }
    let redis = world.rng.u8(0..ONE_IN) == 0;
    let agent = world.rng.u8(0..ONE_IN) == 0;
    if redis {
        answer.redis = PeerRedis::Silent(Silence::TimedOut);
    }
    if agent {
        answer.agent = PeerAgent::Silent("timed out".to_owned());
    }
    redis || agent
}

fn cut_off(world: &mut World) {
    let pod = any_pod(world);
    let neighbour = any_pod(world);
    let alone = world.rng.bool();
    let ms = world.rng.i64(10_000..100_000);
    let inside = |other: usize| other == pod || (!alone && other == neighbour);
    let all = 0..world.pods.len();
    let pairs: Vec<(usize, usize)> = all
        .clone()
        .filter(|a| inside(*a))
        .flat_map(|a| all.clone().filter(|b| !inside(*b)).map(move |b| (a, b)))
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .collect();
    world.tell(|world| {
        let with = if alone || pod == neighbour {
            String::new()
        } else {
            format!(" with {}", world.pod_name(neighbour))
        };
        format!("* {} is cut off{with} for {ms} ms", world.pod_name(pod))
    });
    world.bus_alone = false;
    world.blocked.extend(pairs.iter().copied());
    world.after(ms, Event::Undo(Undo::Unblock(pairs)));
}

/// Whose sidecar is away gets it back.
pub(crate) fn heal(world: &mut World) {
    world.questions_lost = false;
    if !world.layout.long {
        return;
    }
    for pod in 0..world.pods.len() {
        let p = &world.pods[pod];
        if p.agent.is_none() && p.ip.is_some() {
            let start = p.agent_starts;
            let ms = world.rng.i64(10..3000);
            world.after(ms, Event::AgentStart(pod, start));
        }
    }
}
