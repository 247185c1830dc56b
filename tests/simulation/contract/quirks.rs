//! Where a server differs from Redis 7.0, which the fake is made after, and why that is right.

use super::Step;
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
    /// Another reply to a command: its script (any if empty), the step as printed, the reply.
    Reply(&'static str, &'static str, &'static str),
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
];

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

    pub(crate) fn reply(&self, script: &str, step: &Step, expected: &str) -> String {
        let step = format!("{step:?}");
        let other = self.all.iter().find_map(|quirk| match quirk.change {
            Change::Reply(of, at, reply) if script.contains(of) && at == step => Some(reply),
            _ => None,
        });
        other.unwrap_or(expected).to_owned()
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
