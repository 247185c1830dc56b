//! [`Testbed`]: the pods of one StatefulSet, their Service's DNS, and the folder of one run.
//!
//! Plays the StatefulSet controller: creates and deletes pods, gives fresh addresses, publishes
//! them. On success ([`Testbed::finish`]) nothing is left; otherwise the folder is kept and named,
//! with the end of every agent's log.
//!
//! Does not: mirror readiness (`readiness`), or judge (`truth`).

mod builder;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    Snapshot, Truth,
    address::Addresses,
    dns::Dns,
    lock,
    pod::{Pod, Set, Settings},
    split::Splitter,
    wait,
};
pub use builder::Builder;

/// Pods ask the DNS at this port plus their ordinal: see `dns`.
const DNS_PORT: u16 = 10_053;

/// How a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM to Redis and agent, then deleted.
    Graceful,
    /// SIGKILL, as when the node is gone.
    Kill,
}

/// The pods of one StatefulSet. Dropped without [`Testbed::finish`], it counts as failed.
#[derive(Debug)]
pub struct Testbed {
    /// The handle of the Service's DNS.
    pub dns: Dns,
    // Fields are dropped in this order: the processes end before their addresses are free again.
    pods: Mutex<Vec<Arc<Pod>>>,
    splitter: Option<Splitter>,
    addresses: Addresses,
    dns_ip: IpAddr,
    set: Set,
    settings: Settings,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    run: Option<TempDir>,
}

impl Testbed {
    /// Three masters with a replica each, without an agent, until told otherwise. `name` names
    /// the folder of the run.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// What all pods have in common.
    #[must_use]
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// The folder of this run: a folder for each pod in it.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.run
            .as_ref()
            .map(|run| run.path().to_owned())
            .unwrap_or_default()
    }

    /// The pod with this ordinal, started or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, ordinal: usize) -> Result<Arc<Pod>> {
        let pods = lock(&self.pods);
        let pod = pods
            .get(ordinal)
            .with_context(|| format!("no pod {ordinal}"))?;
        Ok(Arc::clone(pod))
    }

    /// All pods in order.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        lock(&self.pods).clone()
    }

    /// Scales out by one: a further pod, not started; returns its ordinal.
    ///
    /// # Errors
    /// When no address, port or folder is to be had.
    pub async fn add_pod(&self) -> Result<usize> {
        let ordinal = lock(&self.pods).len();
        let pod = self
            .new_pod(ordinal, self.addresses.fresh()?, &self.folder())
            .await?;
        lock(&self.pods).push(pod);
        Ok(ordinal)
    }

    /// Forgets a pod whose processes go on, as after a forced deletion on a lost node: another
    /// one with its name, an empty volume and a fresh address takes its place, not started. The
    /// old one is returned, no longer in DNS nor in the truth, and ends when it is dropped.
    ///
    /// # Errors
    /// When there is none, or no address or folder is to be had.
    pub async fn replace_pod(&self, ordinal: usize) -> Result<Arc<Pod>> {
        let old = self.pod(ordinal)?;
        self.dns.unpublish(&old.name);
        let address = self.addresses.fresh()?;
        let folder = self.folder().join(format!("at-{address}"));
        let pod = self.new_pod(ordinal, address, &folder).await?;
        let mut pods = lock(&self.pods);
        let place = pods
            .get_mut(ordinal)
            .with_context(|| format!("no pod {ordinal}"))?;
        Ok(std::mem::replace(place, pod))
    }

    async fn new_pod(&self, ordinal: usize, address: IpAddr, folder: &Path) -> Result<Arc<Pod>> {
        let name = format!("{}-{ordinal}", self.set.name);
        let dns = SocketAddr::new(self.dns_ip, DNS_PORT + u16::try_from(ordinal)?);
        self.dns.listen(dns, &name).await?;
        let settings = self.settings.clone();
        let pod = Pod::new(self.set.clone(), ordinal, address, dns, folder, settings)?;
        Ok(Arc::new(pod))
    }

    /// Scales in by one: ends the last pod and takes it out of the truth. Its volume stays, as a
    /// StatefulSet's does, and is used again by [`Testbed::add_pod`].
    ///
    /// # Errors
    /// When it does not end.
    pub async fn remove_last_pod(&self, ending: Ending) -> Result<()> {
        let last = lock(&self.pods)
            .len()
            .checked_sub(1)
            .context("no pod is left")?;
        self.end_pod(last, ending).await?;
        lock(&self.pods).pop();
        Ok(())
    }

    /// The packet filter of a divisible testbed.
    pub(crate) fn splitter(&self) -> Option<&Splitter> {
        self.splitter.as_ref()
    }

    /// A fresh address for this testbed, for instance for [`Pod::move_to`].
    ///
    /// # Errors
    /// When none is free.
    pub fn fresh_address(&self) -> Result<IpAddr> {
        self.addresses.fresh()
    }

    /// Publishes every pod and starts it, all at once.
    ///
    /// # Errors
    /// When one cannot be started.
    pub async fn start_all(&self) -> Result<()> {
        for pod in self.pods() {
            self.publish(&pod);
        }
        for pod in self.pods() {
            pod.start().await?;
        }
        Ok(())
    }

    /// Publishes one pod, not ready, and starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_pod(&self, ordinal: usize) -> Result<()> {
        let pod = self.pod(ordinal)?;
        self.publish(&pod);
        pod.start().await
    }

    /// Ends one pod and takes it out of DNS. Volume and address stay.
    ///
    /// # Errors
    /// When it does not end, or not gracefully.
    pub async fn end_pod(&self, ordinal: usize, ending: Ending) -> Result<()> {
        let pod = self.pod(ordinal)?;
        let ended = match ending {
            Ending::Graceful => pod.stop().await,
            Ending::Kill => pod.kill().await,
        };
        self.dns.unpublish(&pod.name);
        ended
    }

    /// Kills one pod and starts it at a fresh address with its volume.
    ///
    /// # Errors
    /// As its parts.
    pub async fn move_pod(&self, ordinal: usize) -> Result<()> {
        self.move_pods(&[ordinal]).await
    }

    /// Kills these pods, all before the first one comes back, and starts them at fresh addresses
    /// with their volumes.
    ///
    /// # Errors
    /// As its parts.
    pub async fn move_pods(&self, ordinals: &[usize]) -> Result<()> {
        for ordinal in ordinals {
            self.end_pod(*ordinal, Ending::Kill).await?;
        }
        for ordinal in ordinals {
            self.pod(*ordinal)?.move_to(self.addresses.fresh()?).await?;
        }
        for ordinal in ordinals {
            self.start_pod(*ordinal).await?;
        }
        Ok(())
    }

    /// What every Redis says now.
    pub async fn truth(&self) -> Truth {
        Truth::of(&self.pods(), self.set.masters).await
    }

    /// Waits until the cluster is whole; the error lists what is not.
    ///
    /// # Errors
    /// When it is not by the deadline.
    pub async fn whole(&self, deadline: Duration) -> Result<Snapshot> {
        wait::until(deadline, "the cluster is whole", async || {
            self.truth().await.whole()
        })
        .await
    }

    /// Waits until every `/readyz` is 200.
    ///
    /// # Errors
    /// When one is not by the deadline.
    pub async fn all_ready(&self, deadline: Duration) -> Result<()> {
        wait::until(deadline, "every pod is ready", async || {
            for pod in self.pods() {
                pod.ready().await?;
            }
            Ok(())
        })
        .await
    }

    /// Ends everything and removes the folder: the test has succeeded.
    ///
    /// # Errors
    /// When something does not end.
    pub async fn finish(mut self) -> Result<()> {
        self.end_tasks();
        for pod in self.pods() {
            pod.kill().await?;
        }
        match self.run.take() {
            Some(run) => run.close().context("remove the folder of the run"),
            None => Ok(()),
        }
    }

    /// Publishes a pod at its present address, not ready.
    pub fn publish(&self, pod: &Pod) {
        self.dns.unpublish(&pod.name);
        self.dns.publish(&pod.name, &[pod.address()]);
    }

    /// Ends with the testbed.
    pub(crate) fn keep_task(&self, task: JoinHandle<()>) {
        lock(&self.tasks).push(task);
    }

    fn end_tasks(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    fn report_failure(&self, folder: &Path) {
        eprintln!(
            "testbed: not finished; everything is kept in {}",
            folder.display()
        );
        for pod in self.pods() {
            for line in pod.agent.tail(15) {
                eprintln!("  {}: {line}", pod.name);
            }
        }
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.end_tasks();
        if let Some(run) = self.run.take() {
            self.report_failure(&run.keep());
        }
    }
}
