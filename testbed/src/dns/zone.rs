//! What a cluster's DNS says about one headless Service: records out of pods, as CoreDNS does it.
//!
//! Pure. Does not: know faults, caches, sockets or time; see `dns` and `dns/server`.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA, SRV},
    },
};

/// The TTL of every record, CoreDNS's own default.
const TTL: u32 = 5;

/// One pod as the endpoints controller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ready: bool,
}

/// Everything that decides an answer.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    /// `<service>.<namespace>.svc.<domain>.`, in lower case.
    pub(crate) service: String,
    /// `<domain>.`
    pub(crate) domain: String,
    /// The Service's ports; one SRV record for each.
    pub(crate) ports: Vec<u16>,
    pub(crate) publish_not_ready: bool,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
}

/// An answer before it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    /// Tells how long to remember a "no".
    pub(crate) soa: Option<Record>,
}

impl Answer {
    /// An answer without records.
    pub(crate) fn only(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            additionals: Vec::new(),
            soa: None,
        }
    }
}

impl Zone {
    /// The answer to a question for `name`. NXDOMAIN where CoreDNS says so: for a headless Service
    /// without any endpoint, and for the name of a pod that is not published.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Result<Answer> {
        let asked = name.to_lowercase().to_ascii();
        let published: Vec<(&String, &Endpoint)> = self.published().collect();
        if asked == self.service && !published.is_empty() {
            let mut answer = Answer::only(ResponseCode::NoError);
            if kind == RecordType::SRV {
                self.add_srv(name, &published, &mut answer)?;
            } else {
                for (_, endpoint) in published {
                    add_addresses(name, endpoint, kind, &mut answer.answers);
                }
            }
            return self.or_soa(answer);
        }
        if let Some(pod) = asked
            .strip_suffix(&self.service)
            .and_then(|s| s.strip_suffix('.'))
            && let Some((_, endpoint)) = published.into_iter().find(|(known, _)| *known == pod)
        {
            let mut answer = Answer::only(ResponseCode::NoError);
            if kind == RecordType::SRV {
                self.add_srv(name, &[(&pod.to_owned(), endpoint)], &mut answer)?;
            } else {
                add_addresses(name, endpoint, kind, &mut answer.answers);
            }
            return self.or_soa(answer);
        }
        let mut no = Answer::only(ResponseCode::NXDomain);
        no.soa = Some(self.soa()?);
        Ok(no)
    }

    fn published(&self) -> impl Iterator<Item = (&String, &Endpoint)> {
        self.endpoints.iter().filter(|(_, endpoint)| {
            !endpoint.addresses.is_empty() && (endpoint.ready || self.publish_not_ready)
        })
    }

    fn add_srv(&self, name: &Name, pods: &[(&String, &Endpoint)], to: &mut Answer) -> Result<()> {
        let count = pods.len() * self.ports.len();
        let weight = u16::try_from((100 / count.max(1)).max(1))?;
        for (pod, endpoint) in pods {
            let target = Name::from_ascii(format!("{pod}.{}", self.service))?;
            for port in &self.ports {
                let srv = SRV::new(0, weight, *port, target.clone());
                to.answers
                    .push(Record::from_rdata(name.clone(), TTL, RData::SRV(srv)));
            }
            for kind in [RecordType::A, RecordType::AAAA] {
                add_addresses(&target, endpoint, kind, &mut to.additionals);
            }
        }
        Ok(())
    }

    /// A name that exists without records of the kind asked for answers with the SOA alone.
    fn or_soa(&self, mut answer: Answer) -> Result<Answer> {
        if answer.answers.is_empty() {
            answer.soa = Some(self.soa()?);
        }
        Ok(answer)
    }

    fn soa(&self) -> Result<Record> {
        let server = Name::from_ascii(format!("ns.dns.{}", self.domain))?;
        let person = Name::from_ascii(format!("hostmaster.{}", self.domain))?;
        let soa = SOA::new(server, person, 1, 7200, 1800, 86400, TTL);
        Ok(Record::from_rdata(
            Name::from_ascii(&self.domain)?,
            TTL,
            RData::SOA(soa),
        ))
    }
}

fn add_addresses(name: &Name, endpoint: &Endpoint, kind: RecordType, to: &mut Vec<Record>) {
    for address in &endpoint.addresses {
        let data = match (kind, address) {
            (RecordType::A, IpAddr::V4(ip)) => RData::A(A(*ip)),
            (RecordType::AAAA, IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
            _ => continue,
        };
        to.push(Record::from_rdata(name.clone(), TTL, data));
    }
}
