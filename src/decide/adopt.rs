//! A volume whose marker names another cluster: a restored or renamed release brings its cluster
//! along, a volume attached to the wrong pod brings a piece of somebody else's.

use super::scene::Scene;
use crate::model::node_table::NodeEntry;

/// The other cluster's name, while it is not proved that all of that cluster is here now, under
/// this release's pods.
pub fn marker_in_doubt<'a>(scene: &Scene<'a>) -> Option<&'a str> {
    let other = scene.marker_of_another()?;
    (!moved_here_whole(scene)).then_some(other)
}

/// Every node of the own table that is not gone, and every slot owner, is this pod's or a verified
/// pod of this cluster (S1). A node at another address than the verified one, not even suspected, may be
/// a second one with that ID: the original of a cloned volume (S10), dialled or not yet.
fn moved_here_whole(scene: &Scene<'_>) -> bool {
    let (Some(table), Some(me)) = (scene.table(), scene.me) else {
        return false;
    };
    let has_part = !me.slots.is_empty() || me.flags.replica();
    let gone = |node: &NodeEntry| node.flags.fail() || node.flags.noaddr();
    let mut here = table
        .others()
        .filter(|node| !gone(node) || !node.slots.is_empty())
        .peekable();
    let somebody = here.peek().is_some() || scene.policy.expected() == 1;
    let verified = |node: &NodeEntry| {
        let mut acquainted = scene.acquainted.values();
        let peer = acquainted.find(|peer| peer.facts.id == node.id);
        peer.is_some_and(|peer| node.flags.doubtful() || node.socket() == Some(peer.socket))
    };
    has_part && somebody && table.covers_all_slots() && here.all(verified)
}
