//! One pod's agent: the real parsing and the real decisions, with observing, deciding and each
//! action as steps of their own, so that it acts on what was true a while ago.

use super::fake::PORT;
use super::layout::cluster_name;
use super::world::{Event, World};
use redis_sidecar::decide::decide;
use redis_sidecar::decide::memory::Memory;
use redis_sidecar::decide::policy::{GhostTimes, Policy};
use redis_sidecar::model::asked::{Asked, PauseAsked, StopAsked};
use redis_sidecar::model::decision::{Action, Decision, Planned};
use redis_sidecar::model::history::HistorySeen;
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::kept_conf::ConfLock;
use redis_sidecar::model::observation::{
    Observation, OwnRedis, PeerAgent, PeerAnswer, PeerClaim, PeerRedis, Refusal, Silence, Volume,
};
use redis_sidecar::model::peers::PeersSeen;
use redis_sidecar::model::reason::ReasonCode;
use redis_sidecar::model::time::{Moment, WallTime};
use redis_sidecar::observe::own_redis;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// As in the control loop: rounds in quick succession share one DNS answer.
const DNS_EVERY_MS: i64 = 150;
/// As in the control loop: for one peer's answer.
const DEADLINE_MS: i64 = 400;
/// As in the control loop.
const REFUSALS_KEPT_MS: i64 = 15_000;

pub(crate) struct Agent {
    pub(crate) policy: Policy,
    memory: Memory,
    pub(crate) started: i64,
    /// Counts its steps; an event for another step is out of date.
    step: u64,
    phase: Phase,
    pub(crate) decision: Option<Decision>,
    refusals: Vec<(i64, Refusal)>,
    /// Why the note, and the copies of nodes.conf, could not be written last time.
    pub(crate) note_error: Option<String>,
    pub(crate) conf_error: Option<String>,
    dns: Option<(i64, PeersSeen)>,
    pub(crate) rounds: u64,
    /// What a person has asked last.
    pub(crate) pause: Option<PauseAsked>,
}

/// How long a handoff may take, in milliseconds.
pub(crate) const HANDOFF_MS: u64 = 20_000;

impl Agent {
    /// What its socket would have.
    fn asked(&self, stop: Option<i64>) -> Asked {
        let stop = stop.map(|at| {
            let since = Moment(u64::try_from(at - self.started).unwrap_or(0));
            StopAsked {
                id: u64::try_from(at).unwrap_or(0) + 1,
                since,
                until: Moment(since.0 + HANDOFF_MS),
            }
        });
        Asked {
            stop,
            pause: self.pause.clone(),
            ..Asked::default()
        }
    }
}

enum Phase {
    /// Until the timer or a change of nodes.conf.
    Waits,
    /// The own Redis has answered; the peers are being asked.
    Asks(Box<Observation>),
    Decides(Box<Observation>),
    Acts(VecDeque<Planned>),
}

/// A new agent process.
pub(crate) fn start(world: &mut World, pod: usize) {
    let now = world.now;
    let shape = world.layout.shape;
    let p = &mut world.pods[pod];
    let Some(ip) = p.ip else { return };
    let me = format!("redis-app-{}", p.ordinal);
    let namespace = cluster_name(p.cluster).split('/').next().unwrap_or("");
    let policy = Policy {
        hostname: format!("{me}.redis-app-headless.{namespace}.svc.cluster.local"),
        me: me.parse().expect("a pod's name"),
        cluster: cluster_name(p.cluster).to_owned(),
        pod_ip: ip,
        redis_port: PORT,
        shape,
        lag_bytes_max: 10_485_760,
        gate_always: false,
        node_name: String::new(),
        zone: String::new(),
        dry_run: false,
        // Shorter than shipped, so that a history reaches it.
        ghosts: GhostTimes {
            gone_for: Duration::from_secs(10),
            no_meet_for: Duration::from_secs(5),
        },
        few: world.layout.few,
    };
    p.agent_starts += 1;
    let steps = p.agent_starts * 1_000_000_000;
    p.agent = Some(Agent {
        policy,
        memory: Memory::default(),
        started: now,
        step: steps,
        phase: Phase::Waits,
        decision: None,
        refusals: Vec::new(),
        note_error: None,
        conf_error: None,
        dns: None,
        rounds: 0,
        pause: None,
    });
    world.after(1, Event::Agent(pod, steps));
    world.tell(|world| format!("{} agent starts", world.pod_name(pod)));
}

/// nodes.conf has changed.
pub(crate) fn wake(world: &mut World, pod: usize) {
    if let Some(agent) = &world.pods[pod].agent
        && matches!(agent.phase, Phase::Waits)
    {
        let ms = world.rng.i64(1..5);
        next(world, pod, ms);
    }
}

/// The next step of this agent, after `ms`; whatever was due before is not any more.
fn next(world: &mut World, pod: usize, ms: i64) {
    if let Some(agent) = &mut world.pods[pod].agent {
        agent.step += 1;
        let step = agent.step;
        world.after(ms, Event::Agent(pod, step));
    }
}

pub(crate) fn step(world: &mut World, pod: usize, step: u64) {
    let p = &mut world.pods[pod];
    let frozen_for = p.agent_frozen_until - world.now;
    let Some(agent) = p.agent.as_mut().filter(|agent| agent.step == step) else {
        return;
    };
    if frozen_for > 0 {
        world.after(frozen_for, Event::Agent(pod, step));
        return;
    }
    match std::mem::replace(&mut agent.phase, Phase::Waits) {
        Phase::Waits => look(world, pod),
        Phase::Asks(seen) => ask(world, pod, seen),
        Phase::Decides(seen) => judge(world, pod, &seen),
        Phase::Acts(actions) => act(world, pod, actions),
    }
}

fn moment(world: &World, agent: &Agent) -> Moment {
    Moment(u64::try_from(world.now - agent.started).unwrap_or(0))
}

fn go_on(world: &mut World, pod: usize, phase: Phase, ms: i64) {
    if let Some(agent) = &mut world.pods[pod].agent {
        agent.phase = phase;
    }
    next(world, pod, ms);
}

/// The own Redis, the volume and DNS.
fn look(world: &mut World, pod: usize) {
    super::owners::note_majority(world, pod);
    let own = own_redis_of(world, pod);
    let file = super::files::nodes_conf_of(world, pod);
    let zone = world.pods[pod].cluster;
    let (now, wall) = (world.now, world.wall(pod));
    let stop = world.judge.to_be_stopped.get(&pod).copied();
    let volume = match &world.pods[pod].disk.note {
        Some(note) => Volume::Says(note.clone()),
        None => Volume::Blank,
    };
    let history = HistorySeen {
        last: world.pods[pod].disk.stood.clone(),
        ..HistorySeen::default()
    };
    let mut kept = world.pods[pod].disk.kept();
    if world.is_init(pod) {
        kept.lock = match world.pods[pod].locked_until > world.now {
            true => ConfLock::Held,
            false => ConfLock::Free,
        };
    }
    let fresh = world.zones[zone].answer();
    let Some(agent) = &mut world.pods[pod].agent else {
        return;
    };
    agent.rounds += 1;
    kept.error.clone_from(&agent.conf_error);
    let (at, dns) = match &agent.dns {
        Some((at, seen)) if now - at < DNS_EVERY_MS => (*at, seen.clone()),
        _ => (now, fresh),
    };
    agent.dns = Some((at, dns.clone()));
    agent.refusals.retain(|(at, _)| now - at < REFUSALS_KEPT_MS);
    let refusals = agent.refusals.iter().map(|(_, r)| r.clone()).collect();
    let asks = agent.decision.as_ref().is_some_and(|d| !d.ask.is_empty());
    let seen = Box::new(Observation {
        now: Moment(u64::try_from(now - agent.started).unwrap_or(0)),
        own,
        file,
        wall: WallTime(wall),
        history,
        kept,
        dns,
        answers: BTreeMap::new(),
        volume,
        volume_error: agent.note_error.clone(),
        refusals,
        asked: agent.asked(stop),
    });
    let lag = world.pods[pod].agent_lag;
    let ms = world.rng.i64(0..=lag);
    if asks {
        go_on(world, pod, Phase::Asks(seen), ms.min(20));
    } else {
        go_on(world, pod, Phase::Decides(seen), ms);
    }
}

fn own_redis_of(world: &World, pod: usize) -> OwnRedis {
    let p = &world.pods[pod];
    let Some(node) = &p.node else {
        return OwnRedis::Silent(Silence::Refused("connection refused".to_owned()));
    };
    if p.redis_frozen_until > world.now {
        return OwnRedis::Silent(Silence::TimedOut);
    }
    let answers = node.own_answers(world.wall(pod));
    own_redis::understand(&answers).unwrap_or_else(OwnRedis::Silent)
}

/// The peers in doubt, all at once.
fn ask(world: &mut World, pod: usize, mut seen: Box<Observation>) {
    let wanted: BTreeSet<SocketAddr> = match &world.pods[pod].agent {
        Some(agent) => agent.decision.as_ref().map(|d| d.ask.clone()),
        None => None,
    }
    .unwrap_or_default();
    let mut slowest = 1;
    for socket in wanted {
        let (mut answer, mut ms) = answer_of(world, pod, socket.ip(), seen.now);
        if super::long_faults::loses(world, &mut answer) {
            ms = DEADLINE_MS;
        }
        slowest = slowest.max(ms);
        seen.answers.insert(socket, answer);
    }
    let lag = world.pods[pod].agent_lag;
    let lag = world.rng.i64(0..=lag);
    if lag >= super::known::UNWATCHED_MS {
        super::known::agent_stops(world, pod);
    }
    let ms = slowest + lag;
    go_on(world, pod, Phase::Decides(seen), ms);
}

fn answer_of(world: &World, pod: usize, ip: IpAddr, at: Moment) -> (PeerAnswer, i64) {
    let silent = |why: &str| PeerAnswer {
        at,
        redis: PeerRedis::Silent(Silence::TimedOut),
        agent: PeerAgent::Silent(why.to_owned()),
    };
    let Some(peer) = world.occupant(ip).filter(|peer| world.asks(pod, *peer)) else {
        return (silent("no answer"), DEADLINE_MS);
    };
    let p = &world.pods[peer];
    let mut ms = 3;
    let same = p.cluster == world.pods[pod].cluster;
    let redis = match &p.node {
        None => PeerRedis::Silent(Silence::Refused("connection refused".to_owned())),
        Some(_) if p.redis_frozen_until > world.now => {
            ms = DEADLINE_MS;
            PeerRedis::Silent(Silence::TimedOut)
        }
        Some(_) if !same && world.layout.own_passwords => {
            PeerRedis::Silent(Silence::Auth("WRONGPASS".to_owned()))
        }
        Some(node) => own_redis::understand_peer(&node.peer_answers(world.wall(peer)))
            .map_or_else(PeerRedis::Silent, PeerRedis::Up),
    };
    let agent = match &p.agent {
        None => PeerAgent::Silent("connection refused".to_owned()),
        // It answers from its last snapshot, but a stopped process answers nothing.
        Some(_) if p.agent_frozen_until > world.now => {
            ms = DEADLINE_MS;
            PeerAgent::Silent("timed out".to_owned())
        }
        Some(agent) => PeerAgent::Says(claim(agent)),
    };
    (PeerAnswer { at, redis, agent }, ms)
}

/// What `/role` says: the last snapshot.
fn claim(agent: &Agent) -> PeerClaim {
    let policy = &agent.policy;
    let decision = agent.decision.as_ref();
    let says = |code: ReasonCode| {
        let mut reasons = decision.iter().flat_map(|decision| &decision.reasons);
        reasons.any(|reason| reason.code == code)
    };
    PeerClaim {
        cluster: policy.cluster.clone(),
        pod: policy.me.to_string(),
        node_id: decision.and_then(|decision| decision.view.node_id),
        stopping: decision.is_some_and(|decision| decision.view.stopping),
        doubled: says(ReasonCode::DuplicateNodeId),
        holds_copies: says(ReasonCode::CopiesHeld) || says(ReasonCode::DataMissing),
        data_missing: says(ReasonCode::DataMissing),
        stage: Some(decision.map(|decision| decision.stage).unwrap_or_default()),
        shape: Some(policy.shape.to_string()),
        node_name: String::new(),
        zone: String::new(),
        owners: decision
            .map(|decision| decision.view.owners.clone())
            .unwrap_or_default(),
        last_ordinal: decision.map_or(0, |decision| decision.view.last_ordinal),
        forgets: decision
            .map(|decision| decision.view.forgets.clone())
            .unwrap_or_default(),
        blank: decision.is_some_and(|decision| decision.view.blank),
    }
}

fn judge(world: &mut World, pod: usize, seen: &Observation) {
    let Some(agent) = &mut world.pods[pod].agent else {
        return;
    };
    let (memory, decision) = decide(&agent.policy, &agent.memory, seen);
    agent.memory = memory;
    let actions = decision.actions.clone();
    let stands = decision.events.last().map(|event| event.after.clone());
    let told = agent.decision.as_ref().map(said) != Some(said(&decision));
    let line = told.then(|| said(&decision));
    let before = agent.decision.as_ref().map(|decision| decision.ready);
    let turned = before.unwrap_or(false) != decision.ready;
    agent.decision = Some(decision);
    if stands.is_some() {
        world.pods[pod].disk.stood = stands;
    }
    world.judge.turns += u64::from(turned);
    super::honest::invariant_ready_with_a_link(world, pod);
    if let Some(line) = line {
        world.tell(|world| format!("{} says: {line}", world.pod_name(pod)));
    }
    act(world, pod, actions.into());
}

/// Role, readiness and the codes of the reasons.
fn said(decision: &Decision) -> String {
    let codes: Vec<&str> = decision.reasons.iter().map(|r| r.code.as_str()).collect();
    let ready = if decision.ready { "ready" } else { "not ready" };
    format!(
        "{} {ready} {}",
        decision.view.role.as_str(),
        codes.join(" ")
    )
}

/// One action a step; after the last one the agent waits for its next round.
fn act(world: &mut World, pod: usize, mut actions: VecDeque<Planned>) {
    let Some(agent) = &world.pods[pod].agent else {
        return;
    };
    let now = moment(world, agent);
    let Some(planned) = actions.pop_front() else {
        let pause = agent.decision.as_ref().map(|d| d.next_round_in);
        let ms = pause.map_or(1000, |pause| {
            i64::try_from(pause.as_millis()).unwrap_or(1000)
        });
        go_on(world, pod, Phase::Waits, ms);
        return super::gate::look(world, pod);
    };
    let late = planned.not_after.is_some_and(|last| now > last);
    let answered = late || carry_out(world, pod, &planned);
    if !answered {
        actions.clear();
    }
    let ms = world.rng.i64(0..=world.pods[pod].agent_lag.min(20));
    go_on(world, pod, Phase::Acts(actions), ms);
}

/// Whether an answer came.
fn carry_out(world: &mut World, pod: usize, planned: &Planned) -> bool {
    let action = &planned.action;
    world.tell(|world| {
        let (name, evidence) = (world.pod_name(pod), &planned.evidence);
        format!("{name} orders: {action} ({evidence})")
    });
    super::invariants::ordered(world, pod, action);
    if !super::files::fit_on_the_volume(world, pod, action) {
        return true;
    }
    if let Action::Remember(note) = action {
        let now = world.now;
        let before = world.pods[pod].disk.note.replace(note.clone());
        if note.member && before.is_none_or(|before| !before.member) {
            world.judge.member_since.insert(pod, now);
        }
        return true;
    }
    let p = &mut world.pods[pod];
    match (action, &p.node) {
        (Action::KeepConf(conf), Some(node)) => p.disk.keep(conf, node),
        // A Redis that has started meanwhile has changed nodes.conf.
        (Action::RestoreConf { conf, .. }, None) => drop(p.disk.restore(conf)),
        _ => {}
    }
    if !action.writes_to_redis() {
        return true;
    }
    let result = match action {
        Action::HandOver {
            replica, socket, ..
        } => tell_replica(world, pod, action, (replica, socket.ip())),
        _ => {
            let process = world.process(pod);
            world.with_node(process, |node, env| node.obey(action, env))
        }
    };
    if let Action::Meet { ip, .. } = action
        && world.snatch_next
    {
        super::faults::snatch(world, *ip);
    }
    let lost = world.answers_lost && world.rng.u8(0..3) == 0;
    let now = world.now;
    let (Some(result), Some(agent), false) = (result, &mut world.pods[pod].agent, lost) else {
        return false;
    };
    let over = matches!(action, Action::DropHandshake { .. });
    let name = action.to_string();
    agent.refusals.retain(|(_, refusal)| refusal.action != name);
    if let Err(error) = result
        && !over
    {
        let action = name;
        agent.refusals.push((now, Refusal { action, error }));
    }
    true
}

/// The one command to another pod's Redis, which first names its ID on the same connection.
fn tell_replica(
    world: &mut World,
    pod: usize,
    action: &Action,
    (id, ip): (&NodeId, IpAddr),
) -> Option<Result<(), String>> {
    let there = world.occupant(ip).filter(|peer| world.asks(pod, *peer))?;
    if world.layout.own_passwords && world.pods[there].cluster != world.pods[pod].cluster {
        return None;
    }
    let process = world.process(there);
    world.with_node(process, |node, env| {
        if node.id != *id {
            return Err("another node answers there now".to_owned());
        }
        node.obey(action, env)
    })
}
