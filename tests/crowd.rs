//! Many agents on few cores: they all ask each other at once, and what answers takes time. However
//! little there is of it, they form in the end, and do not talk each other to death.
//!
//! Real decisions in virtual time; the world is one queue through which every question goes, and in
//! which it is lost after a deadline. No Redis in here: an order takes effect at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use redis_sidecar::decide::decide;
use redis_sidecar::decide::memory::Memory;
use redis_sidecar::decide::policy::{FEW, Policy};
use redis_sidecar::model::asked::Asked;
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::history::HistorySeen;
use redis_sidecar::model::identity::{NodeId, PodName, Shape};
use redis_sidecar::model::info::{ReplicaFacts, ServerFacts, Version};
use redis_sidecar::model::kept_conf::KeptConf;
use redis_sidecar::model::node_table::NodeTable;
use redis_sidecar::model::observation::{
    NodesFile, Observation, OwnFacts, OwnRedis, PeerAgent, PeerAnswer, PeerClaim, PeerFacts,
    PeerRedis, Silence, Stage, Volume, VolumeNote,
};
use redis_sidecar::model::peers::{DnsAnswer, PeersSeen};
use redis_sidecar::model::slots::SlotSet;
use redis_sidecar::model::time::{Moment, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const CLUSTER: &str = "default/redis-app";
/// What `observe/doubted_peers.rs` gives one question.
const DEADLINE_MS: f64 = 400.0;

fn id(pod: u32) -> NodeId {
    format!("{:040x}", pod + 1).parse().unwrap()
}

fn ip(pod: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + pod))
}

fn pod_at(socket: &SocketAddr) -> u32 {
    let IpAddr::V4(ip) = socket.ip() else {
        panic!("{socket}")
    };
    u32::from(ip) - 0x0a00_0001
}

/// One pod: its agent's memory and what its Redis has been told.
#[derive(Default)]
struct Pod {
    memory: Memory,
    ask: BTreeSet<SocketAddr>,
    stage: Stage,
    slots: SlotSet,
    epoch: u64,
    master: Option<NodeId>,
    knows: BTreeSet<u32>,
    note: Option<VolumeNote>,
    due_ms: f64,
    ready: bool,
}

/// All of them, and the one thing that they share.
struct Crowd {
    shape: Shape,
    pods: Vec<Pod>,
    /// A pod that Kubernetes has not created yet.
    absent: Option<u32>,
    /// How long one question takes of what all share.
    question_ms: f64,
    free_at_ms: f64,
    questions: u64,
    lost: u64,
}

impl Crowd {
    fn new(shape: Shape, question_ms: f64) -> Crowd {
        let pods = (0..shape.expected_pods()).map(|k| Pod {
            // Their agents start within a second of each other.
            due_ms: f64::from(k * 7919 % 1000),
            ..Pod::default()
        });
        Crowd {
            shape,
            pods: pods.collect(),
            absent: None,
            question_ms,
            free_at_ms: 0.0,
            questions: 0,
            lost: 0,
        }
    }

    /// The next round of whoever is due next. Returns the time.
    fn round(&mut self) -> f64 {
        let due = |pod: &u32| self.pods[*pod as usize].due_ms;
        let here = (0..self.shape.expected_pods()).filter(|pod| self.absent != Some(*pod));
        let who = here.min_by(|a, b| due(a).total_cmp(&due(b)));
        let who = who.unwrap();
        let began = self.pods[who as usize].due_ms;
        let now = Moment(began as u64);
        let ask = std::mem::take(&mut self.pods[who as usize].ask);
        let mut ended = began + 1.0;
        let mut answers = BTreeMap::new();
        for socket in ask {
            self.questions += 1;
            let done = self.free_at_ms.max(began) + self.question_ms;
            // What is given up before its turn costs nothing: that is kinder than reality.
            let (redis, agent) = if done - began > DEADLINE_MS {
                self.lost += 1;
                ended = ended.max(began + DEADLINE_MS);
                (
                    PeerRedis::Silent(Silence::TimedOut),
                    PeerAgent::Silent("late".into()),
                )
            } else {
                ended = ended.max(done);
                self.free_at_ms = done;
                self.answer(pod_at(&socket))
            };
            answers.insert(
                socket,
                PeerAnswer {
                    at: now,
                    redis,
                    agent,
                },
            );
        }
        let seen = self.observation(who, now, answers);
        let policy = self.policy(who);
        let (memory, decision) = decide(&policy, &self.pods[who as usize].memory, &seen);
        for planned in &decision.actions {
            if planned.not_after.is_none_or(|last| ended <= last.0 as f64) {
                self.carry_out(who, &planned.action);
            }
        }
        let pod = &mut self.pods[who as usize];
        pod.memory = memory;
        pod.ask = decision.ask;
        pod.stage = decision.stage;
        pod.ready = decision.ready;
        pod.due_ms = ended + decision.next_round_in.as_secs_f64() * 1e3;
        began
    }

    fn policy(&self, who: u32) -> Policy {
        let me = PodName {
            set: "redis-app".to_owned(),
            ordinal: who,
        };
        Policy {
            hostname: format!("{me}.redis-headless.default.svc.cluster.local"),
            me,
            cluster: CLUSTER.to_owned(),
            pod_ip: ip(who),
            redis_port: 6379,
            shape: self.shape,
            lag_bytes_max: 1 << 20,
            gate_always: false,
            node_name: String::new(),
            zone: String::new(),
            dry_run: false,
            ghosts: Default::default(),
            few: FEW,
        }
    }

    fn answer(&self, pod: u32) -> (PeerRedis, PeerAgent) {
        let it = &self.pods[pod as usize];
        let facts = PeerFacts {
            version: Version::default(),
            id: id(pod),
            run_id: format!("run {pod}"),
            bus_port: 16379,
            master: it.master,
            slots: it.slots.clone(),
            epoch: it.epoch,
            knows: it.knows.iter().map(|other| id(*other)).collect(),
            hears: BTreeSet::new(),
            owners: BTreeMap::new(),
            keys: 0,
            offset: 0,
            replica: None,
        };
        let claim = PeerClaim {
            cluster: CLUSTER.to_owned(),
            pod: format!("redis-app-{pod}"),
            node_id: Some(id(pod)),
            stage: Some(it.stage),
            shape: Some(self.shape.to_string()),
            node_name: String::new(),
            zone: String::new(),
            owners: BTreeMap::new(),
            last_ordinal: 0,
            forgets: BTreeMap::new(),
            blank: false,
            stopping: false,
            doubled: false,
            holds_copies: false,
            data_missing: false,
        };
        (PeerRedis::Up(facts), PeerAgent::Says(claim))
    }

    fn observation(
        &self,
        who: u32,
        now: Moment,
        answers: BTreeMap<SocketAddr, PeerAnswer>,
    ) -> Observation {
        let me = &self.pods[who as usize];
        let master = me.master.map(|master| {
            let of = (0..self.shape.expected_pods())
                .find(|k| id(*k) == master)
                .unwrap();
            ReplicaFacts {
                master_host: ip(of).to_string(),
                master_port: 6379,
                link_up: true,
                ..ReplicaFacts::default()
            }
        });
        let own = OwnFacts {
            server: ServerFacts {
                version: Version {
                    redis: (7, 0, 15),
                    valkey: None,
                },
                run_id: format!("run {who}"),
                uptime_s: 60 + now.0 / 1000,
                cluster_enabled: true,
                replica: master,
                ..ServerFacts::default()
            },
            config: None,
            table: self.table(who),
            state_ok: true,
            current_epoch: me.epoch,
            offsets: BTreeMap::new(),
            copies: None,
        };
        let here = (0..self.shape.expected_pods()).filter(|pod| self.absent != Some(*pod));
        let others = here.map(|k| (k, vec![ip(k)]));
        Observation {
            now,
            wall: WallTime::default(),
            history: HistorySeen::default(),
            own: OwnRedis::Up(Box::new(own)),
            file: NodesFile::Missing,
            kept: KeptConf::default(),
            dns: PeersSeen {
                answer: DnsAnswer::Answered,
                addresses: others.collect(),
                not_in_dns: BTreeSet::new(),
                unknown: BTreeSet::new(),
            },
            answers,
            volume: me.note.clone().map_or(Volume::Blank, Volume::Says),
            volume_error: None,
            refusals: Vec::new(),
            asked: Asked::default(),
        }
    }

    fn table(&self, who: u32) -> NodeTable {
        let mut text = String::new();
        let known = self.pods[who as usize].knows.iter().copied();
        for k in known.chain([who]) {
            let pod = &self.pods[k as usize];
            let myself = if k == who { "myself," } else { "" };
            let role = if pod.master.is_some() {
                "slave"
            } else {
                "master"
            };
            let master = pod
                .master
                .map_or("-".to_owned(), |master| master.to_string());
            let (id, ip, epoch, slots) = (id(k), ip(k), pod.epoch, &pod.slots);
            text += &format!(
                "{id} {ip}:6379@16379 {myself}{role} {master} 0 1 {epoch} connected {slots}\n"
            );
        }
        text.parse().unwrap()
    }

    fn carry_out(&mut self, who: u32, action: &Action) {
        let me = &mut self.pods[who as usize];
        match action {
            Action::SetConfigEpoch(epoch) => me.epoch = *epoch,
            Action::AddSlots { slots, .. } => me.slots = me.slots.union(slots),
            Action::Replicate { master, .. } => me.master = Some(*master),
            Action::Remember(note) => me.note = Some(note.clone()),
            Action::Meet {
                ip: IpAddr::V4(ip), ..
            } => {
                let other = u32::from(*ip) - 0x0a00_0001;
                me.knows.insert(other);
                self.pods[other as usize].knows.insert(who);
            }
            // Of its volume, which is not played here.
            Action::KeepConf(_) | Action::Record(_) => {}
            other => panic!("{other}"),
        }
    }

    fn formed(&self) -> usize {
        let formed = |pod: &&Pod| pod.stage == Stage::Member;
        self.pods.iter().filter(formed).count()
    }

    /// Plays until all are members; the time that it took, or why not.
    fn forms_within(&mut self, limit_s: f64) -> Result<f64, String> {
        let all = self.pods.len();
        loop {
            let now_s = self.round() / 1e3;
            if self.formed() == all {
                return Ok(now_s);
            }
            if now_s > limit_s {
                let (formed, asked, lost) = (self.formed(), self.questions, self.lost);
                return Err(format!(
                    "{formed} of {all} after {now_s:.0} s, {asked} questions, {lost} in vain"
                ));
            }
        }
    }
}

fn shape(masters: u16) -> Shape {
    Shape::new(masters, 1).unwrap()
}

#[test]
fn with_enough_to_go_round_they_form_at_once_and_ask_little() {
    let mut crowd = Crowd::new(shape(15), 0.01);
    let took_s = crowd.forms_within(3.0).unwrap();
    let pairs = 30 * 29;
    assert!(crowd.questions < pairs * 6, "{}", crowd.questions);
    println!("{took_s:.2} s, {} questions", crowd.questions);
}

/// As a hundred pods on two cores: asking everybody once takes all of them together 2.5 s.
#[test]
fn with_too_little_they_form_all_the_same() {
    let mut crowd = Crowd::new(shape(15), 2.9);
    let took_s = crowd.forms_within(40.0).unwrap();
    let (asked, lost) = (crowd.questions, crowd.lost);
    println!("{took_s:.2} s, {asked} questions, {lost} in vain");
}

/// Kubernetes creates the last pod only when all others are ready, and stay so.
#[test]
fn who_waits_for_a_pod_that_waits_for_it_is_ready_without_a_break() {
    let mut crowd = Crowd::new(shape(15), 0.1);
    let last = 29;
    crowd.absent = Some(last);
    while crowd.round() < 4_000.0 {}
    while crowd.round() < 15_000.0 {
        let unready = |k: &u32| !crowd.pods[*k as usize].ready;
        let unready: Vec<u32> = (0..last).filter(unready).collect();
        assert!(unready.is_empty(), "{unready:?}");
    }
    crowd.absent = None;
    crowd.pods[last as usize].due_ms = 15_000.0;
    let took_s = crowd.forms_within(20.0).unwrap();
    assert_eq!(crowd.formed(), 30, "{took_s:.2} s");
}
