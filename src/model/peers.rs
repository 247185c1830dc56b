//! What one look at the DNS showed of the peers: values only, judged elsewhere.
//!
//! Absence in here is never death: an ordinal that is in none of the maps was not asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How the headless Service's own name was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsAnswer {
    /// A server answered; the answer may hold no pod at all.
    Answered,
    /// A server answered that the name does not exist.
    NoSuchName,
    /// No usable answer: a timeout, SERVFAIL, REFUSED, an unreachable server. The text says which.
    Failed(String),
}

/// The peers that one round's DNS questions found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeersSeen {
    /// The answer to the one SRV question.
    pub answer: DnsAnswer,
    /// Addresses by ordinal, sorted and without duplicates; never an empty list.
    pub addresses: BTreeMap<u32, Vec<IpAddr>>,
    /// Ordinals asked for by their own name and answered with "no such name" or "no address".
    pub not_in_dns: BTreeSet<u32>,
    /// Ordinals whose own question had no usable answer. About these nothing is known.
    pub unknown: BTreeSet<u32>,
}
