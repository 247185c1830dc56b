//! Runs every file of `tests/scenarios`: what a round saw in, what it decided out. The format is
//! described in `tests/scenarios/README.md`; `UPDATE_EXPECT=1` rewrites the expected output.
//!
//! Not here: Redis, the network and the clock. The core is a function, so it is called.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod scenario_text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[test]
fn every_scenario_decides_as_written() {
    let wrong: Vec<String> = scenario_files()
        .iter()
        .filter(|path| catch_unwind(AssertUnwindSafe(|| check(path))).is_err())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} scenario(s) do not decide as written: {}\nread the differences above; if all are \
         right, run again with UPDATE_EXPECT=1",
        wrong.len(),
        wrong.join(", ")
    );
}

/// Rules of design.md that the core enforces today.
#[test]
fn every_enforced_safety_rule_has_a_scenario() {
    let names: Vec<String> = scenario_files()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    for rule in ["s1", "s2", "s3", "s4", "s5", "s7", "s8", "s9", "s12", "s13"] {
        let prefix = format!("{rule}_");
        assert!(
            names.iter().any(|name| name.starts_with(&prefix)),
            "no scenario is named after {rule}"
        );
    }
}

#[test]
fn a_scenario_without_steps_or_expectations_is_no_scenario() {
    assert!(scenario_text::replay("# only a title\npolicy pod=0 shape=3x1\n").is_err());
    let unexpected = "policy pod=0 shape=3x1\n\nstep one\n  now 0\n";
    let replayed = scenario_text::replay(unexpected).expect("replayed");
    assert_ne!(replayed, unexpected, "the missing expectation must show");
}

fn check(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let replayed =
        scenario_text::replay(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    expect_test::expect_file![path].assert_eq(&replayed);
}

fn scenario_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}
