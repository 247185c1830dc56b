//! The closed lists of commands that this program can send to a Redis.
//!
//! Safety rule S4 holds by construction: links take only [`Read`] and [`Write`], and neither has a
//! variant for RESET, FLUSHALL, FLUSHDB, DEL, DELSLOTS, SHUTDOWN or anything else that destroys.
//! A new power is a new variant here, and the test `s4_...` below must then be taught it.
//! Not here: when a command may be sent (that is decided elsewhere), and the connection.

use std::fmt;
use std::net::IpAddr;

/// A command that only reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// `INFO` with its default sections; answered while loading.
    Info,
    /// `CLUSTER NODES`
    ClusterNodes,
    /// `CLUSTER MYID`
    ClusterMyId,
    /// `CLUSTER INFO`
    ClusterInfo,
    /// `CLUSTER SHARDS` (Redis 7.0 and later)
    ClusterShards,
    /// `CONFIG GET cluster-*`; answered while loading.
    ConfigGetCluster,
    /// `CONFIG GET repl-diskless-sync*`; answered while loading.
    ConfigGetCopies,
    /// `ROLE`; answered while loading.
    Role,
}

impl Read {
    /// Every reading command.
    pub const ALL: [Self; 8] = [
        Self::Info,
        Self::ClusterNodes,
        Self::ClusterMyId,
        Self::ClusterInfo,
        Self::ClusterShards,
        Self::ConfigGetCluster,
        Self::ConfigGetCopies,
        Self::Role,
    ];

    /// The command's words, as sent.
    pub fn args(&self) -> Vec<String> {
        match self {
            Self::Info => words(&["INFO"]),
            Self::ClusterNodes => words(&["CLUSTER", "NODES"]),
            Self::ClusterMyId => words(&["CLUSTER", "MYID"]),
            Self::ClusterInfo => words(&["CLUSTER", "INFO"]),
            Self::ClusterShards => words(&["CLUSTER", "SHARDS"]),
            Self::ConfigGetCluster => words(&["CONFIG", "GET", "cluster-*"]),
            Self::ConfigGetCopies => words(&["CONFIG", "GET", "repl-diskless-sync*"]),
            Self::Role => words(&["ROLE"]),
        }
    }
}

/// A command that changes the own Redis, or goes between such.
///
/// `Debug` hides the value of a setting that holds a secret (S14).
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// `CONFIG SET name value`
    ConfigSet {
        /// The setting's name.
        name: String,
        /// Its new value.
        value: String,
    },
    /// `CLUSTER SET-CONFIG-EPOCH n`; Redis takes it only from a node that knows nobody.
    SetConfigEpoch(u64),
    /// `CLUSTER ADDSLOTS` with every slot of these inclusive ranges, for Redis before 7.0.
    AddSlots(Vec<(u16, u16)>),
    /// `CLUSTER ADDSLOTSRANGE` with these inclusive ranges (Redis 7.0 and later).
    AddSlotsRange(Vec<(u16, u16)>),
    /// `CLUSTER MEET ip port bus-port`
    Meet {
        /// The peer's address; Redis takes no names.
        ip: IpAddr,
        /// The port for clients.
        port: u16,
        /// The port of the cluster bus.
        bus_port: u16,
    },
    /// `CLUSTER FORGET id`, with the random ID of a handshake, never with that of a node.
    ForgetHandshake(String),
    /// `CLUSTER REPLICATE node-id`
    Replicate(String),
    /// `CLUSTER FORGET id`, with the ID of a node that is gone for good (S6).
    Forget(String),
    /// `CLUSTER FAILOVER FORCE`: needs the votes of a majority of the masters (S7).
    FailoverForce,
    /// `CLUSTER FAILOVER`, without FORCE or TAKEOVER: a replica takes over from a master that is well.
    Failover,
    /// `CLUSTER SETSLOT slot STABLE`: no move of this slot is under way. Where none is, all it does
    /// is have Redis judge the cluster's state anew (`CLUSTER_TODO_UPDATE_STATE`).
    SetSlotStable(u16),
    /// `CONFIG GET` for a name of `FILLER_BYTES` that no setting has: fills the connection.
    Filler,
    /// `CLIENT REPLY OFF`
    AnswersOff,
    /// `CLIENT REPLY ON`
    AnswersOn,
}

/// What Redis reads from a connection at once (`PROTO_IOBUF_LEN` in server.h), less a little: from
/// a buffer grown before it is up to twice that.
const FILLER_BYTES: usize = 16_000;

impl Write {
    /// The command's words, as sent. They may hold a secret: never log them, log the `Debug` form.
    pub fn args(&self) -> Vec<String> {
        match self {
            Self::ConfigSet { name, value } => words(&["CONFIG", "SET", name, value]),
            Self::SetConfigEpoch(epoch) => {
                words(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()])
            }
            Self::AddSlots(ranges) => {
                let slots = ranges.iter().flat_map(|&(first, last)| first..=last);
                with_numbers("ADDSLOTS", slots)
            }
            Self::AddSlotsRange(ranges) => {
                let ends = ranges.iter().flat_map(|&(first, last)| [first, last]);
                with_numbers("ADDSLOTSRANGE", ends)
            }
            Self::Meet { ip, port, bus_port } => words(&[
                "CLUSTER",
                "MEET",
                &ip.to_string(),
                &port.to_string(),
                &bus_port.to_string(),
            ]),
            Self::ForgetHandshake(id) | Self::Forget(id) => words(&["CLUSTER", "FORGET", id]),
            Self::FailoverForce => words(&["CLUSTER", "FAILOVER", "FORCE"]),
            Self::Failover => words(&["CLUSTER", "FAILOVER"]),
            Self::Replicate(node_id) => words(&["CLUSTER", "REPLICATE", node_id]),
            Self::SetSlotStable(slot) => {
                words(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])
            }
            Self::Filler => words(&["CONFIG", "GET", &"x".repeat(FILLER_BYTES)]),
            Self::AnswersOff => words(&["CLIENT", "REPLY", "OFF"]),
            Self::AnswersOn => words(&["CLIENT", "REPLY", "ON"]),
        }
    }

    /// The secret that this command carries, if it carries one.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::ConfigSet { name, value } if is_secret(name) && !value.is_empty() => Some(value),
            _ => None,
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigSet { name, .. } if is_secret(name) => {
                write!(f, "ConfigSet({name} ***)")
            }
            Self::ConfigSet { name, value } => write!(f, "ConfigSet({name} {value:?})"),
            Self::SetConfigEpoch(epoch) => write!(f, "SetConfigEpoch({epoch})"),
            Self::AddSlots(ranges) => write!(f, "AddSlots({ranges:?})"),
            Self::AddSlotsRange(ranges) => write!(f, "AddSlotsRange({ranges:?})"),
            Self::Meet { ip, port, bus_port } => write!(f, "Meet({ip} {port} {bus_port})"),
            Self::ForgetHandshake(id) => write!(f, "ForgetHandshake({id})"),
            Self::Forget(id) => write!(f, "Forget({id})"),
            Self::FailoverForce => f.write_str("FailoverForce"),
            Self::Replicate(node_id) => write!(f, "Replicate({node_id})"),
            Self::Failover => f.write_str("Failover"),
            Self::SetSlotStable(slot) => write!(f, "SetSlotStable({slot})"),
            Self::Filler => f.write_str("Filler"),
            Self::AnswersOff => f.write_str("AnswersOff"),
            Self::AnswersOn => f.write_str("AnswersOn"),
        }
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("pass") || name == "masterauth" || name == "primaryauth"
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn with_numbers(subcommand: &str, numbers: impl Iterator<Item = u16>) -> Vec<String> {
    let mut args = words(&["CLUSTER", subcommand]);
    args.extend(numbers.map(|number| number.to_string()));
    args
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// One of each. The match has no wildcard, so a new variant does not compile until it is here.
    fn one_of_each() -> Vec<Write> {
        let all = vec![
            Write::ConfigSet {
                name: "cluster-announce-ip".into(),
                value: "10.0.0.1".into(),
            },
            Write::SetConfigEpoch(3),
            Write::AddSlots(vec![(0, 2), (9, 9)]),
            Write::AddSlotsRange(vec![(0, 5460), (9000, 9000)]),
            Write::Meet {
                ip: Ipv6Addr::LOCALHOST.into(),
                port: 6379,
                bus_port: 16379,
            },
            Write::ForgetHandshake("cd".repeat(20)),
            Write::Forget("ef".repeat(20)),
            Write::FailoverForce,
            Write::Replicate("ab".repeat(20)),
            Write::Failover,
            Write::SetSlotStable(77),
            Write::Filler,
            Write::AnswersOff,
            Write::AnswersOn,
        ];
        for write in &all {
            match write {
                Write::ConfigSet { .. }
                | Write::SetConfigEpoch(_)
                | Write::AddSlots(_)
                | Write::AddSlotsRange(_)
                | Write::Meet { .. }
                | Write::ForgetHandshake(_)
                | Write::Forget(_)
                | Write::FailoverForce
                | Write::Replicate(_)
                | Write::Failover
                | Write::SetSlotStable(_)
                | Write::Filler
                | Write::AnswersOff
                | Write::AnswersOn => {}
            }
        }
        all
    }

    #[test]
    fn s4_only_these_commands_can_be_sent() {
        let name = |args: Vec<String>| match args[0].as_str() {
            "CLIENT" | "CLUSTER" | "CONFIG" => format!("{} {}", args[0], args[1]),
            single => single.to_owned(),
        };
        let reads = Read::ALL.iter().map(|read| name(read.args()));
        let writes = one_of_each().into_iter().map(|write| name(write.args()));
        let names: BTreeSet<String> = reads.chain(writes).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // AUTH, sent by the connection itself, is the only other one.
        assert_eq!(
            names,
            [
                "CLIENT REPLY",
                "CLUSTER ADDSLOTS",
                "CLUSTER ADDSLOTSRANGE",
                "CLUSTER FAILOVER",
                "CLUSTER FORGET",
                "CLUSTER INFO",
                "CLUSTER MEET",
                "CLUSTER MYID",
                "CLUSTER NODES",
                "CLUSTER REPLICATE",
                "CLUSTER SET-CONFIG-EPOCH",
                "CLUSTER SETSLOT",
                "CLUSTER SHARDS",
                "CONFIG GET",
                "CONFIG SET",
                "INFO",
                "ROLE",
            ]
        );
    }

    #[test]
    fn words_are_as_redis_takes_them() {
        let lines: Vec<String> = one_of_each().iter().map(|w| w.args().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "CONFIG SET cluster-announce-ip 10.0.0.1",
                "CLUSTER SET-CONFIG-EPOCH 3",
                "CLUSTER ADDSLOTS 0 1 2 9",
                "CLUSTER ADDSLOTSRANGE 0 5460 9000 9000",
                "CLUSTER MEET ::1 6379 16379",
                &format!("CLUSTER FORGET {}", "cd".repeat(20)),
                &format!("CLUSTER FORGET {}", "ef".repeat(20)),
                "CLUSTER FAILOVER FORCE",
                &format!("CLUSTER REPLICATE {}", "ab".repeat(20)),
                "CLUSTER FAILOVER",
                "CLUSTER SETSLOT 77 STABLE",
                &format!("CONFIG GET {}", "x".repeat(16_000)),
                "CLIENT REPLY OFF",
                "CLIENT REPLY ON",
            ]
        );
        let meet = Write::Meet {
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 1,
            bus_port: 2,
        };
        assert_eq!(meet.args().join(" "), "CLUSTER MEET 127.0.0.1 1 2");
    }

    #[test]
    fn s14_debug_hides_secret_settings() {
        for name in [
            "masterauth",
            "requirepass",
            "MasterAuth",
            "tls-key-file-pass",
        ] {
            let write = Write::ConfigSet {
                name: name.into(),
                value: "hunter2".into(),
            };
            assert!(!format!("{write:?}").contains("hunter2"));
            assert_eq!(write.secret(), Some("hunter2"));
        }
    }
}
