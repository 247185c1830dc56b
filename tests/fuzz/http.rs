//! Raw bytes over sockets: to the agent's own HTTP side, and from a peer's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use redis_sidecar::config::{Config, Surroundings};
use redis_sidecar::observe::peer_http::fetch_role;
use redis_sidecar::publish::heartbeat::Heartbeat;
use redis_sidecar::publish::http::{self, AppState};
use redis_sidecar::publish::metrics::Counters;
use redis_sidecar::publish::server::{self, Limits};
use redis_sidecar::publish::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::mutations::{Damaged, damaged, seeds};
use super::play::play;

const LIMITS: Limits = Limits {
    connections_max: 16,
    head_max: Duration::from_millis(150),
    life_max: Duration::from_millis(300),
};
/// Far more than the limits, and less than for ever.
const BOUND: Duration = Duration::from_secs(20);
const PEER_DEADLINE: Duration = Duration::from_millis(40);
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// The server as it ships, on a thread of its own, a moment after the agent's start.
fn started(runtime: &Runtime) -> SocketAddr {
    let env = |name: &str| match name {
        "POD_IP" => Some("10.0.0.7".into()),
        "HEADLESS_SERVICE" => Some("redis-headless".into()),
        _ => None,
    };
    let surroundings = Surroundings {
        env: &env,
        hostname: &|| Some("redis-app-0".to_owned()),
        log_to_terminal: false,
    };
    let config = Config::load(["redis-sidecar".into()], surroundings).unwrap();
    let router = http::router(AppState {
        status: watch::channel(Arc::new(Status::starting(&config))).1,
        heartbeat: Heartbeat::new(),
        counters: Counters::new(),
        gate: Default::default(),
    });
    runtime.block_on(async {
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server::serve(
            listener,
            router,
            LIMITS,
            std::future::pending(),
        ));
        address
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Sends the parts one after another, and reads until the server closes.
async fn exchange(address: SocketAddr, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut answer = Vec::new();
    converse(address, parts, |bytes| answer.extend_from_slice(bytes)).await;
    answer
}

/// Sends the parts, whether or not they are read, and hands over what comes back until the server closes.
async fn converse(address: SocketAddr, parts: &[Vec<u8>], mut hear: impl FnMut(&[u8])) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        for part in parts {
            // The server may have closed already.
            let _ = to.write_all(part).await;
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut buffer = vec![0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            hear(&buffer[..count]);
        }
    };
    tokio::join!(reading, sending);
}

fn requests() -> Vec<Vec<u8>> {
    let paths = [
        "/livez",
        "/readyz?format=json",
        "/role",
        "/cluster",
        "/history",
        "/metrics",
        "/%00?%ff&format=&=",
    ];
    let mut requests: Vec<String> = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nUser-Agent: kube-probe/1.31\r\nAccept: */*\r\n\r\n"))
        .collect();
    requests.push(requests.concat());
    requests.push("HEAD /role HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned());
    requests.push(
        "POST /role HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
            .to_owned(),
    );
    requests.push("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX: y\r\n\r\n".to_owned());
    requests.push("GET /role HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n".to_owned());
    requests.push("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned());
    requests.push(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(90)));
    requests.push("*1\r\n$4\r\nINFO\r\n".to_owned());
    requests.into_iter().map(String::into_bytes).collect()
}

#[test]
fn raw_requests() {
    let runtime = runtime();
    let address = started(&runtime);
    let cuts = prop::collection::vec(any::<Index>(), 0..3);
    play(
        "raw_requests",
        30,
        (damaged(requests()), cuts),
        |(Damaged(bytes), cuts)| {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for to in at.into_iter().chain([bytes.len()]) {
                parts.push(bytes[from..to].to_vec());
                from = to;
            }
            let answer = runtime
                .block_on(async { tokio::time::timeout(BOUND, exchange(address, &parts)).await });
            let Ok(answer) = answer else {
                return Err(TestCaseError::fail("neither answered nor closed"));
            };
            let http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
            prop_assert!(http, "{}", String::from_utf8_lossy(&answer));
            // Not /livez, which is about a loop that is not here. A machine in a hurry may take longer
            // than these short limits: one of the next is heard.
            let probe = b"GET /role HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
            let probes = [probe];
            let alive = runtime.block_on(async {
                let asking = async {
                    while !exchange(address, &probes)
                        .await
                        .starts_with(b"HTTP/1.1 200")
                    {}
                };
                tokio::time::timeout(BOUND, asking).await
            });
            prop_assert!(alive.is_ok(), "no probe is answered any more");
            Ok(())
        },
    );
}

/// Many clients at once, each sending what it can: memory stays where it is.
#[test]
fn a_flood_costs_no_memory() {
    let runtime = runtime();
    let address = started(&runtime);
    let flood = |byte: u8| {
        let head = b"GET /role HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
        exchange_all(&runtime, address, vec![head, vec![byte; 4 << 20]]);
        let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20_000);
        exchange_all(&runtime, address, vec![requests]);
    };
    flood(b'x');
    let before = resident_bytes();
    for byte in [b'y', b'\r', 0] {
        flood(byte);
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("{grown} bytes more after the floods");
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more");
}

fn exchange_all(runtime: &Runtime, address: SocketAddr, parts: Vec<Vec<u8>>) {
    // One for all clients, who keep no answers: it is the server's memory that is measured, in the same process.
    let parts: Arc<[Vec<u8>]> = parts.into();
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let parts = parts.clone();
            clients.spawn(async move {
                let mut heard = 0;
                converse(address, &parts, |bytes| heard += bytes.len()).await;
                assert!(heard < 64 << 20);
            });
        }
        let all = tokio::time::timeout(BOUND, clients.join_all()).await;
        all.expect("each is answered or cut off");
    });
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn peers_answers() {
    let runtime = runtime();
    let (answers, sent) = watch::channel(Vec::new());
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer: Vec<u8> = sent.borrow().clone();
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        address
    });
    let mut texts = seeds(&["answer"]);
    texts.push(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
    );
    texts.push([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 70_000]].concat());
    texts.push(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
    );
    play("peers_answers", 300, damaged(texts), |Damaged(bytes)| {
        answers.send_replace(bytes);
        let began = Instant::now();
        let body = runtime.block_on(fetch_role(address, PEER_DEADLINE));
        prop_assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        match body {
            Ok(body) => prop_assert!(body.len() <= 64 * 1024),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
        Ok(())
    });
}
