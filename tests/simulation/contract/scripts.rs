//! The scripts: what people, agents and a cloud do to a cluster, as data.
//!
//! Each node that serves gets an epoch by hand: two masters of one epoch settle it by their IDs,
//! which are random.

use super::Step::{
    AddSlots, Announce, Failover, FailoverByForce, Forget, Kill, LoseNodesConf, LoseVolume, Meet,
    Replicate, SetConfigEpoch, Settle, SettleFor, Start, Until, UntilGone, UntilNotBefore, Write,
};
use super::{NODE_TIMEOUT_MS, Script, Step};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A script's steps; a cluster starts at the addresses of its pods' numbers.
struct Writer(Script);

fn script(name: &'static str, pods: usize) -> Writer {
    Writer(Script {
        name,
        pods,
        node_timeout: NODE_TIMEOUT_MS,
        steps: Vec::new(),
    })
}

impl Writer {
    fn node_timeout(mut self, ms: i64) -> Writer {
        self.0.node_timeout = ms;
        self
    }

    fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Script {
        self.0.steps.extend(steps);
        self.0
    }

    /// Three masters, each with so many replicas, formed as the agents do, with a key in each share.
    fn formed(mut self, replicas: usize) -> Writer {
        let pods = 3 * (1 + replicas);
        let steps = &mut self.0.steps;
        for pod in 0..pods {
            steps.push(Start(pod, pod));
            steps.push(SetConfigEpoch(pod, (pods - pod) as u64));
        }
        for pod in 0..3 {
            steps.push(AddSlots(pod, vec![pod as u16]));
        }
        for pod in 0..pods {
            steps.extend((0..pods).map(|peer| Meet(pod, peer)));
        }
        steps.push(Settle);
        for pod in 3..pods {
            steps.push(Replicate(pod, NAMES[pod % 3]));
        }
        for pod in 0..3 {
            steps.push(Write(pod, pod as u16));
        }
        steps.push(Settle);
        self
    }
}

fn forming() -> Vec<Script> {
    vec![
        script("formed by hand", 6).formed(1).then([
            Write(0, 1),
            Write(3, 0),
            SetConfigEpoch(0, 9),
            Replicate(3, "a"),
            Settle,
        ]),
        script("a MEET of one spreads by gossip", 4).then([
            Start(0, 0),
            SetConfigEpoch(0, 4),
            Start(1, 1),
            SetConfigEpoch(1, 3),
            Start(2, 2),
            SetConfigEpoch(2, 2),
            Start(3, 3),
            SetConfigEpoch(3, 1),
            Meet(0, 1),
            Meet(0, 2),
            Settle,
            Meet(3, 2),
            Settle,
        ]),
        script("REPLICATE refused", 4).then([
            Start(0, 0),
            SetConfigEpoch(0, 4),
            Replicate(0, "nobody"),
            Replicate(0, "a"),
            AddSlots(0, vec![0, 1]),
            Start(1, 1),
            SetConfigEpoch(1, 3),
            Replicate(1, "a"),
            Start(2, 2),
            SetConfigEpoch(2, 2),
            AddSlots(2, vec![2]),
            Start(3, 3),
            SetConfigEpoch(3, 1),
            Meet(0, 1),
            Meet(0, 2),
            Meet(0, 3),
            Settle,
            Write(2, 2),
            Replicate(1, "a"),
            Settle,
            Replicate(1, "b"),
            Replicate(3, "b"),
            Replicate(2, "a"),
            Replicate(0, "c"),
            // A replica may change its master, with keys or without.
            Replicate(1, "c"),
            Settle,
        ]),
        script("slots are taken once", 2).then([
            Start(0, 0),
            SetConfigEpoch(0, 2),
            Write(0, 0),
            AddSlots(0, vec![0, 1]),
            AddSlots(0, vec![1]),
            AddSlots(0, vec![1, 2]),
            Write(0, 0),
            Start(1, 1),
            SetConfigEpoch(1, 1),
            Meet(1, 0),
            Settle,
            AddSlots(1, vec![0]),
            AddSlots(1, vec![2]),
            Until(0, "state:ok"),
            Until(1, "state:ok"),
            Write(1, 2),
            Write(0, 2),
            Settle,
        ]),
        script("an epoch is given once, and to who is alone", 2).then([
            Start(0, 0),
            SetConfigEpoch(0, 2),
            SetConfigEpoch(0, 1),
            Start(1, 1),
            Meet(0, 1),
            Settle,
            SetConfigEpoch(1, 1),
            SetConfigEpoch(0, 1),
            Settle,
        ]),
    ]
}

fn meeting() -> Vec<Script> {
    vec![
        script("a MEET of nobody", 2).then([
            Start(0, 0),
            SetConfigEpoch(0, 2),
            Meet(0, 9),
            Meet(0, 9),
            Until(0, "handshake at:ip9"),
            UntilGone(NODE_TIMEOUT_MS - 100, 0, "handshake"),
            Meet(0, 0),
            UntilGone(0, 0, "handshake"),
            Settle,
            // It stays armed: who comes there in time is met.
            Meet(0, 1),
            Start(1, 1),
            Settle,
        ]),
        script("a MEET is taken back", 2).then([
            Start(0, 0),
            SetConfigEpoch(0, 2),
            Forget(0, "nobody"),
            Meet(0, 1),
            Until(0, "handshake at:ip1"),
            Forget(0, "handshake"),
            UntilGone(0, 0, "handshake"),
            Start(1, 1),
            SetConfigEpoch(1, 1),
            SettleFor(NODE_TIMEOUT_MS),
        ]),
        script("who is known is met at its new address", 2).then([
            Start(0, 0),
            SetConfigEpoch(0, 2),
            AddSlots(0, vec![0, 1, 2]),
            Start(1, 1),
            SetConfigEpoch(1, 1),
            Meet(0, 1),
            Settle,
            Replicate(1, "a"),
            Until(0, "state:ok"),
            Write(0, 0),
            Settle,
            Kill(0),
            Kill(1),
            Start(0, 8),
            Start(1, 9),
            Settle,
            Meet(1, 8),
            Settle,
            Write(0, 1),
            Settle,
        ]),
    ]
}

fn moving() -> Vec<Script> {
    vec![
        script("one master moves", 6).formed(1).then([
            Kill(1),
            Start(1, 9),
            Settle,
            Write(1, 1),
            Settle,
        ]),
        script("one replica moves", 6).formed(1).then([
            Kill(4),
            Start(4, 9),
            Settle,
            Write(1, 1),
            Settle,
        ]),
        // Longer than the 2 s after which a master that has just started may say `ok`.
        script("all move", 3).node_timeout(5000).formed(0).then([
            Kill(0),
            Kill(1),
            Kill(2),
            Start(0, 9),
            Start(1, 10),
            Start(2, 11),
            // Not the truth.
            UntilNotBefore(1700, 2, "state:ok"),
            UntilNotBefore(4000, 2, "state:fail"),
            Settle,
            Meet(0, 10),
            Meet(0, 11),
            Meet(1, 11),
            Settle,
        ]),
        script("an address is announced", 3).formed(0).then([
            Announce(1, 1),
            Settle,
            Kill(1),
            Start(1, 9),
            Settle,
            Announce(1, 9),
            Settle,
            // Where nobody is.
            Announce(2, 12),
            Settle,
            Announce(2, 2),
            Settle,
        ]),
        script("two masters swap addresses", 6).formed(1).then([
            Kill(0),
            Kill(1),
            Start(1, 0),
            // Before another node answers there: that one's epoch would be taken for its own.
            Until(2, "b at:ip0 connected"),
            Until(3, "b at:ip0 connected"),
            Until(4, "b at:ip0 connected"),
            Until(5, "b at:ip0 connected"),
            Start(0, 1),
            Settle,
            Meet(0, 0),
            Settle,
        ]),
    ]
}

fn losing() -> Vec<Script> {
    vec![
        script("a master dies", 6).formed(1).then([
            Kill(0),
            UntilNotBefore(NODE_TIMEOUT_MS - 100, 1, "a fail"),
            Until(3, "d master share:0"),
            Settle,
            Write(3, 0),
            Write(1, 0),
            Start(0, 0),
            Settle,
            Write(0, 0),
        ]),
        script("the majority dies", 3).formed(0).then([
            Kill(0),
            Kill(1),
            Until(2, "a fail?"),
            Until(2, "state:fail"),
            Settle,
            Write(2, 2),
            Start(0, 0),
            Settle,
            Start(1, 1),
            Settle,
            Write(2, 2),
        ]),
        script("a replica takes over from a master that is well", 6)
            .formed(1)
            .then([
                // 6.0 takes an offset of 0 for none, and then hands nothing over.
                Write(0, 0),
                Settle,
                Failover(3),
                Until(0, "role:slave"),
                Settle,
                Write(3, 0),
                // It is the master now.
                Failover(3),
                Failover(0),
                Until(3, "role:slave"),
                Settle,
                Write(0, 0),
            ]),
        script("a replica dies", 6).formed(1).then([
            Kill(4),
            Until(0, "e fail"),
            Settle,
            Start(4, 4),
            Settle,
        ]),
        script("somebody else answers at a master's address", 7)
            .formed(1)
            .then([
                // Never introduced to anybody, and with another key than the master had.
                Start(6, 6),
                SetConfigEpoch(6, 7),
                AddSlots(6, vec![0, 1, 2]),
                Until(6, "state:ok"),
                Write(6, 0),
                Write(6, 2),
                Kill(6),
                Kill(1),
                Start(6, 1),
                Until(0, "b noaddr"),
                Until(4, "role:slave link:up keys=2"),
                SettleFor(3 * NODE_TIMEOUT_MS),
                Write(0, 1),
                // The master comes back elsewhere.
                Start(1, 9),
                Settle,
            ]),
        script("nodes.conf is lost and the data is kept", 3)
            .formed(0)
            .then([Kill(1), LoseNodesConf(1), Start(1, 1), Settle, Write(0, 0)]),
        script("a volume is lost", 6).formed(1).then([
            Kill(1),
            LoseVolume(1),
            Start(1, 1),
            // It copies nothing from an empty node.
            Until(0, "b noaddr"),
            Until(4, "role:slave link:up keys=0"),
            Settle,
            Meet(0, 1),
            Settle,
        ]),
        script("a lost master is replaced by force", 6)
            .formed(1)
            .then([
                Kill(1),
                LoseVolume(1),
                Start(1, 1),
                Until(0, "b noaddr"),
                Until(4, "role:slave link:up keys=0"),
                Settle,
                FailoverByForce(0),
                FailoverByForce(4),
                Until(4, "role:master"),
                Settle,
                Write(4, 1),
            ]),
        script("a dead node is forgotten by all", 6)
            .formed(1)
            .then([
                Kill(4),
                Until(0, "e fail"),
                Settle,
                Forget(0, "a"),
                Forget(3, "a"),
                Forget(0, "nobody"),
                Forget(0, "e"),
                Forget(1, "e"),
                Forget(2, "e"),
                Forget(3, "e"),
                Forget(5, "e"),
                Settle,
                // It knows them all; to them it is a stranger, which they answer.
                Start(4, 4),
                Settle,
            ]),
    ]
}

pub(crate) fn all() -> Vec<Script> {
    [forming(), meeting(), moving(), losing()]
        .into_iter()
        .flatten()
        .collect()
}
