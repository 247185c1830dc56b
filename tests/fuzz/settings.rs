//! What people and Kubernetes write: the environment and resolv.conf.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use redis_sidecar::config::{Config, Stop, Surroundings};
use redis_sidecar::observe::resolv_conf::nameservers;

use super::mutations::{Damaged, damaged};
use super::play::play;

const PASSWORD: &str = "correct-horse-battery";
const GOOD: [(&str, &str); 21] = [
    ("POD_NAME", "redis-app-0"),
    ("POD_NAMESPACE", "default"),
    ("POD_IP", "10.0.0.7"),
    ("NODE_NAME", "worker-1"),
    ("ZONE", "a"),
    ("HEADLESS_SERVICE", "redis-headless"),
    ("CLUSTER_DOMAIN", "cluster.local"),
    ("MASTERS", "3"),
    ("REPLICAS_PER_MASTER", "1"),
    ("DNS_SERVER", "10.96.0.10:53"),
    ("REDIS_HOST", "127.0.0.1"),
    ("REDIS_PORT", "6379"),
    ("REDIS_USERNAME", "agent"),
    ("REDIS_PASSWORD", PASSWORD),
    ("DATA_DIR", "/data"),
    ("NODES_CONF", "nodes.conf"),
    ("HTTP_ADDR", "[::]:8080"),
    ("READY_WHEN", "node"),
    ("MAX_LAG_BYTES", "10485760"),
    ("DRY_RUN", "false"),
    ("LOG_FORMAT", "json"),
];

#[test]
fn environments() {
    let lines = GOOD.map(|(name, value)| format!("{name}={value}"));
    let seed = lines.join("\n").into_bytes();
    play(
        "environments",
        2000,
        damaged(vec![seed]),
        |Damaged(bytes)| {
            let pairs = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
                let at = line.iter().position(|byte| *byte == b'=')?;
                let name = String::from_utf8(line[..at].to_vec()).ok()?;
                Some((name, OsString::from_vec(line[at + 1..].to_vec())))
            });
            let env: BTreeMap<String, OsString> = pairs.collect();
            let outcome = Config::load(
                [OsString::from("redis-sidecar")],
                Surroundings {
                    env: &|name| env.get(name).cloned(),
                    hostname: &|| Some("redis-app-9".to_owned()),
                    log_to_terminal: false,
                },
            );
            match outcome {
                Ok(config) => usable(&config),
                Err(Stop::Print(text)) => Err(TestCaseError::fail(text)),
                Err(Stop::Invalid(line)) => {
                    prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                    // S14, as long as it stands nowhere but where passwords stand.
                    let password = env.get("REDIS_PASSWORD").and_then(|value| value.to_str());
                    if let Some(password) = password.filter(|password| password.len() > 8) {
                        let all = String::from_utf8_lossy(&bytes);
                        let once = all.matches(password).count() == 1;
                        prop_assert!(!once || !line.contains(password), "{line}");
                    }
                    let named = Config::variables()
                        .iter()
                        .any(|(name, _)| line.contains(name));
                    prop_assert!(named, "{line}");
                    Ok(())
                }
            }
        },
    );
}

/// What the rest of the agent takes for granted.
fn usable(config: &Config) -> Result<(), TestCaseError> {
    prop_assert!((1..=1000).contains(&config.shape.expected_pods()));
    prop_assert!(config.shape.masters > 0);
    prop_assert!(config.redis_port > 0 && config.redis_port <= 55_535);
    prop_assert!(config.http_addr.port() > 0);
    prop_assert!(!config.pod_ip.is_unspecified());
    prop_assert!(!config.headless_service.is_empty() && !config.namespace.is_empty());
    prop_assert_eq!(config.pod.to_string().parse(), Ok(config.pod.clone()));
    Ok(())
}

#[test]
fn resolv_confs() {
    let kubernetes = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                      nameserver 10.96.0.10\nnameserver fe80::1%eth0\noptions ndots:5\n";
    let odd = "\u{feff}# comment\r\n; another\r\n\tNameServer\t10.0.0.1\t# why\r\n\
               nameserver 0.0.0.0\nnameserver ::\nnameserver 300.1.1.1\nnameserver fe80::2%7;x\n";
    let seeds = [kubernetes, odd]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    play("resolv_confs", 2000, damaged(seeds), |Damaged(bytes)| {
        let servers = nameservers(&bytes);
        prop_assert!((1..=8).contains(&servers.len()), "{servers:?}");
        for (at, server) in servers.iter().enumerate() {
            prop_assert_eq!(server.port(), 53);
            prop_assert!(!server.ip().is_unspecified());
            prop_assert!(!servers[..at].contains(server), "twice: {}", server);
        }
        Ok(())
    });
}
