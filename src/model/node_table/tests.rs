//! Tables and files of every format, and properties: no text panics, printing then parsing is the identity.

use super::*;
use proptest::prelude::*;

const REDIS_7_0: &str = "\
49f14a44a75da5fa4d7727621f873c3f64c84957 127.77.0.2:6379@16379,pod-1.example master - 0 1795271719582 2 connected 5461-10922 [93->-c80b20e8941db0bbcadddb750581daf97a2200bb]
c80b20e8941db0bbcadddb750581daf97a2200bb :6379@16379 myself,master - 0 0 1 connected 0-5460
";
const OTHERS: &str = "\
49f14a44a75da5fa4d7727621f873c3f64c84957 ::1:6379 slave,fail? c80b20e8941db0bbcadddb750581daf97a2200bb 1 -1 2 disconnected
59f14a44a75da5fa4d7727621f873c3f64c84957 10.0.0.1:6379@16379,,tls-port=0,shard-id=x noaddr,slave,new-flag - 1 0 2 disconnected
";

fn table(text: &str) -> NodeTable {
    text.parse().expect("a table")
}

#[test]
fn a_table_of_redis_7_0() {
    let table = table(REDIS_7_0);
    let peer = &table.nodes[0];
    assert_eq!(peer.address.hostname(), Some("pod-1.example"));
    assert_eq!(peer.address.bus_port, Some(16379));
    assert_eq!(peer.slots.to_string(), "5461-10922");
    assert_eq!(peer.open_slots.len(), 1);
    let me = table.myself().expect("myself");
    assert_eq!((me.address.ip(), me.epoch), (None, 1));
    assert_eq!(table.covered().to_string(), "0-10922");
    assert!(!table.covers_all_slots());
}

#[test]
fn older_and_newer_formats() {
    let table = table(OTHERS);
    assert_eq!(
        table.nodes[0].address.ip(),
        Some("::1".parse().expect("ip"))
    );
    assert_eq!(table.nodes[0].address.bus_port, None);
    assert!(table.nodes[0].flags.pfail() && !table.nodes[0].flags.fail());
    assert_eq!(table.nodes[1].address.hostname(), None);
    assert!(table.nodes[1].flags.noaddr() && !table.nodes[1].healthy());
}

#[test]
fn a_file_without_its_last_line_is_torn() {
    let whole = format!("{REDIS_7_0}vars currentEpoch 6 lastVoteEpoch 0\n");
    let conf: NodesConf = whole.parse().expect("whole");
    assert_eq!((conf.current_epoch, conf.table.nodes.len()), (6, 2));
    assert_eq!(
        conf.to_string(),
        format!("{}vars currentEpoch 6 lastVoteEpoch 0\n", conf.table)
    );
    for cut in 0..whole.len() {
        assert!(whole[..cut].parse::<NodesConf>().is_err(), "cut at {cut}");
    }
    assert_eq!("\0\0\0\0".parse::<NodesConf>(), Err(TableError::NoVars));
}

#[test]
fn a_text_of_two_tables_is_none() {
    let second_line = TableError::Line {
        line: 3,
        what: "the node ID of an earlier line",
    };
    let twice = format!("{REDIS_7_0}{REDIS_7_0}");
    assert_eq!(twice.parse::<NodeTable>(), Err(second_line));
    let other_self = REDIS_7_0.replace(
        "c80b20e8941db0bbcadddb750581daf97a2200bb :",
        &format!("{} :", "e".repeat(40)),
    );
    let two_selves = format!(
        "{}{}",
        REDIS_7_0,
        other_self.lines().last().expect("a line")
    );
    assert!(two_selves.parse::<NodeTable>().is_err());
}

#[test]
fn a_number_that_redis_would_not_print_is_none() {
    for (whole, damaged) in [
        ("0-5460", "0-05460"),
        ("0-5460", "+0-5460"),
        (":6379@16379 ", ":06379@16379 "),
        (":6379@16379 ", ":6379@+16379 "),
    ] {
        let text = REDIS_7_0.replace(whole, damaged);
        assert!(text.parse::<NodeTable>().is_err(), "{damaged}");
    }
}

#[test]
fn a_last_line_without_both_epochs_is_torn() {
    for vars in [
        "vars",
        "vars currentEpoch 6",
        "vars currentEpoch 6 lastVoteEpoch",
        "vars lastVoteEpoch 6",
    ] {
        let text = format!("{REDIS_7_0}{vars}\n");
        assert_eq!(text.parse::<NodesConf>(), Err(TableError::NoVars), "{vars}");
    }
}

prop_compose! {
    fn any_id()(id in "[0-9a-f]{40}") -> NodeId { id.parse().expect("an ID") }
}
prop_compose! {
    fn any_entry()(
        id in any_id(), master in prop::option::of(any_id()),
        host in "(10\\.0\\.0\\.[1-9]|fd00::[1-9]|)", port in 1u16.., bus_port in prop::option::of(1u16..),
        extra in prop::option::of("(pod-[0-9]\\.svc)?(,tls-port=0)?(,shard-id=[0-9a-f]{4})?"),
        flags in prop::collection::vec("myself|master|slave|fail|fail\\?|handshake|noaddr|nofailover|odd", 1..4),
        ping_sent in 0u64..=i64::MAX as u64, pong_received in 0u64..=i64::MAX as u64, epoch in any::<u64>(),
        connected in any::<bool>(),
        slots in prop::collection::vec((0u16..16384, 0u16..16384), 0..5),
        open_slots in prop::collection::vec("\\[[0-9]{1,4}-[<>]-[0-9a-f]{4}\\]", 0..2),
    ) -> NodeEntry {
        NodeEntry {
            id, master, ping_sent, pong_received, epoch, connected, open_slots,
            address: NodeAddress { host, port, bus_port, extra },
            flags: Flags(flags),
            slots: slots.into_iter().collect(),
        }
    }
}

proptest! {
    #[test]
    fn printing_then_parsing_is_the_identity(
        nodes in prop::collection::vec(any_entry(), 0..6), current_epoch: u64, last_vote_epoch: u64,
    ) {
        // One ID and one self at most, as in every table that Redis prints.
        let mut ids = BTreeSet::new();
        let mut others = nodes;
        others.retain(|node| ids.insert(node.id));
        for node in others.iter_mut().skip(1) {
            node.flags.0.retain(|flag| flag != "myself");
            node.flags.0.push("odd".to_owned());
        }
        let table = NodeTable { nodes: others };
        prop_assert_eq!(table.to_string().parse::<NodeTable>(), Ok(table.clone()));
        let conf = NodesConf { table, current_epoch, last_vote_epoch };
        prop_assert_eq!(conf.to_string().parse::<NodesConf>(), Ok(conf));
    }

    #[test]
    fn no_text_panics(text in "\\PC*", cut in 0usize..300, noise in "[ -~]{0,3}") {
        let _ = text.parse::<NodeTable>();
        let _ = text.parse::<NodesConf>();
        let mut broken = REDIS_7_0.to_owned();
        broken.insert_str(cut.min(broken.len()), &noise);
        let _ = broken.parse::<NodeTable>();
    }
}
