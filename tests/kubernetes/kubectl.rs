//! `kubectl`, as a user runs it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs it, and returns what it printed.
pub(crate) fn kubectl(args: &[&str]) -> Result<String> {
    feed(args, "")
}

/// The same with a standard input.
pub(crate) fn feed(args: &[&str], input: &str) -> Result<String> {
    Ok(String::from_utf8(run(args, input)?.stdout)?)
}

/// What it said beside its result: warnings, and why it tried again.
pub(crate) fn complaints(args: &[&str]) -> Result<String> {
    Ok(String::from_utf8(run(args, "")?.stderr)?)
}

fn run(args: &[&str], input: &str) -> Result<Output> {
    ensure!(
        std::env::var_os("KUBECONFIG").is_some(),
        "KUBECONFIG must name the cluster to test on; `make e2e` boots one"
    );
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl must be on the PATH")?;
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}

/// The same as [`kubectl`], as JSON.
pub(crate) fn json(args: &[&str]) -> Result<Value> {
    let mut args = args.to_vec();
    args.extend(["-o", "json"]);
    Ok(serde_json::from_str(&kubectl(&args)?)?)
}

/// Nodes that pods are scheduled to.
pub(crate) fn nodes() -> Result<Vec<String>> {
    let nodes = json(&["get", "nodes"])?;
    let items = nodes["items"].as_array().context("a list of nodes")?;
    let open = items
        .iter()
        .filter(|node| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty));
    let names = open.filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned()));
    Ok(names.collect())
}
