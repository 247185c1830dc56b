//! A megabyte of anything takes no longer than a megabyte should: each parser is linear in its input.
//!
//! The limit is far above what a slow machine takes for linear work and far below what quadratic
//! work takes on a fast one (a million squared).

use std::time::Duration;

use redis_sidecar::model::info::{Info, ServerFacts};
use redis_sidecar::model::node_table::{NodeTable, NodesConf};
use redis_sidecar::observe::resolv_conf::nameservers;
use redis_sidecar::publish::peer_role::PeerRole;

const SIZE: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(5);

fn in_time(what: &str, parse: impl FnOnce()) {
    let began = on_cpu();
    parse();
    let took = on_cpu().saturating_sub(began);
    assert!(took < LIMIT, "{what} took {took:?}");
}

/// What this thread has had of a processor so far; others' work does not count.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let first = text.split(' ').next().unwrap();
    Duration::from_nanos(first.parse().unwrap())
}

/// Lines made from their number, a megabyte in all.
fn megabyte(line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < SIZE {
        text.push_str(&line(number));
        number += 1;
    }
    text
}

#[test]
fn a_megabyte_of_table() {
    const HEAD: &str =
        "49f14a44a75da5fa4d7727621f873c3f64c84957 10.0.0.1:6379@16379 master - 0 0 1 connected";
    let texts = [
        megabyte(|i| {
            format!(
                "{i:040x} 10.0.0.1:6379@16379 master - 0 0 {i} connected {}\n",
                i % 16384
            )
        }),
        megabyte(|_| format!("{HEAD}\n")),
        format!("{HEAD}{}\n", megabyte(|i| format!(" {}", i * 7919 % 16384))),
        format!("{HEAD}{}\n", megabyte(|i| format!(" {}-16383", i % 16384))),
        format!("{HEAD}{}\n", megabyte(|i| format!(" [{i}->-49f14a44]"))),
        format!(
            "49f14a44a75da5fa4d7727621f873c3f64c84957 {}:1@2",
            "a:".repeat(SIZE / 2)
        ),
        HEAD.replace("master", &"master,".repeat(SIZE / 7)),
        "\n".repeat(SIZE),
        " ".repeat(SIZE),
        "\u{a0}".repeat(SIZE / 2),
        "9".repeat(SIZE),
        format!("vars{}\n", " currentEpoch 1".repeat(SIZE / 15)),
        "vars currentEpoch 1 lastVoteEpoch 1\n".repeat(SIZE / 36),
    ];
    for (i, text) in texts.iter().enumerate() {
        in_time(&format!("table {i}"), || {
            let Ok(table) = text.parse::<NodeTable>() else {
                return;
            };
            assert!(table.covered().len() <= 16384);
        });
        let whole = format!("{text}\nvars currentEpoch 6 lastVoteEpoch 0\n");
        in_time(&format!("nodes.conf {i}"), || {
            drop(whole.parse::<NodesConf>())
        });
        in_time(&format!("torn nodes.conf {i}"), || {
            drop(text.parse::<NodesConf>())
        });
    }
}

#[test]
fn a_megabyte_of_info() {
    for text in [
        megabyte(|i| format!("db{i}:keys={i},expires=0\r\n")),
        megabyte(|i| format!("k{i}:{i}\r\n")),
        format!("db0:{}", "keys=,".repeat(SIZE / 6)),
        format!("redis_version:{}", "7.".repeat(SIZE / 2)),
        ":".repeat(SIZE),
        "\r".repeat(SIZE),
    ] {
        in_time("INFO", || {
            let Ok(info) = text.parse::<Info>();
            drop(ServerFacts::from(&info));
        });
    }
}

#[test]
fn a_megabyte_of_everything_else() {
    let resolv_conf =
        megabyte(|i| format!("nameserver 10.{}.{}.{}\n", i >> 16, i >> 8 & 255, i & 255));
    in_time("resolv.conf", || drop(nameservers(resolv_conf.as_bytes())));
    let pairs = megabyte(|i| format!("\"k{i}\":{i},"));
    let role = format!("{{{pairs}\"cluster\":\"default/a\",\"pod\":\"a-1\",\"role\":\"none\"}}");
    in_time("role", || assert!(PeerRole::parse(role.as_bytes()).is_ok()));
    let shape = format!("{{\"shape\":{{{}\"z\":0}}}}", pairs);
    in_time("shape", || drop(PeerRole::parse(shape.as_bytes())));
}
