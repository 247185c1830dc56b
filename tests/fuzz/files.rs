//! The agent's own note on the volume, and what a peer's agent says of itself.

use proptest::prelude::*;
use redis_sidecar::model::observation::{Volume, VolumeNote};
use redis_sidecar::publish::peer_role::PeerRole;
use redis_sidecar::volume::{FILE_NAME, NoteFile};

use super::mutations::{Damaged, damaged, seeds};
use super::play::play;

#[test]
fn volume_notes() {
    let folder = tempfile::tempdir().unwrap();
    let file = NoteFile::new(folder.path());
    play(
        "volume_notes",
        1000,
        damaged(seeds(&["note"])),
        |Damaged(bytes)| {
            std::fs::write(folder.path().join(FILE_NAME), &bytes).unwrap();
            let read = file.read();
            prop_assert!(
                read != Volume::Blank,
                "a file that is there is no blank volume"
            );
            let Volume::Says(note) = read else {
                return Ok(());
            };
            // Written and read back, it says the same.
            file.write(&note).unwrap();
            prop_assert_eq!(file.read(), Volume::Says(note));
            Ok(())
        },
    );
}

/// A marker that got lost would let a second cluster be formed (S3): damage is unknown, never "no".
#[test]
fn s3_no_single_damage_takes_the_marker_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = NoteFile::new(folder.path());
    let note = VolumeNote {
        member: true,
        cluster: "default/redis-app".to_owned(),
        gate_run_id: Some("a".repeat(40)),
        ..VolumeNote::default()
    };
    file.write(&note).unwrap();
    let path = folder.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let check = |damaged: &[u8], how: &str| {
        std::fs::write(&path, damaged).unwrap();
        match file.read() {
            Volume::Unreadable(_) => {}
            Volume::Says(found) if found.member => {}
            found => panic!("{how}: {}: {found:?}", String::from_utf8_lossy(damaged)),
        }
    };
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            check(&flipped, "a bit flipped");
        }
        check(&whole[..at], "cut");
        let nulls = [&whole[..at], &vec![0; whole.len() - at]].concat();
        check(&nulls, "ends in NULs");
    }
    check(b"{}", "empty");
}

#[test]
fn peer_roles() {
    play(
        "peer_roles",
        2000,
        damaged(seeds(&["role"])),
        |Damaged(bytes)| {
            if let Ok(role) = PeerRole::parse(&bytes) {
                let text = String::from_utf8_lossy(&bytes);
                prop_assert!(text.contains(&role.pod.set), "made up: {role:?}");
                if let Some(id) = role.node_id {
                    prop_assert!(text.contains(&id.to_string()), "made up: {role:?}");
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_deep_or_long_answer_of_a_peer_is_refused_and_not_followed() {
    let deep = |open: &str| open.repeat(60_000 / open.len());
    let role = r#"{"cluster":"default/a","pod":"a-1","role":"none","mood":"#;
    for body in [deep("["), deep(r#"{"a":"#), format!("{role}{}", deep("["))] {
        assert!(PeerRole::parse(body.as_bytes()).is_err());
    }
}
