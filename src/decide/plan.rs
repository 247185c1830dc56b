//! Where the rules put their actions and findings, and how these become the decision. The rate
//! limit of every write is here (S12), and so is the one exception of readiness.

use super::memory::{FRESH, Memory, Met};
use super::policy::Policy;
use super::scene::{Scene, acquaintance, answered_id};
use crate::model::asked::{Answer, Answers, RequestId};
use crate::model::decision::{Action, Decision, Planned, Start, View};
use crate::model::history::Event;
use crate::model::identity::NodeId;
use crate::model::observation::Stage;
use crate::model::reason::{Reason, ReasonCode, Weight};
use crate::model::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// While something is under way that ends within a moment.
const SOON: Duration = Duration::from_millis(25);
/// While not ready.
const RESTLESS: Duration = Duration::from_millis(200);
/// So much longer for each pod of the first shape beyond a few.
const SOON_EACH: Duration = Duration::from_millis(1);
const RESTLESS_EACH: Duration = Duration::from_millis(8);
/// In steady state, and after a minute without progress.
const STEADY: Duration = Duration::from_secs(1);
/// So many times a write is ordered at its own pace; after that at half of it, a quarter and so on.
const EAGER: u32 = 4;
/// No write waits longer than this, unless its own gap is longer.
const GAP_MAX: Duration = Duration::from_secs(60);
/// For how long haste makes sense.
const HASTE: Duration = Duration::from_secs(30);

/// Nobody has answered what this action rests on.
struct Unproved;

/// A decision in the making.
pub struct Plan {
    now: Moment,
    ordinal: u32,
    /// How old what all answers rest on together may be when it is acted on.
    acquaintance: Duration,
    memory: Memory,
    actions: Vec<Planned>,
    findings: Vec<Finding>,
    ask: BTreeSet<SocketAddr>,
    ask_missing: bool,
    hurry: bool,
    forgets: BTreeMap<NodeId, u32>,
    paused: bool,
    answers: Answers,
    start: Start,
    happened: Vec<(&'static str, String)>,
    events: Vec<Event>,
}

/// Something that speaks against readiness, and whom it waits for.
struct Finding {
    reason: Reason,
    /// The ordinals that could end it, where they are known; empty when it is nobody's but this node's own.
    blames: Vec<Option<u32>>,
}

impl Plan {
    /// An empty plan.
    pub fn new(memory: &Memory, now: Moment, policy: &Policy) -> Plan {
        Plan {
            now,
            ordinal: policy.me.ordinal,
            acquaintance: acquaintance(policy),
            memory: memory.clone(),
            actions: Vec::new(),
            findings: Vec::new(),
            ask: BTreeSet::new(),
            ask_missing: false,
            hurry: false,
            forgets: BTreeMap::new(),
            paused: false,
            answers: Answers::new(),
            start: Start::May,
            happened: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Orders an action unless the same one (`key`) was ordered less than `gap` ago; what has been
    /// ordered in vain again and again waits longer each time. The gap gets up to a quarter longer
    /// by ordinal and time, so that many agents do not move in step. True when it is ordered for the
    /// first time in a while.
    pub fn act(
        &mut self,
        key: String,
        gap: Duration,
        action: Action,
        evidence: impl Into<String>,
    ) -> bool {
        if !self.due(&key, gap) || (self.paused && !self.goes_on_in_a_pause(&action)) {
            return false;
        }
        let Ok(not_after) = self.rests_until(&action) else {
            return false;
        };
        self.note_met(&action);
        let before = self.memory.written.get(&key);
        let times = before.map_or(0, |(_, times)| *times).saturating_add(1);
        self.memory.written.insert(key, (self.now, times));
        self.actions.push(Planned {
            action,
            evidence: evidence.into(),
            not_after,
        });
        times == 1
    }

    /// What is only the agent's own file, and what takes back what the agent itself has begun.
    fn goes_on_in_a_pause(&self, action: &Action) -> bool {
        match action {
            Action::Remember(_) | Action::RestoreNodeTimeout(_) => true,
            Action::DropHandshake { ip, .. } => self.memory.met.keys().any(|met| met.ip() == *ip),
            _ => false,
        }
    }

    fn note_met(&mut self, action: &Action) {
        let Action::Meet { ip, port, .. } = action else {
            return;
        };
        self.memory.last_meet = Some(self.now);
        // Until the handshake is over its address is watched (`disarm`), from the very next round on.
        self.hurry = true;
        let socket = SocketAddr::new(*ip, *port);
        let answer = self.memory.answers.get(&socket);
        if let Some(id) = answer.and_then(answered_id) {
            let at = self.now;
            self.memory.met.insert(socket, Met { id, at });
        }
    }

    /// Whether an action of this key would be ordered now.
    pub fn due(&self, key: &str, gap: Duration) -> bool {
        let Some((at, times)) = self.memory.written.get(key) else {
            return true;
        };
        let doubled = gap * 2_u32.pow(times.saturating_sub(EAGER).min(10));
        let gap = gap.max(doubled.min(GAP_MAX));
        let spread = (u64::from(self.ordinal) * 7919 + self.now.0) % 64;
        let gap = gap + gap.mul_f64(0.25) * u32::try_from(spread).unwrap_or(0) / 64;
        self.now - *at >= gap
    }

    /// Until when the answers hold that an action rests on; an error where there are none, and then
    /// there is no such action (S1, S3, S5).
    fn rests_until(&self, action: &Action) -> Result<Option<Moment>, Unproved> {
        let answers = &self.memory.answers;
        let at = match action {
            Action::Meet { ip, port, .. } => answers
                .get(&SocketAddr::new(*ip, *port))
                .filter(|answer| answered_id(answer).is_some())
                .map(|answer| answer.at),
            Action::Replicate { master, .. } => {
                let mut from = answers.values().filter(|a| answered_id(a) == Some(*master));
                from.next().map(|answer| answer.at)
            }
            Action::SetConfigEpoch(_) | Action::AddSlots { .. } => {
                let oldest = answers.values().map(|answer| answer.at).min();
                let lately = self.memory.verified.values().map(|(_, answer)| answer.at);
                let counts = lately.filter(|at| self.now - *at <= self.acquaintance);
                let until = [
                    oldest.map(|at| at + FRESH),
                    counts.min().map(|at| at + self.acquaintance),
                ];
                // A cluster of one pod asks nobody.
                return Ok(until.into_iter().flatten().min());
            }
            // Those who matter were asked in this very round.
            Action::ForceFailover { .. } | Action::Forget { .. } => {
                return Ok(Some(self.now + FRESH));
            }
            Action::HandOver {
                replica, socket, ..
            } => answers
                .get(socket)
                .filter(|answer| answered_id(answer) == Some(*replica))
                .map(|answer| answer.at),
            Action::TakeOver { .. }
            | Action::Announce { .. }
            | Action::Copies { .. }
            | Action::DropHandshake { .. }
            | Action::Hasten { .. }
            | Action::RestoreNodeTimeout(_)
            | Action::Remember(_)
            | Action::KeepConf(_)
            | Action::RestoreConf { .. }
            | Action::Record(_) => return Ok(None),
        };
        at.map(|at| Some(at + FRESH)).ok_or(Unproved)
    }

    /// A finding that only this node can end.
    pub fn block(&mut self, code: ReasonCode, message: impl Into<String>) {
        self.find(code, Weight::Blocks, message.into(), &[]);
    }

    /// A finding that these ordinals could end; `None` is one that is not known.
    pub fn block_on(
        &mut self,
        code: ReasonCode,
        message: impl Into<String>,
        blames: &[Option<u32>],
    ) {
        self.find(code, Weight::Blocks, message.into(), blames);
    }

    /// Something worth knowing that does not unready this node.
    pub fn warn(&mut self, code: ReasonCode, message: impl Into<String>) {
        self.find(code, Weight::Warns, message.into(), &[]);
    }

    fn find(&mut self, code: ReasonCode, weight: Weight, message: String, blames: &[Option<u32>]) {
        let reason = Reason {
            code,
            weight,
            message,
        };
        let blames = blames.to_vec();
        self.findings.push(Finding { reason, blames });
    }

    /// Whether a blocking finding has been made.
    pub fn blocked(&self) -> bool {
        let mut weights = self.findings.iter().map(|finding| finding.reason.weight);
        weights.any(|weight| weight == Weight::Blocks)
    }

    /// Wants an address asked in the next round, at most once in `gap`.
    pub fn ask(&mut self, socket: SocketAddr, gap: Duration) {
        let asked = self.memory.asked.get(&socket);
        if asked.is_none_or(|at| self.now - *at >= gap) {
            self.ask.insert(socket);
        }
    }

    /// Wants ordinals looked up that the Service's own name lacks.
    pub fn ask_missing(&mut self) {
        self.ask_missing = true;
    }

    /// This node is to be forgotten as soon as all members are about to, or was.
    pub fn about_to_forget(&mut self, id: NodeId, ordinal: u32) {
        self.forgets.insert(id, ordinal);
    }

    /// Something is under way that the next round should see soon.
    pub fn hurry(&mut self) {
        self.hurry = true;
    }

    /// From here on nothing is written to Redis.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether nothing is to be written to Redis.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// What has become of a request.
    pub fn answer(&mut self, id: RequestId, answer: Answer) {
        self.answers.insert(id, answer);
    }

    /// Something that the history should tell, as its name in kebab case and a sentence.
    pub fn happened(&mut self, event: &'static str, detail: impl Into<String>) {
        self.happened.push((event, detail.into()));
    }

    /// What rules have told so.
    pub(super) fn take_happened(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.happened)
    }

    /// What goes into the history.
    pub(super) fn tell(&mut self, events: Vec<Event>) {
        self.events = events;
    }

    /// Whether Redis may start, as far as nodes.conf goes.
    pub fn start(&mut self, start: Start) {
        self.start = start;
    }

    /// What this plan leaves for the next round, to be changed by a rule.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// What this plan leaves for the next round.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The decision and the memory for the next round.
    pub fn conclude(mut self, scene: &Scene<'_>) -> (Memory, Decision) {
        let reasons = self.reasons(scene);
        let ready = is_ready(&reasons);
        let restless = !ready || scene.stage != Stage::Member;
        let since = self.memory.restless_since.unwrap_or(self.now);
        self.memory.restless_since = restless.then_some(since);
        let decision = Decision {
            next_round_in: self.pace(scene),
            actions: self.actions,
            reasons,
            ready,
            stage: scene.stage,
            ask: self.ask,
            ask_missing: self.ask_missing,
            start: self.start,
            events: self.events,
            view: View {
                forgets: self.forgets,
                ..super::view::view(scene)
            },
            answers: self.answers,
        };
        (self.memory, decision)
    }

    /// When the next round is due, as far as the rules up to now tell.
    pub fn pace(&self, scene: &Scene<'_>) -> Duration {
        let unready = !is_ready(&self.reasons(scene));
        let restless = unready || scene.stage != Stage::Member;
        let since = self.memory.forming_since.or(self.memory.restless_since);
        let in_haste = since.is_none_or(|since| self.now - since < HASTE);
        // What a round costs grows with the number of pods, and so does the number of agents.
        let many = scene.policy.beyond_a_few();
        match (self.hurry, restless, in_haste) {
            (true, _, true) => SOON + SOON_EACH * many,
            (true, _, false) | (false, true, true) => (RESTLESS + RESTLESS_EACH * many).min(STEADY),
            (false, true, false) | (false, false, _) => STEADY,
        }
    }

    /// The findings up to now, with their weights.
    pub(super) fn reasons(&self, scene: &Scene<'_>) -> Vec<Reason> {
        self.findings
            .iter()
            .map(|finding| finding.judged(scene))
            .collect()
    }
}

fn is_ready(reasons: &[Reason]) -> bool {
    reasons.iter().all(|reason| reason.weight == Weight::Warns)
}

impl Finding {
    /// A pod is never held unready by higher ordinals that are not in DNS: Kubernetes creates them
    /// only when this pod is ready.
    fn judged(&self, scene: &Scene<'_>) -> Reason {
        let mut blames = self.blames.iter();
        let mut reason = self.reason.clone();
        if !self.blames.is_empty() && blames.all(|ordinal| scene.may_wait_for_us(*ordinal)) {
            reason.weight = Weight::Warns;
        }
        reason
    }
}
