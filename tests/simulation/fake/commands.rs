//! The commands that an agent may send, with Redis's conditions and words for refusing.

use super::{Env, Node, Rec, bus::random_id, text::ranges};
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::slots::SlotSet;
use std::net::IpAddr;

/// `CLUSTER_BLACKLIST_TTL`.
const BAN_MS: i64 = 60_000;

impl Node {
    /// Carries an action's commands out, or says why not.
    pub(crate) fn obey(&mut self, action: &Action, env: &mut Env<'_>) -> Result<(), String> {
        // From 7.0 on it takes CONFIG SET.
        let configures = matches!(action, Action::Announce { .. } | Action::Copies { .. });
        if self.loading(env.now) && !configures {
            return Err("LOADING Redis is loading the dataset in memory".to_owned());
        }
        match action {
            Action::Announce { name, value } => {
                match *name {
                    "cluster-announce-ip" => self.announce_ip = value.parse().ok(),
                    "cluster-announce-hostname" => self.announce_hostname = value.as_str().into(),
                    _ => return Err(format!("ERR Unknown option {name}")),
                }
                Ok(())
            }
            Action::SetConfigEpoch(epoch) => self.set_config_epoch(*epoch),
            Action::AddSlots { slots, .. } => self.add_slots(slots, env),
            Action::Meet { ip, .. } => {
                self.meet(*ip, env);
                Ok(())
            }
            Action::DropHandshake { id, .. } => {
                if !self.recs.contains_key(id) {
                    return Err(format!("ERR Unknown node {id}"));
                }
                self.forget(id, env);
                Ok(())
            }
            Action::Replicate { master, .. } => self.replicate_of(master, env),
            Action::ForceFailover { .. } => self.failover_by_force(env),
            Action::Forget { id, .. } => self.forget_node(id, env),
            Action::Copies { to, .. } => {
                self.copies_after_s = to.delay_s;
                Ok(())
            }
            Action::HandOver { .. } | Action::TakeOver { .. } => self.failover(env),
            Action::Hasten {
                short_ms,
                restore_ms,
                ..
            } => {
                self.node_timeout = i64::try_from(*short_ms).expect("a time");
                self.judge_state(env);
                self.node_timeout = i64::try_from(*restore_ms).expect("a time");
                Ok(())
            }
            Action::RestoreNodeTimeout(ms) => {
                self.node_timeout = i64::try_from(*ms).expect("a time");
                Ok(())
            }
            Action::Remember(_)
            | Action::KeepConf(_)
            | Action::RestoreConf { .. }
            | Action::Record(_) => Ok(()),
        }
    }

    fn set_config_epoch(&mut self, epoch: u64) -> Result<(), String> {
        if self.recs.len() > 1 {
            return Err("ERR The user can assign a config epoch only when the node does not know any other node.".to_owned());
        }
        if self.me().epoch != 0 {
            return Err("ERR Node config epoch is already non-zero".to_owned());
        }
        self.me_mut().epoch = epoch;
        self.current_epoch = self.current_epoch.max(epoch);
        self.save();
        Ok(())
    }

    fn add_slots(&mut self, slots: &SlotSet, env: &mut Env<'_>) -> Result<(), String> {
        let mut left = slots.clone();
        let mut segs = 0;
        for index in 0..self.masters {
            let share = SlotSet::planned(index, self.masters);
            if share.minus(slots).is_empty() {
                left = left.minus(&share);
                segs |= 1 << index;
            }
        }
        assert!(left.is_empty(), "an agent took {slots}, no whole shares");
        for seg in self.segs().filter(|seg| segs & seg != 0) {
            if self.owner(seg).is_some() {
                let busy = ranges(seg, self.masters);
                let slot = busy.ranges().first().map_or(0, |(first, _)| *first);
                return Err(format!("ERR Slot {slot} is already busy"));
            }
        }
        self.me_mut().segs |= segs;
        self.save();
        self.judge_state(env);
        Ok(())
    }

    /// `clusterStartHandshake`: one handshake an address.
    pub(crate) fn meet(&mut self, ip: IpAddr, env: &mut Env<'_>) {
        let under_way = self
            .recs
            .values()
            .any(|rec| rec.handshake && rec.ip == Some(ip));
        if under_way {
            return;
        }
        let id = random_id(env.rng);
        let mut rec = Rec::new(id, Some(ip), env.now);
        rec.handshake = true;
        rec.meet = true;
        self.recs.insert(id, rec);
    }

    pub(crate) fn replicate_of(&mut self, id: &NodeId, env: &mut Env<'_>) -> Result<(), String> {
        let Some(target) = self.recs.get(id) else {
            return Err(format!("ERR Unknown node {id}"));
        };
        if *id == self.id {
            return Err("ERR Can't replicate myself".to_owned());
        }
        if target.replica {
            return Err("ERR I can only replicate a master, not a replica.".to_owned());
        }
        let me = self.me();
        if !me.replica && (me.segs != 0 || self.keys != 0) {
            return Err(
                "ERR To set a master the node must be empty and without assigned slots.".to_owned(),
            );
        }
        self.set_master(id, env);
        Ok(())
    }

    /// `CLUSTER FORGET` of a node: it is banned for 60 s (`clusterBlacklistAddNode`).
    fn forget_node(&mut self, id: &NodeId, env: &mut Env<'_>) -> Result<(), String> {
        if !self.recs.contains_key(id) {
            return Err(format!("ERR Unknown node {id}"));
        }
        if *id == self.id {
            return Err("ERR I tried hard but I can't forget myself...".to_owned());
        }
        if self.me().replica && self.me().master == Some(*id) {
            return Err("ERR Can't forget my master!".to_owned());
        }
        self.banned.insert(*id, env.now + BAN_MS);
        self.forget(id, env);
        Ok(())
    }

    /// `CLUSTER FORGET`, as far as anybody here uses it.
    pub(crate) fn forget(&mut self, id: &NodeId, env: &mut Env<'_>) {
        if *id != self.id {
            self.delete(id, env);
            self.save();
        }
    }
}
