//! Clients from outside: a Service for each pod, and names instead of addresses.

use serde_json::{Value, json};

use crate::rendered::{chart, check, components};

/// Each pod has a Service that finds it and no other, and Redis sends clients to names.
#[test]
fn clients_from_outside_find_each_pod() {
    let big = [
        "masters=5",
        "extraReplicas=1",
        "passwordSecret=\"s\"",
        "access={\"enabled\":true,\"type\":\"NodePort\",\"annotations\":{\"dns\":\"{{ .pod }}.x\"}}",
    ];
    let (Some(six), Some(eleven)) = (components(&["access"]), chart(&big)) else {
        return;
    };
    let eleven = eleven.unwrap();
    for (objects, kind) in [(&six, "LoadBalancer"), (&eleven, "NodePort")] {
        check(objects, kind);
        let set = objects.iter().find(|o| o["kind"] == "StatefulSet").unwrap();
        let outside = |o: &&Value| o["spec"]["type"] == kind;
        let services: Vec<&Value> = objects.iter().filter(outside).collect();
        assert_eq!(json!(services.len()), set["spec"]["replicas"]);
        for (ordinal, service) in services.iter().enumerate() {
            let pod = format!("redis-app-{ordinal}");
            assert_eq!(service["metadata"]["name"], pod);
            let mut selector = service["spec"]["selector"].clone();
            let found = selector.as_object_mut().unwrap();
            let one = found.remove("statefulset.kubernetes.io/pod-name");
            assert_eq!(one, Some(json!(pod)));
            assert_eq!(selector, set["spec"]["selector"]["matchLabels"], "{pod}");
            let dns = &service["metadata"]["annotations"]["dns"];
            assert!(
                kind == "LoadBalancer" || *dns == format!("{pod}.x"),
                "{dns}"
            );
        }
    }
    let to = ["access={\"enabled\":true}", "passwordSecret=\"s\""];
    let why = chart(&[&to[..], &["redis.image.tag=\"6\""]].concat());
    let why = why.unwrap().expect_err("Redis 6");
    assert!(why.contains("7.0"), "{why}");
}

/// Both add arguments to Redis's command; neither order loses one.
#[test]
fn a_password_and_access_go_together() {
    let whole = json!([
        "/etc/redis/redis.conf",
        "--include",
        "/etc/redis-password/auth.conf",
        "--cluster-preferred-endpoint-type",
        "hostname",
        "--cluster-announce-hostname",
        "$(POD_NAME).redis-headless.$(POD_NAMESPACE).svc.cluster.local"
    ]);
    for names in [["password", "access"], ["access", "password"]] {
        let Some(objects) = components(&names) else {
            return;
        };
        let set = objects.iter().find(|o| o["kind"] == "StatefulSet").unwrap();
        let args = &set["spec"]["template"]["spec"]["containers"][0]["args"];
        let sorted = |args: &Value| {
            let mut all: Vec<String> = args
                .as_array()
                .unwrap()
                .iter()
                .map(Value::to_string)
                .collect();
            all.sort();
            all
        };
        assert_eq!(sorted(args), sorted(&whole), "{names:?}");
    }
}
