//! The DNS of one headless Service, as CoreDNS answers it, with everything that may go wrong.
//!
//! [`Dns`] is the handle: it publishes pods and sets faults, effective from the next question.
//! Every pod asks at a port of its own, so that questions can be counted, and faults set, by who
//! asks (on loopback all of them come from 127.0.0.1). What is right to answer is in `dns/zone`;
//! sockets and the wire are in `dns/server`.
//!
//! Does not: answer outside the Service's zone (NXDOMAIN), or resolve anything elsewhere.

mod server;
mod zone;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RecordType},
};
use tokio::task::JoinHandle;

use crate::lock;
use zone::{Answer, Endpoint, Zone};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// "No such name".
    Nxdomain,
    /// "Server failure".
    ServFail,
    /// "Refused".
    Refused,
    /// No answer at all.
    Timeout,
    /// The right answer, this much later.
    Slow(Duration),
    /// Over UDP always cut to nothing with TC set; TCP answers in full.
    Truncate,
    /// As `Truncate`, and TCP does not answer.
    TruncateWithoutTcp,
    /// The name exists without any record.
    Empty,
}

/// Where a fault shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every question.
    All,
    /// Questions for the Service's own name.
    Service,
    /// Questions for this pod's name (`redis-app-0`).
    Pod(String),
    /// Every question that this pod asks.
    From(String),
}

/// A question that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// When.
    pub at: Instant,
    /// The pod that asked, by the port it asked at.
    pub from: String,
    /// The name in lower case with its last dot.
    pub name: String,
    /// `SRV`, `A`, `AAAA`, ...
    pub kind: String,
    /// Whether it came over TCP.
    pub tcp: bool,
}

/// The handle; clones share everything. The server ends with the last one.
#[derive(Debug, Clone)]
pub struct Dns {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    zone: Zone,
    faults: BTreeMap<Scope, Fault>,
    /// Answered in place of `zone` while set.
    stale: Option<Zone>,
    remember_for: Option<Duration>,
    remembered: HashMap<(String, RecordType), (Instant, Answer)>,
    questions: Vec<Question>,
}

#[derive(Debug, Default)]
struct Tasks(BTreeMap<SocketAddr, JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

impl Dns {
    /// A zone without pods that nobody can ask yet; see [`Dns::listen`].
    #[must_use]
    pub fn new(service: &str, namespace: &str, domain: &str, ports: Vec<u16>) -> Self {
        let zone = Zone {
            service: format!("{service}.{namespace}.svc.{domain}.").to_ascii_lowercase(),
            domain: format!("{domain}.").to_ascii_lowercase(),
            ports,
            publish_not_ready: true,
            endpoints: BTreeMap::new(),
        };
        let state = State {
            zone,
            faults: BTreeMap::new(),
            stale: None,
            remember_for: None,
            remembered: HashMap::new(),
            questions: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
        });
        Self {
            shared,
            tasks: Arc::default(),
        }
    }

    /// Answers on UDP and TCP at `address`; questions there count as `asker`'s. Nothing changes
    /// where it answers already.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn listen(&self, address: SocketAddr, asker: &str) -> Result<()> {
        if lock(&self.tasks).0.contains_key(&address) {
            return Ok(());
        }
        let task = server::listen(Arc::clone(&self.shared), address, asker.to_owned()).await?;
        lock(&self.tasks).0.insert(address, task);
        Ok(())
    }

    /// The Service's own name with its last dot.
    #[must_use]
    pub fn service_name(&self) -> String {
        lock(&self.shared.state).zone.service.clone()
    }

    /// A pod's name with its last dot.
    #[must_use]
    pub fn pod_name(&self, pod: &str) -> String {
        format!("{pod}.{}", self.service_name())
    }

    /// Makes `pod` an endpoint at `addresses`, replacing older ones; its ready flag is kept, and
    /// false at first.
    pub fn publish(&self, pod: &str, addresses: &[IpAddr]) {
        let endpoints = &mut lock(&self.shared.state).zone.endpoints;
        let endpoint = endpoints.entry(pod.to_owned()).or_insert_with(|| Endpoint {
            addresses: Vec::new(),
            ready: false,
        });
        endpoint.addresses = addresses.to_vec();
    }

    /// Removes `pod`, with its ready flag.
    pub fn unpublish(&self, pod: &str) {
        lock(&self.shared.state).zone.endpoints.remove(pod);
    }

    /// Sets the ready flag of a published pod; no effect on another.
    pub fn set_ready(&self, pod: &str, ready: bool) {
        if let Some(endpoint) = lock(&self.shared.state).zone.endpoints.get_mut(pod) {
            endpoint.ready = ready;
        }
    }

    /// Whether a pod is published and its ready flag set.
    #[must_use]
    pub fn is_ready(&self, pod: &str) -> bool {
        let state = lock(&self.shared.state);
        state
            .zone
            .endpoints
            .get(pod)
            .is_some_and(|endpoint| endpoint.ready)
    }

    /// `publishNotReadyAddresses` of the Service; true at first.
    pub fn set_publish_not_ready(&self, publish: bool) {
        lock(&self.shared.state).zone.publish_not_ready = publish;
    }

    /// Sets a fault; the narrowest scope wins (`From`, `Pod`, `Service`, `All`).
    pub fn fault(&self, scope: Scope, fault: Fault) {
        lock(&self.shared.state).faults.insert(scope, fault);
    }

    /// Removes one fault.
    pub fn clear(&self, scope: &Scope) {
        lock(&self.shared.state).faults.remove(scope);
    }

    /// Removes every fault, the frozen copy, and what is remembered (remembering goes on).
    pub fn heal(&self) {
        let mut state = lock(&self.shared.state);
        state.faults.clear();
        state.stale = None;
        state.remembered.clear();
    }

    /// Answers the records of this moment, whatever is published later, until
    /// [`Dns::release`].
    pub fn freeze(&self) {
        let mut state = lock(&self.shared.state);
        state.stale = Some(state.zone.clone());
    }

    /// Ends [`Dns::freeze`].
    pub fn release(&self) {
        lock(&self.shared.state).stale = None;
    }

    /// As CoreDNS's `cache`: an answer, "no such name" included, is repeated for this long.
    /// `None` ends it and forgets them.
    pub fn remember(&self, answers_for: Option<Duration>) {
        let mut state = lock(&self.shared.state);
        state.remember_for = answers_for;
        state.remembered.clear();
    }

    /// Every question so far, in order.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        lock(&self.shared.state).questions.clone()
    }

    /// How many questions each pod has asked so far.
    #[must_use]
    pub fn questions_by_pod(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for question in &lock(&self.shared.state).questions {
            *counts.entry(question.from.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Starts the counting anew.
    pub fn forget_questions(&self) {
        lock(&self.shared.state).questions.clear();
    }
}

impl Shared {
    /// Notes the question, and says which fault it meets.
    fn receive(&self, from: &str, name: &Name, kind: RecordType, tcp: bool) -> Option<Fault> {
        let mut state = lock(&self.state);
        let name = name.to_lowercase().to_ascii();
        let pod = name
            .strip_suffix(&state.zone.service)
            .and_then(|s| s.strip_suffix('.'));
        let scopes = [
            Some(Scope::From(from.to_owned())),
            pod.map(|pod| Scope::Pod(pod.to_owned())),
            (name == state.zone.service).then_some(Scope::Service),
            Some(Scope::All),
        ];
        let fault = scopes
            .into_iter()
            .flatten()
            .find_map(|scope| state.faults.get(&scope));
        let fault = fault.copied();
        let from = from.to_owned();
        let question = Question {
            at: Instant::now(),
            from,
            name,
            kind: kind.to_string(),
            tcp,
        };
        state.questions.push(question);
        fault
    }

    /// The answer of this moment: remembered, frozen, or true.
    fn answer(&self, name: &Name, kind: RecordType, fault: Option<Fault>) -> Result<Answer> {
        match fault {
            Some(Fault::Nxdomain) => return Ok(Answer::only(ResponseCode::NXDomain)),
            Some(Fault::ServFail) => return Ok(Answer::only(ResponseCode::ServFail)),
            Some(Fault::Refused) => return Ok(Answer::only(ResponseCode::Refused)),
            Some(Fault::Empty) => return Ok(Answer::only(ResponseCode::NoError)),
            _ => {}
        }
        let mut state = lock(&self.state);
        let key = (name.to_lowercase().to_ascii(), kind);
        if let Some(remember_for) = state.remember_for
            && let Some((since, answer)) = state.remembered.get(&key)
            && since.elapsed() < remember_for
        {
            return Ok(answer.clone());
        }
        let answer = state
            .stale
            .as_ref()
            .unwrap_or(&state.zone)
            .answer(name, kind)?;
        if state.remember_for.is_some() {
            state
                .remembered
                .insert(key, (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }
}
