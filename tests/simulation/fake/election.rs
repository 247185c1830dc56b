//! A replica stands for election when its master has failed; masters vote
//! (`clusterHandleSlaveFailover`, `clusterSendFailoverAuthIfNeeded`).

use super::{Effect, Election, Env, Kind, LinkState, Node, Packet};
use redis_sidecar::model::identity::NodeId;
use std::rc::Rc;

/// `cluster-replica-validity-factor`, and `repl-ping-replica-period` in milliseconds.
const VALIDITY: i64 = 10;
const REPL_PING_MS: i64 = 10_000;

impl Node {
    pub(crate) fn stand_for_election(&mut self, env: &mut Env<'_>) {
        let Some(master) = self.me().master.and_then(|id| self.recs.get(&id)) else {
            return;
        };
        let manual = self.may_start();
        if !(master.fail || manual) || master.segs == 0 {
            return;
        }
        let timeout = self.node_timeout;
        let down_for = match self.replication.map(|link| (link.state, link.down_since)) {
            None if !manual => return,
            None | Some((LinkState::Up { .. }, _)) => 0,
            Some((_, since)) => env.now.saturating_sub(since),
        };
        if !manual && (down_for - timeout).max(0) > REPL_PING_MS + timeout * VALIDITY {
            return;
        }
        let auth_timeout = (timeout * 2).max(2000);
        let age = env.now - self.election.at;
        if age > auth_timeout * 2 {
            let own = self.keys.count_ones();
            let master = self.me().master;
            let ahead = self
                .knows()
                .filter(|rec| rec.replica && rec.master == master && rec.offset > own);
            let rank = i64::try_from(ahead.count()).expect("few");
            let delay = match manual {
                true => 0,
                false => 500 + env.rng.i64(0..500) + rank * 1000,
            };
            self.election = Election {
                at: env.now + delay,
                ..Election::default()
            };
            self.broadcast(Kind::Pong, env);
            return;
        }
        if age < 0 || age > auth_timeout {
            return;
        }
        if !self.election.sent {
            self.current_epoch += 1;
            self.election.epoch = self.current_epoch;
            self.election.sent = true;
            self.save();
            self.broadcast(Kind::AuthRequest, env);
            return;
        }
        if self.election.votes as usize > self.size() / 2 {
            self.take_over(env);
        }
    }

    /// `clusterFailoverReplaceYourMaster`.
    fn take_over(&mut self, env: &mut Env<'_>) {
        let old = self.me().master;
        let epoch = self.election.epoch;
        self.former_master = old.map(|id| (id, env.now));
        self.manual.taken_from = old.filter(|_| self.may_start());
        self.end_manual();
        let segs = old
            .and_then(|id| self.recs.get_mut(&id))
            .map_or(0, |rec| std::mem::take(&mut rec.segs));
        let me = self.me_mut();
        me.replica = false;
        me.master = None;
        me.epoch = me.epoch.max(epoch);
        me.segs |= segs;
        self.replication = None;
        self.election = Election::default();
        self.save();
        self.judge_state(env);
        self.broadcast(Kind::Pong, env);
    }

    pub(crate) fn vote(&mut self, id: &NodeId, packet: &Packet, env: &mut Env<'_>) {
        let me = self.me();
        if me.replica || me.segs == 0 {
            return;
        }
        if packet.current_epoch < self.current_epoch || self.last_vote_epoch == self.current_epoch {
            return;
        }
        let Some(candidate) = self.recs.get(id).filter(|rec| rec.replica) else {
            return;
        };
        let Some(link) = candidate.link.filter(|link| link.up) else {
            return;
        };
        let Some(master) = candidate.master.and_then(|id| self.recs.get(&id)) else {
            return;
        };
        if !(master.fail || packet.forced) || env.now - master.voted_time < self.node_timeout * 2 {
            return;
        }
        let stale = self.segs().filter(|seg| packet.segs & seg != 0).any(|seg| {
            self.owner(seg)
                .is_some_and(|own| own.epoch > packet.config_epoch)
        });
        if stale {
            return;
        }
        let master = master.id;
        self.recs.get_mut(&master).expect("known").voted_time = env.now;
        self.last_vote_epoch = self.current_epoch;
        self.save();
        let packet = Rc::new(self.packet(Kind::AuthAck));
        let link = link.id;
        env.out.push(Effect::Send { link, packet });
    }

    pub(crate) fn count_vote(&mut self, id: &NodeId, packet: &Packet) {
        let voter = self.recs.get(id);
        let counts = voter.is_some_and(|rec| !rec.replica && rec.segs != 0);
        if self.election.sent && counts && packet.current_epoch >= self.election.epoch {
            self.election.votes += 1;
        }
    }
}
