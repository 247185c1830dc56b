//! A small HTTP/1.1 client for the agents' answers: one request, one connection, a deadline.
//!
//! Does not: follow redirects, keep connections, or know what an answer means.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The deadline of [`get`].
pub const DEADLINE: Duration = Duration::from_secs(1);

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

/// GET within [`DEADLINE`].
///
/// # Errors
/// When no whole answer came in time.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    request(address, "GET", path, DEADLINE).await
}

/// One request with any method, within `deadline`.
///
/// # Errors
/// When no whole answer came in time.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    deadline: Duration,
) -> Result<Answer> {
    tokio::time::timeout(deadline, exchange(address, method, path))
        .await
        .with_context(|| format!("{method} http://{address}{path}: no answer within {deadline:?}"))?
        .with_context(|| format!("{method} http://{address}{path}"))
}

async fn exchange(address: SocketAddr, method: &str, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes), method)
}

fn parse(text: &str, method: &str) -> Result<Answer> {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer has no end of headers")?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status in {head:?}"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    if header("transfer-encoding").is_some() {
        bail!("chunked answers are not understood here");
    }
    if let Some(length) = header("content-length").and_then(|v| v.parse::<usize>().ok())
        && method != "HEAD"
        && body.len() < length
    {
        bail!("the body ended after {} of {length} bytes", body.len());
    }
    Ok(Answer {
        status,
        body: body.to_owned(),
        headers,
    })
}
