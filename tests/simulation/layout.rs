//! What a history's clusters are like, as drawn from its seed.

use super::gate::Gate;
use redis_sidecar::model::identity::Shape;

/// What a history's clusters look like.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) shape: Shape,
    /// Pods of each cluster beyond its first shape.
    pub(crate) beyond: u32,
    pub(crate) clusters: usize,
    pub(crate) node_timeout: i64,
    pub(crate) inotify: bool,
    /// `cluster-allow-replica-migration`
    pub(crate) migrates: bool,
    /// Where pods are stopped on purpose, all are, one by one.
    pub(crate) rolls: bool,
    /// People pause sidecars.
    pub(crate) pauses: bool,
    /// Faults last for long, and much time may pass between them.
    pub(crate) long: bool,
    pub(crate) gate: Gate,
    /// Replication to another cluster is refused (a `masterauth` of its own).
    pub(crate) own_passwords: bool,
    /// As in the agents' policy.
    pub(crate) few: u32,
}

pub(crate) fn cluster_name(cluster: usize) -> &'static str {
    ["default/redis-app", "blue/redis-app"][cluster]
}
