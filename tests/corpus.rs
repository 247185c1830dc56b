//! The parsers against texts of real servers of every supported version, in `tests/corpus/<server>`:
//! `<state>.nodes` is CLUSTER NODES, `.conf` nodes.conf, `.info` INFO, `.answers` the raw answers to all
//! that the agent asks its own Redis, and `.json` what the maker knew to be true then.
//!
//! To make them anew: `SERVERS=all cargo test --test corpus -- --ignored` (`corpus/make.rs`).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "a test fails by panicking"
)]

#[path = "corpus/make.rs"]
mod make;
#[path = "corpus/replay.rs"]
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use redis_sidecar::model::info::{Info, ServerFacts};
use redis_sidecar::model::node_table::{NodeTable, NodesConf, TableError};
use redis_sidecar::model::observation::OwnRedis;
use serde::{Deserialize, Serialize};

/// What the maker knew when it took the texts of one state, not from these texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Truth {
    /// The node that was asked.
    myself: String,
    /// Every other node that it knew.
    others: BTreeSet<String>,
    /// Slots by owner, as ranges.
    slots: BTreeMap<String, Vec<(u16, u16)>>,
    /// The master of each replica.
    replica_of: BTreeMap<String, String>,
    /// The address of each node that has one.
    addresses: BTreeMap<String, String>,
    /// The hostname of each node that had announced one.
    hostnames: BTreeMap<String, String>,
    /// Flags that matter, `myself`, `master` and `slave` left out.
    flags: BTreeMap<String, String>,
    /// How many nodes of unknown ID it was greeting.
    handshakes: usize,
    /// Slots of the asked node that were being moved.
    open_slots: Vec<String>,
    /// Keys that it held.
    keys: u64,
    /// Whether the link to its master was up; absent on a master.
    link_up: Option<bool>,
}

const SERVERS: [&str; 5] = [
    "redis-6.0",
    "redis-7.0",
    "redis-8.0",
    "valkey-8.0",
    "valkey-9.1",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// One state of one server.
struct State {
    name: String,
    base: PathBuf,
    truth: Truth,
}

impl State {
    fn text(&self, kind: &str) -> Option<String> {
        std::fs::read_to_string(self.base.with_extension(kind)).ok()
    }
}

fn states(server: &str) -> Vec<State> {
    let mut states = Vec::new();
    for entry in std::fs::read_dir(folder().join(server)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "json") {
            let truth = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let name = format!("{server}/{}", path.file_stem().unwrap().to_string_lossy());
            let base = path.with_extension("");
            states.push(State { name, base, truth });
        }
    }
    states.sort_by(|one, other| one.name.cmp(&other.name));
    states
}

fn all() -> Vec<State> {
    SERVERS.iter().flat_map(|server| states(server)).collect()
}

#[test]
fn every_server_has_every_state() {
    for server in SERVERS {
        let found: Vec<String> = states(server).into_iter().map(|state| state.name).collect();
        let wanted = make::STATES.map(|state| format!("{server}/{state}"));
        assert_eq!(found, wanted);
    }
}

#[test]
fn cluster_nodes_of_every_version_is_read_whole() {
    for state in all() {
        let text = state.text("nodes").unwrap();
        let table: NodeTable = text.parse().unwrap();
        // Printed back it is the same text, so no column of no line was lost.
        assert_eq!(table.to_string(), text, "{}", state.name);
        check(&state, &table, state.truth.handshakes);
        check_flags(&state, &table);
    }
}

fn check_flags(state: &State, table: &NodeTable) {
    for node in table.settled() {
        let id = node.id.to_string();
        let flag = state.truth.flags.get(&id).map_or("", String::as_str);
        let at = format!("{}: {id} {}", state.name, node.address);
        assert_eq!(node.flags.noaddr(), flag == "noaddr", "{at}");
        assert_eq!(node.flags.doubtful(), !flag.is_empty(), "{at}");
        // One without an address may have failed before.
        if flag != "noaddr" {
            assert_eq!(node.flags.fail(), flag == "fail", "{at}");
            assert_eq!(node.flags.pfail(), flag == "fail?", "{at}");
        }
    }
}

fn check(state: &State, table: &NodeTable, handshakes: usize) {
    let (name, truth) = (&state.name, &state.truth);
    let lines = 1 + truth.others.len() + handshakes;
    assert_eq!(table.nodes.len(), lines, "{name}");
    assert_eq!(table.settled().count() + handshakes, lines, "{name}");
    let me = table.myself().unwrap();
    assert_eq!(me.id.to_string(), truth.myself, "{name}");
    let others: BTreeSet<String> = table.others().map(|node| node.id.to_string()).collect();
    assert_eq!(others, truth.others, "{name}");
    for node in table.settled() {
        let id = node.id.to_string();
        let at = format!("{name}: {id}");
        let slots = truth.slots.get(&id).cloned().unwrap_or_default();
        assert_eq!(node.slots.ranges(), slots, "{at}");
        let master = node.master.map(|id| id.to_string());
        assert_eq!(master.as_ref(), truth.replica_of.get(&id), "{at}");
        assert_eq!(node.flags.replica(), master.is_some(), "{at}");
        assert_eq!(node.flags.master(), master.is_none(), "{at}");
        // IPv6 without brackets, as Redis writes it.
        let socket = node.socket();
        let socket = socket.map(|socket| format!("{}:{}", socket.ip(), socket.port()));
        assert_eq!(socket.as_ref(), truth.addresses.get(&id), "{at}");
        let hostname = node.address.hostname().map(str::to_owned);
        assert_eq!(hostname.as_ref(), truth.hostnames.get(&id), "{at}");
    }
    assert_eq!(me.open_slots, truth.open_slots, "{name}");
}

#[test]
fn nodes_conf_of_every_version_is_read_whole() {
    for state in all() {
        let text = state.text("conf").unwrap();
        let conf: NodesConf = text.parse().unwrap();
        assert_eq!(conf.to_string(), text, "{}", state.name);
        // Nodes of unknown ID are not written.
        check(&state, &conf.table, 0);
        let highest = conf.table.nodes.iter().map(|node| node.epoch).max();
        assert!(Some(conf.current_epoch) >= highest, "{}", state.name);
    }
}

#[test]
fn every_prefix_of_a_nodes_conf_is_torn() {
    for state in all() {
        let text = state.text("conf").unwrap();
        for end in 0..text.len() {
            let cut = text[..end].parse::<NodesConf>();
            assert_eq!(cut, Err(TableError::NoVars), "{}: {end} bytes", state.name);
        }
    }
}

/// The version that the folder is called after.
fn is_of(facts: &ServerFacts, server: &str) -> bool {
    facts
        .version
        .to_string()
        .replace(' ', "-")
        .starts_with(&format!("{server}."))
}

fn check_facts(state: &State, facts: &ServerFacts) {
    let (name, truth) = (&state.name, &state.truth);
    let (server, _) = name.split_once('/').unwrap();
    assert!(is_of(facts, server), "{name}: {}", facts.version);
    assert_eq!(facts.run_id.len(), 40, "{name}");
    assert!(facts.cluster_enabled && !facts.loading, "{name}");
    assert_eq!(facts.keys, truth.keys, "{name}");
    let replica = facts.replica.as_ref();
    assert_eq!(
        replica.map(|replica| replica.link_up),
        truth.link_up,
        "{name}"
    );
    if let Some(replica) = replica {
        let master = &truth.replica_of[&truth.myself];
        let dials = format!("{}:{}", replica.master_host, replica.master_port);
        assert_eq!(truth.addresses.get(master), Some(&dials), "{name}");
        assert!(replica.applied_offset > 0 && !replica.syncing, "{name}");
        assert!(
            replica.read_offset >= replica.applied_offset || server == "redis-6.0",
            "{name}"
        );
    } else if truth.keys > 0 {
        assert!(facts.offset > 0, "{name}");
    }
}

#[test]
fn info_of_every_version_is_read() {
    let mut read = 0;
    for state in all() {
        let Some(text) = state.text("info") else {
            continue;
        };
        let Ok(info) = text.parse::<Info>();
        check_facts(&state, &ServerFacts::from(&info));
        read += 1;
    }
    assert_eq!(read, SERVERS.len() * make::WITH_ANSWERS.len());
}

/// The agent's own reading, from a server that says what the real one said.
#[tokio::test]
async fn the_own_redis_of_every_version_is_understood() {
    let mut read = 0;
    for state in all() {
        let Ok(answers) = std::fs::read(state.base.with_extension("answers")) else {
            continue;
        };
        let OwnRedis::Up(own) = replay::own_redis(answers).await else {
            panic!("{}: not understood", state.name);
        };
        check(&state, &own.table, state.truth.handshakes);
        check_flags(&state, &own.table);
        check_facts(&state, &own.server);
        let config = own.config.unwrap();
        assert_eq!(config.node_timeout_ms, Some(2000), "{}", state.name);
        assert_eq!(config.replica_no_failover, Some(false), "{}", state.name);
        let modern = own.server.version.has_slot_ranges();
        assert_eq!(config.announce_hostname.is_some(), modern, "{}", state.name);
        assert!(config.announce_ip.is_some(), "{}", state.name);
        let in_cluster = !state.truth.others.is_empty();
        assert_eq!(own.state_ok, in_cluster, "{}", state.name);
        assert_eq!(own.current_epoch > 0, in_cluster, "{}", state.name);
        assert_eq!(own.copies.map(|copies| copies.delay_s), Some(5));
        // Offsets of all, from CLUSTER SHARDS; 6.0 has none.
        let nodes = if modern { own.table.nodes.len() } else { 0 };
        assert_eq!(own.offsets.len(), nodes, "{}", state.name);
        read += 1;
    }
    assert_eq!(read, SERVERS.len() * make::WITH_ANSWERS.len());
}
