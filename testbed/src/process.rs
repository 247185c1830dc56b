//! A child process that cannot outlive us: started, stopped, killed, frozen, thawed.
//!
//! Killed on drop by tokio; killed when this process dies however it dies by `setpriv
//! --pdeathsig` (util-linux) where that exists. As the kernel sends that signal when the *thread*
//! that started the child ends, one thread that lives as long as the process starts them all.
//!
//! Does not: know what it runs, or signal anything but its own child.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::{Mutex, oneshot},
};

use crate::server::find_program;

/// How long [`Process::stop`] waits by default before it kills: longer than Redis waits for its
/// replicas at a shutdown (10 s).
pub const STOP_DEADLINE: Duration = Duration::from_secs(12);

/// What to run. The environment is exactly `env`; nothing is inherited.
#[derive(Debug, Clone)]
pub struct Program {
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working folder.
    pub folder: PathBuf,
    /// The group it runs under, if not ours; takes root and `setpriv`.
    pub gid: Option<u32>,
}

/// One child at a time, its output appended to one log file.
#[derive(Debug)]
pub struct Process {
    what: String,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Nothing is started yet. `what` names it in errors.
    #[must_use]
    pub fn new(what: String, log: PathBuf) -> Self {
        Self {
            what,
            log,
            child: Mutex::new(None),
        }
    }

    /// Where stdout and stderr go, over all starts.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts `program`.
    ///
    /// # Errors
    /// When it still runs, or cannot be started.
    pub async fn start(&self, program: Program) -> Result<()> {
        let mut child = self.child.lock().await;
        if let Some(running) = child.as_mut()
            && running.try_wait()?.is_none()
        {
            bail!("{} runs already", self.what);
        }
        let command = self.command(program)?;
        *child = Some(
            spawn(command)
                .await
                .with_context(|| format!("start {}", self.what))?,
        );
        Ok(())
    }

    /// The process id while it runs.
    pub async fn pid(&self) -> Option<u32> {
        let mut child = self.child.lock().await;
        let child = child.as_mut()?;
        match child.try_wait() {
            Ok(None) => child.id(),
            _ => None,
        }
    }

    /// Whether it runs (a frozen process does).
    pub async fn is_running(&self) -> bool {
        self.pid().await.is_some()
    }

    /// SIGTERM, then waits; SIGKILL after `deadline`. Returns the status, `None` if it did not
    /// run.
    ///
    /// # Errors
    /// When it had to be killed, or cannot be waited for.
    pub async fn stop(&self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let mut slot = self.child.lock().await;
        let Some(child) = slot.as_mut() else {
            return Ok(None);
        };
        signal(child, Signal::TERM)?;
        let waited = tokio::time::timeout(deadline, child.wait()).await;
        if let Ok(status) = waited {
            *slot = None;
            return Ok(Some(
                status.with_context(|| format!("wait for {}", self.what))?,
            ));
        }
        child
            .kill()
            .await
            .with_context(|| format!("kill {}", self.what))?;
        *slot = None;
        bail!(
            "{} did not end within {deadline:?} after SIGTERM; killed",
            self.what
        )
    }

    /// SIGKILL, and waits until it is gone. Nothing to do if it does not run.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&self) -> Result<()> {
        let mut slot = self.child.lock().await;
        if let Some(child) = slot.as_mut() {
            child
                .kill()
                .await
                .with_context(|| format!("kill {}", self.what))?;
        }
        *slot = None;
        Ok(())
    }

    /// SIGSTOP: connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP).await
    }

    /// SIGCONT after [`Process::freeze`].
    ///
    /// # Errors
    /// When it does not run.
    pub async fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT).await
    }

    /// Any signal.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn signal(&self, which: Signal) -> Result<()> {
        let mut slot = self.child.lock().await;
        let received = match slot.as_mut() {
            Some(child) => signal(child, which)?,
            None => false,
        };
        if !received {
            bail!("{} does not run, so {which:?} has no receiver", self.what);
        }
        Ok(())
    }

    /// The exit status if it ended on its own, waiting for that at most `deadline`.
    ///
    /// # Errors
    /// When it still runs after `deadline`, or was not started.
    pub async fn ended(&self, deadline: Duration) -> Result<ExitStatus> {
        let mut slot = self.child.lock().await;
        let child = slot
            .as_mut()
            .with_context(|| format!("{} was not started", self.what))?;
        let status = tokio::time::timeout(deadline, child.wait())
            .await
            .with_context(|| format!("{} still runs after {deadline:?}", self.what))??;
        Ok(status)
    }

    /// The last `count` lines of the log.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(count))
            .map(|l| (*l).to_owned())
            .collect()
    }

    fn command(&self, program: Program) -> Result<Command> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        let mut command = match setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]);
                if let Some(gid) = program.gid {
                    command.args(["--keep-groups", "--regid", &gid.to_string()]);
                }
                command.arg("--").arg(&program.path);
                command
            }
            None if program.gid.is_some() => bail!("no setpriv (util-linux)"),
            None => Command::new(&program.path),
        };
        command
            .args(&program.arguments)
            .env_clear()
            .envs(program.env)
            .current_dir(&program.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}

/// Whether the signal had a receiver. The id is only used while the child is not yet reaped, so
/// it cannot be anyone else's.
fn signal(child: &mut Child, which: Signal) -> Result<bool> {
    if child.try_wait()?.is_some() {
        return Ok(false);
    }
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let Some(pid) = pid else { return Ok(false) };
    kill_process(pid, which)?;
    Ok(true)
}

fn setpriv() -> Option<&'static Path> {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    SETPRIV
        .get_or_init(|| find_program(Path::new("setpriv")).ok())
        .as_deref()
}

type Job = Box<dyn FnOnce() + Send>;

/// Spawns on the one thread that never ends (see the header).
async fn spawn(mut command: Command) -> Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        // If no thread can be had, the inbox is dropped and every send below says so.
        let _ = std::thread::Builder::new()
            .name("starter".to_owned())
            .spawn(move || inbox.into_iter().for_each(|job| job()));
        jobs
    });
    let runtime = Handle::current();
    let (sender, receiver) = oneshot::channel();
    let job = Box::new(move || {
        let _entered = runtime.enter();
        // The receiver is gone only if the caller was cancelled; the child is then killed on drop.
        let _ = sender.send(command.spawn());
    });
    starter
        .send(job)
        .ok()
        .context("the thread that starts processes is gone")?;
    Ok(receiver.await??)
}
