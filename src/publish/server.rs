//! The sockets of the HTTP side, each for a bounded time and all in bounded number, so that no
//! client, slow, silent or many at once, takes the probes away.
//!
//! In: a listener, the router, and when to stop. Out: answers over HTTP/1.1.
//!
//! Not here: what is answered (`http`), TLS, HTTP/2.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// How long open requests may take to end after the shutdown was asked for, or after the
/// connection's time was over.
const GRACE: Duration = Duration::from_secs(2);
/// For a request's head, in bytes; a longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// When no connection can be accepted (no file descriptor is left): long enough not to spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What one client may take, and all together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time. One more ends the oldest, so that a new probe is always heard.
    pub connections_max: usize,
    /// From the connection, or from the last answer, to the end of a request's head.
    pub head_max: Duration,
    /// How long one connection may be used: bounds slow readers and endless bodies as well.
    pub life_max: Duration,
}

/// Probes open a connection each; Prometheus, load balancers and people are a few more.
pub const LIMITS: Limits = Limits {
    connections_max: 256,
    head_max: Duration::from_secs(10),
    life_max: Duration::from_secs(60),
};

/// The address cannot be listened on; one line.
#[derive(Debug, Error)]
#[error("cannot listen on HTTP_ADDR {addr}: {cause}")]
pub struct BindError {
    addr: SocketAddr,
    cause: io::Error,
}

/// Takes the port, before anything else is done.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr)
        .await
        .map_err(|cause| BindError { addr, cause })
}

/// Answers until `shutdown` ends, and then for two seconds at most.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let mut clients = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
            () = &mut shutdown => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The client is gone already: the next one may be well.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        open.retain(|client| !client.is_finished());
        while open.len() >= limits.connections_max
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let client = answer(stream, router.clone(), limits, stopping.clone());
        open.push_back(clients.spawn(client));
    }
    drop(listener);
    stop.send_replace(true);
    let ended = async { while clients.join_next().await.is_some() {} };
    // Who is not through by then is cut off with the set.
    let _ = tokio::time::timeout(GRACE, ended).await;
}

/// One connection, until the client, the time or the shutdown ends it. How it ends is nobody's
/// concern: the client sees it, and there is nothing to do about it here.
async fn answer(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = stopping.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(limits.life_max) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}

#[cfg(test)]
mod tests;
