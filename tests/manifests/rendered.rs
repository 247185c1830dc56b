//! What people apply: the chart and the kustomizations as helm and kustomize render them, each object read
//! as its Kubernetes type, and every pod held to the *restricted* Pod Security Standard.
//!
//! Both programs are built by scripts/ensure-renderers, which `make test` runs; without Go these tests
//! say so, and fail with `CI` set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::read::*;

fn renderer(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = cache.unwrap_or_else(home);
    let program = cache.join("redis-sidecar/renderers").join(name);
    if program.is_file() {
        return Some(program);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "run scripts/ensure-renderers"
    );
    eprintln!("not rendered: {name} is missing; run scripts/ensure-renderers");
    None
}

/// What it printed, or what it said against it.
fn run(program: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

pub(crate) fn chart(settings: &[&str]) -> Option<Result<Vec<Value>, String>> {
    chart_for("1.34.1", settings)
}

fn chart_for(kubernetes: &str, settings: &[&str]) -> Option<Result<Vec<Value>, String>> {
    let helm = renderer("helm")?;
    let chart = manifests().join("helm/redis-cluster").display().to_string();
    let mut args = vec![
        "template",
        "--kube-version",
        kubernetes,
        "redis-app",
        &chart,
    ];
    for setting in settings {
        args.extend(["--set-json", setting]);
    }
    Some(run(&helm, &args).map(|text| objects(&text)))
}

fn kustomized(kustomization: &str) -> Option<Vec<Value>> {
    let kustomize = renderer("kustomize")?;
    // Beside `manifests`, as kustomize takes relative paths alone.
    let folder = tempfile::Builder::new()
        .prefix("rendered-")
        .tempdir_in(repository().join("tests/manifests"))
        .unwrap();
    fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    let built = run(&kustomize, &["build", &folder.path().display().to_string()]);
    Some(objects(
        &built.unwrap_or_else(|why| panic!("{kustomization}\n{why}")),
    ))
}

pub(crate) fn components(names: &[&str]) -> Option<Vec<Value>> {
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("../../../manifests/components/{name}"))
        .collect();
    kustomized(&format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
         resources: [../../../manifests/base]\ncomponents: {paths:?}\n"
    ))
}

fn objects(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|part| Value::deserialize(part).unwrap())
        .filter(|object| !object.is_null())
        .collect()
}

/// Every object is one that Kubernetes knows, field by field, and the pods are as restricted as can be.
pub(crate) fn check(objects: &[Value], what: &str) {
    assert!(!objects.is_empty(), "{what}: nothing");
    let mut names = BTreeSet::new();
    for object in objects {
        let written = serde_yaml_ng::to_value(object).unwrap();
        let name = format!("{what}: {} {}", object["kind"], object["metadata"]["name"]);
        assert!(names.insert(name.clone()), "{name} twice");
        let kept = as_kubernetes_reads_it(&written).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(fields_lost(&written, &kept), Vec::<String>::new(), "{name}");
        if object["kind"] == "StatefulSet" {
            let set: StatefulSet = serde_json::from_value(object.clone()).unwrap();
            restricted(pod_of(&set), &name);
        }
    }
}

/// The standard's checks, as far as these pods could break them:
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
fn restricted(pod: &PodSpec, name: &str) {
    assert_ne!(pod.host_network, Some(true), "{name}");
    assert_ne!(pod.host_pid, Some(true), "{name}");
    assert_ne!(pod.host_ipc, Some(true), "{name}");
    let context = pod.security_context.clone().unwrap_or_default();
    assert_eq!(context.run_as_non_root, Some(true), "{name}");
    assert!(context.run_as_user.is_some_and(|user| user > 0), "{name}");
    let profile = context.seccomp_profile.map(|profile| profile.type_);
    assert_eq!(profile.as_deref(), Some("RuntimeDefault"), "{name}");
    for volume in pod.volumes.iter().flatten() {
        let allowed =
            volume.config_map.is_some() || volume.empty_dir.is_some() || volume.secret.is_some();
        assert!(allowed, "{name}: volume {}", volume.name);
    }
    let inits = pod.init_containers.as_deref().unwrap_or_default();
    for container in pod.containers.iter().chain(inits) {
        let Container {
            name: of, ports, ..
        } = container;
        let context = container.security_context.clone().unwrap_or_default();
        assert_eq!(
            context.allow_privilege_escalation,
            Some(false),
            "{name}: {of}"
        );
        assert_ne!(context.privileged, Some(true), "{name}: {of}");
        assert_eq!(
            context.read_only_root_filesystem,
            Some(true),
            "{name}: {of}"
        );
        let capabilities = context.capabilities.unwrap_or_default();
        assert_eq!(
            capabilities.drop,
            Some(vec!["ALL".to_owned()]),
            "{name}: {of}"
        );
        assert_eq!(capabilities.add, None, "{name}: {of}");
        let host = |port: &k8s_openapi::api::core::v1::ContainerPort| port.host_port.is_some();
        assert!(!ports.iter().flatten().any(host), "{name}: {of}");
    }
}

/// By kind and name, without what says only by whom it was made, and in which order named things stand.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let own_names = |text: String| {
        text.replace("redis-app-headless", "redis-headless")
            .replace("redis-app-conf", "redis-conf")
            .replace("redis-app-metrics", "redis-metrics")
    };
    let mut by_name = BTreeMap::new();
    for object in objects {
        let mut object: Value = serde_json::from_str(&own_names(object.to_string())).unwrap();
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        labels.retain(|name, _| name != "helm.sh/chart" && !name.ends_with("managed-by"));
        if object["kind"] == "Service" && object["metadata"]["name"] == "redis" {
            object["metadata"]["name"] = json!("redis-app");
        }
        if object["kind"] == "ConfigMap" {
            let conf = object["data"]["redis.conf"].as_str().unwrap();
            let set = |line: &&str| !line.is_empty() && !line.starts_with('#');
            let settings: Vec<&str> = conf.lines().filter(set).collect();
            object["data"]["redis.conf"] = json!(settings);
        }
        if object["kind"] == "StatefulSet" {
            let pod = &mut object["spec"]["template"]["spec"];
            for list in ["containers", "initContainers"] {
                for container in pod[list].as_array_mut().unwrap() {
                    let fields = container.as_object_mut().unwrap();
                    // The default for an image with a tag.
                    let policy = fields.remove("imagePullPolicy");
                    assert!(policy.is_none_or(|policy| policy == "IfNotPresent"));
                    for list in ["env", "volumeMounts"] {
                        sort(fields.get_mut(list));
                    }
                }
            }
            // A patch puts what it touches first.
            for list in ["initContainers", "volumes"] {
                sort(pod.get_mut(list));
            }
        }
        let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
        by_name.insert(name, object);
    }
    by_name
}

/// By name.
fn sort(list: Option<&mut Value>) {
    if let Some(list) = list {
        let items = list.as_array_mut().unwrap();
        items.sort_by_key(|item| item["name"].to_string());
    }
}

#[test]
fn every_component_renders_alone_and_with_the_others() {
    let all = [
        "password",
        "native-sidecar",
        "ordered-ready",
        "network-policy",
        "prometheus",
        "access",
    ];
    let mut sets: Vec<Vec<&str>> = all.iter().map(|name| vec![*name]).collect();
    sets.push(Vec::new());
    sets.push(all.to_vec());
    for names in sets {
        let Some(objects) = components(&names) else {
            return;
        };
        check(&objects, &format!("base with {names:?}"));
    }
}

/// One truth: the chart with its defaults is the base.
#[test]
fn the_chart_is_the_base() {
    let (Some(chart), Some(base)) = (chart(&[]), components(&[])) else {
        return;
    };
    let (chart, base) = (comparable(chart.unwrap()), comparable(base));
    assert_eq!(
        chart.keys().collect::<Vec<_>>(),
        base.keys().collect::<Vec<_>>()
    );
    for (name, object) in base {
        assert_eq!(chart[&name], object, "{name}");
    }
}

/// Each switch of the chart does what the component of that name does.
#[test]
fn the_chart_s_switches_are_the_components() {
    let cases = [
        ("nativeSidecar=true", "native-sidecar"),
        ("podManagementPolicy=\"OrderedReady\"", "ordered-ready"),
        ("passwordSecret=\"redis-password\"", "password"),
        ("networkPolicy={\"enabled\":true}", "network-policy"),
        ("serviceMonitor={\"enabled\":true}", "prometheus"),
        ("access={\"enabled\":true}", "access"),
    ];
    for (setting, component) in cases {
        let (mut settings, mut names) = (vec![setting], vec![component]);
        if component == "access" {
            settings.push("passwordSecret=\"redis-password\"");
            names.insert(0, "password");
        }
        let (Some(chart), Some(base)) = (chart(&settings), components(&names)) else {
            return;
        };
        let chart = chart.unwrap();
        check(&chart, setting);
        let (chart, base) = (comparable(chart), comparable(base));
        for (name, object) in base {
            assert_eq!(chart[&name], object, "{setting}: {name}");
        }
    }
}

#[test]
fn the_chart_renders_with_everything_switched_on() {
    let settings = [
        "masters=5",
        "replicasPerMaster=2",
        "extraReplicas=1",
        "nativeSidecar=true",
        "passwordSecret=\"s\"",
        "networkPolicy={\"enabled\":true,\"metricsFrom\":\"monitoring\"}",
        "serviceMonitor={\"enabled\":true,\"labels\":{\"release\":\"p\"}}",
        "storage={\"size\":\"10Gi\",\"className\":\"fast\"}",
        "clusterDomain=\"k8s.example\"",
        "podAnnotations={\"a\":\"b\"}",
        "nodeSelector={\"disk\":\"ssd\"}",
        "tolerations=[{\"key\":\"redis\",\"operator\":\"Exists\"}]",
        "priorityClassName=\"high\"",
        "imagePullSecrets=[{\"name\":\"registry\"}]",
        "sidecar.env={\"READY_WHEN\":\"cluster\",\"REDIS_USERNAME\":\"agent\"}",
        "redis.extraConfig=\"hz 20\\nmaxclients 1000\"",
        "redis.image.tag=\"6.2\"",
    ];
    let Some(objects) = chart(&settings) else {
        return;
    };
    let objects = objects.unwrap();
    check(&objects, "everything");
    let set = objects.iter().find(|o| o["kind"] == "StatefulSet").unwrap();
    assert_eq!(set["spec"]["replicas"], 16);
    // `init` judges as the sidecar does, so it is told the same.
    let inits = set["spec"]["template"]["spec"]["initContainers"].as_array();
    let env = |name: &str| -> Vec<Value> {
        let found = inits.unwrap().iter().find(|init| init["name"] == name);
        let own = ["NODE_NAME", "ZONE", "SOCKET"].map(|name| json!(name));
        let all = found.unwrap()["env"].as_array().unwrap().iter();
        all.filter(|v| !own.contains(&v["name"])).cloned().collect()
    };
    assert_eq!(env("nodes-conf"), env("sidecar"));
    let user = json!({"name": "REDIS_USERNAME", "value": "agent"});
    assert!(env("nodes-conf").contains(&user));
    let conf = objects.iter().find(|o| o["kind"] == "ConfigMap").unwrap();
    let conf = conf["data"]["redis.conf"].as_str().unwrap();
    // Redis before 7.0 does not start with the other name.
    assert!(conf.contains("cluster-migration-barrier 1000"), "{conf}");
    assert!(conf.contains("bind * -::*"), "{conf}");
    assert!(!conf.contains("allow-replica-migration"), "{conf}");
    assert!(conf.ends_with("hz 20\nmaxclients 1000\n"), "{conf}");
}

#[test]
fn the_chart_refuses_what_it_does_not_know() {
    for (setting, says) in [
        ("mastres=3", "mastres"),
        ("masters=0", "masters"),
        ("masters=\"three\"", "masters"),
        ("podManagementPolicy=\"Serial\"", "podManagementPolicy"),
        ("sidecar.env={\"POD_IP\":\"1.2.3.4\"}", "POD_IP"),
        ("storage={\"size\":\"big\"}", "size"),
        ("access={\"enabled\":true,\"type\":\"ClusterIP\"}", "type"),
        ("access={\"enabled\":true}", "passwordSecret"),
    ] {
        let Some(rendered) = chart(&[setting]) else {
            return;
        };
        let why = rendered.expect_err(setting);
        assert!(why.contains(says), "{setting}: {why}");
    }
    let shut_out = [
        "networkPolicy={\"enabled\":true}",
        "serviceMonitor={\"enabled\":true}",
    ];
    let why = chart(&shut_out).unwrap().expect_err("Prometheus kept out");
    assert!(why.contains("metricsFrom"), "{why}");
    let native = chart_for("1.28.0", &["nativeSidecar=true"]).unwrap();
    assert!(native.expect_err("no native sidecars").contains("1.28"));
}

/// Each server starts with its redis.conf: the names of settings have changed.
#[test]
fn the_chart_knows_old_servers() {
    for (tag, bind, migration) in [
        ("6.0.16", "bind 0.0.0.0", "cluster-migration-barrier 1000"),
        ("6", "bind * -::*", "cluster-migration-barrier 1000"),
        ("6-alpine", "bind * -::*", "cluster-migration-barrier 1000"),
        ("7", "bind * -::*", "cluster-allow-replica-migration no"),
        ("8.0", "bind * -::*", "cluster-allow-replica-migration no"),
    ] {
        let Some(objects) = chart(&[&format!("redis.image.tag={tag:?}")]) else {
            return;
        };
        let objects = objects.unwrap();
        let conf = objects.iter().find(|o| o["kind"] == "ConfigMap").unwrap();
        let conf = conf["data"]["redis.conf"].as_str().unwrap();
        let settings: Vec<&str> = conf.lines().collect();
        assert!(settings.contains(&bind), "{tag}: {conf}");
        assert!(settings.contains(&migration), "{tag}: {conf}");
        for copies in ["repl-diskless-sync yes", "repl-diskless-sync-delay 1"] {
            assert!(settings.contains(&copies), "{tag}: {conf}");
        }
    }
}

/// README's way in and out: what is left of it are three settings of the pod that do no harm.
#[test]
fn the_sidecar_is_added_to_a_statefulset_and_taken_out_again() {
    let resources = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n\
                     resources: [../../../tests/manifests/by_hand]\n";
    let component = "components: [../../../manifests/components/existing-statefulset]\n";
    let Some(before) = kustomized(resources) else {
        return;
    };
    let Some(with) = kustomized(&format!("{resources}{component}")) else {
        return;
    };
    let set = |objects: &[Value]| -> Value {
        let found = objects.iter().find(|o| o["kind"] == "StatefulSet");
        found.unwrap().clone()
    };
    for object in &with {
        let written = serde_yaml_ng::to_value(object).unwrap();
        let kept = as_kubernetes_reads_it(&written).unwrap();
        assert_eq!(fields_lost(&written, &kept), Vec::<String>::new());
    }
    let service = with.iter().find(|o| o["kind"] == "Service").unwrap();
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    let names = |set: &Value, list: &str| -> Vec<String> {
        let list = set["spec"]["template"]["spec"][list].as_array();
        let items = list.into_iter().flatten();
        let mut names: Vec<String> = items.map(|item| item["name"].to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&set(&with), "containers"),
        ["\"redis\"", "\"sidecar\""]
    );
    assert_eq!(
        names(&set(&with), "initContainers"),
        ["\"install\"", "\"nodes-conf\""]
    );

    let kustomize = renderer("kustomize").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let remove = fs::read_to_string(manifests().join("patches/remove-sidecar.yaml")).unwrap();
    write("set.yaml", &serde_yaml_ng::to_string(&set(&with)).unwrap());
    write(
        "remove.yaml",
        &format!("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: redis-app}}\n{remove}"),
    );
    write(
        "kustomization.yaml",
        "resources: [set.yaml]\npatches: [{path: remove.yaml}]\n",
    );
    let built = run(&kustomize, &["build", &folder.path().display().to_string()]).unwrap();
    let mut after = set(&objects(&built));
    let mut before = set(&before);
    let spec = after["spec"].as_object_mut().unwrap();
    assert_eq!(spec.remove("minReadySeconds"), Some(json!(5)));
    let pod = after["spec"]["template"]["spec"].as_object_mut().unwrap();
    assert_eq!(pod.remove("enableServiceLinks"), Some(json!(false)));
    assert_eq!(pod.remove("terminationGracePeriodSeconds"), Some(json!(60)));
    for (list, empty) in [("initContainers", true), ("volumes", false)] {
        let left = pod
            .get(list)
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty);
        assert_eq!(left, empty, "{list}");
    }
    pod.remove("initContainers");
    assert_eq!(before["spec"].take(), after["spec"].take());
}
