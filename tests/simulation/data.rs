//! Whose data may be dropped.

use super::fake::{Keys, LinkState};
use super::gate::Gate;
use super::world::World;

/// Looks at what this pod has dropped for a copy of its master's.
pub(crate) fn note_drops(world: &mut World, pod: usize) {
    let it = &mut world.pods[pod];
    let Some(node) = &mut it.node else {
        return;
    };
    // A whole copy makes good for the volume: what it lacks from then on its master lacked.
    let link = node.replication.map(|link| link.state);
    it.disk.lost &= !matches!(link, Some(LinkState::Up { .. }));
    let dropped = std::mem::take(&mut node.dropped);
    if dropped == 0 {
        return;
    }
    let master = node.me().master;
    let from = node.replication.and_then(|link| match link.state {
        LinkState::Copying { from, .. } | LinkState::Up { from } => Some(from.pod),
        LinkState::Down { .. } => None,
    });
    let all = world.pods.iter();
    let kept: Keys = all
        .map(|pod| pod.node.as_ref().map_or(pod.disk.keys, |node| node.keys))
        .fold(0, |all, keys| all | keys);
    let lost = dropped & !kept;
    let source = from.and_then(|from| world.pods[from].node.as_ref());
    let mistaken = source.is_some_and(|source| Some(source.id) != master);
    world.judge.known.mistaken += u64::from(mistaken);
    world.judge.lost_by_redis += lost.count_ones();
    blame(world, pod, from, lost, mistaken);
}

/// Keys that nobody has any more since this pod made a copy. Redis's replication is asynchronous, so a
/// former master loses its last writes; but behind a gate nobody copies the emptiness of its own master,
/// who had lost what it had, or another node's data in the place of the last of its own. (Where more goes
/// wrong at once than is promised to heal, `init` may have had nobody to ask.)
fn blame(world: &mut World, pod: usize, from: Option<usize>, lost: Keys, mistaken: bool) {
    let Some(from) = from.filter(|_| lost != 0 && world.layout.gate != Gate::None) else {
        return;
    };
    let (p, q) = (&world.pods[pod], &world.pods[from]);
    let empty = q.disk.lost && q.node.as_ref().is_some_and(|node| node.keys == 0);
    // Copies begin at once here; the manifests have Redis wait a second, in which a sidecar is there (S5, what is left).
    let begun = p.node.as_ref().map_or(0, |node| node.copy_begun);
    let begun = begun - (world.wall(pod) - world.now);
    let before_its_agent = q.agent.as_ref().is_none_or(|agent| agent.started >= begun);
    let mistaken = mistaken && !(before_its_agent && world.layout.gate == Gate::Init);
    // Who is paused holds nothing back.
    let paused = world.people.paused_until.get(&from);
    let paused = paused.is_some_and(|until| *until >= begun);
    let promised =
        world.heals && !paused && !world.judge.merge_planted && !world.judge.clone_planted;
    if (empty || mistaken) && p.cluster == q.cluster && promised {
        let (name, of) = (world.pod_name(pod), world.pod_name(from));
        let had = if mistaken {
            "the data"
        } else {
            "the emptiness"
        };
        let what = format!("data: {name} has copied {had} of {of}, and nobody has its keys");
        world.judge.fail(what);
    }
}
