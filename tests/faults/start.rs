//! How the binary refuses to start.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};

/// Enough to start with, then `changes`; nothing else is in the environment.
fn start(changes: &[(&str, &str)]) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-sidecar"));
    command
        .env_clear()
        .envs([
            ("POD_NAME", "redis-app-0"),
            ("POD_IP", "127.0.0.1"),
            ("HEADLESS_SERVICE", "redis-headless"),
            // Nothing answers here, and nothing is written: every case ends before.
            ("REDIS_PORT", "1"),
            ("DNS_SERVER", "127.0.0.1:1"),
        ])
        .env("DATA_DIR", folder.path())
        .envs(changes.iter().copied());
    let output = command.output().context("start the binary")?;
    let left = std::fs::read_dir(folder.path())?.count();
    ensure!(left == 0, "{changes:?} left {left} files");
    Ok(output)
}

/// A value that cannot be used ends the start with 64 and one line that names it.
#[test]
fn a_bad_value_ends_the_start_with_64_and_one_line_that_names_it() -> Result<()> {
    let cases = [
        ("POD_NAME", "redis-app"),
        ("POD_NAME", "Redis_App-0"),
        ("POD_IP", ""),
        ("POD_IP", "10.0.0"),
        ("POD_IP", "0.0.0.0"),
        ("HEADLESS_SERVICE", ""),
        ("HEADLESS_SERVICE", "redis headless"),
        ("CLUSTER_DOMAIN", "a..b"),
        ("MASTERS", "0"),
        ("MASTERS", "three"),
        ("REPLICAS_PER_MASTER", "-1"),
        ("REPLICAS_PER_MASTER", "999"),
        ("REDIS_PORT", "0"),
        ("REDIS_PORT", "60000"),
        ("REDIS_HOST", "127.0.0.1:6379"),
        ("REDIS_PASSWORD_FILE", "/nowhere/password"),
        ("HTTP_ADDR", "8080"),
        ("DNS_SERVER", "dns.example"),
        ("READY_WHEN", "always"),
        ("MAX_LAG_BYTES", "10MB"),
        ("DRY_RUN", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "redis_sidecar=loud"),
    ];
    for (variable, value) in cases {
        let output = start(&[(variable, value)])?;
        let line = String::from_utf8(output.stderr)?;
        let case = format!("{variable}={value:?}: {:?} {line:?}", output.status);
        ensure!(output.status.code() == Some(64), "{case}");
        ensure!(line.ends_with('\n') && line.lines().count() == 1, "{case}");
        ensure!(line.contains(variable), "{case}");
        ensure!(value.is_empty() || line.contains(value), "{case}");
        ensure!(output.stdout.is_empty(), "{case}");
    }
    Ok(())
}

/// A flag that does not exist, and a secret beside it.
#[test]
fn a_refusal_never_repeats_a_password() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_redis-sidecar"))
        .env_clear()
        .args(["--redis-password", "hush-hush", "--pod-ip", "nonsense"])
        .args(["--pod-name", "a-0", "--headless-service", "s"])
        .output()?;
    let line = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(64), "{line}");
    ensure!(
        line.contains("POD_IP") && !line.contains("hush-hush"),
        "{line}"
    );
    Ok(())
}

/// A port that is taken.
#[test]
fn a_port_that_is_taken_ends_the_start_with_one_line() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for format in ["text", "json"] {
        let output = start(&[("HTTP_ADDR", &address), ("LOG_FORMAT", format)])?;
        let line = String::from_utf8(output.stderr)?;
        let case = format!("{format}: {:?} {line:?}", output.status);
        ensure!(output.status.code().is_some_and(|code| code != 0), "{case}");
        ensure!(
            line.lines().count() == 1 && line.contains(&address),
            "{case}"
        );
    }
    Ok(())
}
