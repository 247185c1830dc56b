//! What the configuration means for decisions: who this pod is and how large the first cluster is.

use crate::config::{Config, ReadyWhen};
use crate::model::identity::{PodName, Shape};
use std::net::IpAddr;
use std::time::Duration;

/// See [`Policy::few`]: with a dozen on two cores, asking all of them at once costs nobody time.
pub const FEW: u32 = 12;

/// The fixed part of every decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// This pod.
    pub me: PodName,
    /// `<namespace>/<statefulset>`: what must agree before two pods may know each other.
    pub cluster: String,
    /// The name this pod has in DNS, without the final dot.
    pub hostname: String,
    /// This pod's own address.
    pub pod_ip: IpAddr,
    /// The port of every Redis.
    pub redis_port: u16,
    /// The first shape of the cluster.
    pub shape: Shape,
    /// A replica behind by more bytes is not ready.
    pub lag_bytes_max: u64,
    /// The start gate never latches (`READY_WHEN=cluster`).
    pub gate_always: bool,
    /// Where this pod runs; empty when not told.
    pub node_name: String,
    /// Where this pod runs; empty when not told.
    pub zone: String,
    /// Nothing is written (`DRY_RUN`).
    pub dry_run: bool,
    /// How long a ghost must have been one before it is forgotten (S6).
    pub ghosts: GhostTimes,
    /// So few pods need no consideration for each other; more share what there is.
    pub few: u32,
}

/// S6's times. Only tests have others than these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GhostTimes {
    /// Failed or without an address for so long, or four node timeouts, whichever is more.
    pub gone_for: Duration,
    /// No MEET for so long.
    pub no_meet_for: Duration,
}

impl Default for GhostTimes {
    fn default() -> Self {
        GhostTimes {
            gone_for: Duration::from_secs(120),
            no_meet_for: Duration::from_secs(60),
        }
    }
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        let Config {
            pod,
            namespace,
            headless_service,
            cluster_domain,
            ..
        } = config;
        Policy {
            me: pod.clone(),
            cluster: config.cluster().to_string(),
            hostname: format!("{pod}.{headless_service}.{namespace}.svc.{cluster_domain}"),
            pod_ip: config.pod_ip,
            redis_port: config.redis_port,
            shape: config.shape,
            lag_bytes_max: config.max_lag_bytes,
            gate_always: config.ready_when == ReadyWhen::Cluster,
            node_name: config.node_name.clone(),
            zone: config.zone.clone(),
            dry_run: config.dry_run,
            ghosts: GhostTimes::default(),
            few: FEW,
        }
    }
}

impl Policy {
    /// How many pods the first shape has.
    pub fn expected(&self) -> u32 {
        u32::from(self.shape.masters) * (1 + u32::from(self.shape.replicas_per_master))
    }

    /// How many of them are more than a few.
    pub fn beyond_a_few(&self) -> u32 {
        self.expected().saturating_sub(self.few)
    }

    /// Whether they are more than a few.
    pub fn many(&self) -> bool {
        self.beyond_a_few() > 0
    }

    /// The ordinals of the first shape but this pod's.
    pub fn expected_peers(&self) -> impl Iterator<Item = u32> {
        let me = self.me.ordinal;
        (0..self.expected()).filter(move |ordinal| *ordinal != me)
    }

    /// The name of the pod with this ordinal.
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.me.set)
    }
}
