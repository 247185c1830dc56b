//! The one loop: wake up, observe, decide, act, publish. It alone reads a clock, keeps the order
//! and the deadlines, and logs what changed. A wake-up carries no facts; it only starts a round.

use crate::act::{self, Files, Outcome};
use crate::config::Config;
use crate::decide::decide;
use crate::decide::memory::Memory;
use crate::decide::policy::Policy;
use crate::model::decision::{Action, Decision, Planned};
use crate::model::kept_conf::{ConfLock, DataOnVolume, KeptConf};
use crate::model::observation::{Observation, OwnRedis, Refusal, Silence};
use crate::model::time::{Moment, WallTime};
use crate::observe::doubted_peers::DoubtedPeers;
use crate::observe::folder_watch::FolderWatch;
use crate::observe::peer_watch::PeerWatch;
use crate::observe::peers::{NotADnsName, PeerFinder, PeerNames};
use crate::observe::{nodes_conf, own_redis};
use crate::operate::desk::Desk;
use crate::publish::heartbeat::Heartbeat;
use crate::publish::metrics::Counters;
use crate::publish::snapshot;
use crate::publish::start_gate::StartGate;
use crate::publish::status::Status;
use crate::redis_link::{CredentialStore, HandOverLink, LinkTimeouts, ReadLink, WriteLink};
use crate::volume::NoteFile;
use crate::volume::conf_copies::ConfCopies;
use crate::volume::history_file::HistoryFile;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For connecting to the own Redis, and for its answers, each.
const OWN_REDIS: LinkTimeouts = LinkTimeouts {
    connect: Duration::from_millis(800),
    answer: Duration::from_millis(1500),
};
/// For a replica that is to take over.
const PEER_REDIS: LinkTimeouts = LinkTimeouts {
    connect: Duration::from_millis(400),
    answer: Duration::from_millis(800),
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
    before_redis: bool,
    credentials: CredentialStore,
    read: ReadLink,
    write: WriteLink,
    peers: PeerWatch,
    doubted: DoubtedPeers,
    watch: FolderWatch,
    files: Files,
    last: Last,
    outlets: Outlets,
}

/// What the last round left for this one.
#[derive(Default)]
struct Last {
    decision: Option<Decision>,
    was_replica: bool,
    redis_seen: bool,
    refusals: Vec<(Moment, Refusal)>,
    volume_error: Option<String>,
    conf_error: Option<String>,
    history_error: Option<String>,
    logged: String,
    dry_logged: BTreeSet<String>,
}

impl Last {
    /// Why the file of this action could not be written last time.
    fn error_of(&mut self, action: &Action) -> Option<&mut Option<String>> {
        match action {
            Action::Remember(_) => Some(&mut self.volume_error),
            Action::KeepConf(_) | Action::RestoreConf { .. } => Some(&mut self.conf_error),
            Action::Record(_) => Some(&mut self.history_error),
            _ => None,
        }
    }
}

/// Where the loop's results go.
pub struct Outlets {
    /// The snapshot for HTTP.
    pub publisher: watch::Sender<Arc<Status>>,
    /// The sign of life for `/livez`.
    pub heartbeat: Heartbeat,
    /// The numbers for `/metrics`.
    pub counters: Counters,
    /// Whether something asks before it starts Redis.
    pub gate: StartGate,
    /// What is asked over the socket, and what becomes of it.
    pub desk: Desk,
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
            policy: policy(&config),
            memory: Memory::default(),
            started: clock(),
            before_redis: false,
            read: ReadLink::new(host, port, OWN_REDIS, current.clone()),
            write: WriteLink::new(host, port, OWN_REDIS, current),
            credentials,
            peers: PeerWatch::new(PeerFinder::new(config.dns_server, &names, DNS_TIMEOUT)?),
            doubted: DoubtedPeers::new(config.http_addr.port()),
            watch: FolderWatch::new(&config.nodes_conf),
            files: Files {
                note: NoteFile::new(&config.data_dir),
                conf: ConfCopies::new(&config.data_dir, &config.nodes_conf),
                history: HistoryFile::read(&config.data_dir),
            },
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
                () = self.outlets.desk.woken() => woken_by_file = true,
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
        self.files.history.add(&decision.events);
        self.outlets.counters.round(began.elapsed());
        self.publish(&seen, &decision);
        self.say_once_who_holds_redis_back(&seen.own);
        self.outlets.desk.answer(&decision.answers);
        self.log_changes(&decision);
        self.act(&decision.actions).await;
        self.write.hang_up();
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
        let find = self
            .peers
            .peers(now, dns_age_max, self.policy.expected_peers(), ask_missing);
        let (dns, own, answers) = tokio::join!(
            find,
            own_redis::read(&mut self.read, self.last.was_replica),
            self.doubted.ask(&ask, &credentials, now),
        );
        self.last.was_replica = matches!(&own, OwnRedis::Up(own) if own.server.replica.is_some());
        let kept = self.kept(&own);
        self.last
            .refusals
            .retain(|(at, _)| now - *at < REFUSALS_KEPT);
        Observation {
            now,
            wall: WallTime(jiff::Timestamp::now().as_millisecond()),
            own,
            file: nodes_conf::read(&self.config.nodes_conf),
            kept,
            dns,
            answers,
            volume: self.files.note.read(),
            volume_error: self.last.volume_error.clone(),
            history: self.files.history.seen(self.last.history_error.as_ref()),
            refusals: self
                .last
                .refusals
                .iter()
                .map(|(_, refusal)| refusal.clone())
                .collect(),
            asked: self.outlets.desk.asked(now),
        }
    }

    /// The copies of nodes.conf, and what only a Redis that is down has anybody ask.
    fn kept(&mut self, own: &OwnRedis) -> KeptConf {
        let down = matches!(own, OwnRedis::Silent(Silence::Refused(_)));
        KeptConf {
            copies: self.files.conf.read(),
            error: self.last.conf_error.clone(),
            lock: if down && self.before_redis {
                self.files.conf.lock()
            } else {
                ConfLock::NotTried
            },
            data: if down {
                self.files.conf.data()
            } else {
                DataOnVolume::Unknown
            },
        }
    }

    /// Who runs beside Redis in a plain second container learns here what that cannot do.
    fn say_once_who_holds_redis_back(&mut self, own: &OwnRedis) {
        if self.last.redis_seen || !matches!(own, OwnRedis::Up(_) | OwnRedis::Loading(..)) {
            return;
        }
        self.last.redis_seen = true;
        if !self.before_redis && !self.outlets.gate.was_asked() {
            tracing::info!(
                "Redis runs, and nothing has asked this sidecar's /startz before: it cannot hold an empty Redis \
                 back; the init container can, and so can a native sidecar with a startup probe on /startz"
            );
        }
    }

    fn publish(&self, seen: &Observation, decision: &Decision) {
        let mut status = snapshot::status(&self.config, seen, decision);
        status.history = self.files.history.all();
        self.outlets.publisher.send_replace(Arc::new(status));
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
        for planned in actions {
            let Planned {
                action, evidence, ..
            } = planned;
            if planned.not_after.is_some_and(|last| self.now() > last) {
                tracing::debug!(action = action.name(), evidence, "too late to {action}");
                continue;
            }
            if self.policy.dry_run {
                if self.last.dry_logged.insert(action.to_string()) {
                    tracing::info!(action = action.name(), evidence, "would {action}");
                }
                continue;
            }
            let outcome = match action {
                Action::HandOver {
                    replica, socket, ..
                } => {
                    let credentials = self.credentials.current().clone();
                    let link = HandOverLink::new(*socket, PEER_REDIS, credentials);
                    act::hand_over(action, &replica.to_string(), link).await
                }
                _ => act::carry_out(action, &mut self.write, &mut self.files).await,
            };
            self.count(action, &outcome);
            let now = self.now();
            match outcome {
                Outcome::Done => {
                    tracing::info!(action = action.name(), evidence, "{action}");
                    let done = action.to_string();
                    self.last.refusals.retain(|(_, r)| r.action != done);
                    if let Some(error) = self.last.error_of(action) {
                        *error = None;
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
                    let last = self.last.error_of(action);
                    if last.as_ref().is_none_or(|l| l.as_ref() != Some(&error)) {
                        tracing::warn!(
                            action = action.name(),
                            evidence,
                            error,
                            "could not {action}"
                        );
                    }
                    if let Some(last) = last {
                        *last = Some(error);
                    }
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

/// Keeps a refusal, once however often it is repeated, and says whether it is new.
fn refused_anew(kept: &mut Vec<(Moment, Refusal)>, now: Moment, refusal: &Refusal) -> bool {
    let before = kept.len();
    kept.retain(|(_, known)| known != refusal);
    let anew = kept.len() == before;
    kept.push((now, refusal.clone()));
    anew
}

/// Whoever relies on the start gate should know when it was not asked.
fn policy(config: &Config) -> Policy {
    let policy = Policy::from(config);
    #[cfg(debug_assertions)]
    let policy = with_times_of_tests(policy);
    policy
}

/// In a build for tests, so that they need not wait for two minutes; a release has no such thing.
#[cfg(debug_assertions)]
#[allow(clippy::disallowed_methods, reason = "not in a release")]
fn with_times_of_tests(mut policy: Policy) -> Policy {
    let ms = |name: &str| {
        let ms = std::env::var(name).ok()?.parse().ok()?;
        Some(Duration::from_millis(ms))
    };
    if let Some(time) = ms("TEST_GHOSTS_GONE_FOR_MS") {
        policy.ghosts = crate::decide::policy::GhostTimes {
            gone_for: time,
            no_meet_for: ms("TEST_NO_MEET_FOR_MS").unwrap_or(time / 2),
        };
    }
    policy
}

/// The clock that the agent's judgement rests on. The time of day, which may jump, is beside it in the
/// observation: for people, and for the end of a pause that outlives this agent.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads this clock"
)]
fn clock() -> Instant {
    Instant::now()
}

mod before_redis;

#[cfg(test)]
mod tests;
