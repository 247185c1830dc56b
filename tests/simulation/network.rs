//! The network between the pods: connections of the cluster bus, what a lost or cut-off host does to
//! them, and packets that come late but never out of nothing.

use super::fake::{Effect, LinkId, Packet, Process};
use super::world::{Ends, Event, World};
use std::net::IpAddr;
use std::rc::Rc;

/// Between two rounds, and for the questions of one.
const ROUND_MS: i64 = 1500;

impl World {
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        from == to || !(self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from)))
    }

    /// The same, for so long that a round of this pod's agent has seen it.
    pub(crate) fn has_reached(&self, from: usize, to: usize) -> bool {
        let since = self.now - ROUND_MS - self.pods[from].agent_lag;
        let parted = |pair| self.unblocked.get(&pair).is_some_and(|at| *at > since);
        self.reaches(from, to) && !parted((from, to)) && !parted((to, from))
    }

    pub(crate) fn unblock(&mut self, pairs: &[(usize, usize)]) {
        for pair in pairs {
            self.blocked.remove(pair);
            self.unblocked.insert(*pair, self.now);
        }
    }

    /// Whether a question is answered, which goes to another port than the bus.
    pub(crate) fn asks(&self, from: usize, to: usize) -> bool {
        self.bus_alone || self.reaches(from, to)
    }

    pub(crate) fn carry_out(&mut self, process: Process, effect: Effect) {
        match effect {
            Effect::Dial { link, ip } => {
                let ends = Ends {
                    dialler: process,
                    listener: None,
                };
                self.links.insert(link, ends);
                let ms = self.rng.i64(1..4);
                self.after(ms, Event::Dials(link, ip, 0));
            }
            Effect::Close(link) => {
                self.links.remove(&link);
                self.unheard.remove(&link);
            }
            Effect::Send { link, .. } if self.unheard.contains_key(&link) => {
                self.after(1, Event::SentAgain(link, process, 0));
            }
            Effect::Send { link, packet } => {
                let Some(ends) = self.links.get(&link) else {
                    return;
                };
                let Some(listener) = ends.listener else {
                    return;
                };
                let to = if ends.dialler == process {
                    listener
                } else {
                    ends.dialler
                };
                let ms = self.rng.i64(0..4);
                self.after(ms, Event::Arrives(link, to, packet));
            }
        }
    }

    pub(crate) fn dial(&mut self, link: LinkId, ip: IpAddr, tries: u32) {
        let Some(ends) = self.links.get(&link) else {
            return;
        };
        let from = ends.dialler.pod;
        let there = self.occupant(ip);
        let reached = there.filter(|to| self.reaches(from, *to));
        let listener = reached.filter(|to| self.pods[*to].node.is_some());
        if let Some(to) = listener {
            let process = self.process(to);
            if let Some(ends) = self.links.get_mut(&link) {
                ends.listener = Some(process);
            }
            self.after(1, Event::Connected(link));
        } else if reached.is_some() || tries > 6 || (there.is_none() && self.rng.bool()) {
            // A reset; from where nothing is, or beyond a partition, often nothing comes.
            self.after(1, Event::Refused(link));
        } else {
            self.after(1000 << tries, Event::Dials(link, ip, tries + 1));
        }
    }

    /// Whose host is still there, or is another one by now, resets a connection that it does not know.
    pub(crate) fn sent_again(&mut self, link: LinkId, process: Process, tries: u32) {
        let Some(ip) = self.unheard.get(&link) else {
            return;
        };
        let there = self.occupant(*ip);
        if there.is_some_and(|to| self.reaches(process.pod, to)) {
            self.unheard.remove(&link);
            self.after(1, Event::Broken(link, process));
        } else if tries < 9 {
            self.after(200 << tries, Event::SentAgain(link, process, tries + 1));
        }
    }

    pub(crate) fn connected(&mut self, link: LinkId) {
        let Some(ends) = self.links.get(&link) else {
            return;
        };
        let dialler = ends.dialler;
        self.with_node(dialler, |node, env| node.connected(link, env));
    }

    pub(crate) fn arrives(&mut self, link: LinkId, to: Process, packet: Rc<Packet>) {
        let Some(ends) = self.links.get(&link) else {
            return;
        };
        let from = if ends.dialler == to {
            ends.listener
        } else {
            Some(ends.dialler)
        };
        let Some(from) = from else { return };
        if self.blocked.contains(&(from.pod, to.pod)) {
            // Sent again and again, until it comes through or the connection is closed.
            return self.after(200, Event::Arrives(link, to, packet));
        }
        let Some(from_ip) = self.pods[from.pod].ip else {
            return;
        };
        self.with_node(to, |node, env| node.receive(link, from_ip, &packet, env));
        super::data::note_drops(self, to.pod);
    }
}
