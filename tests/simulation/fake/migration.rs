//! Replica migration (`cluster-allow-replica-migration yes`): a replica of a master that has two or more goes to a
//! master that has lost its last one (`clusterCron`, `clusterHandleSlaveMigration`). The contract does not play it,
//! as the nodes' random IDs say which replica goes.

use super::{Env, Node, Rec};
use redis_sidecar::model::identity::NodeId;
use std::collections::BTreeMap;

/// `CLUSTER_SLAVE_MIGRATION_DELAY`.
const DELAY_MS: i64 = 5000;
/// `cluster-migration-barrier`: so many replicas stay with a master.
const BARRIER: usize = 1;

impl Node {
    /// Of a replica, ten times a second.
    pub(crate) fn migrate(&mut self, env: &mut Env<'_>) {
        let settled = |rec: &&Rec| !rec.noaddr && !rec.handshake;
        let masters = || {
            self.recs
                .values()
                .filter(|rec| !rec.replica && !rec.fail)
                .filter(settled)
        };
        let most = masters().map(|rec| self.good_replicas(rec)).max();
        let mine = self.me().master.and_then(|id| self.recs.get(&id));
        let mine = mine.filter(|rec| !rec.replica && !rec.fail).filter(settled);
        let Some(master) = mine.filter(|rec| Some(self.good_replicas(rec)) == most) else {
            return;
        };
        if !masters().any(|rec| rec.segs != 0 && self.is_orphaned(rec)) || !self.state_ok {
            return;
        }
        let siblings = || self.replicas(&master.id);
        if most < Some(2) || siblings().filter(|rec| !rec.fail && !rec.pfail).count() <= BARRIER {
            return;
        }
        let orphans = masters().filter(|rec| self.is_orphaned(rec));
        let orphans = orphans.map(|rec| (rec.id, self.orphans.get(&rec.id).copied()));
        let orphans: BTreeMap<NodeId, i64> = orphans
            .map(|(id, since)| (id, since.unwrap_or(env.now)))
            .collect();
        let target = masters().find(|rec| orphans.contains_key(&rec.id) && rec.segs != 0);
        let target = target.map(|rec| rec.id);
        let others = masters().filter(|rec| Some(self.good_replicas(rec)) == most);
        let first = others
            .flat_map(|rec| self.replicas(&rec.id))
            .all(|rec| rec.id >= self.id);
        self.orphans = orphans;
        if let Some(target) = target
            && first
            && env.now - self.orphans[&target] > DELAY_MS
        {
            self.set_master(&target, env);
        }
    }

    fn replicas(&self, master: &NodeId) -> impl Iterator<Item = &Rec> {
        let of = Some(*master);
        self.recs
            .values()
            .filter(move |rec| rec.replica && rec.master == of)
    }

    /// `clusterCountNonFailingSlaves`
    fn good_replicas(&self, master: &Rec) -> usize {
        self.replicas(&master.id).filter(|rec| !rec.fail).count()
    }

    /// It has had replicas, or was one itself (`CLUSTER_NODE_MIGRATE_TO`), and none of them is left.
    fn is_orphaned(&self, master: &Rec) -> bool {
        let has_had = master.promoted || self.replicas(&master.id).next().is_some();
        has_had && self.good_replicas(master) == 0
    }
}
