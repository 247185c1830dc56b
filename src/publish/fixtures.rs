//! Snapshots for tests: a master that is well and a replica that is not.

use std::ffi::OsString;

use super::status::{BusLink, Link, NodeStatus, Role, Stage, Status};
use crate::config::{Config, Surroundings};
use crate::model::identity::NodeId;
use crate::model::reason::{Reason, ReasonCode};

pub(crate) fn config(pod: &str, ip: &str) -> Config {
    let args = [
        "redis-sidecar",
        "--pod-name",
        pod,
        "--pod-ip",
        ip,
        "--headless-service=redis-service",
        "--node-name=worker-1",
        "--zone=a",
    ];
    let surroundings = Surroundings {
        env: &|_| None,
        hostname: &|| None,
        log_to_terminal: false,
    };
    Config::load(args.map(OsString::from), surroundings).unwrap()
}

pub(crate) fn node_id(digit: char) -> NodeId {
    String::from(digit).repeat(40).parse().unwrap()
}

pub(crate) fn master() -> Status {
    let config = config("redis-app-0", "10.0.0.1");
    Status {
        stage: Stage::Member,
        role: Role::Master,
        node_id: Some(node_id('a')),
        slots: vec![(0, 5460), (6000, 6000)],
        epoch: Some(1),
        reasons: vec![Reason::warns(
            ReasonCode::PeersUnreachable,
            "redis-app-4 does not answer",
        )],
        nodes: vec![
            NodeStatus {
                node_id: node_id('a'),
                pod: Some(config.pod.clone()),
                address: Some(config.announced_address()),
                role: Role::Master,
                replica_of: None,
                slots: vec![(0, 5460), (6000, 6000)],
                link: BusLink::Connected,
                flags: vec!["myself".into(), "master".into()],
                epoch: 1,
                myself: true,
            },
            NodeStatus {
                node_id: node_id('b'),
                pod: None,
                address: None,
                role: Role::Replica,
                replica_of: Some(node_id('a')),
                slots: vec![],
                link: BusLink::Disconnected,
                flags: vec!["slave".into(), "noaddr".into()],
                epoch: 1,
                myself: false,
            },
        ],
        peers_known: 5,
        held: None,
        ..Status::starting(&config)
    }
}

pub(crate) fn replica() -> Status {
    let config = config("redis-app-3", "fd00::3");
    Status {
        stage: Stage::Member,
        role: Role::Replica,
        node_id: Some(node_id('b')),
        replica_of: Some(config.pod.sibling(0)),
        link: Some(Link::Down),
        lag_bytes: Some(12),
        epoch: Some(1),
        reasons: vec![
            Reason::warns(ReasonCode::TooFewMasters, "2 masters cannot elect a third"),
            Reason::blocks(
                ReasonCode::ReplicaLinkDown,
                "the link to redis-app-0 is down",
            ),
        ],
        peers_known: 5,
        held: None,
        ..Status::starting(&config)
    }
}
