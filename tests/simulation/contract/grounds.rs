//! Where a script is played: what both grounds can, and the one with fakes, under virtual time.

use super::super::fake::PORT;
use super::super::fake::text::ranges;
use super::super::fake::volume::Disk;
use super::super::gate::{Gate, Held};
use super::super::layout::Layout;
use super::super::world::{Pod, World};
use super::tables::{Answers, Names, SHARES, Tables};
use super::{Script, Step};
use anyhow::{Result, anyhow, bail};
use redis::Value;
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::identity::{NodeId, Shape};
use redis_sidecar::model::slots::SlotSet;
use std::net::{IpAddr, Ipv4Addr};

/// How many addresses a script may use.
pub(crate) const ADDRESSES: u8 = 16;
/// The ID of nobody.
const NOBODY: &str = "00000000000000000000000000000000000000ff";

pub(crate) trait Ground {
    /// Milliseconds since some time.
    fn now(&self) -> i64;
    /// A moment passes.
    async fn pass(&mut self) -> Result<()>;
    /// What every pod says.
    async fn look(&mut self) -> Result<Tables>;
    /// Does what the step says; the reply of a command is `OK` or an error.
    async fn act(&mut self, step: &Step) -> Result<String>;
}

/// The slots of some shares.
pub(crate) fn slots(shares: &[u16]) -> SlotSet {
    let segs = shares.iter().fold(0, |segs, share| segs | (1 << share));
    ranges(segs, SHARES)
}

/// Whom a command is about; `handshake` is looked up in the node's own table.
pub(crate) fn whom(names: &Names, name: &str, table: &str) -> Result<NodeId> {
    if name == "handshake" {
        let line = table.lines().find(|line| line.contains(" handshake "));
        let id = line.and_then(|line| line.split(' ').next());
        return Ok(id
            .ok_or_else(|| anyhow!("no handshake in\n{table}"))?
            .parse()?);
    }
    match names.id(name) {
        Some(id) => Ok(id),
        None => Ok(NOBODY.parse()?),
    }
}

/// Fake nodes, without agents.
pub(crate) struct Fake {
    world: World,
    names: Names,
    pods: usize,
}

impl Fake {
    pub(crate) fn new(seed: u64, script: &Script) -> Fake {
        let pods = script.pods;
        let layout = Layout {
            shape: Shape::new(SHARES, 1).expect("a shape"),
            beyond: 0,
            clusters: 1,
            node_timeout: script.node_timeout,
            inotify: false,
            migrates: false,
            rolls: false,
            pauses: false,
            long: false,
            gate: Gate::None,
            own_passwords: false,
            few: 0,
        };
        let mut world = World::new(seed, layout, false);
        let addresses = (1..=ADDRESSES).map(|host| Ipv4Addr::new(198, 18, 0, host).into());
        let names = Names::new(addresses.collect());
        world.pods = (0..pods).map(|_| empty_pod(None)).collect();
        // Hosts without a Redis: as on one machine, an address that nobody has refuses at once.
        // The judges of agents have no say in what a script does.
        world.judge.merge_planted = true;
        world.judge.clone_planted = true;
        let hosts = names.addresses.iter().map(|ip| empty_pod(Some(*ip)));
        world.pods.extend(hosts);
        Fake { world, names, pods }
    }

    fn run(&mut self, ms: i64) -> Result<()> {
        let until = self.world.now + ms;
        self.world.run(until).map_err(|broken| anyhow!(broken))
    }

    fn obey(&mut self, pod: usize, action: &Action) -> Result<String> {
        let process = self.world.process(pod);
        let reply = self
            .world
            .with_node(process, |node, env| node.obey(action, env))
            .ok_or_else(|| anyhow!("pod {pod} is down"))?;
        Ok(match reply {
            Ok(()) => "OK".to_owned(),
            Err(error) => self.names.reply(&error),
        })
    }

    /// A key of a share, taken or refused as by `getNodeByQuery`.
    fn write(&mut self, pod: usize, share: u16) -> Result<String> {
        let key = (0..128_u16)
            .filter(|key| key % SHARES == share)
            .find(|key| {
                let mut nodes = self.world.pods.iter();
                !nodes.any(|pod| {
                    pod.node
                        .as_ref()
                        .is_some_and(|node| node.keys & (1 << key) != 0)
                })
            })
            .ok_or_else(|| anyhow!("no key is left"))?;
        let Some(node) = &mut self.world.pods[pod].node else {
            bail!("pod {pod} is down");
        };
        let Some(owner) = node.owner(1 << share) else {
            return Ok("CLUSTERDOWN Hash slot not served".to_owned());
        };
        if !node.state_ok {
            return Ok("CLUSTERDOWN The cluster is down".to_owned());
        }
        if owner.id != node.id {
            let ip = owner.ip.map_or(String::new(), |ip| ip.to_string());
            let port = if owner.noaddr { 0 } else { PORT };
            return Ok(self.names.reply(&format!("MOVED 0 {ip}:{port}")));
        }
        node.keys |= 1 << key;
        Ok("OK".to_owned())
    }

    fn snapshot(&self) -> Result<Tables> {
        let mut all = Vec::new();
        for pod in 0..self.pods {
            let now = self.world.wall(pod);
            let answers = self.world.pods[pod].node.as_ref().map(|node| {
                let texts: Vec<String> = node.own_answers(now).into_iter().map(text).collect();
                Answers {
                    info: texts[0].clone(),
                    nodes: texts[2].clone(),
                    cluster_info: texts[3].clone(),
                }
            });
            all.push(answers);
        }
        Tables::of(&all, &self.names)
    }
}

fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    }
}

fn empty_pod(ip: Option<IpAddr>) -> Pod {
    Pod {
        cluster: 0,
        ordinal: 0,
        ip,
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
        volume_full: false,
        lags_until: 0,
        file_read: None,
        locked_until: 0,
    }
}

impl Ground for Fake {
    fn now(&self) -> i64 {
        self.world.now
    }

    async fn pass(&mut self) -> Result<()> {
        self.run(50)
    }

    async fn look(&mut self) -> Result<Tables> {
        let before = self.snapshot()?;
        self.run(10)?;
        Ok(self.snapshot()?.and_before(&before))
    }

    async fn act(&mut self, step: &Step) -> Result<String> {
        match step {
            Step::Start(pod, address) => {
                self.world.pods[*pod].ip = Some(self.names.addresses[*address]);
                self.world.boot(*pod);
                let id = self.world.pods[*pod].node.as_ref().map(|node| node.id);
                self.names.learn(*pod, id.expect("just started"));
            }
            Step::Kill(pod) => {
                self.world.kill_redis(*pod);
                self.world.pods[*pod].ip = None;
            }
            Step::LoseNodesConf(pod) => self.world.pods[*pod].disk.conf = None,
            Step::LoseVolume(pod) => self.world.pods[*pod].disk = Disk::default(),
            Step::SetConfigEpoch(pod, epoch) => {
                return self.obey(*pod, &Action::SetConfigEpoch(*epoch));
            }
            Step::AddSlots(pod, shares) => {
                let slots = slots(shares);
                let by_range = true;
                return self.obey(*pod, &Action::AddSlots { slots, by_range });
            }
            Step::Meet(pod, address) => {
                let action = Action::Meet {
                    pod: String::new(),
                    ip: self.names.addresses[*address],
                    port: PORT,
                    bus_port: PORT + 10000,
                };
                return self.obey(*pod, &action);
            }
            Step::Replicate(pod, name) => {
                let action = Action::Replicate {
                    master: whom(&self.names, name, "")?,
                    pod: String::new(),
                };
                return self.obey(*pod, &action);
            }
            Step::Failover(pod) => {
                let action = Action::TakeOver {
                    master: whom(&self.names, "nobody", "")?,
                    pod: String::new(),
                };
                return self.obey(*pod, &action);
            }
            Step::FailoverByForce(pod) => {
                let action = Action::ForceFailover {
                    master: whom(&self.names, "nobody", "")?,
                    pod: String::new(),
                };
                return self.obey(*pod, &action);
            }
            Step::Forget(pod, name) if *name != "handshake" => {
                let action = Action::Forget {
                    id: whom(&self.names, name, "")?,
                    pod: String::new(),
                };
                return self.obey(*pod, &action);
            }
            Step::Forget(pod, name) => {
                let table = self.world.pods[*pod].node.as_ref();
                let table = table.map_or(String::new(), |node| node.nodes_text());
                let action = Action::DropHandshake {
                    id: whom(&self.names, name, &table)?,
                    ip: self.names.addresses[0],
                };
                return self.obey(*pod, &action);
            }
            Step::Announce(pod, address) => {
                let action = Action::Announce {
                    name: "cluster-announce-ip",
                    value: self.names.addresses[*address].to_string(),
                };
                return self.obey(*pod, &action);
            }
            Step::Write(pod, share) => return self.write(*pod, *share),
            _ => bail!("{step:?} is no deed"),
        }
        Ok("OK".to_owned())
    }
}
