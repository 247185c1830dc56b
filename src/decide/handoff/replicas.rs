//! Which replicas of this master could take over now, from what they themselves answer: the master's
//! own list of replicas would say who was connected a second ago.

use super::Task;
use crate::decide::hold;
use crate::decide::plan::Plan;
use crate::decide::scene::{Scene, verify};
use crate::model::identity::NodeId;
use crate::model::node_table::NodeEntry;
use crate::model::observation::{OwnFacts, PeerAgent, PeerAnswer, PeerRedis};
use std::net::SocketAddr;
use std::time::Duration;

/// One that could.
pub(super) struct Candidate {
    pub(super) id: NodeId,
    pub(super) socket: SocketAddr,
    /// What it has applied, in bytes.
    pub(super) offset: u64,
    /// How far that is behind this node, in bytes.
    pub(super) lag: u64,
}

/// All replicas of this node.
#[derive(Default)]
pub(super) struct Found {
    pub(super) ready: Vec<Candidate>,
    /// Those that may be ready soon, and why they are not.
    pub(super) waits: Vec<String>,
    /// Those that will not be, and why.
    pub(super) gone: Vec<String>,
}

impl Found {
    pub(super) fn words(&self) -> String {
        let all: Vec<&str> = self
            .waits
            .iter()
            .chain(&self.gone)
            .map(String::as_str)
            .collect();
        match all.as_slice() {
            [] => "no replica can take over".to_owned(),
            all => format!("no replica can take over: {}", all.join("; ")),
        }
    }
}

/// Why one is not ready: for now, or for good.
enum NotReady {
    Yet(String),
    Gone(String),
}

/// Has all of them asked, in every round, and judges what they answer.
pub(super) fn judge(
    scene: &Scene<'_>,
    own: &OwnFacts,
    me: &NodeEntry,
    task: &Task<'_>,
    plan: &mut Plan,
) -> Found {
    let mut found = Found::default();
    let mine = |node: &&NodeEntry| node.flags.replica() && node.master == Some(me.id);
    for node in own.table.others().filter(mine) {
        let name = scene.name_of(&node.id);
        if task.to.is_some_and(|to| to != name) {
            continue;
        }
        match candidate(scene, own, me, node, task, plan) {
            Ok(candidate) => found.ready.push(candidate),
            Err(NotReady::Yet(why)) => found.waits.push(format!("{name} {why}")),
            Err(NotReady::Gone(why)) => found.gone.push(format!("{name} {why}")),
        }
    }
    found
}

fn candidate(
    scene: &Scene<'_>,
    own: &OwnFacts,
    me: &NodeEntry,
    node: &NodeEntry,
    task: &Task<'_>,
    plan: &mut Plan,
) -> Result<Candidate, NotReady> {
    let yet = |why: &str| Err(NotReady::Yet(why.to_owned()));
    let gone = |why: &str| Err(NotReady::Gone(why.to_owned()));
    let answer = node.socket().and_then(|socket| {
        plan.ask(socket, Duration::ZERO);
        // An answer of a round before may be from before it was told to stop, too.
        let answer = scene.memory.answers.get(&socket)?;
        (answer.at == scene.seen.now).then_some((socket, answer))
    });
    let verified = answer.map(|(socket, answer)| verify(scene.policy, socket, answer));
    let peer = match &verified {
        Some(Ok(peer)) if peer.facts.id == node.id => Some(peer),
        Some(Ok(_) | Err(_)) | None => None,
    };
    let half = scene.seen.now - task.since >= (task.until - task.since) / 2;
    // A sidecar would say that its pod is about to be stopped. Where there is none, as when it is being
    // removed, the node ID is proof enough of who it is, and better than nobody.
    let facts = peer.map(|peer| peer.facts);
    let facts = facts.or_else(|| match answer {
        Some((
            _,
            PeerAnswer {
                redis: PeerRedis::Up(facts),
                agent: PeerAgent::Silent(_),
                ..
            },
        )) if half && facts.id == node.id => Some(facts),
        _ => None,
    });
    let leaving = &mut plan.memory_mut().handoff.leaving;
    match peer {
        Some(peer) if !peer.claim.stopping => leaving.remove(&node.id),
        Some(_) => leaving.insert(node.id),
        // A pod that said so and is silent now has been stopped.
        None => false,
    };
    if leaving.contains(&node.id) {
        return gone("is about to be stopped itself");
    }
    if node.flags.fail() || node.flags.noaddr() {
        return gone("is down");
    }
    let told = plan.memory().handoff.tries.contains_key(&node.id);
    if let Some(words) = refuses(scene, &node.id).filter(|_| told) {
        return Err(NotReady::Gone(format!("refuses: {words}")));
    }
    let (Some(facts), Some((socket, _))) = (facts, answer) else {
        return match verified {
            Some(Ok(_)) => yet("is not at the address that the table has"),
            Some(Err(_)) => yet("does not answer, or its sidecar does not"),
            None => yet("has not answered yet"),
        };
    };
    let Some(copy) = &facts.replica else {
        return yet("is no replica yet");
    };
    if facts.master != Some(me.id) {
        return yet("does not replicate this node yet");
    }
    if copy.syncing {
        return yet("is still copying the data");
    }
    let dials = copy
        .master_host
        .parse()
        .ok()
        .map(|ip| SocketAddr::new(ip, copy.master_port));
    if !copy.link_up || dials != me.socket() {
        if half && own.copies.is_some_and(hold::is_held) {
            return gone("waits for a copy of this node, which are held back (copies-held)");
        }
        return yet("has no replication link to this node");
    }
    let lag = own.server.offset.saturating_sub(copy.applied_offset);
    if lag > scene.policy.lag_bytes_max && !half {
        return Err(NotReady::Yet(format!("is {lag} bytes behind")));
    }
    Ok(Candidate {
        id: node.id,
        socket,
        offset: copy.applied_offset,
        lag,
    })
}

/// Redis's words where this agent's user may not order the failover there: to order it again is in vain.
fn refuses(scene: &Scene<'_>, id: &NodeId) -> Option<String> {
    let refusal = super::refusal(scene, id)?;
    refusal.starts_with("NOPERM").then(|| refusal.to_owned())
}
