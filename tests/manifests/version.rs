//! The version stands in many places.

use std::fs;

use crate::read::repository;

/// One version everywhere: who changes Cargo.toml's is told here what else to change.
#[test]
fn all_name_the_same_version() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("redis-sidecar:{version}");
    for (file, says) in [
        ("Dockerfile", format!("ARG VERSION={version}")),
        (
            "manifests/base/kustomization.yaml",
            format!("newTag: {version}"),
        ),
        (
            "manifests/helm/redis-cluster/Chart.yaml",
            format!("appVersion: {version}"),
        ),
        (
            "manifests/components/existing-statefulset/add-sidecar.yaml",
            format!("image: {image}"),
        ),
        ("README.md", format!("docker build -t {image}")),
        (
            "tests/kubernetes/README.md",
            format!("docker build -t {image}"),
        ),
    ] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        assert!(text.contains(&says), "{file} does not say {says:?}");
    }
}
