//! Where requests lie between the socket and the loop: the socket puts one down and waits for what
//! becomes of it, the loop takes them up as facts and puts its answers beside them.
//!
//! Not here: any judgement of a request.

use super::words::Request;
use crate::model::asked::{
    Answers, Asked, FailoverAsked, Outcome, PauseAsked, RequestId, StopAsked,
};
use crate::model::time::Moment;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// No request may take longer.
const WITHIN_MAX: Duration = Duration::from_secs(3600);
/// How long after its time a stop is still told to the rules, which have their own limit.
const STOP_KEPT: Duration = Duration::from_secs(120);
/// For clients to hear how it ended.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Clones share one desk.
#[derive(Clone)]
pub struct Desk(Arc<Shared>);

struct Shared {
    lies: Mutex<Lies>,
    woken: Notify,
    answers: watch::Sender<Arc<Answers>>,
}

/// What lies there.
#[derive(Default)]
struct Lies {
    last_id: RequestId,
    stop: Option<Entry>,
    failover: Option<Entry>,
    pause: Option<Entry>,
    socket_error: Option<String>,
}

/// One request, and when the loop first saw it.
struct Entry {
    id: RequestId,
    request: Request,
    within: Duration,
    seen: Option<Moment>,
    answered: bool,
}

/// A request that was put down, and how to hear of it.
pub(super) struct Ticket {
    pub(super) id: RequestId,
    pub(super) answers: watch::Receiver<Arc<Answers>>,
}

impl Default for Desk {
    fn default() -> Desk {
        Desk::new()
    }
}

impl Desk {
    /// An empty one.
    #[must_use]
    pub fn new() -> Desk {
        Desk(Arc::new(Shared {
            lies: Mutex::default(),
            woken: Notify::new(),
            answers: watch::Sender::new(Arc::default()),
        }))
    }

    fn lies(&self) -> MutexGuard<'_, Lies> {
        // What lies there is whole between any two statements.
        self.0.lies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request down and wakes the loop. A second stop joins the first, which it may prolong.
    ///
    /// # Errors
    /// Why it cannot be taken now, for the client.
    pub(super) fn put(&self, request: Request) -> Result<Ticket, String> {
        let mut lies = self.lies();
        let within = match &request {
            Request::PreStop { within_ms } | Request::Failover { within_ms, .. } => *within_ms,
            Request::Pause { for_ms } => *for_ms,
            Request::Resume => 0,
        };
        let within = Duration::from_millis(within);
        let id = lies.last_id + 1;
        let entry = Entry {
            id,
            within: within.min(WITHIN_MAX),
            seen: None,
            answered: false,
            request,
        };
        let open = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| !entry.answered);
        let id = match &entry.request {
            Request::PreStop { .. } if open(&lies.stop) => match &mut lies.stop {
                Some(first) => {
                    first.within = first.within.max(entry.within);
                    first.id
                }
                None => id,
            },
            Request::PreStop { .. } => {
                lies.stop = Some(entry);
                id
            }
            Request::Failover { .. } if open(&lies.failover) => {
                return Err("another failover is under way".to_owned());
            }
            Request::Failover { .. } => {
                lies.failover = Some(entry);
                id
            }
            Request::Pause { .. } | Request::Resume => {
                lies.pause = Some(entry);
                id
            }
        };
        lies.last_id = lies.last_id.max(id);
        drop(lies);
        let answers = self.0.answers.subscribe();
        self.0.woken.notify_one();
        Ok(Ticket { id, answers })
    }

    /// Notes whether the socket can be listened on.
    pub(super) fn socket(&self, error: Option<String>) {
        self.lies().socket_error = error;
    }

    /// Ends when something was put down since the last time.
    pub async fn woken(&self) {
        self.0.woken.notified().await;
    }

    /// What is asked, as of now.
    pub fn asked(&self, now: Moment) -> Asked {
        let mut lies = self.lies();
        if lies
            .stop
            .as_ref()
            .and_then(|stop| Some(now - (stop.seen? + stop.within)))
            .is_some_and(|over| over > STOP_KEPT)
        {
            lies.stop = None;
        }
        let stop = lies.stop.as_mut().map(|entry| {
            let since = *entry.seen.get_or_insert(now);
            StopAsked {
                id: entry.id,
                since,
                until: since + entry.within,
            }
        });
        let failover = lies.failover.as_mut().map(|entry| {
            let since = *entry.seen.get_or_insert(now);
            let to = match &entry.request {
                Request::Failover { to, .. } => to.clone(),
                _ => None,
            };
            FailoverAsked {
                id: entry.id,
                since,
                until: since + entry.within,
                to,
            }
        });
        let pause = lies.pause.as_ref().map(|entry| PauseAsked {
            id: entry.id,
            lasts: match entry.request {
                Request::Pause { for_ms } => Some(Duration::from_millis(for_ms)),
                _ => None,
            },
        });
        Asked {
            stop,
            failover,
            pause,
            socket_error: lies.socket_error.clone(),
        }
    }

    /// What has become of it. A request that is over is not asked any more, but for a stop: after
    /// its handoff, the pod is still about to be stopped.
    pub fn answer(&self, answers: &Answers) {
        let mut lies = self.lies();
        let last = |entry: &Entry| answers.get(&entry.id).filter(|answer| answer.is_last());
        let mut over = Vec::new();
        if let Some(stop) = lies.stop.as_mut().filter(|stop| !stop.answered)
            && let Some(answer) = last(stop)
        {
            stop.answered = true;
            over.push(("pre-stop", answer));
        }
        if let Some(answer) = lies.failover.as_ref().and_then(last) {
            over.push(("failover", answer));
            lies.failover = None;
        }
        if let Some(answer) = lies.pause.as_ref().and_then(last) {
            let pauses = lies.pause.take().map(|entry| entry.request) != Some(Request::Resume);
            over.push((if pauses { "pause" } else { "resume" }, answer));
        }
        drop(lies);
        for (request, answer) in over {
            let (done, outcome) = (answer.outcome == Outcome::Done, &answer.says);
            tracing::info!(request, done, "{request} is over: {outcome}");
        }
        if **self.0.answers.borrow() != *answers {
            self.0.answers.send_replace(Arc::new(answers.clone()));
        }
    }

    /// For how long at most a handoff that is under way may take.
    fn busy_for(&self) -> Option<Duration> {
        let lies = self.lies();
        let handoffs = [&lies.stop, &lies.failover];
        let open = handoffs
            .into_iter()
            .flatten()
            .filter(|entry| !entry.answered);
        open.map(|entry| entry.within).max()
    }

    /// Ends when no handoff is under way and every client has heard its last word.
    pub async fn idle(&self) {
        let mut answers = self.0.answers.subscribe();
        let patience = self.busy_for().unwrap_or_default() + LAST_WORDS;
        let idle = async move {
            // The sender lives as long as this desk.
            while self.busy_for().is_some() && answers.changed().await.is_ok() {}
            drop(answers);
            self.0.answers.closed().await;
        };
        // Who is not through by then is left to the kubelet.
        let _ = tokio::time::timeout(patience, idle).await;
    }
}
