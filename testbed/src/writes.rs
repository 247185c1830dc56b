//! Which commands that change something each Redis has received, so that tests can assert
//! silence.
//!
//! From `INFO commandstats`, so since each Redis started, rejected and failed calls included.
//! Before 7.0 that does not tell `CLUSTER MEET` from `CLUSTER NODES`; there it is the slow log, told
//! to hold every command (see `pod::programs`), which leaves rejected calls out.
//! Does not: tell who sent them (a test's own count too).

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use crate::{Pod, Testbed, truth, wait};

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
    /// When a slow log did not hold everything since the last look.
    pub async fn writes_seen(&self) -> Result<Writes> {
        let mut writes = Writes::default();
        for pod in self.pods() {
            let by_statistics = pod.settings().server.counts_subcommands();
            let question: &[&str] = match by_statistics {
                true => &["INFO", "server", "commandstats"],
                // More than one section came with 7.0 too.
                false => &["INFO", "server"],
            };
            let Ok(text) = pod.command::<String>(question).await else {
                continue;
            };
            let fields = truth::fields(&text);
            let run = fields.get("run_id").cloned().unwrap_or_default();
            let calls = if by_statistics {
                let calls = WRITES.into_iter().filter_map(|command| {
                    let stats = fields.get(&format!("cmdstat_{command}"))?;
                    Some((command.to_owned(), received(stats)))
                });
                calls.collect()
            } else {
                let mut slow_log = pod.slow_log.lock().await;
                slow_log.read(&pod, &run).await?;
                slow_log.calls.clone()
            };
            writes.by_pod.insert(pod.ordinal, (run, calls));
        }
        Ok(writes)
    }

    /// Watches for `window` that no Redis receives a write.
    ///
    /// # Errors
    /// As soon as one does; the error names it.
    /// See [`Self::falls_silent`] where something may still be due.
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

    /// Waits until no Redis has received a write for the whole of a window: after a change a name may be
    /// announced some seconds later than all is well.
    ///
    /// # Errors
    /// When there is no such window by the deadline.
    pub async fn falls_silent(&self, window: Duration, deadline: Duration) -> Result<()> {
        wait::until(deadline, "nobody writes any more", async || {
            self.silent(window).await
        })
        .await
    }
}

impl Pod {
    /// Begins [`Testbed::writes_seen`] anew for this Redis, after writes of the test's own.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn forget_writes(&self) -> Result<()> {
        self.command::<()>(&["CONFIG", "RESETSTAT"]).await?;
        if !self.settings().server.counts_subcommands() {
            let info: String = self.command(&["INFO", "server"]).await?;
            let run_id = truth::fields(&info).remove("run_id").unwrap_or_default();
            let mut slow_log = self.slow_log.lock().await;
            slow_log.read(self, &run_id).await?;
            slow_log.calls.clear();
        }
        Ok(())
    }
}

/// One entry of the slow log: its number, and the command. Time, duration and client follow.
type Entry = (u64, i64, i64, Vec<String>, String, String);

/// What one Redis's slow log has shown so far.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    run_id: String,
    /// The first entry not yet read; they are numbered from 0 at every start.
    next: u64,
    calls: BTreeMap<String, u64>,
}

impl SlowLog {
    /// Reads what is new, in growing bites, because the log is given out from its newest end.
    async fn read(&mut self, pod: &Pod, run_id: &str) -> Result<()> {
        if self.run_id != run_id {
            *self = Self {
                run_id: run_id.to_owned(),
                ..Self::default()
            };
        }
        let mut count = 64_u64;
        loop {
            let words = ["SLOWLOG", "GET", &count.to_string()];
            let entries: Vec<Entry> = pod.command(&words).await?;
            let oldest = entries.last().context("an empty slow log")?.0;
            if oldest <= self.next {
                self.take(&entries);
                return Ok(());
            }
            ensure!(
                u64::try_from(entries.len())? == count,
                "{}: the slow log has lost entries from {} to {oldest}",
                pod.name,
                self.next
            );
            count *= 4;
        }
    }

    fn take(&mut self, entries: &[Entry]) {
        let news = entries.iter().filter(|entry| entry.0 >= self.next);
        for (_, _, _, words, ..) in news {
            let mut words = words.iter().map(|word| word.to_lowercase());
            let command = words.next().unwrap_or_default();
            let with_second = format!("{command}|{}", words.next().unwrap_or_default());
            for name in [command, with_second] {
                if WRITES.contains(&name.as_str()) {
                    *self.calls.entry(name).or_default() += 1;
                }
            }
        }
        self.next = entries.first().map_or(self.next, |newest| newest.0 + 1);
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
