//! redis-sidecar: assembles a Redis Cluster from inside its pods, keeps it whole and reports on it.

mod file_stamp;
pub mod model;
pub mod observe;
pub mod redis_link;
