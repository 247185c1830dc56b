//! What a peer's `/role` says, read by the other side.
//!
//! In: the body of the answer, already cut to a sane size by the caller. Out: the fields that
//! identify the peer and those that forming needs.
//!
//! The peer may run an older or a newer version: unknown fields are ignored, and an optional one
//! that is absent or not understood is none. Not here: belief. What a peer says is a claim.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::status::{Role, Stage};
use crate::model::identity::{ClusterName, NodeId, PodName, Shape};

/// The part of a `/role` answer that peers use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PeerRole {
    /// The cluster it says it belongs to.
    pub cluster: ClusterName,
    /// The pod it says it is.
    pub pod: PodName,
    /// Its Redis's identity, where it knows it.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// What its node does.
    pub role: Role,
    /// How far its node is; none from a version that does not say, or says it in other words.
    #[serde(default, deserialize_with = "understood")]
    pub stage: Option<Stage>,
    /// The shape it was configured with; none as above.
    #[serde(default, deserialize_with = "understood")]
    pub shape: Option<Shape>,
    /// Whether it is ready.
    #[serde(default)]
    pub ready: bool,
    /// Its Kubernetes node, or empty.
    #[serde(default)]
    pub node_name: String,
    /// Its zone, or empty.
    #[serde(default)]
    pub zone: String,
    /// Owners of slots, with their ordinals.
    #[serde(default)]
    pub owners: BTreeMap<NodeId, u32>,
    /// The highest ordinal that it knows of.
    #[serde(default)]
    pub last_ordinal: u32,
    /// Nodes that it is about to forget.
    #[serde(default)]
    pub forgets: BTreeMap<NodeId, u32>,
    /// Its volume is blank, or holds a nodes.conf and no data, and its Redis does not run.
    #[serde(default)]
    pub blank: bool,
    /// Whether its Redis is about to be stopped.
    #[serde(default)]
    pub stopping: bool,
    /// The codes of its reasons.
    #[serde(default, rename = "reasons", deserialize_with = "codes")]
    pub codes: Vec<String>,
}

impl PeerRole {
    /// Reads the body of an answer.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

/// A value of any kind; what is not understood is none.
fn understood<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// The codes in a list of reasons; none of what is not understood.
fn codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    struct Reason {
        code: String,
    }
    let reasons = understood::<D, Vec<Reason>>(deserializer)?;
    let codes = reasons.into_iter().flatten().map(|reason| reason.code);
    Ok(codes.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::replica;
    use super::super::views::RoleView;
    use super::*;

    #[test]
    fn an_answer_of_this_version_is_read_back() {
        let status = replica();
        let body = serde_json::to_vec(&RoleView::from(&status)).unwrap();
        let expected = PeerRole {
            cluster: status.cluster,
            pod: status.pod,
            node_id: status.node_id,
            role: status.role,
            stage: Some(status.stage),
            shape: Some(status.shape),
            ready: false,
            node_name: status.node_name,
            zone: status.zone,
            owners: status.owners,
            last_ordinal: status.last_ordinal,
            forgets: status.forgets,
            blank: status.blank,
            stopping: status.stopping,
            codes: ["replica-link-down", "too-few-masters"]
                .map(str::to_owned)
                .into(),
        };
        assert_eq!(PeerRole::parse(&body).unwrap(), expected);
    }

    #[test]
    fn an_older_or_newer_version_is_understood_as_far_as_it_goes() {
        let older = r#"{"cluster":"default/redis-app","pod":"redis-app-1","role":"none"}"#;
        let newer = r#"{"cluster":"default/redis-app","pod":"redis-app-1","role":"none",
            "node_id":null,"stage":"retiring","shape":{"masters":3},"mood":["calm"],
            "reasons":["calm"]}"#;
        for body in [older, newer] {
            let peer = PeerRole::parse(body.as_bytes()).unwrap();
            assert_eq!((peer.stage, peer.shape, peer.node_id), (None, None, None));
            assert!(!peer.ready && peer.codes.is_empty());
        }
    }

    #[test]
    fn what_does_not_identify_itself_is_refused() {
        for body in [
            "",
            "{}",
            "[]",
            "<html></html>",
            r#"{"cluster":"redis-app","pod":"redis-app-1","role":"none"}"#,
            r#"{"cluster":"default/redis-app","pod":"redis-app","role":"none"}"#,
            r#"{"cluster":"default/redis-app","pod":"redis-app-1","role":"none","node_id":"x"}"#,
        ] {
            assert!(PeerRole::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = PeerRole::parse(&body);
        }
    }
}
