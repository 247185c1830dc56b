//! Reads the own Redis in one pipelined exchange. While it is loading, only INFO and CONFIG
//! answer; the other answers are errors then, and are not looked at. No judgement, no writes.

use crate::model::info::{Info, ServerFacts};
use crate::model::node_table::NodeTable;
use crate::model::observation::{
    ClusterConfig, CopyConfig, OwnFacts, OwnRedis, PeerFacts, PeerRedis, Silence,
};
use crate::redis_link::{LinkError, Read, ReadLink, ServerErrorText, server_error, text};
use redis::Value;
use std::collections::BTreeMap;

const READS: [Read; 5] = [
    Read::Info,
    Read::ConfigGetCluster,
    Read::ClusterNodes,
    Read::ClusterInfo,
    Read::ConfigGetCopies,
];

/// Asks the own Redis for everything a round needs. `with_offsets` adds CLUSTER SHARDS, for the
/// lag of a replica; a server that lacks it (before 7.0) answers an error, which is passed over.
pub async fn read(link: &mut ReadLink, with_offsets: bool) -> OwnRedis {
    let mut reads = READS.to_vec();
    if with_offsets {
        reads.push(Read::ClusterShards);
    }
    match link.ask(&reads).await {
        Ok(answers) => understand(&answers).unwrap_or_else(OwnRedis::Silent),
        Err(error) => OwnRedis::Silent(silence(error)),
    }
}

/// Asks a peer's Redis who it is and what it holds.
pub async fn read_peer(link: &mut ReadLink) -> PeerRedis {
    let answers = match link.ask(&[Read::Info, Read::ClusterNodes]).await {
        Ok(answers) => answers,
        Err(error) => return PeerRedis::Silent(silence(error)),
    };
    understand_peer(&answers).map_or_else(PeerRedis::Silent, PeerRedis::Up)
}

/// What the own Redis's answers say, in the order in which they were asked for. An error is why they
/// say nothing.
pub fn understand(answers: &[Value]) -> Result<OwnRedis, Silence> {
    let mut answers = answers.iter();
    let mut next = || answers.next().unwrap_or(&Value::Nil);
    let server = server_facts(next())?;
    let config = cluster_config(next());
    if server.loading {
        let copies = answers.find_map(copy_config);
        return Ok(OwnRedis::Loading(server, config, copies));
    }
    if !server.cluster_enabled {
        return Err(Silence::NoCluster);
    }
    let table = node_table(next())?;
    let Ok(cluster) = words(next())?.parse::<Info>();
    let number = |key| {
        cluster
            .get(key)
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    };
    let state_ok = cluster.get("cluster_state") == Some("ok");
    let current_epoch = number("cluster_current_epoch");
    let (mut node_offsets, mut copies) = (BTreeMap::new(), None);
    for more in answers {
        match copy_config(more) {
            None => node_offsets.extend(offsets(more)),
            found => copies = found,
        }
    }
    Ok(OwnRedis::Up(Box::new(OwnFacts {
        server,
        config,
        table,
        state_ok,
        current_epoch,
        offsets: node_offsets,
        copies,
    })))
}

/// What a peer's answers to INFO and CLUSTER NODES say.
pub fn understand_peer(answers: &[Value]) -> Result<PeerFacts, Silence> {
    let mut answers = answers.iter();
    let mut next = || answers.next().unwrap_or(&Value::Nil);
    let server = server_facts(next())?;
    if server.loading {
        return Err(Silence::Garbled("it is loading its data".to_owned()));
    }
    let table = node_table(next())?;
    let me = table
        .myself()
        .ok_or_else(|| Silence::Garbled("a table without itself".to_owned()))?;
    Ok(PeerFacts {
        id: me.id,
        version: server.version,
        run_id: server.run_id.clone(),
        bus_port: me
            .address
            .bus_port
            .unwrap_or(me.address.port.saturating_add(10000)),
        master: me.master,
        slots: me.slots.clone(),
        epoch: me.epoch,
        knows: table.others().map(|node| node.id).collect(),
        hears: table
            .others()
            .filter(|node| node.healthy())
            .map(|node| node.id)
            .collect(),
        owners: table
            .slot_owners()
            .map(|node| (node.id, node.epoch))
            .collect(),
        keys: server.keys,
        offset: match &server.replica {
            Some(replica) => replica.applied_offset,
            None => server.offset,
        },
        replica: server.replica,
    })
}

fn server_facts(answer: &Value) -> Result<ServerFacts, Silence> {
    let Ok(info) = words(answer)?.parse::<Info>();
    Ok(ServerFacts::from(&info))
}

fn node_table(answer: &Value) -> Result<NodeTable, Silence> {
    let text = words(answer)?;
    text.parse()
        .map_err(|error| Silence::Garbled(format!("CLUSTER NODES {error}")))
}

fn words(answer: &Value) -> Result<String, Silence> {
    if let Some(error) = server_error(answer) {
        return Err(refusal(error));
    }
    text(answer).ok_or_else(|| Silence::Garbled("no text".to_owned()))
}

fn refusal(error: ServerErrorText) -> Silence {
    match error.code() {
        "NOPERM" => Silence::Denied(error.0),
        "NOAUTH" | "WRONGPASS" => Silence::Auth(error.0),
        _ if error.0.contains("cluster support disabled") => Silence::NoCluster,
        _ => Silence::Garbled(error.0),
    }
}

fn silence(error: LinkError) -> Silence {
    match error {
        LinkError::TimedOut { .. } => Silence::TimedOut,
        LinkError::Auth(words) => Silence::Auth(words),
        LinkError::Refused(cause) => Silence::Refused(cause),
        LinkError::Unreachable(cause) | LinkError::Broken(cause) => Silence::Unreachable(cause),
    }
}

/// `None` where the user may not run CONFIG, or it was renamed away.
fn cluster_config(answer: &Value) -> Option<ClusterConfig> {
    let pairs = pairs(answer)?;
    let get = |name: &str| pairs.get(name).cloned();
    Some(ClusterConfig {
        announce_ip: get("cluster-announce-ip"),
        announce_hostname: get("cluster-announce-hostname"),
        announce_nodename: get("cluster-announce-human-nodename"),
        node_timeout_ms: get("cluster-node-timeout").and_then(|value| value.parse().ok()),
        replica_no_failover: get("cluster-replica-no-failover").map(|value| value == "yes"),
    })
}

/// `None` where the answer is not that of `CONFIG GET repl-diskless-sync*`.
fn copy_config(answer: &Value) -> Option<CopyConfig> {
    let pairs = pairs(answer)?;
    let number = |name: &str| pairs.get(name).and_then(|value| value.parse().ok());
    Some(CopyConfig {
        diskless: pairs.get("repl-diskless-sync")? == "yes",
        delay_s: number("repl-diskless-sync-delay")?,
        max_replicas: number("repl-diskless-sync-max-replicas"),
    })
}

/// Node ID to `replication-offset`, from the nested arrays of CLUSTER SHARDS.
fn offsets(answer: &Value) -> BTreeMap<crate::model::identity::NodeId, u64> {
    let mut offsets = BTreeMap::new();
    let shards = items(answer);
    for shard in shards {
        let parts = items(shard);
        let nodes = parts
            .chunks_exact(2)
            .find(|pair| text(&pair[0]).as_deref() == Some("nodes"));
        for node in nodes.map(|pair| items(&pair[1])).unwrap_or_default() {
            let Some(node) = pairs(node) else { continue };
            let id = node.get("id").and_then(|id| id.parse().ok());
            let offset = node
                .get("replication-offset")
                .and_then(|offset| offset.parse().ok());
            if let (Some(id), Some(offset)) = (id, offset) {
                offsets.insert(id, offset);
            }
        }
    }
    offsets
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// A flat array of names and values; a value that is no text is left out.
fn pairs(value: &Value) -> Option<BTreeMap<String, String>> {
    let Value::Array(items) = value else {
        return None;
    };
    let pairs = items
        .chunks_exact(2)
        .filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?)));
    Some(pairs.collect())
}
