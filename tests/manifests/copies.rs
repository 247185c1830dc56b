//! When whole copies begin: `repl-diskless-sync-delay` delays only copies that do not go over the disk, and
//! before Redis 7.0 those are not the default. So who writes the one writes the other.

use std::fs;

use super::read::*;

/// Also in what is not rendered here: templates and patches are read as text.
#[test]
fn wherever_copies_are_delayed_they_are_of_the_kind_that_can_be() {
    let mut delayed = Vec::new();
    for file in files_under(&manifests()) {
        let text = fs::read_to_string(&file).unwrap();
        let settings: Vec<&str> = text.lines().map(str::trim).collect();
        if settings
            .iter()
            .any(|line| line.contains("repl-diskless-sync-delay"))
        {
            let place = file.strip_prefix(manifests()).unwrap();
            delayed.push(place.display().to_string());
            assert!(
                settings.contains(&"repl-diskless-sync yes"),
                "{}: before Redis 7.0 the delay does nothing without it",
                place.display()
            );
        }
    }
    delayed.sort();
    let expected = [
        "base/redis-conf.yaml",
        "helm/redis-cluster/templates/redis-conf.yaml",
    ];
    assert_eq!(delayed, expected);
}

/// A second at least, for the sidecar to see its Redis before that gives a copy away.
#[test]
fn the_base_leaves_the_sidecar_a_second() {
    let conf = redis_conf();
    let delay_s: u64 = conf["repl-diskless-sync-delay"].parse().unwrap();
    assert!(delay_s >= 1, "{delay_s}");
    assert_eq!(conf["repl-diskless-sync"], "yes");
}
