//! What the headless Service's DNS says of one cluster, and how it goes wrong.

use redis_sidecar::model::peers::{DnsAnswer, PeersSeen};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

#[derive(Debug, Clone, Default)]
pub(crate) struct Zone {
    now: BTreeMap<u32, IpAddr>,
    named_since: BTreeMap<u32, i64>,
    trouble: Trouble,
    /// When the last trouble ended.
    well_since: i64,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// No answer at all.
    Fails,
    /// The name does not exist.
    NoSuchName,
    /// What was true then.
    Stale(BTreeMap<u32, IpAddr>),
    /// These ordinals are missing, and a question for them has no answer.
    Partial(BTreeSet<u32>),
    /// These ordinals have the address of another one.
    Wrong(BTreeMap<u32, IpAddr>),
}

impl Zone {
    pub(crate) fn set(&mut self, ordinal: u32, ip: Option<IpAddr>, now: i64) {
        if ip.is_some() {
            self.named_since.entry(ordinal).or_insert(now);
        } else {
            self.named_since.remove(&ordinal);
        }
        match ip {
            Some(ip) => self.now.insert(ordinal, ip),
            None => self.now.remove(&ordinal),
        };
    }

    pub(crate) fn records(&self) -> &BTreeMap<u32, IpAddr> {
        &self.now
    }

    pub(crate) fn trouble(&mut self, trouble: Trouble, now: i64) {
        self.trouble = trouble;
        self.well_since = now;
    }

    /// Whether every question of the last `ms` was answered with this ordinal's name.
    pub(crate) fn named_for(&self, ordinal: u32, ms: i64, now: i64) -> bool {
        let since = self.named_since.get(&ordinal);
        let well = matches!(self.trouble, Trouble::None) && now - self.well_since > ms;
        well && since.is_some_and(|since| now - since > ms)
    }

    pub(crate) fn answer(&self) -> PeersSeen {
        let mut records = self.now.clone();
        let mut unknown = BTreeSet::new();
        let mut answer = DnsAnswer::Answered;
        match &self.trouble {
            Trouble::None => {}
            Trouble::Fails => {
                answer = DnsAnswer::Failed("SERVFAIL".to_owned());
                records.clear();
            }
            Trouble::NoSuchName => {
                answer = DnsAnswer::NoSuchName;
                records.clear();
            }
            Trouble::Stale(then) => records.clone_from(then),
            Trouble::Partial(missing) => {
                records.retain(|ordinal, _| !missing.contains(ordinal));
                unknown.clone_from(missing);
            }
            Trouble::Wrong(wrong) => records.extend(wrong.iter().map(|(k, ip)| (*k, *ip))),
        }
        PeersSeen {
            answer,
            addresses: records.into_iter().map(|(k, ip)| (k, vec![ip])).collect(),
            not_in_dns: BTreeSet::new(),
            unknown,
        }
    }
}
