//! What an agent costs when there is nothing to do: memory, CPU, questions to DNS and Redis.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::Pod;

use super::{Bench, row};

const DEADLINE: Duration = Duration::from_secs(60);
const COMMANDS: &str = "total_commands_processed";
const CONNECTIONS: &str = "total_connections_received";
/// `USER_HZ`, the unit of the times in /proc/PID/stat on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Lets six pods idle and prints the rows.
pub(super) async fn measure(bench: &Bench) -> Result<()> {
    let bed = bench.six_pods("bench-idle").await?;
    bed.whole(DEADLINE).await?;
    let pods = bed.pods();
    let mut before = Vec::new();
    for pod in &pods {
        let sent = counter(pod, COMMANDS).await?;
        before.push((
            cpu_seconds(pod).await?,
            sent,
            counter(pod, CONNECTIONS).await?,
        ));
    }
    bed.dns.forget_questions();
    tokio::time::sleep(bench.idle).await;

    let seconds = bench.idle.as_secs_f64();
    let (mut cpu, mut rss, mut sent, mut connections) = (0.0f64, 0u64, 0u64, 0u64);
    for (pod, (cpu_before, commands_before, connections_before)) in pods.iter().zip(before) {
        cpu = cpu.max((cpu_seconds(pod).await? - cpu_before) / seconds * 100.0);
        sent = sent.max(counter(pod, COMMANDS).await? - commands_before);
        connections += counter(pod, CONNECTIONS).await? - connections_before;
        rss = rss.max(status_kib(pod, "VmRSS:").await?);
    }
    let dns = bed.dns.questions().len() as f64 / pods.len() as f64 / seconds * 60.0;
    let per_minute = sent as f64 / seconds * 60.0;
    row(
        &format!("memory after {seconds:.0} s idle, worst of {}", pods.len()),
        &format!("RSS {:.1} MiB", rss as f64 / 1024.0),
    );
    row("CPU while idle, worst", &format!("{cpu:.2} % of a core"));
    row(
        "steady traffic of one agent",
        &format!(
            "{dns:.0} DNS questions a minute; a Redis serves {per_minute:.0} commands a minute, its \
             replication's included; new connections to any Redis: {connections}"
        ),
    );
    bed.finish().await
}

async fn proc_file(pod: &Pod, name: &str) -> Result<String> {
    let pid = pod.agent.pid().await.context("the agent does not run")?;
    Ok(std::fs::read_to_string(format!("/proc/{pid}/{name}"))?)
}

async fn status_kib(pod: &Pod, field: &str) -> Result<u64> {
    let status = proc_file(pod, "status").await?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("no such field")
}

/// User and system time so far.
async fn cpu_seconds(pod: &Pod) -> Result<f64> {
    let stat = proc_file(pod, "stat").await?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
    };
    let (user, system) = (
        ticks(11).context("no utime")?,
        ticks(12).context("no stime")?,
    );
    Ok((user + system) / TICKS_PER_SECOND)
}

/// A number in `INFO stats`.
async fn counter(pod: &Pod, name: &str) -> Result<u64> {
    let stats: String = pod.command(&["INFO", "stats"]).await?;
    let line = stats.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|number| number.trim_start_matches(':').trim().parse().ok());
    number.with_context(|| format!("no {name}"))
}
