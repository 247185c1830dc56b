//! The other end of the socket. Whatever the agent does, hang, die or come back, this ends in time.

use super::place;
use super::words::{LINE_BYTES_MAX, Line, Outcome, Request};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// For an agent to be there and to say that it has heard: it may just be restarting.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// Between two tries to reach it.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// How long the agent may take to say how a request ended, after its time.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Done(String),
    NotDone(String),
    /// No agent answers, or none says how it ended.
    Unreachable(String),
}

/// Asks, tells each line of progress, and returns within `within` and a last word.
pub(super) fn ask(
    socket: &Path,
    request: &Request,
    within: Duration,
    mut tell: impl FnMut(&str),
) -> Ended {
    let within = within + LAST_WORD;
    let (lines, heard) = mpsc::sync_channel(64);
    let began = Instant::now();
    let (socket, request) = (socket.to_owned(), request.clone());
    // A thread of its own: connecting to a socket whose queue is full cannot be given a time.
    let spawned = std::thread::Builder::new()
        .spawn(move || speak_again_and_again(&socket, &request, within, &lines));
    if let Err(error) = spawned {
        return Ended::Unreachable(format!("no thread: {error}"));
    }
    let mut last = String::from("the sidecar does not answer");
    let mut reached = false;
    loop {
        let patience = if reached {
            within
        } else {
            HEARD_WITHIN.min(within)
        };
        let left = patience.saturating_sub(began.elapsed());
        match heard.recv_timeout(left) {
            Ok(Ok(line)) => {
                reached = true;
                match line.outcome {
                    Outcome::UnderWay => tell(&line.message),
                    Outcome::Done => return Ended::Done(line.message),
                    Outcome::NotDone => return Ended::NotDone(line.message),
                }
                last = format!(
                    "the sidecar has not said how it ended; last: {}",
                    line.message
                );
            }
            Ok(Err(why)) if !reached => last = why,
            Ok(Err(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Ended::Unreachable(last);
            }
        }
    }
}

type Heard = Result<Line, String>;

/// An agent that is killed meanwhile is started again, and does not know of the request.
fn speak_again_and_again(
    socket: &Path,
    request: &Request,
    within: Duration,
    lines: &SyncSender<Heard>,
) {
    let until = Instant::now() + within;
    while Instant::now() < until {
        let ended = speak(socket, request, until, lines);
        let gone = match ended {
            Ok(()) => return,
            Err(error) => lines
                .send(Err(format!("{}: {error}", socket.display())))
                .is_err(),
        };
        if gone {
            return;
        }
        std::thread::sleep(AGAIN);
    }
}

/// One connection; an error is one that another connection may not have.
fn speak(
    socket: &Path,
    request: &Request,
    until: Instant,
    lines: &SyncSender<Heard>,
) -> std::io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let left = left.max(Duration::from_millis(1));
    let mut stream = UnixStream::connect(place::short(socket)?.path)?;
    stream.set_write_timeout(Some(left))?;
    stream.set_read_timeout(Some(left))?;
    // An agent that has just been started has no more time than the one before had left.
    let request = request.clone().within(left.saturating_sub(LAST_WORD));
    let mut text = serde_json::to_string(&request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let read = reader.by_ref().take(limit).read_line(&mut line)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line: Line = serde_json::from_str(&line)?;
        let last = line.outcome != Outcome::UnderWay;
        if lines.send(Ok(line)).is_err() || last {
            return Ok(());
        }
    }
}
