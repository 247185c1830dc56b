//! `bench`: measures the agent beside redis-cli, in one run on one machine, and prints a table.
//!
//! By environment: `AGENT` (the binary), `ROUNDS` (5, at most, of each row), `IDLE_SECONDS` (60),
//! `REDIS_SERVER`, and `ROWS`: the rows to measure, as `form-6,move-all-100`; all when it is empty.
//! Local pods on loopback addresses; nothing else should run meanwhile.
//!
//! Does not: judge. A figure that misses its aim is printed like any other.

mod forming;
mod idle;
mod moving;
mod probes;
mod sizes;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{Testbed, server::Server};

use moving::Moved;
use sizes::{SIZES, Size};

/// What `ROWS` may name. Those with a number are there for each size: `form-6`, `form-30`, ...
const ROWS: [&str; 7] = [
    "form-",
    "move-all-",
    "move-one-",
    "probes",
    "idle",
    "traffic-",
    "binary",
];

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
        let [six, ..] = SIZES;
        let bed = self.formed(name, six).await?;
        bed.all_ready(Duration::from_secs(60)).await?;
        Ok(bed)
    }

    /// A cluster of this size that its agents have formed.
    async fn formed(&self, name: &str, size: Size) -> Result<Testbed> {
        let bed = Testbed::builder(name)
            .shape(size.masters, 1)
            .server(&self.server.program)
            .agent(&self.agent)
            .build()
            .await?;
        bed.start_all().await?;
        sizes::whole(&bed, Duration::from_secs(180)).await?;
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
    let mut failed = Vec::new();
    for name in wanted()? {
        if let Err(error) = measure(&bench, &name).await {
            let first = error.to_string();
            row(
                &name,
                &format!("no figure: {}", first.lines().next().unwrap_or_default()),
            );
            eprintln!("bench: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("no figure for {}", failed.join(", "));
    }
    Ok(())
}

async fn measure(bench: &Bench, name: &str) -> Result<()> {
    match (name, sized(name)) {
        ("probes", _) => probes::measure(bench).await,
        ("idle", _) => idle::measure(bench).await,
        ("binary", _) => {
            let size = std::fs::metadata(&bench.agent)?.len();
            row("binary, static", &format!("{:.1} MB", size as f64 / 1e6));
            Ok(())
        }
        (_, Some(("form-", size))) => forming::measure(bench, size).await,
        (_, Some(("move-all-", size))) => moving::measure(bench, size, Moved::All).await,
        (_, Some(("move-one-", size))) => moving::measure(bench, size, Moved::One).await,
        (_, Some(("traffic-", size))) => traffic::measure(bench, size).await,
        _ => bail!("there is no such row; there are {}", all_rows().join(" ")),
    }
}

/// The row's kind and size, of a row that has a size.
fn sized(name: &str) -> Option<(&'static str, Size)> {
    let kind = ROWS.into_iter().find(|kind| {
        let rest = name.strip_prefix(kind);
        kind.ends_with('-') && rest.is_some_and(|rest| rest.parse::<usize>().is_ok())
    })?;
    let size = SIZES
        .into_iter()
        .find(|size| name == format!("{kind}{}", size.pods()))?;
    Some((kind, size))
}

fn all_rows() -> Vec<String> {
    let rows = ROWS.into_iter().flat_map(|kind| {
        let sizes = if kind.ends_with('-') { &SIZES[..] } else { &[] };
        let sized = sizes
            .iter()
            .map(move |size| format!("{kind}{}", size.pods()));
        let single = sizes.is_empty().then(|| kind.to_owned());
        sized.chain(single)
    });
    rows.collect()
}

/// Those of `ROWS`, or all; a name that is no row's stops before anything is measured.
fn wanted() -> Result<Vec<String>> {
    let text = std::env::var("ROWS").unwrap_or_default();
    let all = all_rows();
    let named: Vec<String> = text.split([',', ' ']).map(str::to_owned).collect();
    let named: Vec<String> = named.into_iter().filter(|name| !name.is_empty()).collect();
    if let Some(wrong) = named.iter().find(|name| !all.contains(name)) {
        bail!("ROWS={wrong}: there are {}", all.join(" "));
    }
    Ok(if named.is_empty() { all } else { named })
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
