//! Whatever text or bytes come in: no panic, nothing lost in silence, nothing torn taken for whole,
//! and no more time and memory than the input's size allows.
//!
//! `make test` plays a fixed seed. `make fuzz MINUTES=10` plays fresh ones for that long, printed;
//! `FUZZ_SEED=<n> cargo test --test fuzz <name>` plays one again. Each failure is shrunk first.
//!
//! Inputs are real servers' texts (`tests/fuzz/seeds`, and all of `tests/corpus` where it exists),
//! damaged by a few mutations. The checks are in `tests/fuzz/`, one file for a kind of input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "fuzz/files.rs"]
mod files;
#[path = "fuzz/http.rs"]
mod http;
#[path = "fuzz/linear.rs"]
mod linear;
#[path = "fuzz/mutations.rs"]
mod mutations;
#[path = "fuzz/play.rs"]
mod play;
#[path = "fuzz/settings.rs"]
mod settings;
#[path = "fuzz/tables.rs"]
mod tables;
