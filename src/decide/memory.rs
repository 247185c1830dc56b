//! What one round hands to the next. A restart of the agent loses it, so nothing that safety
//! rests on is only here: that is on the volume or is observed again.

use super::forget::{self, Ghost};
use super::handoff::Handoff;
use super::hold;
use super::policy::Policy;
use super::scene::{self, Unverified};
use super::spread::MasterPlace;
use super::start::{self, Told};
use super::succeed::Lost;
use crate::model::identity::NodeId;
use crate::model::observation::{
    CopyConfig, Observation, OwnFacts, OwnRedis, PeerAgent, PeerAnswer, PeerRedis, Volume,
};
use crate::model::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// How long an answer counts as what answers there now (S1: within the last second).
pub const FRESH: Duration = Duration::from_secs(1);

/// So many questions in a row that got no answer in time were not just lost.
pub const LOST_QUESTIONS: u32 = 3;
/// And so long after the one before a question is one of the same row.
const IN_A_ROW: Duration = Duration::from_secs(5);

/// How long an answer counts for who is where, if that address is not asked again.
pub const PLACE_KEPT: Duration = Duration::from_secs(3);
/// And that of one of two that have one node ID: only a person ends that, and single questions are lost (S2, S10).
const TWIN_KEPT: Duration = Duration::from_secs(10);
/// For so long a blank volume counts as blank while its pod does not answer: `init` gives up and is started again,
/// at last every five minutes.
const BLANK_FOR: Duration = Duration::from_secs(600);
/// How long a pod that was verified counts as known to be there, for the order in which pods are
/// asked and for words alone.
const KNOWN: Duration = Duration::from_secs(120);

/// What earlier rounds left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// When this round looked.
    pub round_at: Moment,
    /// How long after the one before.
    pub round_took: Duration,
    /// Answers no older than [`FRESH`].
    pub answers: BTreeMap<SocketAddr, PeerAnswer>,
    /// When an address about which there was a doubt was last asked.
    pub asked: BTreeMap<SocketAddr, Moment>,
    /// How many times in a row an address gave no answer in time.
    pub in_vain: BTreeMap<SocketAddr, u32>,
    /// How many questions in a row, each within a few seconds of the one before, an address gave no answer to in time.
    pub silences: BTreeMap<SocketAddr, u32>,
    /// Who has given some answer since this agent's start, while the own Redis is away.
    pub answered: BTreeSet<SocketAddr>,
    /// The answer with which each ordinal was last verified, its stage known, and where; none longer
    /// ago than [`KNOWN`], and none that has answered something else there since.
    pub verified: BTreeMap<u32, (SocketAddr, PeerAnswer)>,
    /// How the rule of the doubts shares what there is with all the others that ask.
    pub asking: Asking,
    /// The ordinal last verified for each node ID. Also on the volume.
    pub pods: BTreeMap<NodeId, u32>,
    /// Whom this agent had the own Redis meet, by address; until the handshake is over.
    pub met: BTreeMap<SocketAddr, Met>,
    /// Where each node ID has answered a moment ago, for as long as a pod takes to be seen gone. An ID
    /// in two places is a clone (S10).
    pub places: BTreeMap<NodeId, BTreeMap<SocketAddr, Place>>,
    /// When two have last answered with one node ID in the same round, as a pod that moves never does, or one of them
    /// with that of this pod's volume before its Redis was started. None longer ago than ten seconds.
    pub twins: BTreeMap<NodeId, Moment>,
    /// The pods whose agents have said last that their volumes are blank, and when.
    pub blanks: BTreeMap<u32, Moment>,
    /// Nodes in the own table that were seen to run Redis 7.0 or later.
    pub modern: BTreeSet<NodeId>,
    /// Nodes in the own table that were seen to belong to another cluster, with its name and where
    /// they answered; kept until they are gone from the table (S9). Also on the volume.
    pub foreign: BTreeMap<NodeId, (String, SocketAddr)>,
    /// When each kind of write was last ordered, and how many times in a row.
    pub written: BTreeMap<String, (Moment, u32)>,
    /// The `run_id` of the own Redis, when it last answered.
    pub run_id: String,
    /// The `run_id` of the own Redis, when it was last seen loading: it dials nobody until it is done.
    pub loading_run_id: String,
    /// When the own Redis was first seen up, if it had been seen loading.
    pub loaded_at: Option<Moment>,
    /// Nodes that the own Redis had in its table when it was first seen after its start, with the
    /// time of their last answer then, as long as no other one has come. Redis shows a node as
    /// connected while it still dials, and loads a time of answer from nodes.conf that none gave.
    pub unheard: BTreeMap<NodeId, u64>,
    /// Nodes whose link was seen down, with the time of their last answer then, as long as no other one
    /// has come: while it dials again and again, Redis shows the link now up, now down.
    pub hung_up: BTreeMap<NodeId, u64>,
    /// Since when the own table gives every slot an owner.
    pub covered_since: Option<Moment>,
    /// When the forming rule ordered the own Redis to take its slots.
    pub took_slots_at: Option<Moment>,
    /// The `run_id` of the Redis that was ordered so last.
    pub took_slots_in: String,
    /// Nodes that this agent has had its Redis forget lately, whose they were, and when.
    pub forgotten: BTreeMap<NodeId, (u32, Moment)>,
    /// The `run_id` of the Redis that passed the start gate. Also on the volume.
    pub gate_run_id: Option<String>,
    /// Since when this node has not been a ready member, without a break.
    pub restless_since: Option<Moment>,
    /// Since when an alarm is there that the history does not tell of, or the other way round.
    pub alarms_changing: BTreeMap<String, Moment>,
    /// Since when Redis is held back until another node has been elected in the place of this one.
    pub held_since: Option<Moment>,
    /// This agent has seen its node before it was a member.
    pub was_no_member: bool,
    /// Nodes in the own table that have been verified as members, once since this agent's start.
    pub confirmed: BTreeSet<NodeId>,
    /// Whether this node has had its part in the forming of a cluster.
    pub has_formed: bool,
    /// Since when nodes.conf has been damaged and Redis down, without a break.
    pub conf_lost_since: Option<Moment>,
    /// Since when this node's forming is under way, all pods found.
    pub forming_since: Option<Moment>,
    /// Nodes in the own table that may be ghosts, to be forgotten (S6).
    pub ghosts: BTreeMap<NodeId, Ghost>,
    /// When the last MEET was ordered.
    pub last_meet: Option<Moment>,
    /// What was configured before copies were held back.
    pub copies: Option<CopyConfig>,
    /// Nodes that had this pod's address when the own Redis came up, for as long as their replicas may dial it.
    pub were_here: BTreeSet<NodeId>,
    /// When the own Redis began to answer this agent: when either was started, or after a silence.
    pub up_seen_since: Moment,
    /// Replicas that have said last that they dial this pod's address and have no link; whom they follow, and when
    /// they said so; none longer ago than two minutes.
    pub waiting: BTreeMap<NodeId, (NodeId, Moment)>,
    /// Replicas of this master, which has come up without data, that may have it, and since when that has
    /// not been heard; `None` for those that have said so.
    pub came_up_empty: BTreeMap<NodeId, Option<Moment>>,
    /// The own master, while its pod proves to have lost it.
    pub lost: Option<Lost>,
    /// Since when the own Redis holds no keys.
    pub empty_since: Option<Moment>,
    /// Where the own master runs.
    pub master_place: Option<MasterPlace>,
    /// What other pods' agents said of this ordinal, while the own Redis is away.
    pub told: BTreeMap<u32, Told>,
    /// Since when one of them has said that a node of this ordinal owns slots.
    pub named_since: Option<Moment>,
    /// When a replica of that node with its data was last heard, or one that may be it and reads its data.
    pub data_heard_at: Option<Moment>,
    /// What has been done to hand this node's slots over.
    pub handoff: Handoff,
    /// The pause that is on. Also on the volume.
    pub pause: super::pause::Known,
}

/// A node that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Its ID, as verified.
    pub id: NodeId,
    /// When its MEET was ordered.
    pub at: Moment,
}

/// A node ID's answer from one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// When it was asked.
    pub at: Moment,
    /// The process that answered.
    pub run_id: String,
    /// The pod, where its agent agrees.
    pub ordinal: Option<u32>,
}

/// Where this pod is in asking all expected pods at once, again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asking {
    /// Since when all of them are known to be there.
    pub since: Option<Moment>,
    /// Until when nobody is asked, so that others get their answers.
    pub rest_until: Option<Moment>,
    /// How many such rests there have been.
    pub rests: u32,
}

impl Memory {
    /// The memory with this round's facts in it and what has aged left out.
    pub fn learn(&self, policy: &Policy, seen: &Observation) -> Memory {
        let mut next = self.clone();
        next.round_at = seen.now;
        next.round_took = seen.now - self.round_at;
        next.answers.extend(seen.answers.clone());
        next.answers
            .retain(|_, answer| seen.now - answer.at <= FRESH);
        next.asked.extend(
            seen.answers
                .iter()
                .map(|(socket, answer)| (*socket, answer.at)),
        );
        next.asked
            .retain(|_, at| seen.now - *at < Duration::from_secs(60));
        for (socket, answer) in &seen.answers {
            if answer.gave_no_answer_in_time() {
                *next.in_vain.entry(*socket).or_default() += 1;
                let last = self.asked.get(socket);
                let in_a_row = last.is_some_and(|at| answer.at - *at <= IN_A_ROW);
                let before = self.silences.get(socket).filter(|_| in_a_row);
                next.silences.insert(*socket, before.unwrap_or(&0) + 1);
            } else {
                next.in_vain.remove(socket);
                next.silences.remove(socket);
                next.answered.insert(*socket);
                next.verified.retain(|_, (place, _)| place != socket);
            }
        }
        let asked = &next.asked;
        next.in_vain.retain(|socket, _| asked.contains_key(socket));
        next.silences.retain(|socket, _| asked.contains_key(socket));
        if !matches!(seen.own, OwnRedis::Silent(_)) {
            next.answered.clear();
        }
        next.verified
            .retain(|_, (_, answer)| seen.now - answer.at < KNOWN);
        next.written
            .retain(|_, (at, _)| seen.now - *at < Duration::from_secs(600));

        if let Volume::Says(note) = &seen.volume {
            for (id, ordinal) in &note.pods {
                next.pods.entry(*id).or_insert(*ordinal);
            }
            for (id, seen) in &note.foreign {
                next.foreign.entry(*id).or_insert_with(|| seen.clone());
            }
            if next.gate_run_id.is_none() {
                next.gate_run_id.clone_from(&note.gate_run_id);
            }
        }
        next.learn_who_is_who(policy);
        next.learn_places(policy, seen);
        start::learn(&mut next, policy, seen);
        next.learn_met(seen);
        next.learn_versions();
        hold::learn(&mut next, &self.run_id, policy, seen);
        hold::learn_who_waits(&mut next, policy, seen);
        if let OwnRedis::Loading(server, ..) = &seen.own {
            next.loading_run_id.clone_from(&server.run_id);
        }
        if let OwnRedis::Up(own) = &seen.own {
            // Before it is noted that Redis has been restarted.
            forget::learn(&mut next, policy, seen, own);
            next.learn_slots(seen.now, own);
            next.learn_heard(seen.now, own);
            next.learn_hung_up(own);
            next.foreign.retain(|id, _| own.table.get(id).is_some());
            next.modern.retain(|id| own.table.get(id).is_some());
            if let Some(me) = own.table.myself() {
                next.pods.insert(me.id, policy.me.ordinal);
            }
            // Only who is in the table matters later: a map that grows with every replaced
            // volume would grow for ever.
            let fresh: Vec<NodeId> = next
                .answers
                .values()
                .filter_map(scene::answered_id)
                .collect();
            next.pods
                .retain(|id, _| own.table.get(id).is_some() || fresh.contains(id));
        }
        next
    }

    /// What the fresh answers say; where one node is said to be ours and another's, it is foreign.
    fn learn_who_is_who(&mut self, policy: &Policy) {
        let mut foreign = BTreeMap::new();
        for (socket, answer) in &self.answers {
            match scene::verify(policy, *socket, answer) {
                Ok(peer) => {
                    self.pods.insert(peer.facts.id, peer.ordinal);
                    self.foreign.remove(&peer.facts.id);
                    if peer.knows_its_stage() {
                        let known = (*socket, answer.clone());
                        self.verified.insert(peer.ordinal, known);
                    }
                }
                Err(Unverified::Foreign {
                    cluster,
                    id: Some(id),
                }) => {
                    foreign.insert(id, (cluster, *socket));
                }
                Err(_) => {}
            }
        }
        self.foreign.extend(foreign);
    }

    fn learn_met(&mut self, seen: &Observation) {
        if let OwnRedis::Up(own) = &seen.own {
            let handshakes = own.table.nodes.iter().filter(|n| n.flags.handshake());
            let armed: Vec<SocketAddr> = handshakes.filter_map(|n| n.socket()).collect();
            // A MEET that is on its way shows in the table a moment later.
            self.met
                .retain(|socket, met| armed.contains(socket) || seen.now - met.at <= FRESH);
        }
    }

    fn learn_places(&mut self, policy: &Policy, seen: &Observation) {
        for (socket, answer) in &seen.answers {
            let id = scene::answered_id(answer);
            let silent_for = |place: &Place| seen.now - place.at;
            for (known, places) in &mut self.places {
                let silent = match self.twins.get(known) {
                    Some(_) => TWIN_KEPT,
                    None => FRESH,
                };
                let kept = |place: &Place| match id {
                    Some(id) => id == *known,
                    None => silent_for(place) <= silent,
                };
                places.retain(|at, place| at != socket || kept(place));
            }
            let PeerRedis::Up(facts) = &answer.redis else {
                continue;
            };
            let verified = scene::verify(policy, *socket, answer);
            let place = Place {
                at: answer.at,
                run_id: facts.run_id.clone(),
                ordinal: verified.ok().map(|peer| peer.ordinal),
            };
            self.places
                .entry(facts.id)
                .or_default()
                .insert(*socket, place);
        }
        for answer in seen.answers.values() {
            let PeerAgent::Says(claim) = &answer.agent else {
                continue;
            };
            match scene::claimed_ordinal(policy, claim) {
                Some(ordinal) if claim.blank => drop(self.blanks.insert(ordinal, answer.at)),
                Some(ordinal) => drop(self.blanks.remove(&ordinal)),
                None => {}
            }
        }
        self.blanks.retain(|_, at| seen.now - *at <= BLANK_FOR);
        self.twins.retain(|_, at| seen.now - *at <= TWIN_KEPT);
        for (id, places) in &self.places {
            let now = places.values().filter(|place| place.at == seen.now);
            if are_two(policy, *id, now, &seen.own) {
                self.twins.insert(*id, seen.now);
            }
        }
        for (id, places) in &mut self.places {
            let kept = match self.twins.get(id) {
                Some(_) => TWIN_KEPT,
                None => PLACE_KEPT,
            };
            places.retain(|_, place| seen.now - place.at <= kept);
        }
        self.places.retain(|_, places| !places.is_empty());
    }

    fn learn_versions(&mut self) {
        for answer in self.answers.values() {
            if let PeerRedis::Up(facts) = &answer.redis {
                if facts.version.has_slot_ranges() {
                    self.modern.insert(facts.id);
                } else {
                    self.modern.remove(&facts.id);
                }
            }
        }
    }

    /// After twice the node timeout a dead node carries a flag, so only a young Redis is in doubt.
    fn learn_heard(&mut self, now: Moment, own: &OwnFacts) {
        let others = own.table.others();
        if self.run_id != own.server.run_id {
            self.run_id.clone_from(&own.server.run_id);
            let passed = self.gate_run_id.as_ref() == Some(&self.run_id);
            let loaded_now = self.loading_run_id == self.run_id;
            self.loaded_at = loaded_now.then_some(now);
            let young =
                loaded_now || Duration::from_secs(own.server.uptime_s) < own.node_timeout() * 2;
            let pongs = others.map(|node| (node.id, node.pong_received));
            self.unheard = pongs.filter(|_| young && !passed).collect();
        } else {
            self.unheard.retain(silent_since(own));
        }
    }

    fn learn_hung_up(&mut self, own: &OwnFacts) {
        self.hung_up.retain(silent_since(own));
        let down = own.table.others().filter(|node| !node.connected);
        self.hung_up.extend(down.map(|n| (n.id, n.pong_received)));
    }

    fn learn_slots(&mut self, now: Moment, own: &OwnFacts) {
        let covered = own.table.covers_all_slots();
        self.covered_since = covered.then(|| self.covered_since.unwrap_or(now));
    }
}

/// Whether a node ID answers for more than one ordinal, or from more than one process, this pod's own included (S10).
pub fn are_two<'a>(
    policy: &Policy,
    id: NodeId,
    places: impl Iterator<Item = &'a Place>,
    own: &'a OwnRedis,
) -> bool {
    let here = match own {
        OwnRedis::Up(own) if own.table.myself().is_some_and(|me| me.id == id) => {
            Some((Some(policy.me.ordinal), own.server.run_id.as_str()))
        }
        OwnRedis::Up(_) | OwnRedis::Silent(_) | OwnRedis::Loading(..) => None,
    };
    let all = places.map(|place| (place.ordinal, place.run_id.as_str()));
    let (ordinals, runs): (BTreeSet<Option<u32>>, BTreeSet<&str>) = all.chain(here).unzip();
    ordinals.iter().flatten().count() > 1 || runs.len() > 1
}

/// Whether a node in the own table has not answered since.
fn silent_since(own: &OwnFacts) -> impl Fn(&NodeId, &mut u64) -> bool {
    |id, pong| {
        let node = own.table.get(id);
        node.is_some_and(|node| node.pong_received == *pong)
    }
}
