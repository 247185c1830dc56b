//! The contract of the fake node: the same commands and losses are played with it and with real
//! servers, and every reply, every moment waited for and every settled table must be the same.
//!
//! The fake plays first, and what it did is what a real server must do ([`play`]). What is not
//! compared: how long things take (a real server must only not be much sooner), single slots (a
//! share of the slots is one), how many elections an epoch took, and who is asked for gossip when.

mod grounds;
mod quirks;
mod real;
mod scripts;
mod tables;

use anyhow::{Result, bail, ensure};
use grounds::{Fake, Ground};
use quirks::Quirks;
use real::Real;
use std::fmt::Write;
use std::rc::Rc;
use tables::Tables;
use testbed::server::Server;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

/// `cluster-node-timeout` of all scripts, in milliseconds: more than the 2 s after which a master
/// that has just started may say `ok`, or that could not be seen.
pub(crate) const NODE_TIMEOUT_MS: i64 = 3000;
/// What the fake must not change for so long is settled: longer than an election takes, or a
/// suspicion to become known.
const SETTLED_MS: i64 = 5 * NODE_TIMEOUT_MS;
/// A real server must agree for so long.
const AGREED_MS: i64 = 1000;
/// How long any of it may take; much more than on an idle machine.
const DEADLINE_MS: i64 = 60_000;
/// Scripts played at once with real servers.
const AT_ONCE: usize = 7;
/// The fake must come to the same whatever its seed.
const SEEDS: u64 = 5;

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
    /// A node; or `handshake`, the ID that a node has until its handshake is over.
    Forget(usize, &'static str),
    /// `cluster-announce-ip`.
    Announce(usize, usize),
    /// A key in a share of the slots.
    Write(usize, u16),
    /// Waits until a line of what a pod says has all these words.
    Until(usize, &'static str),
    /// Waits until none has.
    UntilGone(usize, &'static str),
    /// Waits until nothing changes any more.
    Settle,
    /// The same, and a real server must agree for so many milliseconds.
    SettleFor(i64),
}

pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) pods: usize,
    pub(crate) steps: Vec<Step>,
}

/// What came of a step.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Reply(String),
    /// So long after the last thing that was done.
    Reached(i64),
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
        let place = || format!("{}, step {number}, {step:?}", script.name);
        let now = match step {
            Step::Until(pod, words) => {
                reach(ground, *pod, words, true).await?;
                Seen::Reached(ground.now() - done_at)
            }
            Step::UntilGone(pod, words) => {
                reach(ground, *pod, words, false).await?;
                Seen::Reached(ground.now() - done_at)
            }
            Step::Settle => settle(ground, quirks, expected, AGREED_MS).await?,
            Step::SettleFor(ms) => settle(ground, quirks, expected, *ms).await?,
            _ => {
                let reply = ground.act(step).await?;
                done_at = ground.now();
                Seen::Reply(reply)
            }
        };
        match (&now, expected) {
            (Seen::Reply(now), Some(Seen::Reply(expected))) => {
                let expected = quirks.reply(script.name, step, expected);
                ensure!(
                    *now == expected,
                    "{}: the reply is {now:?}, not {expected:?}",
                    place()
                );
            }
            (Seen::Reached(now), Some(Seen::Reached(expected))) => ensure!(
                *now >= expected / 2,
                "{}: after {now} ms already, not {expected} ms",
                place()
            ),
            _ => {}
        }
        seen.push(now);
    }
    Ok(seen)
}

async fn reach(ground: &mut impl Ground, pod: usize, words: &str, there: bool) -> Result<()> {
    let deadline = ground.now() + DEADLINE_MS;
    loop {
        let tables = ground.look().await?;
        if tables.says(pod, words) == there {
            return Ok(());
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
    quirks: &Quirks,
    expected: Option<&Seen>,
    agreed_ms: i64,
) -> Result<Seen> {
    let expected = match expected {
        Some(Seen::Settled(tables)) => Some(quirks.tables(tables)),
        _ => None,
    };
    let mut since = ground.now();
    let deadline = since + DEADLINE_MS + agreed_ms;
    let mut last = Tables::default();
    loop {
        let now = quirks.tables(&ground.look().await?);
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
    let promise = play(&mut Fake::new(0, script.pods), script, &none, None).await?;
    for seed in 1..SEEDS {
        let mut again = Fake::new(seed, script.pods);
        if let Err(why) = play(&mut again, script, &none, Some(&promise)).await {
            bail!("the fake with seed {seed} differs from itself: {why:#}");
        }
    }
    Ok(promise)
}

#[tokio::test]
async fn the_fake_comes_to_the_same_with_every_seed() -> Result<()> {
    for script in scripts::all() {
        if let Err(why) = promised(&script).await {
            bail!("{}: {why:#}", script.name);
        }
    }
    Ok(())
}

/// `SERVERS` says which, as for all tests; `CONTRACT=words` plays the scripts alone whose names have
/// them.
#[tokio::test]
async fn real_servers_keep_the_contract() -> Result<()> {
    let mut failures = String::new();
    for server in Server::all()? {
        LocalSet::new()
            .run_until(keeps(&server, &mut failures))
            .await?;
    }
    ensure!(failures.is_empty(), "{failures}");
    Ok(())
}

async fn keeps(server: &Server, failures: &mut String) -> Result<()> {
    let only = std::env::var("CONTRACT").unwrap_or_default();
    let turns = Rc::new(Semaphore::new(AT_ONCE));
    let mut playing = JoinSet::new();
    for script in scripts::all() {
        if !script.name.contains(&only) {
            continue;
        }
        let quirks = Quirks::of(server);
        let (server, turns) = (server.clone(), Rc::clone(&turns));
        playing.spawn_local(async move {
            let name = script.name;
            let played = async {
                let _turn = turns.acquire().await?;
                let promise = play(
                    &mut Fake::new(0, script.pods),
                    &script,
                    &Quirks::none(),
                    None,
                )
                .await?;
                let mut real = Real::new(&server, script.pods).await?;
                play(&mut real, &script, &quirks, Some(&promise)).await?;
                real.finish().await
            };
            (name, played.await)
        });
    }
    while let Some(played) = playing.join_next().await {
        if let (name, Err(why)) = played? {
            writeln!(failures, "{}, {name}: {why:#}\n", server.label())?;
        }
    }
    Ok(())
}
