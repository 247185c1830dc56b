//! Every variable by table: what it takes, what it refuses, and in which words.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

type Vars<'a> = &'a [(&'a str, &'a str)];

const MINIMUM: Vars<'static> = &[
    ("POD_NAME", "redis-app-0"),
    ("POD_IP", "10.0.0.7"),
    ("HEADLESS_SERVICE", "redis-service"),
];

fn load_os(args: &[&str], vars: &BTreeMap<String, OsString>, host: &str) -> Result<Config, Stop> {
    let args = std::iter::once("redis-sidecar").chain(args.iter().copied());
    Config::load(
        args.map(OsString::from),
        Surroundings {
            env: &|name| vars.get(name).cloned(),
            hostname: &|| Some(host.to_owned()).filter(|host| !host.is_empty()),
            log_to_terminal: false,
        },
    )
}

fn load(args: &[&str], extra: Vars<'_>) -> Result<Config, Stop> {
    let vars = MINIMUM
        .iter()
        .chain(extra)
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
        .collect();
    load_os(args, &vars, "")
}

fn good(extra: Vars<'_>) -> Config {
    load(&[], extra).unwrap()
}

/// The one line of a refusal.
fn refusal(outcome: Result<Config, Stop>) -> String {
    let Err(stop @ Stop::Invalid(_)) = outcome else {
        panic!("not refused: {outcome:?}");
    };
    assert_eq!(stop.exit_code(), 64);
    let line = stop.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn the_minimum_gives_the_defaults_of_the_contract() {
    let expected = Config {
        pod: "redis-app-0".parse().unwrap(),
        namespace: "default".into(),
        pod_ip: "10.0.0.7".parse().unwrap(),
        node_name: String::new(),
        zone: String::new(),
        headless_service: "redis-service".into(),
        cluster_domain: "cluster.local".into(),
        shape: Shape::new(3, 1).unwrap(),
        redis_host: "127.0.0.1".into(),
        redis_port: 6379,
        username: None,
        password: PasswordSource::None,
        data_dir: "/data".into(),
        nodes_conf: "/data/nodes.conf".into(),
        socket: "/data/redis-sidecar.sock".into(),
        http_addr: "0.0.0.0:8080".parse().unwrap(),
        dns_server: None,
        log_format: LogFormat::Json,
        ready_when: ReadyWhen::Node,
        max_lag_bytes: 10_485_760,
        dry_run: false,
    };
    assert_eq!(good(&[]), expected);
    assert_eq!(expected.cluster().to_string(), "default/redis-app");
    let all_empty: Vec<_> = Config::variables()
        .into_iter()
        .filter(|(name, _)| MINIMUM.iter().all(|(set, _)| set != name))
        .map(|(name, _)| (name, ""))
        .collect();
    assert_eq!(good(&all_empty), expected);
}

#[test]
fn good_values_are_taken_as_they_are_meant() {
    let ip = |text: &str| good(&[("POD_IP", text)]).pod_ip.to_string();
    assert_eq!(ip("fd00::7"), "fd00::7");
    assert_eq!(ip("::ffff:10.0.0.9"), "10.0.0.9");
    assert_eq!(
        good(&[("CLUSTER_DOMAIN", "k8s.example.")]).cluster_domain,
        "k8s.example"
    );
    let dns = |text: &str| {
        good(&[("DNS_SERVER", text)])
            .dns_server
            .unwrap()
            .to_string()
    };
    assert_eq!(dns("10.96.0.10"), "10.96.0.10:53");
    assert_eq!(dns("fd00::a"), "[fd00::a]:53");
    assert_eq!(dns("[fd00::a]:5353"), "[fd00::a]:5353");
    for (text, meant) in [
        ("true", true),
        ("1", true),
        ("Yes", true),
        ("FALSE", false),
        ("0", false),
        ("no", false),
    ] {
        assert_eq!(good(&[("DRY_RUN", text)]).dry_run, meant, "{text}");
    }
    assert_eq!(
        good(&[("READY_WHEN", "cluster")]).ready_when,
        ReadyWhen::Cluster
    );
    assert_eq!(good(&[("LOG_FORMAT", "text")]).log_format, LogFormat::Text);
    assert_eq!(good(&[("REDIS_PORT", "55535")]).redis_port, 55535);
    assert_eq!(good(&[("REDIS_HOST", "::1")]).redis_host, "::1");
    assert_eq!(good(&[("MAX_LAG_BYTES", "0")]).max_lag_bytes, 0);
    assert_eq!(
        good(&[("MASTERS", "1000"), ("REPLICAS_PER_MASTER", "0")])
            .shape
            .expected_pods(),
        1000
    );
    let moved = good(&[("DATA_DIR", "/srv"), ("NODES_CONF", "n.conf")]);
    assert_eq!(moved.nodes_conf, PathBuf::from("/srv/n.conf"));
    assert_eq!(
        good(&[("NODES_CONF", "/etc/n.conf")]).nodes_conf,
        PathBuf::from("/etc/n.conf")
    );
}

#[test]
fn a_bad_value_is_named_with_what_it_takes() {
    let table = [
        ("POD_NAME", "redis", "such as redis-app-0"),
        ("POD_NAME", "redis-01", "such as redis-app-0"),
        ("POD_NAMESPACE", "Default", "lower-case letters"),
        ("POD_IP", "redis", "IPv4 or IPv6"),
        ("POD_IP", "10.0.0.256", "IPv4 or IPv6"),
        ("POD_IP", "0.0.0.0", "IPv4 or IPv6"),
        ("POD_IP", "10.0.0.1:80", "IPv4 or IPv6"),
        ("NODE_NAME", "a\nb", "control characters"),
        ("ZONE", "a\u{7}", "control characters"),
        ("HEADLESS_SERVICE", "a.b", "1 to 63"),
        ("HEADLESS_SERVICE", "-a", "1 to 63"),
        ("CLUSTER_DOMAIN", "cluster..local", "DNS name"),
        ("CLUSTER_DOMAIN", ".", "DNS name"),
        ("MASTERS", "0", "from 1 to 1000"),
        ("MASTERS", "+3", "from 1 to 1000"),
        ("MASTERS", "three", "from 1 to 1000"),
        ("MASTERS", "1001", "from 1 to 1000"),
        ("REPLICAS_PER_MASTER", "-1", "from 0 to 999"),
        ("REPLICAS_PER_MASTER", "333", "within 1000 pods"),
        ("DNS_SERVER", "dns", "10.96.0.10:53"),
        ("DNS_SERVER", "10.0.0.1:0", "10.96.0.10:53"),
        ("REDIS_HOST", "redis://x", "host name"),
        ("REDIS_HOST", "127.0.0.1:6379", "host name"),
        ("REDIS_PORT", "0", "1 to 55535"),
        ("REDIS_PORT", "55536", "1 to 55535"),
        ("REDIS_PORT", "65536", "1 to 55535"),
        ("REDIS_USERNAME", "a\tb", "control characters"),
        ("REDIS_PASSWORD_FILE", "/no/such/file", "readable file"),
        ("REDIS_PASSWORD_FILE", "/", "readable file"),
        ("HTTP_ADDR", ":8080", "0.0.0.0:8080"),
        ("HTTP_ADDR", "0.0.0.0", "0.0.0.0:8080"),
        ("HTTP_ADDR", "0.0.0.0:0", "0.0.0.0:8080"),
        ("READY_WHEN", "always", "node or cluster"),
        ("MAX_LAG_BYTES", "10MB", "whole number"),
        ("MAX_LAG_BYTES", "18446744073709551616", "whole number"),
        ("DRY_RUN", "maybe", "true or false"),
        ("LOG_FORMAT", "xml", "text or json"),
    ];
    for (variable, value, takes) in table {
        let flag = format!("--{}={value}", variable.to_lowercase().replace('_', "-"));
        for line in [
            refusal(load(&[], &[(variable, value)])),
            refusal(load(&[&flag], &[])),
        ] {
            assert!(
                line.starts_with(&format!("{variable} is {value:?}: ")),
                "{line}"
            );
            assert!(line.contains("takes ") && line.contains(takes), "{line}");
        }
    }
}

#[test]
fn what_must_be_set_is_asked_for() {
    for variable in ["POD_IP", "HEADLESS_SERVICE"] {
        assert!(Config::variables().contains(&(variable, true)));
        let line = refusal(load(&[], &[(variable, "")]));
        assert!(
            line.starts_with(&format!("{variable} is not set: takes ")),
            "{line}"
        );
    }
}

#[test]
fn no_variable_takes_other_than_utf8() {
    for (variable, _) in Config::variables() {
        let mut vars: BTreeMap<_, _> = MINIMUM
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        vars.insert(
            variable.to_owned(),
            OsString::from_vec(b"hunter\xff".to_vec()),
        );
        let line = refusal(load_os(&[], &vars, ""));
        assert!(
            line.starts_with(variable) && line.contains("takes UTF-8"),
            "{line}"
        );
        assert_eq!(
            line.contains("hunter"),
            variable != "REDIS_PASSWORD",
            "{line}"
        );
    }
}

#[test]
fn the_hostname_stands_in_for_the_pod_name() {
    let without_name: BTreeMap<_, _> = MINIMUM
        .iter()
        .skip(1)
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
        .collect();
    let config = load_os(&[], &without_name, "redis-app-4").unwrap();
    assert_eq!(config.pod.ordinal, 4);
    let line = refusal(load_os(&[], &without_name, "laptop"));
    assert!(line.starts_with("POD_NAME is \"laptop\": takes "), "{line}");
    assert!(line.contains("hostname"), "{line}");
    let line = refusal(load_os(&[], &without_name, ""));
    assert!(line.starts_with("POD_NAME is not set: "), "{line}");
}

#[test]
fn a_flag_goes_before_its_variable_and_every_variable_has_one() {
    let config = load(
        &["--masters", "5", "--masters=7", "--dry-run"],
        &[("MASTERS", "4")],
    )
    .unwrap();
    assert_eq!((config.shape.masters, config.dry_run), (7, true));
    let config = load(
        &["--dry-run=no", "--zone="],
        &[("DRY_RUN", "yes"), ("ZONE", "a")],
    )
    .unwrap();
    assert_eq!((config.dry_run, config.zone.as_str()), (false, "a"));
    for (variable, _) in Config::variables() {
        let flag = format!("--{}=\u{1}", variable.to_lowercase().replace('_', "-"));
        if let Err(stop) = load(&[&flag], &[]) {
            assert!(stop.to_string().starts_with(variable), "{stop}");
        }
    }
}

#[test]
fn what_is_no_flag_is_refused_without_its_value() {
    for (args, told) in [
        (
            &["--no-such=hunter2"][..],
            "\"--no-such\" is no flag of redis-sidecar",
        ),
        (
            &["--redis-passwort", "hunter2"],
            "\"--redis-passwort\" is no flag",
        ),
        (&["-x"], "\"-x\" is no flag"),
        (&["start"], "\"start\" is no flag"),
        (
            &["--redis-password", "two", "hunter2"],
            "an argument is no flag",
        ),
        (
            &["--masters"],
            "MASTERS has no value: --masters takes one, NUMBER",
        ),
        (&["--redis-password"], "REDIS_PASSWORD has no value"),
    ] {
        let line = refusal(load(args, &[]));
        assert!(line.starts_with(told), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn the_password_file_wins_and_nothing_prints_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "from-file\n").unwrap();
    let path = path.to_str().unwrap();
    let both = [("REDIS_PASSWORD", "hunter2"), ("REDIS_PASSWORD_FILE", path)];
    let config = good(&both);
    assert_eq!(
        config.password.read().unwrap().unwrap().reveal(),
        "from-file"
    );
    let config = load(&["--redis-password", "-hunter2"], &[]).unwrap();
    assert_eq!(
        config.password.read().unwrap().unwrap().reveal(),
        "-hunter2"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn help_and_version_end_well() {
    let stop = load(&["--version"], &[]).unwrap_err();
    assert_eq!(stop.exit_code(), 0);
    assert_eq!(
        stop.to_string(),
        format!("redis-sidecar {}\n", env!("CARGO_PKG_VERSION"))
    );
    let stop = load(&["--help"], &[("REDIS_PASSWORD", "hunter2")]).unwrap_err();
    assert_eq!(stop.exit_code(), 0);
    let help: Vec<_> = stop
        .to_string()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let help = help.join(" ");
    for (variable, _) in Config::variables() {
        let flag = format!("--{} ", variable.to_lowercase().replace('_', "-"));
        assert!(
            help.contains(&format!("[env: {variable}]")),
            "{variable}: {help}"
        );
        assert!(
            help.contains(&flag) || variable == "DRY_RUN",
            "{flag}: {help}"
        );
    }
    assert!(!help.contains("hunter2"));
}

proptest! {
    #[test]
    fn no_value_breaks_the_check_and_every_refusal_is_one_line(
        which in 0..Config::variables().len(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut vars: BTreeMap<_, _> = MINIMUM
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        vars.insert(Config::variables()[which].0.to_owned(), OsString::from_vec(bytes));
        let outcome = load_os(&[], &vars, "a\nb");
        if outcome.is_err() {
            refusal(outcome);
        }
    }

    #[test]
    fn no_argument_breaks_the_reading(args in prop::collection::vec("-{0,2}[a-z\\n= -]{0,12}", 0..4)) {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let outcome = load(&args, &[]);
        if outcome.as_ref().is_err_and(|stop| stop.exit_code() != 0) {
            refusal(outcome);
        }
    }
}
