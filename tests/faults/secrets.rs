//! Passwords: that they work, and that they show nowhere (S14).

use anyhow::{Context, Result, ensure};
use testbed::{Testbed, wait};

use crate::common::*;

const RIGHT: &str = "right-77-secret";
const WRONG: &str = "wrong-88-secret";

/// No answer and no log holds either password.
async fn show_no_secret(bed: &Testbed) -> Result<()> {
    show_none_of(bed, &[RIGHT, WRONG]).await
}

/// No answer, log, note or argument of any agent holds one of these.
pub(crate) async fn show_none_of(bed: &Testbed, secrets: &[&str]) -> Result<()> {
    for pod in bed.pods() {
        let mut texts = vec![("its log", log(&pod)?)];
        for path in [
            "/role",
            "/readyz",
            "/readyz?format=json",
            "/metrics",
            "/cluster",
        ] {
            texts.push((path, pod.get(path).await?.body));
        }
        let note = pod.data_dir().join("redis-sidecar.json");
        texts.push((
            "its note",
            std::fs::read_to_string(note).unwrap_or_default(),
        ));
        let pid = pod.agent.pid().await.context("no agent")?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        texts.push(("its arguments", String::from_utf8_lossy(&arguments).into()));
        for (what, text) in texts {
            let bare = !secrets.iter().any(|secret| text.contains(secret));
            ensure!(bare, "{}: {what} shows a password: {text}", pod.name);
        }
    }
    Ok(())
}

/// The password in `REDIS_PASSWORD`.
#[tokio::test]
async fn a_cluster_with_a_password_forms_and_shows_it_nowhere() -> Result<()> {
    let bed = bed("password")
        .password(RIGHT)
        .agent_env("RUST_LOG", "debug")
        .build()
        .await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    bed.write_canary("password", 50).await?.intact(&bed).await?;
    show_no_secret(&bed).await?;
    bed.finish().await
}

/// The password in a file, which wins over a variable that is wrong.
#[tokio::test]
async fn the_password_file_wins_and_is_read_again_when_it_changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{WRONG}\n"))?;
    let bed = bed("password-file")
        .password(RIGHT)
        .agent_env("REDIS_PASSWORD", WRONG)
        .agent_env("REDIS_PASSWORD_FILE", &file.display().to_string())
        .build()
        .await?;
    bed.start_all().await?;
    for pod in bed.pods() {
        says(&pod, "redis-auth", "").await?;
    }
    // As a mounted Secret changes: another file takes the name.
    let next = folder.path().join("next");
    std::fs::write(&next, format!("{RIGHT}\n"))?;
    std::fs::rename(&next, &file)?;
    formed_as_planned(&bed).await?;
    show_no_secret(&bed).await?;
    bed.finish().await
}

/// A wrong password, and none at all.
#[tokio::test]
async fn a_wrong_password_is_named_as_such_and_nothing_is_written() -> Result<()> {
    for (name, given) in [("password-wrong", WRONG), ("password-none", "")] {
        let bed = bed(name)
            .password(RIGHT)
            .agent_env("REDIS_PASSWORD", given)
            .build()
            .await?;
        bed.start_all().await?;
        for pod in bed.pods() {
            pod.redis_answers(LONG).await?;
            says(&pod, "redis-auth", "").await?;
            let (ready, live) = (pod.get("/readyz").await?, pod.get("/livez").await?);
            ensure!((ready.status, live.status) == (503, 200), "{ready:?}");
            ensure!(ready.body.starts_with("redis-auth: "), "{ready:?}");
        }
        wait::throughout(QUIET, "nothing is written", async || {
            let writes = bed.writes_seen().await?;
            ensure!(writes.total() == 0, "{writes:?}");
            Ok(())
        })
        .await?;
        show_no_secret(&bed).await?;
        bed.finish().await?;
    }
    Ok(())
}

/// One agent of six has a wrong password: its own reason names it, and nobody forms.
#[tokio::test]
async fn one_agent_with_a_wrong_password_holds_the_forming_back() -> Result<()> {
    let bed = bed("one-wrong").password(RIGHT).build().await?;
    let odd = bed.pod(3)?;
    odd.change(|settings| {
        let given = ("REDIS_PASSWORD".to_owned(), WRONG.to_owned());
        settings.agent_env.extend([given]);
    });
    bed.start_all().await?;
    says(&odd, "redis-auth", "").await?;
    for ordinal in [0, 1, 2, 4, 5] {
        let pod = bed.pod(ordinal)?;
        wait::until(LONG, "it waits for pod 3 alone", async || {
            let message = reason(&pod, "waiting-for-peers").await?;
            ensure!(
                message.starts_with("waiting for redis-app-3 ("),
                "{message}"
            );
            Ok(())
        })
        .await?;
    }
    wait::throughout(QUIET, "nothing is written", async || {
        topology_untouched(&bed).await
    })
    .await?;
    odd.agent.kill().await?;
    odd.change(|settings| settings.agent_env.clear());
    odd.start_agent().await?;
    formed_as_planned(&bed).await?;
    show_no_secret(&bed).await?;
    bed.finish().await
}
