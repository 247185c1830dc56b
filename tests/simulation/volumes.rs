//! What goes wrong with a volume: it is lost, copied, filled, or an older one takes its place; or what is on it
//! is damaged.

use super::fake::volume::{Damage, Disk};
use super::faults::{Undo, any_pod, end_pod, start_pod, start_pod_with_redis_after};
use super::world::{Event, World};

/// The first fault of a history that is about a loss.
pub(crate) fn first_loss(world: &mut World) {
    match world.rng.u8(0..4) {
        0 => lose_data(world),
        1 => tear_nodes_conf(world),
        _ => lose(world),
    }
}

pub(crate) fn lose(world: &mut World) {
    let pod = any_pod(world);
    world.tell(|world| format!("* {} loses its volume", world.pod_name(pod)));
    let ip = world.pods[pod].ip.filter(|_| world.rng.bool());
    end_pod(world, pod);
    world.pods[pod].disk = Disk::bare();
    let ip = ip.unwrap_or_else(|| world.fresh_address());
    start_pod(world, pod, ip);
}

/// What is left of a cluster is on the volume of a pod beyond the first shape, which may be slow.
pub(crate) fn lose_all_but_the_last(world: &mut World) {
    let cluster = world.rng.usize(0..world.layout.clusters);
    world.tell(|_| "* all pods of the first shape lose their volumes".to_owned());
    for pod in 0..world.pods.len() {
        let p = &world.pods[pod];
        if p.cluster != cluster {
            continue;
        }
        if p.ordinal >= world.layout.shape.expected_pods() {
            let ms = world.rng.i64(0..15_000);
            world.pods[pod].redis_frozen_until = world.now + ms;
            continue;
        }
        end_pod(world, pod);
        world.pods[pod].disk = Disk::bare();
        let ip = world.fresh_address();
        start_pod(world, pod, ip);
    }
}

pub(crate) fn lose_nodes_conf(world: &mut World) {
    let pod = any_pod(world);
    world.tell(|world| {
        format!(
            "* {} loses its nodes.conf, not its data",
            world.pod_name(pod)
        )
    });
    let with_note = world.rng.bool();
    let ip = world.fresh_address();
    end_pod(world, pod);
    world.pods[pod].disk.conf = None;
    if !with_note {
        world.pods[pod].disk.note = None;
    }
    // Before it finds no file, it exits for what is in it, again and again.
    let ms = if world.rng.bool() { 1500 } else { 20_000 };
    let ms = world.rng.i64(10..ms);
    start_pod_with_redis_after(world, pod, ip, ms);
}

/// Another pod's, while that one runs.
pub(crate) fn clone(world: &mut World) {
    let (from, to) = (any_pod(world), any_pod(world));
    let same = world.pods[from].cluster == world.pods[to].cluster;
    if from == to || !same || world.pods[from].node.is_none() {
        return;
    }
    world.tell(|world| {
        let (to, from) = (world.pod_name(to), world.pod_name(from));
        format!("* {to} gets a copy of the volume of {from}")
    });
    world.judge.clone_planted = true;
    end_pod(world, to);
    if let Some(node) = &world.pods[from].node {
        let mut disk = world.pods[from].disk.clone();
        node.saved(&mut disk);
        world.pods[to].disk = disk;
    }
    let ip = world.fresh_address();
    start_pod(world, to, ip);
}

/// As after a crash of the machine: nodes.conf is there, and no data file.
pub(crate) fn lose_data(world: &mut World) {
    let pod = any_pod(world);
    world.tell(|world| {
        format!(
            "* {} loses its data, not its nodes.conf",
            world.pod_name(pod)
        )
    });
    let ip = world.pods[pod].ip.filter(|_| world.rng.bool());
    end_pod(world, pod);
    let disk = &mut world.pods[pod].disk;
    disk.keys = 0;
    disk.data_gone = true;
    disk.lost = true;
    let ip = ip.unwrap_or_else(|| world.fresh_address());
    start_pod(world, pod, ip);
}

/// Redis exits for what is in it, again and again, until somebody mends it.
pub(crate) fn tear_nodes_conf(world: &mut World) {
    let pod = any_pod(world);
    world.tell(|world| format!("* nodes.conf of {} is torn", world.pod_name(pod)));
    let ip = world.pods[pod].ip.filter(|_| world.rng.bool());
    end_pod(world, pod);
    if world.pods[pod].disk.conf.is_some() {
        world.pods[pod].disk.damage = Damage::Torn;
    }
    let ip = ip.unwrap_or_else(|| world.fresh_address());
    start_pod(world, pod, ip);
}

/// A snapshot is taken, or the one that was takes the place of its volume.
pub(crate) fn go_back(world: &mut World) {
    let taken = world.snapshots.keys().copied().next();
    let Some(pod) = taken else {
        for pod in 0..world.pods.len() {
            let p = &world.pods[pod];
            let mut disk = p.disk.clone();
            if let Some(node) = &p.node {
                node.saved(&mut disk);
            }
            world.snapshots.insert(pod, disk);
        }
        world.tell(|_| "* a snapshot is taken of every volume".to_owned());
        return;
    };
    let pod = any_pod(world).max(pod);
    let Some(disk) = world.snapshots.get(&pod).cloned() else {
        return;
    };
    world.tell(|world| format!("* {} goes back to its snapshot", world.pod_name(pod)));
    end_pod(world, pod);
    world.pods[pod].disk = disk;
    let ip = world.fresh_address();
    start_pod(world, pod, ip);
}

/// For a while the agent writes none of its files.
pub(crate) fn fill(world: &mut World) {
    let (pod, ms) = (any_pod(world), world.rng.i64(500..20_000));
    world.tell(|world| {
        format!(
            "* the volume of {} is full for {ms} ms",
            world.pod_name(pod)
        )
    });
    world.pods[pod].volume_full = true;
    world.after(ms, Event::Undo(Undo::Full(pod)));
}

/// A pod is deleted, and its Redis goes on for a while beside the one of its successor, cut off from all.
pub(crate) fn hold(world: &mut World) {
    let (pod, ms) = (any_pod(world), world.rng.i64(500..15_000));
    world.tell(|world| {
        let name = world.pod_name(pod);
        format!("* {name} ends, and something holds its nodes.conf for {ms} ms")
    });
    end_pod(world, pod);
    world.pods[pod].locked_until = world.now + ms;
    let ip = world.fresh_address();
    start_pod(world, pod, ip);
}
