//! The rules of the house that a compiler does not check: which part may use what, that no file is
//! dead, and that each says what it is for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};

/// What the pure parts never mention: clocks, I/O, environment, logging, and a map without order.
const IMPURE: [&str; 8] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "redis::",
    "std::fs",
    "std::env",
    "tracing",
    "HashMap",
];

#[test]
fn the_model_and_the_rules_are_pure() {
    for file in rust_files("src/model")
        .into_iter()
        .chain(rust_files("src/decide"))
        .chain([root().join("src/model.rs"), root().join("src/decide.rs")])
    {
        let code = code(&file);
        for word in IMPURE.iter().chain(&["Instant", "SystemTime"]) {
            assert!(!mentions(&code, word), "{} mentions {word}", short(&file));
        }
    }
}

#[test]
fn only_the_executor_and_the_loop_can_write() {
    for file in rust_files("src") {
        let name = short(&file);
        let may = name == "src/act.rs"
            || name == "src/control_loop.rs"
            || name == "src/redis_link.rs"
            || name.starts_with("src/redis_link/");
        if !may {
            for link in ["WriteLink", "HandOverLink"] {
                assert!(
                    !mentions(&code(&file), link),
                    "{name} mentions {link}: only act.rs and control_loop.rs may write to Redis"
                );
            }
        }
    }
}

#[test]
fn no_file_is_dead() {
    for file in rust_files("src") {
        let name = short(&file);
        if name == "src/main.rs" || name == "src/lib.rs" {
            continue;
        }
        let module = file.file_stem().unwrap().to_str().unwrap();
        let parents = parents(&file);
        let line = format!("mod {module};");
        let reached = parents.iter().any(|parent| {
            code(parent)
                .lines()
                .any(|found| found.trim_start().ends_with(&line) && !found.contains("//"))
        });
        assert!(reached, "{name} is dead: no `{line}` in {parents:?}");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in rust_files("src") {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} has no header", short(&file));
    }
}

#[test]
fn no_file_is_too_long() {
    for folder in ["src", "tests", "testbed"] {
        for file in rust_files(folder) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines", short(&file));
        }
    }
}

/// Somebody looks a code up at night: it is there, once, and nothing there has been renamed since.
#[test]
fn every_reason_has_its_place_in_operating_md() {
    use redis_sidecar::model::reason::ReasonCode;
    let text = std::fs::read_to_string(root().join("docs/OPERATING.md")).unwrap();
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let mut sorted = headings.clone();
    sorted.sort_unstable();
    let mut codes: Vec<&str> = ReasonCode::ALL.iter().map(|code| code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(sorted, codes, "headings (left) and codes (right)");
    for (code, section) in headings.iter().zip(text.split("\n### ").skip(1)) {
        for part in ["- **Meanwhile:** ", "- **You:** "] {
            assert!(section.contains(part), "{code} lacks {part}");
        }
    }
    let anchors: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("##"))
        .map(|line| {
            line.trim_matches(['#', ' '])
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect();
    for link in text.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(
            anchors.iter().any(|there| there == anchor),
            "a link to {anchor}, which is not there"
        );
    }
}

/// Each safety rule is told with its place in the code and its tests, and all of these are there.
#[test]
fn every_safety_rule_names_code_and_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("docs/SAFETY.md")).unwrap();
    let mut sections = text.split("\n## ").skip(1);
    for number in 1..=14 {
        let section = sections.next().unwrap();
        assert_eq!(section.lines().next().unwrap(), format!("S{number}"));
        for part in ["\nHeld: ", "\nTests: "] {
            let (_, rest) = section.split_once(part).unwrap();
            let paragraph = rest.lines().next().unwrap();
            let words = paragraph.split('`').skip(1).step_by(2);
            let named: Vec<&str> = words
                .filter(|word| word.starts_with("src/") || word.starts_with("tests/"))
                .collect();
            assert!(!named.is_empty(), "S{number}{part}names nothing");
            for word in named {
                let (file, test) = word.split_once("::").unwrap_or((word, ""));
                let code = std::fs::read_to_string(root().join(file));
                let code = code.unwrap_or_else(|error| panic!("S{number}: {file}: {error}"));
                let there = test.is_empty() || code.contains(&format!("fn {test}("));
                assert!(there, "S{number}: no {test} in {file}");
            }
        }
    }
}

/// `make mutants` takes each rule out by its text: what is to be replaced stands in its file, once.
#[test]
fn every_mutation_still_finds_its_text() {
    let folder = std::fs::read_dir(root().join("tests/mutants")).unwrap();
    let mutations: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    assert!(!mutations.is_empty());
    for mutation in &mutations {
        let (name, text) = (short(mutation), std::fs::read_to_string(mutation).unwrap());
        let (header, edits) = text.split_once("\n@@ ").expect("an edit");
        for part in ["rule: S", "\nremoved: "] {
            assert!(header.contains(part), "{name} has no {part:?}");
        }
        for edit in edits.trim_end().split("\n@@ ") {
            let (file, change) = edit.split_once('\n').expect("a text");
            let (found, _) = change.split_once("\n=>").expect("what to put there");
            let code = std::fs::read_to_string(root().join(file)).unwrap();
            let times = code.matches(found).count();
            assert_eq!(times, 1, "{name}: not exactly once in {file}:\n{found}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn short(file: &Path) -> String {
    let path = file.strip_prefix(root()).unwrap();
    path.to_string_lossy().into_owned()
}

/// All Rust files below a folder, which need not exist yet.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The text without what is a comment on a line of its own.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in the code, not as the tail of a longer name (`my_redis::`).
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The files that may hold the `mod` line of a file: its folder's own, or the roots.
fn parents(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().unwrap();
    if folder == root().join("src") {
        return vec![folder.join("lib.rs"), folder.join("main.rs")];
    }
    vec![folder.with_extension("rs"), folder.join("mod.rs")]
}
