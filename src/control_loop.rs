//! The one loop: wake up, observe, decide, act, publish. It alone reads a clock, keeps the order
//! and the deadlines, and logs what changed. A wake-up carries no facts; it only starts a round.

use crate::act::{self, Outcome};
use crate::config::Config;
use crate::decide::decide;
use crate::decide::memory::Memory;
use crate::decide::policy::Policy;
use crate::model::decision::{Action, Decision, Planned};
use crate::model::observation::{Observation, OwnRedis, Refusal};
use crate::model::peers::PeersSeen;
use crate::model::time::Moment;
use crate::observe::doubted_peers::DoubtedPeers;
use crate::observe::folder_watch::FolderWatch;
use crate::observe::peers::{NotADnsName, PeerFinder, PeerNames};
use crate::observe::{nodes_conf, own_redis};
use crate::publish::heartbeat::Heartbeat;
use crate::publish::metrics::Counters;
use crate::publish::snapshot;
use crate::publish::status::Status;
use crate::redis_link::{CredentialStore, LinkTimeouts, ReadLink, WriteLink};
use crate::volume::NoteFile;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For connecting to the own Redis, and for its answers, each.
const OWN_REDIS: LinkTimeouts = LinkTimeouts {
    connect: Duration::from_millis(800),
    answer: Duration::from_millis(1500),
};
/// Rounds in quick succession share one DNS answer.
const DNS_EVERY: Duration = Duration::from_millis(150);
/// A change of nodes.conf is to be published at once, whatever DNS does.
const DNS_WHEN_WOKEN: Duration = Duration::from_secs(3);
/// For one DNS question.
const DNS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a refusal stays among the reasons; longer than rules wait before they try again.
const REFUSALS_KEPT: Duration = Duration::from_secs(15);

/// Everything the loop owns.
pub struct ControlLoop {
    config: Config,
    policy: Policy,
    memory: Memory,
    started: Instant,
    credentials: CredentialStore,
    read: ReadLink,
    write: WriteLink,
    finder: PeerFinder,
    doubted: DoubtedPeers,
    watch: FolderWatch,
    note: NoteFile,
    last: Last,
    outlets: Outlets,
}

/// What the last round left for this one.
#[derive(Default)]
struct Last {
    decision: Option<Decision>,
    was_replica: bool,
    dns: Option<(Moment, PeersSeen)>,
    refusals: Vec<(Moment, Refusal)>,
    volume_error: Option<String>,
    logged: String,
    dry_logged: BTreeSet<String>,
}

/// Where the loop's results go.
pub struct Outlets {
    /// The snapshot for HTTP.
    pub publisher: watch::Sender<Arc<Status>>,
    /// The sign of life for `/livez`.
    pub heartbeat: Heartbeat,
    /// The numbers for `/metrics`.
    pub counters: Counters,
}

impl ControlLoop {
    /// A loop that has not looked at anything yet.
    ///
    /// # Errors
    /// The Service, namespace and domain together are no DNS name.
    pub fn new(config: Config, outlets: Outlets) -> Result<ControlLoop, NotADnsName> {
        let names = PeerNames {
            set: config.pod.set.clone(),
            service: config.headless_service.clone(),
            namespace: config.namespace.clone(),
            cluster_domain: config.cluster_domain.clone(),
        };
        let mut credentials =
            CredentialStore::new(config.username.clone(), config.password.clone());
        let current = credentials.current().clone();
        let (host, port) = (config.redis_host.as_str(), config.redis_port);
        Ok(ControlLoop {
            policy: Policy::from(&config),
            memory: Memory::default(),
            started: clock(),
            read: ReadLink::new(host, port, OWN_REDIS, current.clone()),
            write: WriteLink::new(host, port, OWN_REDIS, current),
            credentials,
            finder: PeerFinder::new(config.dns_server, &names, DNS_TIMEOUT)?,
            doubted: DoubtedPeers::new(config.http_addr.port()),
            watch: FolderWatch::new(&config.nodes_conf),
            note: NoteFile::new(&config.data_dir),
            last: Last::default(),
            outlets,
            config,
        })
    }

    /// Runs until `shutdown` is over; a round that has begun is finished first.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut woken_by_file = false;
        loop {
            self.outlets.heartbeat.beat();
            let pause = self.round(woken_by_file).await;
            let deadline = tokio::time::Instant::now() + pause;
            self.watch.rearm();
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep_until(deadline) => woken_by_file = false,
                () = self.watch.changed() => woken_by_file = true,
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Observe, decide, publish, act. Returns how long to wait for the next one.
    ///
    /// Published before acting: an action may take its time, and the truth should not.
    async fn round(&mut self, woken_by_file: bool) -> Duration {
        let began = clock();
        let seen = self.observe(woken_by_file).await;
        let (memory, decision) = decide(&self.policy, &self.memory, &seen);
        self.memory = memory;
        self.outlets.counters.round(began.elapsed());
        self.publish(&seen, &decision);
        self.log_changes(&decision);
        self.act(&decision.actions).await;
        let pause = decision.next_round_in;
        self.last.decision = Some(decision);
        pause
    }

    async fn observe(&mut self, woken_by_file: bool) -> Observation {
        let now = self.now();
        let credentials = self.credentials.current().clone();
        self.read.set_credentials(&credentials);
        self.write.set_credentials(&credentials);
        let (ask, ask_missing) = match &self.last.decision {
            Some(decision) => (decision.ask.clone(), decision.ask_missing),
            None => (BTreeSet::new(), false),
        };
        if ask.is_empty() {
            self.doubted.rest();
        }
        let dns_age_max = if woken_by_file {
            DNS_WHEN_WOKEN
        } else {
            DNS_EVERY
        };
        let remembered = self
            .last
            .dns
            .take()
            .filter(|(at, _)| now - *at < dns_age_max);
        let find = async {
            match remembered {
                Some(known) => known,
                None => (
                    now,
                    self.finder
                        .find(self.policy.expected_peers(), ask_missing)
                        .await,
                ),
            }
        };
        let ((dns_at, dns), own, answers) = tokio::join!(
            find,
            own_redis::read(&mut self.read, self.last.was_replica),
            self.doubted.ask(&ask, &credentials, now),
        );
        self.last.was_replica = matches!(&own, OwnRedis::Up(own) if own.server.replica.is_some());
        self.last.dns = Some((dns_at, dns.clone()));
        self.last
            .refusals
            .retain(|(at, _)| now - *at < REFUSALS_KEPT);
        Observation {
            now,
            own,
            file: nodes_conf::read(&self.config.nodes_conf),
            dns,
            answers,
            volume: self.note.read(),
            volume_error: self.last.volume_error.clone(),
            refusals: self
                .last
                .refusals
                .iter()
                .map(|(_, refusal)| refusal.clone())
                .collect(),
        }
    }

    fn publish(&self, seen: &Observation, decision: &Decision) {
        let status = Arc::new(snapshot::status(&self.config, seen, decision));
        self.outlets.publisher.send_replace(status);
    }

    fn count(&self, action: &Action, outcome: &Outcome) {
        self.outlets.counters.action(action.name());
        if *outcome != Outcome::Done {
            self.outlets.counters.action_failure(action.name());
        }
    }

    /// One line when role, stage, readiness or the codes of the reasons change; their numbers may
    /// change every round, and are in `/readyz`.
    fn log_changes(&mut self, decision: &Decision) {
        let codes: Vec<&str> = decision
            .reasons
            .iter()
            .map(|reason| reason.code.as_str())
            .collect();
        let view = &decision.view;
        let (role, stage, ready) = (view.role.as_str(), decision.stage, decision.ready);
        let line = format!(
            "{role} {stage:?} {ready} {codes:?} {:?} {}",
            view.replica_of, view.slots
        );
        if line != self.last.logged {
            let why: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
            let replica_of = view.replica_of.as_deref().unwrap_or("-");
            let (slots, why) = (view.slots.to_string(), why.join("; "));
            tracing::info!(role, ?stage, ready, slots, replica_of, why, "state");
            self.last.logged = line;
        }
    }

    async fn act(&mut self, actions: &[Planned]) {
        for Planned { action, evidence } in actions {
            if self.policy.dry_run {
                if self.last.dry_logged.insert(action.to_string()) {
                    tracing::info!(action = action.name(), evidence, "would {action}");
                }
                continue;
            }
            let outcome = act::carry_out(action, &mut self.write, &self.note).await;
            self.count(action, &outcome);
            let now = self.now();
            match outcome {
                Outcome::Done => {
                    tracing::info!(action = action.name(), evidence, "{action}");
                    if matches!(action, Action::Remember(_)) {
                        self.last.volume_error = None;
                    }
                }
                Outcome::Refused(refusal) => {
                    if refused_anew(&mut self.last.refusals, now, &refusal) {
                        tracing::warn!(
                            action = action.name(),
                            evidence,
                            error = refusal.error,
                            "could not {action}"
                        );
                    }
                }
                Outcome::NotWritten(error) => {
                    if self.last.volume_error.as_ref() != Some(&error) {
                        tracing::warn!(
                            action = action.name(),
                            evidence,
                            error,
                            "could not {action}"
                        );
                    }
                    self.last.volume_error = Some(error);
                }
                Outcome::NoAnswer(error) => {
                    tracing::warn!(
                        action = action.name(),
                        evidence,
                        error,
                        "no answer to: {action}"
                    );
                    // What Redis cannot answer now it cannot answer for the rest either.
                    return;
                }
            }
        }
    }
}

/// The only clock that the agent's judgement ever sees.
/// Keeps a refusal, once however often it is repeated, and says whether it is new.
fn refused_anew(kept: &mut Vec<(Moment, Refusal)>, now: Moment, refusal: &Refusal) -> bool {
    let before = kept.len();
    kept.retain(|(_, known)| known != refusal);
    let anew = kept.len() == before;
    kept.push((now, refusal.clone()));
    anew
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads a clock"
)]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_is_repeated_is_kept_once_and_logged_once() {
        let refusal = |error: &str| Refusal {
            action: "meet".to_owned(),
            error: error.to_owned(),
        };
        let mut kept = Vec::new();
        assert!(refused_anew(&mut kept, Moment(1000), &refusal("ERR a")));
        assert!(!refused_anew(&mut kept, Moment(1300), &refusal("ERR a")));
        assert!(refused_anew(&mut kept, Moment(1600), &refusal("ERR b")));
        assert!(!refused_anew(&mut kept, Moment(1900), &refusal("ERR a")));
        let times: Vec<u64> = kept.iter().map(|(at, _)| at.0).collect();
        assert_eq!(times, [1600, 1900]);
    }

    /// S1: what is acted on is no older than a second. A nameserver that does not answer makes it so:
    /// the peers are asked when the round begins, and the round acts when DNS has been given up.
    #[tokio::test]
    #[ignore = "not so today: see the review; run with --ignored"]
    async fn a_round_acts_within_a_second_of_its_questions() {
        let nameserver = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let address = nameserver.local_addr().expect("an address");
        let _tcp = std::net::TcpListener::bind(address).expect("bound");
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().display().to_string();
        let args = [
            "redis-sidecar",
            "--pod-name=redis-app-0",
            "--pod-ip=127.0.0.1",
            "--headless-service=redis",
            "--redis-port=1",
            &format!("--dns-server={address}"),
            &format!("--data-dir={folder}"),
        ];
        let surroundings = crate::config::Surroundings {
            env: &|_| None,
            hostname: &|| None,
            log_to_terminal: false,
        };
        let config = Config::load(args.map(Into::into), surroundings).expect("a configuration");
        let (publisher, _status) = watch::channel(Arc::new(Status::starting(&config)));
        let outlets = Outlets {
            publisher,
            heartbeat: Heartbeat::new(),
            counters: Counters::new(),
        };
        let mut control_loop = ControlLoop::new(config, outlets).expect("a loop");
        let seen = control_loop.observe(false).await;
        let (_, mut decision) = decide(&control_loop.policy, &control_loop.memory, &seen);
        decision.ask_missing = true;
        control_loop.last.decision = Some(decision);
        let seen = control_loop.observe(false).await;
        let age = control_loop.now() - seen.now;
        assert!(
            age <= crate::decide::memory::FRESH,
            "decides on answers {age:?} old, as if 0 s old"
        );
    }
}
