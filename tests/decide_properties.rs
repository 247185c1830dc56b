//! What no decision may ever order, whatever was seen: random tables, stages, answers, notes and
//! DNS, over a few rounds with one memory. No simulated Redis in here: effects are random as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod any_story;

use any_story::{CLUSTER, any_story};
use proptest::prelude::*;
use redis_sidecar::decide::decide;
use redis_sidecar::decide::hold::{HELD_S, is_held};
use redis_sidecar::decide::memory::Memory;
use redis_sidecar::decide::policy::Policy;
use redis_sidecar::model::asked::PauseAsked;
use redis_sidecar::model::decision::{Action, Decision};
use redis_sidecar::model::node_table::NodeTable;
use redis_sidecar::model::observation::{
    NodesFile, Observation, OwnRedis, PeerAgent, PeerAnswer, PeerClaim, PeerFacts, PeerRedis,
    Silence, Stage, Volume,
};
use redis_sidecar::model::reason::Weight;
use redis_sidecar::model::slots::SlotSet;
use redis_sidecar::model::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The answers of this round and of those before, the last of each address, none older than a
/// second: what S1 lets a decision rest on.
fn fresh(rounds: &[Observation], now: Moment) -> BTreeMap<SocketAddr, PeerAnswer> {
    let mut answers: BTreeMap<SocketAddr, PeerAnswer> = BTreeMap::new();
    for seen in rounds {
        answers.extend(seen.answers.clone());
    }
    answers.retain(|_, answer| now.0 - answer.at.0 <= 1000);
    answers
}

/// The newest proof that a pod is there where it has not answered within a second: of more than a few
/// pods that counts for a while longer, unless something else has answered there since (S3).
fn proved_lately<'a>(policy: &Policy, rounds: &'a [Observation], ordinal: u32) -> Proof<'a> {
    let now = rounds.last().unwrap().now;
    let allowed = u128::from(policy.beyond_a_few()) * 100 + 1000;
    let mut last: BTreeMap<SocketAddr, &PeerAnswer> = BTreeMap::new();
    for seen in rounds {
        let came = seen
            .answers
            .iter()
            .filter(|(_, a)| !a.gave_no_answer_in_time());
        last.extend(came.map(|(socket, answer)| (*socket, answer)));
    }
    last.into_values()
        .filter(|answer| (now - answer.at).as_millis() <= allowed)
        .filter(|answer| proved(answer).is_some_and(|(claimed, ..)| claimed == ordinal))
        .max_by_key(|answer| answer.at)
        .and_then(proved)
}

type Proof<'a> = Option<(u32, &'a PeerFacts, &'a PeerClaim)>;

/// The pod that is proved to be there, by the words of rule S1 and not by the core's.
fn proved(answer: &PeerAnswer) -> Proof<'_> {
    let (PeerRedis::Up(facts), PeerAgent::Says(claim)) = (&answer.redis, &answer.agent) else {
        return None;
    };
    let ordinal = claim.pod.strip_prefix("redis-app-")?.parse().ok()?;
    (claim.cluster == CLUSTER && claim.node_id == Some(facts.id)).then_some((ordinal, facts, claim))
}

/// Whether an ID that the own table has answers there, and nobody says that it is another cluster's.
fn is_known(own: &OwnRedis, answer: &PeerAnswer) -> bool {
    let (OwnRedis::Up(own), PeerRedis::Up(facts)) = (own, &answer.redis) else {
        return false;
    };
    let foreign = matches!(&answer.agent, PeerAgent::Says(claim) if claim.cluster != CLUSTER);
    !foreign && own.table.others().any(|node| node.id == facts.id)
}

/// Whether another node had this pod's address, so that its replicas may dial it.
fn somebody_was_here(policy: &Policy, rounds: &[Observation]) -> bool {
    let here = SocketAddr::new(policy.pod_ip, policy.redis_port);
    rounds.iter().any(|seen| {
        let own = match &seen.own {
            OwnRedis::Up(own) => Some(&own.table),
            _ => None,
        };
        let files = seen.kept.copies.iter().chain([&seen.file]);
        let confs = files.filter_map(|file| match file {
            NodesFile::Read(conf) => Some(&conf.table),
            _ => None,
        });
        let mut others = own.into_iter().chain(confs).flat_map(NodeTable::others);
        let held = matches!(&seen.own, OwnRedis::Up(own)
            if own.copies.is_some_and(|copies| copies.delay_s == HELD_S));
        let noted = matches!(&seen.volume, Volume::Says(note)
            if note.were_here.values().any(|at| *at == here));
        noted || others.any(|node| node.socket() == Some(here) || held && node.flags.noaddr())
    })
}

/// The first second of every story is checked against these, action by action.
fn check(
    policy: &Policy,
    rounds: &[Observation],
    decision: &Decision,
) -> Result<(), TestCaseError> {
    let seen = rounds.last().unwrap();
    let answers = fresh(rounds, seen.now);
    let marker = match &seen.volume {
        Volume::Says(note) => note.member,
        Volume::Unreadable(_) => true,
        Volume::Blank => false,
    };
    for planned in &decision.actions {
        prop_assert!(!planned.evidence.is_empty(), "an action without evidence");
        let rests = matches!(
            planned.action,
            Action::Meet { .. } | Action::Replicate { .. } | Action::HandOver { .. }
        );
        let newest = answers.values().map(|answer| answer.at.0).max();
        prop_assert_eq!(rests, rests && planned.not_after.is_some());
        if let Some(last) = planned.not_after {
            prop_assert!(
                last.0 <= newest.unwrap_or(0) + 1000,
                "S1: acts on old answers"
            );
        }
        match &planned.action {
            Action::Meet { pod, ip, port, .. } => {
                let answer = answers.get(&SocketAddr::new(*ip, *port));
                if answer.is_some_and(|answer| is_known(&seen.own, answer)) {
                    continue;
                }
                let proof = answer.and_then(proved);
                prop_assert!(proof.is_some(), "S1: nobody is verified at {ip}");
                let (ordinal, facts, claim) = proof.unwrap();
                prop_assert_eq!(pod, &policy.pod(ordinal));
                let virgin = facts.slots.is_empty() && facts.keys == 0 && facts.knows.is_empty();
                prop_assert!(
                    // Its Redis may know members since its sidecar last looked; see below for whom.
                    matches!(claim.stage, Some(Stage::Virgin | Stage::Forming)),
                    "S1: {pod} is neither new nor forming with us"
                );
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail("a write to a silent Redis"));
                };
                prop_assert!(
                    !marker || !claim.doubled,
                    "S10: {pod} says itself that its ID answers twice"
                );
                let blank = |facts: &PeerFacts| {
                    facts.slots.is_empty() && facts.keys == 0 && facts.master.is_none()
                };
                let harmless = facts.knows.iter().all(|id| {
                    let mut proofs = answers.values().filter_map(proved);
                    own.table.get(id).is_some()
                        || proofs.any(|(_, other, _)| other.id == *id && blank(other))
                });
                prop_assert!(
                    !marker || virgin || (blank(facts) && harmless),
                    "S1: a member introduces blank pods only"
                );
            }
            Action::SetConfigEpoch(_) | Action::AddSlots { .. } => {
                prop_assert!(!marker, "S3: a marker, or an unreadable volume");
                let mut ids = BTreeSet::new();
                for ordinal in policy.expected_peers() {
                    let mut claims: Vec<_> = answers
                        .values()
                        .filter_map(proved)
                        .filter(|(claimed, ..)| *claimed == ordinal)
                        .collect();
                    if claims.is_empty() {
                        claims.extend(proved_lately(policy, rounds, ordinal));
                    }
                    prop_assert!(!claims.is_empty(), "S3: pod {ordinal} is not verified");
                    for (_, facts, claim) in &claims {
                        ids.insert(facts.id);
                        let stage = claim.stage;
                        prop_assert!(
                            matches!(stage, Some(Stage::Virgin | Stage::Forming)),
                            "S3: pod {ordinal} is not blank: {stage:?}"
                        );
                        prop_assert!(
                            facts.keys == 0 || !facts.slots.is_empty() || facts.master.is_some(),
                            "S3: pod {ordinal} holds keys"
                        );
                    }
                }
                let others = policy.expected_peers().count();
                prop_assert_eq!(ids.len(), others, "S10: one ID, one ordinal");
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail(
                        "a write to a Redis that did not answer",
                    ));
                };
                if let Action::AddSlots { slots, .. } = &planned.action {
                    let mine = SlotSet::planned(
                        u16::try_from(policy.me.ordinal).unwrap(),
                        policy.shape.masters,
                    );
                    prop_assert!(slots.minus(&mine).is_empty(), "slots that are not its own");
                    prop_assert!(
                        own.table.covered().minus(slots) == own.table.covered(),
                        "slots that somebody owns"
                    );
                    let me = own.table.myself().unwrap();
                    let holds = own.server.keys > 0 && me.slots.is_empty();
                    prop_assert!(!holds, "S3: own keys");
                } else {
                    prop_assert_eq!(own.table.nodes.len(), 1, "an epoch, and it knows somebody");
                }
            }
            Action::Replicate { master, .. } => {
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail(
                        "a write to a Redis that did not answer",
                    ));
                };
                let me = own.table.myself().unwrap();
                prop_assert!(me.slots.is_empty(), "S5: it owns slots");
                if me.master != Some(*master) {
                    prop_assert_eq!(own.server.keys, 0, "S5: it holds keys");
                    prop_assert!(!marker, "a former member stays as it is");
                }
                let target = own.table.get(master);
                prop_assert!(
                    target.is_some_and(|t| !t.slots.is_empty()),
                    "S5: no slots there"
                );
                let proof = answers.values().any(
                    |answer| matches!(&answer.redis, PeerRedis::Up(facts) if facts.id == *master),
                );
                prop_assert!(proof, "S5: the target is not verified");
            }
            Action::Hasten { restore_ms, .. } => {
                let noted = match &seen.volume {
                    Volume::Says(note) => note.node_timeout_ms,
                    Volume::Blank | Volume::Unreadable(_) => None,
                };
                prop_assert_eq!(noted, Some(*restore_ms), "S13: it could not be put back");
            }
            Action::DropHandshake { id, .. } => {
                let node = match &seen.own {
                    OwnRedis::Up(own) => own.table.get(id),
                    _ => None,
                };
                prop_assert!(
                    node.is_some_and(|node| node.flags.handshake()),
                    "S6: a node forgotten"
                );
            }
            Action::ForceFailover { master, .. } => {
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail("a write to a silent Redis"));
                };
                let me = own.table.myself().unwrap();
                prop_assert_eq!(me.master, Some(*master), "S7: not its own master");
                let line = own.table.get(master).unwrap();
                prop_assert!(
                    line.flags.noaddr() || line.flags.fail() || line.flags.pfail(),
                    "S7: it may be in sight"
                );
                let alive = answers.values().any(
                    |answer| matches!(&answer.redis, PeerRedis::Up(facts) if facts.id == *master),
                );
                prop_assert!(!alive, "S7: it answers");
                let owners: Vec<_> = own.table.slot_owners().collect();
                let there = owners.iter().filter(|owner| {
                    let mut proofs = answers.values().filter_map(proved);
                    proofs.any(|(_, facts, _)| facts.id == owner.id)
                });
                prop_assert!(there.count() * 2 > owners.len(), "S7: no majority answers");
            }
            Action::Forget { id, .. } => {
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail("a write to a silent Redis"));
                };
                let line = own.table.get(id).unwrap();
                prop_assert!(line.slots.is_empty(), "S6: it owns slots");
                prop_assert!(
                    line.flags.noaddr() || line.flags.fail() || line.flags.pfail(),
                    "S6: it is in sight"
                );
                let alive = answers.values().any(
                    |answer| matches!(&answer.redis, PeerRedis::Up(facts) if facts.id == *id || facts.master == Some(*id)),
                );
                prop_assert!(!alive, "S6: it answers, or is followed");
                let gone_for = seen.now.0 - rounds[0].now.0;
                prop_assert!(gone_for >= 120_000, "S6: gone for {gone_for} ms");
            }
            Action::Copies { from, to } => {
                prop_assert!(
                    matches!(seen.own, OwnRedis::Up(_)),
                    "a write to a silent Redis"
                );
                let holds = is_held(*to);
                prop_assert!(!is_held(*from) || !holds, "held twice");
                let later = holds || to.delay_s > from.delay_s;
                let is_empty = |seen: &Observation| matches!(&seen.own, OwnRedis::Up(own) if own.server.keys == 0);
                let was_empty = |seen: &Observation| matches!(&seen.volume, Volume::Says(note) if !note.may_have_data.is_empty());
                let empty = rounds.iter().any(|seen| is_empty(seen) || was_empty(seen));
                prop_assert!(
                    !later || empty || somebody_was_here(policy, rounds),
                    "copies of data held back"
                );
            }
            Action::HandOver {
                replica, socket, ..
            } => {
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail("a write beside a silent Redis"));
                };
                let me = own.table.myself().unwrap();
                prop_assert!(
                    seen.asked.stop.is_some() || seen.asked.failover.is_some(),
                    "S7: nobody has asked for it"
                );
                prop_assert!(!me.slots.is_empty(), "S7: nothing to hand over");
                let (_, facts, claim) = answers.get(socket).and_then(proved).unwrap();
                prop_assert_eq!(&facts.id, replica, "S7: another one answers there");
                prop_assert_eq!(facts.master, Some(me.id), "S7: no replica of this one");
                prop_assert!(!claim.stopping, "S7: it is about to be stopped itself");
            }
            Action::TakeOver { master, .. } => {
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail("a write to a silent Redis"));
                };
                prop_assert!(seen.asked.failover.is_some() && seen.asked.stop.is_none());
                prop_assert_eq!(own.table.myself().unwrap().master, Some(*master));
            }
            Action::Announce { .. } | Action::RestoreNodeTimeout(_) => {}
            Action::KeepConf(conf) => {
                let OwnRedis::Up(own) = &seen.own else {
                    return Err(TestCaseError::fail("S8: a copy beside a silent Redis"));
                };
                let NodesFile::Read(file) = &seen.file else {
                    return Err(TestCaseError::fail("S8: a copy of no file"));
                };
                prop_assert_eq!(conf, &file.with_shards_mended());
                let ids = [&conf.table, &own.table].map(|table| table.myself().map(|me| me.id));
                prop_assert!(ids[0].is_some() && ids[0] == ids[1], "S8: not this node's");
            }
            Action::RestoreConf { conf, over } => {
                let down = matches!(&seen.own, OwnRedis::Silent(Silence::Refused(_)));
                prop_assert!(down, "S8: Redis is not known to be down");
                prop_assert_eq!(over, &seen.file);
                let id = conf.table.myself().map(|me| me.id);
                prop_assert!(id.is_some(), "S8: a copy of nobody");
                let lives = answers.values().any(|answer| match &answer.redis {
                    PeerRedis::Up(facts) => {
                        Some(facts.id) == id || facts.hears.contains(&id.unwrap())
                    }
                    PeerRedis::Silent(_) => false,
                });
                prop_assert!(!lives, "S8: its node lives elsewhere");
                prop_assert!(
                    !matches!(seen.volume, Volume::Unreadable(_)),
                    "S8: whose volume?"
                );
            }
            Action::Record(events) => prop_assert!(!events.is_empty(), "nothing to record"),
            Action::Remember(note) => {
                prop_assert!(!marker || note.member, "a marker is never taken back");
            }
        }
    }
    let pauses = |pause: &PauseAsked| pause.lasts.is_some();
    if seen.asked.pause.as_ref().is_some_and(pauses) {
        let mut actions = decision.actions.iter().map(|planned| &planned.action);
        let own_file_or_undoing = |action: &Action| {
            matches!(
                action,
                Action::Remember(_) | Action::RestoreNodeTimeout(_) | Action::DropHandshake { .. }
            )
        };
        prop_assert!(actions.all(own_file_or_undoing), "a write in a pause");
    }
    let blocked = decision
        .reasons
        .iter()
        .any(|reason| reason.weight == Weight::Blocks);
    prop_assert_eq!(decision.ready, !blocked, "ready and reasons do not agree");
    prop_assert!(decision.next_round_in.as_millis() >= 25, "a busy loop");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn no_decision_is_unsafe((policy, rounds) in any_story()) {
        let mut memory = Memory::default();
        for (i, seen) in rounds.iter().enumerate() {
            let (next, decision) = decide(&policy, &memory, seen);
            prop_assert_eq!(
                &(next.clone(), decision.clone()),
                &decide(&policy, &memory, seen),
                "the same input gave two outputs"
            );
            check(&policy, &rounds[..=i], &decision)?;
            memory = next;
        }
    }

    #[test]
    fn a_restart_of_the_agent_makes_nothing_unsafe((policy, rounds) in any_story()) {
        for seen in &rounds {
            let (_, decision) = decide(&policy, &Memory::default(), seen);
            check(&policy, std::slice::from_ref(seen), &decision)?;
        }
    }
}

/// Random stories must reach what they check: each kind of action is ordered now and then.
#[test]
fn the_stories_reach_every_kind_of_action() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..1500 {
        let (policy, rounds) = any_story().new_tree(&mut runner).unwrap().current();
        let mut memory = Memory::default();
        for seen in &rounds {
            let (next, decision) = decide(&policy, &memory, seen);
            for planned in &decision.actions {
                *counts.entry(planned.action.name()).or_default() += 1;
            }
            memory = next;
        }
    }
    for kind in [
        "set-config-epoch",
        "add-slots",
        "meet",
        "replicate",
        "remember",
    ] {
        let times = counts.get(kind).copied().unwrap_or_default();
        assert!(times >= 10, "{kind} was ordered {times} times: {counts:?}");
    }
}
