//! The first cluster: only when every expected ordinal is verified and either virgin or doing
//! exactly this plan, a shard's own elections left aside (S3); then every agent does its part at once. Every step is decided from
//! what is observed, so an agent that dies between any two of them goes on where it was (S13).

use super::guard::Cleared;
use super::placement::{self, Part};
use super::plan::Plan;
use super::scene::{Peer, Scene, verify};
use crate::model::decision::Action;
use crate::model::identity::NodeId;
use crate::model::node_table::{NodeEntry, NodeTable};
use crate::model::observation::{OwnFacts, Stage};
use crate::model::reason::ReasonCode;
use crate::model::slots::SlotSet;
use std::collections::BTreeMap;
use std::time::Duration;

/// A handshake takes some 0.2 s, and Redis forgets one that failed after at least 1 s.
const MEET_GAP: Duration = Duration::from_millis(1200);
/// Once is enough; again only for a forming that does not come to its end.
const TELL_GAP: Duration = Duration::from_secs(60);
/// How long a peer's agent may take to give its Redis a config epoch, which works only before the
/// first MEET. Nothing is lost without: Redis makes equal epochs of masters differ by itself.
const EPOCH_GRACE: Duration = Duration::from_millis(300);
/// Of many, how many are verified anew in one round to be met.
const ASKED_AT_ONCE: u32 = 8;
/// A command that was refused is not repeated sooner.
const RETRY_GAP: Duration = Duration::from_millis(300);

/// Every ordinal of the first shape, this one's included, with the ID that is verified for it.
type Members = BTreeMap<u32, NodeId>;

/// Does this node's part of forming, or says what it waits for.
pub fn rule(scene: &Scene<'_>, _: &Cleared, plan: &mut Plan) {
    let in_shape = scene.policy.me.ordinal < scene.policy.expected();
    let (Some(own), Some(me)) = (scene.own, scene.me) else {
        return;
    };
    if !matches!(scene.stage, Stage::Virgin | Stage::Forming)
        || !in_shape
        || somebody_is_member(scene)
    {
        plan.memory_mut().forming_since = None;
        return;
    }
    let Some(peers) = all_verified(scene, plan) else {
        return;
    };
    plan.hurry();
    let now = scene.seen.now;
    plan.memory_mut().forming_since.get_or_insert(now);

    let mut members: Members = peers.iter().map(|(k, peer)| (*k, peer.facts.id)).collect();
    members.insert(scene.policy.me.ordinal, me.id);
    let strangers: Vec<String> = peers
        .values()
        .filter_map(|peer| departs_from_plan(scene, peer, &members))
        .chain(own_departure(scene, own, &members))
        .chain(remains_of_another(scene, me))
        .collect();
    if !strangers.is_empty() {
        plan.block(ReasonCode::FormingBlocked, strangers.join("; "));
        return;
    }
    take_part(scene, own, &members, &peers, plan);
    let done = own_part_is_done(scene, me, &members);
    introduce(scene, &own.table, &peers, done, plan);
    if !done {
        plan.block(ReasonCode::Forming, "the first cluster is being formed");
    }
}

/// Whether a verified pod has ever been in a cluster: then this one joins and forms nothing. Who has not been
/// asked just now has been, until it answers otherwise.
pub(super) fn somebody_is_member(scene: &Scene<'_>) -> bool {
    let known = scene.memory.verified.iter().filter_map(|(ordinal, known)| {
        let (socket, answer) = known;
        let peer = verify(scene.policy, *socket, answer).ok()?;
        (*ordinal != scene.policy.me.ordinal).then_some(peer)
    });
    let mut all = known.chain(scene.peers.values().copied());
    all.any(|peer| peer.claim.stage == Some(Stage::Member))
}

/// All expected peers, verified and of the same shape; otherwise the reason goes into the plan. A
/// pod beyond the shape that DNS names is waited for as well: its volume may have the marker (S3).
fn all_verified<'a>(scene: &Scene<'a>, plan: &mut Plan) -> Option<BTreeMap<u32, Peer<'a>>> {
    let in_dns = scene.seen.dns.addresses.keys().copied();
    let beyond = in_dns.filter(|k| *k >= scene.policy.expected() && *k != scene.policy.me.ordinal);
    let waited_for = scene.policy.expected_peers().chain(beyond);
    let missing: Vec<u32> = waited_for
        .filter(|k| !scene.acquainted.get(k).is_some_and(Peer::knows_its_stage))
        .collect();
    if !missing.is_empty() {
        // Who was there a moment ago is only to be asked again; who is named, and waited for, is not.
        let verified = &scene.memory.verified;
        let (stale, gone): (Vec<u32>, Vec<u32>) =
            missing.iter().partition(|k| verified.contains_key(k));
        let named = if gone.is_empty() { stale } else { gone };
        let names: Vec<String> = named.iter().map(|k| scene.why_unverified(*k)).collect();
        let own_name = scene.absent_from_dns(scene.policy.me.ordinal);
        let hint = if own_name {
            "; DNS does not name this pod either: does the headless Service publish not-ready addresses?"
        } else {
            ""
        };
        let message = format!("waiting for {}{hint}", names.join(", "));
        // OrderedReady creates the lowest one next, whatever keeps the others.
        let next = named.first().copied();
        plan.block_on(ReasonCode::WaitingForPeers, message, &[next]);
        if !scene
            .policy
            .expected_peers()
            .any(|k| scene.sockets_of(k).is_empty())
        {
            plan.hurry();
        }
        plan.ask_missing();
        return None;
    }
    let shape = scene.policy.shape.to_string();
    let other_shape = scene
        .acquainted
        .values()
        .find(|peer| peer.claim.shape.as_ref() != Some(&shape));
    if let Some(peer) = other_shape {
        let theirs = peer.claim.shape.as_deref().unwrap_or("unknown");
        plan.block(
            ReasonCode::ShapeDiffers,
            format!(
                "{} is configured for {theirs}, this pod for {shape}",
                peer.claim.pod
            ),
        );
        return None;
    }
    let in_shape = |k: &u32| *k < scene.policy.expected();
    Some(
        scene
            .acquainted
            .iter()
            .filter(|(k, _)| in_shape(k))
            .map(|(k, peer)| (*k, *peer))
            .collect(),
    )
}

/// Why a peer is neither virgin nor doing exactly this plan.
fn departs_from_plan(scene: &Scene<'_>, peer: &Peer<'_>, members: &Members) -> Option<String> {
    let (pod, facts) = (&peer.claim.pod, peer.facts);
    let what = departure(
        scene,
        peer.ordinal,
        &facts.slots,
        facts.master.as_ref(),
        members,
    )
    .or_else(|| {
        let mut knows = facts.knows.iter();
        let stranger = knows.find(|id| is_stranger(scene, members, id))?;
        Some(format!(
            "knows {stranger}, which is none of the expected pods"
        ))
    })
    .or_else(|| {
        let empty = facts.slots.is_empty() && facts.master.is_none();
        (empty && facts.keys > 0).then(|| format!("holds {} keys", facts.keys))
    })?;
    Some(format!("{pod} {what}"))
}

/// What pods beyond the shape have that is not of the cluster being formed: one of an earlier cluster,
/// whose first shape is gone, may hold the last of its data.
fn remains_of_another<'s>(
    scene: &'s Scene<'_>,
    me: &'s NodeEntry,
) -> impl Iterator<Item = String> + 's {
    let known = move |id: &NodeId| {
        let mut peers = scene.acquainted.values();
        *id == me.id || peers.any(|peer| peer.facts.id == *id)
    };
    let beyond = scene
        .acquainted
        .values()
        .filter(|peer| peer.ordinal >= scene.policy.expected());
    beyond.filter_map(move |peer| {
        let (pod, facts) = (&peer.claim.pod, peer.facts);
        let mut knows = facts.knows.iter().chain(&facts.master);
        if !facts.slots.is_empty() {
            Some(format!("{pod} owns slots {}", facts.slots))
        } else if let Some(stranger) = knows.find(|id| !known(id)) {
            Some(format!(
                "{pod} knows {stranger}, which is no pod found here"
            ))
        } else {
            let loose = facts.master.is_none() && facts.keys > 0;
            loose.then(|| format!("{pod} holds {} keys", facts.keys))
        }
    })
}

/// The same of this pod's own Redis.
fn own_departure(scene: &Scene<'_>, own: &OwnFacts, members: &Members) -> Option<String> {
    let me = own.table.myself()?;
    let what = departure(
        scene,
        scene.policy.me.ordinal,
        &me.slots,
        me.master.as_ref(),
        members,
    )
    .or_else(|| {
        let mut others = own.table.others();
        let stranger = others.find(|node| is_stranger(scene, members, &node.id))?;
        Some(format!(
            "knows {}, which is none of the expected pods",
            stranger.id
        ))
    })
    .or_else(|| {
        let empty = me.slots.is_empty() && me.master.is_none();
        let keys = own.server.keys;
        (empty && keys > 0).then(|| format!("holds {keys} keys"))
    })?;
    Some(format!("this pod {what}"))
}

/// Neither of the first shape nor one of this cluster's pods beyond it: such a one may have come up at an address
/// where another pod was met, and what it has is judged by `remains_of_another`.
fn is_stranger(scene: &Scene<'_>, members: &Members, id: &NodeId) -> bool {
    let found = scene.acquainted.values();
    let mut found = found.filter(|peer| peer.knows_its_stage());
    !members.values().any(|member| member == id) && !found.any(|peer| peer.facts.id == *id)
}

/// What a node has that the plan does not give it. Within a shard Redis may have elected another
/// master meanwhile; its elections rule.
fn departure(
    scene: &Scene<'_>,
    ordinal: u32,
    slots: &SlotSet,
    master: Option<&NodeId>,
    members: &Members,
) -> Option<String> {
    let shape = &scene.policy.shape;
    let shard = placement::shard(ordinal, shape);
    let planned = placement::shard_slots(shard, shape);
    let replica = ordinal != shard;
    let extra = slots.minus(&planned);
    let elected = *slots == planned;
    if replica && !slots.is_empty() && !elected {
        return Some(format!(
            "owns slots {slots}, and the plan makes it a replica"
        ));
    }
    if !extra.is_empty() {
        return Some(format!(
            "owns slots {extra}, which the plan gives to others"
        ));
    }
    let other = master.filter(|id| !in_shard(scene, shard, id, members))?;
    Some(if replica {
        format!("replicates {other}, and the plan gives it another master")
    } else {
        format!("replicates {other}, and the plan makes it a master")
    })
}

fn in_shard(scene: &Scene<'_>, shard: u32, id: &NodeId, members: &Members) -> bool {
    members.iter().any(|(ordinal, member)| {
        member == id && placement::shard(*ordinal, &scene.policy.shape) == shard
    })
}

/// Epoch, slots, master: what of this node's own part is still to be done.
fn take_part(
    scene: &Scene<'_>,
    own: &OwnFacts,
    members: &Members,
    peers: &BTreeMap<u32, Peer<'_>>,
    plan: &mut Plan,
) {
    let Some(me) = own.table.myself() else { return };
    let all = format!("all {} expected pods are verified", members.len());
    // The command works only on a node that knows nobody, those in handshake included. Whose clients write already
    // goes on without.
    let knows_nobody = own.table.nodes.len() == 1 && own.server.keys == 0;
    if knows_nobody && me.epoch == 0 && own.current_epoch == 0 {
        // Downwards, so that a replica's is below its master's: see `would_be_stale`.
        let epoch = scene.policy.expected() - scene.policy.me.ordinal;
        let action = Action::SetConfigEpoch(epoch.into());
        plan.act("epoch".to_owned(), RETRY_GAP, action, all.clone());
    }
    match placement::part(scene.policy.me.ordinal, &scene.policy.shape) {
        // Its shard has elected another one.
        Part::Master(_) if me.master.is_some() => {}
        Part::Master(planned) => {
            let missing = planned.minus(&own.table.covered());
            if !missing.is_empty() {
                let by_range = own.server.version.has_slot_ranges();
                let action = Action::AddSlots {
                    slots: missing,
                    by_range,
                };
                plan.act("slots".to_owned(), RETRY_GAP, action, all);
                let now = scene.seen.now;
                let memory = plan.memory_mut();
                memory.took_slots_at.get_or_insert(now);
                memory.took_slots_in.clone_from(&own.server.run_id);
            }
        }
        Part::ReplicaOf(shard) => follow(scene, own, shard, members, peers, plan),
    }
}

/// Replicates the master of its shard once the own table shows it with the planned slots (S5).
fn follow(
    scene: &Scene<'_>,
    own: &OwnFacts,
    shard: u32,
    members: &Members,
    peers: &BTreeMap<u32, Peer<'_>>,
    plan: &mut Plan,
) {
    let Some(me) = own.table.myself() else { return };
    let planned = placement::shard_slots(shard, &scene.policy.shape);
    let empty = me.slots.is_empty() && own.server.keys == 0;
    let target = own
        .table
        .others()
        .find(|node| node.slots == planned && in_shard(scene, shard, &node.id, members));
    // Replication dials the table's address, and checks no ID.
    let there = |node: &NodeEntry| {
        let socket = node.socket();
        let answers = |socket| scene.slot_owner_answers(socket, &node.id);
        node.healthy() && socket.is_some_and(answers)
    };
    let Some(master) = target.filter(|node| there(node)) else {
        return;
    };
    if would_be_stale(me, master, peers, plan) {
        return;
    }
    if empty && me.master.is_none() {
        let action = Action::Replicate {
            master: master.id,
            pod: scene.name_of(&master.id),
        };
        let evidence = format!(
            "it owns its planned slots, and this node is empty ({})",
            me.id
        );
        plan.act("replicate".to_owned(), RETRY_GAP, action, evidence);
    }
}

/// Valkey 9 takes what a former master says as a replica for out of date, and for ever, when that
/// comes with a lower epoch (a replica's is its master's) and both are known to be of one shard. It
/// learns the shard apart from the role only where the master is not known yet. So whoever could
/// not be given its epoch in time, and got a higher one, asks until everybody knows the master.
fn would_be_stale(
    me: &NodeEntry,
    master: &NodeEntry,
    peers: &BTreeMap<u32, Peer<'_>>,
    plan: &mut Plan,
) -> bool {
    let ignorant = peers
        .values()
        .filter(|peer| peer.facts.id != master.id && !peer.facts.knows.contains(&master.id));
    let mut any = false;
    for peer in ignorant.filter(|_| me.epoch > master.epoch) {
        plan.ask(peer.socket, Duration::ZERO);
        any = true;
    }
    any
}

/// Whether the own Redis already has all that the plan gives it.
fn own_part_is_done(scene: &Scene<'_>, me: &NodeEntry, members: &Members) -> bool {
    let shape = &scene.policy.shape;
    let shard = placement::shard(scene.policy.me.ordinal, shape);
    let master = me.master.as_ref();
    me.slots == placement::shard_slots(shard, shape)
        || master.is_some_and(|id| in_shard(scene, shard, id, members))
}

/// Every pair, both ways. A node learns of another's slots or master only with a packet that comes
/// after their handshake, and by itself Redis sends one to a random node a second; so who has done
/// its part says so to each peer once more. To a node that knows the sender, MEET is a ping. Among
/// many, each begins with those that come after it; gossip introduces most of the others meanwhile.
fn introduce(
    scene: &Scene<'_>,
    table: &NodeTable,
    peers: &BTreeMap<u32, Peer<'_>>,
    done: bool,
    plan: &mut Plan,
) {
    let many = scene.policy.many();
    let from = if many { scene.policy.me.ordinal } else { 0 };
    let mut asked = 0;
    for (ordinal, peer) in peers.range(from..).chain(peers.range(..from)) {
        let entry = table.get(&peer.facts.id);
        let known = entry.is_some_and(|node| !node.flags.handshake());
        let (id, pod) = (peer.facts.id, &peer.claim.pod);
        let waited = scene.memory.forming_since.unwrap_or(scene.seen.now);
        let in_grace = scene.seen.now - waited < EPOCH_GRACE;
        let tell = format!("tell {ordinal}");
        if known && !(done && plan.due(&tell, TELL_GAP)) {
            continue;
        }
        if !known && in_grace && peer.facts.epoch == 0 && peer.facts.knows.is_empty() {
            plan.ask(peer.socket, Duration::ZERO);
        } else if !scene.peers.contains_key(ordinal) {
            // Verified too long ago for a MEET (S1).
            if asked < ASKED_AT_ONCE {
                plan.ask(peer.socket, Duration::ZERO);
                asked += 1;
            }
        } else if !known {
            let evidence = format!("{id} answers there, verified as {pod}");
            let action = super::invite::meet(scene, peer);
            plan.act(format!("meet {ordinal}"), MEET_GAP, action, evidence);
        } else {
            let evidence =
                format!("{id} there should hear at once that this node has done its part");
            let action = super::invite::meet(scene, peer);
            plan.act(tell, TELL_GAP, action, evidence);
        }
    }
}

/// Whether the own table shows the plan done: every pod settled, each in its part.
pub fn complete(scene: &Scene<'_>) -> bool {
    let (Some(table), Some(me)) = (scene.table(), scene.me) else {
        return false;
    };
    let mut by_ordinal: BTreeMap<u32, &NodeEntry> = BTreeMap::new();
    for node in table.others() {
        if let Some(ordinal) = scene.memory.pods.get(&node.id) {
            by_ordinal.insert(*ordinal, node);
        }
    }
    by_ordinal.insert(scene.policy.me.ordinal, me);
    let shape = &scene.policy.shape;
    (0..u32::from(shape.masters)).all(|shard| {
        let in_shard = |k: &u32| placement::shard(*k, shape) == shard;
        let mut nodes = (0..scene.policy.expected())
            .filter(in_shard)
            .map(|k| by_ordinal.get(&k));
        let planned = placement::shard_slots(shard, shape);
        let master = nodes.clone().flatten().find(|node| node.slots == planned);
        master.is_some_and(|master| {
            let part = |node: &NodeEntry| {
                node.id == master.id
                    || (node.flags.replica() && node.master.as_ref() == Some(&master.id))
            };
            master.flags.master() && nodes.all(|node| node.is_some_and(|node| part(node)))
        })
    })
}
