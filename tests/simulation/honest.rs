//! What must hold at the end of a history that leaves something for a person: it is said, and nothing is
//! written any more.

use super::fake::{LinkState, Node};
use super::faults::start_pod;
use super::history::{WHOLE_WITHIN_MS, tell_tables};
use super::owners::cut_off;
use super::whole::{ids_of, not_whole, wrong_part};
use super::world::{Pod, World};
use redis_sidecar::model::decision::Decision;
use redis_sidecar::model::reason::{Reason, ReasonCode};

fn decision(p: &Pod) -> Option<&Decision> {
    p.agent.as_ref()?.decision.as_ref()
}

/// Creates the pods that `OrderedReady` has not. If they are all that the cluster lacked, or the pod that was
/// waited for, then that one has waited for them.
pub(crate) fn create_the_rest(world: &mut World) -> Result<(), String> {
    let Some(cluster) = world.in_order else {
        return Ok(());
    };
    if super::known::ordered_or_not(world, cluster) {
        return Ok(());
    }
    world.in_order = None;
    let waited_for = world.first_unready;
    tell_tables(world);
    world.tell(|_| "= those that nobody was ready for are created".to_owned());
    for pod in 0..world.pods.len() {
        if world.pods[pod].cluster == cluster && world.pods[pod].ip.is_none() {
            let ip = world.fresh_address();
            start_pod(world, pod, ip);
        }
    }
    let until = world.now + WHOLE_WITHIN_MS;
    world.run(until)?;
    let ready = |pod: usize| decision(&world.pods[pod]).is_some_and(|decision| decision.ready);
    match waited_for {
        _ if not_whole(world, cluster).is_none() => {
            Err("only OrderedReady has kept a cluster from being whole".to_owned())
        }
        Some(pod) if ready(pod) && !world.judge.clone_planted => {
            let name = world.pod_name(pod);
            Err(format!(
                "{name} was waited for, and waited for pods after it"
            ))
        }
        _ => Ok(()),
    }
}

/// What nobody says, or somebody says wrongly.
pub(crate) fn dishonest(world: &World) -> Option<String> {
    (0..world.layout.clusters).find_map(|cluster| {
        let lacks = not_whole(world, cluster);
        let pods = (0..world.pods.len()).filter(|pod| world.pods[*pod].cluster == cluster);
        let pods: Vec<usize> = pods.collect();
        // Of a cluster of one pod nobody can tell that it has lost its nodes.conf.
        let lacks = lacks.filter(|_| world.layout.shape.expected_pods() > 1);
        pods.iter()
            .find_map(|pod| wrongly_ready(world, *pod))
            .or_else(|| unsaid(world, &pods, lacks?))
    })
}

/// A pod is ready only if its Redis does its part: as a master in its own right, or as a linked replica.
/// (What other shards lack is said, and takes nobody's readiness.)
fn wrongly_ready(world: &World, pod: usize) -> Option<String> {
    let p = &world.pods[pod];
    // Where links come and go all the time, what was seen last is no longer so. And whoever OrderedReady waits
    // for is ready for the sake of those that are not created.
    let created = world
        .pods
        .iter()
        .all(|q| q.cluster != p.cluster || q.ip.is_some());
    let waited_for = world.in_order == Some(p.cluster) && !created;
    let judged = !world.judge.clone_planted && !waited_for;
    decision(p).filter(|decision| decision.ready && judged)?;
    let serves = p.node.as_ref().is_some_and(|node| {
        let part = wrong_part(pod, node, &ids_of(world, p.cluster)).is_none();
        part && !node.loading(world.wall(pod)) && !cut_off(world, pod, node)
    });
    (!serves).then(|| format!("{} says that it is ready, and is not", world.pod_name(pod)))
}

/// Somebody says that something is wrong; who lacks slots, everybody.
fn unsaid(world: &World, pods: &[usize], lacks: String) -> Option<String> {
    let nodes = || pods.iter().filter_map(|pod| world.pods[*pod].node.as_ref());
    // That is so in some shapes whatever happens.
    let tells = |reason: &Reason| reason.code != ReasonCode::TooFewMasters;
    let deciding = pods
        .iter()
        .filter(|pod| decision(&world.pods[**pod]).is_some());
    let deciding: Vec<usize> = deciding.copied().collect();
    let says_nothing = |pod: &&usize| {
        let reasons = decision(&world.pods[**pod]).map(|decision| &decision.reasons);
        !reasons.into_iter().flatten().any(tells)
    };
    let owned = |node: &Node| if node.me().replica { 0 } else { node.me().segs };
    let owned = nodes().fold(0, |all, node| all | owned(node));
    let lost = |seg: &u32| owned & seg == 0;
    // A node that went back to before it had its slots is their owner to all others.
    let sees = |pod: usize, seg: u32| {
        let owner = world.pods[pod]
            .node
            .as_ref()
            .and_then(|node| node.owner(seg));
        owner.is_some_and(|rec| !(rec.fail || rec.pfail) && rec.link.is_some())
    };
    let segs = (0..world.layout.shape.masters).map(|index| 1 << index);
    let lost: Vec<u32> = segs.filter(lost).collect();
    let silent: Vec<&usize> = deciding.iter().filter(says_nothing).collect();
    let mut ignorant = silent
        .iter()
        .filter(|pod| !lost.iter().all(|seg| sees(***pod, *seg)));
    if let Some(pod) = ignorant.next() {
        let name = world.pod_name(**pod);
        return Some(format!("slots are lost, and {name} says nothing of it"));
    }
    // What `init` has said is its pod's status until it is started again.
    let in_init = pods.iter().any(|pod| world.is_init(*pod));
    (silent.len() == deciding.len() && !in_init)
        .then(|| format!("nobody says that it is not whole: {lacks}"))
}

/// For so long an agent may not have seen that its link has gone.
const SEEN_WITHIN_MS: i64 = 3000;

/// Whether the master of this pod's node holds whole copies back, which others end. (Where this one has the data
/// that its master has lost, a person does.)
fn waits_for_a_copy(world: &World, pod: usize) -> bool {
    let Some(node) = &world.pods[pod].node else {
        return false;
    };
    let mut pods = world.pods.iter();
    pods.any(|p| {
        let Some(master) = &p.node else { return false };
        let mut reasons = decision(p)
            .into_iter()
            .flat_map(|decision| &decision.reasons);
        let missing = reasons.any(|reason| reason.code == ReasonCode::DataMissing);
        let heir = missing && master.keys == 0 && node.keys != 0;
        Some(master.id) == node.me().master && master.holds_copies() && !heir
    })
}

/// Whatever DNS lacks: a replica whose master is there and owns slots is not ready without its link to it.
pub(crate) fn invariant_ready_with_a_link(world: &mut World, pod: usize) {
    let p = &world.pods[pod];
    let lacks = p.node.as_ref().is_some_and(|node| {
        let up = node
            .replication
            .is_some_and(|link| matches!(link.state, LinkState::Up { .. }));
        let master = node.me().master.filter(|_| !up);
        let mut pods = world.pods.iter().enumerate();
        let there = pods.find(|(_, p)| p.node.as_ref().is_some_and(|n| Some(n.id) == master));
        there.is_some_and(|(at, q)| {
            let knows = master.and_then(|id| node.recs.get(&id)).is_some_and(|rec| {
                rec.ip == q.ip
                    && rec.segs != 0
                    && !(rec.fail || rec.pfail)
                    && rec.link.is_some_and(|l| l.up)
            });
            let owns = q
                .node
                .as_ref()
                .is_some_and(|n| !n.me().replica && n.me().segs != 0);
            knows && owns && world.reaches(pod, at)
        })
    });
    let excused = waits_for_a_copy(world, pod);
    let ready = decision(p).is_some_and(|decision| decision.ready);
    if !(lacks && ready) || excused || world.judge.clone_planted || world.judge.merge_planted {
        world.judge.unlinked.remove(&pod);
        return;
    }
    let since = *world.judge.unlinked.entry(pod).or_insert(world.now);
    if world.now - since > SEEN_WITHIN_MS {
        let name = world.pod_name(pod);
        world.judge.blame(format!(
            "{name} is ready without the link to its master, who is there"
        ));
    }
}
