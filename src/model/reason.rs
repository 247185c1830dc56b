//! Why a node is not ready, or does nothing: a fixed code for machines, a sentence for people.
//!
//! The same reasons show in `/readyz`, `/role`, the metrics and the log.
//!
//! Not here: the judgement that picks a reason (`decide`), and the HTTP that shows it (`publish`).

use std::fmt;

use serde::{Serialize, Serializer};

/// Writes the enum, its texts and the list of all codes from one table.
macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A reason's fixed name. New codes may be added; a code's meaning never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ReasonCode {
            $($(#[$doc])* $name,)*
        }

        impl ReasonCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as users see it, in kebab case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    /// The agent has not yet finished its first round.
    Starting = "starting",
    /// The own Redis does not answer.
    RedisUnreachable = "redis-unreachable",
    /// The own Redis is loading its data.
    RedisLoading = "redis-loading",
    /// The own Redis refuses the user name or password.
    RedisAuth = "redis-auth",
    /// The user may not run a command the agent needs.
    RedisNoPermission = "redis-no-permission",
    /// The own Redis runs without `cluster-enabled yes`.
    ClusterDisabled = "cluster-disabled",
    /// Redis refused a command of the agent.
    CommandRefused = "command-refused",
    /// Forming waits until every expected pod is there and verified.
    WaitingForPeers = "waiting-for-peers",
    /// A blank node waits until a cluster it may join can be proved.
    WaitingForCluster = "waiting-for-cluster",
    /// A peer was configured with another number of masters or replicas.
    ShapeDiffers = "shape-differs",
    /// The cluster is being formed.
    Forming = "forming",
    /// Forming is held: a peer is not blank, or a volume carries a marker.
    FormingBlocked = "forming-blocked",
    /// A blank node is on its way into an existing cluster.
    Joining = "joining",
    /// The node belongs to no cluster.
    NotAMember = "not-a-member",
    /// The node's own table shows an address that is not the pod's.
    OwnAddress = "own-address",
    /// The node does not reach a majority of the masters.
    Minority = "minority",
    /// A master that should own slots owns none.
    NoSlots = "no-slots",
    /// A replica is not connected to its master.
    ReplicaLinkDown = "replica-link-down",
    /// A replica has not finished its first copy.
    ReplicaSyncing = "replica-syncing",
    /// A replica is behind its master by more than the limit.
    ReplicaLag = "replica-lag",
    /// A node of another cluster is in the table; all writes stop (S9).
    ForeignNode = "foreign-node",
    /// Some slots have no reachable owner.
    SlotsUncovered = "slots-uncovered",
    /// Redis says `cluster_state:fail`.
    ClusterDown = "cluster-down",
    /// Some members do not answer.
    PeersUnreachable = "peers-unreachable",
    /// The pod's former identity still owns slots; a blank node waits for the election.
    OldIdentityOwnsSlots = "old-identity-owns-slots",
    /// Whole copies of this node's data wait: who copied it might drop the last data of a shard (S5).
    CopiesHeld = "copies-held",
    /// This master has come up without data that its replicas may have, so that whole copies of it wait (S5).
    DataMissing = "data-missing",
    /// The marker on the volume names another cluster.
    VolumeOfAnotherCluster = "volume-of-another-cluster",
    /// The volume shows a former member, but its node ID is gone.
    IdentityLost = "identity-lost",
    /// nodes.conf is missing or damaged, and Redis is down.
    NodesConfDamaged = "nodes-conf-damaged",
    /// Redis has data but a blank identity: nodes.conf was lost (S11).
    DataWithoutIdentity = "data-without-identity",
    /// Two live nodes have one node ID: a cloned volume (S10).
    DuplicateNodeId = "duplicate-node-id",
    /// A former identity of a pod cannot be proved to be gone for good, so it is not forgotten.
    GhostNode = "ghost-node",
    /// This replica runs on the same machine as its master, or in the same zone.
    ReplicaPlacement = "replica-placement",
    /// Fewer than three masters cannot elect a successor for a dead one.
    TooFewMasters = "too-few-masters",
    /// The own Redis is about to be stopped.
    Stopping = "stopping",
    /// A person has paused the agent: nothing is written to Redis.
    Paused = "paused",
    /// The agent's socket cannot be listened on, so nobody can ask it anything.
    SocketUnavailable = "socket-unavailable",
    /// The agent cannot write its marker or copies to the volume.
    VolumeUnwritable = "volume-unwritable",
    /// DNS does not answer, so peers are unknown.
    DnsFailing = "dns-failing",
    /// The headless Service does not list this pod.
    NotInDns = "not-in-dns",
    /// nodes.conf cannot be watched; the timer alone must do.
    InotifyUnavailable = "inotify-unavailable",
    /// `DRY_RUN`: decisions are published and logged, and nothing is written.
    DryRun = "dry-run",
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a reason does to readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// The node is not ready.
    Blocks,
    /// The node stays ready, and says so.
    Warns,
}

/// One reason, with a sentence a person can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it is, for machines.
    pub code: ReasonCode,
    /// Whether it unreadies the node.
    pub weight: Weight,
    /// What it is, for people: one sentence, one line.
    pub message: String,
}

impl Reason {
    /// A reason that makes the node not ready.
    pub fn blocks(code: ReasonCode, message: impl Into<String>) -> Self {
        Self::new(code, Weight::Blocks, message)
    }

    /// A reason that is shown and leaves the node ready.
    pub fn warns(code: ReasonCode, message: impl Into<String>) -> Self {
        Self::new(code, Weight::Warns, message)
    }

    /// A reason whose weight was decided elsewhere; line breaks in the sentence become spaces.
    pub fn new(code: ReasonCode, weight: Weight, message: impl Into<String>) -> Self {
        let message = message.into().replace(['\n', '\r'], " ");
        Self {
            code,
            weight,
            message,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_kebab_case_and_each_is_its_own() {
        let texts: BTreeSet<_> = ReasonCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ReasonCode::ALL.len());
        for text in texts {
            assert!(
                text.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{text}"
            );
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        let reason = Reason::blocks(ReasonCode::RedisAuth, "WRONGPASS\r\nsecond line");
        assert_eq!(reason.to_string(), "redis-auth: WRONGPASS  second line");
    }
}
