//! Every node announces its pod's own address and names. Without it a node whose address changed
//! keeps showing the old one in its own table, and sends clients there.
//!
//! The hostname waits where it would do harm: Redis 7.0 sends it to every node in packets that Redis
//! 6 throws away, so that in the middle of an upgrade the node would be cut off.

use super::guard;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::decision::Action;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{NodesFile, OwnRedis};
use std::time::Duration;

/// Redis may refuse it (ACL): not more often than this.
const GAP: Duration = Duration::from_secs(5);

/// Sets what differs, in one round; before 7.0 Redis takes no CONFIG SET while it is loading.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    // A Redis that loads shows no table; who was foreign in it before counts as there still (S9).
    let loading = matches!(scene.seen.own, OwnRedis::Loading(..));
    let may_be_there = loading && !scene.memory.foreign.is_empty();
    if may_be_there || guard::foreign_in_table(scene).is_some() {
        return;
    }
    let (server, config) = match &scene.seen.own {
        OwnRedis::Up(own) => (&own.server, &own.config),
        OwnRedis::Loading(server, config, _) => (server, config),
        OwnRedis::Silent(_) => return,
    };
    if loading && !server.version.takes_config_while_loading() {
        return;
    }
    let Some(config) = config else { return };
    let policy = scene.policy;
    let wanted = [
        (
            "cluster-announce-ip",
            &config.announce_ip,
            policy.pod_ip.to_string(),
        ),
        (
            "cluster-announce-hostname",
            &config.announce_hostname,
            policy.hostname.clone(),
        ),
        (
            "cluster-announce-human-nodename",
            &config.announce_nodename,
            policy.me.to_string(),
        ),
    ];
    let held = server.version.hostname_reaches_all()
        && config.announce_hostname.as_deref() == Some("")
        && somebody_may_not_understand(scene, plan);
    for (name, present, value) in wanted {
        // `None`: a server that does not know the name.
        let Some(present) = present else { continue };
        if *present != value && !(held && name == "cluster-announce-hostname") {
            let evidence = format!("it announces {present:?}");
            // A restarted Redis has lost what was set: it is told at once.
            let key = format!("announce {name} {}", server.run_id);
            plan.act(key, GAP, Action::Announce { name, value }, evidence);
        }
    }
}

/// Whether a node in the own table may be of before 7.0: it has announced no hostname, and has not
/// been seen to run a later one. Those are asked now and then.
fn somebody_may_not_understand(scene: &Scene<'_>, plan: &mut Plan) -> bool {
    let Some(table) = present_table(scene) else {
        return true;
    };
    let unknown: Vec<&NodeEntry> = table
        .others()
        .filter(|node| node.address.hostname().is_none() && !scene.memory.modern.contains(&node.id))
        .collect();
    for socket in unknown.iter().filter_map(|node| node.socket()) {
        plan.ask(socket, GAP);
    }
    !unknown.is_empty()
}

/// The own table, from nodes.conf while Redis is loading.
fn present_table<'a>(scene: &Scene<'a>) -> Option<&'a NodeTable> {
    match &scene.seen.file {
        _ if scene.own.is_some() => scene.table(),
        NodesFile::Read(file) => Some(&file.table),
        NodesFile::Missing | NodesFile::Empty | NodesFile::Unreadable(_) | NodesFile::Torn(_) => {
            None
        }
    }
}
