//! What a scenario's steps say, kept from step to step, and the observation that it makes.

mod asked;
mod files;
mod own_redis;

pub(crate) use own_redis::version;
use redis_sidecar::decide::policy::{FEW, GhostTimes, Policy};
use redis_sidecar::model::asked::Asked;
use redis_sidecar::model::history::HistorySeen;
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::info::{ServerFacts, Version};
use redis_sidecar::model::kept_conf::KeptConf;
use redis_sidecar::model::node_table::{NodeTable, NodesConf};
use redis_sidecar::model::observation::{
    ClusterConfig, CopyConfig, NodesFile, Observation, OwnFacts, OwnRedis, PeerAnswer, Refusal,
    Silence, Volume, VolumeNote,
};
use redis_sidecar::model::peers::{DnsAnswer, PeersSeen};
use redis_sidecar::model::slots::SlotSet;
use redis_sidecar::model::time::{Moment, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The facts of a scenario as they stand now.
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) volume: Volume,
    pub(crate) answers: BTreeMap<SocketAddr, PeerAnswer>,
    pub(crate) now: u64,
    ipv6: bool,
    redis: Answering,
    pub(crate) facts: OwnFacts,
    /// The table's lines, in the words of the scenario.
    table: Vec<Vec<String>>,
    dns: PeersSeen,
    file: NodesFile,
    kept: KeptConf,
    volume_error: Option<String>,
    /// Where the scenario is about it.
    pub(crate) history: Option<HistorySeen>,
    refusals: Vec<Refusal>,
    asked: Asked,
    /// How far the wall clock is from where it should be.
    clock_ms: i64,
}

enum Answering {
    Up,
    Loading,
    Silent(Silence),
}

impl World {
    /// A Redis that knows nobody, a blank volume, and a DNS that names no pod.
    pub(crate) fn new(policy: &str) -> Result<World, String> {
        let words: Vec<&str> = policy.split_whitespace().collect();
        let value = |name: &str| words.iter().find_map(|word| value_of(word, name));
        let ordinal = number(value("pod").ok_or("no pod=")?)?;
        let shape = value("shape").ok_or("no shape=")?;
        let ipv6 = words.contains(&"ipv6");
        let me = format!("redis-app-{ordinal}");
        let policy = Policy {
            hostname: hostname(ordinal),
            pod_ip: ip_of(ordinal, ipv6),
            me: me.parse().map_err(|_| "no pod name")?,
            cluster: "default/redis-app".to_owned(),
            redis_port: 6379,
            shape: shape.parse().map_err(|_| "no shape")?,
            lag_bytes_max: value("lag-max").map_or(Ok(10_485_760), number)?,
            gate_always: words.contains(&"gate-always"),
            node_name: value("node").unwrap_or_default().to_owned(),
            zone: value("zone").unwrap_or_default().to_owned(),
            dry_run: words.contains(&"dry-run"),
            ghosts: match value("ghosts") {
                Some(ms) => GhostTimes {
                    gone_for: Duration::from_millis(number(ms)?),
                    no_meet_for: Duration::from_millis(number::<u64>(ms)? / 2),
                },
                None => GhostTimes::default(),
            },
            few: FEW,
        };
        let config = ClusterConfig {
            announce_ip: Some(policy.pod_ip.to_string()),
            announce_hostname: Some(policy.hostname.clone()),
            announce_nodename: None,
            node_timeout_ms: Some(5000),
            replica_no_failover: Some(false),
        };
        Ok(World {
            volume: Volume::Blank,
            answers: BTreeMap::new(),
            now: 0,
            ipv6,
            redis: Answering::Up,
            facts: OwnFacts {
                server: ServerFacts {
                    // Pods have been up for a while when the last one of them appears.
                    uptime_s: 3600,
                    version: Version {
                        redis: (7, 0, 15),
                        valkey: None,
                    },
                    run_id: "r1".to_owned(),
                    cluster_enabled: true,

                    ..ServerFacts::default()
                },
                config: Some(config),
                table: NodeTable::default(),
                state_ok: false,
                current_epoch: 0,
                offsets: BTreeMap::new(),
                copies: Some(CopyConfig {
                    diskless: true,
                    delay_s: 5,
                    max_replicas: Some(0),
                }),
            },
            table: vec![vec![format!("p{ordinal}"), "me,master".to_owned()]],
            dns: PeersSeen {
                answer: DnsAnswer::Answered,
                addresses: BTreeMap::new(),
                not_in_dns: BTreeSet::new(),
                unknown: BTreeSet::new(),
            },
            file: NodesFile::Missing,
            kept: KeptConf::default(),
            volume_error: None,
            history: None,
            refusals: Vec::new(),
            asked: Asked::default(),
            clock_ms: 0,
            policy,
        })
    }

    /// Answers and refusals belong to one round; all else stays as it is.
    pub(crate) fn begin_step(&mut self) {
        self.answers.clear();
        self.refusals.clear();
    }

    /// One line of a step. A line indented by four or more belongs to the table.
    pub(crate) fn read(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (first, rest) = words.split_first().ok_or("an empty line")?;
        if line.starts_with("    ") {
            return self.read_table_line(&words);
        }
        match *first {
            "now" => self.read_now(rest),
            "redis" => self.read_redis(rest),
            "table" => self.read_table(rest),
            "dns" => self.read_dns(rest),
            "peer" => self.read_peer(rest),
            "note" => self.read_note(rest),
            "note-error" => {
                self.volume_error = (rest != ["none"]).then(|| rest.join(" "));
                Ok(())
            }
            "file" => self.read_file(rest),
            "asked" => self.read_asked(rest),
            "clock" => {
                self.clock_ms = rest.first().map_or(Ok(0), |word| number(word))?;
                Ok(())
            }
            "kept" => self.read_kept(rest),
            "history" => {
                self.history = Some(HistorySeen {
                    error: (!rest.is_empty()).then(|| rest.join(" ")),
                    ..self.history.take().unwrap_or_default()
                });
                Ok(())
            }
            "refused" => {
                let all = rest.join(" ");
                let (action, error) = all.split_once(": ").ok_or("no `action: error`")?;
                let (action, error) = (action.to_owned(), error.to_owned());
                self.refusals.push(Refusal { action, error });
                Ok(())
            }
            _ => Err("no such word".to_owned()),
        }
    }

    /// What the round sees.
    pub(crate) fn observation(&self) -> Observation {
        let own = match &self.redis {
            Answering::Silent(why) => OwnRedis::Silent(why.clone()),
            Answering::Loading => {
                let mut server = self.facts.server.clone();
                server.loading = true;
                OwnRedis::Loading(server, self.facts.config.clone(), self.facts.copies)
            }
            Answering::Up => {
                let mut facts = self.facts.clone();
                let text: String = self
                    .table
                    .iter()
                    .map(|words| self.cluster_nodes(words))
                    .collect();
                facts.table = text
                    .parse()
                    .unwrap_or_else(|error| panic!("{error}: {text}"));
                OwnRedis::Up(Box::new(facts))
            }
        };
        Observation {
            now: Moment(self.now),
            wall: WallTime(i64::try_from(WALL_MS + self.now).unwrap_or(0) + self.clock_ms),
            own,
            file: self.file.clone(),
            kept: self.kept.clone(),
            dns: self.dns.clone(),
            answers: self.answers.clone(),
            volume: self.volume.clone(),
            volume_error: self.volume_error.clone(),
            history: self.history.clone().unwrap_or_default(),
            refusals: self.refusals.clone(),
            asked: self.asked.clone(),
        }
    }

    /// `all`, `others`, or a list such as `1,3-5`.
    pub(crate) fn ordinals(&self, list: &str) -> Result<Vec<u32>, String> {
        match list {
            "all" => return Ok((0..self.policy.expected()).collect()),
            "others" => return Ok(self.policy.expected_peers().collect()),
            _ => {}
        }
        let mut ordinals = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ordinals.extend(number::<u32>(first)?..=number(last)?);
        }
        Ok(ordinals)
    }

    /// `@3` is where pod 3 is by default; else a literal.
    pub(crate) fn ip(&self, text: &str) -> Result<IpAddr, String> {
        match text.strip_prefix('@') {
            Some(ordinal) => Ok(ip_of(number(ordinal)?, self.ipv6)),
            None => text.parse().map_err(|_| format!("{text} is no address")),
        }
    }

    /// The short form of an address, where it has one.
    pub(crate) fn short(&self, socket: &SocketAddr) -> String {
        let pod = (0..100).find(|k| ip_of(*k, self.ipv6) == socket.ip());
        match pod {
            Some(pod) if socket.port() == self.policy.redis_port => format!("@{pod}"),
            _ => socket.to_string(),
        }
    }

    /// The slots and the master that the plan gives to an ordinal.
    pub(crate) fn planned(&self, ordinal: u32) -> (SlotSet, Option<u32>) {
        let shape = self.policy.shape;
        let masters = u32::from(shape.masters);
        match u16::try_from(ordinal) {
            Ok(index) if ordinal < masters => (SlotSet::planned(index, shape.masters), None),
            _ => (SlotSet::default(), Some(ordinal % masters)),
        }
    }

    fn read_now(&mut self, words: &[&str]) -> Result<(), String> {
        let [word] = words else {
            return Err("takes one number".to_owned());
        };
        self.now = match word.strip_prefix('+') {
            Some(more) => self.now + number::<u64>(more)?,
            None => number(word)?,
        };
        Ok(())
    }

    fn read_dns(&mut self, words: &[&str]) -> Result<(), String> {
        self.dns.answer = DnsAnswer::Answered;
        self.dns.addresses.clear();
        self.dns.not_in_dns.clear();
        self.dns.unknown.clear();
        match words {
            ["none"] => self.dns.answer = DnsAnswer::NoSuchName,
            ["empty"] => {}
            ["fails"] => self.dns.answer = DnsAnswer::Failed("SERVFAIL".to_owned()),
            _ => {
                for word in words {
                    self.read_dns_word(word)?;
                }
            }
        }
        Ok(())
    }

    fn read_dns_word(&mut self, word: &str) -> Result<(), String> {
        match word.split_once('=') {
            None => {
                for ordinal in self.ordinals(word)? {
                    let ip = ip_of(ordinal, self.ipv6);
                    self.dns.addresses.insert(ordinal, vec![ip]);
                }
            }
            Some(("lacks", list)) => {
                self.dns.not_in_dns = self.ordinals(list)?.into_iter().collect()
            }
            Some(("unknown", list)) => {
                self.dns.unknown = self.ordinals(list)?.into_iter().collect()
            }
            Some((ordinal, ips)) => {
                let ips: Result<Vec<IpAddr>, String> =
                    ips.split(',').map(|ip| self.ip(ip)).collect();
                self.dns.addresses.insert(number(ordinal)?, ips?);
            }
        }
        Ok(())
    }

    fn read_note(&mut self, words: &[&str]) -> Result<(), String> {
        self.volume = match words {
            ["blank"] => Volume::Blank,
            ["unreadable"] => Volume::Unreadable("Permission denied".to_owned()),
            _ => {
                let mut note = VolumeNote::default();
                for word in words {
                    match word.split_once('=').unwrap_or((word, "")) {
                        ("member", "") => {
                            note.member = true;
                            note.cluster = self.policy.cluster.clone();
                        }
                        ("cluster", name) => note.cluster = name.to_owned(),
                        ("pods", list) => {
                            for ordinal in self.ordinals(list)? {
                                note.pods.insert(node_id(&format!("p{ordinal}")), ordinal);
                            }
                        }
                        ("pod", pair) => {
                            let (id, ordinal) = pair.split_once(':').ok_or("takes id:ordinal")?;
                            note.pods.insert(node_id(id), number(ordinal)?);
                        }
                        ("was-here", place) => {
                            let (id, at) = place.split_once('@').ok_or("takes id@ordinal")?;
                            let ip = self.ip(&format!("@{at}"))?;
                            let at = SocketAddr::new(ip, self.policy.redis_port);
                            note.were_here.insert(node_id(id), at);
                        }
                        ("gate", run_id) => note.gate_run_id = Some(run_id.to_owned()),
                        ("timeout", ms) => note.node_timeout_ms = Some(number(ms)?),
                        ("paused", span) => note.paused = Some(asked::paused(span)?),
                        _ => return Err(format!("no such word: {word}")),
                    }
                }
                Volume::Says(note)
            }
        };
        Ok(())
    }
}

/// The wall clock at the agent's start, in milliseconds since 1970.
pub(crate) const WALL_MS: u64 = 1_800_000_000_000;

/// Pod 7 is at 10.0.0.7, or at fd00::7.
fn ip_of(ordinal: u32, ipv6: bool) -> IpAddr {
    let text = if ipv6 {
        format!("fd00::{ordinal:x}")
    } else {
        format!("10.0.0.{ordinal}")
    };
    text.parse().expect("an address")
}

fn hostname(ordinal: u32) -> String {
    format!("redis-app-{ordinal}.redis.default.svc.cluster.local")
}

/// A short name as a node ID: its letters in hexadecimal, filled up with zeros.
pub(crate) fn node_id(name: &str) -> NodeId {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<40}").parse().expect("a node ID")
}

/// The value of a word such as `name=value`.
fn value_of<'a>(word: &'a str, name: &str) -> Option<&'a str> {
    word.strip_prefix(name)?.strip_prefix('=')
}

/// A number, or what is wrong.
pub(crate) fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
