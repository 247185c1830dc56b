//! One history: a seed, the clusters it makes, what goes wrong in them, and what must come of it.

use super::fake::volume::Conf;
use super::fake::{LinkState, Rec, bus::random_id};
use super::faults::{self, Kind};
use super::gate::Gate;
use super::honest::{create_the_rest, dishonest};
use super::known::{Known, needs_a_person, waiting};
use super::layout::{Layout, cluster_name};
use super::whole::{not_whole, unreported};
use super::world::{Event, World};
use redis_sidecar::decide::policy::FEW;
use redis_sidecar::model::identity::{NodeId, Shape};
use redis_sidecar::model::observation::VolumeNote;
use std::fmt::Display;
use std::net::IpAddr;

/// Everything must be whole so long after the last fault has ended, in milliseconds.
pub(crate) const WHOLE_WITHIN_MS: i64 = 60_000;
/// What was tried in vain meanwhile comes again a little later: names are announced every 5 s.
const LATE_WRITES_MS: i64 = 8000;
/// How long a cluster has been whole before a volume is lost.
const LIVED_MS: i64 = 12_000;
/// `init` holds an empty volume's Redis back for 45 s, gives up after 60 s and begins anew.
const IN_INIT_MS: i64 = 150_000;
/// Longer than the sidecar believes anything that it has heard, and than anything is waited for.
const A_LONG_PAUSE_MS: i64 = 70_000;
/// And then nobody writes for this long.
const SILENT_FOR_MS: i64 = 15_000;

/// What a history came to.
pub(crate) struct Outcome {
    pub(crate) result: Result<(), String>,
    pub(crate) simulated_ms: i64,
    pub(crate) faults: u64,
    pub(crate) steps: u64,
    pub(crate) writes: u64,
    pub(crate) lost_by_redis: u32,
    pub(crate) handoffs: u64,
    pub(crate) rolled: u64,
    pub(crate) known: Known,
    pub(crate) told: Vec<String>,
}

/// Runs the history of a seed; `told` keeps its lines.
pub(crate) fn run(seed: u64, told: bool) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let shapes = [
        (3, 1),
        (3, 1),
        (3, 1),
        (3, 0),
        (3, 2),
        (1, 2),
        (2, 1),
        (5, 1),
        (1, 0),
    ];
    let (masters, replicas) = shapes[rng.usize(0..shapes.len())];
    let mut layout = Layout {
        shape: Shape::new(masters, replicas).expect("a shape"),
        beyond: 0,
        clusters: 1 + rng.usize(0..2),
        node_timeout: [1000, 2000, 5000][rng.usize(0..3)],
        inotify: rng.u8(0..4) > 0,
        migrates: seed / 32 % 2 == 1,
        rolls: seed / 64 % 4 == 3,
        pauses: seed / 64 % 4 == 2,
        // Older seeds, which tests and documents name, are shorter, and keep their histories.
        long: seed >> 32 != 0 && seed / 256 % 2 == 1,
        gate: [Gate::None, Gate::None, Gate::Init, Gate::Sidecar][(seed / 8 % 4) as usize],
        own_passwords: rng.bool(),
        few: if seed % 4 == 3 { 2 } else { FEW },
    };
    let holding = rng.u8(0..4) == 0;
    let may_lose = masters >= 3 && replicas > 0;
    let kind = match (seed % 8 == 5 && may_lose, holding) {
        (true, _) => Kind::Losing,
        (false, true) => Kind::Holding,
        (false, false) => Kind::Healing,
    };
    let blank = rng.u8(0..4) == 0;
    let strikes = rng.u64(1..8);
    layout.beyond = u32::from(rng.u8(0..6) == 0);
    let mut world = World::new(seed, layout, told);
    world.heals = kind != Kind::Holding;
    let mut result = live(&mut world, kind, blank, strikes);
    if world.judge.known.slipped > 0 {
        // Nothing was wrong before it: a history ends with the first thing that is.
        result = Ok(());
        world.tell(|_| "= a merge, as an agent was stopped right after its MEET".to_owned());
    }
    if let Err(what) = &result {
        world.tell(|_| format!("! {what}"));
        tell_tables(&mut world);
    }
    Outcome {
        result,
        simulated_ms: world.now,
        faults: strikes,
        steps: world.steps,
        writes: world.judge.writes,
        lost_by_redis: world.judge.lost_by_redis,
        handoffs: world.judge.handoffs,
        rolled: world.people.rolled,
        known: world.judge.known,
        told: world.history(),
    }
}

fn live(world: &mut World, kind: Kind, blank: bool, strikes: u64) -> Result<(), String> {
    world.tell(|world| format!("{:?}, {kind:?}, blank: {blank}", world.layout));
    for cluster in 0..world.layout.clusters {
        settle(world, cluster, blank);
    }
    world.after(3000, Event::ClientWrite);
    let calm = !blank || world.rng.bool() || kind == Kind::Losing;
    if calm {
        become_whole(world)?;
    }
    if kind == Kind::Losing {
        // Long enough for an agent to know a replica that has always been empty from one that has been
        // emptied.
        let until = world.now + LIVED_MS;
        world.run(until)?;
        super::volumes::first_loss(world);
    }
    for _ in 0..strikes {
        let mut pause = if world.rng.bool() { 300 } else { 6000 };
        if world.layout.long && world.rng.u8(0..3) == 0 {
            pause = A_LONG_PAUSE_MS;
        }
        let until = world.now + world.rng.i64(0..pause);
        world.run(until)?;
        faults::strike(world, kind);
    }
    let until = world.now + world.rng.i64(0..6000);
    world.run(until)?;
    super::people::finish(world)?;
    faults::heal(world);
    super::people::outlast(world)?;
    if kind == Kind::Holding {
        return be_honest(world);
    }
    match become_whole(world)? {
        Whole::Entirely => stay_silent(world),
        Whole::ButFor => be_honest(world),
    }
}

/// What is left for a person is said by then, and left alone.
fn be_honest(world: &mut World) -> Result<(), String> {
    let until = world.now + super::in_order::WITHIN_MS;
    while world.in_order.is_some() && world.now < until {
        let next = world.now + SILENT_FOR_MS;
        world.run(next)?;
    }
    let until = world.now + SILENT_FOR_MS;
    world.run(until)?;
    unreported(world).map_or(Ok(()), Err)?;
    // `init` gives up and is started again, and waits anew.
    let until = world.now + IN_INIT_MS;
    while world.now < until && (0..world.pods.len()).any(|pod| world.is_init(pod)) {
        let next = world.now + 1000;
        world.run(next)?;
    }
    let until = world.now + WHOLE_WITHIN_MS;
    let whole = |world: &World| (0..world.layout.clusters).all(|of| not_whole(world, of).is_none());
    while world.now < until && !whole(world) {
        let next = world.now + 1000;
        world.run(next)?;
    }
    let until = world.now + LATE_WRITES_MS;
    world.run(until)?;
    create_the_rest(world)?;
    dishonest(world).map_or(Ok(()), Err)?;
    be_still(world)
}

/// Nobody writes, but for a replica that asks again and again to be elected, and nobody's readiness changes.
fn be_still(world: &mut World) -> Result<(), String> {
    let count = |world: &World| world.judge.writes - world.judge.forced;
    let (writes, turns) = (count(world), world.judge.turns);
    let until = world.now + SILENT_FOR_MS;
    world.run(until)?;
    let (writes, turns) = (count(world) - writes, world.judge.turns - turns);
    let last = &world.judge.last_write;
    match (writes, turns) {
        (0, 0) => Ok(()),
        // Redis takes two nodes with one ID for one that moves to and fro.
        (0, _) if world.judge.clone_planted => Ok(()),
        // A handoff that a clock set back has begin anew (`known.rs`) may come when all is over.
        (0, _) if !world.judge.set_back.is_empty() => Ok(()),
        (0, _) => Err(format!("readiness changes {turns} times")),
        _ => Err(format!("not silent: {writes} writes, the last {last}")),
    }
}

/// What became of a history's clusters.
enum Whole {
    Entirely,
    /// What is known that only a person may end (`known.rs`).
    ButFor,
}

fn become_whole(world: &mut World) -> Result<Whole, String> {
    let begin = world.now;
    // A lost master is replaced, and then forgotten, after four node timeouts each.
    let within = WHOLE_WITHIN_MS + 4 * world.layout.node_timeout;
    let mut deadline = begin + within;
    loop {
        let until = world.now + 200;
        world.run(until)?;
        let clusters = 0..world.layout.clusters;
        let lacking: Vec<usize> = clusters
            .filter(|cluster| not_whole(world, *cluster).is_some())
            .collect();
        let waits = lacking.iter().any(|of| waiting(world, *of).is_some());
        let why = lacking.first().and_then(|of| not_whole(world, *of));
        match why {
            None => break,
            Some(_) if world.now > deadline && needs_a_person(world, &lacking) => {
                return Ok(Whole::ButFor);
            }
            Some(why) if world.now > deadline => return Err(format!("not whole: {why}")),
            Some(_)
                if world.in_order.is_some() && world.now < begin + super::in_order::WITHIN_MS =>
            {
                deadline = world.now + within;
            }
            // What waits for a person and then ends by itself takes its time from its end.
            Some(_) if world.now < begin + WHOLE_WITHIN_MS && waits => {
                deadline = world.now + within;
            }
            Some(_) => {}
        }
    }
    world.tell(|_| "= everything is whole".to_owned());
    Ok(Whole::Entirely)
}

fn stay_silent(world: &mut World) -> Result<(), String> {
    // What was decided before the whole was there may still come.
    let until = world.now + LATE_WRITES_MS;
    world.run(until)?;
    // A handoff may, too (Redis keeps an order for 5 s), and its copies take their time.
    let deadline = world.now + WHOLE_WITHIN_MS;
    let mut late = copies(world);
    while late && world.now < deadline {
        late = copies(world);
        let next = world.now + 1000;
        world.run(next)?;
    }
    be_still(world)?;
    match (0..world.layout.clusters).find_map(|cluster| not_whole(world, cluster)) {
        Some(why) => Err(format!("whole and then not: {why}")),
        None => Ok(()),
    }
}

fn copies(world: &World) -> bool {
    let mut nodes = world.pods.iter().filter_map(|p| p.node.as_ref());
    nodes.any(|node| {
        let link = node.replication.map(|link| link.state);
        matches!(link, Some(LinkState::Copying { .. }))
    })
}

/// Starts a cluster's pods: blank, or as a whole cluster that was stopped.
fn settle(world: &mut World, cluster: usize, blank: bool) {
    let pods: Vec<usize> = (0..world.pods.len())
        .filter(|pod| world.pods[*pod].cluster == cluster)
        .collect();
    let ips: Vec<IpAddr> = pods
        .iter()
        .map(|pod| {
            let ip = world.fresh_address();
            world.pods[*pod].ip = Some(ip);
            ip
        })
        .collect();
    if !blank {
        let masters = usize::from(world.layout.shape.masters);
        let ids: Vec<NodeId> = pods.iter().map(|_| random_id(&mut world.rng)).collect();
        world
            .judge
            .births
            .extend(ids.iter().map(|id| (*id, cluster)));
        let member = |k: usize| {
            let mut rec = Rec::new(ids[k], Some(ips[k]), 0);
            rec.epoch = k as u64 + 1;
            rec.replica = k >= masters;
            if rec.replica {
                rec.master = Some(ids[k % masters]);
            } else {
                rec.segs = 1 << k;
            }
            rec
        };
        let members: Vec<Rec> = (0..pods.len()).map(member).collect();
        for (k, pod) in pods.iter().enumerate() {
            let disk = &mut world.pods[*pod].disk;
            disk.conf = Some(Conf::of_member(ids[k], &members, pods.len() as u64));
            disk.note = Some(VolumeNote {
                member: true,
                cluster: cluster_name(cluster).to_owned(),
                pods: (0u32..).zip(&ids).map(|(k, id)| (*id, k)).collect(),
                ..VolumeNote::default()
            });
        }
    }
    for (pod, ip) in pods.into_iter().zip(ips) {
        faults::start_pod(world, pod, ip);
    }
}

/// What every Redis has in its table, and what its agent says of it.
pub(crate) fn tell_tables(world: &mut World) {
    for pod in 0..world.pods.len() {
        let p = &world.pods[pod];
        let text = p.node.as_ref().map(super::fake::Node::nodes_text);
        let decision = p.agent.as_ref().and_then(|agent| agent.decision.as_ref());
        let says = decision.map(|d| format!("asks {}; {}", list(&d.ask), list(&d.reasons)));
        let rounds = p.agent.as_ref().map_or(0, |agent| agent.rounds);
        let (text, says) = (text.unwrap_or_default(), says.unwrap_or_default());
        world.tell(|world| {
            format!(
                "{} after {rounds} rounds\n{text}{says}",
                world.pod_name(pod)
            )
        });
    }
}

/// A list for people.
pub(crate) fn list(names: impl IntoIterator<Item = impl Display>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    names.join(", ")
}
