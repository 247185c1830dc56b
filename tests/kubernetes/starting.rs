//! From `kubectl apply -k` to whole.

use crate::stage::Stage;
use crate::table::row;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;

async fn starts(case: &str, components: &[&str], what: &str) -> Result<()> {
    let stage = Stage::open(case).await?;
    stage.apply(components, "")?;
    let (snapshot, took) = stage.whole(6).await?;
    row(what, took, "from `kubectl apply -k`, images in place");
    ensure!(snapshot.masters() == [0, 1, 2], "masters: {snapshot}");
    let placed = snapshot.replication();
    ensure!(
        placed == BTreeMap::from([(3, 0), (4, 1), (5, 2)]),
        "replicas: {snapshot}"
    );
    let restarts: u64 = stage.pods()?.iter().map(|pod| pod.restarts).sum();
    ensure!(restarts == 0, "{restarts} containers were started again");
    stage.close().await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_in_parallel() -> Result<()> {
    starts("parallel", &[], "first start, six pods at once").await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_one_after_another() -> Result<()> {
    let what = "first start, `OrderedReady`";
    starts("ordered", &["ordered-ready"], what).await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_as_a_native_sidecar() -> Result<()> {
    let what = "first start, native sidecars";
    starts("native", &["native-sidecar"], what).await
}

/// Where the network plugin enforces policies; elsewhere they are only taken.
#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_behind_network_policies() -> Result<()> {
    let stage = Stage::open("policies").await?;
    stage.feed(
        &["create", "-f", "-"],
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: default-deny}, \
         spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}",
    )?;
    stage.apply(&["network-policy"], "")?;
    let (_, took) = stage.whole(6).await?;
    row(
        "first start behind a default-deny NetworkPolicy and ours",
        took,
        "",
    );
    stage.user().await?;
    let book = stage.book().await?;
    ensure!(book.lost == 0 && book.acknowledged > 0, "{book}");
    stage.close().await
}

/// With a password, and all other components: as few people start, and all should be able to.
#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_with_a_password() -> Result<()> {
    let mut stage = Stage::open("password").await?;
    stage.password = Some("a-password-of-tests");
    let auth = "requirepass a-password-of-tests\nmasterauth a-password-of-tests";
    stage.kubectl(&[
        "create",
        "secret",
        "generic",
        "redis-password",
        "--from-literal=password=a-password-of-tests",
        &format!("--from-literal=auth.conf={auth}"),
    ])?;
    stage.apply(&["password", "native-sidecar", "network-policy"], "")?;
    let (snapshot, took) = stage.whole(6).await?;
    row("first start with a password, native sidecars", took, "");
    ensure!(snapshot.masters() == [0, 1, 2], "{snapshot}");
    stage.user().await?;
    let book = stage.book().await?;
    ensure!(book.lost == 0 && book.acknowledged > 0, "{book}");
    stage.close().await
}
