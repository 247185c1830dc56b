//! Random states of nodes.conf, of its copies, and of the note.

use super::{CLUSTER, Mood, NODES, any_copies, id, mostly, socket};
use proptest::prelude::*;
use redis_sidecar::model::kept_conf::{DataOnVolume, KeptConf};
use redis_sidecar::model::node_table::NodesConf;
use redis_sidecar::model::observation::{NodesFile, Volume, VolumeNote};
use std::collections::BTreeMap;

/// nodes.conf, and what is kept besides.
pub(super) fn any_files(me: u8) -> impl Strategy<Value = (NodesFile, KeptConf)> {
    let copies = prop::collection::vec(any_file(me), 0..3);
    let data = prop::sample::select(vec![
        DataOnVolume::Unknown,
        DataOnVolume::None,
        DataOnVolume::Some,
    ]);
    let kept = (copies, data).prop_map(|(copies, data)| KeptConf {
        copies,
        data,
        ..KeptConf::default()
    });
    (any_file(me), kept)
}

fn any_file(me: u8) -> BoxedStrategy<NodesFile> {
    prop_oneof![
        2 => Just(NodesFile::Missing),
        1 => Just(NodesFile::Empty),
        1 => Just(NodesFile::Torn("no final `vars` line".to_owned())),
        4 => (mostly(me, 0..6u8), 0..6u8, 0..3u64).prop_map(|(me, other, epoch)| {
            NodesFile::Read(conf(me, other, epoch))
        }),
    ]
    .boxed()
}

/// A node and one that it knows, itself where it knows nobody.
fn conf(me: u8, other: u8, epoch: u64) -> NodesConf {
    let line = |n: u8, flags: &str, slots: &str| {
        let port = 6379;
        format!(
            "{} 10.0.0.{}:{port}@16379 {flags} - 0 1 {epoch} connected {slots}\n",
            id(n),
            n + 1
        )
    };
    let mut text = line(me, "myself,master", "0-5460");
    if other != me {
        text += &line(other, "master", "5461-10922");
    }
    text += "vars currentEpoch 3 lastVoteEpoch 0\n";
    text.parse().unwrap()
}

/// What this agent, or one of another cluster, has left there.
pub(super) fn any_volume(mood: Mood) -> impl Strategy<Value = Volume> {
    let note = (
        mostly(mood == Mood::Made, any::<bool>()),
        mostly(CLUSTER, Just("other/redis-app")),
        prop::collection::btree_map((0..NODES).prop_map(id), 0u32..8, 0..4),
        prop::option::of(Just("r1".to_owned())),
        prop::option::of(Just(5000u64)),
        prop::collection::btree_map((0..NODES).prop_map(id), any::<bool>(), 0..2),
        prop::option::of(any_copies()),
        prop::option::of((0..NODES, 1..NODES)),
    );
    let note = note.prop_map(
        |(member, cluster, pods, gate_run_id, node_timeout_ms, may_have_data, copies, was_here)| {
            Volume::Says(VolumeNote {
                member,
                cluster: if member {
                    cluster.to_owned()
                } else {
                    String::new()
                },
                pods,
                foreign: BTreeMap::new(),
                gate_run_id,
                node_timeout_ms,
                paused: None,
                may_have_data,
                were_here: (was_here
                    .map(|(node, at)| (id(node), socket(at)))
                    .into_iter())
                .collect(),
                copies,
            })
        },
    );
    prop_oneof![
        8 => Just(Volume::Blank),
        8 => note,
        1 => Just(Volume::Unreadable("unreadable".to_owned())),
    ]
}
