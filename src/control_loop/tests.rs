//! What the loop itself answers for: what is late, and what is repeated.

use super::*;
use crate::model::observation::{Volume, VolumeNote};

/// A loop whose Redis cannot be reached, with its volume and nameserver.
fn control_loop(data: &tempfile::TempDir, nameserver: &str) -> ControlLoop {
    let folder = data.path().display().to_string();
    let args = [
        "redis-sidecar",
        "--pod-name=redis-app-0",
        "--pod-ip=127.0.0.1",
        "--headless-service=redis",
        "--redis-port=1",
        &format!("--dns-server={nameserver}"),
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
        desk: Desk::new(),
        publisher,
        heartbeat: Heartbeat::new(),
        counters: Counters::new(),
        gate: Default::default(),
    };
    ControlLoop::new(config, outlets).expect("a loop")
}

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
async fn a_round_acts_within_a_second_of_its_questions() {
    // One that takes every question and answers none.
    let bound = (0..100).find_map(|_| {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
        let address = udp.local_addr().ok()?;
        let tcp = std::net::TcpListener::bind(address).ok()?;
        Some((address, udp, tcp))
    });
    let (address, _udp, _tcp) = bound.expect("a port that is free for both");
    let data = tempfile::tempdir().expect("a folder");
    let mut control_loop = control_loop(&data, &address.to_string());
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

/// S1: an action whose evidence got too old between the judgement and its turn is left out.
#[tokio::test]
async fn an_action_that_comes_too_late_is_left_out() {
    let data = tempfile::tempdir().expect("a folder");
    let mut control_loop = control_loop(&data, "127.0.0.1:1");
    let planned = |not_after| Planned {
        action: Action::Remember(VolumeNote::default()),
        evidence: "a test".to_owned(),
        not_after,
    };
    while control_loop.now() <= Moment(1) {
        tokio::task::yield_now().await;
    }
    control_loop.act(&[planned(Some(Moment(1)))]).await;
    assert_eq!(control_loop.files.note.read(), Volume::Blank);
    let later = control_loop.now() + Duration::from_secs(60);
    control_loop.act(&[planned(Some(later))]).await;
    assert_eq!(
        control_loop.files.note.read(),
        Volume::Says(VolumeNote::default())
    );
}
