//! A namespace with a cluster in it, and what is true of it.

use crate::kubectl::{feed, json, kubectl};
use crate::table::folder;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbed::truth::{Account, Place, Snapshot, Truth};
use testbed::wait;

/// For what Kubernetes, Redis and the sidecars do together on two shared cores.
pub(crate) const LONG: Duration = Duration::from_secs(180);
const REDIS_PORT: u16 = 6379;
const PASSWORD: &str = "a-password-of-tests";

/// An image from the environment, or the one that the manifests name.
fn image(variable: &str, default: &str) -> (String, String) {
    let image = std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    let (name, tag) = image.rsplit_once(':').expect("an image with its tag");
    (name.to_owned(), tag.to_owned())
}

pub(crate) fn sidecar_image() -> String {
    let (name, tag) = image("E2E_SIDECAR_IMAGE", "redis-sidecar:0.1.0");
    format!("{name}:{tag}")
}

pub(crate) fn redis_image() -> String {
    let (name, tag) = image("E2E_REDIS_IMAGE", "redis:7.2");
    format!("{name}:{tag}")
}

pub(crate) fn ledger_image() -> String {
    let (name, tag) = image("E2E_LEDGER_IMAGE", "redis-sidecar-ledger:0.1.0");
    format!("{name}:{tag}")
}

/// A pod of the StatefulSet.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) ordinal: usize,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) ip: String,
    pub(crate) ready: bool,
    /// Starts of containers again, all together.
    pub(crate) restarts: u64,
}

impl Pod {
    fn read(pod: &Value) -> Option<Self> {
        let name = pod["metadata"]["name"].as_str()?;
        let (set, ordinal) = name.rsplit_once('-')?;
        let conditions = pod["status"]["conditions"].as_array()?;
        let is_ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        let ends = !pod["metadata"]["deletionTimestamp"].is_null();
        let all = ["containerStatuses", "initContainerStatuses"];
        let statuses = all
            .iter()
            .filter_map(|name| pod["status"][*name].as_array());
        let restarts = statuses
            .flatten()
            .filter_map(|status| status["restartCount"].as_u64());
        (set == "redis-app").then(|| Pod {
            name: name.to_owned(),
            ordinal: ordinal.parse().expect("an ordinal"),
            uid: text(&pod["metadata"]["uid"]),
            node: text(&pod["spec"]["nodeName"]),
            ip: text(&pod["status"]["podIP"]),
            ready: conditions.iter().any(is_ready) && !ends,
            restarts: restarts.sum(),
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// One case's namespace.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) namespace: String,
    pub(crate) masters: usize,
    /// What clients start from.
    pub(crate) headless: &'static str,
    pub(crate) password: Option<&'static str>,
}

impl Stage {
    /// A new, empty namespace.
    pub(crate) async fn open(case: &str) -> Result<Self> {
        let namespace = format!("redis-sidecar-{case}");
        gone(&namespace).await?;
        feed(
            &["create", "-f", "-"],
            &format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: \
                 {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
            ),
        )?;
        Ok(Stage {
            namespace,
            masters: 3,
            headless: "redis-headless",
            password: None,
        })
    }

    /// With the Secret that components/password asks for.
    pub(crate) fn with_password(mut self) -> Result<Self> {
        let auth = format!("requirepass {PASSWORD}\nmasterauth {PASSWORD}");
        self.kubectl(&[
            "create",
            "secret",
            "generic",
            "redis-password",
            &format!("--from-literal=password={PASSWORD}"),
            &format!("--from-literal=auth.conf={auth}"),
        ])?;
        self.password = Some(PASSWORD);
        Ok(self)
    }

    /// As a user does: a kustomization of one's own, with the components wanted.
    pub(crate) fn apply(&self, components: &[&str], patches: &str) -> Result<()> {
        let folder = self.kustomization(components, patches)?;
        kubectl(&["apply", "-k", &folder.display().to_string()])?;
        Ok(())
    }

    /// The API server reads it all, and says what is wrong with it; nothing is made.
    pub(crate) fn try_to_apply(&self, components: &[&str]) -> Result<()> {
        let folder = self.kustomization(components, "")?.display().to_string();
        let dry = ["apply", "--dry-run=server", "--validate=strict", "-k"];
        let said = kubectl(&[&dry[..], &[&folder]].concat());
        let said = said.with_context(|| format!("with {components:?}"))?;
        ensure!(said.contains("statefulset"), "{components:?}: {said}");
        Ok(())
    }

    fn kustomization(&self, components: &[&str], patches: &str) -> Result<PathBuf> {
        let folder = folder().join(&self.namespace);
        fs::create_dir_all(&folder)?;
        let (sidecar, tag) = image("E2E_SIDECAR_IMAGE", "redis-sidecar:0.1.0");
        let (redis, redis_tag) = image("E2E_REDIS_IMAGE", "redis:7.2");
        let components: Vec<String> = components
            .iter()
            .map(|name| format!("../../../manifests/components/{name}"))
            .collect();
        fs::write(
            folder.join("kustomization.yaml"),
            format!(
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
                 namespace: {}\nresources: [../../../manifests/base]\ncomponents: {components:?}\n\
                 images:\n- {{name: redis-sidecar, newName: {sidecar}, newTag: {tag:?}}}\n\
                 - {{name: redis, newName: {redis}, newTag: {redis_tag:?}}}\n{patches}",
                self.namespace
            ),
        )?;
        Ok(folder)
    }

    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.feed(args, "")
    }

    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Result<String> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(args);
        feed(&all, input)
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(args);
        json(&all)
    }

    /// The StatefulSet's pods by ordinal, those that end included.
    pub(crate) fn pods(&self) -> Result<Vec<Pod>> {
        let list = self.json(&["get", "pods"])?;
        let items = list["items"].as_array().context("a list of pods")?;
        let mut pods: Vec<Pod> = items.iter().filter_map(Pod::read).collect();
        pods.sort_by_key(|pod| pod.ordinal);
        Ok(pods)
    }

    pub(crate) fn pod(&self, ordinal: usize) -> Result<Pod> {
        let pods = self.pods()?;
        let pod = pods.into_iter().find(|pod| pod.ordinal == ordinal);
        pod.with_context(|| format!("no pod {ordinal}"))
    }

    /// `redis-cli` in the pod, a command a line.
    pub(crate) fn redis(&self, pod: &str, commands: &str) -> Result<String> {
        let cli = ["exec", "-i", pod, "-c", "redis", "--", "redis-cli"];
        let Some(password) = self.password else {
            return self.feed(&cli, commands);
        };
        // Not as an argument, which everybody sees.
        let said = self.feed(&cli, &format!("AUTH {password}\n{commands}"))?;
        let answer = said.strip_prefix("OK\n").map(str::to_owned);
        answer.with_context(|| format!("the password is refused: {said}"))
    }

    /// What its agent says over HTTP, through the API server.
    pub(crate) fn role(&self, pod: &str) -> Result<Value> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/role",
            self.namespace
        );
        Ok(serde_json::from_str(&kubectl(&["get", "--raw", &path])?)?)
    }

    fn account(&self, pod: &str) -> Result<Account> {
        let said = self.redis(pod, "CLUSTER MYID\nCLUSTER NODES\nCLUSTER INFO\nINFO\n")?;
        let (id, rest) = said.split_once('\n').context("an ID")?;
        let (nodes, fields): (Vec<&str>, Vec<&str>) = rest
            .lines()
            .partition(|line| line.split_whitespace().count() >= 8 && !line.starts_with('#'));
        let fields = fields.join("\n");
        Account::read(id.trim(), &nodes.join("\n"), &fields, &fields)
    }

    /// All `count` pods are ready, and by what every Redis says the cluster is whole.
    pub(crate) fn look(&self, count: usize) -> Result<Snapshot> {
        let pods = self.pods()?;
        let ready: Vec<&Pod> = pods.iter().filter(|pod| pod.ready).collect();
        if ready.len() != count || pods.len() != count {
            let names: Vec<&str> = ready.iter().map(|pod| pod.name.as_str()).collect();
            bail!("ready: {names:?} of {} pods", pods.len());
        }
        let places: Vec<Place> = pods
            .iter()
            .map(|pod| {
                let redis = SocketAddr::new(pod.ip.parse()?, REDIS_PORT);
                Ok(Place {
                    ordinal: pod.ordinal,
                    name: pod.name.clone(),
                    redis,
                })
            })
            .collect::<Result<_>>()?;
        let answers = pods.iter().map(|pod| self.account(&pod.name)).collect();
        Truth::from_answers(&places, answers, self.masters).whole()
    }

    /// Waits for it, and says how long that took.
    pub(crate) async fn whole(&self, count: usize) -> Result<(Snapshot, Duration)> {
        self.whole_within(count, LONG).await
    }

    pub(crate) async fn whole_within(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<(Snapshot, Duration)> {
        let begin = Instant::now();
        let whole = wait::until(deadline, "the cluster is whole", async || self.look(count)).await;
        let snapshot = whole.with_context(|| self.evidence())?;
        Ok((snapshot, begin.elapsed()))
    }

    /// What a person would look at.
    pub(crate) fn evidence(&self) -> String {
        let mut all = self
            .kubectl(&["get", "pods,pvc,events", "-o", "wide"])
            .unwrap_or_else(|error| error.to_string());
        for pod in self.pods().unwrap_or_default() {
            let role = self.role(&pod.name);
            let log = self.kubectl(&["logs", &pod.name, "-c", "sidecar", "--tail", "12"]);
            all.push_str(&format!(
                "\n{}: {role:?}\n{}",
                pod.name,
                log.unwrap_or_default()
            ));
        }
        all
    }

    /// The node IDs by ordinal, to see that nobody was reborn.
    pub(crate) async fn up(&self, count: usize) -> Result<BTreeMap<usize, String>> {
        Ok(self.whole(count).await?.0.ids())
    }

    /// Waits until each of these pods is another one than before, and the cluster is whole.
    pub(crate) async fn replaced(
        &self,
        before: &[Pod],
        count: usize,
    ) -> Result<(Snapshot, Duration)> {
        let begin = Instant::now();
        wait::until(LONG, "the pods are new ones", async || {
            let now = self.pods()?;
            let old = before
                .iter()
                .filter(|old| now.iter().any(|pod| pod.uid == old.uid));
            let old: Vec<&str> = old.map(|pod| pod.name.as_str()).collect();
            ensure!(old.is_empty(), "still there: {old:?}");
            Ok(())
        })
        .await?;
        let (snapshot, _) = self.whole(count).await?;
        Ok((snapshot, begin.elapsed()))
    }

    /// Removes all of it. What a failed case leaves is looked at by a person, and removed by the next run.
    pub(crate) async fn close(self) -> Result<()> {
        gone(&self.namespace).await
    }
}

async fn gone(namespace: &str) -> Result<()> {
    let there = || kubectl(&["get", "namespace", namespace, "--ignore-not-found"]);
    if there()?.is_empty() {
        return Ok(());
    }
    let pods = ["delete", "pods", "--all", "--force", "--grace-period=0"];
    kubectl(&[
        "--namespace",
        namespace,
        "delete",
        "statefulsets",
        "--all",
        "--cascade=orphan",
    ])?;
    kubectl(&[&["--namespace", namespace], &pods[..]].concat())?;
    kubectl(&["delete", "namespace", namespace, "--wait=false"])?;
    wait::until(LONG, "the namespace is gone", async || {
        ensure!(there()?.is_empty(), "{namespace} is still there");
        Ok(())
    })
    .await
}
