//! Asking the agent to do something: a Unix socket in the pod, and the commands of this binary that
//! talk to it. Nothing that changes anything goes over the pod network.
//!
//! In: one line of JSON from a client. Out: lines of JSON about how it goes, the last with its
//! outcome. `desk` holds what is asked between the socket and the loop, `server` is the socket,
//! `client` the other end, `cli` the commands, `install` the one that needs no agent.
//!
//! Not here: whether and how it is done (`decide::handoff`, `decide::pause`).

/// The socket, in `DATA_DIR` where `SOCKET` does not say otherwise.
pub const SOCKET_NAME: &str = "redis-sidecar.sock";

pub mod cli;
mod client;
pub mod desk;
mod install;
mod place;
pub mod server;
#[cfg(test)]
mod tests;
mod words;
