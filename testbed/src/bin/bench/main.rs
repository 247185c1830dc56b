//! `bench`: measures the agent beside redis-cli, in one run on one machine, and prints a table.
//!
//! By environment: `AGENT` (the binary), `ROUNDS` (5, of each small forming), `IDLE_SECONDS` (60),
//! `REDIS_SERVER`. Local pods on loopback addresses; nothing else should run meanwhile.
//!
//! Does not: judge. A figure that misses its aim is printed like any other.

mod forming;
mod idle;
mod probes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{Testbed, server::Server};

/// What is measured, and with what.
struct Bench {
    agent: PathBuf,
    server: Server,
    rounds: usize,
    idle: Duration,
}

impl Bench {
    /// Six pods of a formed cluster, all ready.
    async fn six_pods(&self, name: &str) -> Result<Testbed> {
        let bed = Testbed::builder(name)
            .server(&self.server.program)
            .agent(&self.agent)
            .build()
            .await?;
        bed.start_all().await?;
        bed.all_ready(Duration::from_secs(60)).await?;
        Ok(bed)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let bench = Bench {
        agent: agent()?,
        server: Server::installed().map_err(|error| anyhow::anyhow!("{error}"))?,
        rounds: number("ROUNDS", 5)?,
        idle: Duration::from_secs(number("IDLE_SECONDS", 60)?),
    };
    let (major, minor, patch) = bench.server.version;
    let cores = std::thread::available_parallelism()?;
    println!(
        "{cores} cores, {} {major}.{minor}.{patch}, cluster-node-timeout 5000\n",
        bench.server.name
    );
    println!("| what | figure |");
    println!("| --- | --- |");
    forming::measure(&bench, 3, 1, bench.rounds).await?;
    forming::measure(&bench, 15, 1, 3).await?;
    probes::measure(&bench).await?;
    idle::measure(&bench).await?;
    let size = std::fs::metadata(&bench.agent)?.len();
    row("binary, static", &format!("{:.1} MB", size as f64 / 1e6));
    Ok(())
}

fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}

fn agent() -> Result<PathBuf> {
    let path = std::env::var_os("AGENT").context("AGENT is not set: `make bench` sets it")?;
    let path = PathBuf::from(path);
    if !path.is_file() {
        bail!("AGENT={}: no such file", path.display());
    }
    Ok(path)
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(value) => Ok(value),
            Err(_) => bail!("{name}={text:?} is no number"),
        },
        _ => Ok(default),
    }
}

/// Median and greatest of some durations.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median, times.last().copied().unwrap_or_default())
}
