//! Who is who: the names of pods, nodes and clusters, and the shape a cluster starts with.
//!
//! In: text from the environment, DNS, nodes.conf and peers. Out: checked values that print back
//! to the same text. Every refusal says what would have been taken.
//!
//! Not here: addresses (they change), roles (Redis decides them).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most pods a cluster may have, and the most masters.
pub const PODS_MAX: u32 = 1000;

/// What a piece of text had to be, when it was not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("takes {takes}")]
pub struct NotTaken {
    /// What would have been taken, to follow the word "takes".
    pub takes: &'static str,
}

const POD_NAME_TAKES: NotTaken = NotTaken {
    takes: "<statefulset>-<ordinal>, such as redis-app-0 (lower-case letters, digits and dashes)",
};
const NODE_ID_TAKES: NotTaken = NotTaken {
    takes: "a Redis node ID: 40 lower-case hexadecimal characters",
};
const SHAPE_TAKES: NotTaken = NotTaken {
    takes: "<masters>x<replicas per master>, such as 3x1, with 1 to 1000 masters and at most 1000 pods",
};
const CLUSTER_NAME_TAKES: NotTaken = NotTaken {
    takes: "<namespace>/<statefulset>, such as default/redis-app",
};

/// A pod of a StatefulSet: `redis-app-12` is pod 12 of `redis-app`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName {
    /// The StatefulSet's name; it may contain dashes.
    pub set: String,
    /// The pod's number in the set, from 0.
    pub ordinal: u32,
}

impl PodName {
    /// Another pod of the same set.
    #[must_use]
    pub fn sibling(&self, ordinal: u32) -> Self {
        Self {
            set: self.set.clone(),
            ordinal,
        }
    }
}

impl FromStr for PodName {
    type Err = NotTaken;

    fn from_str(text: &str) -> Result<Self, NotTaken> {
        if !is_dns_label(text) {
            return Err(POD_NAME_TAKES);
        }
        let (set, digits) = text.rsplit_once('-').ok_or(POD_NAME_TAKES)?;
        let ordinal = plain_number::<u32>(digits).ok_or(POD_NAME_TAKES)?;
        if !is_dns_label(set) {
            return Err(POD_NAME_TAKES);
        }
        Ok(Self {
            set: set.to_owned(),
            ordinal,
        })
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.set, self.ordinal)
    }
}

/// The identity Redis gives a node: it survives restarts and moves, and is lost with the volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; 20]);

impl FromStr for NodeId {
    type Err = NotTaken;

    fn from_str(text: &str) -> Result<Self, NotTaken> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut id = [0; 20];
        if pairs.len() != id.len() || !rest.is_empty() {
            return Err(NODE_ID_TAKES);
        }
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            let high = hex_digit(*high).ok_or(NODE_ID_TAKES)?;
            let low = hex_digit(*low).ok_or(NODE_ID_TAKES)?;
            *byte = high << 4 | low;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NodeId({self})")
    }
}

/// The first shape of a cluster; `3x1` is three masters with one replica each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shape {
    /// How many masters, each with a share of the slots.
    pub masters: u16,
    /// How many replicas each of them has.
    pub replicas_per_master: u16,
}

impl Shape {
    /// A shape within the limits: at least one master and at most [`PODS_MAX`] pods.
    pub fn new(masters: u16, replicas_per_master: u16) -> Result<Self, NotTaken> {
        let shape = Self {
            masters,
            replicas_per_master,
        };
        if masters == 0 || shape.expected_pods() > PODS_MAX {
            return Err(SHAPE_TAKES);
        }
        Ok(shape)
    }

    /// How many pods the cluster is formed of.
    #[must_use]
    pub fn expected_pods(&self) -> u32 {
        u32::from(self.masters) * (1 + u32::from(self.replicas_per_master))
    }
}

impl FromStr for Shape {
    type Err = NotTaken;

    fn from_str(text: &str) -> Result<Self, NotTaken> {
        let (masters, replicas) = text.split_once('x').ok_or(SHAPE_TAKES)?;
        let masters = plain_number::<u16>(masters).ok_or(SHAPE_TAKES)?;
        let replicas = plain_number::<u16>(replicas).ok_or(SHAPE_TAKES)?;
        Self::new(masters, replicas)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}x{}", self.masters, self.replicas_per_master)
    }
}

/// One cluster among all that a network holds: `<namespace>/<statefulset>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The StatefulSet's name.
    pub set: String,
}

impl ClusterName {
    /// The cluster that a pod of a namespace belongs to.
    #[must_use]
    pub fn of(namespace: &str, pod: &PodName) -> Self {
        Self {
            namespace: namespace.to_owned(),
            set: pod.set.clone(),
        }
    }
}

impl FromStr for ClusterName {
    type Err = NotTaken;

    fn from_str(text: &str) -> Result<Self, NotTaken> {
        match text.split_once('/') {
            Some((namespace, set)) if is_dns_label(namespace) && is_dns_label(set) => Ok(Self {
                namespace: namespace.to_owned(),
                set: set.to_owned(),
            }),
            _ => Err(CLUSTER_NAME_TAKES),
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.set)
    }
}

macro_rules! as_text_in_serde {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NotTaken;

            fn try_from(text: String) -> Result<Self, NotTaken> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text_in_serde!(PodName, NodeId, Shape, ClusterName);

/// Whether this is one label of a DNS name, as Kubernetes takes it for names of pods and Services.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A number written the one way it is printed: digits only, no sign, no leading zeros.
pub(super) fn plain_number<N: FromStr>(digits: &str) -> Option<N> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
