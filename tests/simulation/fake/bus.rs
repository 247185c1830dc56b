//! Packets in and out: handshakes, addresses, roles, failure reports (`clusterProcessPacket`).

use super::{Effect, Env, Kind, LinkId, Node, Packet, Rec};
use redis_sidecar::model::identity::NodeId;
use std::net::IpAddr;
use std::rc::Rc;

impl Node {
    /// The header that every packet has (`clusterBuildMessageHdr`).
    pub(crate) fn packet(&self, kind: Kind) -> Packet {
        let me = self.me();
        let master = me.master.and_then(|id| self.recs.get(&id));
        let speaks_for = if me.replica { master.unwrap_or(me) } else { me };
        Packet {
            kind,
            from: self.id,
            my_ip: self.announce_ip,
            hostname: Rc::clone(&self.announce_hostname),
            master: me.master,
            replica: me.replica,
            segs: speaks_for.segs,
            current_epoch: self.current_epoch,
            config_epoch: speaks_for.epoch,
            offset: self.keys.count_ones(),
            held: self.says_held(),
            forced: self.may_start(),
            gossip: Vec::new(),
        }
    }

    /// PING, PONG or MEET with a gossip section.
    pub(crate) fn send_ping(&mut self, link: LinkId, kind: Kind, env: &mut Env<'_>) {
        let mut packet = self.packet(kind);
        packet.gossip = self.gossip(env);
        if kind != Kind::Pong
            && let Some(rec) = self.rec_of_link(link)
        {
            rec.ping_sent = env.now;
        }
        let packet = Rc::new(packet);
        env.out.push(Effect::Send { link, packet });
    }

    /// To every node that is linked and not in handshake.
    pub(crate) fn broadcast(&mut self, kind: Kind, env: &mut Env<'_>) {
        let links: Vec<LinkId> = self
            .knows()
            .filter_map(|rec| Some(rec.link.filter(|link| link.up)?.id))
            .collect();
        for link in links {
            match kind {
                Kind::Ping | Kind::Pong | Kind::Meet => self.send_ping(link, kind, env),
                _ => {
                    let packet = Rc::new(self.packet(kind));
                    env.out.push(Effect::Send { link, packet });
                }
            }
        }
    }

    fn rec_of_link(&mut self, link: LinkId) -> Option<&mut Rec> {
        self.recs
            .values_mut()
            .find(|rec| rec.link.is_some_and(|own| own.id == link))
    }

    /// The dialled connection is there (`clusterLinkConnectHandler`).
    pub(crate) fn connected(&mut self, link: LinkId, env: &mut Env<'_>) {
        let Some(rec) = self.rec_of_link(link) else {
            return;
        };
        if let Some(own) = &mut rec.link {
            own.up = true;
        }
        let kind = if rec.meet { Kind::Meet } else { Kind::Ping };
        let waiting_since = rec.ping_sent;
        rec.meet = false;
        self.send_ping(link, kind, env);
        if let Some(rec) = self.rec_of_link(link).filter(|_| waiting_since != 0) {
            rec.ping_sent = waiting_since;
        }
    }

    /// The connection was refused or broke.
    pub(crate) fn broken(&mut self, link: LinkId) {
        if let Some(rec) = self.rec_of_link(link) {
            rec.link = None;
        }
    }

    /// A packet, from the node at `from_ip`, over a link that this node dialled or accepted.
    pub(crate) fn receive(
        &mut self,
        link: LinkId,
        from_ip: IpAddr,
        packet: &Packet,
        env: &mut Env<'_>,
    ) {
        // Only answers come over a dialled link; who dials itself has both ends of it.
        let dialled = match packet.kind {
            Kind::Pong => self.rec_of_link(link).map(|rec| (rec.id, rec.handshake)),
            _ => None,
        };
        let mut sender = match dialled {
            Some((id, false)) => Some(id),
            _ => Some(packet.from).filter(|id| self.settled(id)),
        };
        let now = env.now;
        if let Some(rec) = sender.and_then(|id| self.recs.get_mut(&id)) {
            rec.data_received = now;
        }
        // Of the node that was dialled, whoever answers there (`getNodeFromLinkAndMsg`).
        self.learn_epochs(sender, packet);
        self.hear_held(sender, packet);
        match packet.kind {
            Kind::Ping | Kind::Meet => {
                let announced = env.my_ip;
                let me_ip = self.me().ip;
                if (packet.kind == Kind::Meet || me_ip.is_none())
                    && self.announce_ip.is_none()
                    && me_ip != Some(announced)
                {
                    self.me_mut().ip = Some(announced);
                    self.save();
                }
                if sender.is_none() && packet.kind == Kind::Meet {
                    let ip = packet.my_ip.unwrap_or(from_ip);
                    let id = random_id(env.rng);
                    let mut rec = Rec::new(id, Some(ip), now);
                    rec.handshake = true;
                    self.recs.insert(id, rec);
                    self.read_gossip(None, packet, env);
                }
                self.send_ping(link, Kind::Pong, env);
            }
            _ => {}
        }
        if matches!(packet.kind, Kind::Ping | Kind::Pong | Kind::Meet) {
            if let Some((dialled, handshake)) = dialled {
                if handshake {
                    if let Some(known) = sender {
                        self.move_if_needed(&known, from_ip, packet, env);
                        self.delete(&dialled, env);
                        return;
                    }
                    self.rename(&dialled, packet);
                    self.heard(&packet.from, env);
                    sender = None;
                } else if dialled != packet.from {
                    let rec = self.recs.get_mut(&dialled).expect("dialled");
                    rec.noaddr = true;
                    rec.ip = None;
                    self.free_link(&dialled, env);
                    self.save();
                    return;
                }
            }
            if packet.kind == Kind::Ping
                && let Some(id) = sender
            {
                self.move_if_needed(&id, from_ip, packet, env);
            }
            if packet.kind == Kind::Pong
                && let Some((id, false)) = dialled
            {
                self.heard(&id, env);
            }
            if let Some(id) = sender {
                self.learn_role(&id, packet);
                self.learn_slots(&id, packet, env);
                self.settle_collision(&id, packet, env);
                self.read_gossip(Some(id), packet, env);
                if let Some(rec) = self.recs.get_mut(&id) {
                    rec.hostname = Rc::clone(&packet.hostname);
                    rec.offset = packet.offset;
                }
            }
            return;
        }
        let Some(sender) = sender else { return };
        match packet.kind {
            Kind::Fail(id) => self.told_failed(&id, env),
            Kind::AuthRequest => self.vote(&sender, packet, env),
            Kind::AuthAck => self.count_vote(&sender, packet),
            Kind::MfStart => self.start_manual(&sender, env),
            Kind::Update { node, epoch, segs } => self.told_update(&node, epoch, segs, env),
            Kind::Ping | Kind::Pong | Kind::Meet => {}
        }
    }

    fn settled(&self, id: &NodeId) -> bool {
        self.recs.get(id).is_some_and(|rec| !rec.handshake)
    }

    fn learn_epochs(&mut self, sender: Option<NodeId>, packet: &Packet) {
        let Some(rec) = sender.and_then(|id| self.recs.get_mut(&id)) else {
            return;
        };
        let newer = packet.config_epoch > rec.epoch;
        if newer {
            rec.epoch = packet.config_epoch;
        }
        if newer || packet.current_epoch > self.current_epoch {
            self.save();
        }
        self.current_epoch = self.current_epoch.max(packet.current_epoch);
    }

    /// A handshake that came to its end; all but the ID and the role is learnt from later packets.
    fn rename(&mut self, handshake: &NodeId, packet: &Packet) {
        let mut rec = self.recs.remove(handshake).expect("in handshake");
        rec.id = packet.from;
        rec.handshake = false;
        rec.replica = packet.replica;
        self.recs.insert(packet.from, rec);
        self.save();
    }

    /// `nodeUpdateAddressIfNeeded`: a known node speaks from another address than the table's.
    fn move_if_needed(&mut self, id: &NodeId, from_ip: IpAddr, packet: &Packet, env: &mut Env<'_>) {
        let ip = packet.my_ip.unwrap_or(from_ip);
        let Some(rec) = self.recs.get_mut(id) else {
            return;
        };
        // The sender may be myself, dialled at an address that another node had.
        if rec.ip == Some(ip) {
            return;
        }
        rec.ip = Some(ip);
        rec.moved = env.now;
        rec.noaddr = false;
        self.free_link(id, env);
        if self.is_replica() && self.me().master == Some(*id) {
            self.follow(ip, env);
        }
        self.save();
    }

    /// A PONG: no ping waits any more, and what spoke against the node is over.
    fn heard(&mut self, id: &NodeId, env: &mut Env<'_>) {
        let timeout = self.node_timeout;
        let Some(rec) = self.recs.get_mut(id) else {
            return;
        };
        rec.pong_received = env.now;
        rec.ping_sent = 0;
        let mut changed = std::mem::take(&mut rec.pfail);
        if rec.fail {
            let no_slots = rec.replica || rec.segs == 0;
            if no_slots || env.now - rec.fail_time > timeout * 2 {
                rec.fail = false;
                changed = true;
            }
        }
        if changed {
            self.save();
        }
    }

    fn learn_role(&mut self, id: &NodeId, packet: &Packet) {
        // Who dials itself hears itself at once, in no other role than it has.
        if *id == self.id {
            return;
        }
        let known_master = packet.master.filter(|master| self.settled(master));
        let Some(rec) = self.recs.get_mut(id) else {
            return;
        };
        let before = (rec.replica, rec.master);
        if packet.replica {
            if !rec.replica {
                rec.segs = 0;
                rec.replica = true;
            }
            if known_master.is_some() {
                rec.master = known_master;
            }
        } else {
            rec.promoted |= rec.replica;
            rec.replica = false;
            rec.master = None;
        }
        if before != (rec.replica, rec.master) {
            self.save();
        }
    }
}

/// A new random node ID.
pub(crate) fn random_id(rng: &mut fastrand::Rng) -> NodeId {
    let hex: String = (0..40)
        .map(|_| char::from(b"0123456789abcdef"[rng.usize(0..16)]))
        .collect();
    hex.parse().expect("40 hexadecimal digits")
}
