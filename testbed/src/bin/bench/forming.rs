//! From servers that have been up for 3 s to one cluster: by the agents, and by redis-cli.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::{Testbed, wait};
use tokio::process::Command;

use super::sizes::{self, Size};
use super::{Bench, row, spread};

/// Pods have been up for about this long when the last one of a StatefulSet answers.
const SERVERS_UP: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(180);

/// Who makes the cluster.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Agents,
    RedisCli,
}

/// The two moments that count, from the start of the agents or of redis-cli.
struct Times {
    serving: Duration,
    whole: Duration,
}

/// One of the two moments.
type Moment = fn(&Times) -> Duration;

/// Forms so many times each way, in turns, and prints the rows.
pub(super) async fn measure(bench: &Bench, size: Size) -> Result<()> {
    let (pods, rounds) = (size.pods(), size.rounds(bench));
    let (mut agents, mut cli) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        agents.push(form(bench, size, Maker::Agents).await?);
        cli.push(form(bench, size, Maker::RedisCli).await?);
    }
    let moments: [(&str, Moment); 2] = [
        ("`cluster_state:ok` everywhere, replicas linked", |times| {
            times.serving
        }),
        ("whole: every node's table complete and right", |times| {
            times.whole
        }),
    ];
    for (what, moment) in moments {
        let (ours, ours_max) = spread(agents.iter().map(moment).collect());
        let (theirs, theirs_max) = spread(cli.iter().map(moment).collect());
        row(
            &format!("form {pods} pods, {what}"),
            &format!(
                "agents {:.2} s (max {:.2}), redis-cli {:.2} s (max {:.2}): {:.1} x, {rounds} rounds",
                ours.as_secs_f64(),
                ours_max.as_secs_f64(),
                theirs.as_secs_f64(),
                theirs_max.as_secs_f64(),
                theirs.as_secs_f64() / ours.as_secs_f64(),
            ),
        );
    }
    Ok(())
}

async fn form(bench: &Bench, size: Size, maker: Maker) -> Result<Times> {
    let bed = Testbed::builder("bench-forming")
        .shape(size.masters, 1)
        .server(&bench.server.program)
        .agent(&bench.agent)
        .build()
        .await?;
    for pod in bed.pods() {
        bed.publish(&pod);
        pod.start_redis().await?;
    }
    for pod in bed.pods() {
        pod.redis_answers(DEADLINE).await?;
    }
    tokio::time::sleep(SERVERS_UP).await;
    let began = Instant::now();
    match maker {
        Maker::Agents => {
            for pod in bed.pods() {
                pod.start_agent().await?;
            }
        }
        Maker::RedisCli => create_by_hand(&bed).await?,
    }
    let serving = wait::until(DEADLINE, "the cluster serves", async || {
        serves(&bed).await?;
        Ok(began.elapsed())
    })
    .await?;
    let whole = sizes::whole(&bed, DEADLINE).await? - began;
    bed.finish().await?;
    Ok(Times { serving, whole })
}

/// `redis-cli --cluster create` as the tutorials have it. It returns before every node agrees, so
/// the waiting is the same for both.
async fn create_by_hand(bed: &Testbed) -> Result<()> {
    let mut command = Command::new("redis-cli");
    command.args(["--cluster", "create"]);
    for pod in bed.pods() {
        command.arg(pod.redis_address().to_string());
    }
    command.args(["--cluster-replicas", "1", "--cluster-yes"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .context("start redis-cli")?;
    if !output.status.success() {
        bail!("redis-cli: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// What a client would notice: the state is ok everywhere and every replica is linked.
async fn serves(bed: &Testbed) -> Result<()> {
    let mut replicas = 0;
    for pod in bed.pods() {
        let info: String = pod.command(&["CLUSTER", "INFO"]).await?;
        if !info.contains("cluster_state:ok") {
            bail!("{} is not ok", pod.name);
        }
        let info: String = pod.command(&["INFO", "replication"]).await?;
        if info.contains("role:slave") {
            replicas += 1;
            if !info.contains("master_link_status:up") {
                bail!("{} is not linked", pod.name);
            }
        }
    }
    let wanted = bed.pods().len() - bed.set().masters;
    if replicas != wanted {
        bail!("{replicas} of {wanted} replicas");
    }
    Ok(())
}
