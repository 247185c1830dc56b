//! From `kubectl apply -k` to whole.

use crate::stage::{LONG, Stage, redis_image};
use crate::table::row;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use testbed::wait;

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

/// Whatever people combine. The ServiceMonitor's type is not Kubernetes's own, and not here.
#[tokio::test]
#[ignore = "make e2e"]
async fn first_the_api_server_reads_every_component() -> Result<()> {
    let stage = Stage::open("read").await?;
    let all = [
        "password",
        "access",
        "network-policy",
        "ordered-ready",
        "native-sidecar",
    ];
    stage.try_to_apply(&[])?;
    for component in all {
        stage.try_to_apply(&[component])?;
    }
    stage.try_to_apply(&all)?;
    stage.close().await
}

/// Nobody may do anything in the namespace, but what our policy opens for Redis, and what others' own
/// policy opens for them: to ask. Where the network enforces policies; the table says so where it does not.
#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_behind_network_policies() -> Result<()> {
    let stage = Stage::open("policies").await?;
    stage.feed(
        &["create", "-f", "-"],
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: default-deny}, \
         spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}\n---\n\
         {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: others-ask}, \
         spec: {podSelector: {matchExpressions: [{key: app.kubernetes.io/instance, \
         operator: NotIn, values: [redis-app]}]}, policyTypes: [Egress], egress: [{}]}}",
    )?;
    stage.apply(&["network-policy"], "")?;
    let (_, took) = stage.whole(6).await?;
    stage.user().await?;
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        "first start behind a default-deny NetworkPolicy and ours",
        took,
        match stranger_reaches(&stage).await? {
            true => "this network enforces no policies",
            false => "a pod without the label reaches no Redis",
        },
    );
    stage.close().await
}

/// Whether a pod that the policy does not name gets an answer from Redis.
async fn stranger_reaches(stage: &Stage) -> Result<bool> {
    let ip = stage.pod(0)?.ip;
    stage.feed(
        &["create", "-f", "-"],
        &format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: stranger}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 999, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: stranger
      image: {}
      command: [timeout, \"10\", redis-cli, -h, \"{ip}\", PING]
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
",
            redis_image()
        ),
    )?;
    wait::until(LONG, "the stranger has tried", async || {
        let pod = stage.json(&["get", "pod", "stranger"])?;
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        // 1: redis-cli's, refused; 124: `timeout`'s, nobody answered.
        match ended["exitCode"].as_i64() {
            Some(0) => Ok(true),
            Some(1 | 124) => Ok(false),
            code => bail!("it ended with {code:?}: {}", pod["status"]),
        }
    })
    .await
}

/// With a password, and all other components: as few people start, and all should be able to.
#[tokio::test]
#[ignore = "make e2e"]
async fn first_start_with_a_password() -> Result<()> {
    let stage = Stage::open("password").await?.with_password()?;
    stage.apply(&["password", "native-sidecar", "network-policy"], "")?;
    let (snapshot, took) = stage.whole(6).await?;
    row("first start with a password, native sidecars", took, "");
    ensure!(snapshot.masters() == [0, 1, 2], "{snapshot}");
    stage.user().await?;
    stage.book().await?.keeps_all()?;
    stage.close().await
}
