//! Every judgement the agent makes, as one pure function of what it was told, what it remembers
//! and what it saw. No I/O, clock, environment, randomness, logging or metrics in here.
//!
//! The rules stand in the order in which they run. A rule that changes the topology takes a
//! [`guard::Cleared`], which only the guard gives out, so no such rule can run before it.

#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod adopt;
pub mod announce;
pub mod chronicle;
pub mod disarm;
pub mod doubts;
pub mod forget;
pub mod form;
pub mod guard;
pub mod handoff;
pub mod hasten;
pub mod heal;
pub mod hold;
pub mod invite;
pub mod join;
pub mod keep;
pub mod memory;
pub mod pause;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod readiness;
pub mod remember;
pub mod repair;
pub mod scene;
pub mod spread;
pub mod start;
pub mod succeed;
pub mod view;

use crate::model::decision::Decision;
use crate::model::observation::Observation;
use memory::Memory;
use plan::Plan;
use policy::Policy;
use scene::Scene;

/// One round's judgement. Infallible: what cannot be judged becomes a reason.
pub fn decide(policy: &Policy, memory: &Memory, seen: &Observation) -> (Memory, Decision) {
    let memory = memory.learn(policy, seen);
    let scene = Scene::new(policy, &memory, seen);
    let mut plan = Plan::new(&memory, seen.now, policy);

    pause::rule(&scene, &mut plan);
    repair::rule(&scene, &mut plan);
    hold::rule(&scene, &mut plan);
    announce::rule(&scene, &mut plan);
    hasten::rule(&scene, &mut plan);
    disarm::rule(&scene, &mut plan);
    let cleared = guard::rule(&scene, &mut plan);
    if let Some(cleared) = &cleared {
        succeed::rule(&scene, cleared, &mut plan);
        heal::rule(&scene, cleared, &mut plan);
        form::rule(&scene, cleared, &mut plan);
        join::rule(&scene, cleared, &mut plan);
        invite::rule(&scene, cleared, &mut plan);
        forget::rule(&scene, cleared, &mut plan);
        keep::rule(&scene, cleared, &mut plan);
    }
    handoff::rule(&scene, cleared.as_ref(), &mut plan);
    readiness::rule(&scene, &mut plan);
    spread::rule(&scene, &mut plan);
    remember::rule(&scene, &mut plan);
    doubts::rule(&scene, &mut plan);
    chronicle::rule(&scene, &mut plan);

    plan.conclude(&scene)
}
