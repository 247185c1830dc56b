//! Who owns which slots: claims, the newer epoch wins, and what a loser does
//! (`clusterUpdateSlotsConfigWith`, `clusterHandleConfigEpochCollision`, `clusterUpdateState`).

use super::{Effect, Env, Kind, Node, Packet, Segs};
use redis_sidecar::model::identity::NodeId;
use std::rc::Rc;

/// A master just started stays at fail for this long (`CLUSTER_WRITABLE_DELAY`).
const WRITABLE_DELAY_MS: i64 = 2000;

impl Node {
    /// A sender's claim differs from the table: the table changes, or the sender is told.
    pub(crate) fn learn_slots(&mut self, id: &NodeId, packet: &Packet, env: &mut Env<'_>) {
        let Some(rec) = self.recs.get(id) else { return };
        let (is_master, master) = (!rec.replica, rec.master);
        let speaks_for = if is_master { Some(*id) } else { master };
        let dirty = speaks_for
            .and_then(|id| self.recs.get(&id))
            .is_some_and(|rec| rec.segs != packet.segs);
        if !dirty {
            return;
        }
        if is_master {
            self.rebind(id, packet.config_epoch, packet.segs, env);
        }
        let newer = self.segs().find_map(|seg| {
            let claimed = packet.segs & seg != 0;
            self.owner(seg)
                .filter(|own| claimed && own.id != *id && own.epoch > packet.config_epoch)
        });
        let Some(newer) = newer else { return };
        let kind = Kind::Update {
            node: newer.id,
            epoch: newer.epoch,
            segs: newer.segs,
        };
        let link = self.recs.get(id).and_then(|rec| rec.link);
        if let Some(link) = link.filter(|link| link.up) {
            let packet = Rc::new(self.packet(kind));
            let link = link.id;
            env.out.push(Effect::Send { link, packet });
        }
    }

    pub(crate) fn told_update(&mut self, id: &NodeId, epoch: u64, segs: Segs, env: &mut Env<'_>) {
        let me = self.id;
        let newer = |rec: &&mut super::Rec| rec.id != me && rec.epoch < epoch;
        let Some(rec) = self.recs.get_mut(id).filter(newer) else {
            return;
        };
        rec.promoted |= rec.replica;
        rec.replica = false;
        rec.master = None;
        rec.epoch = epoch;
        self.save();
        self.rebind(id, epoch, segs, env);
    }

    /// Slots go to `id` where nobody or a node with an older epoch has them. A master that loses its
    /// last slot becomes a replica of the new owner, and so do its replicas.
    fn rebind(&mut self, id: &NodeId, epoch: u64, segs: Segs, env: &mut Env<'_>) {
        if *id == self.id {
            return;
        }
        let mine = if self.is_replica() {
            self.me().master
        } else {
            Some(self.id)
        };
        let (mut lost, mut dirty) = (false, 0);
        for seg in self.segs().filter(|seg| segs & seg != 0) {
            let owner = self.owner(seg).map(|rec| (rec.id, rec.epoch));
            match owner {
                Some((owner, _)) if owner == *id => continue,
                Some((_, has)) if has >= epoch => continue,
                _ => {}
            }
            if let Some((owner, _)) = owner {
                self.recs.get_mut(&owner).expect("owner").segs &= !seg;
                lost |= Some(owner) == mine;
                if owner == self.id {
                    dirty |= seg;
                }
            }
            self.recs.get_mut(id).expect("claims").segs |= seg;
            self.save();
        }
        let left = mine.and_then(|id| self.recs.get(&id)).map_or(0, |m| m.segs);
        if lost && left == 0 {
            self.set_master(id, env);
        } else if let Some(grand) = self.grand_master() {
            self.set_master(&grand, env);
        } else if dirty != 0 {
            let keys = self.keys_in(dirty);
            self.drop_keys(keys);
        }
    }

    /// The master of the own master, if that has become a replica ("I'm a sub-replica!", not in 6.0).
    fn grand_master(&self) -> Option<NodeId> {
        let master = self.recs.get(&self.me().master?)?;
        master.master.filter(|grand| *grand != self.id)
    }

    pub(crate) fn settle_collision(&mut self, id: &NodeId, packet: &Packet, _: &mut Env<'_>) {
        let both = !packet.replica && !self.is_replica();
        if both && packet.config_epoch == self.me().epoch && *id > self.id {
            self.current_epoch += 1;
            self.me_mut().epoch = self.current_epoch;
            self.save();
        }
    }

    /// `clusterUpdateState`, with the node timeout as it is now.
    pub(crate) fn judge_state(&mut self, env: &mut Env<'_>) {
        let master = !self.is_replica();
        if self.first_judged == 0 {
            self.first_judged = env.now;
        }
        if master && !self.state_ok && env.now - self.first_judged < WRITABLE_DELAY_MS {
            return;
        }
        let owned = |seg| self.owner(seg).is_some_and(|rec| !rec.fail);
        let covered = self.segs().all(owned);
        let reached = self
            .recs
            .values()
            .filter(|rec| !rec.replica && rec.segs != 0 && !rec.fail && !rec.pfail)
            .count();
        let in_majority = reached > self.size() / 2;
        if !in_majority {
            self.minority_at = env.now;
        }
        let ok = covered && in_majority;
        let delay = self.node_timeout.clamp(500, 5000);
        if ok && !self.state_ok && master && env.now - self.minority_at < delay {
            return;
        }
        self.state_ok = ok;
    }

    /// Forgets keys, and notes which.
    pub(crate) fn drop_keys(&mut self, keys: super::Keys) {
        self.dropped |= self.keys & keys;
        self.keys &= !keys;
    }
}
