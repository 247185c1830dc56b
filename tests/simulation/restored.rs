//! What must hold when an agent puts a copy of nodes.conf back.

use super::world::World;
use redis_sidecar::model::node_table::NodesConf;

/// A Redis that has run for less may have been started since it was looked at.
const RECENTLY_MS: i64 = 1100;

/// Redis is down, and its node answers at no other pod that could be asked (S8).
pub(crate) fn s8_restore(world: &World, pod: usize, conf: &NodesConf) -> Option<String> {
    let Some(me) = conf.table.myself() else {
        return Some("S8: a copy of nobody".to_owned());
    };
    let long = |node: &super::fake::Node, of: usize| world.wall(of) - node.booted > RECENTLY_MS;
    for (other, p) in world.pods.iter().enumerate() {
        let Some(node) = p.node.as_ref().filter(|node| long(node, other)) else {
            continue;
        };
        if other == pod {
            return Some("S8: its Redis runs".to_owned());
        }
        let answers =
            world.has_reached(pod, other) && p.redis_frozen_until + RECENTLY_MS < world.now;
        let zone = &world.zones[world.pods[pod].cluster];
        let named = zone.named_for(p.ordinal, RECENTLY_MS, world.now);
        if node.id == me.id && p.cluster == world.pods[pod].cluster && answers && named {
            return Some(format!("S8: its node runs in {}", world.pod_name(other)));
        }
    }
    None
}
