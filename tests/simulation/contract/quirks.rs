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

static QUIRKS: &[Quirk] = &[];

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
