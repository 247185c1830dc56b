//! Tests that cannot be run here: which of them may pass all the same, and how somebody hears of it.
//!
//! `NO_SKIPS` is set where everything is to be tested (`.ci/run`, `scripts/matrix`): what this process could have
//! done, and did not, fails then. What this machine cannot do is a line of the run's output.
//! Does not: judge what a test needs.

use std::io::Write;

use anyhow::{Context, Result, ensure};

/// What a process may be allowed to do, by its bit in `CapEff` (`capabilities(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// To run a program as another user.
    SetUid = 7,
    /// To mount a volume.
    SysAdmin = 21,
}

/// The server under test has not what the test is about; nowhere would that be different.
pub fn not_on_this_server(what: &str) {
    println!("skipped: {what}");
}

/// This machine, or what the run was asked for, is not enough for the test.
///
/// # Errors
/// With `NO_SKIPS`, when this process has the capability that it takes: then it should have worked.
pub fn not_on_this_machine(
    what: &str,
    why: &anyhow::Error,
    takes: Option<Capability>,
) -> Result<()> {
    let asked = std::env::var_os("NO_SKIPS").is_some_and(|asked| !asked.is_empty());
    if let Some(capability) = takes.filter(|_| asked) {
        ensure!(
            !has(capability)?,
            "skipped with NO_SKIPS, and {capability:?} is there: {what}: {why:#}"
        );
    }
    // Not by `eprintln!`, of which the test runner shows nothing when a test passes.
    writeln!(std::io::stderr(), "not tested here: {what}: {why:#}").context("write to stderr")
}

fn has(capability: Capability) -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = u64::from_str_radix(mask.context("no CapEff")?.trim(), 16)?;
    Ok(mask >> capability as u32 & 1 == 1)
}
