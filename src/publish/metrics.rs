//! The numbers, as Prometheus text.
//!
//! In: the last snapshot, and the counters that the control loop counts on. Out: one text per
//! scrape, made from both without waiting for anything.
//!
//! Not here: HTTP, and numbers that the snapshot does not have.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::heartbeat::Heartbeat;
use super::status::{Role, Status, VERSION};

/// One label and its value.
type Label = [(&'static str, &'static str); 1];
type Seconds = Gauge<f64, AtomicU64>;

/// What happened since the start. Clones count together.
#[derive(Debug, Clone)]
pub struct Counters {
    rounds: Counter,
    round_duration: Histogram,
    actions: Family<Label, Counter>,
    action_failures: Family<Label, Counter>,
}

impl Counters {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rounds: Counter::default(),
            // 1 ms to about 4 s: a round has its own deadlines.
            round_duration: Histogram::new(exponential_buckets(0.001, 4.0, 7)),
            actions: Family::default(),
            action_failures: Family::default(),
        }
    }

    /// A round has ended.
    pub fn round(&self, duration: Duration) {
        self.rounds.inc();
        self.round_duration.observe(duration.as_secs_f64());
    }

    /// An action was ordered; the name is one of a small fixed set.
    pub fn action(&self, action: &'static str) {
        self.actions.get_or_create(&[("action", action)]).inc();
    }

    /// Such an action failed.
    pub fn action_failure(&self, action: &'static str) {
        self.action_failures
            .get_or_create(&[("action", action)])
            .inc();
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// The text for one scrape; valid as OpenMetrics and as the older Prometheus format.
pub fn text(
    status: &Status,
    counters: &Counters,
    heartbeat: &Heartbeat,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("redis_sidecar");
    of_status(&mut registry, status);
    of_agent(&mut registry, counters, heartbeat);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn of_status(registry: &mut Registry, status: &Status) {
    registry.register(
        "ready",
        "Whether this node does its part",
        gauge(u64::from(status.ready())),
    );
    let roles = Family::<Label, Gauge>::default();
    for role in [Role::Master, Role::Replica, Role::None] {
        let is_role = i64::from(role == status.role);
        roles.get_or_create(&[("role", role.as_str())]).set(is_role);
    }
    registry.register("role", "1 for what this node is, 0 for the others", roles);
    let slots = status
        .slots
        .iter()
        .map(|(first, last)| u64::from(last.saturating_sub(*first)) + 1)
        .sum();
    registry.register("slots", "How many slots this node owns", gauge(slots));
    if let Some(lag) = status.lag_bytes {
        registry.register(
            "lag_bytes",
            "How far this replica is behind its master; absent where not known",
            gauge(lag),
        );
    }
    let reasons = Family::<Label, Gauge>::default();
    for reason in &status.reasons {
        reasons
            .get_or_create(&[("code", reason.code.as_str())])
            .set(1);
    }
    registry.register(
        "reasons",
        "1 for each reason that /readyz shows now",
        reasons,
    );
    registry.register(
        "peers_known",
        "How many other pods were found",
        gauge(u64::from(status.peers_known)),
    );
}

fn of_agent(registry: &mut Registry, counters: &Counters, heartbeat: &Heartbeat) {
    registry.register(
        "rounds",
        "Rounds of the control loop",
        counters.rounds.clone(),
    );
    registry.register_with_unit(
        "round_duration",
        "How long a round took",
        Unit::Seconds,
        counters.round_duration.clone(),
    );
    let age = Seconds::default();
    age.set(heartbeat.age().as_secs_f64());
    registry.register_with_unit(
        "last_round_age",
        "Time since the control loop last gave a sign of life",
        Unit::Seconds,
        age,
    );
    registry.register(
        "actions",
        "Actions ordered from Redis",
        counters.actions.clone(),
    );
    registry.register(
        "action_failures",
        "Actions that Redis refused or did not answer",
        counters.action_failures.clone(),
    );
    // A gauge, not an info metric: the older format has no such type.
    let build = Family::<Label, Gauge>::default();
    build.get_or_create(&[("version", VERSION)]).set(1);
    registry.register("build_info", "The version of this program", build);
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{master, replica};
    use super::*;

    fn lines(status: &Status, counters: &Counters) -> Vec<String> {
        let text = text(status, counters, &Heartbeat::new()).unwrap();
        assert!(text.ends_with("# EOF\n"));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_snapshot_and_the_counters_show() {
        let counters = Counters::new();
        counters.round(Duration::from_millis(3));
        counters.clone().action("meet");
        counters.action("meet");
        counters.action_failure("replicate");
        let lines = lines(&replica(), &counters);
        let version = format!("redis_sidecar_build_info{{version=\"{VERSION}\"}} 1");
        for line in [
            "redis_sidecar_ready 0",
            "redis_sidecar_role{role=\"replica\"} 1",
            "redis_sidecar_role{role=\"master\"} 0",
            "redis_sidecar_slots 0",
            "redis_sidecar_lag_bytes 12",
            "redis_sidecar_reasons{code=\"replica-link-down\"} 1",
            "redis_sidecar_reasons{code=\"too-few-masters\"} 1",
            "redis_sidecar_peers_known 5",
            "redis_sidecar_rounds_total 1",
            "redis_sidecar_round_duration_seconds_count 1",
            "redis_sidecar_actions_total{action=\"meet\"} 2",
            "redis_sidecar_action_failures_total{action=\"replicate\"} 1",
            &version,
        ] {
            assert!(
                lines.iter().any(|found| found == line),
                "{line} in {lines:#?}"
            );
        }
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("redis_sidecar_last_round_age_seconds "))
        );
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let lines = lines(&master(), &Counters::new());
        assert!(lines.contains(&"redis_sidecar_slots 5462".to_owned()));
        assert!(!lines.iter().any(|line| line.contains("lag_bytes")));
    }
}
