//! What is wrong with a nodes.conf that is whole as a text, and what of it matters to a copy.

use super::{Flags, NodeEntry, NodeTable, NodesConf};
use crate::model::identity::NodeId;
use std::fmt;

/// Why Redis would not start from a nodes.conf whose text is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfFault {
    /// No line is `myself`.
    NoMyself,
    /// A replica has another shard ID than its master. Redis from 7.2 and Valkey write that for a
    /// moment when a node becomes a replica; Valkey 8.0 refuses to start from it where the replica's
    /// line comes first.
    ShardsDiffer(NodeId),
}

impl fmt::Display for ConfFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfFault::NoMyself => f.write_str("it has no line of this node itself"),
            ConfFault::ShardsDiffer(id) => {
                write!(f, "{id} has another shard ID in it than its master")
            }
        }
    }
}

impl NodesConf {
    /// Why Redis would not start from it.
    pub fn fault(&self) -> Option<ConfFault> {
        if self.table.myself().is_none() {
            return Some(ConfFault::NoMyself);
        }
        let mut nodes = self.table.nodes.iter();
        let astray = nodes.find(|node| self.shard_of_master(node).is_some());
        astray.map(|node| ConfFault::ShardsDiffer(node.id))
    }

    /// The same with every replica in its master's shard, which is what Redis writes a moment later.
    #[must_use]
    pub fn with_shards_mended(&self) -> NodesConf {
        let mut mended = self.clone();
        for node in &mut mended.table.nodes {
            if let Some((own, master)) = self.shard_of_master(node)
                && let Some(extra) = &mut node.address.extra
            {
                *extra = extra.replace(&shard_key(&own), &shard_key(&master));
            }
        }
        mended
    }

    /// The shard IDs of a replica and of its master, where they differ.
    fn shard_of_master(&self, node: &NodeEntry) -> Option<(String, String)> {
        let master = self.table.get(node.master.as_ref()?)?;
        let (own, theirs) = (node.shard_id()?, master.shard_id()?);
        (own != theirs).then(|| (own.to_owned(), theirs.to_owned()))
    }

    /// Whether this node knows no other and has no part in a cluster: what Redis writes when it starts
    /// without a nodes.conf. It claims slots of keys that it finds, at epoch 0.
    pub fn newborn(&self) -> bool {
        let alone = self.table.others().next().is_none();
        alone && self.table.myself().is_some_and(|me| me.epoch == 0)
    }

    /// Without what changes all the time: times, links, and who is suspected.
    #[must_use]
    pub fn matter(&self) -> NodesConf {
        let mut matter = self.clone();
        for node in &mut matter.table.nodes {
            let fleeting = ["fail", "fail?", "noaddr", "handshake"];
            let lasting = node.flags.0.iter();
            let lasting = lasting.filter(|flag| !fleeting.contains(&flag.as_str()));
            node.flags = Flags(lasting.cloned().collect());
            (node.ping_sent, node.pong_received, node.connected) = (0, 0, true);
        }
        matter.table.nodes.sort_by_key(|node| node.id);
        matter
    }

    /// Whether a running Redis says the same of who is who and who owns what.
    pub fn agrees_with(&self, table: &NodeTable) -> bool {
        let parts = |table: &NodeTable| {
            let mut parts: Vec<_> = table
                .settled()
                .map(|n| (n.id, n.flags.myself(), n.master, n.epoch, n.slots.clone()))
                .collect();
            parts.sort_by_key(|part| part.0);
            parts
        };
        parts(&self.table) == parts(table)
    }
}

impl NodeEntry {
    /// The shard ID (7.2 and later).
    pub fn shard_id(&self) -> Option<&str> {
        let mut keys = self.address.extra.as_deref()?.split(',');
        keys.find_map(|key| key.strip_prefix("shard-id="))
    }
}

fn shard_key(shard: &str) -> String {
    format!("shard-id={shard}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const REPLICA: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn conf(replicas_shard: &str, myself: &str) -> NodesConf {
        let text = format!(
            "{REPLICA} 10.0.0.2:6379@16379,,tls-port=0,shard-id={replicas_shard} {myself}slave {MASTER} 0 5 1 connected\n\
             {MASTER} 10.0.0.1:6379@16379,,tls-port=0,shard-id=01 master,fail? - 7 9 1 disconnected 0-16383\n\
             vars currentEpoch 1 lastVoteEpoch 0\n"
        );
        text.parse().expect("a file")
    }

    #[test]
    fn a_replica_under_its_old_shard_is_told_and_mended() {
        let astray = conf("02", "myself,");
        let replica: NodeId = REPLICA.parse().expect("an ID");
        assert_eq!(astray.fault(), Some(ConfFault::ShardsDiffer(replica)));
        let mended = astray.with_shards_mended();
        assert_eq!(mended.fault(), None);
        assert_eq!(mended, conf("01", "myself,"));
        assert_eq!(conf("01", "").fault(), Some(ConfFault::NoMyself));
    }

    #[test]
    fn times_links_and_suspicion_do_not_matter_and_all_else_does() {
        let one = conf("01", "myself,");
        let mut other = one.clone();
        other.table.nodes.reverse();
        other.table.nodes[0].flags = Flags(vec!["master".to_owned()]);
        (
            other.table.nodes[0].connected,
            other.table.nodes[0].ping_sent,
        ) = (true, 0);
        assert_eq!(one.matter(), other.matter());
        assert!(one.agrees_with(&other.table));
        other.table.nodes[0].epoch = 2;
        assert_ne!(one.matter(), other.matter());
        assert!(!one.agrees_with(&other.table));
    }
}
