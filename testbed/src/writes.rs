//! Which commands that change something each Redis has received, so that tests can assert
//! silence.
//!
//! From `INFO commandstats`, so since each Redis started, rejected and failed calls included.
//! Does not: tell who sent them (a test's own count too), and needs subcommand statistics, which
//! Redis has since 7.0.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};

use crate::{Testbed, truth, wait};

/// What an agent could send that changes something.
const WRITES: [&str; 27] = [
    "cluster|addslots",
    "cluster|addslotsrange",
    "cluster|bumpepoch",
    "cluster|delslots",
    "cluster|delslotsrange",
    "cluster|failover",
    "cluster|flushslots",
    "cluster|forget",
    "cluster|meet",
    "cluster|migrateslots",
    "cluster|migration",
    "cluster|replicate",
    "cluster|reset",
    "cluster|saveconfig",
    "cluster|set-config-epoch",
    "cluster|setslot",
    "client|kill",
    "client|pause",
    "config|rewrite",
    "config|set",
    "del",
    "flushall",
    "flushdb",
    "migrate",
    "replicaof",
    "shutdown",
    "slaveof",
];

/// Calls by command, by ordinal; each Redis with its `run_id`, as a restart counts anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Writes {
    /// `{0: ("<run id>", {"cluster|meet": 5})}`
    pub by_pod: BTreeMap<usize, (String, BTreeMap<String, u64>)>,
}

impl Writes {
    /// All calls of `command` (`cluster|meet`), over all pods.
    #[must_use]
    pub fn of(&self, command: &str) -> u64 {
        self.by_pod
            .values()
            .filter_map(|(_, calls)| calls.get(command))
            .sum()
    }

    /// All calls of any of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_pod
            .values()
            .flat_map(|(_, calls)| calls.values())
            .sum()
    }

    /// What came on top of `before`, for instance `redis-app-0: cluster|meet +2`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        let none = (String::new(), BTreeMap::new());
        let mut news = Vec::new();
        for (ordinal, (run, calls)) in &self.by_pod {
            let (old_run, old_calls) = before.by_pod.get(ordinal).unwrap_or(&none);
            for (command, count) in calls {
                let old = if run == old_run {
                    old_calls.get(command).copied()
                } else {
                    None
                };
                let more = count.saturating_sub(old.unwrap_or(0));
                if more > 0 {
                    news.push(format!("pod {ordinal}: {command} +{more}"));
                }
            }
        }
        news
    }
}

impl Testbed {
    /// The writes received so far; a Redis that does not answer is left out.
    ///
    /// # Errors
    /// When a server is too old to count subcommands.
    pub async fn writes_seen(&self) -> Result<Writes> {
        let mut writes = Writes::default();
        for pod in self.pods() {
            let server = pod.settings().server;
            if server.version < (7, 0, 0) {
                bail!(
                    "{} {:?} does not count subcommands",
                    server.name,
                    server.version
                );
            }
            let Ok(text) = pod
                .command::<String>(&["INFO", "server", "commandstats"])
                .await
            else {
                continue;
            };
            let fields = truth::fields(&text);
            let run = fields.get("run_id").cloned().unwrap_or_default();
            let calls = WRITES.into_iter().filter_map(|command| {
                let stats = fields.get(&format!("cmdstat_{command}"))?;
                Some((command.to_owned(), received(stats)))
            });
            writes.by_pod.insert(pod.ordinal, (run, calls.collect()));
        }
        Ok(writes)
    }

    /// Watches for `window` that no Redis receives a write.
    ///
    /// # Errors
    /// As soon as one does; the error names it.
    pub async fn silent(&self, window: Duration) -> Result<()> {
        let before = self.writes_seen().await?;
        wait::throughout(window, "no Redis receives a write", async || {
            let news = self.writes_seen().await?.since(&before);
            if news.is_empty() {
                Ok(())
            } else {
                bail!(news.join(", "))
            }
        })
        .await
    }
}

/// `calls=1,usec=8,usec_per_call=8.00,rejected_calls=0,failed_calls=0`; failed ones are in calls.
fn received(stats: &str) -> u64 {
    let field = |name: &str| {
        stats
            .split(',')
            .filter_map(|word| word.split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse::<u64>().ok())
            .unwrap_or(0)
    };
    field("calls") + field("rejected_calls")
}
