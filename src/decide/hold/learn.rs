//! What must be remembered of who may drop its data for a copy of this node.

use super::HELD_S;
use crate::decide::memory::Memory;
use crate::decide::policy::Policy;
use crate::decide::repair;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{NodesFile, Observation, OwnRedis, PeerRedis, Volume};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the word of who waits here counts, where it does not answer any more.
const WAITS_FOR: Duration = Duration::from_secs(120);

/// Whose address this pod has now, as nodes.conf and its newest copy have it before Redis finds out; and who
/// may have this master's data if it came up without. `known` is the `run_id` of the Redis seen before.
pub(in super::super) fn learn(
    memory: &mut Memory,
    known: &str,
    policy: &Policy,
    seen: &Observation,
) {
    let up = match &seen.own {
        OwnRedis::Up(own) => Some(&**own),
        OwnRedis::Silent(_) | OwnRedis::Loading(..) => None,
    };
    if up.is_some_and(|own| own.server.run_id == known) {
        return;
    }
    let copies = match &seen.own {
        OwnRedis::Up(own) => own.copies,
        OwnRedis::Loading(_, _, copies) => *copies,
        OwnRedis::Silent(_) => None,
    };
    let note = match &seen.volume {
        Volume::Says(note) => Some(note),
        Volume::Blank | Volume::Unreadable(_) => None,
    };
    let noted = note.and_then(|note| note.copies);
    // An agent before this one has held copies back.
    let held = copies.is_some_and(|copies| copies.delay_s == HELD_S) && memory.copies.is_none();
    // For whomever, where it has not come to note that.
    let for_whom = held && noted.is_none();
    let here = SocketAddr::new(policy.pod_ip, policy.redis_port);
    let file = match &seen.file {
        NodesFile::Read(conf) => Some(conf),
        _ => None,
    };
    let confs = file.into_iter().chain(repair::newest_good(&seen.kept));
    let own_table = up.map(|own| &own.table);
    let tables = confs.map(|conf| &conf.table).chain(own_table);
    let others = tables.flat_map(NodeTable::others);
    let before =
        others.filter(|node| node.socket() == Some(here) || for_whom && node.flags.noaddr());
    memory.were_here.extend(before.map(|node| node.id));
    // Where they are now may be known since, but not to those who dial this address.
    let before = note.into_iter().flat_map(|note| &note.were_here);
    let before = before.filter(|(_, at)| **at == here);
    memory.were_here.extend(before.map(|(id, _)| *id));
    if held || up.is_none() && copies.is_none() && memory.copies.is_none() {
        memory.copies = noted;
    } else if copies.is_some_and(|copies| copies.delay_s != HELD_S) {
        // This Redis has what is configured.
        memory.copies = None;
    }

    memory.up_seen_since = seen.now;
    let Some((own, me)) = up.and_then(|own| Some((own, own.table.myself()?))) else {
        return;
    };
    // What is left of data that were deleted is in the file, and who writes none comes up without after every
    // restart.
    let file = own.server.persistence;
    let no_data = own.server.keys == 0 && own.server.expired_keys == 0;
    let lost = no_data && file.aof && !file.aof_history;
    let young = Duration::from_secs(own.server.uptime_s) < own.node_timeout() * 2;
    // Of the Redis before this one.
    let known = |node: &NodeEntry| memory.came_up_empty.get(&node.id).map(Option::is_none);
    let noted = |node: &NodeEntry| note.and_then(|note| note.may_have_data.get(&node.id).copied());
    let before = |node: &NodeEntry| known(node).max(noted(node));
    let followers = own.table.others().filter(|node| node.master == Some(me.id));
    let may_have_data = followers.filter(|node| lost && young || before(node).is_some());
    let unheard = may_have_data.map(|node| {
        let has_said_so = before(node) == Some(true);
        (node.id, (!has_said_so).then_some(seen.now))
    });
    memory.came_up_empty = unheard.collect();
}

/// Who says that it has no link, and dials this pod. Its agent's word is not needed for that.
pub(in super::super) fn learn_who_waits(memory: &mut Memory, policy: &Policy, seen: &Observation) {
    let waiting = &mut memory.waiting;
    for answer in seen.answers.values() {
        let PeerRedis::Up(facts) = &answer.redis else {
            continue;
        };
        let link = facts.replica.as_ref();
        let here = policy.pod_ip.to_string();
        let waits = link.is_some_and(|link| link.master_host == here && !link.link_up);
        match facts.master.filter(|_| waits) {
            Some(master) => waiting.insert(facts.id, (master, answer.at)),
            None => waiting.remove(&facts.id),
        };
    }
    waiting.retain(|_, (_, at)| seen.now - *at < WAITS_FOR);
}
