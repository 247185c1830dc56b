//! The agent's end of the socket: few clients, each for a bounded time, one request each.
//!
//! In: a path and the desk. Out: lines about the request until it is over. Not here: what a request
//! comes to; and any reason to stop the agent: without a socket it does all else.

use super::desk::{Desk, Ticket};
use super::place::{self, Bound};
use super::words::{LINE_BYTES_MAX, Line, Outcome, Request};
use crate::model::asked;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// At one time; one more is turned away.
const CLIENTS_MAX: usize = 16;
/// For a request to come, and for each line to be taken.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long any client is served: longer than a request may take.
const LIFE_MAX: Duration = Duration::from_secs(3700);
/// How often a socket that cannot be had, or has gone, is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves the socket until `shutdown` ends; then clients hear nothing more.
pub async fn serve(path: &Path, desk: Desk, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let mut warned = String::new();
    loop {
        let ended = match place::bind(path) {
            Ok(bound) => {
                warned.clear();
                desk.socket(None);
                tokio::select! {
                    () = &mut shutdown => true,
                    () = accept(&bound, &desk) => false,
                }
            }
            Err(error) => {
                let error = format!("{}: {error}", path.display());
                desk.socket(Some(error.clone()));
                if warned != error {
                    tracing::warn!(error, "cannot listen on SOCKET; nobody can ask this agent");
                    warned = error;
                }
                tokio::select! {
                    () = &mut shutdown => true,
                    () = tokio::time::sleep(AGAIN) => false,
                }
            }
        };
        if ended {
            return;
        }
    }
}

/// Ends when the socket is not found there any more, as on a volume that was emptied.
async fn accept(bound: &Bound, desk: &Desk) {
    let mut clients = JoinSet::new();
    let mut look = tokio::time::interval(AGAIN);
    loop {
        tokio::select! {
            _ = look.tick() => {
                if !bound.is_there() {
                    return;
                }
            }
            Some(_) = clients.join_next() => {}
            accepted = bound.listener.accept(), if clients.len() < CLIENTS_MAX => {
                match accepted {
                    Ok((stream, _)) => {
                        let served = tokio::time::timeout(LIFE_MAX, answer(stream, desk.clone()));
                        clients.spawn(served);
                    }
                    // No file descriptor is left, say: the next look comes soon enough.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
    }
}

/// One client. How it ends is the client's to see; what it asked goes on without it.
async fn answer(mut stream: UnixStream, desk: Desk) {
    let request = match tokio::time::timeout(PATIENCE, read(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(why)) => return refuse(&mut stream, &why).await,
        Err(_) => return refuse(&mut stream, "no request came in time").await,
    };
    let name = format!("{request:?}");
    match desk.put(request) {
        Ok(ticket) => {
            tracing::info!(request = name, "asked over the socket");
            follow(&mut stream, ticket).await;
        }
        Err(why) => refuse(&mut stream, &why).await,
    }
}

async fn read(stream: &mut UnixStream) -> Result<Request, String> {
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut line = String::new();
    let mut reader = BufReader::new(stream).take(limit);
    let read = reader.read_line(&mut line).await;
    read.map_err(|error| format!("the request cannot be read: {error}"))?;
    if !line.ends_with('\n') {
        return Err(format!("no line of at most {LINE_BYTES_MAX} bytes"));
    }
    serde_json::from_str(&line).map_err(|error| format!("the request is not understood: {error}"))
}

/// A line at once, so that the client knows that somebody is here; then one for everything new.
async fn follow(stream: &mut UnixStream, mut ticket: Ticket) {
    let mut said = "the sidecar has heard it".to_owned();
    if say(stream, Outcome::UnderWay, &said).await.is_err() {
        return;
    }
    loop {
        let found = ticket.answers.borrow_and_update().get(&ticket.id).cloned();
        if let Some(answer) = found.filter(|answer| answer.is_last() || answer.says != said) {
            let outcome = match answer.outcome {
                asked::Outcome::UnderWay => Outcome::UnderWay,
                asked::Outcome::Done => Outcome::Done,
                asked::Outcome::NotDone => Outcome::NotDone,
            };
            let told = say(stream, outcome, &answer.says).await;
            if told.is_err() || outcome != Outcome::UnderWay {
                return;
            }
            said = answer.says;
        }
        if ticket.answers.changed().await.is_err() {
            return;
        }
    }
}

async fn refuse(stream: &mut UnixStream, why: &str) {
    // A client that has gone needs no refusal.
    let _ = say(stream, Outcome::NotDone, why).await;
}

async fn say(stream: &mut UnixStream, outcome: Outcome, message: &str) -> std::io::Result<()> {
    let line = Line {
        outcome,
        message: message.to_owned(),
    };
    let mut line = serde_json::to_string(&line)?;
    line.push('\n');
    tokio::time::timeout(PATIENCE, stream.write_all(line.as_bytes())).await?
}
