//! Scenarios 56 and 57: passwords that change under running pods, and users that may not do what
//! the agent needs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use testbed::{Pod, Testbed, server::Server, wait};

use crate::{common::*, secrets::show_none_of};

const OLD: &str = "old-11-secret";
const NEW: &str = "new-22-secret";

/// As a mounted Secret changes: another file takes the name.
fn write_password(file: &Path, password: &str) -> Result<()> {
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{password}\n"))?;
    std::fs::rename(&next, file)?;
    Ok(())
}

/// What an administrator does, one server after another.
async fn rotate_servers(bed: &Testbed) -> Result<()> {
    for pod in bed.pods() {
        for name in ["masterauth", "requirepass"] {
            pod.command::<()>(&["CONFIG", "SET", name, NEW]).await?;
        }
        pod.change(|settings| settings.password = Some(NEW.to_owned()));
    }
    Ok(())
}

struct Rotating {
    bed: Testbed,
    folder: tempfile::TempDir,
    started: Vec<Option<u32>>,
}

impl Rotating {
    async fn formed(name: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("password");
        write_password(&file, OLD)?;
        let bed = bed(name)
            .password(OLD)
            .agent_env("REDIS_PASSWORD", "")
            .agent_env("REDIS_PASSWORD_FILE", &file.display().to_string())
            .agent_env("RUST_LOG", "debug")
            .build()
            .await?;
        bed.start_all().await?;
        formed_as_planned(&bed).await?;
        let started = pids(&bed).await;
        Ok(Self {
            bed,
            folder,
            started,
        })
    }

    fn change_the_file(&self) -> Result<()> {
        write_password(&self.folder.path().join("password"), NEW)
    }

    /// Ready within seconds of the last change, with the processes of the start, and able to work:
    /// replication links and questions to peers take the new password too.
    async fn goes_on(self) -> Result<()> {
        let (bed, since) = (&self.bed, Instant::now());
        bed.all_ready(LONG / 4).await?;
        println!("ready {:?} after the last change", since.elapsed());
        ensure!(pids(bed).await == self.started, "something was restarted");
        let canary = bed.write_canary("rotated", 100).await?;
        bed.move_pods(&[1, 4]).await?;
        bed.whole(LONG).await?;
        bed.all_ready(LONG).await?;
        canary.intact(bed).await?;
        bed.silent(QUIET).await?;
        show_none_of(bed, &[OLD, NEW]).await?;
        self.bed.finish().await
    }
}

async fn pids(bed: &Testbed) -> Vec<Option<u32>> {
    let mut pids = Vec::new();
    for pod in bed.pods() {
        pids.extend([pod.redis.pid().await, pod.agent.pid().await]);
    }
    pids
}

/// Scenario 56, the file first: the agents say that their Redis refuses the password.
#[tokio::test]
async fn a_password_that_changes_in_the_file_first_is_waited_for() -> Result<()> {
    let rotating = Rotating::formed("rotate-file").await?;
    rotating.change_the_file()?;
    for pod in rotating.bed.pods() {
        says(&pod, "redis-auth", "").await?;
        let live = pod.get("/livez").await?;
        ensure!(live.status == 200, "{live:?}");
    }
    rotate_servers(&rotating.bed).await?;
    rotating.goes_on().await
}

/// Scenario 56, the servers first: connections that are open stay open, so nobody notices.
#[tokio::test]
async fn a_password_that_changes_on_the_servers_first_is_no_concern() -> Result<()> {
    let rotating = Rotating::formed("rotate-servers").await?;
    rotate_servers(&rotating.bed).await?;
    wait::throughout(QUIET, "everybody is ready", async || {
        for pod in rotating.bed.pods() {
            pod.ready().await?;
        }
        Ok(())
    })
    .await?;
    rotating.change_the_file()?;
    rotating.goes_on().await
}

/// Scenario 56, the servers first, and connections broken: an agent that comes again is refused.
#[tokio::test]
async fn an_agent_restarted_between_the_changes_says_so_and_goes_on() -> Result<()> {
    let mut rotating = Rotating::formed("rotate-restart").await?;
    rotate_servers(&rotating.bed).await?;
    let pod = rotating.bed.pod(1)?;
    pod.agent.kill().await?;
    pod.start_agent().await?;
    says(&pod, "redis-auth", "").await?;
    for ordinal in [0, 2, 3, 4, 5] {
        rotating.bed.pod(ordinal)?.ready().await?;
    }
    rotating.started = pids(&rotating.bed).await;
    rotating.change_the_file()?;
    rotating.goes_on().await
}

/// A user's line; Redis 6.0 has no rule for channels.
fn user() -> Result<String> {
    let channels = if by_subcommand()? { "&* " } else { "" };
    Ok(format!("user agent on >agent-33-secret ~* {channels}+@all"))
}

/// Whether a user can be denied a subcommand alone (7.0 and later).
fn by_subcommand() -> Result<bool> {
    Ok(Server::installed()?.version >= (7, 0, 0))
}

/// A testbed whose agents have a user of their own.
async fn with_user(name: &str) -> Result<Testbed> {
    bed(name)
        .redis_line(&user()?)
        .agent_env("REDIS_USERNAME", "agent")
        .agent_env("REDIS_PASSWORD", "agent-33-secret")
        .build()
        .await
}

async fn set_user(pod: &Pod, rule: &str) -> Result<()> {
    pod.command::<()>(&["ACL", "SETUSER", "agent", rule]).await
}

/// Scenario 57: what a round reads. The pod says which command it lacks; nobody else is concerned.
#[tokio::test]
async fn a_user_that_may_not_read_is_named_with_the_command() -> Result<()> {
    let bed = with_user("acl-read").await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let pod = bed.pod(4)?;
    for (rule, back, named, blocks) in [
        ("-info", "+info", "info", true),
        ("-cluster", "+cluster", "cluster", true),
        ("-cluster|nodes", "+cluster|nodes", "cluster|nodes", true),
        ("-cluster|info", "+cluster|info", "cluster|info", true),
        ("-config", "+config", "config|get", false),
        ("-config|get", "+config|get", "config|get", false),
    ] {
        if rule.contains('|') && !by_subcommand()? {
            continue;
        }
        set_user(&pod, rule).await?;
        let message = says(&pod, "redis-no-permission", named).await?;
        println!("{rule}: {message}");
        ensure!(pod.ready().await.is_err() == blocks, "{rule}: ready?");
        for ordinal in [0, 1, 2, 3, 5] {
            bed.pod(ordinal)?.ready().await?;
        }
        set_user(&pod, back).await?;
        wait::until(LONG, "it is no concern any more", async || {
            ensure!(reason(&pod, "redis-no-permission").await.is_err());
            pod.ready().await
        })
        .await?;
    }
    let after = bed.whole(LONG).await?;
    ensure!(after.ids() == before.ids() && after.replication() == before.replication());
    show_none_of(&bed, &["agent-33-secret"]).await?;
    bed.finish().await
}

/// Scenario 57: what forming writes, each denied to one pod. It says so, and goes on when it may.
#[tokio::test]
async fn a_user_that_may_not_write_is_named_with_the_command() -> Result<()> {
    if !by_subcommand()? {
        println!("not tried: this server denies no subcommand alone");
        return Ok(());
    }
    for (ordinal, command) in [
        (0, "cluster|addslotsrange"),
        (1, "cluster|meet"),
        (3, "cluster|replicate"),
        (4, "config|set"),
    ] {
        let bed = with_user("acl-write").await?;
        let pod = bed.pod(ordinal)?;
        let line = format!("{} -{command}", user()?);
        pod.change(|settings| settings.redis_lines = vec![line]);
        bed.start_all().await?;
        let message = says(&pod, "redis-no-permission", command).await?;
        println!("{command}: {message}");
        let live = pod.get("/livez").await?;
        ensure!(live.status == 200, "{live:?}");
        set_user(&pod, &format!("+{command}")).await?;
        formed_as_planned(&bed).await?;
        bed.finish().await?;
    }
    Ok(())
}

/// Scenario 57: what a handoff orders. The hook ends at once, with Redis's words, and nothing has happened.
#[tokio::test]
async fn a_user_that_may_not_fail_over_is_named_with_the_command() -> Result<()> {
    if !by_subcommand()? {
        println!("not tried: this server denies no subcommand alone");
        return Ok(());
    }
    let bed = with_user("acl-failover").await?;
    bed.start_all().await?;
    let before = formed_as_planned(&bed).await?;
    let (master, replica) = (bed.pod(0)?, bed.pod(3)?);
    set_user(&replica, "-cluster|failover").await?;
    let began = Instant::now();
    let hook = command(&master, &["pre-stop", "--grace", "40"]).await?;
    ensure!(hook.code == 1, "{hook:?}");
    ensure!(began.elapsed() < Duration::from_secs(20), "{hook:?}");
    for part in ["redis-app-3 refuses: NOPERM", "cluster|failover"] {
        ensure!(hook.text.contains(part), "{part}: {hook:?}");
    }
    says(&master, "redis-no-permission", "cluster|failover").await?;
    let asked = command(&replica, &["failover"]).await?;
    ensure!(asked.code == 1, "{asked:?}");
    ensure!(asked.text.contains("NOPERM"), "{asked:?}");
    let now = bed.whole(LONG).await?;
    ensure!(now.masters() == before.masters(), "{now}");
    set_user(&replica, "+cluster|failover").await?;
    let asked = command(&replica, &["failover"]).await?;
    ensure!(asked.code == 0, "{asked:?}");
    let after = bed.whole(LONG).await?;
    ensure!(after.masters() == [1, 2, 3], "{after}");
    bed.finish().await
}
