//! A master whose data is gone while its nodes.conf is there: started so, it would have its replica copy
//! nothing. Whether that is so, and who has the data.

use super::{facts, fresh, newest_good_copy, of_ours, slots_left};
use crate::decide::scene::{Scene, verify};
use crate::decide::start;
use crate::model::kept_conf::DataOnVolume;
use crate::model::node_table::{NodeEntry, NodesConf};
use crate::model::observation::{NodesFile, OwnRedis, Silence};

/// Whether this node's Redis is down and has left no data, though it owned slots.
pub(crate) fn data_is_gone(scene: &Scene<'_>) -> bool {
    let conf = match &scene.seen.file {
        NodesFile::Read(conf) => Some(conf),
        NodesFile::Missing | NodesFile::Empty | NodesFile::Torn(_) => newest_good_copy(scene),
        NodesFile::Unreadable(_) => None,
    };
    let Some(conf) = conf else { return false };
    let down = matches!(scene.seen.own, OwnRedis::Silent(Silence::Refused(_)));
    let owner = conf.table.myself().is_some_and(|me| !me.slots.is_empty());
    down && owner && scene.seen.kept.data == DataOnVolume::None
}

/// A master that starts without its data has its replica drop the data too, unless that replica has been
/// elected by then.
pub(super) fn would_empty_its_replica(scene: &Scene<'_>, conf: &NodesConf) -> Option<String> {
    let me = conf.table.myself()?;
    let replica = conf
        .table
        .others()
        .find(|node| node.master == Some(me.id))?;
    let left = slots_left(scene, &conf.table, me);
    (scene.seen.kept.data == DataOnVolume::None && !left.is_empty()).then(|| {
        format!(
            "nodes.conf is there and the data is gone: waiting until {} has been elected for slots {left}",
            scene.name_of(&replica.id)
        )
    })
}

/// A replica that would copy the emptiness of this node.
pub(super) enum Left {
    /// It has keys.
    Has(String),
    /// It exists, and nobody knows.
    Silent(String),
}

/// Who of this node's replicas has the data, or may have it. One that Kubernetes perhaps creates only when
/// this pod is ready would be waited for in vain.
pub(super) fn last_with_data(scene: &Scene<'_>, conf: &NodesConf) -> Option<Left> {
    let me = conf.table.myself()?;
    let up = || of_ours(scene, &conf.table);
    let holds = up().find(|facts| facts.master == Some(me.id) && facts.keys > 0);
    if let Some(holds) = holds {
        return Some(Left::Has(scene.name_of(&holds.id)));
    }
    let mut mine = conf
        .table
        .others()
        .filter(|node| node.master == Some(me.id) && !up().any(|facts| facts.id == node.id));
    // Its pod may be another node now.
    let exists = |node: &&NodeEntry| {
        let ordinal = scene.ordinal_of(&node.id);
        let gone = |k: u32| scene.waits_for_us(k) || scene.peers.contains_key(&k);
        !ordinal.is_some_and(gone)
    };
    let silent = mine.find(exists)?;
    Some(Left::Silent(scene.name_of(&silent.id)))
}

/// A replica of this pod's former node that has keys.
pub(super) fn heir_with_data(scene: &Scene<'_>) -> Option<String> {
    let owners = start::owners(scene.memory);
    // The node ID is proof enough: its agent may be away.
    let mut heirs = fresh(scene).filter(|(_, answer)| {
        facts(answer).is_some_and(|facts| start::has_data_of(facts, &owners))
    });
    let (socket, answer) = heirs.next()?;
    let verified = verify(scene.policy, *socket, answer);
    Some(verified.map_or_else(
        |_| format!("the Redis at {socket}"),
        |peer| peer.claim.pod.clone(),
    ))
}
