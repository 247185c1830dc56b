//! Where a server differs from Redis 7.0, which the fake is made after, and why that is right.

use super::tables::Tables;
use testbed::server::Server;

/// What is different about one server.
pub(crate) struct Quirks {
    all: Vec<&'static Quirk>,
}

struct Quirk {
    /// Only for the eyes of who reads this.
    _why: &'static str,
    applies: fn(&Server) -> bool,
    change: Change,
}

enum Change {
    /// A script takes another course and is not played.
    NotPlayed(&'static str),
    /// In a script (any if empty) tables are compared with their lines changed.
    Lines(&'static str, fn(&str) -> String),
}

static QUIRKS: &[Quirk] = &[
    Quirk {
        _why: "6.0 takes the ID in a packet for its sender, later ones whom they dialled: there an \
               impostor's epoch is noted for the node whose address it has",
        applies: before_7,
        change: Change::Lines("somebody else answers", |line| epoch_of_b(line, "epoch:7")),
    },
    Quirk {
        _why: "the same",
        applies: before_7,
        change: Change::Lines("swap addresses", |line| epoch_of_b(line, "epoch:6")),
    },
    Quirk {
        _why: "from 7.2 on, the only master with slots calls a node failed by itself; 7.0 judges when \
               another master tells, and there is none",
        applies: |server| !before_7(server) && !is_7_0(server),
        change: Change::Lines("who is known is met", |line| {
            line.replace("b at:ip1 fail? slave", "b at:ip1 fail slave")
        }),
    },
    Quirk {
        _why: "Valkey notes no epoch for a replica whose master it does not know",
        applies: |server| server.name == "Valkey",
        change: Change::Lines("a volume is lost", |line| {
            line.replace("e at:ip4 slave epoch:5", "e at:ip4 slave epoch:0")
        }),
    },
    Quirk {
        _why: "Valkey 9 lets a node without an address fail, and its replica is elected",
        applies: from_valkey_9,
        change: Change::NotPlayed("somebody else answers"),
    },
    Quirk {
        _why: "the same",
        applies: from_valkey_9,
        change: Change::NotPlayed("a volume is lost"),
    },
    Quirk {
        _why: "the same",
        applies: from_valkey_9,
        change: Change::NotPlayed("a lost master is replaced by force"),
    },
    Quirk {
        _why: "the same, and without a replica the slots stay uncovered",
        applies: from_valkey_9,
        change: Change::NotPlayed("nodes.conf is lost"),
    },
    Quirk {
        _why: "Valkey 9 takes the address of a node without one from others: a swap heals by itself",
        applies: from_valkey_9,
        change: Change::NotPlayed("swap addresses"),
    },
];

fn from_valkey_9(server: &Server) -> bool {
    server.name == "Valkey" && server.version >= (9, 0, 0)
}

fn before_7(server: &Server) -> bool {
    server.version < (7, 0, 0)
}

fn is_7_0(server: &Server) -> bool {
    server.version >= (7, 0, 0) && server.version < (7, 2, 0)
}

/// The second master and its replica have the epoch that it was given.
fn epoch_of_b(line: &str, instead_of: &str) -> String {
    match line.split(' ').next() {
        Some("b" | "e") => line.replace(instead_of, "epoch:5"),
        _ => line.to_owned(),
    }
}

impl Quirks {
    pub(crate) fn none() -> Quirks {
        Quirks { all: Vec::new() }
    }

    pub(crate) fn of(server: &Server) -> Quirks {
        Quirks {
            all: QUIRKS
                .iter()
                .filter(|quirk| (quirk.applies)(server))
                .collect(),
        }
    }

    pub(crate) fn plays(&self, script: &str) -> bool {
        !self
            .all
            .iter()
            .any(|quirk| matches!(quirk.change, Change::NotPlayed(of) if script.contains(of)))
    }

    pub(crate) fn tables(&self, script: &str, tables: &Tables) -> Tables {
        self.all
            .iter()
            .fold(tables.clone(), |tables, quirk| match quirk.change {
                Change::Lines(of, change) if script.contains(of) => tables.map(change),
                _ => tables,
            })
    }
}
