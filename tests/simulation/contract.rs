//! The contract of the fake node: the same commands and losses are played with it and with real
//! servers, and every reply, every moment waited for and every settled table must be the same.
//!
//! The fake plays first, and what it did is what a real server must do ([`play`]). What is not
//! compared: how long things take (but what a script says must not come too soon), single slots (a
//! share of the slots is one), how many elections an epoch took, and who is asked for gossip when.

mod grounds;
mod quirks;
mod real;
mod scripts;
mod tables;

use anyhow::{Context, Result, bail, ensure};
use grounds::{Fake, Ground};
use quirks::Quirks;
use real::Real;
use std::fmt::Write;
use std::rc::Rc;
use tables::Tables;
use testbed::server::Server;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

/// `cluster-node-timeout` of most scripts, in milliseconds.
pub(crate) const NODE_TIMEOUT_MS: i64 = 2000;
/// What the fake must not change for so long is settled: longer than an election takes, or a
/// suspicion to become known.
const SETTLED_MS: i64 = 12_000;
/// A real server must agree for so long.
const AGREED_MS: i64 = 1000;
/// How long any of it may take; much more than on an idle machine.
const DEADLINE_MS: i64 = 60_000;
/// Scripts played at once with real servers.
const AT_ONCE: usize = 7;
/// The fake must come to the same whatever its seed.
const SEEDS: u64 = 3;

/// One step. Pods and addresses are numbers, nodes are named by their pod's letter: `a`, and `a'`
/// once its identity was lost.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A pod's Redis starts at an address.
    Start(usize, usize),
    Kill(usize),
    LoseNodesConf(usize),
    LoseVolume(usize),
    SetConfigEpoch(usize, u64),
    /// Shares of the slots.
    AddSlots(usize, Vec<u16>),
    /// An address is met.
    Meet(usize, usize),
    /// A node is to be replicated; `nobody` is an ID that no node has.
    Replicate(usize, &'static str),
    /// This replica takes over from its master.
    Failover(usize),
    /// The same, without asking the master.
    FailoverByForce(usize),
    /// A node; or `handshake`, the ID that a node has until its handshake is over.
    Forget(usize, &'static str),
    /// `cluster-announce-ip`.
    Announce(usize, usize),
    /// A key in a share of the slots.
    Write(usize, u16),
    /// Waits until a line of what a pod says has all these words.
    Until(usize, &'static str),
    /// The same, and not sooner than so many milliseconds after the last deed.
    UntilNotBefore(i64, usize, &'static str),
    /// Waits until none has, and not sooner.
    UntilGone(i64, usize, &'static str),
    /// Waits until nothing changes any more.
    Settle,
    /// The same, and a real server must agree for so many milliseconds.
    SettleFor(i64),
}

pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) pods: usize,
    pub(crate) node_timeout: i64,
    pub(crate) steps: Vec<Step>,
}

/// What came of a step.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Reply(String),
    Reached,
    Settled(Tables),
}

/// Plays a script; with what was `expected` of each step, the first difference is an error.
pub(crate) async fn play(
    ground: &mut impl Ground,
    script: &Script,
    quirks: &Quirks,
    expected: Option<&[Seen]>,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut done_at = ground.now();
    for (number, step) in script.steps.iter().enumerate() {
        let expected = expected.and_then(|all| all.get(number));
        let place = || format!("step {number}, {step:?}");
        let now = match step {
            Step::Until(pod, words) => reach(ground, *pod, words, true).await,
            Step::UntilNotBefore(ms, pod, words) => {
                let reached = reach(ground, *pod, words, true).await;
                not_before(*ms, ground.now() - done_at).and(reached)
            }
            Step::UntilGone(ms, pod, words) => {
                let reached = reach(ground, *pod, words, false).await;
                not_before(*ms, ground.now() - done_at).and(reached)
            }
            Step::Settle => settle(ground, (quirks, script.name), expected, AGREED_MS).await,
            Step::SettleFor(ms) => settle(ground, (quirks, script.name), expected, *ms).await,
            _ => {
                let reply = ground.act(step).await;
                done_at = ground.now();
                reply.map(Seen::Reply)
            }
        };
        let now = now.with_context(place)?;
        if let (Seen::Reply(now), Some(Seen::Reply(expected))) = (&now, expected) {
            ensure!(
                now == expected,
                "{}: the reply is {now:?}, not {expected:?}",
                place()
            );
        }
        seen.push(now);
    }
    Ok(seen)
}

fn not_before(ms: i64, after: i64) -> Result<()> {
    ensure!(after >= ms, "after {after} ms already, not {ms} ms");
    Ok(())
}

async fn reach(ground: &mut impl Ground, pod: usize, words: &str, there: bool) -> Result<Seen> {
    let deadline = ground.now() + DEADLINE_MS;
    loop {
        let tables = ground.look().await?;
        if tables.says(pod, words) == there {
            return Ok(Seen::Reached);
        }
        if ground.now() > deadline {
            let verb = if there { "never says" } else { "always says" };
            bail!("pod {pod} {verb} {words:?}:\n{tables}");
        }
        ground.pass().await?;
    }
}

/// Without an expectation, until nothing changes any more; else until it is as expected.
async fn settle(
    ground: &mut impl Ground,
    (quirks, script): (&Quirks, &str),
    expected: Option<&Seen>,
    agreed_ms: i64,
) -> Result<Seen> {
    let expected = match expected {
        Some(Seen::Settled(tables)) => Some(quirks.tables(script, tables)),
        _ => None,
    };
    let mut since = ground.now();
    let deadline = since + DEADLINE_MS + agreed_ms;
    let mut last = Tables::default();
    loop {
        let now = ground.look().await?;
        let good = *expected.as_ref().unwrap_or(&last) == now;
        if !good {
            since = ground.now();
        }
        let needed = expected.as_ref().map_or(SETTLED_MS, |_| agreed_ms);
        if good && ground.now() - since >= needed {
            return Ok(Seen::Settled(now));
        }
        if ground.now() > deadline {
            match expected {
                Some(expected) => bail!("tables differ:\n{}", expected.diff(&now)),
                None => bail!("never settles; the last change:\n{}", last.diff(&now)),
            }
        }
        last = now;
        ground.pass().await?;
    }
}

/// What the fake does with a script, for whatever seed.
async fn promised(script: &Script) -> Result<Vec<Seen>> {
    let none = Quirks::none();
    let promise = play(&mut Fake::new(0, script), script, &none, None).await?;
    for seed in 1..SEEDS {
        let mut again = Fake::new(seed, script);
        if let Err(why) = play(&mut again, script, &none, Some(&promise)).await {
            bail!("the fake with seed {seed} differs from itself: {why:#}");
        }
    }
    Ok(promise)
}

#[tokio::test]
async fn the_fake_comes_to_the_same_with_every_seed() -> Result<()> {
    let mut failures = String::new();
    for script in chosen() {
        if let Err(why) = promised(&script).await {
            writeln!(failures, "{}: {why:#}\n", script.name)?;
        }
    }
    ensure!(failures.is_empty(), "{failures}");
    Ok(())
}

/// `CONTRACT=words` chooses the scripts whose names have them.
fn chosen() -> impl Iterator<Item = Script> {
    let words = std::env::var("CONTRACT").unwrap_or_default();
    scripts::all()
        .into_iter()
        .filter(move |script| script.name.contains(&words))
}

/// `SERVERS` says which, as for all tests.
#[tokio::test]
async fn real_servers_keep_the_contract() -> Result<()> {
    let mut failures = String::new();
    // All of them before the first server starts, which would not be looked at meanwhile.
    let mut promises = Vec::new();
    for script in chosen() {
        let mut fake = Fake::new(0, &script);
        let promise = play(&mut fake, &script, &Quirks::none(), None).await;
        let promise = promise.with_context(|| format!("the fake, {}", script.name))?;
        promises.push((Rc::new(script), Rc::new(promise)));
    }
    for server in Server::all()? {
        LocalSet::new()
            .run_until(keeps(&server, &promises, &mut failures))
            .await?;
    }
    ensure!(failures.is_empty(), "{failures}");
    Ok(())
}

async fn keeps(
    server: &Server,
    promises: &[(Rc<Script>, Rc<Vec<Seen>>)],
    failures: &mut String,
) -> Result<()> {
    let turns = Rc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    for (script, promise) in promises {
        let (script, promise, turns) = (Rc::clone(script), Rc::clone(promise), Rc::clone(&turns));
        let (quirks, server) = (Quirks::of(server), server.clone());
        if !quirks.plays(script.name) {
            continue;
        }
        playing.spawn_local(async move {
            let played = async {
                let _turn = turns.acquire().await?;
                let mut real = Real::new(&server, &script).await?;
                play(&mut real, &script, &quirks, Some(&promise)).await?;
                real.finish().await
            };
            (script.name, played.await)
        });
    }
    while let Some(played) = playing.join_next().await {
        if let (name, Err(why)) = played? {
            writeln!(failures, "{}, {name}: {why:#}\n", server.label())?;
        }
    }
    Ok(())
}
