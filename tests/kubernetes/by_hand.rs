//! Clusters made by hand, as people have them today: a StatefulSet of Redis alone, and `redis-cli
//! --cluster create`. With the sidecar added later, and without it for comparison.

use crate::stage::{LONG, Stage, redis_image, sidecar_image};
use crate::table::row;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::time::{Duration, Instant};
use testbed::wait;

const KEYS: usize = 1000;
/// Without a sidecar nothing comes of waiting; for so long it is looked.
const IN_VAIN: Duration = Duration::from_secs(60);

/// The style of the tutorials: one container, and no word of who is who.
fn statefulset() -> String {
    include_str!("../manifests/by_hand/redis.yaml").replace("redis:7.2", &redis_image())
}

/// What the tutorials have one do, and some keys.
async fn made(case: &str) -> Result<Stage> {
    let stage = Stage::open(case).await?;
    stage.feed(&["apply", "-f", "-"], &statefulset())?;
    wait::until(LONG, "six pods run", async || {
        let pods = stage.pods()?;
        let ready = pods.iter().filter(|pod| pod.ready).count();
        ensure!(ready == 6, "{ready} are ready");
        Ok(())
    })
    .await?;
    let pods = stage.pods()?;
    let places: Vec<String> = pods.iter().map(|pod| format!("{}:6379", pod.ip)).collect();
    let mut args = vec![
        "exec",
        "redis-app-0",
        "--",
        "redis-cli",
        "--cluster",
        "create",
    ];
    args.extend(places.iter().map(String::as_str));
    args.extend(["--cluster-replicas", "1", "--cluster-yes"]);
    stage.kubectl(&args)?;
    stage.whole(6).await?;
    let sets: String = (0..KEYS).map(|k| format!("SET key:{k} {k}\n")).collect();
    stage.feed(
        &[
            "exec",
            "-i",
            "redis-app-0",
            "-c",
            "redis",
            "--",
            "redis-cli",
            "-c",
        ],
        &sets,
    )?;
    Ok(stage)
}

/// How many of the keys are there.
fn kept(stage: &Stage) -> Result<usize> {
    let gets: String = (0..KEYS).map(|k| format!("GET key:{k}\n")).collect();
    let said = stage.feed(
        &[
            "exec",
            "-i",
            "redis-app-0",
            "-c",
            "redis",
            "--",
            "redis-cli",
            "-c",
        ],
        &gets,
    )?;
    let values: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("->"))
        .collect();
    let right = |(k, value): &(usize, &&str)| **value == k.to_string();
    Ok(values.iter().enumerate().filter(right).count())
}

/// README's way: the Service publishes all addresses, and the patch adds the container.
#[tokio::test]
#[ignore = "make e2e"]
async fn the_sidecar_is_added_to_a_cluster_made_by_hand() -> Result<()> {
    let stage = made("existing").await?;
    let (before, _) = stage.whole(6).await?;
    let pods = stage.pods()?;
    let patch = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/components/existing-statefulset/add-sidecar.yaml"
    ))?;
    let patch = patch.replace("redis-sidecar:0.1.0", &sidecar_image());
    let begin = Instant::now();
    stage.kubectl(&[
        "patch",
        "service",
        "redis-service",
        "--patch",
        r#"{"spec":{"publishNotReadyAddresses":true}}"#,
    ])?;
    stage.kubectl(&["patch", "statefulset", "redis-app", "--patch", &patch])?;
    stage.kubectl(&[
        "rollout",
        "status",
        "statefulset/redis-app",
        "--timeout=480s",
    ])?;
    let (after, _) = stage.replaced(&pods, 6).await?;
    let took = begin.elapsed();
    ensure!(after.ids() == before.ids(), "somebody was reborn:\n{after}");
    let keys = kept(&stage)?;
    ensure!(keys == KEYS, "{keys} of {KEYS} keys are left");
    row(
        "the sidecar added to a cluster made by hand",
        took,
        &format!("six pods one by one; {keys} of {KEYS} keys"),
    );
    let moved = stage.pods()?;
    stage.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    let (again, took) = stage.replaced(&moved, 6).await?;
    ensure!(again.ids() == before.ids(), "somebody was reborn:\n{again}");
    let keys = kept(&stage)?;
    ensure!(keys == KEYS, "{keys} of {KEYS} keys are left");
    row(
        "then all its pods deleted",
        took,
        &format!("{keys} of {KEYS} keys"),
    );

    let pods = stage.pods()?;
    let patch = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/patches/remove-sidecar.yaml"
    );
    let begin = Instant::now();
    let set = "statefulset/redis-app";
    stage.kubectl(&["patch", set, "--patch-file", patch])?;
    stage.kubectl(&["rollout", "status", set, "--timeout=480s"])?;
    let (alone, _) = stage.replaced(&pods, 6).await?;
    ensure!(alone.ids() == before.ids(), "somebody was reborn:\n{alone}");
    let left = stage.json(&["get", "pods"])?.to_string();
    ensure!(
        !left.contains("redis-sidecar:"),
        "a container of it is left"
    );
    let keys = kept(&stage)?;
    ensure!(keys == KEYS, "{keys} of {KEYS} keys are left");
    row(
        "the sidecar removed again",
        begin.elapsed(),
        &format!("six pods one by one; {keys} of {KEYS} keys"),
    );
    stage.close().await
}

/// The same cluster without the sidecar, for comparison.
#[tokio::test]
#[ignore = "make e2e"]
async fn without_the_sidecar_all_pods_deleted_stay_apart() -> Result<()> {
    let stage = made("by-hand").await?;
    let pods = stage.pods()?;
    stage.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    wait::until(
        LONG,
        "all pods are new ones and Kubernetes has them ready",
        async || {
            let now = stage.pods()?;
            let new =
                |pod: &&crate::stage::Pod| pod.ready && pods.iter().all(|old| old.uid != pod.uid);
            let new = now.iter().filter(new).count();
            ensure!(new == 6, "{new} are new and ready");
            Ok(())
        },
    )
    .await?;
    let begin = Instant::now();
    let whole = wait::until(IN_VAIN, "the cluster is whole", async || stage.look(6)).await;
    let moved = stage.pods()?;
    let moved = pods
        .iter()
        .zip(&moved)
        .filter(|(b, n)| b.ip != n.ip)
        .count();
    let state = stage.redis("redis-app-0", "CLUSTER INFO\n")?;
    let state = state
        .lines()
        .next()
        .context("CLUSTER INFO")?
        .trim()
        .to_owned();
    let says = match &whole {
        Ok(_) => "whole".to_owned(),
        Err(_) => format!("not whole; redis-app-0 says {state}; Kubernetes says all are ready"),
    };
    row(
        "the same without the sidecar: all pods deleted",
        begin.elapsed(),
        &format!("{moved} of 6 with another address: {says}"),
    );
    stage.close().await
}
