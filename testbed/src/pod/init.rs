//! The init container of a pod: `redis-sidecar init`, before Redis is started.
//!
//! Does not: start Redis afterwards; a test may want to look first.

use std::time::Duration;

use anyhow::Result;

use super::Pod;
use crate::process::Process;

impl Pod {
    /// Starts it with what the agent is told. Its output is in [`Process::log`].
    ///
    /// # Errors
    /// When there is no agent, or it cannot be started.
    pub async fn start_init(&self) -> Result<Process> {
        let mut program = self.agent_program()?;
        program.arguments = vec!["init".into()];
        let process = Process::new(
            format!("{}'s init", self.name),
            self.folder.join("init.log"),
        );
        process.start(program).await?;
        Ok(process)
    }

    /// Runs it to its end, and gives its exit code and the end of its log.
    ///
    /// # Errors
    /// When it does not end by the deadline, or by a signal.
    pub async fn init(&self, deadline: Duration) -> Result<(i32, String)> {
        let process = self.start_init().await?;
        let status = process.ended(deadline).await?;
        let code = status.code().unwrap_or(-1);
        Ok((code, process.tail(12).join("\n")))
    }
}
