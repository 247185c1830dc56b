//! Random stories: a pod's policy and a few rounds of what it sees, likely enough to reach the
//! rules and odd enough to try them.

mod files;

use proptest::prelude::*;
use redis_sidecar::decide::hold::HELD_S;
use redis_sidecar::decide::policy::{FEW, Policy};
use redis_sidecar::model::asked::{Asked, FailoverAsked, PauseAsked, StopAsked};
use redis_sidecar::model::history::HistorySeen;
use redis_sidecar::model::identity::{NodeId, Shape};
use redis_sidecar::model::info::{Persistence, ReplicaFacts, ServerFacts, Version};
use redis_sidecar::model::node_table::NodeTable;
use redis_sidecar::model::observation::{
    ClusterConfig, CopyConfig, Observation, OwnFacts, OwnRedis, PeerAgent, PeerAnswer, PeerClaim,
    PeerFacts, PeerRedis, Silence, Stage,
};
use redis_sidecar::model::peers::{DnsAnswer, PeersSeen};
use redis_sidecar::model::slots::SlotSet;
use redis_sidecar::model::time::{Moment, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) const CLUSTER: &str = "default/redis-app";
/// Pods, IDs and addresses are few, so that they meet; 0-5 are pods of the largest shape.
const NODES: u8 = 8;

fn id(n: u8) -> NodeId {
    format!("{:02x}", n + 1).repeat(20).parse().unwrap()
}

/// Whose ID it is.
fn number_of(of: NodeId) -> Option<u8> {
    (0..NODES).find(|n| id(*n) == of)
}

fn ip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n + 1))
}

fn socket(n: u8) -> SocketAddr {
    SocketAddr::new(ip(n), 6379)
}

/// How far the pods of a story have come, all but a few.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Blank,
    Forming,
    Made,
}

/// Nearly always the usual value.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    odd: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    prop_oneof![40 => Just(usual), 1 => odd].boxed()
}

fn any_shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::new(3, 0)),
        Just(Shape::new(2, 1)),
        Just(Shape::new(3, 1)),
        Just(Shape::new(1, 2)),
        Just(Shape::new(1, 0)),
    ]
    .prop_map(Result::unwrap)
}

fn any_stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        4 => Just(Stage::Virgin),
        3 => Just(Stage::Forming),
        2 => Just(Stage::Member),
        1 => Just(Stage::Unknown),
    ]
}

/// The part that the plan gives to an ordinal, written down again, not asked of the core.
fn planned(ordinal: u8, shape: Shape) -> (SlotSet, Option<u8>) {
    let masters = u8::try_from(shape.masters).unwrap();
    if ordinal < masters {
        let index = u16::from(ordinal);
        (SlotSet::planned(index, shape.masters), None)
    } else {
        (SlotSet::default(), Some(ordinal % masters))
    }
}

fn any_slots() -> impl Strategy<Value = SlotSet> {
    prop::collection::vec((0u16..16384, 0u16..16384), 0..3)
        .prop_map(|ranges| ranges.into_iter().collect())
}

/// The slots and the master of a node, as the mood has them.
fn any_part(
    ordinal: u8,
    mood: Mood,
    shape: Shape,
) -> (BoxedStrategy<SlotSet>, BoxedStrategy<Option<NodeId>>) {
    let (slots, master) = planned(ordinal, shape);
    let master = master.map(id);
    let odd_master = prop::option::of((0..NODES).prop_map(id));
    match mood {
        Mood::Blank => (
            mostly(SlotSet::default(), any_slots()),
            mostly(None, odd_master),
        ),
        Mood::Forming => (
            prop_oneof![9 => Just(SlotSet::default()), 30 => Just(slots), 1 => any_slots()].boxed(),
            prop_oneof![9 => Just(None), 9 => Just(master), 1 => odd_master].boxed(),
        ),
        Mood::Made => (mostly(slots, any_slots()), mostly(master, odd_master)),
    }
}

fn any_peer(n: u8, mood: Mood, shape: Shape) -> BoxedStrategy<PeerAnswer> {
    let (slots, master) = any_part(n, mood, shape);
    let pods: BTreeSet<u8> = (0..6).filter(|pod| *pod != n).collect();
    let (stage, knows) = match mood {
        Mood::Blank => (Stage::Virgin, BTreeSet::new()),
        Mood::Forming => (Stage::Forming, pods),
        Mood::Made => (Stage::Member, pods),
    };
    let few = prop::collection::btree_set(0..NODES, 0..3);
    let pods_of_the_shape = u8::try_from(shape.expected_pods()).unwrap();
    let knows = mostly(knows, few).prop_map(move |knows| {
        let known = knows.into_iter().filter(|pod| *pod < pods_of_the_shape);
        known.map(id).collect::<BTreeSet<NodeId>>()
    });
    let facts = (
        mostly(id(n), (0..NODES).prop_map(id)),
        slots,
        master,
        knows,
        mostly(0u64, 1u64..9),
        0..9u64,
        0..3u64,
    )
        .prop_map(
            |(id, slots, master, knows, keys, epoch, offset)| PeerFacts {
                id,
                version: Version::default(),
                run_id: "r1".to_owned(),
                bus_port: 16379,
                master,
                slots,
                epoch,
                hears: knows.clone(),
                owners: BTreeMap::new(),
                knows,
                keys,
                offset,
                replica: master.and_then(number_of).map(|master| ReplicaFacts {
                    master_host: ip(master).to_string(),
                    master_port: 6379,
                    link_up: true,
                    ..ReplicaFacts::default()
                }),
            },
        );
    let blank_again = facts.clone().prop_map(|mut facts| {
        facts.slots = SlotSet::default();
        facts.master = None;
        facts.knows.clear();
        facts
    });
    let odd_stage = prop::option::of(any_stage());
    let claim = (
        mostly(CLUSTER.to_owned(), Just("other/redis-app".to_owned())),
        mostly(
            format!("redis-app-{n}"),
            (0..NODES).prop_map(|n| format!("redis-app-{n}")),
        ),
        mostly(true, Just(false)),
        mostly(Some(stage), odd_stage),
        mostly(Some(shape.to_string()), Just(Some("9x9".to_owned()))),
        mostly(false, Just(true)),
        mostly(false, Just(true)),
    );
    let facts = prop_oneof![
        9 => (facts, Just(false)),
        1 => (blank_again, Just(true)),
    ];
    let (redis_up, agent_up) = (mostly(true, Just(false)), mostly(true, Just(false)));
    let age = prop_oneof![9 => 0u64..500, 1 => 500u64..1500];
    (facts, claim, redis_up, agent_up, age)
        .prop_map(
            move |(
                (facts, blank),
                (cluster, pod, agree, stage, shape, stopping, doubled),
                redis_up,
                agent_up,
                age,
            )| {
                let claim = PeerClaim {
                    cluster,
                    pod,
                    node_id: agree.then_some(facts.id),
                    stage: if blank { Some(Stage::Virgin) } else { stage },
                    shape,
                    node_name: String::new(),
                    zone: String::new(),
                    owners: BTreeMap::new(),
                    last_ordinal: 0,
                    forgets: BTreeMap::new(),
                    blank: false,
                    stopping,
                    doubled,
                    holds_copies: false,
                    data_missing: false,
                };
                // `at` holds the age until the round's time is known.
                PeerAnswer {
                    at: Moment(age),
                    redis: if redis_up {
                        PeerRedis::Up(facts)
                    } else {
                        PeerRedis::Silent(Silence::TimedOut)
                    },
                    agent: if agent_up {
                        PeerAgent::Says(claim)
                    } else {
                        PeerAgent::Silent("silent".to_owned())
                    },
                }
            },
        )
        .boxed()
}

/// One line of `CLUSTER NODES`.
fn any_line(n: u8, me: bool, mood: Mood, shape: Shape) -> BoxedStrategy<String> {
    let (slots, master) = any_part(n, mood, shape);
    (
        mostly(n, 0..NODES),
        mostly(
            "",
            prop::sample::select(vec![",fail", ",fail?", ",noaddr", ",handshake"]),
        ),
        slots,
        master,
        mostly("connected", Just("disconnected")),
        0u64..2,
    )
        .prop_map(move |(at, flag, slots, master, link, epoch)| {
            let role = if master.is_some() { "slave" } else { "master" };
            let (me, flag) = if me { ("myself,", "") } else { ("", flag) };
            let master = master.map_or("-".to_owned(), |id| id.to_string());
            let (node, at) = (id(n), ip(at));
            format!("{node} {at}:6379@16379 {me}{role}{flag} {master} 0 0 {epoch} {link} {slots}\n")
        })
        .boxed()
}

fn any_copies() -> impl Strategy<Value = CopyConfig> {
    let delay = prop_oneof![2 => Just(0u64), 2 => Just(5), 1 => Just(HELD_S)];
    (any::<bool>(), delay).prop_map(|(diskless, delay_s)| CopyConfig {
        diskless,
        delay_s,
        max_replicas: None,
    })
}

fn any_own(me: u8, mood: Mood, shape: Shape) -> BoxedStrategy<OwnRedis> {
    let pods: BTreeSet<u8> = match mood {
        Mood::Blank => BTreeSet::new(),
        Mood::Forming | Mood::Made => (0..u8::try_from(shape.expected_pods()).unwrap()).collect(),
    };
    let others = prop_oneof![
        9 => Just(pods),
        2 => Just(BTreeSet::new()),
        1 => prop::collection::btree_set(0..NODES, 0..7),
    ];
    let others = others.prop_flat_map(move |others| {
        let lines = others.into_iter().filter(move |n| *n != me);
        lines
            .map(|n| any_line(n, false, mood, shape))
            .collect::<Vec<_>>()
    });
    // A newcomer among members is blank.
    let mine = prop_oneof![
        any_line(me, true, mood, shape),
        any_line(me, true, Mood::Blank, shape)
    ];
    let table = (mine, others).prop_map(|(mine, others)| {
        let text = mine + &others.concat();
        text.parse::<NodeTable>().unwrap()
    });
    let replica =
        prop::option::weighted(0.2, (any::<bool>(), any::<bool>(), 0u64..99)).prop_map(|replica| {
            replica.map(|(link_up, syncing, read_offset)| ReplicaFacts {
                link_up,
                syncing,
                read_offset,
                ..ReplicaFacts::default()
            })
        });
    let timeout = prop_oneof![4 => Just(5000u64), 1 => Just(501), 1 => Just(15000)];
    let file = (any::<bool>(), any::<bool>()).prop_map(|(aof, aof_history)| Persistence {
        aof,
        aof_history,
        ..Persistence::default()
    });
    let up = (
        table,
        replica,
        mostly(0u64, 1u64..9),
        any::<bool>(),
        0u64..3,
        timeout,
        file,
        any_copies(),
    );
    let up = up.prop_map(|up| {
        let (table, replica, keys, state_ok, current_epoch, timeout, persistence, copies) = up;
        OwnRedis::Up(Box::new(OwnFacts {
            server: ServerFacts {
                version: Version {
                    redis: (7, 0, 15),
                    valkey: None,
                },
                run_id: "r1".to_owned(),
                keys,
                replica,
                persistence,
                ..ServerFacts::default()
            },
            config: Some(ClusterConfig {
                announce_ip: Some(String::new()),
                announce_hostname: Some(String::new()),
                announce_nodename: None,
                node_timeout_ms: Some(timeout),
                replica_no_failover: Some(false),
            }),
            table,
            state_ok,
            current_epoch,
            offsets: BTreeMap::new(),
            copies: Some(copies),
        }))
    });
    prop_oneof![
        1 => Just(OwnRedis::Silent(Silence::TimedOut)),
        1 => Just(OwnRedis::Silent(Silence::Refused("Connection refused".to_owned()))),
        1 => Just(OwnRedis::Loading(ServerFacts::default(), None, None)),
        40 => up,
    ]
    .boxed()
}

fn any_dns() -> impl Strategy<Value = PeersSeen> {
    let answer = mostly(
        DnsAnswer::Answered,
        prop_oneof![
            Just(DnsAnswer::NoSuchName),
            Just(DnsAnswer::Failed("SERVFAIL".to_owned()))
        ],
    );
    let ordinals = prop_oneof![
        9 => Just((0..6).collect::<BTreeSet<u8>>()),
        1 => prop::collection::btree_set(0..NODES, 0..8),
    ];
    (answer, ordinals, any::<bool>()).prop_map(|(answer, ordinals, unknown)| PeersSeen {
        answer,
        addresses: ordinals
            .iter()
            .map(|n| (u32::from(*n), vec![ip(*n)]))
            .collect(),
        not_in_dns: BTreeSet::new(),
        unknown: (0..u32::from(NODES))
            .filter(|n| unknown && !ordinals.iter().any(|known| u32::from(*known) == *n))
            .collect(),
    })
}

fn any_round(me: u8, mood: Mood, shape: Shape) -> BoxedStrategy<(u64, Observation)> {
    let answers: Vec<_> = (0..NODES)
        .map(|n| prop::option::weighted(0.97, any_peer(n, mood, shape)))
        .collect();
    let parts = (
        any_own(me, mood, shape),
        any_dns(),
        answers,
        files::any_volume(mood),
        files::any_files(me),
        0u64..1500,
    );
    parts
        .prop_map(|(own, dns, answers, volume, (file, kept), later)| {
            let answers = (0..NODES)
                .zip(answers)
                .filter_map(|(n, answer)| Some((socket(n), answer?)))
                .collect();
            let seen = Observation {
                now: Moment(0),
                wall: WallTime(1_790_000_000_000),
                history: HistorySeen::default(),
                own,
                file,
                kept,
                dns,
                answers,
                volume,
                volume_error: None,
                refusals: Vec::new(),
                asked: Asked::default(),
            };
            (later, seen)
        })
        .boxed()
}

/// What is asked in all rounds of a story.
fn any_asked() -> impl Strategy<Value = Asked> {
    let (id, since, until) = (1, Moment(10_000), Moment(12_000));
    let stop = StopAsked { id, since, until };
    let to = prop::option::of((0..NODES).prop_map(|n| format!("redis-app-{n}")));
    let failover = to.prop_map(move |to| FailoverAsked {
        id: 2,
        since,
        until,
        to,
    });
    let lasts = prop::option::of(Just(Duration::from_secs(600)));
    let pause = lasts.prop_map(|lasts| PauseAsked { id: 3, lasts });
    (
        prop::option::weighted(0.3, Just(stop)),
        prop::option::weighted(0.3, failover),
        prop::option::weighted(0.1, pause),
    )
        .prop_map(|(stop, failover, pause)| Asked {
            stop,
            failover,
            pause,
            socket_error: None,
        })
}

/// A pod and a few rounds of it, in time.
pub(crate) fn any_story() -> impl Strategy<Value = (Policy, Vec<Observation>)> {
    let moods = prop::sample::select(vec![Mood::Blank, Mood::Forming, Mood::Made]);
    (any_shape(), 0..NODES - 1, moods, any_asked()).prop_flat_map(|(shape, me, mood, asked)| {
        let rounds = prop::collection::vec(any_round(me, mood, shape), 1..4);
        rounds.prop_map(move |rounds| (policy(me, shape), in_time(rounds, &asked)))
    })
}

fn policy(me: u8, shape: Shape) -> Policy {
    Policy {
        me: format!("redis-app-{me}").parse().unwrap(),
        cluster: CLUSTER.to_owned(),
        hostname: format!("redis-app-{me}.redis.default.svc.cluster.local"),
        pod_ip: ip(me),
        redis_port: 6379,
        shape,
        lag_bytes_max: 50,
        gate_always: false,
        node_name: String::new(),
        zone: String::new(),
        dry_run: false,
        ghosts: Default::default(),
        few: u32::from(me % 2) * FEW,
    }
}

/// Turns the steps between rounds, and the ages of answers, into points in time.
fn in_time(rounds: Vec<(u64, Observation)>, asked: &Asked) -> Vec<Observation> {
    let mut now = 10_000;
    let rounds = rounds.into_iter().map(|(later, mut seen)| {
        now += later;
        seen.now = Moment(now);
        seen.asked = asked.clone();
        for answer in seen.answers.values_mut() {
            answer.at = Moment(now - answer.at.0);
        }
        seen
    });
    rounds.collect()
}
