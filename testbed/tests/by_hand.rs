//! The testbed without an agent: a cluster formed by hand is whole, and what is not is told.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::{Ending, Pod, Testbed, skip, wait};

const SOON: Duration = Duration::from_secs(20);

/// Forms masters of all pods, as the design's plan does it, by commands alone.
async fn form(bed: &Testbed) -> Result<()> {
    let pods = bed.pods();
    for pod in &pods {
        pod.redis_answers(SOON).await?;
        let epoch = (pod.ordinal + 1).to_string();
        pod.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
            .await?;
        let first = 16384 * pod.ordinal / pods.len();
        let last = 16384 * (pod.ordinal + 1) / pods.len() - 1;
        add_slots(pod, first, last).await?;
    }
    // Only now: an epoch is given to nodes that know nobody.
    for pod in &pods {
        for peer in &pods {
            let (ip, port) = (peer.address().to_string(), peer.redis_address().port());
            pod.command::<()>(&["CLUSTER", "MEET", &ip, &port.to_string()])
                .await?;
        }
    }
    Ok(())
}

async fn add_slots(pod: &Pod, first: usize, last: usize) -> Result<()> {
    // Not as a range: ADDSLOTSRANGE came with 7.0.
    let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
    let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"]
        .into_iter()
        .chain(slots.iter().map(String::as_str))
        .collect();
    pod.command::<()>(&words).await
}

#[tokio::test]
async fn formed_by_hand_it_is_whole() -> Result<()> {
    let bed = Testbed::builder("by-hand").shape(3, 0).build().await?;
    bed.start_all().await?;
    let alone = wait::until(SOON, "they answer, alone", async || {
        let truth = bed.truth().await;
        ensure!(truth.accounts.len() == 3, "{:?}", truth.problems);
        Ok(truth)
    })
    .await?;
    ensure!(
        alone.problems.iter().any(|p| p.contains("does not know")),
        "{:?}",
        alone.problems
    );
    ensure!(
        alone
            .problems
            .iter()
            .any(|p| p.contains("16384 slots without an owner"))
    );

    form(&bed).await?;
    let whole = bed.whole(SOON).await?;
    ensure!(whole.to_string() == "0 master 0-5460\n1 master 5461-10921\n2 master 10922-16383\n");
    ensure!(bed.writes_seen().await?.of("cluster|meet") == 9);
    bed.silent(Duration::from_millis(300)).await?;

    let canary = bed.write_canary("canary", 50).await?;
    canary.intact(&bed).await?;

    let load = bed.load(Duration::from_millis(1));
    wait::until(SOON, "the writer has written", async || {
        let keys = bed.pod(0)?.command::<u64>(&["DBSIZE"]).await?;
        ensure!(keys > 50, "{keys} keys");
        Ok(())
    })
    .await?;
    let loaded = load.stop().await?;
    ensure!(
        loaded.refused.is_empty() && !loaded.acknowledged.is_empty(),
        "{loaded:?}"
    );
    loaded.none_lost(&bed).await?;

    let second = bed.pod(1)?;
    second.redis.freeze().await?;
    ensure!(
        !bed.truth().await.is_whole(),
        "a frozen Redis went unnoticed"
    );
    second.redis.thaw().await?;
    bed.whole(SOON).await?;

    bed.finish().await
}

#[tokio::test]
async fn moves_and_losses_are_noticed() -> Result<()> {
    let bed = Testbed::builder("moves").shape(3, 0).build().await?;
    bed.start_all().await?;
    form(&bed).await?;
    let whole = bed.whole(SOON).await?;
    let canary = bed.write_canary("canary", 50).await?;

    let second = bed.pod(1)?;
    bed.move_pod(1).await?;
    // Gossip heals one pod's move, but the pod itself keeps its old address until it is told.
    wait::until(SOON, "its own table alone is wrong", async || {
        let problems = bed.truth().await.problems;
        let own = problems
            .iter()
            .all(|p| p.starts_with("redis-app-1: redis-app-1 is at"));
        ensure!(own && problems.len() == 1, "{problems:?}");
        Ok(())
    })
    .await?;
    let address = second.address().to_string();
    second
        .command::<()>(&["CONFIG", "SET", "cluster-announce-ip", &address])
        .await?;
    let healed = bed.whole(SOON).await?;
    ensure!(healed.ids() == whole.ids(), "somebody was reborn");
    canary.intact(&bed).await?;

    bed.end_pod(2, Ending::Graceful).await?;
    bed.pod(2)?.wipe_volume().await?;
    bed.start_pod(2).await?;
    let reborn = bed.pod(2)?;
    reborn.redis_answers(SOON).await?;
    ensure!(
        !bed.truth().await.is_whole(),
        "a lost volume went unnoticed"
    );
    bed.remove_last_pod(Ending::Kill).await?;
    ensure!(bed.add_pod().await? == 2 && bed.pods().len() == 3);
    let old = bed.replace_pod(0).await?;
    ensure!(old.is_running().await && !bed.pod(0)?.is_running().await);
    bed.start_pod(0).await?;
    bed.pod(0)?.redis_answers(SOON).await?;
    ensure!(old.address() != bed.pod(0)?.address());
    bed.finish().await
}

#[tokio::test]
async fn testbeds_run_side_by_side() -> Result<()> {
    let one = Testbed::builder("side")
        .shape(1, 0)
        .password("one")
        .build()
        .await?;
    let two = Testbed::builder("side").shape(1, 0).build().await?;
    ensure!(one.pod(0)?.address() != two.pod(0)?.address());
    one.start_all().await?;
    two.start_all().await?;
    one.pod(0)?.redis_answers(SOON).await?;
    two.pod(0)?.redis_answers(SOON).await?;
    form(&one).await?;
    form(&two).await?;
    one.whole(SOON).await?;
    two.whole(SOON).await?;
    let folder = one.folder();
    ensure!(folder.exists());
    one.finish().await?;
    ensure!(!folder.exists(), "the folder of a success is left");
    two.finish().await
}

#[tokio::test]
async fn a_failed_run_is_kept() -> Result<()> {
    let bed = Testbed::builder("kept").shape(1, 0).build().await?;
    bed.start_all().await?;
    let folder = bed.folder();
    let pod = bed.pod(0)?;
    pod.redis_answers(SOON).await?;
    drop(bed);
    ensure!(folder.join("redis-app-0/redis.log").exists());
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[tokio::test]
async fn replicas_are_judged() -> Result<()> {
    let bed = Testbed::builder("replica").shape(1, 1).build().await?;
    bed.start_all().await?;
    let (master, replica) = (bed.pod(0)?, bed.pod(1)?);
    master.redis_answers(SOON).await?;
    replica.redis_answers(SOON).await?;
    add_slots(&master, 0, 16383).await?;
    let ip = replica.address().to_string();
    master
        .command::<()>(&["CLUSTER", "MEET", &ip, "6379"])
        .await?;
    wait::until(SOON, "a master without slots is told", async || {
        let problems = bed.truth().await.problems;
        let only = ["redis-app-1: a master without slots"];
        ensure!(problems == only, "{problems:?}");
        Ok(())
    })
    .await?;
    let id = master.command::<String>(&["CLUSTER", "MYID"]).await?;
    replica
        .command::<()>(&["CLUSTER", "REPLICATE", &id])
        .await?;
    let whole = bed.whole(SOON).await?;
    ensure!(whole.to_string() == "0 master 0-16383\n1 replica of 0\n");
    ensure!(whole.replication() == [(1, 0)].into() && whole.replicas_of(0) == [1]);

    master.kill().await?;
    wait::until(SOON, "the link shows down", async || {
        let truth = bed.truth().await;
        let down = truth.problems.iter().any(|p| p.contains("is down"));
        ensure!(down, "{:?}", truth.problems);
        Ok(())
    })
    .await?;
    bed.finish().await
}

/// Takes root, to give `lo` the addresses.
#[tokio::test]
async fn ipv6_alone_works() -> Result<()> {
    let plain = Testbed::builder("ipv6").shape(3, 0);
    let bed = match plain.clone().ipv6().build().await {
        Ok(bed) => bed,
        Err(error) => {
            plain.build().await?.finish().await?;
            return skip::not_on_this_machine("IPv6 alone (takes root and ip)", &error, None);
        }
    };
    bed.start_all().await?;
    form(&bed).await?;
    bed.whole(SOON).await?;
    bed.write_canary("canary", 20).await?.intact(&bed).await?;
    bed.finish().await
}
