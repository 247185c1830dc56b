//! Local "pods" for redis-sidecar: development, tests, benchmarks and the demo; never shipped.
//!
//! Each pod is a loopback address of its own, a data folder, a real `redis-server` and the
//! shipped binary beside it, started as a kubelet would: by environment variables only. Nothing
//! here links the product's code, so that what a test asserts is judged independently of it.
//!
//! | file | is |
//! | --- | --- |
//! | `cluster` | [`Testbed`]: the pods of one StatefulSet with their DNS; start here |
//! | `pod` | [`Pod`]: one Redis, one agent, one folder, one address |
//! | `dns` | the headless Service's DNS, and what may go wrong with it |
//! | `readiness` | the kubelet's part: `/readyz` mirrored into DNS, ordered starts |
//! | `split` | a network that falls apart between pods |
//! | `truth` | whether the cluster is whole, by asking every Redis |
//! | `canary`, `load`, `ledger`, `writes` | keys that must survive; a writer in the background; users of every shard and the book of what was acknowledged to them; commands that must not be sent |
//! | `wait`, `http` | a condition with a deadline; a small GET |
//! | `skip` | what cannot be tested here, and how that is told |
//! | `address`, `process`, `server`, `client` | loopback subnets, child processes, server versions, Redis connections |

pub mod address;
pub mod canary;
pub mod client;
pub mod cluster;
pub mod dns;
pub mod http;
pub mod ledger;
pub mod load;
pub mod pod;
pub mod process;
pub mod readiness;
pub mod server;
pub mod skip;
pub mod split;
pub mod truth;
pub mod wait;
pub mod writes;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use cluster::{Builder, Ending, Testbed};
pub use pod::{Pod, Settings};
pub use split::Cut;
pub use truth::{NodeView, Role, Snapshot, Truth};

/// Locks `mutex` even when a panicking test poisoned it: cleaning up must still work.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
