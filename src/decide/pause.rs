//! A person pauses the agent for a while: it looks and tells, and writes nothing to Redis. A pause
//! ends by itself, and outlives a restart of the agent: its end is noted on the volume by the wall
//! clock. Within one life of the agent its own clock counts, so that no jump of the other makes a
//! pause last.

use super::plan::Plan;
use super::scene::Scene;
use crate::model::asked::{Answer, Outcome, RequestId};
use crate::model::observation::{Paused, Volume};
use crate::model::reason::ReasonCode;
use crate::model::time::Moment;
use std::time::Duration;

/// No pause is longer, whatever was asked or noted.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The note is written again when the wall clock has moved by more against the agent's own.
const JUMPED_MS: u64 = 5000;
/// How long the note may take, before the answer says that there is none.
const NOTED_WITHIN: Duration = Duration::from_secs(2);

/// What an agent knows of pauses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// When the pause that is on ends.
    pub until: Option<Moment>,
    /// The volume has been read for a pause of this agent's predecessor.
    read: bool,
    /// The last request that was heard, and when.
    heard: Option<(RequestId, Moment)>,
}

/// Begins and ends pauses, and has this round write nothing to Redis while one is on.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    let now = scene.seen.now;
    let mut known = plan.memory().pause.clone();
    if !known.read && !matches!(scene.seen.volume, Volume::Unreadable(_)) {
        known.read = true;
        let noted = scene.note().and_then(|note| note.paused);
        let left = noted.map(|noted| left(noted, scene.seen.wall.unix_ms()));
        known.until = left.filter(|left| !left.is_zero()).map(|left| now + left);
    }
    let asked = scene.seen.asked.pause.as_ref();
    if let Some(asked) = asked
        && known.heard.is_none_or(|(id, _)| id != asked.id)
    {
        known.heard = Some((asked.id, now));
        known.read = true;
        known.until = asked.lasts.map(|lasts| now + lasts.min(LONGEST));
    }
    known.until = known.until.filter(|until| now < *until);
    if let Some(until) = known.until {
        plan.pause();
        let message = format!(
            "a person has paused this sidecar: nothing is written to Redis until {}, for another {} s",
            wall(scene.seen.wall.unix_ms(), until - now),
            (until - now).as_secs()
        );
        plan.warn(ReasonCode::Paused, message);
    }
    plan.memory_mut().pause = known;
    if let Some(asked) = asked {
        let answer = answer(scene, plan);
        plan.answer(asked.id, answer);
    }
}

/// Done when it is on the volume, so that it is also true after a restart.
fn answer(scene: &Scene<'_>, plan: &mut Plan) -> Answer {
    let now = scene.seen.now;
    let Known { until, heard, .. } = plan.memory().pause;
    let what = match until {
        Some(until) => format!(
            "paused until {}; `redis-sidecar resume` ends it earlier",
            wall(scene.seen.wall.unix_ms(), until - now)
        ),
        None => "not paused".to_owned(),
    };
    let noted = scene.note().is_some_and(|note| note.paused.is_some());
    if noted == until.is_some() {
        return Answer::new(Outcome::Done, what);
    }
    if heard.is_some_and(|(_, at)| now - at < NOTED_WITHIN) {
        plan.hurry();
        return Answer::new(
            Outcome::UnderWay,
            format!("{what}; not noted on the volume yet"),
        );
    }
    let what = format!(
        "{what}; this could not be noted on the volume, so a restart of the sidecar ends it"
    );
    Answer::new(Outcome::Done, what)
}

/// What is to be on the volume: what is there, unless the wall clock has jumped since.
pub fn wants_note(scene: &Scene<'_>, plan: &Plan, present: Option<Paused>) -> Option<Paused> {
    let until = plan.memory().pause.until?;
    let now_ms = scene.seen.wall.unix_ms();
    let left_ms = u64::try_from((until - scene.seen.now).as_millis()).unwrap_or(u64::MAX);
    let until_ms = now_ms.saturating_add(left_ms);
    let holds =
        |noted: &Paused| noted.from_ms <= now_ms && noted.until_ms.abs_diff(until_ms) <= JUMPED_MS;
    let anew = Paused {
        from_ms: now_ms,
        until_ms,
    };
    Some(present.filter(holds).unwrap_or(anew))
}

/// What is left of a noted pause: never more than it was noted for, wherever the clock stands.
fn left(noted: Paused, now_ms: u64) -> Duration {
    let whole = noted.until_ms.saturating_sub(noted.from_ms);
    let left = noted.until_ms.saturating_sub(now_ms).min(whole);
    Duration::from_millis(left).min(LONGEST)
}

/// The wall clock's time after this long, for people.
fn wall(now_ms: u64, after: Duration) -> String {
    let seconds = now_ms / 1000 + after.as_secs();
    let at = i64::try_from(seconds).map(jiff::Timestamp::from_second);
    match at {
        Ok(Ok(at)) => at.to_string(),
        _ => "an unknown time".to_owned(),
    }
}
