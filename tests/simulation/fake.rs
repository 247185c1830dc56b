//! A fake Redis Cluster node: the cluster bus, elections and replication of Redis 7.0 as far as they
//! matter to an agent, after `cluster.c` and `replication.c`. It prints the real texts; the contract
//! test holds it to real servers.
//!
//! In: commands, packets and the clock. Out: [`Effect`]s for whoever carries packets. Slots are moved
//! in whole [`Segs`], the shares of the first masters; a key is one bit. Left out: slot moves,
//! the replication backlog.

pub(crate) mod bus;
pub(crate) mod commands;
pub(crate) mod cron;
pub(crate) mod election;
pub(crate) mod gossip;
pub(crate) mod manual;
pub(crate) mod migration;
pub(crate) mod replication;
pub(crate) mod slots;
pub(crate) mod text;
pub(crate) mod volume;

use redis_sidecar::model::identity::NodeId;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// The port of every fake Redis.
pub(crate) const PORT: u16 = 6379;
/// A set of segments: bit `i` is the share of the `i`th first master.
pub(crate) type Segs = u32;
/// A set of keys: key `k` is in segment `k % masters`.
pub(crate) type Keys = u128;
/// A connection of the cluster bus.
pub(crate) type LinkId = u64;

/// What a node wants done by its surroundings.
#[derive(Debug)]
pub(crate) enum Effect {
    Dial { link: LinkId, ip: IpAddr },
    Close(LinkId),
    Send { link: LinkId, packet: Rc<Packet> },
}

/// What a node is lent for one step.
pub(crate) struct Env<'a> {
    /// The node's wall clock, in milliseconds since 1970.
    pub(crate) now: i64,
    /// The address that its sockets have.
    pub(crate) my_ip: IpAddr,
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) out: &'a mut Vec<Effect>,
    pub(crate) next_link: &'a mut LinkId,
}

/// A message on the bus: the header that all have, and the gossip section.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) from: NodeId,
    /// The announced address; else the receiver takes that of the connection.
    pub(crate) my_ip: Option<IpAddr>,
    pub(crate) hostname: Rc<str>,
    pub(crate) master: Option<NodeId>,
    pub(crate) replica: bool,
    /// Its own slots, or its master's.
    pub(crate) segs: Segs,
    pub(crate) current_epoch: u64,
    pub(crate) config_epoch: u64,
    pub(crate) offset: u32,
    /// What a master has that holds its clients back (`CLUSTERMSG_FLAG0_PAUSED`).
    pub(crate) held: Option<Keys>,
    /// Votes are asked for although the master is well (`CLUSTERMSG_FLAG0_FORCEACK`).
    pub(crate) forced: bool,
    pub(crate) gossip: Vec<Gossip>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ping,
    Pong,
    Meet,
    Fail(NodeId),
    AuthRequest,
    MfStart,
    AuthAck,
    Update {
        node: NodeId,
        epoch: u64,
        segs: Segs,
    },
}

/// One node as another tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Gossip {
    pub(crate) id: NodeId,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) fail: bool,
    pub(crate) pfail: bool,
    pub(crate) noaddr: bool,
    pub(crate) replica: bool,
    pub(crate) pong_received: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// Connected; a link that still dials looks the same in the table.
    pub(crate) up: bool,
    pub(crate) made: i64,
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Rec {
    pub(crate) id: NodeId,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) replica: bool,
    pub(crate) master: Option<NodeId>,
    pub(crate) handshake: bool,
    /// The next packet on a new link is a MEET.
    pub(crate) meet: bool,
    pub(crate) noaddr: bool,
    pub(crate) pfail: bool,
    pub(crate) fail: bool,
    pub(crate) fail_time: i64,
    pub(crate) ping_sent: i64,
    pub(crate) pong_received: i64,
    pub(crate) data_received: i64,
    /// When its address last changed.
    pub(crate) moved: i64,
    pub(crate) made: i64,
    pub(crate) epoch: u64,
    pub(crate) segs: Segs,
    pub(crate) hostname: Rc<str>,
    pub(crate) link: Option<Link>,
    pub(crate) reports: BTreeMap<NodeId, i64>,
    pub(crate) voted_time: i64,
    /// It has been a replica since this node knows it.
    pub(crate) promoted: bool,
    pub(crate) offset: u32,
}

impl Rec {
    pub(crate) fn new(id: NodeId, ip: Option<IpAddr>, now: i64) -> Rec {
        Rec {
            id,
            ip,
            replica: false,
            master: None,
            handshake: false,
            meet: false,
            noaddr: false,
            pfail: false,
            fail: false,
            fail_time: 0,
            ping_sent: 0,
            pong_received: 0,
            data_received: 0,
            moved: NEVER,
            made: now,
            epoch: 0,
            segs: 0,
            hostname: "".into(),
            link: None,
            reports: BTreeMap::new(),
            voted_time: 0,
            promoted: false,
            offset: 0,
        }
    }
}

/// How the own copy of the master's data comes about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LinkState {
    /// Not connected; tried again at this time.
    Down {
        retry_at: i64,
    },
    /// Copying from that process until this time.
    Copying {
        from: Process,
        until: i64,
    },
    Up {
        from: Process,
    },
}

/// One start of the server in one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pod: usize,
    pub(crate) start: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Replication {
    pub(crate) host: IpAddr,
    pub(crate) state: LinkState,
    /// When it was last up; [`NEVER`] since the start.
    pub(crate) down_since: i64,
}

/// "Repl is down since ever": such a replica is not electable.
pub(crate) const NEVER: i64 = i64::MIN / 4;

/// An election of this node as master.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Election {
    pub(crate) at: i64,
    pub(crate) sent: bool,
    pub(crate) votes: u32,
    pub(crate) epoch: u64,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) run_id: u64,
    /// How many first masters there are, that is segments.
    pub(crate) masters: u16,
    pub(crate) booted: i64,
    pub(crate) loading_until: i64,
    pub(crate) recs: BTreeMap<NodeId, Rec>,
    pub(crate) current_epoch: u64,
    pub(crate) last_vote_epoch: u64,
    pub(crate) state_ok: bool,
    pub(crate) minority_at: i64,
    pub(crate) first_judged: i64,
    /// The master before the present one, and when that came.
    pub(crate) former_master: Option<(NodeId, i64)>,
    pub(crate) election: Election,
    pub(crate) manual: manual::Manual,
    pub(crate) replication: Option<Replication>,
    pub(crate) keys: Keys,
    pub(crate) announce_ip: Option<IpAddr>,
    pub(crate) announce_hostname: Rc<str>,
    pub(crate) node_timeout: i64,
    /// Grows when nodes.conf is written.
    pub(crate) saves: u64,
    pub(crate) ticks: u64,
    /// Forgotten nodes, until when gossip does not bring them back.
    pub(crate) banned: BTreeMap<NodeId, i64>,
    /// `repl-diskless-sync-delay`.
    pub(crate) copies_after_s: u64,
    /// On a replica: what it has read and not applied.
    pub(crate) behind: Keys,
    /// Replicas go to masters without any.
    pub(crate) migrates: bool,
    /// Masters without replicas, since when.
    pub(crate) orphans: BTreeMap<NodeId, i64>,
    /// Keys dropped in this step, for the judges.
    pub(crate) dropped: Keys,
    /// When it began its last whole copy, by its wall clock.
    pub(crate) copy_begun: i64,
}

impl Node {
    pub(crate) fn me(&self) -> &Rec {
        &self.recs[&self.id]
    }

    pub(crate) fn me_mut(&mut self) -> &mut Rec {
        self.recs.get_mut(&self.id).expect("myself is in the table")
    }

    pub(crate) fn is_replica(&self) -> bool {
        self.me().replica
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &Rec> {
        let me = self.id;
        self.recs.values().filter(move |rec| rec.id != me)
    }

    /// Settled nodes, myself left out.
    pub(crate) fn knows(&self) -> impl Iterator<Item = &Rec> {
        self.others().filter(|rec| !rec.handshake)
    }

    pub(crate) fn owner(&self, seg: Segs) -> Option<&Rec> {
        self.recs.values().find(|rec| rec.segs & seg != 0)
    }

    pub(crate) fn segs(&self) -> impl Iterator<Item = Segs> + use<> {
        (0..self.masters).map(|i| 1 << i)
    }

    /// Masters with slots: what makes a quorum.
    pub(crate) fn size(&self) -> usize {
        self.recs
            .values()
            .filter(|rec| !rec.replica && rec.segs != 0)
            .count()
    }

    /// The keys that lie in these segments.
    pub(crate) fn keys_in(&self, segs: Segs) -> Keys {
        let masters = usize::from(self.masters);
        let mut keys = 0;
        for key in 0..128_usize {
            if segs & (1 << (key % masters)) != 0 {
                keys |= 1 << key;
            }
        }
        keys & self.keys
    }

    pub(crate) fn save(&mut self) {
        self.saves += 1;
    }

    pub(crate) fn loading(&self, now: i64) -> bool {
        now < self.loading_until
    }

    /// Frees a link, if there is one; cron dials anew.
    pub(crate) fn free_link(&mut self, id: &NodeId, env: &mut Env<'_>) {
        if let Some(rec) = self.recs.get_mut(id)
            && let Some(link) = rec.link.take()
        {
            env.out.push(Effect::Close(link.id));
        }
    }

    /// Takes a node out of the table, and out of every other line.
    pub(crate) fn delete(&mut self, id: &NodeId, env: &mut Env<'_>) {
        self.free_link(id, env);
        self.recs.remove(id);
        for rec in self.recs.values_mut() {
            rec.reports.remove(id);
            if rec.master.as_ref() == Some(id) {
                rec.master = None;
            }
        }
    }
}
