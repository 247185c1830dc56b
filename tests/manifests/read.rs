//! Reading for tests/manifests.rs: the files, their documents as Kubernetes types, and the pieces
//! of a pod by name. Nothing is judged here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, PodSpec, Probe, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value;

/// As much of the Prometheus operator's type as is used here; it is no part of Kubernetes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceMonitor {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: ServiceMonitorSpec,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceMonitorSpec {
    selector: LabelSelector,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
}

pub(crate) const SIDECAR: &str = "sidecar";

/// One YAML document of a file under `manifests/` that is an object, or a part of one: kustomizations, the
/// chart's templates and what only a patch may say are left out.
pub(crate) struct Document {
    pub(crate) file: PathBuf,
    pub(crate) value: Value,
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.file.strip_prefix(repository()).unwrap_or(&self.file);
        write!(f, "{}", file.display())
    }
}

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn manifests() -> PathBuf {
    repository().join("manifests")
}

pub(crate) fn is_kustomization(file: &Path) -> bool {
    file.ends_with("kustomization.yaml")
}

pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

pub(crate) fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for file in files_under(&manifests()) {
        let others = ["helm", "patches"].map(|folder| manifests().join(folder));
        if is_kustomization(&file) || others.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for part in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = Value::deserialize(part)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            documents.push(Document {
                file: file.clone(),
                value,
            });
        }
    }
    documents
}

/// The document after a trip through its Kubernetes type, which knows no other fields.
pub(crate) fn as_kubernetes_reads_it(value: &Value) -> Result<Value, String> {
    fn through<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value, String> {
        let typed: T =
            serde_yaml_ng::from_value(value.clone()).map_err(|error| error.to_string())?;
        serde_yaml_ng::to_value(typed).map_err(|error| error.to_string())
    }
    let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "ConfigMap") => through::<ConfigMap>(value),
        ("v1", "Service") => through::<Service>(value),
        ("apps/v1", "StatefulSet") => through::<StatefulSet>(value),
        ("policy/v1", "PodDisruptionBudget") => through::<PodDisruptionBudget>(value),
        ("networking.k8s.io/v1", "NetworkPolicy") => through::<NetworkPolicy>(value),
        ("monitoring.coreos.com/v1", "ServiceMonitor") => through::<ServiceMonitor>(value),
        (version, kind) => Err(format!("{version} {kind} is not in this test's list")),
    }
}

/// The paths in `written` that `kept` lacks or has otherwise.
pub(crate) fn fields_lost(written: &Value, kept: &Value) -> Vec<String> {
    fn compare(path: &str, written: &Value, kept: Option<&Value>, lost: &mut Vec<String>) {
        match (written, kept) {
            (Value::Mapping(fields), Some(Value::Mapping(_))) => {
                for (name, field) in fields {
                    let name = name.as_str().unwrap_or("?");
                    let kept = kept.and_then(|kept| kept.get(name));
                    compare(&format!("{path}.{name}"), field, kept, lost);
                }
            }
            (Value::Sequence(items), Some(Value::Sequence(_))) => {
                for (at, item) in items.iter().enumerate() {
                    let kept = kept.and_then(|kept| kept.get(at));
                    compare(&format!("{path}[{at}]"), item, kept, lost);
                }
            }
            (written, Some(kept)) if written == kept => {}
            _ => lost.push(path.to_owned()),
        }
    }
    let mut lost = Vec::new();
    compare("", written, Some(kept), &mut lost);
    lost
}

pub(crate) fn pods() -> Vec<(String, PodSpec)> {
    documents()
        .into_iter()
        .filter(|document| document.value.get("kind") == Some(&"StatefulSet".into()))
        .map(|document| {
            let place = document.to_string();
            let set: StatefulSet = serde_yaml_ng::from_value(document.value).unwrap();
            (place, pod_of(&set).clone())
        })
        .collect()
}

pub(crate) fn sidecars() -> Vec<(String, Container)> {
    let sidecars: Vec<_> = pods()
        .into_iter()
        .filter_map(|(place, pod)| Some((place, container(&pod, SIDECAR)?.clone())))
        .collect();
    assert!(!sidecars.is_empty());
    sidecars
}

pub(crate) fn base_object<T: DeserializeOwned>(kind: &str, name: &str) -> T {
    let found = documents().into_iter().find(|document| {
        document.file.starts_with(manifests().join("base"))
            && document.value["kind"] == kind
            && document.value["metadata"]["name"] == name
    });
    let found = found.unwrap_or_else(|| panic!("no {kind} {name} in manifests/base"));
    serde_yaml_ng::from_value(found.value).unwrap()
}

pub(crate) fn stateful_set() -> StatefulSet {
    base_object("StatefulSet", "redis-app")
}

pub(crate) fn pod_of(set: &StatefulSet) -> &PodSpec {
    let spec = set.spec.as_ref().unwrap();
    spec.template.spec.as_ref().unwrap()
}

pub(crate) fn container<'a>(pod: &'a PodSpec, name: &str) -> Option<&'a Container> {
    pod.containers
        .iter()
        .find(|container| container.name == name)
}

pub(crate) fn base_container<'a>(set: &'a StatefulSet, name: &str) -> &'a Container {
    container(pod_of(set), name).unwrap_or_else(|| panic!("no container {name}"))
}

pub(crate) fn env(container: &Container) -> &[EnvVar] {
    container.env.as_deref().unwrap_or_default()
}

pub(crate) fn value<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let variable = env(container)
        .iter()
        .find(|variable| variable.name == name)?;
    variable.value.as_deref()
}

pub(crate) fn container_port(container: &Container, port: &IntOrString) -> i32 {
    match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|port| port.name.as_ref() == Some(name));
            let named = named.unwrap_or_else(|| panic!("{} has no port {name}", container.name));
            named.container_port
        }
    }
}

pub(crate) fn http_target<'a>(probe: Option<&'a Probe>, container: &Container) -> (&'a str, i32) {
    let probe = probe.expect("a probe");
    let request = probe.http_get.as_ref().expect("an HTTP probe");
    let path = request.path.as_deref().expect("a path");
    (path, container_port(container, &request.port))
}

/// The settings of redis.conf, each by its first word.
pub(crate) fn redis_conf() -> BTreeMap<String, String> {
    let map: ConfigMap = base_object("ConfigMap", "redis-conf");
    let text = &map.data.unwrap()["redis.conf"];
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
