//! Replication: it dials an address, checks no node ID, and copies whatever answers there. What
//! answers is looked up by the surroundings, as a [`Source`].

use super::{Env, Keys, LinkState, NEVER, Node, Process, Replication};
use redis_sidecar::model::identity::NodeId;
use std::net::IpAddr;

/// What a replica finds at the address that it dials.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) process: Process,
    pub(crate) keys: Keys,
    /// Takes replicas: not loading, the password is right, and if it is a replica its link is up.
    pub(crate) serves: bool,
    /// What it sends is not applied yet.
    pub(crate) lags: bool,
}

/// How often a replica dials anew, in milliseconds (`replicationCron`).
const RETRY_MS: i64 = 1000;
/// A link that breaks is dialled at once, before anything else has changed.
const AT_ONCE_MS: i64 = 1;

impl Node {
    /// `clusterSetMaster`.
    pub(crate) fn set_master(&mut self, id: &NodeId, env: &mut Env<'_>) {
        let ip = self.recs.get(id).and_then(|rec| rec.ip);
        self.end_manual();
        self.former_master = self.me().master.map(|id| (id, env.now));
        let me = self.me_mut();
        me.replica = true;
        me.master = Some(*id);
        me.segs = 0;
        self.save();
        match ip {
            Some(ip) => self.follow(ip, env),
            None => self.replication = None,
        }
    }

    /// `replicationSetMaster`.
    pub(crate) fn follow(&mut self, host: IpAddr, env: &mut Env<'_>) {
        let down_since = match self.replication {
            None => NEVER,
            Some(Replication {
                state: LinkState::Up { .. },
                ..
            }) => env.now,
            Some(old) => old.down_since,
        };
        self.replication = Some(Replication {
            host,
            state: LinkState::Down { retry_at: env.now },
            down_since,
        });
    }

    /// A replica whose replication is not set up yet, as after a start.
    pub(crate) fn mind_master(&mut self, env: &mut Env<'_>) {
        if self.is_replica() && self.replication.is_none() {
            let master = self.me().master.and_then(|id| self.recs.get(&id));
            if let Some(ip) = master.filter(|rec| !rec.noaddr).and_then(|rec| rec.ip) {
                self.follow(ip, env);
            }
        }
    }

    /// Who dials it is let wait, copies nothing and is not linked.
    pub(crate) fn holds_copies(&self) -> bool {
        self.copies_after_s > 1000
    }

    /// One step of the link; `source` is what answers at the dialled address now.
    pub(crate) fn replicate(&mut self, source: Option<Source>, env: &mut Env<'_>) {
        let Some(mut replication) = self.replication else {
            return;
        };
        let now = env.now;
        let serving = source.filter(|source| source.serves);
        let next_try = now + RETRY_MS - (now - self.booted).rem_euclid(RETRY_MS);
        replication.state = match (replication.state, source) {
            (LinkState::Down { retry_at }, _) if now < retry_at => replication.state,
            (LinkState::Down { .. }, _) => match serving {
                Some(source) => {
                    self.copy_begun = now;
                    LinkState::Copying {
                        from: source.process,
                        until: now + copy_ms(env.rng),
                    }
                }
                None => LinkState::Down { retry_at: next_try },
            },
            (LinkState::Copying { from, until }, Some(found)) if found.process == from => {
                if now >= until {
                    self.take_copy(found.keys);
                    LinkState::Up { from }
                } else {
                    replication.state
                }
            }
            (LinkState::Up { from }, Some(found)) if found.process == from => {
                self.behind = found.keys & !self.keys;
                if self.keys != found.keys && !found.lags {
                    self.take_copy(found.keys);
                }
                replication.state
            }
            (LinkState::Up { .. } | LinkState::Copying { .. }, _) => {
                if matches!(replication.state, LinkState::Up { .. }) {
                    replication.down_since = now;
                }
                LinkState::Down {
                    retry_at: now + AT_ONCE_MS,
                }
            }
        };
        self.replication = Some(replication);
    }

    fn take_copy(&mut self, keys: Keys) {
        self.behind = 0;
        self.dropped |= self.keys & !keys;
        self.keys = keys;
    }
}

/// How long a full copy takes: now and then that of much data.
fn copy_ms(rng: &mut fastrand::Rng) -> i64 {
    match rng.u8(0..12) {
        0 => rng.i64(2000..12_000),
        _ => rng.i64(20..600),
    }
}
