//! What a node went through, as it is kept on the volume and told by `/history`: events, each with
//! how the node stood after it. Values, their parsing and printing.
//!
//! Not here: what is an event (`decide/chronicle`), and the file (`volume/history_file`).

use super::decision::Role;
use super::identity::NodeId;
use super::time::WallTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// More than this are not kept; the oldest go first.
pub const EVENTS_MAX: usize = 500;
/// Nor more than this as text, in bytes.
pub const BYTES_MAX: usize = 128 * 1024;
/// A detail is a sentence, in characters.
const DETAIL_MAX: usize = 300;

/// Something that happened to this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was seen.
    pub at: WallTime,
    /// What, in kebab case.
    pub event: String,
    /// More about it, for people.
    pub detail: String,
    /// How the node stood afterwards, as far as was known.
    #[serde(default)]
    pub after: Standing,
}

/// How a node stands: what a change is told against, also after a restart of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its node ID.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// The start of its Redis.
    #[serde(default)]
    pub run_id: Option<String>,
    /// Its address.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Whether it is a member of a cluster.
    #[serde(default)]
    pub member: bool,
    /// Its part; none while it has none or it is not known.
    #[serde(default)]
    pub role: Role,
    /// The pod that it replicates.
    #[serde(default)]
    pub replica_of: Option<String>,
    /// The codes of the reasons that have been told as begun and not as ended.
    #[serde(default)]
    pub alarms: BTreeSet<String>,
}

impl Event {
    /// With a detail that is one line and not too long.
    pub fn new(at: WallTime, event: &str, detail: &str, after: Standing) -> Event {
        let line = detail.replace(['\n', '\r'], " ");
        Event {
            at,
            event: event.to_owned(),
            detail: line.chars().take(DETAIL_MAX).collect(),
            after,
        }
    }
}

/// What a round knows of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistorySeen {
    /// How the node stood after the last event; none without any event.
    pub last: Option<Standing>,
    /// Events that are not on the volume yet, the oldest first.
    pub unwritten: Vec<Event>,
    /// Why they are not.
    pub error: Option<String>,
}

/// The last events, the oldest first. Cheap to hand out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(Arc<Vec<Event>>);

impl History {
    /// Reads the lines of a file. A line that cannot be read was torn, and is left out.
    pub fn of_text(text: &str) -> History {
        let events = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        let mut history = History::default();
        history.extend(events.collect());
        history
    }

    /// One line an event.
    pub fn text_of(events: &[Event]) -> String {
        let lines = events.iter().filter_map(|e| serde_json::to_string(e).ok());
        lines.flat_map(|line| [line, "\n".to_owned()]).collect()
    }

    /// The events, the oldest first.
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// Adds events, and drops the oldest that are too many or too long.
    pub fn extend(&mut self, more: Vec<Event>) {
        if more.is_empty() {
            return;
        }
        let events = Arc::make_mut(&mut self.0);
        events.extend(more);
        let (mut bytes, mut fit) = (0, 0);
        for event in events.iter().rev().take(EVENTS_MAX) {
            bytes += History::text_of(std::slice::from_ref(event)).len();
            if bytes > BYTES_MAX {
                break;
            }
            fit += 1;
        }
        let surplus = events.len() - fit;
        events.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize, detail: &str) -> Event {
        let at = WallTime(1_700_000_000_000 + i64::try_from(n).unwrap_or(0));
        Event::new(at, "role-changed", detail, Standing::default())
    }

    #[test]
    fn it_is_bounded_and_survives_a_torn_line() {
        let mut history = History::default();
        history.extend((0..EVENTS_MAX + 20).map(|n| event(n, "short")).collect());
        assert_eq!(history.events().len(), EVENTS_MAX);
        assert_eq!(history.events()[0].at, event(20, "").at);
        let text = History::text_of(history.events());
        assert!(
            text.starts_with(r#"{"at":"2023-11-14T22:13:20.020Z","event":"role-changed""#),
            "{text}"
        );
        let torn = format!("{{\"at\":\"20\n{}{{\"at", text);
        assert_eq!(History::of_text(&torn), history);

        history.extend(
            (0..EVENTS_MAX)
                .map(|n| event(n, &"x".repeat(999)))
                .collect(),
        );
        let bytes = History::text_of(history.events()).len();
        assert!((BYTES_MAX - 1000..=BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
