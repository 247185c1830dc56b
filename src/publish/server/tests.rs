//! Clients that are slow, silent, greedy or many: each ends in time, and a new one is answered.

use std::sync::Arc;
use std::time::Instant;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::fixtures::config;
use super::super::heartbeat::Heartbeat;
use super::super::http::{self, AppState};
use super::super::metrics::Counters;
use super::super::status::Status;
use super::*;

const SHORT: Limits = Limits {
    connections_max: 8,
    head_max: Duration::from_millis(300),
    life_max: Duration::from_millis(900),
};
/// More than any of the limits above, and less than a test may hang.
const BOUND: Duration = Duration::from_secs(8);

/// A server over the real router, a moment after the agent's start.
async fn started(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let status = Status::starting(&config("redis-app-0", "10.0.0.1"));
    let router = http::router(AppState {
        status: watch::channel(Arc::new(status)).1,
        heartbeat: Heartbeat::new(),
        counters: Counters::new(),
        gate: Default::default(),
    });
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, router, limits, shutdown));
    (addr, stop, server)
}

/// One request over a new connection.
async fn over_socket(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// All that the server sends until it closes, which it must do in time. A reset is a close too.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(BOUND, reading).await.expect("closed");
    answer
}

#[tokio::test]
async fn a_status_that_is_never_updated_is_still_answered() {
    let (addr, stop, server) = started(LIMITS).await;
    for (path, told) in [
        ("/livez", "HTTP/1.1 200"),
        ("/readyz", "starting: the agent"),
    ] {
        let answer = over_socket(addr, path).await;
        assert!(answer.contains(told), "{path}: {answer}");
    }
    stop.send(()).unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_the_shutdown() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (entered, has_entered) = oneshot::channel::<()>();
    let entered = std::sync::Mutex::new(Some(entered));
    let stuck = move || {
        drop(entered.lock().unwrap().take());
        std::future::pending::<&str>()
    };
    let stuck = Arc::new(stuck);
    let router = Router::new().route("/", get(move || stuck()));
    let shutdown = async { drop(has_entered.await) };
    let server = tokio::spawn(serve(listener, router, LIMITS, shutdown));
    let asking = tokio::spawn(async move { over_socket(addr, "/").await });
    let ended = tokio::time::timeout(GRACE * 4, server).await;
    ended.expect("bounded").unwrap();
    asking.abort();
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_shutdown() {
    let (addr, stop, server) = started(LIMITS).await;
    let mut idle = TcpStream::connect(addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(idle.read(&mut [0; 16]).await.unwrap() > 0);
    let began = Instant::now();
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_cut_off() {
    let (addr, _stop, _server) = started(SHORT).await;
    for sent in [
        &b""[..],
        b"GET",
        b"GET /role HTTP/1.1\r\nHost: x\r\nX-Long: ",
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let began = Instant::now();
        until_closed(&mut stream).await;
        assert!(began.elapsed() >= SHORT.head_max / 2);
    }
    let mut drip = TcpStream::connect(addr).await.unwrap();
    let dripping = async {
        while drip.write_all(b"X").await.is_ok() {
            tokio::time::sleep(SHORT.head_max / 10).await;
        }
    };
    let cut = tokio::time::timeout(BOUND, dripping).await;
    cut.expect("one byte at a time is cut off too");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let (addr, _stop, _server) = started(SHORT).await;
    let mut deaf = TcpStream::connect(addr).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
    let asking = async { while deaf.write_all(&request).await.is_ok() {} };
    let cut = tokio::time::timeout(BOUND, asking).await;
    cut.expect("its requests are taken no more");
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let (addr, _stop, _server) = started(SHORT).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = b"POST /role HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let sending = async {
        while stream.write_all(b"4\r\nbody\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let cut = tokio::time::timeout(BOUND, sending).await;
    cut.expect("its body is taken no more");
}

#[tokio::test]
async fn a_new_client_is_answered_however_many_hold_on() {
    let limits = Limits {
        head_max: BOUND * 4,
        life_max: BOUND * 4,
        ..SHORT
    };
    let (addr, _stop, _server) = started(limits).await;
    let mut holding = Vec::new();
    for _ in 0..limits.connections_max * 3 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /role HT").await.unwrap();
        holding.push(stream);
    }
    let asked = tokio::time::timeout(BOUND, over_socket(addr, "/livez")).await;
    assert!(asked.expect("answered").contains("alive"));
    let mut oldest = holding.remove(0);
    assert_eq!(until_closed(&mut oldest).await, b"");
    let newest = holding.last_mut().unwrap();
    newest
        .write_all(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = until_closed(newest).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (addr, _stop, _server) = started(LIMITS).await;
    let long = "x".repeat(HEAD_BYTES_MAX * 2);
    let many = "a: b\r\n".repeat(300);
    for head in [
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // It may close before it has read everything.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = until_closed(&mut stream).await;
        let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(refused, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(over_socket(addr, "/livez").await.contains("alive"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (addr, _stop, _server) = started(LIMITS).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let paths = ["/livez", "/role?format=text", "/nowhere", "/readyz"].repeat(50);
    let mut requests: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .collect();
    requests.push_str("GET /master HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let answers = until_closed(&mut stream).await;
    let answers = String::from_utf8(answers).unwrap();
    let codes: Vec<&str> = answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, found)| &answers[at + found.len()..][..3])
        .collect();
    let mut expected = ["200", "200", "404", "503"].repeat(50);
    expected.push("503");
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn a_taken_port_is_told_in_one_line() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = taken.local_addr().unwrap();
    let line = bind(addr).await.unwrap_err().to_string();
    assert!(
        line.starts_with(&format!("cannot listen on HTTP_ADDR {addr}: ")),
        "{line}"
    );
    assert!(!line.contains('\n'));
}
