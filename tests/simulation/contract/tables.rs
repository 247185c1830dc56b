//! What all nodes of a ground say, in words that are the same wherever it is played: nodes by name,
//! addresses and shares of slots by number, epochs of elections by their order.

use super::super::fake::text::ranges;
use anyhow::{Context, Result};
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::node_table::{NodeEntry, NodeTable};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// How many shares the slots have.
pub(crate) const SHARES: u16 = 3;

/// What one running node answered.
pub(crate) struct Answers {
    pub(crate) info: String,
    pub(crate) nodes: String,
    pub(crate) cluster_info: String,
}

/// The names of what differs from ground to ground.
pub(crate) struct Names {
    ids: BTreeMap<NodeId, String>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn new(addresses: Vec<IpAddr>) -> Names {
        let ids = BTreeMap::new();
        Names { ids, addresses }
    }

    /// A pod's node has this ID now.
    pub(crate) fn learn(&mut self, pod: usize, id: NodeId) {
        if self.ids.contains_key(&id) {
            return;
        }
        let letter = char::from(b'a' + u8::try_from(pod).expect("few pods"));
        let before = self.ids.values().filter(|name| name.starts_with(letter));
        let name = format!("{letter}{}", "'".repeat(before.count()));
        self.ids.insert(id, name);
    }

    pub(crate) fn id(&self, name: &str) -> Option<NodeId> {
        let mut all = self.ids.iter();
        all.find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    fn name(&self, id: &NodeId) -> &str {
        self.ids.get(id).map_or("stranger", String::as_str)
    }

    fn address(&self, host: &str) -> String {
        match self.addresses.iter().position(|ip| ip.to_string() == host) {
            Some(number) => format!("ip{number}"),
            None if host.is_empty() || host == "?" => "none".to_owned(),
            None => host.to_owned(),
        }
    }

    /// An error's words without what differs from ground to ground.
    pub(crate) fn reply(&self, text: &str) -> String {
        let words = text.split_whitespace().map(|word| {
            if let Ok(id) = word.parse::<NodeId>() {
                return self.ids.get(&id).map_or("<id>", String::as_str).to_owned();
            }
            match word.rsplit_once(':') {
                Some((host, _)) if host.parse::<IpAddr>().is_ok() => self.address(host),
                _ => word.to_owned(),
            }
        });
        let mut words: Vec<String> = words.collect();
        if words.first().is_some_and(|word| word == "MOVED") {
            words.remove(1);
        }
        words.join(" ")
    }
}

/// A line about one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    words: String,
    /// None for a line that is not about a link.
    linked: Option<bool>,
}

/// What each pod says; none while it is down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables(Vec<Option<Vec<Line>>>);

impl Tables {
    pub(crate) fn of(answers: &[Option<Answers>], names: &Names) -> Result<Tables> {
        let mut tables = Vec::new();
        for answers in answers {
            let table = answers.as_ref().map(|answers| answers.nodes.parse());
            let table: Option<NodeTable> = table.transpose().context("CLUSTER NODES")?;
            tables.push(table);
        }
        // Epochs above those that were given are of elections.
        let given = answers.len() as u64;
        let entries = tables.iter().flatten().flat_map(|table| &table.nodes);
        let elected: BTreeSet<u64> = entries
            .map(|entry| entry.epoch)
            .filter(|epoch| *epoch > given)
            .collect();
        let epoch = |epoch: u64| match elected.iter().position(|known| *known == epoch) {
            Some(order) => given + 1 + order as u64,
            None => epoch,
        };
        let mut all = Vec::new();
        for (answers, table) in answers.iter().zip(&tables) {
            let (Some(answers), Some(table)) = (answers, table) else {
                all.push(None);
                continue;
            };
            let mut lines: Vec<Line> = table
                .nodes
                .iter()
                .map(|entry| line(entry, epoch(entry.epoch), names))
                .collect();
            lines.push(whole_line(state(&answers.cluster_info)));
            lines.push(whole_line(role(&answers.info, names)));
            lines.sort();
            all.push(Some(lines));
        }
        Ok(Tables(all))
    }

    /// A link that is dialled looks like one that is there, for a moment: only what is there in two
    /// looks counts.
    pub(crate) fn and_before(mut self, before: &Tables) -> Tables {
        for (now, before) in self.0.iter_mut().zip(&before.0) {
            let (Some(now), Some(before)) = (now, before) else {
                continue;
            };
            for line in now.iter_mut().filter(|line| line.linked == Some(true)) {
                let same = before.iter().find(|old| old.words == line.words);
                line.linked = same.map_or(Some(true), |old| old.linked);
            }
        }
        self
    }

    pub(crate) fn says(&self, pod: usize, words: &str) -> bool {
        let lines = self.0.get(pod).and_then(Option::as_ref);
        lines.into_iter().flatten().any(|line| {
            let line = line.to_string();
            words
                .split(' ')
                .all(|word| line.split(' ').any(|has| has == word))
        })
    }

    /// With each line's words changed.
    pub(crate) fn map(&self, change: impl Fn(&str) -> String) -> Tables {
        let lines = |lines: &Vec<Line>| {
            let changed = lines.iter().map(|line| Line {
                words: change(&line.words),
                linked: line.linked,
            });
            let mut lines: Vec<Line> = changed.collect();
            lines.sort();
            lines
        };
        Tables(self.0.iter().map(|pod| pod.as_ref().map(lines)).collect())
    }

    /// What these have and the others have not, and the other way round.
    pub(crate) fn diff(&self, other: &Tables) -> String {
        let mut text = String::new();
        for (pod, (ours, theirs)) in self.0.iter().zip(&other.0).enumerate() {
            let (ours, theirs) = (shown(ours), shown(theirs));
            let missing = ours.iter().filter(|line| !theirs.contains(line));
            let added = theirs.iter().filter(|line| !ours.contains(line));
            let lines = missing.map(|line| format!("- {line}"));
            let lines: Vec<_> = lines.chain(added.map(|line| format!("+ {line}"))).collect();
            if !lines.is_empty() {
                text.push_str(&format!("pod {pod} says:\n  {}\n", lines.join("\n  ")));
            }
        }
        format!("{text}(- is expected, + is there)\nall that is there:\n{other}")
    }
}

fn shown(lines: &Option<Vec<Line>>) -> Vec<String> {
    match lines {
        Some(lines) => lines.iter().map(Line::to_string).collect(),
        None => vec!["nothing; it is down".to_owned()],
    }
}

fn whole_line(words: String) -> Line {
    Line {
        words,
        linked: None,
    }
}

fn line(entry: &NodeEntry, epoch: u64, names: &Names) -> Line {
    let at = names.address(&entry.address.host);
    if entry.flags.handshake() {
        // Everything else about it is random, or does not last.
        return whole_line(format!("handshake at:{at}"));
    }
    let mut words = format!("{} at:{at}", names.name(&entry.id));
    let mut flags: Vec<&str> = entry.flags.iter().collect();
    flags.sort_unstable();
    for flag in flags {
        words.push(' ');
        words.push_str(flag);
    }
    if let Some(master) = &entry.master {
        words.push_str(&format!(" of:{}", names.name(master)));
    }
    words.push_str(&format!(" epoch:{epoch}"));
    for share in 0..SHARES {
        let slots = ranges(1 << share, SHARES);
        if slots.minus(&entry.slots) != slots {
            words.push_str(&format!(" share:{share}"));
        }
    }
    Line {
        words,
        linked: Some(entry.connected),
    }
}

/// The value of a field of INFO and its like.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn state(cluster_info: &str) -> String {
    let state = field(cluster_info, "cluster_state").unwrap_or("?");
    format!("state:{state}")
}

fn role(info: &str, names: &Names) -> String {
    let keys = field(info, "db0").and_then(|db| db.split(',').next());
    let keys = keys.unwrap_or("keys=0");
    match field(info, "master_host") {
        Some(host) => format!(
            "role:{} from:{} link:{} {keys}",
            field(info, "role").unwrap_or("?"),
            names.address(host),
            field(info, "master_link_status").unwrap_or("?"),
        ),
        None => format!("role:{} {keys}", field(info, "role").unwrap_or("?")),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match self.linked {
            Some(true) => f.write_str(" connected"),
            Some(false) => f.write_str(" disconnected"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pod, lines) in self.0.iter().enumerate() {
            writeln!(f, "pod {pod} says:\n  {}", shown(lines).join("\n  "))?;
        }
        Ok(())
    }
}
