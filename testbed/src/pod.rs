//! A "pod": one address, one data folder, a real `redis-server`, and the agent beside it.
//!
//! Redis and the agent start and end separately, as containers do. An address changes, and a
//! volume is wiped, only while nothing runs that would notice it half-way.
//!
//! Does not: publish the pod in DNS or know other pods; [`crate::Testbed`] does.

mod init;
mod programs;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use redis::{FromRedisValue, Pipeline, Value};

use crate::{
    client::Link,
    http, lock,
    process::{Process, STOP_DEADLINE},
    server::Server,
    split, wait,
    writes::SlowLog,
};

/// The port of every agent's HTTP. Not 8080: a server at `0.0.0.0:8080`, which many a machine has,
/// would take it on every loopback address.
pub const HTTP_PORT: u16 = 18_080;

/// What the pods of one StatefulSet have in common.
#[derive(Debug, Clone)]
pub struct Set {
    /// `POD_NAMESPACE`
    pub namespace: String,
    /// The StatefulSet's name: pods are `<name>-<ordinal>`.
    pub name: String,
    /// `HEADLESS_SERVICE`
    pub service: String,
    /// `MASTERS`
    pub masters: usize,
    /// `REPLICAS_PER_MASTER`
    pub replicas_per_master: usize,
}

/// What one pod runs; changed with [`Pod::change`], effective at the next start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Redis to run.
    pub server: Server,
    /// `port`
    pub redis_port: u16,
    /// `cluster-node-timeout`
    pub node_timeout: Duration,
    /// `appendonly`
    pub appendonly: bool,
    /// `requirepass` and `masterauth`, `REDIS_PASSWORD` of the agent, and our own.
    pub password: Option<String>,
    /// Further lines of redis.conf.
    pub redis_lines: Vec<String>,
    /// The agent; `None` for a pod without one.
    pub agent: Option<PathBuf>,
    /// Further variables of the agent, which win over those of the testbed. An empty value
    /// removes the variable.
    pub agent_env: BTreeMap<String, String>,
    /// Whether the pod's processes run under a group of their own, so that `split` can tell them.
    pub own_group: bool,
}

/// One pod. All methods take `&self`, so that a test can act on several at once.
#[derive(Debug)]
pub struct Pod {
    /// The ordinal.
    pub ordinal: usize,
    /// `<statefulset>-<ordinal>`
    pub name: String,
    /// The pod's redis-server.
    pub redis: Process,
    /// The pod's agent.
    pub agent: Process,
    set: Set,
    dns: SocketAddr,
    folder: PathBuf,
    gid: Option<u32>,
    address: Mutex<IpAddr>,
    settings: Mutex<Settings>,
    link: Link,
    pub(crate) slow_log: tokio::sync::Mutex<SlowLog>,
}

impl Pod {
    /// Makes the folders; starts nothing. `dns` is where the agent asks.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn new(
        set: Set,
        ordinal: usize,
        address: IpAddr,
        dns: SocketAddr,
        run: &Path,
        settings: Settings,
    ) -> Result<Self> {
        let name = format!("{}-{ordinal}", set.name);
        let folder = run.join(&name);
        let data = folder.join("data");
        std::fs::create_dir_all(&data).with_context(|| format!("create {}", data.display()))?;
        Ok(Self {
            ordinal,
            redis: Process::new(format!("{name}'s redis"), folder.join("redis.log")),
            agent: Process::new(format!("{name}'s agent"), folder.join("agent.log")),
            name,
            set,
            dns,
            folder,
            gid: settings.own_group.then(|| split::gid(address)),
            address: Mutex::new(address),
            settings: Mutex::new(settings),
            link: Link::default(),
            slow_log: tokio::sync::Mutex::default(),
        })
    }

    /// The present address.
    pub fn address(&self) -> IpAddr {
        *lock(&self.address)
    }

    /// The group its processes run under, if one of their own.
    pub(crate) fn gid(&self) -> Option<u32> {
        self.gid
    }

    /// The present address with the Redis port.
    pub fn redis_address(&self) -> SocketAddr {
        SocketAddr::new(self.address(), lock(&self.settings).redis_port)
    }

    /// Where the agent answers.
    pub fn http_address(&self) -> SocketAddr {
        SocketAddr::new(self.address(), HTTP_PORT)
    }

    /// Where the agent asks DNS.
    pub fn dns_address(&self) -> SocketAddr {
        self.dns
    }

    /// The volume.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// `nodes.conf` on the volume.
    pub fn nodes_conf(&self) -> PathBuf {
        self.data_dir().join("nodes.conf")
    }

    /// A copy of the settings.
    pub fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Changes what the next start of Redis or the agent uses.
    pub fn change(&self, how: impl FnOnce(&mut Settings)) {
        how(&mut lock(&self.settings));
    }

    /// Starts Redis and, if there is one, the agent, without waiting for either to answer.
    ///
    /// # Errors
    /// When one runs already or cannot be started.
    pub async fn start(&self) -> Result<()> {
        self.start_redis().await?;
        if lock(&self.settings).agent.is_some() {
            self.start_agent().await?;
        }
        Ok(())
    }

    /// Writes redis.conf and starts Redis.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub async fn start_redis(&self) -> Result<()> {
        let program = self.redis_program()?;
        self.redis.start(program).await
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When there is none, it runs already or cannot be started.
    pub async fn start_agent(&self) -> Result<()> {
        let program = self.agent_program()?;
        self.agent.start(program).await
    }

    /// SIGTERM to both at once, as a kubelet does, and waits for both.
    ///
    /// # Errors
    /// When one had to be killed.
    pub async fn stop(&self) -> Result<()> {
        let (redis, agent) = tokio::join!(
            self.redis.stop(STOP_DEADLINE),
            self.agent.stop(STOP_DEADLINE)
        );
        redis?;
        agent?;
        Ok(())
    }

    /// SIGKILL to both, as when a node loses power.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub async fn kill(&self) -> Result<()> {
        let (redis, agent) = tokio::join!(self.redis.kill(), self.agent.kill());
        redis?;
        agent
    }

    /// Whether Redis or the agent runs.
    pub async fn is_running(&self) -> bool {
        self.redis.is_running().await || self.agent.is_running().await
    }

    /// Gives the pod another address, as when it is created anew.
    ///
    /// # Errors
    /// While anything of it runs.
    pub async fn move_to(&self, address: IpAddr) -> Result<()> {
        if self.is_running().await {
            bail!(
                "{} still runs; a running pod cannot change its address",
                self.name
            );
        }
        *lock(&self.address) = address;
        Ok(())
    }

    /// Empties the data folder.
    ///
    /// # Errors
    /// While Redis runs, or when it cannot be emptied.
    pub async fn wipe_volume(&self) -> Result<()> {
        if self.redis.is_running().await {
            bail!("{}: its Redis still runs; the volume is in use", self.name);
        }
        let data = self.data_dir();
        std::fs::remove_dir_all(&data)
            .and_then(|()| std::fs::create_dir(&data))
            .with_context(|| format!("empty {}", data.display()))
    }

    /// Sends one command to this pod's Redis: `pod.command::<String>(&["CLUSTER", "MYID"])`.
    ///
    /// # Errors
    /// When no answer came in time, or it is an error.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let (address, password) = (self.redis_address(), self.settings().password);
        self.link
            .command(address, password.as_deref(), words)
            .await
            .with_context(|| format!("{}: {}", self.name, words.join(" ")))
    }

    /// Sends several commands in one go; errors of single ones are values in the answer.
    ///
    /// # Errors
    /// When no answer came in time.
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let (address, password) = (self.redis_address(), self.settings().password);
        self.link
            .pipeline(address, password.as_deref(), pipeline)
            .await
            .with_context(|| self.name.clone())
    }

    /// Waits until Redis answers PING, so is up and not loading.
    ///
    /// # Errors
    /// When it does not by the deadline.
    pub async fn redis_answers(&self, deadline: Duration) -> Result<()> {
        wait::until(
            deadline,
            &format!("{}'s Redis answers", self.name),
            async || self.command::<String>(&["PING"]).await.map(|_| ()),
        )
        .await
    }

    /// GET from the agent: `pod.get("/readyz")`.
    ///
    /// # Errors
    /// When no whole answer came in time.
    pub async fn get(&self, path: &str) -> Result<http::Answer> {
        http::get(self.http_address(), path)
            .await
            .with_context(|| self.name.clone())
    }

    /// Whether `/readyz` says 200; otherwise an error with its reasons, as text.
    ///
    /// # Errors
    /// When not ready, or no agent answers.
    pub async fn ready(&self) -> Result<()> {
        let answer = self.get("/readyz").await?;
        if answer.status != 200 {
            bail!("{}: {} {}", self.name, answer.status, answer.body.trim());
        }
        Ok(())
    }
}
