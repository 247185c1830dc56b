//! What must hold before any rule may change the topology.

use super::plan::Plan;
use super::scene::Scene;
use crate::model::observation::Volume;
use crate::model::reason::ReasonCode;

/// Proof that the guard let this round pass. Only [`rule`] makes one.
pub struct Cleared(());

/// Holds everything back while an ID that was seen to be foreign is in the own table (S9), while
/// what the volume says cannot be read or is another cluster's, or while the own Redis is not in full service.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) -> Option<Cleared> {
    let table = scene.table()?;
    let mut foreign = scene.memory.foreign.iter();
    let in_table = foreign.find(|(id, _)| table.get(id).is_some());
    if let Some((id, (cluster, socket))) = in_table {
        plan.block(
            ReasonCode::ForeignNode,
            format!(
                "node {id} at {socket} belongs to the cluster {cluster} and stands in this node's \
                 table; nothing is written until it is gone"
            ),
        );
        return None;
    }
    if let Volume::Unreadable(why) = &scene.seen.volume {
        plan.warn(
            ReasonCode::VolumeUnwritable,
            format!("the note on the volume cannot be read, so nothing is changed: {why}"),
        );
        return None;
    }
    if let Some(other) = scene.marker_of_another() {
        plan.block(
            ReasonCode::VolumeOfAnotherCluster,
            format!(
                "the volume is marked as a member of {other}, and this pod belongs to {}; nothing is \
                 changed until a person decides which is right",
                scene.policy.cluster
            ),
        );
        return None;
    }
    Some(Cleared(()))
}
