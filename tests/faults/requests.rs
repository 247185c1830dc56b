//! What a person may ask of a sidecar over its socket besides a stop: another master, and a pause.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use testbed::{Ending, Pod, wait};

use crate::{common::*, history};

fn logged(pod: &Arc<Pod>, lines: &[&str]) -> Result<()> {
    let log = log(pod)?;
    for line in lines {
        ensure!(log.contains(line), "{}: no {line:?} in {log}", pod.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_person_chooses_the_master() -> Result<()> {
    let bed = bed("ask-failover").shape(3, 2).build().await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let canary = bed.write_canary("ask-failover", 300).await?;
    let is_master = async |ordinal: usize| -> Result<bool> {
        let truth = bed.whole(LONG).await?;
        Ok(truth.nodes[&ordinal].role == testbed::Role::Master)
    };
    // On the master, by name.
    let asked = command(&*bed.pod(0)?, &["failover", "--to", "redis-app-6"]).await?;
    ensure!(asked.code == 0 && is_master(6).await?, "{asked:?}");
    // On a replica, which takes over itself.
    let asked = command(&*bed.pod(3)?, &["failover"]).await?;
    ensure!(asked.code == 0 && is_master(3).await?, "{asked:?}");
    // What cannot be is refused, and changes nothing.
    let calls = bed.writes_seen().await?;
    for (pod, to, why) in [
        (3, "redis-app-4", "is no replica of redis-app-3"),
        (0, "redis-app-6", "ask its master, redis-app-3"),
        (3, "redis", "takes <statefulset>-<ordinal>"),
    ] {
        let asked = command(&*bed.pod(pod)?, &["failover", "--to", to]).await?;
        ensure!(asked.code == 1 && asked.text.contains(why), "{asked:?}");
    }
    ensure!(bed.writes_seen().await?.since(&calls).is_empty());
    // All of it is in the log, with what came of it; and in the history of one who has another master.
    logged(&bed.pod(0)?, &["asked over the socket", "failover is over"])?;
    logged(&bed.pod(3)?, &["asked over the socket", "failover is over"])?;
    history::tells(&*bed.pod(6)?, &["role-changed", "role-changed"]).await?;
    let refused = "handoff-failed: redis-app-4 is no replica of redis-app-3";
    history::tells(&*bed.pod(3)?, &["master-changed", "role-changed", refused]).await?;
    // Nobody is about to be stopped.
    bed.all_ready(LONG).await?;
    as_before(bed, &before, &canary).await
}

/// A pause holds through a restart of the sidecar, says when it ends, and ends.
#[tokio::test]
async fn a_paused_sidecar_looks_and_writes_nothing() -> Result<()> {
    let (bed, before) = formed("ask-pause").await?;
    let canary = bed.write_canary("ask-pause", 300).await?;
    for pod in bed.pods() {
        let asked = command(&pod, &["pause", "--for", "1h"]).await?;
        ensure!(
            asked.code == 0 && asked.text.contains("paused until"),
            "{asked:?}"
        );
    }
    let seen = bed.writes_seen().await?;
    let pod = bed.pod(1)?;
    pod.agent.kill().await?;
    pod.start_agent().await?;
    says(&pod, "paused", "nothing is written to Redis until").await?;
    // A planned stop is not handed over, and the hook says so at once.
    let hook = command(&*bed.pod(2)?, &["pre-stop"]).await?;
    ensure!(hook.code == 1 && hook.text.contains("resume"), "{hook:?}");
    // All pods at once at other addresses: nobody meets anybody.
    for ordinal in 0..6 {
        bed.end_pod(ordinal, Ending::Kill).await?;
    }
    for pod in bed.pods() {
        pod.move_to(bed.fresh_address()?).await?;
        bed.start_pod(pod.ordinal).await?;
    }
    for pod in bed.pods() {
        says(&pod, "paused", "nothing is written").await?;
        rounds_pass(&pod, 5).await?;
    }
    let news = bed.writes_seen().await?.since(&seen);
    ensure!(news.is_empty(), "{news:?}");
    // Five come back by hand, the last one by itself.
    for pod in bed.pods() {
        let words: &[&str] = match pod.ordinal {
            5 => &["pause", "--for", "2s"],
            _ => &["resume"],
        };
        let asked = command(&pod, words).await?;
        ensure!(asked.code == 0, "{asked:?}");
        wait::until(LONG, "the pause is over", async || {
            ensure!(reason(&pod, "paused").await.is_err());
            Ok(())
        })
        .await?;
        let over = format!("{} is over", words[0]);
        logged(&pod, &["asked over the socket", "pause is over", &over])?;
    }
    as_before(bed, &before, &canary).await
}

/// Whatever lies where the socket should be, the sidecar does all else; and a long path will do.
#[tokio::test]
async fn a_sidecar_without_its_socket_does_all_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let deep = folder.path().join("a-folder-with-a-long-name/".repeat(6));
    std::fs::create_dir_all(&deep)?;
    let socket = deep.join("s");
    let text = socket.display().to_string();
    let bed = bed("ask-socket").shape(1, 0).build().await?;
    let pod = bed.pod(0)?;
    pod.change(|settings| {
        settings.agent_env.insert("SOCKET".to_owned(), text.clone());
    });
    std::fs::write(&socket, "precious")?;
    bed.start_all().await?;
    says(
        &pod,
        "socket-unavailable",
        "there is something that is no socket",
    )
    .await?;
    bed.all_ready(LONG).await?;
    let asked = command(&pod, &["resume", "--socket", &text]).await?;
    ensure!(asked.code == 69, "{asked:?}");
    ensure!(std::fs::read_to_string(&socket)? == "precious");
    std::fs::remove_file(&socket)?;
    wait::until(LONG, "the socket is there", async || {
        let asked = command(&pod, &["resume", "--socket", &text]).await?;
        ensure!(asked.code == 0, "{asked:?}");
        Ok(())
    })
    .await?;
    // A killed agent leaves it behind; the next one takes it, and removes it when it ends.
    pod.agent.kill().await?;
    ensure!(socket.exists());
    pod.start_agent().await?;
    wait::until(LONG, "the socket answers", async || {
        let asked = command(&pod, &["resume", "--socket", &text]).await?;
        ensure!(asked.code == 0, "{asked:?}");
        Ok(())
    })
    .await?;
    pod.agent.stop(Duration::from_secs(5)).await?;
    ensure!(!socket.exists());
    bed.finish().await
}

/// SIGTERM comes to all containers of a pod at one time: a handoff under way is finished first.
#[tokio::test]
async fn an_agent_that_is_told_to_stop_finishes_the_handoff() -> Result<()> {
    let (bed, before) = formed("ask-term").await?;
    let canary = bed.write_canary("ask-term", 300).await?;
    let pod = bed.pod(0)?;
    let voters = [bed.pod(1)?, bed.pod(2)?];
    for voter in &voters {
        voter.redis.freeze().await?;
    }
    let hook = tokio::spawn({
        let pod = pod.clone();
        async move { command(&pod, &["pre-stop"]).await }
    });
    wait::until(LONG, "the replica is told", async || {
        ensure!(log(&pod)?.contains("take over"), "not yet");
        Ok(())
    })
    .await?;
    let (stopped, thawed) = tokio::join!(pod.agent.stop(LONG), async {
        for voter in &voters {
            voter.redis.thaw().await?;
        }
        anyhow::Ok(())
    });
    thawed?;
    ensure!(stopped?.is_some_and(|status| status.success()));
    let hook = hook.await??;
    ensure!(
        hook.code == 0 && hook.text.contains("handed over to redis-app-3"),
        "{hook:?}"
    );
    pod.start_agent().await?;
    as_before(bed, &before, &canary).await
}

/// `install` for another container: whole, executable, and over what an older version left.
#[tokio::test]
async fn install_copies_the_binary() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("bin/redis-sidecar");
    std::fs::create_dir(folder.path().join("bin"))?;
    std::fs::write(&target, "an older version")?;
    let bin = folder.path().join("bin").display().to_string();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_redis-sidecar"))
        .args(["install", &bin])
        .output()
        .await?;
    ensure!(output.status.success(), "{output:?}");
    let there = std::fs::metadata(&target)?;
    ensure!(there.permissions().mode() & 0o777 == 0o755);
    ensure!(there.len() == std::fs::metadata(env!("CARGO_BIN_EXE_redis-sidecar"))?.len());
    ensure!(std::fs::read_dir(folder.path().join("bin"))?.count() == 1);
    let mut help = tokio::process::Command::new(&target);
    let help = help.args(["pre-stop", "--help"]).output().await?;
    let help = String::from_utf8(help.stdout)?;
    ensure!(help.contains("--grace"), "{help}");
    Ok(())
}
