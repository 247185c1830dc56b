//! What a server leaves on its volume, and how it starts from it.

use super::{Election, Keys, Node, Rec, bus::random_id};
use crate::layout::Layout;
use redis_sidecar::model::history::Standing;
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::kept_conf::{DataOnVolume, KeptConf};
use redis_sidecar::model::node_table::NodesConf;
use redis_sidecar::model::observation::{NodesFile, VolumeNote};
use std::collections::BTreeMap;

/// One pod's volume.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    /// nodes.conf.
    pub(crate) conf: Option<Conf>,
    /// The data.
    pub(crate) keys: Keys,
    /// The agent's note.
    pub(crate) note: Option<VolumeNote>,
    /// The agent's copies of nodes.conf, the newest first: as text, and what is in them.
    copies: Vec<(NodesConf, Conf)>,
    /// What is wrong with nodes.conf.
    pub(crate) damage: Damage,
    /// There is not even an empty data file.
    pub(crate) data_gone: bool,
    /// What was on it was lost, for the judges.
    pub(crate) lost: bool,
    /// How the node stood after the last event of its history.
    pub(crate) stood: Option<Standing>,
}

/// How whole nodes.conf is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Damage {
    #[default]
    None,
    /// Redis exits for it.
    Torn,
}

/// nodes.conf.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    pub(crate) id: NodeId,
    recs: BTreeMap<NodeId, Rec>,
    current_epoch: u64,
    last_vote_epoch: u64,
}

/// How a server is configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) masters: u16,
    pub(crate) node_timeout: i64,
    pub(crate) migrates: bool,
}

impl Settings {
    pub(crate) fn of(layout: &Layout) -> Settings {
        Settings {
            masters: layout.shape.masters,
            node_timeout: layout.node_timeout,
            migrates: layout.migrates,
        }
    }
}

impl Disk {
    /// The text that a server which has ended left in nodes.conf.
    pub(crate) fn nodes_conf_text(&self, settings: Settings, now: i64) -> Option<String> {
        self.conf.as_ref()?;
        let rng = &mut fastrand::Rng::with_seed(0);
        Some(Node::boot(self, settings, 0, now, rng).nodes_conf_text())
    }
}

impl Disk {
    /// In the place of one that was lost.
    pub(crate) fn bare() -> Disk {
        Disk {
            lost: true,
            ..Disk::default()
        }
    }

    /// Keeps what a Redis has in its nodes.conf now as the newest copy.
    pub(crate) fn keep(&mut self, text: &NodesConf, node: &Node) {
        let mut now = Disk::default();
        node.saved(&mut now);
        self.copies
            .extend(now.conf.map(|conf| (text.clone(), conf)));
        self.copies.rotate_right(1);
        self.copies.truncate(3);
    }

    /// Puts a copy back; whose node it is of.
    pub(crate) fn restore(&mut self, text: &NodesConf) -> Option<NodeId> {
        let (_, conf) = self.copies.iter().find(|(copy, _)| copy == text)?;
        self.conf = Some(conf.clone());
        self.damage = Damage::None;
        Some(conf.id)
    }

    /// What an agent sees of it.
    pub(crate) fn kept(&self) -> KeptConf {
        let copies = self.copies.iter();
        KeptConf {
            copies: copies
                .map(|(copy, _)| NodesFile::Read(copy.clone()))
                .collect(),
            // With AOF on there is a file as soon as Redis has run.
            data: if self.data_gone || (self.keys == 0 && self.conf.is_none()) {
                DataOnVolume::None
            } else {
                DataOnVolume::Some
            },
            ..KeptConf::default()
        }
    }
}

impl Conf {
    /// The table of one node of a whole cluster, as if it had just been stopped.
    pub(crate) fn of_member(id: NodeId, members: &[Rec], current_epoch: u64) -> Conf {
        Conf {
            id,
            recs: members.iter().map(|rec| (rec.id, rec.clone())).collect(),
            current_epoch,
            last_vote_epoch: 0,
        }
    }
}

impl Node {
    /// What nodes.conf and the data are now. Nodes in handshake are not written.
    pub(crate) fn saved(&self, disk: &mut Disk) {
        let settled = self.recs.iter().filter(|(_, rec)| !rec.handshake);
        disk.keys = self.keys;
        disk.damage = Damage::None;
        disk.data_gone = false;
        disk.conf = Some(Conf {
            id: self.id,
            recs: settled.map(|(id, rec)| (*id, rec.clone())).collect(),
            current_epoch: self.current_epoch,
            last_vote_epoch: self.last_vote_epoch,
        });
    }

    /// Starts from a volume (`clusterLoadConfig`, `verifyClusterConfigWithData`).
    pub(crate) fn boot(
        disk: &Disk,
        settings: Settings,
        loads_for: i64,
        now: i64,
        rng: &mut fastrand::Rng,
    ) -> Node {
        let conf = disk.conf.clone().unwrap_or_else(|| {
            let id = random_id(rng);
            Conf {
                id,
                recs: [(id, Rec::new(id, None, now))].into(),
                current_epoch: 0,
                last_vote_epoch: 0,
            }
        });
        let mut node = Node {
            id: conf.id,
            run_id: rng.u64(..),
            masters: settings.masters,
            booted: now,
            loading_until: now + loads_for,
            recs: conf.recs,
            current_epoch: conf.current_epoch,
            last_vote_epoch: conf.last_vote_epoch,
            state_ok: false,
            minority_at: 0,
            first_judged: 0,
            former_master: None,
            election: Election::default(),
            manual: Default::default(),
            replication: None,
            keys: disk.keys,
            announce_ip: None,
            announce_hostname: "".into(),
            node_timeout: settings.node_timeout,
            saves: 0,
            ticks: 0,
            banned: Default::default(),
            copies_after_s: 0,
            behind: 0,
            migrates: settings.migrates,
            orphans: Default::default(),
            dropped: 0,
            copy_begun: 0,
        };
        for rec in node.recs.values_mut() {
            let known = rec.clone();
            *rec = Rec::new(known.id, known.ip, now);
            rec.replica = known.replica;
            rec.master = known.master;
            rec.noaddr = known.noaddr;
            rec.pfail = known.pfail;
            rec.fail = known.fail;
            rec.fail_time = if known.fail { now } else { 0 };
            rec.epoch = known.epoch;
            rec.segs = known.segs;
            rec.hostname = known.hostname;
            // Any number but 0 is loaded as the time of the start.
            rec.ping_sent = if known.ping_sent == 0 { 0 } else { now };
            rec.pong_received = if known.pong_received == 0 { 0 } else { now };
        }
        if !node.is_replica() {
            let unowned: Vec<_> = node
                .segs()
                .filter(|seg| node.owner(*seg).is_none())
                .collect();
            for seg in unowned {
                if node.keys_in(seg) != 0 {
                    node.me_mut().segs |= seg;
                }
            }
        }
        node
    }
}
