//! What nodes tell of others, failure reports, and who is failing (`clusterProcessGossipSection`,
//! `markNodeAsFailingIfNeeded`).

use super::{Env, Gossip, Kind, Node, Packet, Rec};
use redis_sidecar::model::identity::NodeId;

impl Node {
    /// A few random nodes, and all that are suspected.
    pub(crate) fn gossip(&self, env: &mut Env<'_>) -> Vec<Gossip> {
        let tell = |rec: &Rec| Gossip {
            id: rec.id,
            ip: rec.ip,
            fail: rec.fail,
            pfail: rec.pfail,
            noaddr: rec.noaddr,
            replica: rec.replica,
            pong_received: rec.pong_received,
        };
        let mut fit: Vec<&Rec> = self
            .knows()
            .filter(|rec| !rec.noaddr && !rec.pfail && (rec.link.is_some() || rec.segs != 0))
            .collect();
        let wanted = 3.max(self.recs.len() / 10);
        let mut told = Vec::new();
        while told.len() < wanted && !fit.is_empty() {
            told.push(tell(fit.swap_remove(env.rng.usize(0..fit.len()))));
        }
        told.extend(
            self.knows()
                .filter(|rec| rec.pfail && !rec.noaddr)
                .map(tell),
        );
        told
    }

    /// `sender` is none for a MEET of an unknown node, whose gossip tells of known nodes alone, and
    /// whose failure reports count for nothing.
    pub(crate) fn read_gossip(
        &mut self,
        sender: Option<NodeId>,
        packet: &Packet,
        env: &mut Env<'_>,
    ) {
        for told in &packet.gossip {
            if told.id == self.id {
                continue;
            }
            let known = self.recs.contains_key(&told.id);
            let banned = self.banned.get(&told.id).is_some_and(|u| *u > env.now);
            if !known && !banned && sender.is_some() && !told.noaddr && told.ip.is_some() {
                // Added with its exact ID: a handshake could end with somebody else.
                let mut rec = Rec::new(told.id, told.ip, env.now);
                rec.replica = told.replica;
                rec.fail = told.fail;
                rec.pfail = told.pfail;
                rec.fail_time = env.now;
                self.recs.insert(told.id, rec);
                self.save();
            }
            if !known {
                continue;
            }
            let bad = told.fail || told.pfail;
            let master = sender.filter(|id| self.recs.get(id).is_some_and(|rec| !rec.replica));
            let Some(rec) = self.recs.get_mut(&told.id) else {
                continue;
            };
            if let Some(master) = master {
                if bad {
                    rec.reports.insert(master, env.now);
                } else {
                    rec.reports.remove(&master);
                }
            }
            if !bad
                && rec.ping_sent == 0
                && rec.reports.is_empty()
                && told.pong_received > rec.pong_received
                && told.pong_received <= env.now + 500
            {
                rec.pong_received = told.pong_received;
            }
            let moved = !bad
                && !told.noaddr
                && (rec.fail || rec.pfail)
                && told.ip.is_some()
                && told.ip != rec.ip;
            if moved {
                rec.ip = told.ip;
                rec.moved = env.now;
                rec.noaddr = false;
                let id = rec.id;
                self.free_link(&id, env);
                self.save();
            }
            if master.is_some() && bad {
                self.mark_failing(&told.id, env);
            }
        }
    }

    /// PFAIL becomes FAIL when a majority of the masters says so; judged when one of them does.
    pub(crate) fn mark_failing(&mut self, id: &NodeId, env: &mut Env<'_>) {
        let needed = self.size() / 2 + 1;
        let oldest = env.now - self.node_timeout * 2;
        let i_count = usize::from(!self.is_replica());
        let Some(rec) = self.recs.get_mut(id).filter(|rec| rec.pfail && !rec.fail) else {
            return;
        };
        rec.reports.retain(|_, at| *at >= oldest);
        if rec.reports.len() + i_count < needed {
            return;
        }
        rec.pfail = false;
        rec.fail = true;
        rec.fail_time = env.now;
        self.save();
        self.broadcast(Kind::Fail(*id), env);
    }

    pub(crate) fn told_failed(&mut self, id: &NodeId, env: &mut Env<'_>) {
        let me = self.id;
        let rec = self
            .recs
            .get_mut(id)
            .filter(|rec| !rec.fail && rec.id != me);
        if let Some(rec) = rec {
            rec.fail = true;
            rec.pfail = false;
            rec.fail_time = env.now;
            self.save();
        }
    }
}
