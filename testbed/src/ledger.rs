//! Writers and readers of a user, one pair a shard, through the `redis` crate's cluster client; and the
//! book of what was acknowledged to them.
//!
//! Each writer sets one key after the other, and a key counts when the client says OK, whatever it
//! had to retry for that. The reader asks for keys that count. Does not: judge; the test does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use redis::{
    AsyncCommands,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use tokio::task::JoinHandle;

use crate::{Testbed, lock};

/// Between two writes of one writer, and between two reads of one reader.
const PAUSE: Duration = Duration::from_millis(2);
/// For one answer; the client asks again, or elsewhere, after it.
const ANSWER: Duration = Duration::from_millis(500);
const RETRIES: u32 = 40;

/// Writers and readers under way.
#[derive(Debug)]
pub struct Ledger {
    stop: Arc<AtomicBool>,
    shards: Vec<Users>,
}

/// A shard's writer and reader, and their book.
#[derive(Debug)]
struct Users {
    writer: JoinHandle<Result<()>>,
    reader: JoinHandle<Result<()>>,
    book: Arc<Mutex<Shard>>,
}

/// What one shard's writer and reader have seen.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    /// Keys are `{tag}:<number>`.
    pub tag: String,
    /// Numbers that were acknowledged, in order.
    pub acknowledged: Vec<u64>,
    /// Writes that ended in an error: written or not.
    pub refused: u64,
    /// The longest time without an acknowledged write.
    pub longest_gap: Duration,
    /// Reads that gave the right value.
    pub read: u64,
    /// Acknowledged keys that a read did not find, or found otherwise.
    pub misread: Vec<String>,
    /// Acknowledged keys that are not there at the end.
    pub lost: Vec<u64>,
}

impl Testbed {
    /// Starts a writer and a reader for each of the first masters' shares.
    ///
    /// # Errors
    /// When the cluster cannot be reached.
    pub async fn ledger(&self) -> Result<Ledger> {
        Ledger::open(&self.user()?, self.set().masters).await
    }

    /// A user's client that starts from where the pods are now.
    fn user(&self) -> Result<ClusterClient> {
        let pods = self.pods();
        let password = pods.first().and_then(|pod| pod.settings().password);
        let seeds: Vec<String> = pods
            .iter()
            .map(|pod| pod.redis_address().to_string())
            .collect();
        user(&seeds, password.as_deref())
    }
}

/// A patient client that starts from these, `host:port` each.
///
/// # Errors
/// When one of them is no address.
pub fn user(seeds: &[String], password: Option<&str>) -> Result<ClusterClient> {
    let seeds: Vec<String> = seeds
        .iter()
        .map(|seed| format!("redis://{seed}/"))
        .collect();
    let mut builder = ClusterClientBuilder::new(seeds)
        .retries(RETRIES)
        .min_retry_wait(5)
        .max_retry_wait(100)
        .connection_timeout(ANSWER)
        .response_timeout(ANSWER);
    if let Some(password) = password {
        builder = builder.password(password);
    }
    Ok(builder.build()?)
}

/// A hash tag in this share of the slots.
async fn tag_in(
    connection: &mut ClusterConnection,
    share: usize,
    masters: usize,
) -> Result<String> {
    for n in 0..1000 {
        let tag = format!("{{t{n}}}");
        let slot: usize = redis::cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(&tag)
            .query_async(connection)
            .await?;
        if slot * masters / 16384 == share {
            return Ok(tag);
        }
    }
    anyhow::bail!("no tag for share {share}")
}

impl Ledger {
    /// Starts a writer and a reader for each share of the slots, of as many as there are masters.
    ///
    /// # Errors
    /// When the cluster cannot be reached.
    pub async fn open(client: &ClusterClient, masters: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut shards = Vec::new();
        let mut first = client.get_async_connection().await?;
        for share in 0..masters {
            let tag = tag_in(&mut first, share, masters).await?;
            let book = Arc::new(Mutex::new(Shard {
                tag: tag.clone(),
                ..Shard::default()
            }));
            let connection = client.get_async_connection().await?;
            let other = client.get_async_connection().await?;
            let writer = write(
                connection,
                tag.clone(),
                Arc::clone(&book),
                Arc::clone(&stop),
            );
            let reader = read(other, tag, Arc::clone(&book), Arc::clone(&stop));
            shards.push(Users {
                writer: tokio::spawn(writer),
                reader: tokio::spawn(reader),
                book,
            });
        }
        Ok(Ledger { stop, shards })
    }

    /// How many writes have been acknowledged so far, in the share with the fewest.
    pub fn fewest(&self) -> usize {
        let books = self.shards.iter().map(|users| lock(&users.book));
        books
            .map(|book| book.acknowledged.len())
            .min()
            .unwrap_or_default()
    }

    /// Ends writers and readers, and asks for every acknowledged key.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn close(self, testbed: &Testbed) -> Result<Vec<Shard>> {
        self.audit(&testbed.user()?).await
    }

    /// As [`Self::close`], of the cluster that this client reaches.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn audit(self, client: &ClusterClient) -> Result<Vec<Shard>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut connection = client.get_async_connection().await?;
        let mut shards = Vec::new();
        for Users {
            writer,
            reader,
            book,
        } in self.shards
        {
            writer.await??;
            reader.await??;
            let mut shard = lock(&book).clone();
            for number in &shard.acknowledged {
                let key = format!("{}:{number}", shard.tag);
                let found: Option<u64> = connection
                    .get(&key)
                    .await
                    .with_context(|| format!("read {key} back"))?;
                if found != Some(*number) {
                    shard.lost.push(*number);
                }
            }
            shards.push(shard);
        }
        Ok(shards)
    }
}

async fn write(
    mut connection: ClusterConnection,
    tag: String,
    book: Arc<Mutex<Shard>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut last = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{tag}:{number}");
        let answer: redis::RedisResult<()> = connection.set(&key, number).await;
        {
            let mut book = lock(&book);
            book.longest_gap = book.longest_gap.max(last.elapsed());
            match answer {
                Ok(()) => {
                    last = Instant::now();
                    book.acknowledged.push(number);
                }
                Err(_) => book.refused += 1,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn read(
    mut connection: ClusterConnection,
    tag: String,
    book: Arc<Mutex<Shard>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut turn = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let number = {
            let known = &lock(&book).acknowledged;
            // The newest now and then, and all the others in turn.
            turn = turn.wrapping_add(7);
            match known.len() {
                0 => None,
                len if turn.is_multiple_of(2) => known.get(len - 1).copied(),
                len => known.get(turn % len).copied(),
            }
        };
        if let Some(number) = number {
            let key = format!("{tag}:{number}");
            let found: redis::RedisResult<Option<u64>> = connection.get(&key).await;
            let mut book = lock(&book);
            match found {
                Ok(Some(found)) if found == number => book.read += 1,
                Ok(found) => book.misread.push(format!("{key} is {found:?}")),
                // Refused for now.
                Err(_) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
