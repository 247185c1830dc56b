//! Keys that must survive: written through the cluster, read back, redirects followed by hand.
//!
//! Does not: retry; a caller that expects trouble waits with `wait::until`. A redirect to an
//! address that is no pod's is followed like any other, and fails as it would for a user.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use redis::{FromRedisValue, Value, aio::MultiplexedConnection};

use crate::{
    Testbed,
    client::{connect, parse_address},
    truth, wait,
};

/// Redirects followed for one command.
const REDIRECTS_MAX: usize = 5;
/// How long a disk may take.
const WRITTEN: Duration = Duration::from_secs(20);

/// A client of the cluster: knows some nodes, learns the rest by MOVED.
pub struct ClusterClient {
    seeds: Vec<SocketAddr>,
    password: Option<String>,
    connections: BTreeMap<SocketAddr, MultiplexedConnection>,
}

impl ClusterClient {
    /// Connects to nobody yet.
    #[must_use]
    pub fn new(seeds: Vec<SocketAddr>, password: Option<String>) -> Self {
        Self {
            seeds,
            password,
            connections: BTreeMap::new(),
        }
    }

    /// Other nodes to start from, for pods that moved.
    pub fn set_seeds(&mut self, seeds: Vec<SocketAddr>) {
        self.seeds = seeds;
    }

    /// Sends one command to a seed that answers, and on to where it is redirected.
    ///
    /// # Errors
    /// When no seed answers, a redirect leads to nobody, or the answer is an error.
    pub async fn command(&mut self, words: &[&str]) -> Result<Value> {
        let mut last = anyhow::anyhow!("no seeds");
        for seed in self.seeds.clone() {
            match self.ask_from(seed, words).await {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_from(&mut self, seed: SocketAddr, words: &[&str]) -> Result<Value> {
        let mut address = seed;
        let mut asking = false;
        for _ in 0..REDIRECTS_MAX {
            let error = match self.ask(address, words, asking).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let redirect = error.redirect_node().and_then(|(to, _)| parse_address(to));
            asking = error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::Ask);
            match redirect {
                Some(to) => address = to,
                None => {
                    return Err(error).with_context(|| format!("{address}: {}", words.join(" ")));
                }
            }
        }
        bail!(
            "more than {REDIRECTS_MAX} redirects from {seed} for {}",
            words.join(" ")
        )
    }

    async fn ask(
        &mut self,
        address: SocketAddr,
        words: &[&str],
        asking: bool,
    ) -> redis::RedisResult<Value> {
        let mut connection = match self.connections.remove(&address) {
            Some(connection) => connection,
            None => connect(address, self.password.as_deref()).await?,
        };
        let mut pipeline = redis::pipe();
        if asking {
            pipeline.cmd("ASKING").ignore();
        }
        pipeline
            .cmd(words.first().copied().unwrap_or_default())
            .arg(words.get(1..));
        let answered: redis::RedisResult<Vec<Value>> = pipeline.query_async(&mut connection).await;
        let broken = answered
            .as_ref()
            .is_err_and(redis::RedisError::is_unrecoverable_error);
        if !broken {
            self.connections.insert(address, connection);
        }
        answered.map(|values| values.into_iter().next_back().unwrap_or(Value::Nil))
    }
}

/// The keys of one test.
pub struct Canary {
    prefix: String,
    count: usize,
}

impl Testbed {
    /// A client that starts from every pod's present address.
    #[must_use]
    pub fn cluster_client(&self) -> ClusterClient {
        let pods = self.pods();
        let password = pods.first().and_then(|pod| pod.settings().password);
        ClusterClient::new(
            pods.iter().map(|pod| pod.redis_address()).collect(),
            password,
        )
    }

    /// Writes `count` keys over all slots; keep the result for [`Canary::intact`]. Waits until the
    /// kernel has them: with `appendfsync everysec` Redis acknowledges before it writes, and on a
    /// busy disk it writes up to 2 s later, so that SIGKILL would lose them.
    ///
    /// # Errors
    /// When a write is not acknowledged.
    pub async fn write_canary(&self, prefix: &str, count: usize) -> Result<Canary> {
        let mut client = self.cluster_client();
        for n in 0..count {
            let (key, value) = pair(prefix, n);
            client.command(&["SET", &key, &value]).await?;
        }
        wait::until(WRITTEN, "what is acknowledged is written", async || {
            for pod in self.pods() {
                let Ok(info) = pod.command::<String>(&["INFO", "persistence"]).await else {
                    continue;
                };
                let left = truth::fields(&info).remove("aof_buffer_length");
                ensure!(
                    left.as_deref().unwrap_or("0") == "0",
                    "{}: {left:?} bytes",
                    pod.name
                );
            }
            Ok(())
        })
        .await?;
        Ok(Canary {
            prefix: prefix.to_owned(),
            count,
        })
    }
}

impl Canary {
    /// Reads every key back through the cluster.
    ///
    /// # Errors
    /// Names how many keys are missing or changed, and the first one.
    pub async fn intact(&self, testbed: &Testbed) -> Result<()> {
        let mut client = testbed.cluster_client();
        let mut lost = Vec::new();
        for n in 0..self.count {
            let (key, value) = pair(&self.prefix, n);
            let found = client.command(&["GET", &key]).await?;
            let found = Option::<String>::from_redis_value(found)?;
            if found.as_deref() != Some(value.as_str()) {
                lost.push(format!("{key} is {found:?}"));
            }
        }
        match lost.first() {
            None => Ok(()),
            Some(first) => bail!("{} of {} canary keys lost: {first}", lost.len(), self.count),
        }
    }
}

fn pair(prefix: &str, n: usize) -> (String, String) {
    (format!("{prefix}:{n}"), format!("value of {prefix} {n}"))
}
