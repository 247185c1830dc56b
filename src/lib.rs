//! redis-sidecar: assembles a Redis Cluster from inside its pods, keeps it whole and reports on it.

pub mod act;
pub mod decide;
pub mod model;
pub mod redis_link;
pub mod observe;
pub mod volume;
mod file_stamp;
