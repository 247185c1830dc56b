//! Hastening against a real server: it works, and it leaves nothing behind whatever happens to the
//! agent. Not here: when to hasten (`src/decide/hasten.rs`).

use super::*;
use crate::model::decision::{Action, Nudge};
use crate::model::info::{Info, ServerFacts};

const CONFIGURED_MS: u64 = 15_000;

async fn info(server: &Server, read: Read) -> Info {
    let answers = server.read_link(None).ask(&[read]).await.unwrap();
    let Ok(info) = text(&answers[0]).unwrap().parse();
    info
}

async fn facts(server: &Server) -> ServerFacts {
    ServerFacts::from(&info(server, Read::Info).await)
}

/// `cluster-node-timeout` and `cluster-replica-no-failover`.
async fn settings(server: &Server) -> [String; 2] {
    let mut link = server.read_link(None);
    let answers = link.ask(&[Read::ConfigGetCluster]).await.unwrap();
    let pairs: Vec<(String, String)> = redis::from_redis_value(answers[0].clone()).unwrap();
    ["cluster-node-timeout", "cluster-replica-no-failover"].map(|name| {
        let found = pairs.iter().find(|pair| pair.0 == name);
        found.unwrap().1.clone()
    })
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send(server: &Server, write: Write) -> Result<String, ServerErrorText> {
    let mut link = server.write_link(None);
    link.send(&[write]).await.unwrap().remove(0)
}

/// A master that has just been given all slots.
async fn new_master() -> Server {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    // CLUSTER_WRITABLE_DELAY: before that no master that has just started is ok.
    wait_for("up for 3 s", async || facts(&server).await.uptime_s >= 3).await;
    let all = Write::AddSlots(vec![(0, 16383)]);
    send(&server, all).await.unwrap();
    server
}

/// A linked replica of it.
async fn replica_of(master: &Server) -> Server {
    let replica = Server::start(&["--cluster-enabled", "yes"]).await;
    let mut link = master.read_link(None);
    let answers = link.ask(&[Read::ClusterMyId]).await.unwrap();
    let id = text(&answers[0]).unwrap();
    let meet = Write::Meet {
        ip: std::net::Ipv4Addr::LOCALHOST.into(),
        port: master.port,
        bus_port: master.port + 10_000,
    };
    send(&replica, meet).await.unwrap();
    wait_for("it replicates", async || {
        send(&replica, Write::Replicate(id.clone())).await.is_ok()
    })
    .await;
    wait_for("it is linked", async || {
        let info = info(master, Read::Info).await;
        info.get("slave0")
            .is_some_and(|line| line.contains("state=online"))
    })
    .await;
    replica
}

/// The one write that hastens, as the agent would send it to this server.
async fn hastening(server: &Server) -> Vec<u8> {
    let nudge = match facts(server).await.version.setslot_waits() {
        true => Nudge::NoFailover(false),
        false => Nudge::StableSlot(0),
    };
    let hasten = Action::Hasten {
        short_ms: 501,
        nudge,
        restore_ms: CONFIGURED_MS,
    };
    pipeline(&without_answers(&crate::act::commands(&hasten))).get_packed_pipeline()
}

/// Cuts off what the kernel cuts off when a process dies: the connection, right after the one
/// write, with the answers unread or not even given; and looks when the server is through with it.
async fn die_after(bytes: &[u8], server: &Server) -> [String; 2] {
    let mut dying = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    std::io::Write::write_all(&mut dying, bytes).unwrap();
    drop(dying);
    // Connections are accepted in their order, so the one that asks this comes after it.
    wait_for("the server is through with the connection", async || {
        let clients = info(server, Read::Info).await;
        clients.get("connected_clients") == Some("1")
    })
    .await;
    settings(server).await
}

/// S13 and promise 7: an agent that is killed the moment it has hastened leaves nothing behind.
#[tokio::test]
async fn hastening_is_over_for_good_even_if_the_connection_ends_at_once() {
    let server = new_master().await;
    let took_slots = Instant::now();
    let bytes = hastening(&server).await;
    let mut tries = 0;
    while info(&server, Read::ClusterInfo).await.get("cluster_state") != Some("ok") {
        tries += 1;
        let left = die_after(&bytes, &server).await;
        assert_eq!(left, ["15000", "no"], "try {tries}");
        let took = took_slots.elapsed();
        // By itself Redis would take 5 s.
        assert!(
            took < Duration::from_secs(4),
            "not ok after {took:?}, {tries} tries"
        );
    }
    assert!(tries > 0, "it was ok by itself");
}

/// The same while a replica is frozen: from Valkey 8.0 some commands wait for it, and are given up
/// together with all behind them when the connection ends.
#[tokio::test]
async fn a_frozen_replica_does_not_hold_the_end_of_hastening_back() {
    let server = new_master().await;
    let replica = replica_of(&server).await;
    replica.signal("-STOP");
    let asked = Instant::now();
    let left = die_after(&hastening(&server).await, &server).await;
    assert_eq!(left, ["15000", "no"]);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}
