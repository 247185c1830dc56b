//! The configuration, checked once, before anything is bound or written.
//!
//! In: flags, the environment and the hostname. Out: a [`Config`] in which every value is known to
//! be usable, or a [`Stop`] with what to print and the code to exit with.
//!
//! `options` is the list of variables, `check` holds what each takes, `secret` the password.
//! Not here: a silent default for a bad value; the log filter `RUST_LOG` (see `logging`).

mod check;
mod options;
mod secret;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;

use crate::model::identity::{ClusterName, PodName, Shape};
pub use secret::{PasswordSource, Secret};

/// Everything a user may set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `POD_NAME`: this pod, by default the hostname.
    pub pod: PodName,
    /// `POD_NAMESPACE`
    pub namespace: String,
    /// `POD_IP`: the address peers and clients are told.
    pub pod_ip: IpAddr,
    /// `NODE_NAME`: the Kubernetes node, or empty.
    pub node_name: String,
    /// `ZONE`: the node's zone, or empty.
    pub zone: String,
    /// `HEADLESS_SERVICE`: one DNS label.
    pub headless_service: String,
    /// `CLUSTER_DOMAIN`: without a trailing dot.
    pub cluster_domain: String,
    /// `MASTERS` and `REPLICAS_PER_MASTER`
    pub shape: Shape,
    /// `REDIS_HOST`: a host name or an address, IPv6 without brackets.
    pub redis_host: String,
    /// `REDIS_PORT`: its cluster bus port (+10000) is a port too.
    pub redis_port: u16,
    /// `REDIS_USERNAME`
    pub username: Option<String>,
    /// `REDIS_PASSWORD_FILE`, else `REDIS_PASSWORD`, else none.
    pub password: PasswordSource,
    /// `DATA_DIR`: the Redis volume.
    pub data_dir: PathBuf,
    /// `NODES_CONF`: a relative path is one in `data_dir`, as in Redis.
    pub nodes_conf: PathBuf,
    /// `SOCKET`: where commands reach the agent; by default in `data_dir`.
    pub socket: PathBuf,
    /// `HTTP_ADDR`: peers are asked on the same port.
    pub http_addr: SocketAddr,
    /// `DNS_SERVER`: none means `/etc/resolv.conf`.
    pub dns_server: Option<SocketAddr>,
    /// `LOG_FORMAT`
    pub log_format: LogFormat,
    /// `READY_WHEN`
    pub ready_when: ReadyWhen,
    /// `MAX_LAG_BYTES`: a replica behind by more is not ready.
    pub max_lag_bytes: u64,
    /// `DRY_RUN`: decide, publish and log, but write nothing.
    pub dry_run: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// What readiness is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyWhen {
    /// This node does its part.
    Node,
    /// This node does its part and the whole cluster is well.
    Cluster,
}

/// Why there is no [`Config`] to run with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Stop {
    /// `--help` or `--version` asked for this text: print it to stdout and exit 0.
    #[error("{0}")]
    Print(String),
    /// A value cannot be used: one line for stderr, then exit 64.
    #[error("{0}")]
    Invalid(String),
}

impl Stop {
    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Print(_) => 0,
            Self::Invalid(_) => 64,
        }
    }

    /// Writes the text where it belongs: an answer to stdout, an error to stderr.
    pub fn print(&self) {
        // A reader that went away is no reason to fail: nothing is left to do but exit.
        let _ = match self {
            Self::Print(text) => write!(std::io::stdout(), "{text}"),
            Self::Invalid(line) => writeln!(std::io::stderr(), "{line}"),
        };
    }
}

/// What the configuration reads beyond the arguments; tests bring their own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The hostname, where it can be read.
    pub hostname: &'a dyn Fn() -> Option<String>,
    /// Whether log lines go to a terminal.
    pub log_to_terminal: bool,
}

impl Surroundings<'_> {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            env: &|name| std::env::var_os(name),
            hostname: &hostname,
            log_to_terminal: std::io::stderr().is_terminal(),
        }
    }
}

impl Config {
    /// Reads and checks everything; `args` starts with the program's name. A flag goes before its
    /// variable, and an empty value counts as not set. The only I/O is one read of the hostname
    /// and of the password file.
    pub fn load(
        args: impl IntoIterator<Item = OsString>,
        surroundings: Surroundings<'_>,
    ) -> Result<Self, Stop> {
        let values = options::Values::gather(args.into_iter().collect(), surroundings)?;
        check::config(&values).map_err(|invalid| Stop::Invalid(invalid.to_string()))
    }

    /// The cluster this pod belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterName {
        ClusterName::of(&self.namespace, &self.pod)
    }

    /// Where peers and clients reach the own Redis: `POD_IP` and `REDIS_PORT`.
    #[must_use]
    pub fn announced_address(&self) -> SocketAddr {
        SocketAddr::new(self.pod_ip, self.redis_port)
    }

    /// Every variable by name, with whether it must be set.
    #[must_use]
    pub fn variables() -> Vec<(&'static str, bool)> {
        options::OPTIONS
            .iter()
            .map(|option| (option.variable, option.required))
            .collect()
    }
}

fn hostname() -> Option<String> {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|name| !name.is_empty())
}
