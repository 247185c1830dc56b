//! The kubelet's part, against a stand-in for the agents' HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testbed::{Testbed, wait};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const SOON: Duration = Duration::from_secs(10);

/// Answers `/readyz`, and everything else, as `ready` says.
async fn stand_in(address: SocketAddr, ready: Arc<AtomicBool>) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = if ready.load(Ordering::Relaxed) {
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready"
            } else {
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 11\r\n\r\nwhy: reason"
            };
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok() {
                // A client that went away does not matter here.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    Ok(())
}

#[tokio::test]
async fn readiness_is_mirrored_and_orders_the_start() -> Result<()> {
    let bed = Testbed::builder("ready")
        .shape(2, 0)
        .publish_not_ready(false)
        .build()
        .await?;
    let flags = [Arc::new(AtomicBool::new(true)), Arc::default()];
    for (pod, flag) in bed.pods().iter().zip(&flags) {
        stand_in(pod.http_address(), Arc::clone(flag)).await?;
    }
    bed.mirror_readiness(Duration::from_millis(20));

    let stuck = bed.ordered_ready_start(Duration::from_millis(500)).await;
    let stuck = stuck.err().context("the second pod cannot be ready")?;
    ensure!(format!("{stuck:#}").contains("why: reason"), "{stuck:#}");
    ensure!(bed.dns.is_ready("redis-app-0") && !bed.dns.is_ready("redis-app-1"));

    for flag in &flags {
        flag.fetch_not(Ordering::Relaxed);
    }
    wait::until(SOON, "the flags are mirrored", async || {
        ensure!(!bed.dns.is_ready("redis-app-0"), "the first is still ready");
        ensure!(bed.dns.is_ready("redis-app-1"), "the second is not yet");
        Ok(())
    })
    .await?;
    ensure!(bed.all_ready(Duration::from_millis(100)).await.is_err());
    bed.finish().await
}
