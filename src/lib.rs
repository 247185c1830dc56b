//! redis-sidecar: assembles a Redis Cluster from inside its pods, keeps it whole and reports on it.
//!
//! One round: [`observe`] looks, [`decide`] judges, [`publish`] tells, [`act`] writes. The
//! [`control_loop`] owns the clock and the order; [`model`] is the vocabulary of all of them.
//! [`operate`] is how a person or the kubelet asks an agent for something.

pub mod act;
pub mod config;
pub mod control_loop;
pub mod decide;
pub mod logging;
pub mod model;
pub mod observe;
pub mod operate;
pub mod publish;
pub mod redis_link;
pub mod shutdown;
pub mod volume;

mod file_stamp;
