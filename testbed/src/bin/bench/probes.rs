//! How fast the probes answer, with a healthy and with a frozen Redis, and how soon a failover
//! shows on `/role`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::{Pod, Testbed, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bench, row, spread};

const DEADLINE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 5_000;
const CONNECTIONS: usize = 4;
/// Twice for each of the three shards: a master votes once in two node timeouts for the same one.
const FAILOVERS: usize = 6;

/// Measures on one cluster of six pods and prints the rows.
pub(super) async fn measure(bench: &Bench) -> Result<()> {
    let bed = bench.six_pods("bench-probes").await?;
    let pod = bed.pod(0)?;
    print_probes(&pod, "healthy").await?;

    pod.redis.freeze().await?;
    wait::until(
        DEADLINE,
        "the frozen Redis is noticed",
        async || match pod.ready().await {
            Ok(()) => bail!("still ready"),
            Err(_) => Ok(()),
        },
    )
    .await?;
    print_probes(&pod, "frozen").await?;
    pod.redis.thaw().await?;
    bed.all_ready(DEADLINE).await?;

    let mut times = Vec::new();
    for turn in 0..FAILOVERS {
        bed.whole(DEADLINE).await?;
        times.push(failover(&bed, turn % 3).await?);
    }
    let (median, most) = spread(times);
    row(
        "failover in nodes.conf -> `/role`",
        &format!(
            "{} ms (max {} ms), {FAILOVERS} times",
            median.as_millis(),
            most.as_millis()
        ),
    );
    bed.finish().await
}

async fn print_probes(pod: &Pod, redis: &str) -> Result<()> {
    let address = pod.http_address();
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        clients.spawn(ask_many(address, REQUESTS / CONNECTIONS));
    }
    let mut times = Vec::new();
    while let Some(client) = clients.join_next().await {
        times.extend(client??);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() - 1) as f64 * share) as usize;
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    row(
        &format!("`/readyz`, Redis {redis}, {CONNECTIONS} connections"),
        &format!(
            "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; {rate:.0} answers/s",
            at(0.5),
            at(0.99),
            at(1.0)
        ),
    );
    Ok(())
}

/// Requests one after another on one connection, as a prober that keeps it alive.
async fn ask_many(address: SocketAddr, requests: usize) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut buffer = vec![0; 16 << 10];
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let mut have = 0;
        while !is_whole(&buffer[..have]) {
            let read = stream.read(&mut buffer[have..]).await?;
            if read == 0 {
                bail!("the connection ended");
            }
            have += read;
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

/// Has the replica of a shard take over, and times from its nodes.conf saying so to its `/role` saying so.
async fn failover(bed: &Testbed, shard: usize) -> Result<Duration> {
    let snapshot = bed.truth().await.whole()?;
    let replicas = snapshot.replication();
    let replica = [shard, shard + 3]
        .into_iter()
        .find(|ordinal| replicas.contains_key(ordinal));
    let pod = bed.pod(replica.context("no replica")?)?;
    let (told, hears) = tokio::sync::oneshot::channel();
    let watched: Arc<Pod> = Arc::clone(&pod);
    // The file is looked at in a thread of its own, as fast as it can be read.
    std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            let text = std::fs::read_to_string(watched.nodes_conf()).unwrap_or_default();
            if text.contains("myself,master") {
                let _ = told.send(Instant::now());
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    pod.command::<String>(&["CLUSTER", "FAILOVER"]).await?;
    let published = wait::until(DEADLINE, "/role says master", async || {
        loop {
            let role = pod.get("/role?format=text").await?;
            if role.body.trim() == "master" {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await?;
    let written = hears.await.context("nodes.conf never said so")?;
    Ok(published.saturating_duration_since(written))
}
