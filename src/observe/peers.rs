//! Finds the peers by DNS: one SRV question gives names, so ordinals, and addresses.
//!
//! In: the headless Service's parts. Out: [`PeersSeen`]. A name without an address in the same
//! answer gets its own A and AAAA questions, and so do missing ordinals when the caller wants it.
//! Not here: what an absence means, and whether what answers at an address is the peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dns::{Answer, Asker, NameServers};
use crate::model::peers::{DnsAnswer, PeersSeen};

#[cfg(test)]
mod tests;

/// How many names may have their own questions open at once.
const NAMES_AT_ONCE_MAX: usize = 16;

/// The parts of the peers' names: `<set>-<ordinal>.<service>.<namespace>.svc.<cluster_domain>.`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNames {
    /// The StatefulSet.
    pub set: String,
    /// Its headless Service.
    pub service: String,
    /// The namespace of both.
    pub namespace: String,
    /// Usually `cluster.local`; a dot at its end does no harm.
    pub cluster_domain: String,
}

/// The parts do not make a DNS name.
#[derive(Debug, Error)]
#[error("{name:?} is no DNS name")]
pub struct NotADnsName {
    name: String,
    source: hickory_resolver::proto::ProtoError,
}

/// Asks DNS about the peers, round after round.
pub struct PeerFinder {
    servers: NameServers,
    timeout: Duration,
    set_prefix: String,
    service: Name,
    service_suffix: String,
}

/// What a name's own A and AAAA questions brought together.
enum Own {
    Addresses(BTreeSet<IpAddr>),
    NotInDns,
    Unknown,
}

impl PeerFinder {
    /// Asks `server`, or the nameservers of `/etc/resolv.conf`. One [`find`](Self::find) takes
    /// `timeout` at most for the SRV question and `timeout` at most for all others together.
    ///
    /// # Errors
    /// The parts do not make a DNS name: a label is empty or too long, or the whole is.
    pub fn new(
        server: Option<SocketAddr>,
        names: &PeerNames,
        timeout: Duration,
    ) -> Result<Self, NotADnsName> {
        Self::with_resolv_conf(server, "/etc/resolv.conf".into(), names, timeout)
    }

    fn with_resolv_conf(
        server: Option<SocketAddr>,
        resolv_conf: PathBuf,
        names: &PeerNames,
        timeout: Duration,
    ) -> Result<Self, NotADnsName> {
        let PeerNames {
            set,
            service,
            namespace,
            cluster_domain,
        } = names;
        let domain = cluster_domain.trim_matches('.');
        let service = format!("{service}.{namespace}.svc.{domain}.").to_ascii_lowercase();
        let finder = Self {
            servers: NameServers::new(server, resolv_conf, timeout),
            timeout,
            set_prefix: format!("{set}-").to_ascii_lowercase(),
            service_suffix: format!(".{service}"),
            service: dns_name(service)?,
        };
        finder.name_of(u32::MAX)?;
        Ok(finder)
    }

    /// One look: the SRV question, then the names it gave without an address, and with
    /// `ask_missing` also the expected ordinals that it did not give at all.
    pub async fn find(
        &mut self,
        expected: impl Iterator<Item = u32>,
        ask_missing: bool,
    ) -> PeersSeen {
        let asker = self.servers.asker();
        let deadline = Instant::now() + self.timeout;
        let answer = asker.ask(&self.service, RecordType::SRV, deadline).await;
        let mut found: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
        let answer = match answer {
            Answer::Records(lookup) => {
                found = self.peers_in(&lookup);
                DnsAnswer::Answered
            }
            Answer::NoRecords => DnsAnswer::Answered,
            Answer::NoSuchName => DnsAnswer::NoSuchName,
            Answer::Failed(why) => DnsAnswer::Failed(why),
        };
        let bare = found.iter().filter(|(_, addresses)| addresses.is_empty());
        let mut to_ask: BTreeSet<u32> = bare.map(|(&ordinal, _)| ordinal).collect();
        if ask_missing {
            to_ask.extend(expected.filter(|ordinal| !found.contains_key(ordinal)));
        }
        let mut not_in_dns = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for (ordinal, own) in self.ask_each(&asker, to_ask).await {
            match own {
                Own::Addresses(addresses) => drop(found.insert(ordinal, addresses)),
                Own::NotInDns => drop(not_in_dns.insert(ordinal)),
                Own::Unknown => drop(unknown.insert(ordinal)),
            }
        }
        let found = found
            .into_iter()
            .filter(|(_, addresses)| !addresses.is_empty());
        let addresses = found
            .map(|(ordinal, ips)| (ordinal, ips.into_iter().collect()))
            .collect();
        PeersSeen {
            answer,
            addresses,
            not_in_dns,
            unknown,
        }
    }

    /// Every peer the SRV answer names, with its addresses from the same message.
    fn peers_in(&self, lookup: &Lookup) -> BTreeMap<u32, BTreeSet<IpAddr>> {
        let targets = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => self.ordinal_of(&srv.target),
                _ => None,
            });
        let mut found: BTreeMap<_, BTreeSet<_>> = targets.map(|o| (o, BTreeSet::new())).collect();
        for record in lookup.additionals() {
            let ordinal = self.ordinal_of(&record.name);
            let addresses = ordinal.and_then(|ordinal| found.get_mut(&ordinal));
            if let (Some(addresses), Some(ip)) = (addresses, record.data.ip_addr()) {
                addresses.insert(ip);
            }
        }
        found
    }

    /// Asks for each ordinal's own name, some at a time, all within one timeout. Whoever is not
    /// through by then is unknown.
    async fn ask_each(&self, asker: &Asker, ordinals: BTreeSet<u32>) -> BTreeMap<u32, Own> {
        let deadline = Instant::now() + self.timeout;
        let mut results: BTreeMap<_, _> = ordinals.iter().map(|&o| (o, Own::Unknown)).collect();
        let mut waiting = ordinals.into_iter();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < NAMES_AT_ONCE_MAX
                && let Some(ordinal) = waiting.next()
            {
                if let Ok(name) = self.name_of(ordinal) {
                    let asker = asker.clone();
                    asking.spawn(async move { (ordinal, ask_own(&asker, &name, deadline).await) });
                }
            }
            match tokio::time::timeout_at(deadline, asking.join_next()).await {
                Ok(Some(Ok((ordinal, own)))) => drop(results.insert(ordinal, own)),
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return results,
            }
        }
    }

    fn name_of(&self, ordinal: u32) -> Result<Name, NotADnsName> {
        dns_name(format!(
            "{}{ordinal}{}",
            self.set_prefix, self.service_suffix
        ))
    }

    /// The ordinal in a peer's name; `None` for every other name. Case does not count.
    fn ordinal_of(&self, name: &Name) -> Option<u32> {
        let name = name.to_lowercase().to_ascii();
        let pod = name.strip_suffix(&self.service_suffix)?;
        let digits = pod.strip_prefix(&self.set_prefix)?;
        let ordinal: u32 = digits.parse().ok()?;
        (ordinal.to_string() == digits).then_some(ordinal)
    }
}

async fn ask_own(asker: &Asker, name: &Name, deadline: Instant) -> Own {
    let (v4, v6) = tokio::join!(
        asker.ask(name, RecordType::A, deadline),
        asker.ask(name, RecordType::AAAA, deadline),
    );
    let mut addresses = BTreeSet::new();
    let mut failed = false;
    for answer in [v4, v6] {
        match answer {
            Answer::Records(lookup) => {
                addresses.extend(lookup.answers().iter().filter_map(|r| r.data.ip_addr()));
            }
            Answer::Failed(_) => failed = true,
            Answer::NoRecords | Answer::NoSuchName => {}
        }
    }
    match (addresses.is_empty(), failed) {
        (false, _) => Own::Addresses(addresses),
        (true, true) => Own::Unknown,
        (true, false) => Own::NotInDns,
    }
}

fn dns_name(name: String) -> Result<Name, NotADnsName> {
    Name::from_ascii(&name).map_err(|source| NotADnsName { name, source })
}
