//! What docs/OPERATING.md has a person paste: every block is sh, and the helpers that delete something
//! act on the one pod that they are given. kubectl is a script here that writes down what it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// The blocks of shell, those in a list among them, in their order.
fn blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATING.md");
    let text = fs::read_to_string(path).unwrap();
    let (mut blocks, mut block) = (Vec::new(), None::<String>);
    for line in text.lines() {
        match (line.trim(), &mut block) {
            ("```sh", None) => block = Some(String::new()),
            ("```", Some(_)) => blocks.extend(block.take()),
            (_, Some(lines)) => *lines += &format!("{line}\n"),
            (_, None) => {}
        }
    }
    blocks
}

#[test]
fn every_block_is_sh() {
    let blocks = blocks();
    assert!(blocks.len() > 30, "{} blocks", blocks.len());
    for shell in ["sh", "bash"] {
        for block in &blocks {
            let checked = Command::new(shell).args(["-n", "-c", block]).output();
            let checked = checked.unwrap();
            let error = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{shell}: {error}\n{block}");
        }
    }
}

/// Only a claim is printed for `repair`, and a tar for whoever is asked for one.
const KUBECTL: &str = r#"#!/bin/sh
shift 2   # --namespace NAME
echo "$*" >> calls
case "$*" in
*"tar cf - "*) tar cf - kubectl ;;
"apply -f -") cat > applied ;;
"get pod repair "*) printf '%s' "$REPAIRS" ;;
*nodeName*) printf one-machine ;;
*image*) printf valkey:9 ;;
esac
"#;

/// Runs `command` after the helpers, in `shell`; what it printed, and what kubectl was told.
fn with_helpers(shell: &str, repairs: &str, command: &str, answer: &str) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let kubectl = folder.path().join("kubectl");
    fs::write(&kubectl, KUBECTL).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let helpers = &blocks()[0];
    let script = format!("{helpers}\nSET=orders\n{command} <<EOF\n{answer}\nEOF\n");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.path().display());
    let output = Command::new(shell)
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("REPAIRS", repairs)
        .output()
        .unwrap();
    let mut calls = fs::read_to_string(folder.path().join("calls")).unwrap_or_default();
    calls += &fs::read_to_string(folder.path().join("applied")).unwrap_or_default();
    (output, calls)
}

#[test]
fn wipe_deletes_what_was_saved_and_nothing_else() {
    const CLAIM: &str = "delete pvc redis-data-orders-3 --wait=false\n";
    for shell in ["sh", "bash"] {
        // No.
        let (output, calls) = with_helpers(shell, "", "wipe 3", "n");
        assert!(
            !output.status.success() && !calls.contains("delete"),
            "{calls}"
        );
        // Yes; whatever another pod's volume is mounted elsewhere.
        for repairs in ["", "redis-data-orders-0"] {
            let (output, calls) = with_helpers(shell, repairs, "wipe 3", "y");
            assert!(output.status.success(), "{output:?}");
            assert!(
                calls.contains("exec orders-3 -c redis -- tar cf"),
                "{calls}"
            );
            assert!(
                calls.ends_with(&format!("{CLAIM}delete pod orders-3\n")),
                "{calls}"
            );
        }
        // From the pod that has this volume.
        let (output, calls) = with_helpers(shell, "redis-data-orders-3", "wipe 3", "y");
        assert!(output.status.success(), "{output:?}");
        assert!(calls.contains("exec repair -c redis -- tar cf"), "{calls}");
        let end = format!("{CLAIM}delete pod repair\ndelete pod orders-3\n");
        assert!(calls.ends_with(&end), "{calls}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("redis-data-orders-3-"));
    }
}

#[test]
fn repair_is_made_on_the_volume_of_the_pod_that_is_named() {
    for shell in ["sh", "bash"] {
        let (output, calls) = with_helpers(shell, "redis-data-orders-4", "repair 4", "");
        assert!(output.status.success(), "{output:?}");
        assert!(
            calls.starts_with("delete pod repair --ignore-not-found\n"),
            "{calls}"
        );
        for part in [
            "get pod orders-4 ",
            "claimName: redis-data-orders-4}",
            "nodeName: one-machine\n",
            "image: valkey:9\n",
            "orders-client: \"true\"",
        ] {
            assert!(calls.contains(part), "{part} in {calls}");
        }
        assert!(
            output.stdout.ends_with(b"redis-data-orders-4\n"),
            "{output:?}"
        );
    }
}
