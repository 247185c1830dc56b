//! What goes into the history: what this round saw for the first time, against how the node stood
//! after the last event. What is not known now is no change (S2).

use super::plan::Plan;
use super::scene::Scene;
use super::view;
use crate::model::decision::{Action, Role};
use crate::model::history::{Event, Standing};
use crate::model::identity::NodeId;
use crate::model::observation::{OwnRedis, Stage};
use crate::model::reason::ReasonCode;
use std::collections::BTreeMap;
use std::time::Duration;

/// An alarm that comes and goes within this is none.
const LASTING: Duration = Duration::from_secs(3);
/// Between two writes.
const GAP: Duration = Duration::from_secs(1);

/// Tells what has happened, and orders what is not on the volume yet to be written.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let history = &scene.seen.history;
    if let Some(why) = &history.error
        && !history.unwritten.is_empty()
        && scene.seen.volume_error.is_none()
        && scene.seen.kept.error.is_none()
    {
        plan.warn(
            ReasonCode::VolumeUnwritable,
            format!("the history beside the data cannot be written: {why}"),
        );
    }
    plan.memory_mut().has_formed |= scene.memory.forming_since.is_some();
    let before = history.last.clone().unwrap_or_default();
    let mut now = standing(scene, &before);
    let mut told: Vec<(&str, String)> = changes(scene, &before, &now);
    told.extend(plan.take_happened());
    told.extend(alarms(scene, plan, &mut now));
    let mut events: Vec<Event> = told
        .iter()
        .map(|(event, detail)| Event::new(scene.seen.wall, event, detail, before.clone()))
        .collect();
    // The standing belongs to all of them together.
    if let Some(last) = events.last_mut() {
        last.after = now;
    }
    let unwritten: Vec<Event> = history.unwritten.iter().chain(&events).cloned().collect();
    plan.tell(events);
    if let Some(last) = unwritten.last() {
        // Each content has its own limit; one that the volume does not take is tried less and less.
        let key = format!("record {} {}", last.at.0, last.event);
        let action = Action::Record(unwritten);
        plan.act(key, GAP, action, "not on the volume yet");
    }
}

/// How the node stands now; what is not known now stays as it was.
fn standing(scene: &Scene<'_>, before: &Standing) -> Standing {
    let mut now = before.clone();
    now.address = Some(scene.policy.pod_ip);
    if let OwnRedis::Up(own) = &scene.seen.own {
        let view = view::view(scene);
        now.run_id = Some(own.server.run_id.clone());
        now.node_id = view.node_id.or(before.node_id);
        now.member = before.member || scene.stage == Stage::Member;
        if scene.stage == Stage::Member && view.role != Role::None {
            let same = now.role == view.role;
            now.role = view.role;
            // A node whose pod is not known now stays the one that it was.
            let pod = view.replica_of.filter(|of| of.parse::<NodeId>().is_err());
            now.replica_of = pod.or(now.replica_of.filter(|_| same));
        }
    }
    now
}

fn changes(scene: &Scene<'_>, before: &Standing, now: &Standing) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    if let (Some(from), Some(to)) = (before.address, now.address)
        && from != to
    {
        told.push(("moved", format!("from {from} to {to}")));
    }
    if before.run_id.is_some() && before.run_id != now.run_id {
        let id = now.node_id.map_or("no ID".to_owned(), |id| id.to_string());
        told.push(("redis-started", format!("as node {id}")));
    }
    if let (Some(from), Some(to)) = (before.node_id, now.node_id)
        && from != to
    {
        told.push(("identity-changed", format!("from node {from} to node {to}")));
    }
    let part = part(now);
    if now.member && !before.member {
        let id = now
            .node_id
            .map_or(String::new(), |id| format!(", node {id}"));
        let event = match (scene.memory.has_formed, now.role) {
            (true, _) => "formed",
            (false, Role::Replica) => "joined",
            (false, _) => "found-in-a-cluster",
        };
        told.push((event, format!("as {part}{id}")));
    } else if before.role != Role::None && before.role != now.role {
        let was = self::part(before);
        told.push(("role-changed", format!("from {was} to {part}")));
    } else if before.replica_of.is_some() && before.replica_of != now.replica_of {
        told.push(("master-changed", format!("{part} now")));
    }
    told
}

fn part(standing: &Standing) -> String {
    match (standing.role, &standing.replica_of) {
        (Role::Replica, Some(master)) => format!("replica of {master}"),
        (role, _) => role.as_str().to_owned(),
    }
}

/// Alarms that have begun or ended, and have lasted.
fn alarms(
    scene: &Scene<'_>,
    plan: &mut Plan,
    standing: &mut Standing,
) -> Vec<(&'static str, String)> {
    let now = scene.seen.now;
    let reasons = plan.reasons(scene);
    let present: BTreeMap<&str, &str> = reasons
        .iter()
        .filter(|reason| is_alarm(reason.code))
        .map(|reason| (reason.code.as_str(), reason.message.as_str()))
        .collect();
    let told = standing.alarms.clone();
    // While Redis does not answer, nobody knows whether what it was about is over.
    let known =
        |code: &str| scene.own.is_some() || SEEN_WITHOUT_REDIS.iter().any(|c| c.as_str() == code);
    let differs = |code: &str| match present.contains_key(code) {
        true => !told.contains(code),
        false => told.contains(code) && known(code),
    };
    let changing = &mut plan.memory_mut().alarms_changing;
    changing.retain(|code, _| differs(code));
    let codes = present
        .keys()
        .copied()
        .chain(told.iter().map(String::as_str));
    let mut events = Vec::new();
    for code in codes.filter(|code| differs(code)) {
        let since = *changing.entry(code.to_owned()).or_insert(now);
        if now - since < LASTING {
            continue;
        }
        match present.get(code) {
            Some(message) => {
                standing.alarms.insert(code.to_owned());
                events.push(("alarm", format!("{code}: {message}")));
            }
            None => {
                standing.alarms.remove(code);
                events.push(("alarm-over", code.to_owned()));
            }
        }
    }
    events
}

/// Of which it is seen without the own Redis that they are over.
const SEEN_WITHOUT_REDIS: [ReasonCode; 3] = [
    ReasonCode::RedisUnreachable,
    ReasonCode::DnsFailing,
    ReasonCode::VolumeUnwritable,
];

/// Everything but what belongs to an ordinary start or stop, what is so for good, and a refusal, which
/// stays among the reasons for a while and is in the log.
fn is_alarm(code: ReasonCode) -> bool {
    !matches!(
        code,
        ReasonCode::Starting
            | ReasonCode::RedisLoading
            | ReasonCode::WaitingForPeers
            | ReasonCode::WaitingForCluster
            | ReasonCode::Forming
            | ReasonCode::Joining
            | ReasonCode::ReplicaSyncing
            | ReasonCode::CommandRefused
            | ReasonCode::TooFewMasters
            | ReasonCode::InotifyUnavailable
            | ReasonCode::NotInDns
            | ReasonCode::DryRun
            | ReasonCode::Stopping
    )
}
