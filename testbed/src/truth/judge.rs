//! What is not whole, as sentences.
//!
//! Pure: accounts and pods in, problems out. Does not: ask anyone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::{Account, Line, Place};

const SLOTS: usize = 16384;
const BAD_FLAGS: [&str; 4] = ["handshake", "fail", "fail?", "noaddr"];

/// Each node ID with its pod.
type Expected<'a> = BTreeMap<&'a str, &'a Place>;

pub(super) fn problems(
    pods: &[Place],
    accounts: &BTreeMap<usize, Account>,
    masters: usize,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expected = Expected::new();
    for pod in pods {
        let Some(account) = accounts.get(&pod.ordinal) else {
            continue;
        };
        if let Some(twin) = expected.insert(&account.id, pod) {
            problems.push(format!(
                "{} and {} have one ID {}",
                twin.name, pod.name, account.id
            ));
        }
    }
    let complete = accounts.len() == pods.len();
    for pod in pods {
        let Some(account) = accounts.get(&pod.ordinal) else {
            continue;
        };
        let mut found = Vec::new();
        table(account, &expected, complete, &mut found);
        slots(account, masters, &mut found);
        replication(account, &expected, complete, &mut found);
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("{}: {problem}", pod.name)),
        );
    }
    problems.extend(disagreement(pods, accounts));
    problems
}

/// Exactly the expected IDs, at their present addresses, connected, without a bad flag.
fn table(account: &Account, expected: &Expected<'_>, complete: bool, found: &mut Vec<String>) {
    for line in &account.nodes {
        match expected.get(line.id.as_str()) {
            Some(pod) => known(line, pod, found),
            // While a pod does not answer, its ID is not known to us.
            None if complete => found.push(format!("foreign {} {:?}", line.id, line.flags)),
            None => {}
        }
    }
    let listed: BTreeSet<&str> = account.nodes.iter().map(|line| line.id.as_str()).collect();
    for (id, pod) in expected {
        if !listed.contains(id) {
            found.push(format!("does not know {} ({id})", pod.name));
        }
    }
}

fn known(line: &Line, pod: &Place, found: &mut Vec<String>) {
    let flags: Vec<&str> = BAD_FLAGS
        .into_iter()
        .filter(|flag| line.has(flag))
        .collect();
    if !flags.is_empty() {
        found.push(format!("{} is {}", pod.name, flags.join(",")));
    }
    if line.address != Some(pod.redis) {
        found.push(format!(
            "{} is at {} in the table, really at {}",
            pod.name,
            line.address
                .map_or_else(|| "no address".to_owned(), |a| a.to_string()),
            pod.redis
        ));
    }
    if !line.connected {
        found.push(format!("{} is disconnected", pod.name));
    }
    if !line.open_slots.is_empty() {
        found.push(format!(
            "{} has open slots {}",
            pod.name,
            line.open_slots.join(" ")
        ));
    }
}

/// All covered, none twice, as many owners as masters, state ok.
fn slots(account: &Account, masters: usize, found: &mut Vec<String>) {
    let mut owners = vec![0_u8; SLOTS];
    for (first, last) in account.nodes.iter().flat_map(|line| &line.slots) {
        for slot in *first..=*last {
            if let Some(count) = owners.get_mut(usize::from(slot)) {
                *count = count.saturating_add(1);
            }
        }
    }
    let uncovered = owners.iter().filter(|count| **count == 0).count();
    let twice = owners.iter().filter(|count| **count > 1).count();
    if uncovered > 0 {
        found.push(format!("{uncovered} slots without an owner"));
    }
    if twice > 0 {
        found.push(format!("{twice} slots with several owners"));
    }
    let owning = account.owners().len();
    if owning != masters {
        found.push(format!("{owning} nodes own slots, not {masters}"));
    }
    let state = account
        .cluster
        .get("cluster_state")
        .map_or("missing", String::as_str);
    if state != "ok" {
        found.push(format!("cluster_state:{state}"));
    }
}

/// Owns slots, or is a replica in sync with the right node at its present address.
fn replication(
    account: &Account,
    expected: &Expected<'_>,
    complete: bool,
    found: &mut Vec<String>,
) {
    let Some(myself) = account.myself() else {
        found.push("its own ID is not in its table".to_owned());
        return;
    };
    let is_replica = myself.has("slave");
    if is_replica != (account.info("role") == "slave") {
        found.push(format!(
            "role {} in INFO, {:?} in the table",
            account.info("role"),
            myself.flags
        ));
    }
    if !is_replica {
        if myself.slots.is_empty() {
            found.push("a master without slots".to_owned());
        }
        return;
    }
    let master = myself.master.as_deref().and_then(|id| expected.get(id));
    let (host, port) = (account.info("master_host"), account.info("master_port"));
    match master {
        Some(master) => {
            let dials = host.parse::<IpAddr>().ok().zip(port.parse::<u16>().ok());
            let really = master.redis;
            if dials.map(SocketAddr::from) != Some(really) {
                let name = &master.name;
                found.push(format!(
                    "dials {host}:{port} for {name}, really at {really}"
                ));
            }
        }
        // The master may be a pod that does not answer.
        None if !complete => {}
        None => found.push(format!("replicates {:?}, no pod's ID", myself.master)),
    }
    if account.info("master_link_status") != "up" {
        found.push(format!("its link to {host}:{port} is down"));
    }
    if account.info("master_sync_in_progress") == "1" {
        found.push(format!("still syncs from {host}:{port}"));
    }
}

/// All tables name the same owners and the same masters of replicas.
fn disagreement(pods: &[Place], accounts: &BTreeMap<usize, Account>) -> Vec<String> {
    let name = |ordinal: usize| {
        let pod = pods.iter().find(|pod| pod.ordinal == ordinal);
        pod.map_or_else(|| ordinal.to_string(), |pod| pod.name.clone())
    };
    let mut found = Vec::new();
    let mut accounts = accounts.iter();
    let Some((first, reference)) = accounts.next() else {
        return found;
    };
    for (other, account) in accounts {
        if account.owners() != reference.owners() {
            found.push(format!(
                "{} and {}: other slot owners",
                name(*first),
                name(*other)
            ));
        }
        if masters_of(account) != masters_of(reference) {
            found.push(format!(
                "{} and {}: other roles",
                name(*first),
                name(*other)
            ));
        }
    }
    found
}

fn masters_of(account: &Account) -> BTreeMap<&str, Option<&str>> {
    account
        .nodes
        .iter()
        .map(|line| (line.id.as_str(), line.master.as_deref()))
        .collect()
}
