//! The manifests and the image on a real Kubernetes: whatever cluster `KUBECONFIG` names.
//!
//! `make e2e` boots one where there is none, and prints the table of times; see README.md here. Each
//! case has a namespace of its own, with the *restricted* Pod Security Standard enforced, and removes it.
//! What is whole is what every Redis says, through `redis-cli` in its own container (`stage.rs`).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod access;
mod by_hand;
mod kubectl;
mod moving;
mod stage;
mod starting;
mod table;
mod upkeep;
mod user;
mod volumes;
