//! A replica takes over from a master that is well (`CLUSTER FAILOVER`, `clusterHandleManualFailover`):
//! the master holds its clients back and says what it has, the replica waits until it has that too,
//! and then stands for election at once. What has not come about in time is over.

use super::{Effect, Env, Keys, Kind, Node, Packet};
use redis_sidecar::model::identity::NodeId;
use std::rc::Rc;

/// `CLUSTER_MF_TIMEOUT`; the master holds clients back for up to twice that.
const TIMEOUT_MS: i64 = 5000;

/// What is under way, on either side.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manual {
    /// When it is given up; none while none is under way.
    end: Option<i64>,
    /// On the master: who is to take over.
    replica: Option<NodeId>,
    /// On the master: until when clients are held back.
    held_until: i64,
    /// On the replica: what the master has.
    master_has: Option<Keys>,
    /// On the replica: it has the same.
    can_start: bool,
    /// On the new master, for the judges: from whom.
    pub(crate) taken_from: Option<NodeId>,
}

impl Node {
    /// `CLUSTER FAILOVER`
    pub(crate) fn failover(&mut self, env: &mut Env<'_>) -> Result<(), String> {
        if !self.is_replica() {
            return Err("ERR You should send CLUSTER FAILOVER to a replica".to_owned());
        }
        let Some(master) = self.me().master.and_then(|id| self.recs.get(&id)) else {
            return Err("ERR I'm a replica but my master is unknown to me".to_owned());
        };
        let Some(link) = master.link.filter(|_| !master.fail) else {
            let what = "ERR Master is down or failed, please use CLUSTER FAILOVER FORCE";
            return Err(what.to_owned());
        };
        self.end_manual();
        self.manual.end = Some(env.now + TIMEOUT_MS);
        let packet = Rc::new(self.packet(Kind::MfStart));
        let link = link.id;
        env.out.push(Effect::Send { link, packet });
        Ok(())
    }

    /// `CLUSTER FAILOVER FORCE`: the master is not asked, and the election begins at once.
    pub(crate) fn failover_by_force(&mut self, env: &mut Env<'_>) -> Result<(), String> {
        if !self.is_replica() {
            return Err("ERR You should send CLUSTER FAILOVER to a replica".to_owned());
        }
        if self.me().master.is_none() {
            return Err("ERR I'm a replica but my master is unknown to me".to_owned());
        }
        self.end_manual();
        self.manual.end = Some(env.now + TIMEOUT_MS);
        self.manual.can_start = true;
        Ok(())
    }

    /// `resetManualFailover`
    pub(crate) fn end_manual(&mut self) {
        let taken_from = self.manual.taken_from;
        self.manual = Manual {
            taken_from,
            ..Manual::default()
        };
    }

    /// Whether clients' writes are held back.
    pub(crate) fn holds_writes(&self, now: i64) -> bool {
        now < self.manual.held_until
    }

    /// A replica of this master wants to take over.
    pub(crate) fn start_manual(&mut self, sender: &NodeId, env: &mut Env<'_>) {
        let mine = self.recs.get(sender).and_then(|rec| rec.master) == Some(self.id);
        if self.is_replica() || !mine {
            return;
        }
        self.end_manual();
        self.manual.end = Some(env.now + TIMEOUT_MS);
        self.manual.replica = Some(*sender);
        self.manual.held_until = env.now + TIMEOUT_MS * 2;
        self.ping_successor(env);
    }

    /// What this master has, for the one that is to take over: in every packet meanwhile.
    pub(crate) fn says_held(&self) -> Option<Keys> {
        self.manual.replica.map(|_| self.keys)
    }

    /// The master has said what it has.
    pub(crate) fn hear_held(&mut self, sender: Option<NodeId>, packet: &Packet) {
        let master = self.me().master;
        let from_master = sender.is_some() && sender == master;
        if self.is_replica() && self.manual.end.is_some() && from_master {
            self.manual.master_has = self.manual.master_has.or(packet.held);
        }
    }

    /// Ten times a second, on either side.
    pub(crate) fn mind_manual(&mut self, env: &mut Env<'_>) {
        if self.manual.end.is_some_and(|end| env.now > end) {
            self.end_manual();
        }
        self.ping_successor(env);
        if self.manual.master_has == Some(self.keys) {
            self.manual.can_start = true;
        }
    }

    /// Whether this replica may stand for election although its master is well.
    pub(crate) fn may_start(&self) -> bool {
        self.manual.end.is_some() && self.manual.can_start
    }

    fn ping_successor(&mut self, env: &mut Env<'_>) {
        let successor = self.manual.replica.and_then(|id| self.recs.get(&id));
        let link = successor.and_then(|rec| rec.link).filter(|link| link.up);
        if let Some(link) = link.filter(|_| self.manual.end.is_some()) {
            self.send_ping(link.id, Kind::Ping, env);
        }
    }
}
