//! redis-sidecar: assembles a Redis Cluster from inside its pods, keeps it whole and reports on it.

pub mod config;
pub mod logging;
pub mod model;
pub mod publish;
