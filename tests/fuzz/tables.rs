//! The texts of Redis: CLUSTER NODES, nodes.conf and INFO, and the identities in them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use redis_sidecar::model::identity::{ClusterName, NodeId, PodName, Shape};
use redis_sidecar::model::info::{Info, ServerFacts};
use redis_sidecar::model::node_table::{NodeTable, NodesConf, TableError};
use redis_sidecar::model::slots::{SLOT_COUNT, SlotSet};

use super::mutations::{Damaged, damaged, seeds};
use super::play::play;

const CASES: u32 = 1000;

/// As everywhere in the agent, bytes that are no UTF-8 become replacement characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sound(slots: &SlotSet) -> Result<(), TestCaseError> {
    let mut free_from = 0;
    for (first, last) in slots.ranges() {
        prop_assert!(first <= last && *last < SLOT_COUNT, "{slots}");
        prop_assert!(*first >= free_from, "sorted and not adjacent: {slots}");
        free_from = last + 2;
    }
    prop_assert!(slots.len() <= SLOT_COUNT);
    Ok(())
}

/// What holds for every table that was accepted.
fn whole_table(table: &NodeTable, lines: &[&str]) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.nodes.len(), lines.len(), "a line was lost or made up");
    let ids: BTreeSet<NodeId> = table.nodes.iter().map(|node| node.id).collect();
    prop_assert_eq!(ids.len(), table.nodes.len(), "one ID on two lines");
    let own = table.nodes.iter().filter(|node| node.flags.myself());
    prop_assert!(own.count() <= 1, "two lines are myself");
    for (node, line) in table.nodes.iter().zip(lines) {
        sound(&node.slots)?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        prop_assert_eq!(node.id.to_string(), words[0]);
        prop_assert_eq!(
            node.address.to_string(),
            words[1],
            "the address as it stands"
        );
        prop_assert_eq!(node.flags.iter().collect::<Vec<_>>().join(","), words[2]);
        let (open, owned): (Vec<&str>, Vec<&str>) =
            words[8..].iter().partition(|word| word.starts_with('['));
        prop_assert_eq!(&node.open_slots, &open);
        for word in owned {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            for slot in [first, last] {
                prop_assert!(
                    node.slots.contains(slot.parse().unwrap()),
                    "slot {slot} lost"
                );
            }
        }
    }
    sound(&table.covered())?;
    prop_assert_eq!(table.to_string().parse::<NodeTable>(), Ok(table.clone()));
    Ok(())
}

fn lines(text: &str) -> Vec<&str> {
    let lines = text.split('\n');
    lines.filter(|line| !line.trim_ascii().is_empty()).collect()
}

#[test]
fn node_tables() {
    let seeds = seeds(&["nodes", "table"]);
    play("node_tables", CASES, damaged(seeds), |Damaged(bytes)| {
        let text = text(&bytes);
        match text.parse::<NodeTable>() {
            Ok(table) => whole_table(&table, &lines(&text)),
            Err(TableError::Line { line, .. }) => {
                prop_assert!((1..=text.lines().count()).contains(&line));
                Ok(())
            }
            Err(TableError::NoVars) => Err(TestCaseError::fail("a table has no vars line")),
        }
    });
}

#[test]
fn nodes_conf_files() {
    let seeds = seeds(&["conf"]);
    play(
        "nodes_conf_files",
        CASES,
        damaged(seeds),
        |Damaged(bytes)| {
            let text = text(&bytes);
            let Ok(conf) = text.parse::<NodesConf>() else {
                return Ok(());
            };
            let mut lines = lines(&text);
            let vars = lines.pop().unwrap();
            prop_assert!(text.ends_with('\n'), "torn in its last line");
            let words: Vec<&str> = vars.split_ascii_whitespace().collect();
            prop_assert_eq!(words[0], "vars");
            let number = |key| {
                let at = words.iter().position(|word| *word == key)?;
                words.get(at + 1)?.parse::<u64>().ok()
            };
            prop_assert_eq!(number("currentEpoch"), Some(conf.current_epoch), "{}", vars);
            prop_assert_eq!(
                number("lastVoteEpoch"),
                Some(conf.last_vote_epoch),
                "{}",
                vars
            );
            whole_table(&conf.table, &lines)?;
            let printed = conf.to_string();
            prop_assert_eq!(printed.parse::<NodesConf>(), Ok(conf));
            let ends = (0..printed.len()).rev().take(200);
            for cut in ends.filter(|cut| printed.is_char_boundary(*cut)) {
                prop_assert!(
                    printed[..cut].parse::<NodesConf>().is_err(),
                    "cut at {}",
                    cut
                );
            }
            Ok(())
        },
    );
}

/// Redis 7.0 writes in place; a full volume or a crash may leave any part of it.
#[test]
fn a_file_cut_anywhere_is_torn() {
    let texts = seeds(&["conf"]).into_iter().map(|seed| text(&seed));
    let ends_in_vars = |text: &String| {
        text.trim_end()
            .lines()
            .last()
            .is_some_and(|l| l.starts_with("vars "))
    };
    for text in texts.filter(ends_in_vars) {
        let whole: NodesConf = text
            .parse()
            .unwrap_or_else(|error| panic!("{error}: {text}"));
        let end = text.trim_end().len();
        for cut in (0..=end).filter(|cut| text.is_char_boundary(*cut)) {
            assert!(text[..cut].parse::<NodesConf>().is_err(), "cut at {cut}");
        }
        let padded = format!("{text}{}", "\n".repeat(500));
        assert_eq!(
            padded.parse(),
            Ok(whole),
            "7.0 pads a shorter text with line breaks"
        );
        let nulls = text.clone() + &"\0".repeat(500);
        assert!(nulls.parse::<NodesConf>().is_err());
    }
}

#[test]
fn infos() {
    let seeds = seeds(&["info"]);
    play("infos", CASES, damaged(seeds), |Damaged(bytes)| {
        let text = text(&bytes);
        let Ok(info) = text.parse::<Info>();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, _)) = line.split_once(':') {
                prop_assert!(info.get(key).is_some(), "{key} was lost");
            }
        }
        prop_assert_eq!(info.to_string().parse::<Info>(), Ok(info.clone()));
        // Only what provably holds nothing may count as empty (S3, S5).
        let facts = ServerFacts::from(&info);
        let empty = |database: &str| {
            let value = info.get(database).unwrap();
            let counts: Vec<&str> = value
                .split(',')
                .filter_map(|part| part.strip_prefix("keys="))
                .collect();
            counts
                .first()
                .is_some_and(|count| count.parse() == Ok(0u64))
        };
        let databases = text
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0));
        let databases = databases.filter(|key| {
            let number = key.strip_prefix("db");
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
        if facts.keys == 0 {
            for database in databases {
                prop_assert!(empty(database), "{database} may hold keys");
            }
        }
        Ok(())
    });
}

/// Text that is taken prints back to the very same text: nothing has two spellings.
#[test]
fn identities() {
    fn same<T: std::str::FromStr + ToString>(text: &str) -> Result<(), TestCaseError> {
        if let Ok(value) = text.parse::<T>() {
            prop_assert_eq!(value.to_string(), text);
        }
        Ok(())
    }
    let seeds: Vec<Vec<u8>> = [
        "redis-app-12",
        "3x1",
        "1000x0",
        "default/redis-app",
        "0123456789abcdef0123456789abcdef01234567",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    play("identities", CASES, damaged(seeds), |Damaged(bytes)| {
        let text = text(&bytes);
        same::<PodName>(&text)?;
        same::<NodeId>(&text)?;
        same::<Shape>(&text)?;
        same::<ClusterName>(&text)
    });
}

#[test]
fn slot_sets() {
    let ranges = prop::collection::vec((any::<u16>(), any::<u16>()), 0..40);
    let near = prop::collection::vec((16300u16..16500, 16300u16..16500), 0..40);
    let pair = prop_oneof![(ranges.clone(), ranges), (near.clone(), near)];
    play("slot_sets", CASES, pair, |(a, b)| {
        let taken = |ranges: &[(u16, u16)], slot| {
            ranges
                .iter()
                .any(|(first, last)| *last < SLOT_COUNT && (*first..=*last).contains(&slot))
        };
        let (one, other): (SlotSet, SlotSet) =
            (a.iter().copied().collect(), b.iter().copied().collect());
        let (minus, union) = (one.minus(&other), one.union(&other));
        for set in [&one, &other, &minus, &union] {
            sound(set)?;
        }
        let ends = a.iter().chain(&b).flat_map(|(first, last)| [*first, *last]);
        for slot in ends.flat_map(|slot| [slot.saturating_sub(1), slot, slot.saturating_add(1)]) {
            prop_assert_eq!(one.contains(slot), taken(&a, slot));
            prop_assert_eq!(minus.contains(slot), taken(&a, slot) && !taken(&b, slot));
            prop_assert_eq!(union.contains(slot), taken(&a, slot) || taken(&b, slot));
        }
        Ok(())
    });
}
