//! The ground with real servers, on loopback addresses of their own.

use super::grounds::{ADDRESSES, Ground, slots, whom};
use super::tables::{Answers, Names, Tables};
use super::{DEADLINE_MS, Script, Step};
use anyhow::{Context, Result, bail};
use redis::{Pipeline, Value};
use redis_sidecar::model::slots::SLOT_COUNT;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::server::Server;
use testbed::{Pod, Testbed};

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(40);

pub(crate) struct Real {
    bed: Testbed,
    names: Names,
    began: Instant,
    keys: u32,
    up: Vec<bool>,
}

impl Real {
    pub(crate) async fn new(server: &Server, script: &Script) -> Result<Real> {
        let pods = script.pods;
        let node_timeout = Duration::from_millis(script.node_timeout.unsigned_abs());
        let bed = Testbed::builder("contract")
            .shape(pods, 0)
            .server(&server.program)
            .node_timeout(node_timeout)
            // A kill loses nothing: what is compared is not how much it would.
            .redis_line("appendfsync always")
            .build()
            .await?;
        let addresses: Result<Vec<IpAddr>> = (0..ADDRESSES).map(|_| bed.fresh_address()).collect();
        Ok(Real {
            names: Names::new(addresses?),
            bed,
            began: Instant::now(),
            keys: 0,
            up: vec![false; pods],
        })
    }

    pub(crate) async fn finish(self) -> Result<()> {
        self.bed.finish().await
    }

    async fn command(&self, pod: usize, words: &[&str]) -> Result<String> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd(words[0]).arg(&words[1..]);
        let values = self.bed.pod(pod)?.pipeline(&pipeline).await?;
        Ok(match values.first() {
            Some(Value::ServerError(error)) => {
                let words = error.details().unwrap_or_default();
                self.names.reply(&format!("{} {words}", error.code()))
            }
            _ => "OK".to_owned(),
        })
    }

    async fn start(&mut self, pod: usize, address: usize) -> Result<()> {
        let pods = self.bed.pod(pod)?;
        pods.move_to(self.names.addresses[address]).await?;
        pods.start_redis().await?;
        let deadline = Duration::from_millis(DEADLINE_MS.unsigned_abs());
        pods.redis_answers(deadline).await?;
        let id: String = pods.command(&["CLUSTER", "MYID"]).await?;
        self.names.learn(pod, id.parse()?);
        self.up[pod] = true;
        Ok(())
    }

    async fn write(&mut self, pod: usize, share: u16) -> Result<String> {
        loop {
            self.keys += 1;
            let key = format!("key-{}", self.keys);
            if slots(&[share]).contains(slot(&key)) {
                return self.command(pod, &["SET", &key, "x"]).await;
            }
        }
    }

    async fn snapshot(&self) -> Result<Tables> {
        let mut all = Vec::new();
        for (pod, up) in self.up.iter().enumerate() {
            all.push(match up {
                true => Some(ask(&self.bed.pod(pod)?).await?),
                false => None,
            });
        }
        Tables::of(&all, &self.names)
    }
}

async fn ask(pod: &Arc<Pod>) -> Result<Answers> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("INFO");
    pipeline.cmd("CLUSTER").arg("NODES");
    pipeline.cmd("CLUSTER").arg("INFO");
    let mut texts = Vec::new();
    for value in pod.pipeline(&pipeline).await? {
        let text: String = redis::from_redis_value(value.extract_error()?)?;
        texts.push(text.replace('\r', ""));
    }
    let [info, nodes, cluster_info] = texts.try_into().ok().context("three answers")?;
    Ok(Answers {
        info,
        nodes,
        cluster_info,
    })
}

/// The slot of a key without a hash tag: CRC16 (XMODEM).
fn slot(key: &str) -> u16 {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    crc % SLOT_COUNT
}

impl Ground for Real {
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).expect("a short time")
    }

    async fn pass(&mut self) -> Result<()> {
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    async fn look(&mut self) -> Result<Tables> {
        let before = self.snapshot().await?;
        self.pass().await?;
        Ok(self.snapshot().await?.and_before(&before))
    }

    async fn act(&mut self, step: &Step) -> Result<String> {
        match step {
            Step::Start(pod, address) => self.start(*pod, *address).await?,
            Step::Kill(pod) => {
                self.up[*pod] = false;
                self.bed.pod(*pod)?.kill().await?;
            }
            Step::LoseNodesConf(pod) => std::fs::remove_file(self.bed.pod(*pod)?.nodes_conf())?,
            Step::LoseVolume(pod) => self.bed.pod(*pod)?.wipe_volume().await?,
            Step::SetConfigEpoch(pod, epoch) => {
                let epoch = epoch.to_string();
                return self
                    .command(*pod, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                    .await;
            }
            Step::AddSlots(pod, shares) => {
                let slots = slots(shares);
                let numbers = (0..SLOT_COUNT).filter(|slot| slots.contains(*slot));
                let numbers: Vec<String> = numbers.map(|slot| slot.to_string()).collect();
                let mut words = vec!["CLUSTER", "ADDSLOTS"];
                words.extend(numbers.iter().map(String::as_str));
                return self.command(*pod, &words).await;
            }
            Step::Meet(pod, address) => {
                let ip = self.names.addresses[*address].to_string();
                return self.command(*pod, &["CLUSTER", "MEET", &ip, "6379"]).await;
            }
            Step::Replicate(pod, name) => {
                let id = whom(&self.names, name, "")?.to_string();
                return self.command(*pod, &["CLUSTER", "REPLICATE", &id]).await;
            }
            Step::Failover(pod) => {
                return self.command(*pod, &["CLUSTER", "FAILOVER"]).await;
            }
            Step::FailoverByForce(pod) => {
                return self.command(*pod, &["CLUSTER", "FAILOVER", "FORCE"]).await;
            }
            Step::Forget(pod, name) => {
                let table: String = self.bed.pod(*pod)?.command(&["CLUSTER", "NODES"]).await?;
                let id = whom(&self.names, name, &table)?.to_string();
                return self.command(*pod, &["CLUSTER", "FORGET", &id]).await;
            }
            Step::Announce(pod, address) => {
                let ip = self.names.addresses[*address].to_string();
                let words = ["CONFIG", "SET", "cluster-announce-ip", &ip];
                return self.command(*pod, &words).await;
            }
            Step::Write(pod, share) => return self.write(*pod, *share).await,
            _ => bail!("{step:?} is no deed"),
        }
        Ok("OK".to_owned())
    }
}
