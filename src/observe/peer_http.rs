//! Asks a peer's agent for its `/role`: one GET over a fresh connection, within a deadline.
//!
//! In: an address. Out: the body's bytes, not parsed. Only doubted peers are asked, so no
//! connection is kept. Not here: redirects, TLS, retries, and belief in what the peer says.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A larger answer is no `/role`, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// For the head of the answer, in bytes.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// Why a peer's agent gave no `/role`.
#[derive(Debug, Error)]
pub enum PeerHttpError {
    /// No connection.
    #[error("cannot connect to the agent at {address}")]
    Unreachable {
        /// Who was asked.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No complete answer within the deadline.
    #[error("the agent at {address} gave no answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Who was asked.
        address: SocketAddr,
        /// The deadline that passed.
        after: Duration,
    },
    /// What answers does not speak HTTP, or stopped in the middle.
    #[error("the agent at {address} broke off or spoke no HTTP")]
    Broken {
        /// Who was asked.
        address: SocketAddr,
        /// What was wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer other than 200.
    #[error("the agent at {address} answered {status}")]
    Status {
        /// Who was asked.
        address: SocketAddr,
        /// The HTTP status.
        status: u16,
    },
    /// An answer longer than 64 KiB.
    #[error("the agent at {address} answered more than {BODY_BYTES_MAX} bytes")]
    TooLarge {
        /// Who was asked.
        address: SocketAddr,
    },
}

/// The body of `GET /role` at this address; everything together takes `deadline` at most.
///
/// # Errors
/// See [`PeerHttpError`]. Each means that nothing is known about the peer.
pub async fn fetch_role(address: SocketAddr, deadline: Duration) -> Result<Vec<u8>, PeerHttpError> {
    tokio::time::timeout(deadline, get_role(address))
        .await
        .unwrap_or(Err(PeerHttpError::TimedOut {
            address,
            after: deadline,
        }))
}

async fn get_role(address: SocketAddr) -> Result<Vec<u8>, PeerHttpError> {
    let unreachable = |source| PeerHttpError::Unreachable { address, source };
    let broken = |error: hyper::Error| PeerHttpError::Broken {
        address,
        source: error.into(),
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Dropping the set ends the connection with this function, however it ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get("/role")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| PeerHttpError::Broken {
            address,
            source: error.into(),
        })?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(PeerHttpError::Status {
            address,
            status: response.status().as_u16(),
        });
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
        .collect()
        .await;
    match body {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(PeerHttpError::TooLarge { address }),
        Err(source) => Err(PeerHttpError::Broken { address, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(300);

    /// Answers every request with these bytes; keeps the connection open afterwards if asked.
    async fn listener(bind: &str, answer: Vec<u8>, keep_open: bool) -> SocketAddr {
        let listener = TcpListener::bind(bind).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 2048];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /role HTTP/1.1\r\n"));
                let _ = stream.write_all(&answer).await;
                if keep_open {
                    kept.push(stream);
                }
            }
        });
        address
    }

    fn response(status: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn an_answer_over_both_families() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let body = vec![b'x'; BODY_BYTES_MAX];
            let address = listener(bind, response("200 OK", &body), true).await;
            assert_eq!(fetch_role(address, DEADLINE).await.unwrap(), body);
        }
    }

    #[tokio::test]
    async fn a_hanging_peer_costs_the_deadline() {
        let half = response("200 OK", b"1234567890")[..20].to_vec();
        let body_missing = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123".to_vec();
        for answer in [Vec::new(), half, body_missing] {
            let address = listener("127.0.0.1:0", answer, true).await;
            // A machine that is busy may add to it; not every time.
            let begin = Instant::now();
            loop {
                let start = Instant::now();
                let error = fetch_role(address, DEADLINE).await.unwrap_err();
                assert!(matches!(error, PeerHttpError::TimedOut { .. }), "{error}");
                if start.elapsed() < DEADLINE * 2 {
                    break;
                }
                assert!(begin.elapsed() < DEADLINE * 50, "always longer");
            }
        }
    }

    #[tokio::test]
    async fn an_oversized_answer_is_cut() {
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
        for answer in [response("200 OK", &vec![b'x'; BODY_BYTES_MAX + 1]), endless] {
            let address = listener("127.0.0.1:0", answer, true).await;
            let error = fetch_role(address, DEADLINE).await.unwrap_err();
            assert!(matches!(error, PeerHttpError::TooLarge { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn garbage_a_break_and_other_statuses_are_errors() {
        let broken = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123".to_vec();
        for answer in [b"-ERR unknown command\r\n".to_vec(), broken, Vec::new()] {
            let address = listener("127.0.0.1:0", answer, false).await;
            let error = fetch_role(address, DEADLINE).await.unwrap_err();
            assert!(matches!(error, PeerHttpError::Broken { .. }), "{error}");
        }
        let address = listener("127.0.0.1:0", response("404 Not Found", b""), true).await;
        let error = fetch_role(address, DEADLINE).await.unwrap_err();
        assert!(
            matches!(error, PeerHttpError::Status { status: 404, .. }),
            "{error}"
        );
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let error = fetch_role(closed, DEADLINE).await.unwrap_err();
        assert!(
            matches!(error, PeerHttpError::Unreachable { .. }),
            "{error}"
        );
    }
}
