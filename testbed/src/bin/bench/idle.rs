//! What an agent costs when there is nothing to do: memory and CPU. Its questions: see `traffic`.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::Pod;

use super::{Bench, row};

const DEADLINE: Duration = Duration::from_secs(60);
/// `USER_HZ`, the unit of the times in /proc/PID/stat on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Lets six pods idle and prints the rows.
pub(super) async fn measure(bench: &Bench) -> Result<()> {
    let bed = bench.six_pods("bench-idle").await?;
    bed.whole(DEADLINE).await?;
    let pods = bed.pods();
    let mut before = Vec::new();
    for pod in &pods {
        before.push(cpu_seconds(pod).await?);
    }
    tokio::time::sleep(bench.idle).await;

    let seconds = bench.idle.as_secs_f64();
    let (mut cpu, mut rss) = (0.0f64, 0u64);
    for (pod, cpu_before) in pods.iter().zip(before) {
        cpu = cpu.max((cpu_seconds(pod).await? - cpu_before) / seconds * 100.0);
        rss = rss.max(status_kib(pod, "VmRSS:").await?);
    }
    row(
        &format!("memory after {seconds:.0} s idle, worst of {}", pods.len()),
        &format!("RSS {:.1} MiB", rss as f64 / 1024.0),
    );
    row("CPU while idle, worst", &format!("{cpu:.2} % of a core"));
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
