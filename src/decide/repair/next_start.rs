//! `init` beside a volume on which a node has run: whether Redis may be started from it.

use super::emptiness::{Left, last_with_data, would_empty_its_replica};
use super::first_start::before_a_first_start;
use super::{ASK_GAP, ELECTED_WITHIN, in_dns, is_outdated, of_ours, own_socket, twin};
use crate::decide::hold;
use crate::decide::memory::{LOST_QUESTIONS, Memory};
use crate::decide::plan::Plan;
use crate::decide::scene::Scene;
use crate::model::decision::Start;
use crate::model::kept_conf::ConfLock;
use crate::model::node_table::{NodeEntry, NodesConf};
use crate::model::observation::NodesFile;
use crate::model::peers::DnsAnswer;
use crate::model::reason::ReasonCode;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// With a good nodes.conf `init` still has Redis wait while somebody holds that file, or while the same
/// node answers elsewhere (S10). Who is silent is asked three times.
pub(super) fn before_a_start(scene: &Scene<'_>, plan: &mut Plan) {
    match &scene.seen.kept.lock {
        ConfLock::NotTried => return,
        ConfLock::Held => {
            let why = "another process holds nodes.conf: a Redis still runs on this volume";
            return plan.start(Start::Wait(why.to_owned()));
        }
        ConfLock::Free | ConfLock::Unknown(_) => {}
    }
    if hold::never_ran(scene) {
        return before_a_first_start(scene, plan);
    }
    let NodesFile::Read(conf) = &scene.seen.file else {
        return;
    };
    let Some(me) = conf.table.myself() else {
        return;
    };
    let all_asked = ask_others(scene, Some(conf), plan);
    let twin = twin(scene, &me.id);
    // A node that has only been restarted is `fail?` to the others after its timeout.
    let mut ours = of_ours(scene, &conf.table);
    let lives = !dns_answers(scene) && ours.any(|facts| facts.hears.contains(&me.id));
    let lived = scene.memory.twins.contains_key(&me.id);
    if twin.is_some() {
        plan.memory_mut().twins.insert(me.id, scene.seen.now);
    }
    if let Some(twin) = twin {
        let why = format!(
            "the node of this volume, {}, answers {twin}: a volume was cloned, or an older pod still \
             runs; a person must stop one of the two",
            me.id
        );
        plan.block(ReasonCode::DuplicateNodeId, why.clone());
        return plan.start(Start::Hold(why));
    }
    if !all_asked {
        plan.hurry();
        plan.start(Start::Wait(
            "asking whether this node answers elsewhere".to_owned(),
        ));
    } else if lives {
        plan.start(Start::Wait(format!(
            "DNS does not say where else its node {} may be, and another one is still connected to it",
            me.id
        )));
    } else if lived {
        let id = me.id;
        plan.start(Start::Wait(format!(
            "its node {id} answered elsewhere a moment ago"
        )));
    }
    let now = scene.seen.now;
    let empty = would_empty_its_replica(scene, conf);
    let outdated = is_outdated(scene, conf, me).then(|| {
        format!(
            "the volume is older than its node: the others have {} as a master, and its nodes.conf \
             does not; waiting until another has been elected in its place",
            me.id
        )
    });
    let held = &mut plan.memory_mut().held_since;
    if empty.is_none() && outdated.is_none() {
        *held = None;
        return;
    }
    let late = now - *held.get_or_insert(now) >= ELECTED_WITHIN;
    match (outdated, empty, last_with_data(scene, conf)) {
        (Some(why), _, _) if late => plan.start(Start::Hold(why)),
        (Some(why), _, _) => plan.start(Start::Wait(why)),
        (None, Some(why), _) if !late => plan.start(Start::Wait(why)),
        (None, Some(_), Some(Left::Has(name))) => plan.start(Start::Hold(format!(
            "nodes.conf is there and the data is gone; {name} has the data and has not been elected: a \
             person must order CLUSTER FAILOVER TAKEOVER there, as this node would have it copy nothing"
        ))),
        (None, Some(_), Some(Left::Silent(name))) => plan.start(Start::Wait(format!(
            "nodes.conf is there and the data is gone; {name}, which may have the data, gives no answer"
        ))),
        (None, _, _) => {}
    }
}

/// Asks all other pods that DNS names, and where it says nothing those of nodes.conf, its own former address
/// included; whether each has answered, or has been asked so often that its silence is no lost question.
pub(super) fn ask_others(scene: &Scene<'_>, conf: Option<&NodesConf>, plan: &mut Plan) -> bool {
    let own = own_socket(scene);
    let nodes = conf.into_iter().flat_map(|conf| &conf.table.nodes);
    let last_known = nodes.filter_map(NodeEntry::socket);
    let last_known = last_known.filter(|_| !dns_answers(scene));
    let others = in_dns(scene).chain(last_known);
    let others: BTreeSet<SocketAddr> = others.filter(|socket| *socket != own).collect();
    let Memory {
        asked,
        answered,
        silences,
        ..
    } = scene.memory;
    let in_doubt = |socket: &SocketAddr| {
        let lost = silences.get(socket).is_some_and(|n| *n < LOST_QUESTIONS);
        lost && !answered.contains(socket)
    };
    for socket in &others {
        let gap = if in_doubt(socket) {
            Duration::ZERO
        } else {
            ASK_GAP
        };
        plan.ask(*socket, gap);
    }
    let mut others = others.iter();
    others.all(|socket| asked.contains_key(socket) && !in_doubt(socket))
}

fn dns_answers(scene: &Scene<'_>) -> bool {
    matches!(scene.seen.dns.answer, DnsAnswer::Answered)
}
