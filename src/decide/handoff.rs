//! A master that is about to be stopped hands its slots to a replica first, so that no write is lost
//! and the shard is not without a master until Redis finds out; the same by request (S7).
//!
//! What is ordered is a plain `CLUSTER FAILOVER`: the master holds its clients' writes back, the
//! replica applies what is left and asks the other masters for their votes. If it does not come
//! about within 5 s (`CLUSTER_MF_TIMEOUT`), Redis lets the clients go on as before.
//!
//! `replicas` judges who could take over, `disk` what is left where nobody can.

mod disk;
mod replicas;

use super::guard::Cleared;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::asked::{Answer, Outcome, RequestId, StopAsked};
use crate::model::decision::Action;
use crate::model::identity::{NodeId, PodName};
use crate::model::node_table::NodeEntry;
use crate::model::observation::{OwnFacts, OwnRedis, Silence};
use crate::model::reason::ReasonCode;
use crate::model::slots::SlotSet;
use crate::model::time::Moment;
use replicas::Candidate;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A manual failover that has not come about by now never will (`CLUSTER_MF_TIMEOUT`).
const GIVEN_UP_AFTER: Duration = Duration::from_millis(5500);
/// A Redis that still runs this long after it was to be handed over will not be stopped after all.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// What has been done for the request that is under way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Handoff {
    /// Which.
    request: RequestId,
    /// The process of which it was asked; empty until it has answered.
    run_id: String,
    /// The slots that this node had to hand over.
    slots: SlotSet,
    /// Whose slots this replica is to take over.
    from: Option<NodeId>,
    /// Who was last told to take over, and when.
    told: Option<(NodeId, Moment)>,
    /// How many times each has been told.
    tries: BTreeMap<NodeId, u32>,
    /// Replicas that have said that they are about to be stopped.
    leaving: BTreeSet<NodeId>,
    /// What came of it, once it is over.
    over: Option<Answer>,
}

/// A request, whichever command it came from.
struct Task<'a> {
    id: RequestId,
    since: Moment,
    until: Moment,
    /// The only pod that may take over.
    to: Option<&'a str>,
    /// Redis is stopped afterwards, whatever comes of it.
    stops: bool,
}

/// Works on what was asked: a stop goes before a failover.
pub fn rule(scene: &Scene<'_>, cleared: Option<&Cleared>, plan: &mut Plan) {
    let failover = scene.seen.asked.failover.as_ref();
    if let Some(stop) = stop_asked(scene) {
        let StopAsked { id, since, until } = *stop;
        let task = Task {
            id,
            since,
            until,
            to: None,
            stops: true,
        };
        work(scene, cleared, &task, plan);
        say_stopping(scene, plan);
        if let Some(failover) = failover {
            let answer = Answer::new(Outcome::NotDone, "this pod is about to be stopped");
            plan.answer(failover.id, answer);
        }
    } else if let Some(failover) = failover {
        let task = Task {
            id: failover.id,
            since: failover.since,
            until: failover.until,
            to: failover.to.as_deref(),
            stops: false,
        };
        work(scene, cleared, &task, plan);
    }
}

/// The stop that this Redis is about to see: not one that its predecessor saw, nor one that never
/// came.
pub fn stop_asked<'a>(scene: &Scene<'a>) -> Option<&'a StopAsked> {
    let stop = scene.seen.asked.stop.as_ref()?;
    let known = &scene.memory.handoff;
    let run_id = match &scene.seen.own {
        OwnRedis::Up(own) => own.server.run_id.as_str(),
        OwnRedis::Loading(server, ..) => server.run_id.as_str(),
        OwnRedis::Silent(_) => "",
    };
    let asked = known.run_id.as_str();
    let restarted = known.request == stop.id && ![run_id, asked].contains(&"") && run_id != asked;
    let overdue = scene.seen.now - stop.until > STOPS_WITHIN;
    (!restarted && !overdue).then_some(stop)
}

/// Whoever has no slots to serve is better not sent any clients.
fn say_stopping(scene: &Scene<'_>, plan: &mut Plan) {
    let message = "this pod is about to be stopped";
    if scene.me.is_some_and(|me| !me.slots.is_empty()) {
        plan.warn(ReasonCode::Stopping, message);
    } else {
        plan.block(ReasonCode::Stopping, message);
    }
}

fn work(scene: &Scene<'_>, cleared: Option<&Cleared>, task: &Task<'_>, plan: &mut Plan) {
    if plan.memory().handoff.request != task.id {
        let leaving = std::mem::take(&mut plan.memory_mut().handoff.leaving);
        plan.memory_mut().handoff = Handoff {
            request: task.id,
            leaving,
            ..Handoff::default()
        };
    }
    if let Some(own) = scene.own
        && plan.memory().handoff.run_id.is_empty()
    {
        plan.memory_mut().handoff.run_id = own.server.run_id.clone();
    }
    if plan.memory().handoff.over.is_none() {
        plan.hurry();
        let answer = judge(scene, cleared, task, plan);
        if !answer.is_last() {
            plan.answer(task.id, answer);
            return;
        }
        if let Some(event) = event(scene, &plan.memory().handoff, &answer) {
            plan.happened(event, answer.says.clone());
        }
        plan.memory_mut().handoff.over = Some(answer);
    }
    if let Some(answer) = plan.memory().handoff.over.clone() {
        plan.answer(task.id, answer);
    }
}

/// What the history calls it; nothing where there was nothing to hand over.
fn event(scene: &Scene<'_>, handoff: &Handoff, answer: &Answer) -> Option<&'static str> {
    let done = answer.outcome == Outcome::Done;
    let replica = scene.me.is_some_and(|me| me.flags.replica());
    match (handoff.from.is_some(), handoff.slots.is_empty()) {
        (true, _) if done => Some("took-over"),
        (false, false) if done && replica => Some("handed-over"),
        (true, _) | (false, false) => Some("handoff-failed"),
        (false, true) => None,
    }
}

fn judge(scene: &Scene<'_>, cleared: Option<&Cleared>, task: &Task<'_>, plan: &mut Plan) -> Answer {
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return without_redis(scene, task);
    };
    let had = !plan.memory().handoff.slots.is_empty();
    if me.flags.replica() {
        return match (had, task.stops) {
            (true, _) => confirm(scene, me, task, plan),
            (false, true) => {
                let master = me.master.as_ref().map(|id| scene.name_of(id));
                let master = master.as_deref().unwrap_or("an unknown master");
                done(format!("a replica of {master} has nothing to hand over"))
            }
            (false, false) => take_over(scene, cleared, own, me, task, plan),
        };
    }
    if let Some(from) = plan.memory().handoff.from {
        let (slots, name) = (&me.slots, scene.name_of(&from));
        return if slots.is_empty() {
            under_way(format!("taking over from {name}"))
        } else {
            done(format!(
                "slots {slots} taken over from {name}{}",
                took(scene, task)
            ))
        };
    }
    if me.slots.is_empty() {
        return match had {
            true => under_way("the slots have another owner; becoming its replica"),
            false if task.stops => done("a node without slots has nothing to hand over"),
            false => not_done("this node owns no slots"),
        };
    }
    plan.memory_mut().handoff.slots = me.slots.clone();
    if let Some(why) = forbidden(scene, cleared, plan) {
        return nobody(scene, own, task, &why);
    }
    hand_over(scene, own, me, task, plan)
}

/// A Redis that cannot be asked: one that does not run has nothing to hand over.
fn without_redis(scene: &Scene<'_>, task: &Task<'_>) -> Answer {
    let why = match &scene.seen.own {
        OwnRedis::Silent(Silence::Refused(_) | Silence::Unreachable(_)) if task.stops => {
            return done("Redis does not run, so there is nothing to hand over");
        }
        OwnRedis::Silent(why) => format!("Redis {why}"),
        OwnRedis::Loading(..) => "Redis is reading its data from disk".to_owned(),
        OwnRedis::Up(_) => "the node table does not show this node".to_owned(),
    };
    if scene.seen.now < task.until {
        under_way(why)
    } else {
        not_done(why)
    }
}

/// Why nothing may be changed now, whoever asks.
fn forbidden(scene: &Scene<'_>, cleared: Option<&Cleared>, plan: &Plan) -> Option<String> {
    if scene.policy.dry_run {
        return Some("DRY_RUN is set".to_owned());
    }
    if plan.is_paused() {
        return Some("the sidecar is paused; `redis-sidecar resume` ends that".to_owned());
    }
    cleared
        .is_none()
        .then(|| "the sidecar changes nothing now, for the reason on /readyz".to_owned())
}

/// The best replica is told first; if nothing comes of it, the next one.
fn hand_over(
    scene: &Scene<'_>,
    own: &OwnFacts,
    me: &NodeEntry,
    task: &Task<'_>,
    plan: &mut Plan,
) -> Answer {
    let now = scene.seen.now;
    if let Some(to) = task.to
        && let Err(why) = is_replica_of_mine(scene, me, to)
    {
        return not_done(why);
    }
    let found = replicas::judge(scene, own, me, task, plan);
    let best = found.ready.iter().max_by_key(|candidate| {
        let tries = plan.memory().handoff.tries.get(&candidate.id);
        let tries = tries.copied().unwrap_or(0);
        (std::cmp::Reverse(tries), candidate.offset)
    });
    let told = plan.memory().handoff.told;
    if let Some((id, at)) = told
        && now - at < GIVEN_UP_AFTER
        && refusal(scene, &id).is_none()
    {
        return match now < task.until {
            true => under_way(format!("{} was told to take over", scene.name_of(&id))),
            false => nobody(scene, own, task, "no replica has taken over in time"),
        };
    }
    if now >= task.until {
        let why = match (told, found.words()) {
            (None, words) => words,
            (Some((id, _)), words) => format!("{} has not taken over; {words}", scene.name_of(&id)),
        };
        return nobody(scene, own, task, &why);
    }
    let Some(best) = best else {
        return match found.waits.is_empty() {
            true => nobody(scene, own, task, &found.words()),
            false => under_way(found.words()),
        };
    };
    tell(scene, best, task, plan);
    under_way(format!("{} is to take over", scene.name_of(&best.id)))
}

fn is_replica_of_mine(scene: &Scene<'_>, me: &NodeEntry, to: &str) -> Result<(), String> {
    let pod: PodName = to.parse().map_err(|error| format!("{to:?}: {error}"))?;
    if pod == scene.policy.me {
        return Err(format!("{to} is the master already"));
    }
    let others = scene.table().into_iter().flat_map(|table| table.others());
    let mut mine = others.filter(|node| node.master == Some(me.id));
    let known = mine.any(|node| {
        pod.set == scene.policy.me.set && scene.ordinal_of(&node.id) == Some(pod.ordinal)
    });
    known
        .then_some(())
        .ok_or_else(|| format!("{to} is no replica of {}", scene.policy.me))
}

fn tell(scene: &Scene<'_>, best: &Candidate, task: &Task<'_>, plan: &mut Plan) {
    let key = format!("hand over {}", best.id);
    if !plan.due(&key, GIVEN_UP_AFTER) {
        return;
    }
    let why = if task.stops {
        "this pod is about to be stopped"
    } else {
        "a person has asked for it"
    };
    let evidence = format!(
        "{why}; it replicates this node and is {} bytes behind",
        best.lag
    );
    let handoff = &mut plan.memory_mut().handoff;
    handoff.told = Some((best.id, scene.seen.now));
    *handoff.tries.entry(best.id).or_default() += 1;
    let action = Action::HandOver {
        replica: best.id,
        pod: scene.name_of(&best.id),
        socket: best.socket,
    };
    plan.act(key, GIVEN_UP_AFTER, action, evidence);
}

/// Redis's words, where the last order about this node was refused.
fn refusal<'a>(scene: &Scene<'a>, id: &NodeId) -> Option<&'a str> {
    let id = id.to_string();
    let mut refusals = scene.seen.refusals.iter();
    let last = refusals
        .find(|refusal| refusal.action.contains(&id) && refusal.action.contains("take over"));
    last.map(|refusal| refusal.error.as_str())
}

/// Over when the new master is seen to serve what this node had.
fn confirm(scene: &Scene<'_>, me: &NodeEntry, task: &Task<'_>, plan: &mut Plan) -> Answer {
    let slots = plan.memory().handoff.slots.clone();
    let master = me.master.and_then(|id| scene.table()?.get(&id));
    let Some(master) = master else {
        return under_way("a replica now; its master is not known yet");
    };
    let name = scene.name_of(&master.id);
    let owns = slots.minus(&master.slots).is_empty();
    let serves = master.socket().is_some_and(|socket| {
        plan.ask(socket, Duration::ZERO);
        scene.slot_owner_answers(socket, &master.id)
    });
    if owns && serves {
        return done(format!(
            "slots {slots} handed over to {name}{}",
            took(scene, task)
        ));
    }
    let what = format!("{name} has taken over and has not been seen to serve yet");
    if scene.seen.now < task.until {
        under_way(what)
    } else {
        not_done(what)
    }
}

/// By request only: this replica takes over from a master that is well.
fn take_over(
    scene: &Scene<'_>,
    cleared: Option<&Cleared>,
    own: &OwnFacts,
    me: &NodeEntry,
    task: &Task<'_>,
    plan: &mut Plan,
) -> Answer {
    if let Some(why) = forbidden(scene, cleared, plan) {
        return not_done(why);
    }
    let master = me.master.and_then(|id| own.table.get(&id));
    let Some(master) = master else {
        return not_done("its master is not known");
    };
    let name = scene.name_of(&master.id);
    let myself = scene.policy.me.to_string();
    if task.to.is_some_and(|to| to != myself) {
        return not_done(format!("{myself} is a replica; ask its master, {name}"));
    }
    if master.flags.fail() || master.flags.noaddr() {
        return not_done(format!(
            "{name} is down, and then Redis's own election decides"
        ));
    }
    let link = own.server.replica.as_ref();
    let linked = link.is_some_and(|link| link.link_up && !link.syncing);
    let told = plan.memory().handoff.told;
    let refused = refusal(scene, &master.id).filter(|_| told.is_some());
    if let Some(words) = refused {
        return not_done(format!("not taken over from {name}: {words}"));
    }
    if scene.seen.now >= task.until {
        return not_done(format!("not taken over from {name}"));
    }
    let key = format!("take over {}", master.id);
    if !linked || !master.healthy() {
        return under_way(format!("waiting for the replication link to {name}"));
    }
    if plan.due(&key, GIVEN_UP_AFTER) {
        let action = Action::TakeOver {
            master: master.id,
            pod: name.clone(),
        };
        let evidence = "a person has asked for it, and the replication link is up";
        plan.act(key, GIVEN_UP_AFTER, action, evidence);
        let handoff = &mut plan.memory_mut().handoff;
        handoff.told = Some((master.id, scene.seen.now));
        handoff.from = Some(master.id);
    }
    under_way(format!("taking over from {name}"))
}

/// No handoff: before a stop, what is on disk is all that is left.
fn nobody(scene: &Scene<'_>, own: &OwnFacts, task: &Task<'_>, why: &str) -> Answer {
    if !task.stops {
        return not_done(why);
    }
    let disk = disk::judge(scene, own, task);
    let says = format!("{why}; {}", disk.says);
    Answer::new(disk.outcome, says)
}

fn took(scene: &Scene<'_>, task: &Task<'_>) -> String {
    format!(" within {} ms", (scene.seen.now - task.since).as_millis())
}

fn done(says: impl Into<String>) -> Answer {
    Answer::new(Outcome::Done, says)
}

fn under_way(says: impl Into<String>) -> Answer {
    Answer::new(Outcome::UnderWay, says)
}

fn not_done(says: impl Into<String>) -> Answer {
    Answer::new(Outcome::NotDone, says)
}
