//! What agents send when there is nothing to do: to peers, to DNS, and to the own Redis.
//!
//! Counted outside the agent: the servers' own statistics, the testbed's DNS, and the sockets that
//! the kernel lists for each process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testbed::{Pod, Testbed, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::sizes::Size;
use super::{Bench, row};

/// What the agent sends; everything else that a Redis counts is its replication's, or the bench's.
const AGENTS_COMMANDS: [&str; 5] = [
    "cmdstat_config|get",
    "cmdstat_cluster|nodes",
    "cmdstat_cluster|info",
    "cmdstat_cluster|shards",
    "cmdstat_info",
];
/// The UDP payload that the resolver announces.
const EDNS_PAYLOAD: u16 = 1232;

/// Agents ask the same one again after 5 s (`ELSEWHERE` in `src/decide/doubts.rs`).
const QUIET: Duration = Duration::from_secs(10);

/// One look at a Redis's own counters.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    commands: u64,
    bytes: u64,
    connections: u64,
}

/// Lets a cluster of this size idle and prints the row.
pub(super) async fn measure(bench: &Bench, size: Size) -> Result<()> {
    let bed = bench.formed("bench-traffic", size).await?;
    bed.all_ready(Duration::from_secs(120)).await?;
    let pods = bed.pods();
    wait::until(Duration::from_secs(60), "all are members", async || {
        for pod in &pods {
            let role = pod.get("/role").await?.body;
            if !role.contains(r#""stage":"member""#) {
                bail!("{} is not", pod.name);
            }
        }
        Ok(())
    })
    .await?;
    questions_have_ended(&pods).await?;
    let (mut before, mut cost) = (Vec::new(), Vec::new());
    for pod in &pods {
        let first = counted(pod).await?;
        let second = counted(pod).await?;
        before.push(second);
        cost.push(second.bytes - first.bytes);
    }
    bed.dns.forget_questions();
    tokio::time::sleep(bench.idle).await;
    let questions = bed.dns.questions();
    let (mut commands, mut bytes, mut connections) = (0, 0, 0);
    for ((pod, before), cost) in pods.iter().zip(before).zip(cost) {
        let after = counted(pod).await?;
        // Less the one look itself.
        commands += (after.commands - before.commands).saturating_sub(1);
        bytes += (after.bytes - before.bytes).saturating_sub(cost);
        connections += after.connections - before.connections;
    }
    let mut dns_bytes = 0;
    for tcp in [false, true] {
        let asked = questions.iter().filter(|question| question.tcp == tcp);
        dns_bytes += asked.count() * dns_exchange(&bed, tcp).await?;
    }
    let open = peers_connected(&pods).await?;
    let per_minute = |sum: f64| sum / pods.len() as f64 / bench.idle.as_secs_f64() * 60.0;
    row(
        &format!("steady traffic of one agent of {} a minute", size.pods()),
        &format!(
            "peers: {open} open and {connections} new connections of all together{}; DNS: {:.0} questions, {:.1} kB; \
             own Redis: {:.0} commands, {:.1} kB",
            if open == 0 && connections == 0 {
                ", so 0 bytes"
            } else {
                ""
            },
            per_minute(questions.len() as f64),
            per_minute(dns_bytes as f64) / 1e3,
            per_minute(commands as f64),
            per_minute(bytes as f64) / 1e3,
        ),
    );
    bed.finish().await
}

/// After forming each agent asks the masters once whether they know it (`wonder_who_knows_nobody`): waits until
/// no Redis has had a new connection for twice as long as the questions are apart.
async fn questions_have_ended(pods: &[std::sync::Arc<Pod>]) -> Result<()> {
    let (mut last, mut since) = (None, Instant::now());
    wait::until(
        Duration::from_secs(120),
        "nobody asks any more",
        async || {
            let mut connections = 0;
            for pod in pods {
                connections += counted(pod).await?.connections;
            }
            if last.replace(connections) != Some(connections) {
                since = Instant::now();
            }
            ensure!(since.elapsed() > QUIET, "{connections} connections");
            Ok(())
        },
    )
    .await
}

/// Bytes of clients, those of replication left out.
async fn counted(pod: &Pod) -> Result<Counted> {
    let all: String = pod.command(&["INFO", "all"]).await?;
    let fields: BTreeMap<&str, &str> = all
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let number = |name: &str| {
        fields
            .get(name)
            .and_then(|value| value.trim().parse::<u64>().ok())
    };
    let calls = |name: &&str| {
        let calls = fields.get(name)?.strip_prefix("calls=")?;
        calls.split(',').next()?.parse::<u64>().ok()
    };
    let total = |way: &str| {
        let all = number(&format!("total_net_{way}_bytes"));
        let replication = number(&format!("total_net_repl_{way}_bytes")).unwrap_or_default();
        Some(all?.saturating_sub(replication))
    };
    Ok(Counted {
        commands: AGENTS_COMMANDS.iter().filter_map(calls).sum(),
        bytes: total("input").context("no bytes")? + total("output").context("no bytes")?,
        connections: number("total_connections_received").context("no connections")?,
    })
}

/// Connections of agents that lead to another pod.
async fn peers_connected(pods: &[std::sync::Arc<Pod>]) -> Result<usize> {
    let present: BTreeSet<_> = pods.iter().map(|pod| pod.address()).collect();
    let mut connected = 0;
    for pod in pods {
        let pid = pod.agent.pid().await.context("the agent does not run")?;
        let mut inodes = BTreeSet::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let target = std::fs::read_link(entry?.path()).unwrap_or_default();
            let target = target.to_string_lossy().into_owned();
            let inode = target.strip_prefix("socket:[");
            inodes.extend(inode.map(|inode| inode.trim_end_matches(']').to_owned()));
        }
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(remote), Some(inode)) = (words.get(2), words.get(9)) else {
                continue;
            };
            let ip = remote.split(':').next().unwrap_or_default();
            let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16)?.swap_bytes()).into();
            let peer = ip != pod.address() && present.contains(&ip);
            connected += usize::from(peer && inodes.contains(*inode));
        }
    }
    Ok(connected)
}

/// The bytes of the agent's question and of the answer to it, as it asks: SRV at the Service's name.
async fn dns_exchange(bed: &Testbed, tcp: bool) -> Result<usize> {
    let server: SocketAddr = bed.pod(0)?.dns_address();
    let mut question = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in bed.dns.service_name().trim_end_matches('.').split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    // The root, SRV, IN; then an OPT record.
    question.extend_from_slice(&[0, 0, 33, 0, 1, 0, 0, 41]);
    question.extend_from_slice(&EDNS_PAYLOAD.to_be_bytes());
    question.extend_from_slice(&[0; 6]);
    if !tcp {
        let socket = UdpSocket::bind((server.ip(), 0)).await?;
        socket.send_to(&question, server).await?;
        let mut answer = vec![0; 65_535];
        let answered = socket.recv(&mut answer);
        let length = tokio::time::timeout(Duration::from_secs(2), answered).await??;
        return Ok(question.len() + length);
    }
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(question.len())?).await?;
    stream.write_all(&question).await?;
    let length = stream.read_u16().await?;
    Ok(question.len() + usize::from(length) + 4)
}
