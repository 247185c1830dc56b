//! A user under way for the tests on Kubernetes: writers and readers of a cluster, one pair a shard, until
//! SIGTERM; then every acknowledged key is read back, and the book is one line of JSON.
//!
//! `ledger SEED...` (`host:port`) with `MASTERS` (3) and `PASSWORD`; `ledger stop`, in the same container,
//! ends it.
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testbed::{
    ledger::{self, Ledger},
    wait,
};
use tokio::signal::unix::{SignalKind, signal};

/// Until the cluster answers at first.
const FIRST: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let seeds: Vec<String> = std::env::args().skip(1).collect();
    if seeds == ["stop"] {
        return Ok(kill_process(Pid::INIT, Signal::TERM)?);
    }
    let masters = std::env::var("MASTERS").unwrap_or_else(|_| "3".to_owned());
    let masters: usize = masters.parse().context("MASTERS")?;
    let password = std::env::var("PASSWORD").ok();
    let client = ledger::user(&seeds, password.as_deref())?;
    let mut end = signal(SignalKind::terminate())?;
    let ledger = wait::until(FIRST, "the cluster answers", async || {
        Ledger::open(&client, masters).await
    })
    .await?;
    println!("writing");
    end.recv().await;
    let shards = ledger.audit(&client).await?;
    let sum = |of: fn(&ledger::Shard) -> usize| shards.iter().map(of).sum::<usize>();
    let gaps: Vec<u128> = shards
        .iter()
        .map(|shard| shard.longest_gap.as_millis())
        .collect();
    let book = json!({
        "acknowledged": sum(|shard| shard.acknowledged.len()),
        "refused": shards.iter().map(|shard| shard.refused).sum::<u64>(),
        "read": shards.iter().map(|shard| shard.read).sum::<u64>(),
        "misread": sum(|shard| shard.misread.len()),
        "lost": sum(|shard| shard.lost.len()),
        "longest_gap_ms": gaps,
    });
    println!("{book}");
    Ok(())
}
