//! The times, a line each, into a file that `make e2e` prints at the end.

use std::fs::{OpenOptions, create_dir_all};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Where the suite writes.
pub(crate) fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes");
    create_dir_all(&folder).expect("a folder for the suite");
    folder
}

/// A row: what happened, how long it took until all was whole, and what else is to be said.
pub(crate) fn row(what: &str, took: Duration, more: &str) {
    let line = format!("| {what} | {:.1} s | {more} |", took.as_secs_f64());
    println!("{line}");
    let mut options = OpenOptions::new();
    let mut file = options
        .append(true)
        .create(true)
        .open(folder().join("table.md"))
        .expect("the table");
    writeln!(file, "{line}").expect("a row");
}
