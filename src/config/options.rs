//! The list of variables, and the gathering of their raw values from flags and environment.
//!
//! In: arguments and an environment. Out: one raw value per variable, the flag before the
//! environment before the default; an empty value counts as not set.
//!
//! Not here: what a value means (`check`).

use std::ffi::{OsStr, OsString};

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::check::Invalid;
use super::{Stop, Surroundings};

/// One variable: `POD_NAME` in the environment is `--pod-name` as a flag.
pub(super) struct ConfigOption {
    pub(super) variable: &'static str,
    pub(super) required: bool,
    flag: &'static str,
    group: &'static str,
    takes: &'static str,
    default: Option<&'static str>,
    help: &'static str,
}

const POD: &str = "This pod (from the Downward API)";
const CLUSTER: &str = "The cluster";
const REDIS: &str = "The Redis in this pod";
const SERVING: &str = "Answers and readiness";
const RUNNING: &str = "Running";

const fn option(
    group: &'static str,
    variable: &'static str,
    flag: &'static str,
    takes: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> ConfigOption {
    ConfigOption {
        variable,
        required: false,
        flag,
        group,
        takes,
        default,
        help,
    }
}

const fn required(option: ConfigOption) -> ConfigOption {
    ConfigOption {
        required: true,
        ..option
    }
}

/// Every variable, in the order of the help.
#[rustfmt::skip]
pub(super) const OPTIONS: &[ConfigOption] = &[
    option(POD, "POD_NAME", "pod-name", "SET-ORDINAL", None,
        "The pod's name, <statefulset>-<ordinal> [default: the hostname]"),
    option(POD, "POD_NAMESPACE", "pod-namespace", "NAMESPACE", Some("default"),
        "The pod's namespace"),
    required(option(POD, "POD_IP", "pod-ip", "IP", None,
        "The pod's own address, IPv4 or IPv6, as peers and clients reach it [required]")),
    option(POD, "NODE_NAME", "node-name", "NAME", None,
        "The Kubernetes node, to spread replicas over nodes"),
    option(POD, "ZONE", "zone", "NAME", None,
        "The node's zone, to spread replicas over zones"),
    required(option(CLUSTER, "HEADLESS_SERVICE", "headless-service", "SERVICE", None,
        "The StatefulSet's governing (headless) Service, by which peers are found [required]")),
    option(CLUSTER, "CLUSTER_DOMAIN", "cluster-domain", "DOMAIN", Some("cluster.local"),
        "The DNS domain of the Kubernetes cluster"),
    option(CLUSTER, "MASTERS", "masters", "NUMBER", Some("3"),
        "How many masters the cluster is formed with; the same in every pod"),
    option(CLUSTER, "REPLICAS_PER_MASTER", "replicas-per-master", "NUMBER", Some("1"),
        "How many replicas each master gets; MASTERS x (1 + this) pods are waited for"),
    option(CLUSTER, "DNS_SERVER", "dns-server", "IP:PORT", None,
        "The DNS server to ask [default: those of /etc/resolv.conf]"),
    option(REDIS, "REDIS_HOST", "redis-host", "HOST", Some("127.0.0.1"),
        "Where the own Redis listens"),
    option(REDIS, "REDIS_PORT", "redis-port", "PORT", Some("6379"),
        "The port of the own Redis and of every peer's"),
    option(REDIS, "REDIS_USERNAME", "redis-username", "NAME", None,
        "The ACL user to log in as"),
    option(REDIS, "REDIS_PASSWORD", "redis-password", "PASSWORD", None,
        "The password; prefer the file, which no process list shows"),
    option(REDIS, "REDIS_PASSWORD_FILE", "redis-password-file", "FILE", None,
        "A file holding the password; wins, and is read again when it changes"),
    option(REDIS, "DATA_DIR", "data-dir", "DIR", Some("/data"),
        "The volume Redis writes to"),
    option(REDIS, "NODES_CONF", "nodes-conf", "FILE", Some("nodes.conf"),
        "Redis's cluster-config-file; a relative path is one in DATA_DIR"),
    option(RUNNING, "SOCKET", "socket", "FILE", None,
        "Where the commands below reach this agent [default: redis-sidecar.sock in DATA_DIR]"),
    option(SERVING, "HTTP_ADDR", "http-addr", "IP:PORT", Some("0.0.0.0:8080"),
        "Where probes, metrics and peers are answered; peers are asked on the same port"),
    option(SERVING, "READY_WHEN", "ready-when", "node|cluster", Some("node"),
        "Whether /readyz is about this node, or about the whole cluster too"),
    option(SERVING, "MAX_LAG_BYTES", "max-lag-bytes", "BYTES", Some("10485760"),
        "A replica that is behind its master by more is not ready"),
    option(RUNNING, "DRY_RUN", "dry-run", "BOOL", Some("false"),
        "Decide, publish and log, but write nothing"),
    option(RUNNING, "LOG_FORMAT", "log-format", "text|json", None,
        "How log lines look; RUST_LOG filters them [default: text on a terminal, else json]"),
];

/// Variables whose value no message may show.
pub(super) const SECRETS: &[&str] = &["REDIS_PASSWORD"];

/// A raw value: not empty, and UTF-8.
pub(super) struct Values<'a> {
    flags: ArgMatches,
    pub(super) surroundings: Surroundings<'a>,
}

impl<'a> Values<'a> {
    /// Reads the arguments; values are looked at only when asked for.
    pub(super) fn gather(
        args: Vec<OsString>,
        surroundings: Surroundings<'a>,
    ) -> Result<Self, Stop> {
        let secret_flag = args
            .iter()
            .any(|arg| arg.as_encoded_bytes().starts_with(b"--redis-password"));
        match command().try_get_matches_from(args) {
            Ok(flags) => Ok(Self {
                flags,
                surroundings,
            }),
            Err(error) => Err(stop(&error, secret_flag)),
        }
    }

    /// What a variable was set to, or its default.
    pub(super) fn text(&self, variable: &'static str) -> Result<Option<String>, Invalid> {
        let flag = match self.flags.value_source(variable) {
            Some(ValueSource::CommandLine) => self.flags.get_one::<OsString>(variable).cloned(),
            _ => None,
        };
        let set = [flag, (self.surroundings.env)(variable)]
            .into_iter()
            .flatten()
            .find(|value| !value.is_empty());
        match set.map(OsString::into_string) {
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(odd)) => Err(Invalid::not_utf8(variable, &odd)),
            None => Ok(default_of(variable).map(str::to_owned)),
        }
    }
}

fn default_of(variable: &str) -> Option<&'static str> {
    OPTIONS
        .iter()
        .find(|option| option.variable == variable)
        .and_then(|option| option.default)
}

/// The command line as clap knows it; every value is taken raw.
fn command() -> Command {
    Command::new("redis-sidecar")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help("Commands for the agent in this pod: redis-sidecar pre-stop, failover, pause, resume; and install, which copies this binary. Each has a --help.\n\n`redis-sidecar init`, with the same settings, is for an init container: it puts a lost or damaged nodes.conf back from its copy and ends when Redis may start.\n\nEvery flag can be set by the environment variable shown beside it; the flag wins. An empty value counts as not set. A value that cannot be used ends the start with exit code 64.")
        .args_override_self(true)
        .args(OPTIONS.iter().map(argument))
}

fn argument(option: &ConfigOption) -> Arg {
    let argument = Arg::new(option.variable)
        .long(option.flag)
        .env(option.variable)
        .hide_env_values(true)
        .value_name(option.takes)
        .value_parser(OsStringValueParser::new())
        .action(ArgAction::Set)
        .help_heading(option.group)
        .help(option.help);
    let argument = match option.default {
        Some(default) => argument.default_value(default),
        None => argument,
    };
    match option.variable {
        // `--dry-run` alone means yes.
        "DRY_RUN" => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        // A password or a user may begin with a dash.
        "REDIS_PASSWORD" | "REDIS_USERNAME" => argument.allow_hyphen_values(true),
        _ => argument,
    }
}

/// Turns clap's answer into one line; it never repeats a value.
fn stop(error: &clap::Error, secret_flag: bool) -> Stop {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Stop::Print(error.to_string());
    }
    let subject = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let flag = subject.split(['=', ' ']).next().unwrap_or_default();
    let line = match error.kind() {
        ErrorKind::UnknownArgument if subject.starts_with('-') => {
            format!("{flag:?} is no flag of redis-sidecar: see --help for those it takes")
        }
        // A stray word beside a password flag may be half of the password.
        ErrorKind::UnknownArgument if secret_flag => {
            "an argument is no flag: redis-sidecar takes flags only, see --help".to_owned()
        }
        ErrorKind::UnknownArgument => {
            format!("{subject:?} is no flag: redis-sidecar takes flags only, see --help")
        }
        _ => match OPTIONS
            .iter()
            .find(|option| flag.strip_prefix("--") == Some(option.flag))
        {
            Some(option) => format!(
                "{} has no value: {flag} takes one, {}",
                option.variable, option.takes
            ),
            None => format!("{flag:?} cannot be used like this: see --help"),
        },
    };
    Stop::Invalid(line)
}

/// For messages: the lossy text of a value that is not UTF-8.
pub(super) fn lossy(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}
