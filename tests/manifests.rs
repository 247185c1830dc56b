//! Reads every file under `manifests/` as the Kubernetes type that it says it is, and checks that
//! the pieces name each other rightly: selectors, ports, probes, Services, and the sidecar's
//! variables. Also checks that README.md names every variable.
//!
//! Needs no cluster and no network. What kustomize and helm make of it is in `rendered.rs`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_yaml_ng::Value;

#[path = "manifests/access.rs"]
mod access;
#[path = "manifests/components.rs"]
mod components;
#[path = "manifests/copies.rs"]
mod copies;
#[path = "manifests/read.rs"]
mod read;
#[path = "manifests/rendered.rs"]
mod rendered;
#[path = "manifests/version.rs"]
mod version;
use read::*;

/// Every variable that the agent reads, and whether it must be set.
fn agent_variables() -> Vec<(&'static str, bool)> {
    redis_sidecar::config::Config::variables()
}

#[test]
fn no_manifest_has_a_field_that_kubernetes_does_not_know() {
    let mut problems = Vec::new();
    for document in documents() {
        match as_kubernetes_reads_it(&document.value) {
            Ok(kept) => {
                for field in fields_lost(&document.value, &kept) {
                    problems.push(format!("{document}: Kubernetes drops {field}"));
                }
            }
            Err(problem) => problems.push(format!("{document}: {problem}")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn an_unknown_field_is_noticed() {
    let written: Value = serde_yaml_ng::from_str(
        "{apiVersion: v1, kind: Service, spec: {ports: [{port: 1, prot: TCP}], clusterIp: None}}",
    )
    .unwrap();
    let kept = as_kubernetes_reads_it(&written).unwrap();
    assert_eq!(
        fields_lost(&written, &kept),
        [".spec.ports[0].prot", ".spec.clusterIp"]
    );
}

#[test]
fn every_kustomization_names_exactly_the_files_beside_it() {
    let kustomizations: Vec<PathBuf> = files_under(&manifests())
        .into_iter()
        .filter(|file| is_kustomization(file))
        .collect();
    assert!(!kustomizations.is_empty());
    for file in kustomizations {
        let kustomization: Kustomization =
            serde_yaml_ng::from_str(&fs::read_to_string(&file).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let folder = file.parent().unwrap();
        let beside: BTreeSet<String> = files_under(folder)
            .iter()
            .filter(|file| !is_kustomization(file))
            .map(|file| file.strip_prefix(folder).unwrap().display().to_string())
            .collect();
        let named: BTreeSet<String> = kustomization
            .resources
            .into_iter()
            .chain(kustomization.patches.into_iter().filter_map(|it| it.path))
            .collect();
        assert_eq!(named, beside, "{}", file.display());
    }
}

#[test]
fn the_sidecar_gets_only_variables_it_reads_and_every_one_it_requires() {
    let known: BTreeMap<&str, bool> = agent_variables().into_iter().collect();
    let mut whole_sidecars = 0;
    for (place, sidecar) in sidecars() {
        let names: Vec<&str> = env(&sidecar).iter().map(|var| var.name.as_str()).collect();
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(
            unique.len(),
            names.len(),
            "{place}: a variable is set twice"
        );
        for name in &unique {
            assert!(
                known.contains_key(name),
                "{place}: the agent reads no {name}"
            );
        }
        // A patch that adds to another file's container has no image.
        if sidecar.image.is_some() {
            whole_sidecars += 1;
            for (name, _) in known.iter().filter(|(_, required)| **required) {
                assert!(unique.contains(name), "{place}: {name} is required");
            }
        }
    }
    assert!(whole_sidecars >= 2, "the base and the patch for others");
}

#[test]
fn variables_from_the_pod_come_from_the_right_field() {
    let fields = BTreeMap::from([
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_IP", "status.podIP"),
        ("NODE_NAME", "spec.nodeName"),
        ("ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
    ]);
    for (place, sidecar) in sidecars() {
        for variable in env(&sidecar) {
            let field = variable
                .value_from
                .as_ref()
                .and_then(|source| source.field_ref.as_ref())
                .map(|source| source.field_path.as_str());
            let expected = fields.get(variable.name.as_str()).copied();
            assert_eq!(field, expected, "{place}: {}", variable.name);
        }
    }
}

#[test]
fn service_links_cannot_overwrite_redis_port() {
    for (place, pod) in pods() {
        if container(&pod, SIDECAR).is_none_or(|sidecar| sidecar.image.is_none()) {
            continue;
        }
        assert_eq!(pod.enable_service_links, Some(false), "{place}");
        let sidecar = container(&pod, SIDECAR).unwrap();
        assert!(value(sidecar, "REDIS_PORT").is_some(), "{place}");
    }
}

#[test]
fn probes_ask_the_sidecar_on_its_port() {
    for (place, sidecar) in sidecars() {
        if sidecar.image.is_none() {
            continue;
        }
        // HTTP_ADDR's default.
        let listens = value(&sidecar, "HTTP_ADDR").unwrap_or("0.0.0.0:8080");
        let port: i32 = listens.rsplit_once(':').unwrap().1.parse().unwrap();
        let probes = [
            (&sidecar.liveness_probe, "/livez"),
            (&sidecar.readiness_probe, "/readyz"),
        ];
        for (probe, path) in probes {
            let (probe_path, probe_port) = http_target(probe.as_ref(), &sidecar);
            assert_eq!((probe_path, probe_port), (path, port), "{place}");
        }
    }
}

/// A handoff before every stop: the same hook in both containers, through the binary and the socket
/// that an init container and the sidecar put into one emptyDir.
#[test]
fn both_containers_hand_over_before_they_stop() {
    let mut whole = 0;
    for (place, pod) in pods() {
        let sidecar = container(&pod, SIDECAR).filter(|sidecar| sidecar.image.is_some());
        let Some(sidecar) = sidecar else { continue };
        whole += 1;
        let grace = pod.termination_grace_period_seconds.unwrap();
        let grace = format!("--grace={grace}");
        let init = &pod.init_containers.as_ref().unwrap()[0];
        assert_eq!(init.image, sidecar.image, "{place}");
        let install = init.args.as_ref().unwrap();
        assert_eq!(install[0], "install", "{place}");
        let folder = &install[1];

        let socket = value(sidecar, "SOCKET").unwrap();
        assert!(socket.starts_with(&format!("{folder}/")), "{place}");
        assert_eq!(
            hook(sidecar),
            ["/redis-sidecar", "pre-stop", &grace],
            "{place}"
        );
        let redis = container(&pod, "redis").unwrap();
        let binary = format!("{folder}/redis-sidecar");
        let to = format!("--socket={socket}");
        assert_eq!(hook(redis), [&binary, "pre-stop", &to, &grace], "{place}");

        let shared = pod.volumes.as_ref().unwrap();
        let shared = shared.iter().find(|volume| volume.name == "sidecar");
        assert!(shared.unwrap().empty_dir.is_some(), "{place}");
        for container in [init, redis, sidecar] {
            let mounts = container.volume_mounts.as_ref().unwrap();
            let mount = mounts.iter().find(|mount| mount.name == "sidecar");
            assert_eq!(&mount.unwrap().mount_path, folder, "{place}");
        }
    }
    assert_eq!(whole, 2, "the base and the patch for others");
}

/// What the hook runs.
fn hook(container: &k8s_openapi::api::core::v1::Container) -> &[String] {
    let lifecycle = container.lifecycle.as_ref().expect("a lifecycle");
    let exec = lifecycle
        .pre_stop
        .as_ref()
        .and_then(|hook| hook.exec.as_ref());
    exec.expect("a command").command.as_deref().unwrap()
}

#[test]
fn a_rolling_update_waits_for_each_pod_and_replicas_stay_where_they_are() {
    let set = stateful_set();
    let spec = set.spec.as_ref().unwrap();
    assert!(spec.min_ready_seconds.is_some_and(|seconds| seconds > 0));
    // Redis takes up to shutdown-timeout, 10 s, to end.
    let grace = pod_of(&set).termination_grace_period_seconds;
    assert!(grace.is_some_and(|seconds| seconds >= 30));
    let migration = redis_conf().get("cluster-allow-replica-migration").cloned();
    assert_eq!(migration.as_deref(), Some("no"));
}

#[test]
fn replicas_are_masters_times_one_plus_their_replicas() {
    let set = stateful_set();
    let sidecar = base_container(&set, SIDECAR);
    let number = |name| value(sidecar, name).unwrap().parse::<i32>().unwrap();
    let expected = number("MASTERS") * (1 + number("REPLICAS_PER_MASTER"));
    assert_eq!(set.spec.as_ref().unwrap().replicas, Some(expected));
}

#[test]
fn the_governing_service_is_headless_and_shows_pods_that_are_not_ready() {
    let set = stateful_set();
    let governing = set.spec.as_ref().unwrap().service_name.clone();
    let sidecar = base_container(&set, SIDECAR);
    assert_eq!(value(sidecar, "HEADLESS_SERVICE"), governing.as_deref());

    let headless: Service = base_object("Service", governing.as_deref().unwrap());
    let spec = headless.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));

    let client: Service = base_object("Service", "redis");
    let spec = client.spec.unwrap();
    assert_eq!(spec.cluster_ip, None);
    assert_eq!(
        spec.publish_not_ready_addresses, None,
        "clients are sent to ready pods only"
    );
}

#[test]
fn service_ports_lead_to_redis_and_its_bus() {
    let set = stateful_set();
    let redis = base_container(&set, "redis");
    let ports = |service: Service| -> BTreeMap<String, (i32, i32)> {
        let ports = service.spec.unwrap().ports.unwrap();
        ports
            .into_iter()
            .map(|port| {
                let target = container_port(redis, port.target_port.as_ref().unwrap());
                (port.name.unwrap(), (port.port, target))
            })
            .collect()
    };
    let redis_port: i32 = value(base_container(&set, SIDECAR), "REDIS_PORT")
        .unwrap()
        .parse()
        .unwrap();
    let bus_port = redis_port + 10_000;
    let client = ("redis".to_owned(), (redis_port, redis_port));
    let bus = ("bus".to_owned(), (bus_port, bus_port));

    assert_eq!(
        ports(base_object("Service", "redis-headless")),
        BTreeMap::from([client.clone(), bus])
    );
    assert_eq!(
        ports(base_object("Service", "redis")),
        BTreeMap::from([client])
    );
    assert_eq!(
        redis_conf().get("port"),
        Some(&redis_port.to_string()),
        "redis.conf"
    );
}

#[test]
fn every_selector_finds_the_pods() {
    let set = stateful_set();
    let spec = set.spec.as_ref().unwrap();
    let labels = spec
        .template
        .metadata
        .as_ref()
        .unwrap()
        .labels
        .clone()
        .unwrap();
    let wanted = |selector: &LabelSelector| selector.match_labels.clone().unwrap();

    assert_eq!(wanted(&spec.selector), labels);
    let budget: PodDisruptionBudget = base_object("PodDisruptionBudget", "redis-app");
    let budget = budget.spec.unwrap();
    assert_eq!(wanted(&budget.selector.unwrap()), labels);
    assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)));
    for service in ["redis-headless", "redis"] {
        let service: Service = base_object("Service", service);
        assert_eq!(service.spec.unwrap().selector.unwrap(), labels);
    }

    let pod = spec.template.spec.as_ref().unwrap();
    for constraint in pod.topology_spread_constraints.as_ref().unwrap() {
        assert_eq!(wanted(constraint.label_selector.as_ref().unwrap()), labels);
    }
    let apart = pod
        .affinity
        .as_ref()
        .unwrap()
        .pod_anti_affinity
        .as_ref()
        .unwrap();
    let preferred = &apart.preferred_during_scheduling_ignored_during_execution;
    for term in preferred.as_ref().unwrap() {
        let selector = term.pod_affinity_term.label_selector.as_ref().unwrap();
        assert_eq!(wanted(selector), labels);
    }
}

#[test]
fn redis_and_the_sidecar_share_the_volume_with_nodes_conf() {
    let set = stateful_set();
    let sidecar = base_container(&set, SIDECAR);
    let data_dir = value(sidecar, "DATA_DIR").unwrap();
    let claims = set
        .spec
        .as_ref()
        .unwrap()
        .volume_claim_templates
        .as_ref()
        .unwrap();
    let claim = claims[0].metadata.name.as_deref().unwrap();
    for container in [base_container(&set, "redis"), sidecar] {
        let mounts = container.volume_mounts.as_ref().unwrap();
        let mount = mounts.iter().find(|mount| mount.name == claim).unwrap();
        assert_eq!(mount.mount_path, data_dir, "{}", container.name);
        assert_ne!(mount.read_only, Some(true), "{}", container.name);
    }
    let conf = redis_conf();
    assert_eq!(conf.get("dir").map(String::as_str), Some(data_dir));
    assert_eq!(
        conf.get("cluster-config-file").map(String::as_str),
        Some("nodes.conf")
    );
    assert_eq!(conf.get("cluster-enabled").map(String::as_str), Some("yes"));
}

#[test]
fn the_pod_keeps_to_the_restricted_security_standard() {
    let set = stateful_set();
    let pod = pod_of(&set);
    let context = pod.security_context.as_ref().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(
        context.seccomp_profile.as_ref().unwrap().type_,
        "RuntimeDefault"
    );
    assert_eq!(context.fs_group, context.run_as_group);
    let inits = pod.init_containers.as_deref().unwrap_or_default();
    for container in pod.containers.iter().chain(inits) {
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(context.run_as_user, None, "one user for all containers");
        let dropped = context.capabilities.as_ref().unwrap().drop.as_ref();
        assert_eq!(dropped.unwrap(), &["ALL"]);
    }
}

/// `init` must come to the same judgement as the sidecar, so it is told the same; and it needs the
/// volume, to write to it. Nobody reaches it over a socket.
#[test]
fn init_is_told_what_the_sidecar_is_told() {
    let own = [
        "NODE_NAME",
        "ZONE",
        "HTTP_ADDR",
        "READY_WHEN",
        "LOG_FORMAT",
        "SOCKET",
    ];
    let mut found = 0;
    for (place, pod) in pods() {
        let inits = pod.init_containers.as_deref().unwrap_or_default();
        let init = inits.iter().find(|init| init.name == "nodes-conf");
        let (Some(init), Some(sidecar)) = (init, container(&pod, SIDECAR)) else {
            continue;
        };
        found += 1;
        let wanted = env(sidecar).iter();
        let wanted: Vec<_> = wanted.filter(|v| !own.contains(&v.name.as_str())).collect();
        assert_eq!(env(init).iter().collect::<Vec<_>>(), wanted, "{place}");
        let mounts = sidecar.volume_mounts.as_deref().unwrap_or_default();
        for mount in mounts.iter().filter(|mount| mount.name != "sidecar") {
            let its = init.volume_mounts.as_deref().unwrap_or_default();
            assert!(its.contains(mount), "{place}: {}", mount.name);
        }
        if let Some(image) = &init.image {
            assert_eq!(Some(image), sidecar.image.as_ref(), "{place}");
            assert_eq!(
                init.args.as_deref(),
                Some(&["init".to_owned()][..]),
                "{place}"
            );
        }
    }
    assert_eq!(
        found, 3,
        "the base, the password's and the patch for others"
    );
}

#[test]
fn the_readme_names_every_variable() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for (name, _) in agent_variables() {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "listed so that other fields are refused")]
struct Kustomization {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    images: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "listed so that other fields are refused")]
struct Patch {
    path: Option<String>,
    patch: Option<String>,
    target: Option<Value>,
}
