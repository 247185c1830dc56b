//! How a [`Testbed`] is told what to be.
//!
//! Does not: start a pod.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result};

use super::Testbed;
use crate::{
    address::{Addresses, Family},
    dns::Dns,
    pod::{Set, Settings},
    server::{Server, find_program},
    split::Splitter,
};

/// Options of a [`Testbed`]; [`Builder::build`] checks them.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    set: Set,
    pods: Option<usize>,
    server: Option<PathBuf>,
    redis_port: u16,
    node_timeout: Duration,
    appendonly: bool,
    password: Option<String>,
    redis_lines: Vec<String>,
    agent: Option<PathBuf>,
    agent_env: BTreeMap<String, String>,
    family: Family,
    publish_not_ready: bool,
    service_ports: Vec<u16>,
    divisible: bool,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            set: Set {
                namespace: "default".to_owned(),
                name: "redis-app".to_owned(),
                service: "redis-headless".to_owned(),
                masters: 3,
                replicas_per_master: 1,
            },
            pods: None,
            server: None,
            redis_port: 6379,
            node_timeout: Duration::from_secs(5),
            appendonly: true,
            password: None,
            redis_lines: Vec::new(),
            agent: None,
            agent_env: BTreeMap::new(),
            family: Family::V4,
            publish_not_ready: true,
            service_ports: Vec::new(),
            divisible: false,
        }
    }

    /// The first shape; as many pods as it takes unless [`Builder::pods`] says otherwise.
    #[must_use]
    pub fn shape(mut self, masters: usize, replicas_per_master: usize) -> Self {
        self.set.masters = masters;
        self.set.replicas_per_master = replicas_per_master;
        self
    }

    /// Another number of pods than the shape needs.
    #[must_use]
    pub fn pods(mut self, count: usize) -> Self {
        self.pods = Some(count);
        self
    }

    /// `POD_NAMESPACE`; `default` at first.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.set.namespace = namespace.to_owned();
        self
    }

    /// The StatefulSet's and the Service's name; `redis-app` and `redis-headless` at first.
    #[must_use]
    pub fn names(mut self, statefulset: &str, service: &str) -> Self {
        self.set.name = statefulset.to_owned();
        self.set.service = service.to_owned();
        self
    }

    /// The agent's binary; without it the pods have no agent.
    #[must_use]
    pub fn agent(mut self, binary: impl Into<PathBuf>) -> Self {
        self.agent = Some(binary.into());
        self
    }

    /// A variable of every agent, which wins over the testbed's own; empty removes it.
    #[must_use]
    pub fn agent_env(mut self, name: &str, value: &str) -> Self {
        self.agent_env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Another server than `REDIS_SERVER` or the installed `redis-server`.
    #[must_use]
    pub fn server(mut self, program: impl Into<PathBuf>) -> Self {
        self.server = Some(program.into());
        self
    }

    /// `port`; 6379 at first.
    #[must_use]
    pub fn redis_port(mut self, port: u16) -> Self {
        self.redis_port = port;
        self
    }

    /// `cluster-node-timeout`; 5 s at first.
    #[must_use]
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
        self
    }

    /// `appendonly`; yes at first.
    #[must_use]
    pub fn appendonly(mut self, appendonly: bool) -> Self {
        self.appendonly = appendonly;
        self
    }

    /// `requirepass`, `masterauth`, and the agent's `REDIS_PASSWORD`.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A further line of every redis.conf.
    #[must_use]
    pub fn redis_line(mut self, line: &str) -> Self {
        self.redis_lines.push(line.to_owned());
        self
    }

    /// IPv6 addresses alone, which takes root and `ip`.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.family = Family::V6;
        self
    }

    /// `publishNotReadyAddresses` of the Service; true at first. With false, something must
    /// mirror readiness: [`Testbed::mirror_readiness`].
    #[must_use]
    pub fn publish_not_ready(mut self, publish: bool) -> Self {
        self.publish_not_ready = publish;
        self
    }

    /// The Service's ports, one SRV record a pod for each; the Redis port alone at first.
    #[must_use]
    pub fn service_ports(mut self, ports: &[u16]) -> Self {
        self.service_ports = ports.to_vec();
        self
    }

    /// So that the network can be made to fall apart ([`Testbed::cut`]), which takes root and `nft`.
    #[must_use]
    pub fn divisible(mut self) -> Self {
        self.divisible = true;
        self
    }

    /// Claims addresses, makes the folder and the pods, and starts the DNS; no pod is published
    /// or started yet.
    ///
    /// # Errors
    /// When the server or the agent is missing, or no address, folder or packet filter is to be had.
    pub async fn build(self) -> Result<Testbed> {
        let server = match &self.server {
            Some(program) => Server::at(program)?,
            None => Server::installed()?,
        };
        let agent = self
            .agent
            .as_deref()
            .map(find_program)
            .transpose()
            .context("the agent")?;
        let ports = match self.service_ports.as_slice() {
            [] => vec![self.redis_port],
            ports => ports.to_vec(),
        };
        let addresses = Addresses::claim(self.family)?;
        let dns_ip = addresses.fresh()?;
        let splitter = self
            .divisible
            .then(|| Splitter::new(dns_ip, self.redis_port))
            .transpose()?;
        let dns = Dns::new(
            &self.set.service,
            &self.set.namespace,
            "cluster.local",
            ports,
        );
        dns.set_publish_not_ready(self.publish_not_ready);
        let runs = runs();
        std::fs::create_dir_all(&runs).with_context(|| format!("create {}", runs.display()))?;
        let run = tempfile::Builder::new()
            .prefix(&format!("{}-", self.name))
            .tempdir_in(&runs)?;
        let shape_pods = self.set.masters * (1 + self.set.replicas_per_master);
        let testbed = Testbed {
            dns,
            pods: Mutex::default(),
            splitter,
            dns_ip,
            addresses,
            set: self.set,
            settings: Settings {
                server,
                redis_port: self.redis_port,
                node_timeout: self.node_timeout,
                appendonly: self.appendonly,
                password: self.password,
                redis_lines: self.redis_lines,
                agent,
                agent_env: self.agent_env,
                own_group: self.divisible,
            },
            tasks: Mutex::default(),
            run: Some(run),
        };
        for _ in 0..self.pods.unwrap_or(shape_pods) {
            testbed.add_pod().await?;
        }
        Ok(testbed)
    }
}

/// `TESTBED_RUNS`, else `target/testbed-runs` of this workspace.
fn runs() -> PathBuf {
    match std::env::var_os("TESTBED_RUNS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .with_file_name("target")
            .join("testbed-runs"),
    }
}
