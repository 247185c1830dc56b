//! What people do to a StatefulSet that is well.

use crate::stage::{LONG, Stage, redis_image, sidecar_image};
use crate::table::row;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Instant;
use testbed::wait;

const NAME: &str = "statefulset/redis-app";

async fn rolls(case: &str, components: &[&str], what: &str) -> Result<()> {
    let stage = Stage::open(case).await?;
    stage.apply(components, "")?;
    let ids = stage.up(6).await?;
    stage.user().await?;
    let before = stage.pods()?;
    let begin = Instant::now();
    stage.kubectl(&["rollout", "restart", NAME])?;
    stage.kubectl(&["rollout", "status", NAME, "--timeout=480s"])?;
    let (snapshot, _) = stage.replaced(&before, 6).await?;
    let took = begin.elapsed();
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let book = stage.book().await?;
    book.keeps_all()?;
    row(what, took, &book.to_string());
    stage.close().await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_rolling_restart_under_writes() -> Result<()> {
    rolls("roll", &[], "`kubectl rollout restart` under writes").await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_rolling_restart_under_ordered_ready() -> Result<()> {
    let what = "`kubectl rollout restart` under writes, `OrderedReady`";
    rolls("roll-ordered", &["ordered-ready"], what).await
}

#[tokio::test]
#[ignore = "make e2e"]
async fn a_rolling_restart_of_native_sidecars() -> Result<()> {
    let what = "`kubectl rollout restart` under writes, native sidecars";
    rolls("roll-native", &["native-sidecar"], what).await
}

/// 6, 8, 6: new pods join as replicas, and those removed are forgotten.
#[tokio::test]
#[ignore = "make e2e"]
async fn scaled_out_and_in() -> Result<()> {
    let stage = Stage::open("scale").await?;
    stage.apply(&[], "")?;
    stage.up(6).await?;
    stage.user().await?;
    let begin = Instant::now();
    stage.kubectl(&["scale", NAME, "--replicas=8"])?;
    let (snapshot, _) = stage.whole(8).await?;
    row("scaled from 6 to 8", begin.elapsed(), "");
    ensure!(snapshot.masters() == [0, 1, 2], "{snapshot}");
    let begin = Instant::now();
    stage.kubectl(&["scale", NAME, "--replicas=6"])?;
    let (snapshot, _) = stage.whole_within(6, LONG * 3).await?;
    row(
        "scaled back to 6",
        begin.elapsed(),
        "until both are forgotten in every table",
    );
    ensure!(snapshot.masters() == [0, 1, 2], "{snapshot}");
    stage.book().await?.keeps_all()?;
    stage.close().await
}

/// A new template for the last pod alone, then for all.
#[tokio::test]
#[ignore = "make e2e"]
async fn a_canary_by_partition() -> Result<()> {
    let stage = Stage::open("canary").await?;
    stage.apply(&[], "")?;
    let ids = stage.up(6).await?;
    stage.user().await?;
    let before = stage.pods()?;
    let partition = |n: u32| {
        let patch = format!(
            r#"{{"spec":{{"updateStrategy":{{"rollingUpdate":{{"partition":{n}}}}},"template":{{"metadata":{{"annotations":{{"canary":"yes"}}}}}}}}}}"#
        );
        stage.kubectl(&["patch", NAME, "--patch", &patch])
    };
    let begin = Instant::now();
    partition(5)?;
    let (snapshot, _) = stage.replaced(&before[5..], 6).await?;
    row(
        "a canary: the last pod alone by `partition`",
        begin.elapsed(),
        "",
    );
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let now = stage.pods()?;
    let same = |k: usize| before[k].uid == now[k].uid;
    ensure!((0..5).all(same), "another pod was replaced, too: {now:?}");
    let begin = Instant::now();
    partition(0)?;
    let (snapshot, _) = stage.replaced(&before[..5], 6).await?;
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let took = begin.elapsed();
    let book = stage.book().await?;
    book.keeps_all()?;
    row("the other five after it", took, &book.to_string());
    stage.close().await
}

/// The StatefulSet goes and comes back; the pods stay.
#[tokio::test]
#[ignore = "make e2e"]
async fn the_statefulset_is_deleted_alone() -> Result<()> {
    let stage = Stage::open("orphan").await?;
    stage.apply(&[], "")?;
    stage.up(6).await?;
    stage.user().await?;
    let before = stage.pods()?;
    stage.kubectl(&["delete", NAME, "--cascade=orphan"])?;
    stage.whole(6).await?;
    let begin = Instant::now();
    stage.apply(&[], "")?;
    wait::until(LONG, "the pods are adopted", async || {
        let set = stage.json(&["get", NAME])?;
        let ready = set["status"]["readyReplicas"].as_u64();
        ensure!(ready == Some(6), "{ready:?} ready replicas");
        Ok(())
    })
    .await?;
    stage.whole(6).await?;
    let now = stage.pods()?;
    let same = before.iter().zip(&now).all(|(b, n)| b.uid == n.uid);
    ensure!(same, "pods were replaced: {now:?}");
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        "`delete --cascade=orphan`, and back",
        begin.elapsed(),
        &book.to_string(),
    );
    stage.close().await
}

/// The chart: installed, changed under writes, and removed; the volumes stay.
#[tokio::test]
#[ignore = "make e2e"]
async fn installed_and_upgraded_with_helm() -> Result<()> {
    let Some(helm) = Helm::find() else {
        println!("not played: no helm on the PATH");
        return Ok(());
    };
    let mut stage = Stage::open("helm").await?;
    stage.headless = "redis-app-headless";
    helm.run(&stage, &["install"], &["redis.maxmemory=200mb"])?;
    let (snapshot, took) = stage.whole(6).await?;
    row("`helm install`", took, "");
    ensure!(snapshot.masters() == [0, 1, 2], "{snapshot}");
    stage.user().await?;
    let before = stage.pods()?;
    let begin = Instant::now();
    let more = ["redis.maxmemory=200mb", "podAnnotations.changed=yes"];
    helm.run(&stage, &["upgrade", "--wait", "--timeout=480s"], &more)?;
    let (after, _) = stage.replaced(&before, 6).await?;
    ensure!(
        after.ids() == snapshot.ids(),
        "somebody was reborn:\n{after}"
    );
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        "`helm upgrade` under writes",
        begin.elapsed(),
        &book.to_string(),
    );
    helm.remove(&stage)?;
    let claims = stage.json(&["get", "pvc"])?;
    let claims = claims["items"].as_array().map_or(0, Vec::len);
    ensure!(
        claims == 6,
        "{claims} of 6 volumes are left after `helm uninstall`"
    );
    stage.close().await
}

struct Helm;

impl Helm {
    fn find() -> Option<Self> {
        let found = Command::new("helm").arg("version").output().ok()?;
        found.status.success().then_some(Helm)
    }

    fn run(&self, stage: &Stage, verb: &[&str], settings: &[&str]) -> Result<()> {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/helm/redis-cluster");
        let mut helm = Command::new("helm");
        helm.args(verb).args(["redis-app", chart]);
        let images = [("sidecar", sidecar_image()), ("redis", redis_image())];
        for (name, image) in images {
            let (repository, tag) = image.rsplit_once(':').context("an image with its tag")?;
            helm.arg(format!(
                "--set={name}.image.repository={repository},{name}.image.tag={tag}"
            ));
        }
        helm.args(settings.iter().map(|setting| format!("--set={setting}")));
        self.finish(stage, helm)
    }

    fn remove(&self, stage: &Stage) -> Result<()> {
        let mut helm = Command::new("helm");
        helm.args(["uninstall", "redis-app", "--wait"]);
        self.finish(stage, helm)
    }

    fn finish(&self, stage: &Stage, mut helm: Command) -> Result<()> {
        let output = helm.args(["--namespace", &stage.namespace]).output()?;
        let says = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm: {says}");
        Ok(())
    }
}
