//! Tests that cannot be run here: which of them may pass all the same, and how somebody hears of it.
//!
//! `NO_SKIPS` is set where everything is to be tested (`.ci/run`, `scripts/matrix`). It names a file: what this
//! machine cannot do is a line in it, which the script prints at its end; any other skip fails.
//! Does not: judge what a test needs.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

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
/// With `NO_SKIPS`, when this process has the capability that it takes: then it should have worked; or when
/// the skip cannot be noted.
pub fn not_on_this_machine(
    what: &str,
    why: &anyhow::Error,
    takes: Option<Capability>,
) -> Result<()> {
    eprintln!("not tested here: {what}: {why:#}");
    let Some(notes) = std::env::var_os("NO_SKIPS").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    if let Some(capability) = takes {
        ensure!(
            !has(capability)?,
            "skipped with NO_SKIPS, and {capability:?} is there: {what}: {why:#}"
        );
    }
    let path = PathBuf::from(notes);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes()))
        .with_context(|| format!("NO_SKIPS: write {}", path.display()))
}

fn has(capability: Capability) -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = u64::from_str_radix(mask.context("no CapEff")?.trim(), 16)?;
    Ok(mask >> capability as u32 & 1 == 1)
}
