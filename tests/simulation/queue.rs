//! What is to happen, and in which order.

use super::fake::{LinkId, Packet, Process};
use super::faults::Undo;
use std::net::IpAddr;
use std::rc::Rc;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    Cron(Process),
    /// The n-th try to open a connection, as the kernel sends one SYN after the other.
    Dials(LinkId, IpAddr, u32),
    Connected(LinkId),
    Refused(LinkId),
    Broken(LinkId, Process),
    /// What a process sent to an end that is not there any more, for the n-th time.
    SentAgain(LinkId, Process, u32),
    Arrives(LinkId, Process, Rc<Packet>),
    Agent(usize, u64),
    /// DNS hears of a pod's start, or of its end.
    Published(usize),
    Withdrawn(usize, IpAddr),
    Redis(usize, u64),
    AgentStart(usize, u64),
    /// A pod comes up, at this address if nobody has it, unless it did already.
    Start(usize, Option<IpAddr>),
    ClientWrite,
    InOrder,
    Roll,
    Undo(Undo),
}

/// When it is; of two at one time the one that was thought of first.
pub(crate) struct Due {
    pub(crate) at: i64,
    pub(crate) order: u64,
    pub(crate) event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
