//! Keeps the last look at DNS. A look goes on by itself when it takes long, so that a slow or dead
//! nameserver delays no round, and nothing else that the round saw gets old meanwhile.

use super::peers::PeerFinder;
use crate::model::peers::{DnsAnswer, PeersSeen};
use crate::model::time::Moment;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How long a round waits for a look. A nameserver that is well answers within some milliseconds.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long the last answer stands for what DNS says. A look takes up to 2 s.
const KEPT: Duration = Duration::from_secs(4);

/// The finder, the look that is under way, and what the last one saw.
pub struct PeerWatch {
    finder: Arc<Mutex<PeerFinder>>,
    under_way: Option<(Moment, JoinHandle<PeersSeen>)>,
    last: Option<(Moment, PeersSeen)>,
}

impl PeerWatch {
    /// Has looked at nothing yet.
    pub fn new(finder: PeerFinder) -> PeerWatch {
        PeerWatch {
            finder: Arc::new(Mutex::new(finder)),
            under_way: None,
            last: None,
        }
    }

    /// What DNS said last. Looks again if that is older than `age_max`, and waits a moment for it.
    pub async fn peers(
        &mut self,
        now: Moment,
        age_max: Duration,
        expected: impl Iterator<Item = u32>,
        ask_missing: bool,
    ) -> PeersSeen {
        let recent = |(at, _): &(Moment, PeersSeen)| now - *at < age_max;
        if self.under_way.is_none() && !self.last.as_ref().is_some_and(recent) {
            let finder = Arc::clone(&self.finder);
            let expected: Vec<u32> = expected.collect();
            let look = async move {
                let mut finder = finder.lock().await;
                finder.find(expected.into_iter(), ask_missing).await
            };
            self.under_way = Some((now, tokio::spawn(look)));
        }
        if let Some((began, mut look)) = self.under_way.take() {
            match tokio::time::timeout(PATIENCE, &mut look).await {
                Ok(Ok(seen)) => self.last = Some((began, seen)),
                // It was cancelled or it panicked: no answer.
                Ok(Err(_)) => {}
                Err(_) => self.under_way = Some((began, look)),
            }
        }
        match &self.last {
            Some((at, seen)) if now - *at < KEPT => seen.clone(),
            Some(_) | None => PeersSeen {
                answer: DnsAnswer::Failed("no answer yet".to_owned()),
                addresses: [].into(),
                not_in_dns: [].into(),
                unknown: [].into(),
            },
        }
    }
}
