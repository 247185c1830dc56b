//! What was asked of this agent over its socket, by the kubelet or by a person, and what came of it.
//! Values only: when it is done, and whether it is right, the rules say.

use super::time::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// Names one request, in the order in which they came.
pub type RequestId = u64;

/// What is asked at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The own Redis is about to be stopped on purpose.
    pub stop: Option<StopAsked>,
    /// A change of the shard's master.
    pub failover: Option<FailoverAsked>,
    /// The beginning or the end of a pause.
    pub pause: Option<PauseAsked>,
    /// Why nobody can ask anything.
    pub socket_error: Option<String>,
}

/// `pre-stop`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopAsked {
    /// Which request.
    pub id: RequestId,
    /// When it was heard of.
    pub since: Moment,
    /// How long the slots may be tried to be handed over.
    pub until: Moment,
}

/// `failover`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverAsked {
    /// Which request.
    pub id: RequestId,
    /// When it was heard of.
    pub since: Moment,
    /// How long it may be tried.
    pub until: Moment,
    /// The pod that is to be the master; none leaves the choice to the agent.
    pub to: Option<String>,
}

/// `pause`, or `resume`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseAsked {
    /// Which request.
    pub id: RequestId,
    /// For how long; none is `resume`.
    pub lasts: Option<Duration>,
}

/// What has become of each request so far.
pub type Answers = BTreeMap<RequestId, Answer>;

/// What has become of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How far it is.
    pub outcome: Outcome,
    /// The same for people, in a sentence.
    pub says: String,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not over yet.
    UnderWay,
    /// Done, or nothing had to be done.
    Done,
    /// Over, and not done.
    NotDone,
}

impl Answer {
    /// An answer in words.
    pub fn new(outcome: Outcome, says: impl Into<String>) -> Answer {
        let says = says.into();
        Answer { outcome, says }
    }

    /// Whether nothing more will come.
    pub fn is_last(&self) -> bool {
        self.outcome != Outcome::UnderWay
    }
}
