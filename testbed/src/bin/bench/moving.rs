//! Pods that come back at new addresses: all of them, and one. With agents, and without.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::{Ending, Testbed};

use super::sizes::{self, Size};
use super::{Bench, row, spread};

const DEADLINE: Duration = Duration::from_secs(180);
/// How long is waited for what does not come without agents.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which pods move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// All, none being left that knows another's address.
    All,
    /// A master; its node timeout does not pass meanwhile.
    One,
}

/// Moves the pods several times, then once more without agents, and prints the row.
pub(super) async fn measure(bench: &Bench, size: Size, moved: Moved) -> Result<()> {
    let bed = bench.formed("bench-moving", size).await?;
    let all: Vec<usize> = (0..size.pods()).collect();
    let rounds = size.rounds(bench);
    let mut times = Vec::new();
    for round in 0..rounds {
        let pods = match moved {
            Moved::All => all.clone(),
            Moved::One => vec![a_master(&bed, round).await?],
        };
        let answered = move_away(&bed, &pods).await?;
        let whole = sizes::whole(&bed, DEADLINE).await?;
        times.push(whole.saturating_duration_since(answered));
    }
    for pod in bed.pods() {
        pod.agent.kill().await?;
        pod.change(|settings| settings.agent = None);
    }
    let pods = match moved {
        Moved::All => all,
        Moved::One => vec![a_master(&bed, rounds).await?],
    };
    let answered = move_away(&bed, &pods).await?;
    let without = match sizes::whole(&bed, PATIENCE).await {
        Ok(whole) => format!(
            "{:.2} s",
            whole.saturating_duration_since(answered).as_secs_f64()
        ),
        Err(_) => format!("not within {} s", PATIENCE.as_secs()),
    };
    let (median, most) = spread(times);
    let which = match moved {
        Moved::All => format!("all {} pods back", size.pods()),
        Moved::One => format!("one of {} pods back", size.pods()),
    };
    row(
        &format!("{which} at new addresses, last Redis answers -> whole"),
        &format!(
            "agents {:.2} s (max {:.2}), {rounds} rounds; without agents {without}",
            median.as_secs_f64(),
            most.as_secs_f64()
        ),
    );
    bed.finish().await
}

/// One of the slot owners, another one each round.
async fn a_master(bed: &Testbed, round: usize) -> Result<usize> {
    let masters = bed.truth().await.whole()?.masters();
    let master = masters.get(round % masters.len().max(1));
    master.copied().context("no master")
}

/// Kills these pods, starts them at fresh addresses, and says when the last Redis answered.
async fn move_away(bed: &Testbed, ordinals: &[usize]) -> Result<Instant> {
    for ordinal in ordinals {
        bed.end_pod(*ordinal, Ending::Kill).await?;
    }
    for ordinal in ordinals {
        bed.pod(*ordinal)?.move_to(bed.fresh_address()?).await?;
        bed.start_pod(*ordinal).await?;
    }
    for ordinal in ordinals {
        bed.pod(*ordinal)?.redis_answers(DEADLINE).await?;
    }
    Ok(Instant::now())
}
