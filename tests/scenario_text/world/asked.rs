//! The lines of a scenario that say what is asked over the socket: `asked ..`.

use super::*;
use redis_sidecar::model::asked::{FailoverAsked, PauseAsked, StopAsked};
use redis_sidecar::model::observation::Paused;
use std::time::Duration;

impl World {
    /// `asked stop=1 within=20000`, `asked failover=2 within=20000 to=redis-app-3`,
    /// `asked pause=3 for=600000`, `asked resume=4`, `asked no-socket`, `asked nothing`.
    pub(super) fn read_asked(&mut self, words: &[&str]) -> Result<(), String> {
        let value = |name: &str| words.iter().find_map(|word| value_of(word, name));
        let since = Moment(self.now);
        let within = Duration::from_millis(value("within").map_or(Ok(20_000), number)?);
        let until = since + within;
        if words.contains(&"nothing") {
            self.asked = Asked::default();
        }
        if words.contains(&"no-socket") {
            self.asked.socket_error = Some("Read-only file system".to_owned());
        }
        if let Some(id) = value("stop") {
            let id = number(id)?;
            self.asked.stop = Some(StopAsked { id, since, until });
        }
        if let Some(id) = value("failover") {
            self.asked.failover = Some(FailoverAsked {
                id: number(id)?,
                since,
                until,
                to: value("to").map(str::to_owned),
            });
        }
        if let Some(id) = value("pause").or(value("resume")) {
            let lasts = value("for").map(number).transpose()?;
            self.asked.pause = Some(PauseAsked {
                id: number(id)?,
                lasts: lasts.map(Duration::from_millis),
            });
        }
        Ok(())
    }
}

/// `1000:601000`, by the wall clock since the agent's start.
pub(super) fn paused(span: &str) -> Result<Paused, String> {
    let (from, until) = span.split_once(':').ok_or("takes from:until")?;
    Ok(Paused {
        from_ms: WALL_MS + number::<u64>(from)?,
        until_ms: WALL_MS + number::<u64>(until)?,
    })
}
