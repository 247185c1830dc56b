//! `peer` lines: what the Redis and the agent of a pod have answered in this round.

use super::world::{World, node_id, number, version};
use redis_sidecar::model::info::ReplicaFacts;
use redis_sidecar::model::observation::{
    PeerAgent, PeerAnswer, PeerClaim, PeerFacts, PeerRedis, Silence, Stage,
};
use redis_sidecar::model::slots::SlotSet;
use redis_sidecar::model::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// One pod's answer while its line is being read.
struct Answer {
    ordinal: u32,
    ip: IpAddr,
    at: u64,
    facts: PeerFacts,
    claim: PeerClaim,
    redis: Option<Silence>,
    agent: Option<String>,
}

impl World {
    /// `peer 1-5 virgin`, and what departs from it.
    pub(crate) fn read_peer(&mut self, words: &[&str]) -> Result<(), String> {
        let (list, words) = words.split_first().ok_or("no ordinal")?;
        for ordinal in self.ordinals(list)? {
            let mut answer = self.answer_of(ordinal)?;
            for word in words {
                self.read_word(&mut answer, word)?;
            }
            let socket = SocketAddr::new(answer.ip, self.policy.redis_port);
            if let Some(link) = &mut answer.facts.replica
                && link.master_host.is_empty()
            {
                // A replica dials the pod that reads this, unless it says another.
                link.master_host = self.policy.pod_ip.to_string();
            }
            let answer = PeerAnswer {
                at: Moment(answer.at),
                redis: match answer.redis {
                    Some(why) => PeerRedis::Silent(why),
                    None => PeerRedis::Up(answer.facts),
                },
                agent: match answer.agent {
                    Some(why) => PeerAgent::Silent(why),
                    None => PeerAgent::Says(answer.claim),
                },
            };
            self.answers.insert(socket, answer);
        }
        Ok(())
    }

    fn answer_of(&self, ordinal: u32) -> Result<Answer, String> {
        let id = node_id(&format!("p{ordinal}"));
        Ok(Answer {
            ordinal,
            ip: self.ip(&format!("@{ordinal}"))?,
            at: self.now,
            facts: PeerFacts {
                id,
                version: self.facts.server.version,
                run_id: if ordinal == self.policy.me.ordinal {
                    self.facts.server.run_id.clone()
                } else {
                    format!("run of p{ordinal}")
                },
                bus_port: 16379,
                master: None,
                slots: SlotSet::default(),
                epoch: self.policy.expected().saturating_sub(ordinal).into(),
                knows: BTreeSet::new(),
                hears: BTreeSet::new(),
                owners: BTreeMap::new(),
                keys: 0,
                offset: 0,
                replica: None,
            },
            claim: PeerClaim {
                cluster: self.policy.cluster.clone(),
                pod: self.policy.pod(ordinal),
                node_id: Some(id),
                stage: Some(Stage::Unknown),
                shape: Some(self.policy.shape.to_string()),
                node_name: String::new(),
                zone: String::new(),
                owners: BTreeMap::new(),
                last_ordinal: 0,
                forgets: BTreeMap::new(),
                blank: false,
                stopping: false,
                doubled: false,
                holds_copies: false,
                data_missing: false,
            },
            redis: None,
            agent: None,
        })
    }

    fn read_word(&self, answer: &mut Answer, word: &str) -> Result<(), String> {
        let Answer { facts, claim, .. } = answer;
        let ids = |list: &str| list.split(',').map(node_id).collect();
        match word.split_once('=').unwrap_or((word, "")) {
            ("virgin", "") => claim.stage = Some(Stage::Virgin),
            ("forming", "") => claim.stage = Some(Stage::Forming),
            ("member", "") => {
                claim.stage = Some(Stage::Member);
                self.take_planned_part(answer);
            }
            ("unknown", "") => claim.stage = Some(Stage::Unknown),
            ("planned", "") => self.take_planned_part(answer),
            ("stage", "none") => claim.stage = None,
            ("shape", "none") => claim.shape = None,
            ("shape", shape) => claim.shape = Some(shape.to_owned()),
            ("cluster", name) => claim.cluster = name.to_owned(),
            ("pod", name) => claim.pod = name.to_owned(),
            ("node", name) => claim.node_name = name.to_owned(),
            ("zone", name) => claim.zone = name.to_owned(),
            ("id", id) => {
                facts.id = node_id(id);
                claim.node_id = Some(facts.id);
            }
            ("stopping", "") => claim.stopping = true,
            ("doubled", "") => claim.doubled = true,
            ("holds-copies", "") => claim.holds_copies = true,
            ("data-missing", "") => {
                (claim.holds_copies, claim.data_missing) = (true, true);
            }
            ("copying", "") => facts.replica.get_or_insert_default().syncing = true,
            ("link", up) => facts.replica.get_or_insert_default().link_up = up == "up",
            ("dials", at) => {
                let host = self.ip(at)?.to_string();
                facts.replica.get_or_insert_default().master_host = host;
            }
            ("applied", bytes) => {
                facts.replica.get_or_insert_default().applied_offset = number(bytes)?;
            }
            ("agent-says", "none") => claim.node_id = None,
            ("agent-says", id) => claim.node_id = Some(node_id(id)),
            ("agent", "silent") => answer.agent = Some("Connection refused".to_owned()),
            ("redis", "silent") => {
                answer.redis = Some(Silence::Refused("Connection refused".to_owned()));
            }
            ("redis", "timed-out") => answer.redis = Some(Silence::TimedOut),
            ("redis", "auth") => answer.redis = Some(Silence::Auth("WRONGPASS".to_owned())),
            ("redis", "loading") => {
                answer.redis = Some(Silence::Garbled("it is loading its data".to_owned()));
            }
            ("blank-volume", "") => claim.blank = true,
            ("keys", keys) => facts.keys = number(keys)?,
            ("offset", bytes) => facts.offset = number(bytes)?,
            ("lost", pair) => {
                let (id, ordinal) = pair.split_once(':').ok_or("takes id:ordinal")?;
                claim.owners.insert(node_id(id), number(ordinal)?);
            }
            ("forgets", pair) => {
                let (id, ordinal) = pair.split_once(':').ok_or("takes id:ordinal")?;
                claim.forgets.insert(node_id(id), number(ordinal)?);
            }
            ("last", ordinal) => claim.last_ordinal = number(ordinal)?,
            ("version", text) => facts.version = version(text)?,
            ("run", run_id) => facts.run_id = run_id.to_owned(),
            ("epoch", epoch) => facts.epoch = number(epoch)?,
            ("bus", port) => facts.bus_port = number(port)?,
            ("of", "none") => facts.master = None,
            ("of", id) => facts.master = Some(node_id(id)),
            ("owners", list) => {
                // Newer than a nodes.conf that says nothing of it.
                let owner = |id: &str| match id.split_once(':') {
                    Some((id, epoch)) => Ok((node_id(id), number(epoch)?)),
                    None => Ok((node_id(id), 99)),
                };
                facts.owners = list.split(',').map(owner).collect::<Result<_, String>>()?;
            }
            ("hears", list) => facts.hears = ids(list),
            ("knows", "none") => facts.knows.clear(),
            ("knows", list) => facts.knows = ids(list),
            ("slots", "none") => facts.slots = SlotSet::default(),
            ("slots", list) => {
                let range = |part: &str| -> Result<(u16, u16), String> {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    Ok((number(first)?, number(last)?))
                };
                facts.slots = list.split(',').map(range).collect::<Result<_, _>>()?;
            }
            ("at", ip) => answer.ip = self.ip(ip)?,
            ("age", ms) => answer.at = self.now.saturating_sub(number(ms)?),
            _ => return Err(format!("no such word: {word}")),
        }
        Ok(())
    }

    /// The slots or the master that the plan gives it, and everybody known.
    fn take_planned_part(&self, answer: &mut Answer) {
        let (slots, master) = self.planned(answer.ordinal);
        answer.facts.slots = slots;
        answer.facts.master = master.map(|ordinal| node_id(&format!("p{ordinal}")));
        let of = master.and_then(|ordinal| self.ip(&format!("@{ordinal}")).ok());
        answer.facts.replica = of.map(|ip| ReplicaFacts {
            master_host: ip.to_string(),
            master_port: self.policy.redis_port,
            link_up: true,
            ..ReplicaFacts::default()
        });
        let others = (0..self.policy.expected()).filter(|k| *k != answer.ordinal);
        answer.facts.knows = others.map(|k| node_id(&format!("p{k}"))).collect();
    }
}
