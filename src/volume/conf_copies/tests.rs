//! Real files: copies in their order, and a nodes.conf that is put back or left alone.

use super::*;
use std::fs;

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn conf(epoch: u64) -> NodesConf {
    let text = format!(
        "{ID} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-16383\n\
         vars currentEpoch {epoch} lastVoteEpoch 0\n"
    );
    text.parse().expect("a file")
}

fn volume() -> (tempfile::TempDir, ConfCopies) {
    let folder = tempfile::tempdir().expect("a folder");
    let copies = ConfCopies::new(folder.path(), &folder.path().join("nodes.conf"));
    (folder, copies)
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_newest_copies_are_kept_in_their_order() {
    let (folder, mut copies) = volume();
    assert_eq!(copies.read(), []);
    for epoch in 1..=5 {
        copies.keep(&conf(epoch)).expect("kept");
    }
    let wanted: Vec<NodesFile> = [5, 4, 3].map(|n| NodesFile::Read(conf(n))).into();
    assert_eq!(copies.read(), wanted);
    assert_eq!(names(&folder).len(), 3, "{:?}", names(&folder));
    // One that is damaged later shows as what it is.
    fs::write(copies.copy(1), "torn").expect("written");
    assert!(matches!(copies.read()[0], NodesFile::Torn(_)));
}

#[test]
fn nodes_conf_is_put_back_over_what_was_judged_and_nothing_else() {
    let (folder, copies) = volume();
    let path = folder.path().join("nodes.conf");
    copies
        .restore(&conf(1), &NodesFile::Missing)
        .expect("restored");
    assert_eq!(nodes_conf::read(&path), NodesFile::Read(conf(1)));

    fs::write(&path, "half a li").expect("written");
    let torn = nodes_conf::read(&path);
    let wrong = copies.restore(&conf(2), &NodesFile::Missing);
    assert!(wrong.is_err_and(|error| error.to_string().contains("changed")));
    assert_eq!(fs::read_to_string(&path).expect("read"), "half a li");
    copies.restore(&conf(2), &torn).expect("restored");
    assert_eq!(nodes_conf::read(&path), NodesFile::Read(conf(2)));
    let kept = fs::read_to_string(folder.path().join(DAMAGED));
    assert_eq!(kept.expect("kept"), "half a li");
    let known = ["nodes.conf", DAMAGED];
    assert_eq!(names(&folder), known, "something was left");
}

#[test]
fn a_file_that_somebody_holds_is_left_alone() {
    let (folder, copies) = volume();
    let path = folder.path().join("nodes.conf");
    fs::write(&path, "").expect("written");
    let holder = File::open(&path).expect("opened");
    holder.lock().expect("locked");
    assert_eq!(copies.lock(), ConfLock::Held);
    let held = copies.restore(&conf(1), &nodes_conf::read(&path));
    assert!(held.is_err_and(|error| error.to_string().contains("another process")));
    assert_eq!(fs::read(&path).expect("read"), b"");
    drop(holder);
    assert_eq!(copies.lock(), ConfLock::Free);
    copies
        .restore(&conf(1), &nodes_conf::read(&path))
        .expect("restored");
}

#[test]
fn data_is_what_is_neither_empty_nor_the_agents() {
    let (folder, copies) = volume();
    assert_eq!(copies.data(), DataOnVolume::None);
    for name in [
        "nodes.conf",
        "redis-sidecar.json",
        "redis-sidecar.nodes.conf.1",
    ] {
        fs::write(folder.path().join(name), "x").expect("written");
    }
    fs::write(folder.path().join("dump.rdb"), "").expect("written");
    fs::create_dir(folder.path().join("appendonlydir")).expect("made");
    for (name, text) in [
        ("users.acl", "user default on"),
        ("redis.log", "1:M 22 Nov"),
    ] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    assert_eq!(copies.data(), DataOnVolume::None);
    for text in [
        "REDIS0011",
        "VALKEY080",
        "*2\r\n$6\r\nSELECT",
        "#TS:1700000000\r\n",
    ] {
        fs::write(folder.path().join("other-name"), text).expect("written");
        assert_eq!(copies.data(), DataOnVolume::Some, "{text}");
    }
    fs::remove_file(folder.path().join("other-name")).expect("removed");
    assert_eq!(copies.data(), DataOnVolume::None);
    fs::write(folder.path().join("appendonlydir/a.aof"), "x").expect("written");
    assert_eq!(copies.data(), DataOnVolume::Some);
}
