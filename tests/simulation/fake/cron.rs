//! What a node does ten times a second (`clusterCron`): dials, pings, suspects, stands for election.

use super::{Effect, Env, Kind, Link, Node};
use redis_sidecar::model::identity::NodeId;

/// How often cron runs, in milliseconds.
pub(crate) const PERIOD_MS: i64 = 100;

impl Node {
    pub(crate) fn cron(&mut self, env: &mut Env<'_>) {
        if self.loading(env.now) {
            return;
        }
        self.ticks += 1;
        self.announce();
        let ids: Vec<NodeId> = self.recs.keys().copied().collect();
        let handshake_ms = self.node_timeout.max(1000);
        for id in &ids {
            let rec = &self.recs[id];
            if *id == self.id || rec.noaddr {
                continue;
            }
            if rec.handshake && env.now - rec.made > handshake_ms {
                self.delete(id, env);
                continue;
            }
            if rec.link.is_none()
                && let Some(ip) = rec.ip
            {
                *env.next_link += 1;
                let link = *env.next_link;
                let made = env.now;
                self.recs.get_mut(id).expect("listed").link = Some(Link {
                    id: link,
                    up: false,
                    made,
                });
                env.out.push(Effect::Dial { link, ip });
            }
        }
        if self.ticks.is_multiple_of(10) {
            self.ping_oldest(env);
        }
        self.suspect(&ids, env);
        self.mind_master(env);
        self.mind_manual(env);
        if self.is_replica() {
            self.stand_for_election(env);
            if self.migrates && self.is_replica() {
                self.migrate(env);
            }
        }
        self.judge_state(env);
    }

    /// The announced names take effect (`clusterUpdateMyselfIp`).
    fn announce(&mut self) {
        let (ip, hostname) = (self.announce_ip, self.announce_hostname.clone());
        let me = self.me_mut();
        if (ip.is_some() && me.ip != ip) || me.hostname != hostname {
            me.ip = ip.or(me.ip);
            me.hostname = hostname;
            self.save();
        }
    }

    /// Of five random nodes, the one not heard of for the longest time.
    fn ping_oldest(&mut self, env: &mut Env<'_>) {
        let fit: Vec<(i64, Link)> = self
            .others()
            .filter(|rec| !rec.handshake && rec.ping_sent == 0)
            .filter_map(|rec| Some((rec.pong_received, rec.link?)))
            .collect();
        if fit.is_empty() {
            return;
        }
        let oldest = (0..5)
            .map(|_| fit[env.rng.usize(0..fit.len())])
            .min_by_key(|(pong, _)| *pong);
        if let Some((_, link)) = oldest {
            self.ping_or_queue(link, env);
        }
    }

    /// On a link that still dials the PING waits in its buffer; its time counts all the same.
    fn ping_or_queue(&mut self, link: Link, env: &mut Env<'_>) {
        if link.up {
            self.send_ping(link.id, Kind::Ping, env);
        } else if let Some(rec) = self
            .recs
            .values_mut()
            .find(|rec| rec.link.is_some_and(|own| own.id == link.id))
        {
            rec.ping_sent = env.now;
        }
    }

    fn suspect(&mut self, ids: &[NodeId], env: &mut Env<'_>) {
        let (now, timeout) = (env.now, self.node_timeout);
        for id in ids {
            let Some(rec) = self.recs.get(id) else {
                continue;
            };
            if *id == self.id || rec.noaddr || rec.handshake {
                continue;
            }
            let ping_age = now - rec.ping_sent;
            let data_age = now - rec.data_received;
            if let Some(link) = rec.link
                && now - link.made > timeout
                && rec.ping_sent != 0
                && ping_age > timeout / 2
                && data_age > timeout / 2
            {
                self.free_link(id, env);
            }
            let rec = &self.recs[id];
            if let Some(link) = rec.link
                && rec.ping_sent == 0
                && now - rec.pong_received > timeout / 2
            {
                self.ping_or_queue(link, env);
                continue;
            }
            if rec.ping_sent == 0 {
                continue;
            }
            let silent_for = ping_age.min(data_age);
            if silent_for > timeout && !rec.pfail && !rec.fail {
                self.recs.get_mut(id).expect("listed").pfail = true;
                self.save();
            }
        }
    }
}
