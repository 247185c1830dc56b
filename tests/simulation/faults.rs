//! What goes wrong: one fault at a time, drawn from the seed, each with a line for the history.

use super::dns::Trouble;
use super::history::list;
use super::process_faults::{
    agent_lags, agents_restart, clock_jumps, freeze_agent, freeze_redis, redis_restarts,
    replica_lags,
};
use super::volumes;
use super::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// No address is given to another pod sooner after its release: to end a pod, to give its address
/// back, to start another and to load its data takes Kubernetes longer.
pub(crate) const ADDRESS_RESTS_MS: i64 = 1000;

/// What ends by itself.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    Unblock(Vec<(usize, usize)>),
    Dns(usize),
    AnswersLost,
    QuestionsLost,
    Lag(usize),
    Full(usize),
    /// A stop that was announced, of the pod at its n-th start.
    Stopped(usize, u64),
}

pub(crate) fn undo(world: &mut World, undo: &Undo) {
    match undo {
        Undo::Unblock(pairs) => world.unblock(pairs),
        Undo::Dns(zone) => world.zones[*zone].trouble(Trouble::None, world.now),
        Undo::AnswersLost => world.answers_lost = false,
        Undo::QuestionsLost => world.questions_lost = false,
        Undo::Lag(pod) => world.pods[*pod].agent_lag = 3,
        Undo::Full(pod) => world.pods[*pod].volume_full = false,
        Undo::Stopped(pod, start) => {
            if world.pods[*pod].starts == *start && world.judge.to_be_stopped.contains_key(pod) {
                super::stops::stop(world, *pod);
            }
        }
    }
}

/// How grave a history's faults are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything must be whole afterwards, without a person.
    Healing,
    /// First a pod of a whole cluster loses its volume; everything must be whole afterwards, and the old
    /// identity forgotten, without a person.
    Losing,
    /// Something needs a person, or cleaning up; nothing may be made worse.
    Holding,
}

/// One random fault.
pub(crate) fn strike(world: &mut World, kind: Kind) {
    if world.layout.long && world.rng.u8(0..3) == 0 {
        super::long_faults::strike(world);
        return;
    }
    let grave = kind == Kind::Holding && world.rng.u8(0..3) == 0;
    if grave && world.layout.beyond > 0 && world.rng.bool() {
        volumes::lose_all_but_the_last(world);
        return;
    }
    if grave {
        match world.rng.u8(0..9) {
            0 | 1 => volumes::lose(world),
            2 => volumes::lose_nodes_conf(world),
            3 => volumes::clone(world),
            4 => volumes::lose_data(world),
            5 => volumes::tear_nodes_conf(world),
            6 | 7 => volumes::go_back(world),
            _ => merge_by_hand(world),
        }
        return;
    }
    if kind == Kind::Losing && world.rng.bool() {
        match world.rng.u8(0..7) {
            0 => redis_restarts(world),
            1 => agents_restart(world),
            2 => dns_trouble(world),
            3 => agent_lags(world),
            4 => freeze_agent(world),
            5 => volumes::fill(world),
            _ => pods_move(world),
        }
        return;
    }
    match world.rng.u8(0..27) {
        0 => redis_restarts(world),
        1 => agents_restart(world),
        2..=4 => pods_move(world),
        5 => all_move(world),
        6 => swap(world),
        7 => deal(world),
        8 => freeze_redis(world),
        9 => freeze_agent(world),
        10 | 11 => partition(world),
        12 | 13 => dns_trouble(world),
        14 if world.layout.pauses => super::people::pause(world),
        14 => lose_answers(world),
        15 if world.rng.bool() => clock_jumps(world),
        15 => world.snatch_next = true,
        16 => agent_lags(world),
        17..=19 if world.layout.rolls => super::people::begin_roll(world),
        17..=19 => super::stops::announce(world),
        20 => volumes::fill(world),
        21 => super::in_order::delete_all(world),
        22 => volumes::hold(world),
        23 | 24 => replica_lags(world),
        25 => replicas_stay_down(world),
        _ => pod_stays_down(world),
    }
}

pub(crate) fn some_pods(world: &mut World) -> Vec<usize> {
    let mut pods: Vec<usize> = (0..world.pods.len()).collect();
    world.rng.shuffle(&mut pods);
    let count = 1 + world.rng.usize(0..3).min(pods.len() - 1);
    pods.truncate(count);
    pods
}

pub(crate) fn any_pod(world: &mut World) -> usize {
    world.rng.usize(0..world.pods.len())
}

fn names(world: &World, pods: &[usize]) -> String {
    list(pods.iter().map(|pod| world.pod_name(*pod)))
}

/// Ends a pod: both processes, and its address.
pub(crate) fn end_pod(world: &mut World, pod: usize) {
    world.judge.to_be_stopped.remove(&pod);
    world.kill_redis(pod);
    let now = world.now;
    let p = &mut world.pods[pod];
    p.agent = None;
    p.starts += 1;
    p.agent_starts += 1;
    if let Some(ip) = p.ip.take() {
        world.released.insert(ip, now);
        let ms = world.rng.i64(0..1500);
        world.after(ms, Event::Withdrawn(pod, ip));
    }
}

/// Starts a pod at an address; its Redis and its agent come up in any order, DNS names it later.
pub(crate) fn start_pod(world: &mut World, pod: usize, ip: IpAddr) {
    let ms = world.rng.i64(10..1500);
    start_pod_with_redis_after(world, pod, ip, ms);
}

pub(crate) fn start_pod_with_redis_after(world: &mut World, pod: usize, ip: IpAddr, redis_ms: i64) {
    world.tell(|world| format!("* {} starts at {ip}", world.pod_name(pod)));
    world.released.remove(&ip);
    world.pods[pod].ip = Some(ip);
    world.pods[pod].loads_for = world.rng.i64(0..800);
    super::gate::start_containers(world, pod, redis_ms);
    let ms = world.rng.i64(0..4000);
    world.after(ms, Event::Published(pod));
}

fn pods_move(world: &mut World) {
    for pod in some_pods(world) {
        world.tell(|world| format!("* {} ends, to move", world.pod_name(pod)));
        end_pod(world, pod);
        let ip = world.fresh_address();
        start_pod(world, pod, ip);
    }
}

fn all_move(world: &mut World) {
    let cluster = world.rng.usize(0..world.layout.clusters);
    world.tell(|_| "* all pods of a cluster move".to_owned());
    let pods: Vec<usize> = (0..world.pods.len())
        .filter(|pod| world.pods[*pod].cluster == cluster)
        .collect();
    for pod in &pods {
        end_pod(world, *pod);
    }
    for pod in pods {
        let ip = world.fresh_address();
        start_pod(world, pod, ip);
    }
}

fn rest(world: &mut World) -> Result<(), String> {
    let until = world.now + ADDRESS_RESTS_MS;
    world.run(until)
}

/// Pods come back at each other's addresses, those of two clusters as well.
fn give_round(world: &mut World, pods: &[usize]) {
    let mut ips: Vec<IpAddr> = Vec::new();
    for pod in pods {
        ips.extend(world.pods[*pod].ip);
        end_pod(world, *pod);
    }
    if let Err(what) = rest(world) {
        world.judge.fail(what);
        return;
    }
    world.rng.shuffle(&mut ips);
    // One that was away for another reason may have come back meanwhile.
    for pod in pods {
        if world.pods[*pod].ip.is_some() {
            continue;
        }
        let free = ips.pop().filter(|ip| world.occupant(*ip).is_none());
        let ip = free.unwrap_or_else(|| world.fresh_address());
        start_pod(world, *pod, ip);
    }
}

fn swap(world: &mut World) {
    let pods = some_pods(world);
    let what = names(world, &pods);
    world.tell(|_| format!("* {what} change addresses among each other"));
    give_round(world, &pods);
}

fn deal(world: &mut World) {
    world.tell(|_| "* all addresses are dealt anew among all pods".to_owned());
    let pods: Vec<usize> = (0..world.pods.len()).collect();
    give_round(world, &pods);
}

/// Cuts a few pods off from the others, both ways or one way.
fn partition(world: &mut World) {
    let away = some_pods(world);
    let both = world.rng.u8(0..3) > 0;
    let mut ms = world.rng.i64(500..12_000);
    // For long, because who is met in vain must be met less and less often.
    world.bus_alone = world.blocked.is_empty() && world.rng.u8(0..3) == 0;
    if world.bus_alone {
        ms *= 5;
    }
    let mut pairs = Vec::new();
    for a in &away {
        for b in (0..world.pods.len()).filter(|b| !away.contains(b)) {
            pairs.push((*a, b));
            if both {
                pairs.push((b, *a));
            }
        }
    }
    if world.bus_alone {
        // One of them comes back elsewhere: it answers every question, and no MEET gets through.
        world.tell(|world| format!("* {} ends, to move", world.pod_name(away[0])));
        end_pod(world, away[0]);
        let ip = world.fresh_address();
        start_pod(world, away[0], ip);
    }
    let what = names(world, &away);
    let ways = if both { "both ways" } else { "one way" };
    let bus = if world.bus_alone {
        ", the bus alone"
    } else {
        ""
    };
    world.tell(|_| format!("* {what} cut off for {ms} ms, {ways}{bus}"));
    world.blocked.extend(pairs.iter().copied());
    world.after(ms, Event::Undo(Undo::Unblock(pairs)));
}

fn dns_trouble(world: &mut World) {
    let zone = world.rng.usize(0..world.zones.len());
    let records = world.zones[zone].records().clone();
    let ms = world.rng.i64(500..30_000);
    let odd: BTreeSet<u32> = records
        .keys()
        .copied()
        .filter(|_| world.rng.bool())
        .collect();
    let trouble = match world.rng.u8(0..5) {
        0 => Trouble::Fails,
        1 => Trouble::NoSuchName,
        2 => Trouble::Stale(records),
        3 => Trouble::Partial(odd),
        _ => {
            let mut everywhere: Vec<IpAddr> = world.pods.iter().filter_map(|p| p.ip).collect();
            world.rng.shuffle(&mut everywhere);
            let wrong = odd.into_iter().zip(everywhere);
            Trouble::Wrong(wrong.collect::<BTreeMap<_, _>>())
        }
    };
    world.tell(|_| format!("* DNS trouble for {ms} ms: {trouble:?}"));
    world.zones[zone].trouble(trouble, world.now);
    world.after(ms, Event::Undo(Undo::Dns(zone)));
}

fn lose_answers(world: &mut World) {
    let ms = world.rng.i64(1000..8000);
    world.tell(|_| format!("* every third answer of a Redis to its agent is lost for {ms} ms"));
    world.answers_lost = true;
    world.after(ms, Event::Undo(Undo::AnswersLost));
}

fn pod_stays_down(world: &mut World) {
    let pod = any_pod(world);
    world.tell(|world| format!("* {} ends and stays away", world.pod_name(pod)));
    end_pod(world, pod);
}

/// A master is left without replicas.
fn replicas_stay_down(world: &mut World) {
    let any = any_pod(world);
    let Some(node) = &world.pods[any].node else {
        return;
    };
    let master = node.me().master.unwrap_or(node.id);
    world.tell(|world| {
        let name = world.pod_name(any);
        format!("* all replicas in the shard of {name} end and stay away")
    });
    for pod in 0..world.pods.len() {
        let node = world.pods[pod].node.as_ref();
        if node.is_some_and(|node| node.me().master == Some(master)) {
            end_pod(world, pod);
        }
    }
}

/// A person's `CLUSTER MEET` with a node of the other cluster.
fn merge_by_hand(world: &mut World) {
    let (a, b) = (any_pod(world), any_pod(world));
    let (Some(ip), true) = (
        world.pods[b].ip,
        world.pods[a].cluster != world.pods[b].cluster,
    ) else {
        return;
    };
    world.tell(|world| {
        let (a, b) = (world.pod_name(a), world.pod_name(b));
        format!("* a person has {a} meet {b}")
    });
    world.judge.merge_planted = true;
    let process = world.process(a);
    world.with_node(process, |node, env| node.meet(ip, env));
}

/// Right after a MEET its target ends, and another pod comes up at that address while the MEET is
/// still armed.
pub(crate) fn snatch(world: &mut World, ip: IpAddr) {
    let Some(target) = world.occupant(ip) else {
        return;
    };
    let other = any_pod(world);
    if other == target {
        return;
    }
    world.snatch_next = false;
    world.tell(|world| {
        let (target, other) = (world.pod_name(target), world.pod_name(other));
        format!("* {target} ends at once, and {other} will take its address")
    });
    end_pod(world, target);
    end_pod(world, other);
    let ms = world.rng.i64(0..1500);
    world.after(ADDRESS_RESTS_MS + ms, Event::Start(other, Some(ip)));
    let ms = world.rng.i64(0..1500);
    world.after(ms, Event::Start(target, None));
}

/// All faults end, and whatever does not run is started.
pub(crate) fn heal(world: &mut World) {
    world.tell(|_| "= all faults end".to_owned());
    world.snatch_next = false;
    super::people::end(world);
    let pairs: Vec<(usize, usize)> = world.blocked.iter().copied().collect();
    world.unblock(&pairs);
    world.answers_lost = false;
    super::long_faults::heal(world);
    for zone in &mut world.zones {
        zone.trouble(Trouble::None, world.now);
    }
    for pod in 0..world.pods.len() {
        // Nobody is stopped any more.
        if world.judge.to_be_stopped.contains_key(&pod) {
            super::stops::stop(world, pod);
        }
        let p = &mut world.pods[pod];
        p.agent_lag = 3;
        p.volume_full = false;
        p.locked_until = p.locked_until.min(world.now);
        p.lags_until = p.lags_until.min(world.now);
        p.redis_frozen_until = p.redis_frozen_until.min(world.now);
        p.agent_frozen_until = p.agent_frozen_until.min(world.now);
        if p.ip.is_none() && !super::in_order::starts_in_order(world, pod) {
            let ip = world.fresh_address();
            start_pod(world, pod, ip);
        }
    }
}
