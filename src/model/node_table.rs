//! What one Redis believes about the cluster: the lines of `CLUSTER NODES`, which are also the
//! lines of nodes.conf. Parsing and printing; no judgement.
//!
//! The format differs by version (`clusterGenNodeDescription` in cluster.c): no `@bus_port` before
//! 4.0, `,hostname` from 7.0, `,,shard-id=..` and the like from 7.2. Unknown flags and keys are
//! kept and printed back.

use crate::model::identity::{NodeId, plain_number};
use crate::model::slots::{SLOT_COUNT, SlotSet};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// One Redis's table of the nodes it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTable {
    /// In the order of the text.
    pub nodes: Vec<NodeEntry>,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The node's ID; random for a node still in handshake.
    pub id: NodeId,
    /// Where it was last seen.
    pub address: NodeAddress,
    /// Its role and health.
    pub flags: Flags,
    /// The master it replicates.
    pub master: Option<NodeId>,
    /// Unix time in milliseconds of the ping that waits for its answer; 0 when none does.
    pub ping_sent: u64,
    /// Unix time in milliseconds of the last answer; 0 when none came.
    pub pong_received: u64,
    /// Its configuration epoch.
    pub epoch: u64,
    /// Whether the cluster bus link to it is up. Always true for `myself`.
    pub connected: bool,
    /// The slots it owns.
    pub slots: SlotSet,
    /// Slots being moved to or from it, as printed: `[93->-<id>]`, `[77-<-<id>]`.
    pub open_slots: Vec<String>,
}

/// The address column: `ip:port@bus_port[,hostname][,key=value..]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeAddress {
    /// An IP literal, or empty for a node that does not know its own address yet.
    pub host: String,
    /// The port for clients.
    pub port: u16,
    /// The cluster bus port; absent before Redis 4.0.
    pub bus_port: Option<u16>,
    /// What follows the first comma, unparsed: the announced hostname and, from 7.2, further keys.
    pub extra: Option<String>,
}

/// The flags column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(Vec<String>);

/// nodes.conf: the table and the line that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesConf {
    /// The nodes.
    pub table: NodeTable,
    /// `currentEpoch`.
    pub current_epoch: u64,
    /// `lastVoteEpoch`.
    pub last_vote_epoch: u64,
}

/// Why a text is no node table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A line that does not follow the format.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// nodes.conf without its last line: torn while being written, or cut.
    #[error("no final `vars` line: the file is torn")]
    NoVars,
}

impl NodeTable {
    /// The line of the node that printed the table.
    pub fn myself(&self) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.flags.myself())
    }

    /// The line of `id`.
    pub fn get(&self, id: &NodeId) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.id == *id)
    }

    /// Nodes whose ID is real, that is all but those in handshake.
    pub fn settled(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.iter().filter(|node| !node.flags.handshake())
    }

    /// Settled nodes but the one that printed the table.
    pub fn others(&self) -> impl Iterator<Item = &NodeEntry> {
        self.settled().filter(|node| !node.flags.myself())
    }

    /// Nodes that own slots.
    pub fn slot_owners(&self) -> impl Iterator<Item = &NodeEntry> {
        self.settled().filter(|node| !node.slots.is_empty())
    }

    /// Who owns `slot`.
    pub fn owner(&self, slot: u16) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.slots.contains(slot))
    }

    /// Slots that some node owns.
    pub fn covered(&self) -> SlotSet {
        self.nodes
            .iter()
            .flat_map(|node| node.slots.ranges())
            .copied()
            .collect()
    }

    /// Whether every slot has an owner, reachable or not.
    pub fn covers_all_slots(&self) -> bool {
        self.covered().len() == SLOT_COUNT
    }
}

impl NodeEntry {
    /// Whether the bus link is up and no flag speaks against the node.
    pub fn healthy(&self) -> bool {
        self.connected && !self.flags.doubtful()
    }

    /// The address as a socket address; absent when the host is no IP literal.
    pub fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address.ip()?, self.address.port))
    }
}

impl NodeAddress {
    /// The host as an IP; absent when empty (`:6379`) or not a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The announced hostname (7.0 and later); absent when none was announced.
    pub fn hostname(&self) -> Option<&str> {
        let first = self.extra.as_deref()?.split(',').next()?;
        (!first.is_empty() && !first.contains('=')).then_some(first)
    }
}

impl Flags {
    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|f| f == flag)
    }

    /// The node that printed the table.
    pub fn myself(&self) -> bool {
        self.has("myself")
    }

    /// A master.
    pub fn master(&self) -> bool {
        self.has("master")
    }

    /// A replica (printed as `slave`).
    pub fn replica(&self) -> bool {
        self.has("slave")
    }

    /// A majority of masters agreed that it is down.
    pub fn fail(&self) -> bool {
        self.has("fail")
    }

    /// This node alone thinks that it is down (printed as `fail?`).
    pub fn pfail(&self) -> bool {
        self.has("fail?")
    }

    /// Introduced, and its real ID not known yet.
    pub fn handshake(&self) -> bool {
        self.has("handshake")
    }

    /// Its address is known to be wrong and no other is known.
    pub fn noaddr(&self) -> bool {
        self.has("noaddr")
    }

    /// Failed, suspected, in handshake or without an address.
    pub fn doubtful(&self) -> bool {
        self.fail() || self.pfail() || self.handshake() || self.noaddr()
    }

    /// As printed.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromStr for NodeTable {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let mut nodes: Vec<NodeEntry> = Vec::new();
        let mut ids = BTreeSet::new();
        let mut has_myself = false;
        for (i, line) in text.lines().enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let at = |what| TableError::Line { line: i + 1, what };
            let node = parse_entry(line).map_err(at)?;
            // Redis never prints these: the text is of two tables, one written over the other.
            if !ids.insert(node.id) {
                return Err(at("the node ID of an earlier line"));
            }
            if node.flags.myself() && std::mem::replace(&mut has_myself, true) {
                return Err(at("a second node that is myself"));
            }
            nodes.push(node);
        }
        Ok(NodeTable { nodes })
    }
}

impl FromStr for NodesConf {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        // Redis ends every line with a newline; a `vars` line without one may be cut mid-number.
        if !text.ends_with('\n') {
            return Err(TableError::NoVars);
        }
        let body = text.trim_end_matches(['\n', '\r', ' ']);
        let (nodes, last) = body.rsplit_once('\n').unwrap_or(("", body));
        let mut words = last.split_ascii_whitespace();
        if words.next() != Some("vars") {
            return Err(TableError::NoVars);
        }
        let (mut current_epoch, mut last_vote_epoch) = (None, None);
        while let Some(key) = words.next() {
            let value = words.next().and_then(|value| value.parse().ok());
            let value = Some(value.ok_or(TableError::NoVars)?);
            match key {
                "currentEpoch" => current_epoch = value,
                "lastVoteEpoch" => last_vote_epoch = value,
                _ => {}
            }
        }
        Ok(NodesConf {
            table: nodes.parse()?,
            current_epoch: current_epoch.ok_or(TableError::NoVars)?,
            last_vote_epoch: last_vote_epoch.ok_or(TableError::NoVars)?,
        })
    }
}

fn parse_entry(line: &str) -> Result<NodeEntry, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let mut word = |what| words.next().ok_or(what);
    let id = word("no node ID")?
        .parse()
        .map_err(|_| "the first column is no node ID")?;
    let address = parse_address(word("no address")?)?;
    let flags = Flags(word("no flags")?.split(',').map(str::to_owned).collect());
    let master = match word("no master column")? {
        "-" => None,
        id => Some(id.parse().map_err(|_| "the master column is no node ID")?),
    };
    let ping_sent = number(word("no ping time")?)?;
    let pong_received = number(word("no pong time")?)?;
    let epoch = number(word("no epoch")?)?;
    let connected = match word("no link state")? {
        "connected" => true,
        "disconnected" => false,
        _ => return Err("the link state is neither connected nor disconnected"),
    };
    let mut ranges = Vec::new();
    let mut open_slots = Vec::new();
    for word in words {
        if word.starts_with('[') {
            open_slots.push(word.to_owned());
        } else {
            ranges.push(parse_range(word)?);
        }
    }
    Ok(NodeEntry {
        id,
        address,
        flags,
        master,
        ping_sent,
        pong_received,
        epoch,
        connected,
        slots: ranges.into_iter().collect(),
        open_slots,
    })
}

/// Times are signed in the text of some versions (`-1`); a negative one means "never", as 0 does.
fn number(word: &str) -> Result<u64, &'static str> {
    let signed: i128 = word.parse().map_err(|_| "a number column is no number")?;
    u64::try_from(signed.max(0)).map_err(|_| "a number column is too large")
}

fn parse_address(word: &str) -> Result<NodeAddress, &'static str> {
    let (endpoint, extra) = match word.split_once(',') {
        Some((endpoint, extra)) => (endpoint, Some(extra.to_owned())),
        None => (word, None),
    };
    let (client, bus_port) = match endpoint.split_once('@') {
        Some((client, bus)) => (client, Some(plain_number(bus).ok_or("no bus port")?)),
        None => (endpoint, None),
    };
    // The last colon: an IPv6 host is printed without brackets.
    let (host, port) = client.rsplit_once(':').ok_or("no port in the address")?;
    Ok(NodeAddress {
        host: host.to_owned(),
        port: plain_number(port).ok_or("the port is no number")?,
        bus_port,
        extra,
    })
}

fn parse_range(word: &str) -> Result<(u16, u16), &'static str> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let slot = |text: &str| plain_number(text).ok_or("a slot is no number");
    let (first, last): (u16, u16) = (slot(first)?, slot(last)?);
    if first > last || last >= SLOT_COUNT {
        return Err("a slot range is not within 0-16383");
    }
    Ok((first, last))
}

impl fmt::Display for NodeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| writeln!(f, "{node}"))
    }
}

impl fmt::Display for NodesConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}vars currentEpoch {} lastVoteEpoch {}",
            self.table, self.current_epoch, self.last_vote_epoch
        )
    }
}

impl fmt::Display for NodeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = if self.connected {
            "connected"
        } else {
            "disconnected"
        };
        write!(
            f,
            "{} {} {} ",
            self.id,
            self.address,
            self.flags.0.join(",")
        )?;
        match &self.master {
            Some(id) => write!(f, "{id}")?,
            None => f.write_str("-")?,
        }
        write!(
            f,
            " {} {} {} {link}",
            self.ping_sent, self.pong_received, self.epoch
        )?;
        if !self.slots.is_empty() {
            write!(f, " {}", self.slots)?;
        }
        self.open_slots
            .iter()
            .try_for_each(|open| write!(f, " {open}"))
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        if let Some(bus) = self.bus_port {
            write!(f, "@{bus}")?;
        }
        if let Some(extra) = &self.extra {
            write!(f, ",{extra}")?;
        }
        Ok(())
    }
}

mod fault;
pub use fault::ConfFault;

#[cfg(test)]
mod tests;
