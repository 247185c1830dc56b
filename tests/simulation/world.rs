//! Many pods in one process under a virtual clock: what runs where, who reaches whom, and the queue
//! of what happens next. Everything follows from the seed.
//!
//! Not here: what goes wrong when ([`super::faults`]), and what must hold ([`super::invariants`]).

use super::agent::Agent;
use super::dns::Zone;
use super::fake::replication::Source;
use super::fake::volume::{Damage, Disk, Settings};
use super::fake::{Env, LinkId, LinkState, Node, Process};
use super::gate::Held;
use super::invariants::Judge;
use super::layout::Layout;
use super::people::People;
use super::queue::Due;
pub(crate) use super::queue::Event;
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::observation::NodesFile;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};

/// The wall clock at the start of every history, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_790_000_000_000;

/// The two ends of a connection; nobody listens at the other end until somebody has accepted it.
pub(crate) struct Ends {
    pub(crate) dialler: Process,
    pub(crate) listener: Option<Process>,
}

/// One pod: a Redis, an agent, a volume and an address.
pub(crate) struct Pod {
    pub(crate) cluster: usize,
    pub(crate) ordinal: u32,
    /// None while the pod does not exist.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) starts: u64,
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) agent: Option<Agent>,
    pub(crate) agent_starts: u64,
    pub(crate) clock_offset: i64,
    pub(crate) redis_frozen_until: i64,
    pub(crate) agent_frozen_until: i64,
    /// Upper bound of what the agent's steps take, in milliseconds.
    pub(crate) agent_lag: i64,
    pub(crate) loads_for: i64,
    pub(crate) held: Held,
    /// Its replica applies nothing of what it reads.
    pub(crate) lags_until: i64,
    /// An older Redis runs on its volume.
    pub(crate) locked_until: i64,
    /// Its nodes.conf as its agent read it, at which start and which writing of it.
    pub(crate) file_read: Option<((u64, u64), NodesFile)>,
    /// The agent writes none of its files.
    pub(crate) volume_full: bool,
}

pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) layout: Layout,
    pub(crate) pods: Vec<Pod>,
    pub(crate) zones: Vec<Zone>,
    /// Pairs of pods of which the first does not reach the second.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    /// And when each that was blocked was last freed.
    pub(crate) unblocked: BTreeMap<(usize, usize), i64>,
    /// What is blocked is the cluster bus alone.
    pub(crate) bus_alone: bool,
    pub(crate) answers_lost: bool,
    /// Single questions to other pods get no answer.
    pub(crate) questions_lost: bool,
    /// Nothing goes wrong that a person must look at.
    pub(crate) heals: bool,
    /// A cluster whose pods start one after the other.
    pub(crate) in_order: Option<usize>,
    /// The first of them that is not ready, or does not exist.
    pub(crate) first_unready: Option<usize>,
    /// What people do to the clusters.
    pub(crate) people: People,
    /// What every volume was at one time.
    pub(crate) snapshots: BTreeMap<usize, Disk>,
    /// The address of the next pod that is met is given to another one.
    pub(crate) snatch_next: bool,
    pub(crate) keys_used: u32,
    pub(crate) judge: Judge,
    pub(crate) steps: u64,
    /// Who has which address since when; released ones keep the time of their release.
    pub(crate) released: BTreeMap<IpAddr, i64>,
    history: Option<Vec<String>>,
    pub(crate) links: BTreeMap<LinkId, Ends>,
    /// Connections whose other end, which was at this address, ended unheard.
    pub(crate) unheard: BTreeMap<LinkId, IpAddr>,
    next_link: LinkId,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
}

impl World {
    /// No pod runs yet; each has a blank volume.
    pub(crate) fn new(seed: u64, layout: Layout, told: bool) -> World {
        let pods_each = layout.shape.expected_pods() + layout.beyond;
        let pods = (0..layout.clusters).flat_map(|cluster| {
            (0..pods_each).map(move |ordinal| Pod {
                cluster,
                ordinal,
                ip: None,
                starts: 0,
                node: None,
                disk: Disk::default(),
                agent: None,
                agent_starts: 0,
                clock_offset: 0,
                redis_frozen_until: 0,
                agent_frozen_until: 0,
                agent_lag: 3,
                loads_for: 0,
                held: Held::No,
                lags_until: 0,
                locked_until: 0,
                file_read: None,
                volume_full: false,
            })
        });
        World {
            now: 0,
            rng: fastrand::Rng::with_seed(seed),
            pods: pods.collect(),
            zones: (0..layout.clusters).map(|_| Zone::default()).collect(),
            blocked: BTreeSet::new(),
            unblocked: BTreeMap::new(),
            bus_alone: false,
            answers_lost: false,
            questions_lost: false,
            heals: true,
            in_order: None,
            people: People::default(),
            first_unready: None,
            snapshots: BTreeMap::new(),
            snatch_next: false,
            keys_used: 0,
            judge: Judge::default(),
            steps: 0,
            released: BTreeMap::new(),
            history: told.then(Vec::new),
            links: BTreeMap::new(),
            unheard: BTreeMap::new(),
            next_link: 0,
            queue: BinaryHeap::new(),
            order: 0,
            layout,
        }
    }

    /// A line of the history; made only where somebody will read it.
    pub(crate) fn tell(&mut self, line: impl FnOnce(&World) -> String) {
        if self.history.is_some() {
            let line = line(self);
            let (seconds, ms) = (self.now / 1000, self.now % 1000);
            if let Some(history) = &mut self.history {
                history.push(format!("{seconds:>4}.{ms:03}  {line}"));
            }
        }
    }

    pub(crate) fn history(&mut self) -> Vec<String> {
        self.history.take().unwrap_or_default()
    }

    pub(crate) fn pod_name(&self, pod: usize) -> String {
        let Pod {
            cluster, ordinal, ..
        } = &self.pods[pod];
        format!("{}-{ordinal}", ["red", "blue"][*cluster])
    }

    pub(crate) fn wall(&self, pod: usize) -> i64 {
        EPOCH_MS + self.now + self.pods[pod].clock_offset
    }

    /// Loading takes as long as it does, whatever the clock says.
    pub(crate) fn clock_jumps(&mut self, pod: usize, ms: i64) {
        self.pods[pod].clock_offset += ms;
        if let Some(node) = &mut self.pods[pod].node {
            node.loading_until += ms;
        }
    }

    pub(crate) fn at(&mut self, at: i64, event: Event) {
        self.order += 1;
        let order = self.order;
        self.queue.push(Reverse(Due { at, order, event }));
    }

    pub(crate) fn after(&mut self, ms: i64, event: Event) {
        self.at(self.now + ms.max(0), event);
    }

    /// Runs until `until`, or until something that must hold does not.
    pub(crate) fn run(&mut self, until: i64) -> Result<(), String> {
        while let Some(Reverse(due)) = self.queue.peek() {
            if due.at > until {
                break;
            }
            let Some(Reverse(due)) = self.queue.pop() else {
                break;
            };
            self.now = due.at;
            self.steps += 1;
            self.happen(due.event);
            super::invariants::check(self)?;
        }
        self.now = until;
        Ok(())
    }

    /// For how long a process takes nothing from its sockets; what comes waits in them.
    fn deaf_for(&self, process: Process) -> i64 {
        let pod = &self.pods[process.pod];
        let loads = pod.node.as_ref().map_or(0, |node| node.loading_until);
        let loading = loads - self.wall(process.pod);
        loading.max(pod.redis_frozen_until - self.now).max(0)
    }

    fn happen(&mut self, event: Event) {
        let hears = match &event {
            Event::Connected(link) | Event::Refused(link) => {
                self.links.get(link).map(|ends| ends.dialler)
            }
            Event::Broken(_, process) | Event::Arrives(_, process, _) => Some(*process),
            _ => None,
        };
        let deaf_for = hears.map_or(0, |process| self.deaf_for(process));
        if deaf_for > 0 {
            return self.after(deaf_for + 1, event);
        }
        match event {
            Event::Cron(process) => self.cron(process),
            Event::Dials(link, ip, tries) => self.dial(link, ip, tries),
            Event::Connected(link) => self.connected(link),
            Event::Refused(link) => {
                if let Some(ends) = self.links.remove(&link) {
                    self.with_node(ends.dialler, |node, _| node.broken(link));
                }
            }
            Event::SentAgain(link, process, tries) => self.sent_again(link, process, tries),
            Event::Broken(link, process) => {
                self.with_node(process, |node, _| node.broken(link));
            }
            Event::Arrives(link, to, packet) => self.arrives(link, to, packet),
            Event::Agent(pod, step) => super::agent::step(self, pod, step),
            Event::Published(pod) => {
                let p = &self.pods[pod];
                if p.ip.is_some() {
                    self.zones[p.cluster].set(p.ordinal, p.ip, self.now);
                }
            }
            Event::Withdrawn(pod, ip) => {
                let p = &self.pods[pod];
                let named = self.zones[p.cluster].records().get(&p.ordinal) == Some(&ip);
                if named && p.ip != Some(ip) {
                    self.zones[p.cluster].set(p.ordinal, None, self.now);
                }
            }
            Event::Redis(pod, start) => {
                let there = self.pods[pod].starts == start && self.pods[pod].ip.is_some();
                let p = &self.pods[pod];
                if there && (p.disk.damage == Damage::Torn || p.locked_until > self.now) {
                    self.tell(|world| format!("Redis of {} exits", world.pod_name(pod)));
                    let ms = self.rng.i64(500..5000);
                    self.after(ms, Event::Redis(pod, start));
                } else if there {
                    self.boot(pod);
                }
            }
            Event::AgentStart(pod, start) => {
                if self.pods[pod].agent_starts == start && self.pods[pod].ip.is_some() {
                    super::agent::start(self, pod);
                }
            }
            Event::Start(pod, ip) => {
                if self.pods[pod].ip.is_none() {
                    let free = ip.filter(|ip| self.occupant(*ip).is_none());
                    let ip = free.unwrap_or_else(|| self.fresh_address());
                    super::faults::start_pod(self, pod, ip);
                }
            }
            Event::ClientWrite => self.client_write(),
            Event::InOrder => super::in_order::look(self),
            Event::Roll => super::people::roll(self),
            Event::Undo(undo) => super::faults::undo(self, &undo),
        }
    }

    pub(crate) fn process(&self, pod: usize) -> Process {
        Process {
            pod,
            start: self.pods[pod].starts,
        }
    }

    pub(crate) fn runs(&self, process: Process) -> bool {
        let pod = &self.pods[process.pod];
        pod.starts == process.start && pod.node.is_some()
    }

    /// Who has this address now.
    pub(crate) fn occupant(&self, ip: IpAddr) -> Option<usize> {
        self.pods.iter().position(|pod| pod.ip == Some(ip))
    }

    /// Lets a node do one step, and carries out what it wants done.
    pub(crate) fn with_node<T>(
        &mut self,
        process: Process,
        step: impl FnOnce(&mut Node, &mut Env<'_>) -> T,
    ) -> Option<T> {
        if !self.runs(process) || self.pods[process.pod].redis_frozen_until > self.now {
            return None;
        }
        let now = self.wall(process.pod);
        let pod = &mut self.pods[process.pod];
        let (Some(node), Some(my_ip)) = (&mut pod.node, pod.ip) else {
            return None;
        };
        let saves = node.saves;
        let mut out = Vec::new();
        let mut env = Env {
            now,
            my_ip,
            rng: &mut self.rng,
            out: &mut out,
            next_link: &mut self.next_link,
        };
        let result = step(node, &mut env);
        let saved = node.saves != saves;
        for effect in out {
            self.carry_out(process, effect);
        }
        if saved {
            self.judge.look = true;
            if self.layout.inotify {
                super::agent::wake(self, process.pod);
            }
        }
        Some(result)
    }

    fn cron(&mut self, process: Process) {
        if !self.runs(process) {
            return;
        }
        self.after(super::fake::cron::PERIOD_MS, Event::Cron(process));
        let source = self.source_of(process.pod);
        self.with_node(process, |node, env| {
            node.cron(env);
            if !node.loading(env.now) {
                node.replicate(source, env);
            }
        });
        super::data::note_drops(self, process.pod);
    }

    /// What answers where this pod's replication dials.
    fn source_of(&self, pod: usize) -> Option<Source> {
        let replication = self.pods[pod].node.as_ref()?.replication?;
        let at = self.occupant(replication.host)?;
        let node = self.pods[at].node.as_ref()?;
        if !self.reaches(pod, at) || at == pod || self.pods[at].redis_frozen_until > self.now {
            return None;
        }
        let same = self.pods[at].cluster == self.pods[pod].cluster;
        let linked = node
            .replication
            .is_none_or(|link| matches!(link.state, LinkState::Up { .. }));
        let loading = node.loading(self.wall(at));
        Some(Source {
            process: self.process(at),
            keys: node.keys,
            serves: linked
                && !loading
                && !node.holds_copies()
                && (same || !self.layout.own_passwords),
            lags: self.pods[pod].lags_until > self.now,
        })
    }

    /// Starts a pod's Redis from its volume.
    pub(crate) fn boot(&mut self, pod: usize) {
        self.pods[pod].starts += 1;
        let settings = Settings::of(&self.layout);
        let wall = self.wall(pod);
        let loads_for = self.pods[pod].loads_for;
        let node = Node::boot(
            &self.pods[pod].disk,
            settings,
            loads_for,
            wall,
            &mut self.rng,
        );
        self.pods[pod].node = Some(node);
        self.pods[pod].redis_frozen_until = 0;
        self.judge.booted(self.now, pod, &self.pods[pod]);
        let process = self.process(pod);
        let ms = self.rng.i64(1..100);
        self.after(ms, Event::Cron(process));
        self.tell(|world| format!("{} Redis starts", world.pod_name(pod)));
    }

    /// Ends a pod's Redis; its connections break, some of them unheard.
    pub(crate) fn kill_redis(&mut self, pod: usize) {
        let process = self.process(pod);
        let Some(node) = self.pods[pod].node.take() else {
            return;
        };
        node.saved(&mut self.pods[pod].disk);
        self.judge.ended(self.now, pod, &self.pods[pod].disk);
        let mut broken = Vec::new();
        self.links.retain(|link, ends| {
            let other = if ends.dialler == process {
                ends.listener
            } else if ends.listener == Some(process) {
                Some(ends.dialler)
            } else {
                return true;
            };
            broken.extend(other.map(|other| (*link, other)));
            false
        });
        for (link, other) in broken {
            if self.rng.u8(0..5) > 0 {
                let ms = self.rng.i64(1..10);
                self.after(ms, Event::Broken(link, other));
            } else if let Some(ip) = self.pods[process.pod].ip {
                self.unheard.insert(link, ip);
            }
        }
    }

    /// An address that nobody has; the pool is small, so that one that was freed comes again soon.
    pub(crate) fn fresh_address(&mut self) -> IpAddr {
        let pool = u8::try_from(self.pods.len() * 2).unwrap_or(u8::MAX);
        for tries in 0_u32.. {
            let (net, size) = if tries < 20 { (0, pool) } else { (1, 250) };
            let ip = IpAddr::V4(Ipv4Addr::new(198, 18, net, self.rng.u8(1..=size)));
            let rested = self.now
                - self
                    .released
                    .get(&ip)
                    .copied()
                    .unwrap_or(super::fake::NEVER);
            if self.occupant(ip).is_none() && rested >= super::faults::ADDRESS_RESTS_MS {
                return ip;
            }
        }
        unreachable!("there are more addresses than pods")
    }

    /// Every pod that now has this ID, running or not.
    pub(crate) fn cluster_of_id(&self, id: &NodeId) -> Option<usize> {
        self.judge.births.get(id).copied()
    }

    fn client_write(&mut self) {
        let ms = self.rng.i64(100..500);
        self.after(ms, Event::ClientWrite);
        if self.keys_used >= 126 {
            return;
        }
        let pod = self.rng.usize(0..self.pods.len());
        let masters = u32::from(self.layout.shape.masters);
        let (key, wall) = (self.keys_used, self.wall(pod));
        let Some(node) = &mut self.pods[pod].node else {
            return;
        };
        let seg = 1 << (key % masters);
        let held = node.holds_writes(wall);
        if held || node.is_replica() || !node.state_ok || node.me().segs & seg == 0 {
            return;
        }
        node.keys |= 1 << key;
        self.keys_used += 1;
    }
}
