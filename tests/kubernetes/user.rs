//! A user of the cluster in a pod of its own (`testbed/src/bin/ledger.rs`): writes and reads all the time,
//! and at the end reads back every write that was acknowledged.

use crate::stage::{LONG, Stage, ledger_image};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::time::Duration;
use testbed::wait;

const POD: &str = "ledger";

/// What came of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Book {
    pub(crate) acknowledged: u64,
    pub(crate) read: u64,
    pub(crate) misread: u64,
    pub(crate) lost: u64,
    pub(crate) longest_gap_ms: Vec<u64>,
}

impl Book {
    /// Nothing that was acknowledged is lost, and there was something to lose.
    pub(crate) fn keeps_all(&self) -> Result<()> {
        ensure!(self.lost == 0 && self.misread == 0, "lost: {self:?}");
        ensure!(
            self.acknowledged > 300 && self.read > 100,
            "hardly used: {self:?}"
        );
        Ok(())
    }
}

impl std::fmt::Display for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = self.longest_gap_ms.iter().max().copied().unwrap_or(0);
        let longest = Duration::from_millis(gap).as_secs_f64();
        write!(
            f,
            "{} writes acknowledged, {} lost, the longest time without one {longest:.2} s",
            self.acknowledged, self.lost
        )
    }
}

impl Stage {
    /// Starts one, and waits until it writes.
    pub(crate) async fn user(&self) -> Result<()> {
        self.starts(&format!("{}:6379", self.headless), "").await
    }

    /// One that knows these names and their addresses, and has no DNS.
    pub(crate) async fn outsider(&self, names: &[(String, String)]) -> Result<()> {
        let hosts: Vec<String> = names
            .iter()
            .map(|(name, address)| format!("{{ip: {address}, hostnames: [{name}]}}"))
            .collect();
        let hosts = hosts.join(", ");
        let knows = format!(
            "  dnsPolicy: None\n  dnsConfig: {{nameservers: [127.0.0.1]}}\n  hostAliases: [{hosts}]\n"
        );
        let (first, _) = names.first().context("no name")?;
        self.starts(&format!("{first}:6379"), &knows).await
    }

    async fn starts(&self, seed: &str, knows: &str) -> Result<()> {
        let password = self.password.map_or_else(String::new, |password| {
            format!(", {{name: PASSWORD, value: {password}}}")
        });
        self.feed(
            &["create", "-f", "-"],
            &format!(
                "apiVersion: v1
kind: Pod
metadata:
  name: {POD}
  labels: {{redis-app-client: \"true\"}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
{knows}  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: ledger
      image: {}
      args: [\"{seed}\"]
      env: [{{name: MASTERS, value: \"{}\"}}{password}]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {{drop: [ALL]}}
",
                ledger_image(),
                self.masters
            ),
        )?;
        wait::until(LONG, "the user writes", async || {
            let said = self.kubectl(&["logs", POD])?;
            ensure!(said.contains("writing"), "it says {said:?}");
            Ok(())
        })
        .await
    }

    /// Ends it, and opens its book.
    pub(crate) async fn book(&self) -> Result<Book> {
        self.kubectl(&["exec", POD, "--", "/ledger", "stop"])?;
        let book = wait::until(LONG, "the book is closed", async || {
            let said = self.kubectl(&["logs", POD])?;
            let line = said.lines().find(|line| line.starts_with('{'));
            let line = line.with_context(|| format!("no book yet: {said}"))?;
            Ok(serde_json::from_str(line)?)
        })
        .await?;
        self.kubectl(&["delete", "pod", POD, "--force", "--grace-period=0"])?;
        Ok(book)
    }
}
