//! The shipped binary beside real Redis servers: what goes wrong, and what must hold all the same.
//!
//! One scenario a test, its number in the comment as docs and design use it. Every "pod" has an
//! address of its own and asks a real DNS server; what a test believes comes from asking each
//! Redis itself, never from the agents alone. Waiting is always a condition with a deadline.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "a test fails by panicking"
)]

#[path = "faults/chance.rs"]
mod chance;
#[path = "faults/common.rs"]
mod common;

#[path = "faults/addresses.rs"]
mod addresses;
#[path = "faults/dns.rs"]
mod dns;
#[path = "faults/foreign.rs"]
mod foreign;
#[path = "faults/forming.rs"]
mod forming;
#[path = "faults/ghosts.rs"]
mod ghosts;
#[path = "faults/handoff.rs"]
mod handoff;
#[path = "faults/handoff_choice.rs"]
mod handoff_choice;
#[path = "faults/healing.rs"]
mod healing;
#[path = "faults/history.rs"]
mod history;
#[path = "faults/identity.rs"]
mod identity;
#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/lifecycle.rs"]
mod lifecycle;
#[path = "faults/lost_shard.rs"]
mod lost_shard;
#[path = "faults/lost_volumes.rs"]
mod lost_volumes;
#[path = "faults/migration.rs"]
mod migration;
#[path = "faults/mistaken_copies.rs"]
mod mistaken_copies;
#[path = "faults/nodes_conf.rs"]
mod nodes_conf;
#[path = "faults/ordered.rs"]
mod ordered;
#[path = "faults/requests.rs"]
mod requests;
#[path = "faults/reused.rs"]
mod reused;
#[path = "faults/rolling.rs"]
mod rolling;
#[path = "faults/rotation.rs"]
mod rotation;
#[path = "faults/secrets.rs"]
mod secrets;
#[path = "faults/shapes.rs"]
mod shapes;
#[path = "faults/split.rs"]
mod split;
#[path = "faults/stale_dns.rs"]
mod stale_dns;
#[path = "faults/start.rs"]
mod start;
#[path = "faults/start_gate.rs"]
mod start_gate;
#[path = "faults/stop.rs"]
mod stop;
#[path = "faults/upgrade.rs"]
mod upgrade;
#[path = "faults/volumes.rs"]
mod volumes;
