//! What the components do to the base.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Kustomization;
use crate::read::*;

fn component(name: &str) -> Kustomization {
    let file = manifests()
        .join("components")
        .join(name)
        .join("kustomization.yaml");
    serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn base_as_written() -> Value {
    let base = documents()
        .into_iter()
        .find(|document| document.file == manifests().join("base/statefulset.yaml"));
    serde_json::to_value(base.unwrap().value).unwrap()
}

/// The base's StatefulSet with the component's JSON patch, as far as Kubernetes knows its fields.
fn patched(name: &str) -> Value {
    let patch = component(name).patches.swap_remove(0).patch.unwrap();
    let patch: json_patch::Patch = serde_yaml_ng::from_str(&patch).unwrap();
    let mut set = base_as_written();
    json_patch::patch(&mut set, &patch).unwrap();

    let written = serde_yaml_ng::to_value(&set).unwrap();
    let kept = as_kubernetes_reads_it(&written).unwrap();
    assert_eq!(fields_lost(&written, &kept), Vec::<String>::new());
    set
}

fn object<T: DeserializeOwned>(file: &str) -> T {
    let file = manifests().join("components").join(file);
    let found = documents()
        .into_iter()
        .find(|document| document.file == file);
    serde_yaml_ng::from_value(found.unwrap().value).unwrap()
}

/// The labels of the base's pods.
fn labels() -> BTreeMap<String, String> {
    let set = stateful_set();
    let metadata = set.spec.unwrap().template.metadata.unwrap();
    metadata.labels.unwrap()
}

#[test]
fn a_native_sidecar_starts_first_and_holds_redis_back() {
    let set = patched("native-sidecar");
    let pod = &set["spec"]["template"]["spec"];
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().unwrap().iter();
        all.map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&pod["containers"]), ["redis"]);
    assert_eq!(
        names(&pod["initContainers"]),
        ["install", "nodes-conf", SIDECAR]
    );
    let sidecar = &pod["initContainers"][2];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/startz");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["port"], "http");
}

#[test]
fn ordered_ready_changes_the_order_of_the_start_alone() {
    let mut set = patched("ordered-ready");
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    set["spec"]["podManagementPolicy"] = "Parallel".into();
    assert_eq!(set, base_as_written());
}

/// A pod reaches the other pods where they listen, and lets them in there: no less, or the cluster falls
/// apart, and no more.
#[test]
fn the_network_policy_opens_what_the_pods_need_of_each_other() {
    let policy: NetworkPolicy = object("network-policy/network-policy.yaml");
    let spec = policy.spec.unwrap();
    assert_eq!(
        spec.pod_selector.unwrap().match_labels.unwrap(),
        labels(),
        "whom it is for"
    );
    assert_eq!(spec.policy_types.unwrap(), ["Ingress", "Egress"]);

    let set = stateful_set();
    let listens: Vec<i32> = ["redis", SIDECAR]
        .iter()
        .flat_map(|name| base_container(&set, name).ports.clone().unwrap())
        .map(|port| port.container_port)
        .collect();
    let numbers = |ports: Option<Vec<NetworkPolicyPort>>| -> Vec<i32> {
        let ports = ports.unwrap().into_iter();
        ports
            .map(|port| match port.port {
                Some(IntOrString::Int(number)) => number,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let mut ingress = spec.ingress.unwrap().into_iter();
    let (among, clients) = (ingress.next().unwrap(), ingress.next().unwrap());
    let from = among.from.unwrap().swap_remove(0).pod_selector.unwrap();
    assert_eq!(from.match_labels.unwrap(), labels());
    assert_eq!(numbers(among.ports), listens);
    assert_eq!(numbers(clients.ports), [listens[0]], "clients");
    assert!(ingress.next().is_none());

    let mut egress = spec.egress.unwrap().into_iter();
    let (among, dns) = (egress.next().unwrap(), egress.next().unwrap());
    let to = among.to.unwrap().swap_remove(0).pod_selector.unwrap();
    assert_eq!(to.match_labels.unwrap(), labels());
    assert_eq!(numbers(among.ports), listens);
    assert!(dns.to.is_none(), "wherever DNS runs");
    assert_eq!(numbers(dns.ports), [53, 53]);
    assert!(egress.next().is_none());
}

/// The ServiceMonitor finds its Service, and that the port where the sidecar answers /metrics.
#[test]
fn prometheus_finds_the_metrics_of_every_pod() {
    let service: Service = object("prometheus/service.yaml");
    let spec = service.spec.unwrap();
    assert_eq!(spec.selector.unwrap(), labels());
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    let ports = spec.ports.unwrap();
    let set = stateful_set();
    let sidecar = base_container(&set, SIDECAR);
    let target = ports[0].target_port.as_ref().unwrap();
    assert_eq!(container_port(sidecar, target), 8080);

    let monitor: Value = object("prometheus/service-monitor.yaml");
    let wanted = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    let has = service.metadata.labels.unwrap();
    for (name, value) in wanted {
        assert_eq!(has.get(name).map(String::as_str), value.as_str(), "{name}");
    }
    // Not the base's Services, which have other labels.
    let component = "app.kubernetes.io/component";
    assert_eq!(wanted[component], "metrics");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"].as_str(), ports[0].name.as_deref());
    assert_eq!(endpoint["path"], "/metrics");
}
