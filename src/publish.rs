//! What this node tells the world, answered from the last snapshot.
//!
//! In: one [`status::Status`] after each round, through a watch channel, and the counters that the
//! control loop counts on. Out: HTTP for probes, load balancers, peers, people and Prometheus.
//!
//! Not here: calls to Redis or DNS, and judgement; a request only reads.

#[cfg(test)]
pub(crate) mod fixtures;
pub mod heartbeat;
pub mod http;
pub mod metrics;
pub mod peer_role;
pub mod server;
pub mod snapshot;
pub mod start_gate;
pub mod status;
mod views;
